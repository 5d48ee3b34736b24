#pragma once

/* What the user asked holdfast for. */

#include <net/if.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/address.h"
#include "base/util.h"
#include "wire/option.h"
#include "wire/pcp.h"

/* As many as fit a request beside PREFER_FAILURE. */
#define ARGUMENTS_FILTERS_MAX 42
#define ARGUMENTS_COMPLAINT_SIZE 256

enum command {
    COMMAND_MAP,
    COMMAND_UNMAP,
    COMMAND_ANNOUNCE,
    COMMAND_HELP,
    COMMAND_VERSION,
};

struct arguments {
    enum command command;
    uint8_t protocol;
    uint16_t internal_port;
    bool has_external_address;
    struct endpoint external; /* suggested */
    uint32_t lifetime_s;
    bool prefers_failure;
    size_t n_filters;
    struct pcp_filter filters[ARGUMENTS_FILTERS_MAX];
    bool has_nonce;
    uint8_t nonce[PCP_NONCE_SIZE];
    bool has_server; /* else the default route's gateway */
    struct endpoint server;
    char server_interface[IF_NAMESIZE]; /* of a link-local server, else empty */
    bool has_internal_address;
    struct ip_address internal_address;
    uint32_t timeout_s;
    bool wants_json;
};

extern const char arguments_help[];

/* "TCP"; NULL for a protocol that is known by its number only. */
const char *arguments_protocol_name(uint8_t protocol);

/*
 * 0, or -EINVAL with one line in `ret_complaint` (ARGUMENTS_COMPLAINT_SIZE octets) that says what is wrong. May permute `argv`.
 */
MUST_CHECK int arguments_parse(int argc, char **argv, struct arguments *ret_arguments,
                               char *ret_complaint);
