#pragma once

/* Constants and names of PCP version 2 (RFC 6887) and of the experimental code points (draft-boucadair-pcp-failure). */

#include <stdbool.h>
#include <stdint.h>

#define PCP_VERSION 2
#define PCP_SERVER_PORT 5351
#define PCP_CLIENT_PORT 5350
#define PCP_SIZE_MAX 1100
#define PCP_HEADER_SIZE 24
#define PCP_MAP_SIZE 36
#define PCP_PEER_SIZE 56
#define PCP_NONCE_SIZE 12
#define PCP_RESPONSE_BIT 0x80
/* Lifetime of a static mapping (RFC 6887 s11.3). */
#define PCP_LIFETIME_INFINITE UINT32_MAX

enum pcp_opcode {
    PCP_OPCODE_ANNOUNCE = 0,
    PCP_OPCODE_MAP = 1,
    PCP_OPCODE_PEER = 2,
};

enum pcp_result {
    PCP_RESULT_SUCCESS = 0,
    PCP_RESULT_UNSUPP_VERSION = 1,
    PCP_RESULT_NOT_AUTHORIZED = 2,
    PCP_RESULT_MALFORMED_REQUEST = 3,
    PCP_RESULT_UNSUPP_OPCODE = 4,
    PCP_RESULT_UNSUPP_OPTION = 5,
    PCP_RESULT_MALFORMED_OPTION = 6,
    PCP_RESULT_NETWORK_FAILURE = 7,
    PCP_RESULT_NO_RESOURCES = 8,
    PCP_RESULT_UNSUPP_PROTOCOL = 9,
    PCP_RESULT_USER_EX_QUOTA = 10,
    PCP_RESULT_CANNOT_PROVIDE_EXTERNAL = 11,
    PCP_RESULT_ADDRESS_MISMATCH = 12,
    PCP_RESULT_EXCESSIVE_REMOTE_PEERS = 13,
};

enum pcp_option_code {
    PCP_OPTION_THIRD_PARTY = 1,
    PCP_OPTION_PREFER_FAILURE = 2,
    PCP_OPTION_FILTER = 3,
};

/* Options from this code up may be ignored by a server (RFC 6887 s7.3). */
#define PCP_OPTION_FIRST_OPTIONAL 128

/* The RFC's name, or "UNKNOWN". */
const char *pcp_opcode_name(uint8_t opcode);
const char *pcp_result_name(uint8_t result);
const char *pcp_option_name(uint8_t code);
/* The error lifetime class RFC 6887 s7.4 recommends: true for the 30 minute errors, false for the 30 second ones. */
bool pcp_result_is_long(enum pcp_result result);
