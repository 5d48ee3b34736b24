#pragma once

/* NAT-PMP (RFC 6886): the version 0 messages that share PCP's ports. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/util.h"

#define NATPMP_RESPONSE_SIZE_MAX 16

enum natpmp_opcode {
    NATPMP_OPCODE_ADDRESS = 0,
    NATPMP_OPCODE_MAP_UDP = 1,
    NATPMP_OPCODE_MAP_TCP = 2,
};

enum natpmp_result {
    NATPMP_RESULT_SUCCESS = 0,
    NATPMP_RESULT_UNSUPP_VERSION = 1,
    NATPMP_RESULT_NOT_AUTHORIZED = 2,
    NATPMP_RESULT_NETWORK_FAILURE = 3,
    NATPMP_RESULT_OUT_OF_RESOURCES = 4,
    NATPMP_RESULT_UNSUPP_OPCODE = 5,
};

struct natpmp_request {
    uint8_t opcode;
    uint16_t internal_port;
    uint16_t external_port; /* suggested */
    uint32_t lifetime_s;
};

struct natpmp_response {
    uint8_t opcode; /* without the response bit */
    uint16_t result;
    uint32_t epoch_s;
    uint32_t external_address; /* host order; opcode ADDRESS */
    uint16_t internal_port, external_port;
    uint32_t lifetime_s;
};

enum natpmp_verdict {
    NATPMP_VERDICT_DROP,
    NATPMP_VERDICT_ANSWER, /* with the result given: unsupported opcode */
    NATPMP_VERDICT_ACCEPT,
};

const char *natpmp_result_name(uint16_t result);
/* Octet 0 is known to be 0. Opcodes >= 128 and requests too short for their opcode: DROP. Longer ones are accepted, the tail ignored. */
enum natpmp_verdict natpmp_request_decode(const void *data, size_t size_bytes,
                                          struct natpmp_request *ret_request,
                                          enum natpmp_result *ret_result);
/* Octets written, -ENOSPC, or -EINVAL for an opcode that is none of the three. */
MUST_CHECK int natpmp_request_encode(const struct natpmp_request *request, void *ret_data,
                                     size_t size_bytes);
/*
 * The form the opcode has; an unknown opcode, UNSUPP_OPCODE and UNSUPP_VERSION give the 8 octet error form. Octets written or
 * -ENOSPC.
 */
MUST_CHECK int natpmp_response_encode(const struct natpmp_response *response, void *ret_data,
                                      size_t size_bytes);
/* 0 or -EBADMSG. Accepts opcode 0 and 128 in an unsupported-version answer (erratum 3618). */
MUST_CHECK int natpmp_response_decode(const void *data, size_t size_bytes,
                                      struct natpmp_response *ret_response);
