#pragma once

/*
 * Options (RFC 6887 s7.3). Each option is one file in wire/options/ that exports one const descriptor; option.c lists them
 * in one table. Adding an option is one file, one line in the table, one test, one fuzz seed.
 *
 * Decoding yields an array in the order received, as that is the order of processing.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/address.h"
#include "base/reader.h"
#include "base/util.h"
#include "base/writer.h"
#include "wire/pcp.h"

struct pcp_filter {
    struct ip_prefix
        remote; /* length of 128; 0: remove all filters; bits behind the length as they came */
    uint16_t remote_port;
};

/* One decoded option. `code` says which member of the union holds. */
struct pcp_option {
    uint8_t code;
    union {
        struct ip_address third_party;
        struct pcp_filter filter;
        /* Options we do not know: framing only, pointing into the datagram. */
        struct {
            const uint8_t *data;
            uint16_t size_bytes;
        } unknown;
    };
};

/* As many as can stand in one datagram: (1100 - 24) / 4. */
#define PCP_OPTIONS_MAX 269

struct pcp_option_descriptor {
    uint8_t code;
    const char *name;
    uint16_t size_min_bytes, size_max_bytes; /* of the data */
    bool valid_in_map, valid_in_peer, valid_in_announce;
    bool repeatable; /* may stand in a request more than once */
    /*
     * Reads the data (a reader over just these octets; its size is within the bounds above) and checks what can be checked without
     * knowing the request. False: MALFORMED_OPTION.
     */
    bool (*decode)(struct reader *body, struct pcp_option *ret_option);
    /* Writes the data without header and padding. */
    void (*encode)(const struct pcp_option *option, struct writer *body);
};

/* One option as it stands in a message: its code and a reader over just its data. */
struct pcp_option_frame {
    uint8_t code;
    size_t size_bytes; /* of the data */
    struct reader body;
};

/*
 * The next option's frame; moves `reader` behind its padding. An option that does not fit leaves `reader` failed and an
 * empty body. Called while reader_remaining() is not 0.
 */
struct pcp_option_frame pcp_option_read_frame(struct reader *reader);
/* NULL when we do not know it. */
const struct pcp_option_descriptor *pcp_option_find(uint8_t code);
/* Header, data and padding. */
void pcp_option_write(const struct pcp_option *option, struct writer *writer);
