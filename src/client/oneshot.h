#pragma once

/*
 * One PCP exchange without I/O: a request goes out, again and again after RFC 6887 s8.1.1, until its answer comes or time is
 * up. It keeps nothing alive; that is a client's business, of which this is the smallest part.
 *
 *     while ((step = oneshot_advance(&oneshot, now_ns)) != ONESHOT_STEP_GIVE_UP) {
 *         if (step == ONESHOT_STEP_SEND) ... send oneshot.request
 *         ... wait until oneshot_next_ns() or a datagram; oneshot_receive()
 *     }
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/address.h"
#include "base/datagram.h"
#include "base/random.h"
#include "base/util.h"
#include "wire/pcp.h"
#include "wire/request.h"
#include "wire/response.h"

enum oneshot_step {
    ONESHOT_STEP_WAIT,
    ONESHOT_STEP_SEND,
    ONESHOT_STEP_GIVE_UP,
};

enum oneshot_verdict {
    ONESHOT_VERDICT_IGNORED, /* not ours, or not sound: go on waiting */
    ONESHOT_VERDICT_ANSWERED,
    ONESHOT_VERDICT_NATPMP, /* the server knows version 0 only (RFC 6887 s9) */
};

struct oneshot {
    uint8_t request[PCP_SIZE_MAX];
    size_t request_size_bytes;
    struct endpoint server;
    struct ip_address client_address;
    uint8_t opcode;
    struct pcp_mapping_fields asked;
    bool prefers_failure;

    struct random_source *random;
    uint64_t next_ns;
    uint64_t give_up_ns;
    uint64_t interval_ns; /* randomised, before the next transmission; 0 before the first */
};

/*
 * The first transmission is due at `now_ns`; `duration_ns` after it the exchange is given up (TIME_NEVER: never). Receiving
 * reads PREFER_FAILURE out of `request`; an internal address other than the client's (THIRD_PARTY) is not supported. `random` must
 * outlive the exchange. 0, or what pcp_request_encode() says.
 */
MUST_CHECK int oneshot_init(struct oneshot *oneshot, const struct pcp_request *request,
                            const struct endpoint *server, struct random_source *random,
                            uint64_t now_ns, uint64_t duration_ns);
/* What is to be done now. SEND is said once per transmission. */
enum oneshot_step oneshot_advance(struct oneshot *oneshot, uint64_t now_ns);
/* When oneshot_advance() has something to say again. */
uint64_t oneshot_next_ns(const struct oneshot *oneshot);
/*
 * Judges a datagram in the order of RFC 6887 s8.3. `ret_response` is written unless it is IGNORED; with NATPMP only version, opcode
 * and result hold. The datagram's destination may be any (unknown): then only the rest must match.
 */
enum oneshot_verdict oneshot_receive(const struct oneshot *oneshot, const struct datagram *datagram,
                                     struct pcp_response *ret_response);
