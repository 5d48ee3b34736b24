#pragma once

/* The socket side of one PCP exchange; the rules are client/oneshot.h's. */

#include <stdint.h>

#include "base/address.h"
#include "base/util.h"
#include "wire/request.h"
#include "wire/response.h"

enum exchange_outcome {
    EXCHANGE_OUTCOME_ANSWERED,
    EXCHANGE_OUTCOME_NATPMP,
    EXCHANGE_OUTCOME_UNANSWERED,
    EXCHANGE_OUTCOME_UNSENT,
};

struct exchange {
    int fd;
    struct endpoint server;
    struct ip_address client_address; /* where the server's answers come to */
    int error; /* the last -errno the socket reported, 0 if none: why there was no answer */
};

/*
 * Connects a socket to `server`, on the interface of that index when it is link-local (else 0), from `source`, or from where
 * routing says when that is any. 0 or -errno.
 */
MUST_CHECK int exchange_open(const struct endpoint *server, uint32_t interface_index,
                             const struct ip_address *source, struct exchange *ret_exchange);
void exchange_close(struct exchange *exchange);
/* Sends `request` until answered, for at most `timeout_s`. `ret_response` as oneshot_receive() writes it. */
enum exchange_outcome exchange_run(struct exchange *exchange, const struct pcp_request *request,
                                   uint32_t timeout_s, struct pcp_response *ret_response);
