#pragma once

/* PCP responses: the server builds them, the client reads them. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "wire/option.h"
#include "wire/request.h"

struct pcp_response {
    uint8_t version;
    uint8_t opcode; /* without the R bit */
    uint8_t result;
    uint32_t lifetime_s;
    uint32_t epoch_s;
    struct pcp_mapping_fields mapping; /* MAP and PEER */
    size_t n_options;
    struct pcp_option options[PCP_OPTIONS_MAX];
};

/*
 * A success response (or an unsolicited one) from fields. Octets written, -ENOSPC, -EINVAL. `response->version` is ignored: it is 2.
 */
MUST_CHECK int pcp_response_encode(const struct pcp_response *response, void *ret_data,
                                   size_t size_bytes);

/*
 * An error response out of the request's octets, after RFC 6887 s7.2 and s8.2: the whole payload (at most 1100 octets) copied, padded to a
 * multiple of 4 and at least 24 octets, R bit, result, lifetime and Epoch set, version 2. The 96 reserved bits keep the end of the client
 * address when the request could not be parsed (UNSUPP_VERSION, MALFORMED_REQUEST, MALFORMED_OPTION, UNSUPP_OPCODE), else are zero.
 * Octets written, or -ENOSPC. `request_size_bytes` >= 2.
 */
MUST_CHECK int pcp_response_encode_error(const void *request, size_t request_size_bytes,
                                         enum pcp_result result, uint32_t lifetime_s,
                                         uint32_t epoch_s, void *ret_data, size_t size_bytes);

/*
 * The client's reading. 0; -EBADMSG when it must be ignored (too short, R clear, length wrong, option structure wrong). An UNSUPP_VERSION
 * answer is recognised before the length check, as NAT-PMP servers send 8 octets (RFC 6887 s9): then only version, opcode and result
 * are set (lifetime and Epoch too when it is a whole PCP header), and version 0 means NAT-PMP. Unknown options, and known ones with
 * unsound data, are skipped. With an opcode we do not know only the header is read.
 */
MUST_CHECK int pcp_response_decode(const void *data, size_t size_bytes,
                                   struct pcp_response *ret_response);
