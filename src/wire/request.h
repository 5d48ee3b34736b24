#pragma once

/*
 * PCP requests: octets to struct and back. pcp_request_decode() is the server's entry and judges exactly in the order of
 * RFC 6887 s8.2; pcp_request_encode() is the client's.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "wire/option.h"
#include "wire/pcp.h"

/* MAP and PEER fields; `remote` holds for PEER only. Addresses as on the wire, ports in host order. */
struct pcp_mapping_fields {
    uint8_t nonce[PCP_NONCE_SIZE];
    uint8_t protocol;
    uint16_t internal_port;
    struct endpoint external; /* suggested in a request; assigned in a success response */
    struct endpoint remote;
};

struct pcp_request {
    uint8_t opcode;
    uint32_t lifetime_s;
    struct ip_address client_address;
    struct pcp_mapping_fields mapping; /* opcode MAP and PEER */
    size_t n_options;
    struct pcp_option options[PCP_OPTIONS_MAX];
};

enum pcp_verdict {
    PCP_VERDICT_DROP,   /* answer nothing */
    PCP_VERDICT_ANSWER, /* answer with the result given */
    PCP_VERDICT_ACCEPT, /* decoded; the result is SUCCESS so far */
};

/* What the server offers, so that decoding knows which mandatory options and opcodes to refuse. */
struct pcp_capabilities {
    bool map, peer, announce;
    bool third_party, prefer_failure, filter;
};

/*
 * Judges one datagram that carries version `PCP_VERSION` or any other version but 0 (NAT-PMP's is wire/natpmp.h).
 * `source` is the datagram's source address: it is compared with the client address field (ADDRESS_MISMATCH).
 *
 * The order: shorter than 2 octets or R bit set: DROP; version: UNSUPP_VERSION; shorter than 24: DROP; longer than 1100 or not a multiple of
 * 4: MALFORMED_REQUEST; opcode: UNSUPP_OPCODE; shorter than the opcode needs: MALFORMED_REQUEST; client address: ADDRESS_MISMATCH; option
 * structure, then each option in order: UNSUPP_OPTION, MALFORMED_OPTION, and the RFC's exceptions (PREFER_FAILURE in PEER:
 * MALFORMED_REQUEST; THIRD_PARTY naming the sender: MALFORMED_REQUEST). Rules that need only the request are judged here too:
 * PREFER_FAILURE with suggested port 0, PREFER_FAILURE or FILTER with lifetime 0, protocol 0 with a port, PEER's zero fields.
 *
 * `ret_request` is filled as far as decoding came (opcode, lifetime); whole only with ACCEPT. Options >= 128 we do not know are left
 * out of it: a success response must not carry them.
 */
enum pcp_verdict pcp_request_decode(const void *data, size_t size_bytes,
                                    const struct ip_address *source,
                                    const struct pcp_capabilities *capabilities,
                                    struct pcp_request *ret_request, enum pcp_result *ret_result);

/* Octets written, or -ENOSPC when it does not fit `size_bytes` or PCP_SIZE_MAX, or -EINVAL for an opcode we cannot encode. */
MUST_CHECK int pcp_request_encode(const struct pcp_request *request, void *ret_data,
                                  size_t size_bytes);
