#pragma once

/*
 * The value types of a mapping: what the store keeps, what the kernel is told, what an answer is made of. Everything
 * that must survive a crash is in here; indices and timers are mapping/table.h's.
 *
 * Times are service time: nanoseconds on the daemon's own clock that goes on over restarts and reboots
 * (mapping/service_clock.h). Ports are in host order.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/address.h"

#define MAPPING_NONCE_SIZE 12
#define MAPPING_FILTERS_MAX                                                                        \
    64 /* what record and kernel formats can carry; configuration allows fewer */

enum mapping_kind {
    MAPPING_KIND_MAP = 1,    /* inbound, RFC 6887 s11 */
    MAPPING_KIND_PEER = 2,   /* outbound, RFC 6887 s12 */
    MAPPING_KIND_STATIC = 3, /* from the configuration: no nonce, no expiry */
};

enum mapping_state {
    MAPPING_STATE_LIVE = 1,
    /*
     * Gone, but its external port is held back for the recycle delay (RFC 6887 s15): not in the kernel, not in any
     * answer; only the same internal endpoint with the same nonce gets it back.
     */
    MAPPING_STATE_HELD = 2,
};

/* One FILTER (RFC 6887 s13.3). */
struct mapping_filter {
    struct ip_prefix remote;
    uint16_t remote_port; /* 0: all */
};

/* Immutable once built and shared by reference; counted by the engine's thread only. */
struct mapping_filters {
    uint32_t n_references;
    uint32_t n_filters;
    struct mapping_filter items[];
};

struct mapping_record {
    uint64_t id; /* grows, never used twice; the store's key */
    uint64_t created_ns;
    uint64_t expires_ns; /* TIME_NEVER for static ones; the end of the hold for held ones */
    struct ip_address internal_address;
    struct ip_address external_address;
    struct ip_address remote_address; /* PEER only, else all zero */
    struct ip_address client_address; /* whom to tell of changes (RFC 6887 s14.2) */
    uint16_t internal_port;           /* 0: all ports */
    uint16_t external_port;
    uint16_t remote_port; /* PEER only */
    uint16_t client_port;
    uint8_t protocol;       /* 0: all protocols */
    uint8_t kind;           /* enum mapping_kind */
    uint8_t state;          /* enum mapping_state */
    uint8_t has_nonce;      /* false for static mappings and those made by NAT-PMP */
    uint8_t third_party;    /* made with THIRD_PARTY: client_address is not internal_address */
    uint8_t prefer_failure; /* made with PREFER_FAILURE */
    uint8_t nonce[MAPPING_NONCE_SIZE];
    const struct mapping_filters *filters; /* NULL: no filter, everybody may connect */
};

const char *mapping_kind_name(enum mapping_kind kind);
/* "TCP", "UDP", ... or the number; `ret_text` has 8 octets. Returns ret_text. */
const char *mapping_protocol_format(uint8_t protocol, char *ret_text);

/* A filter list with one reference, or NULL when out of memory. n_filters > 0. */
struct mapping_filters *mapping_filters_new(const struct mapping_filter *filters, size_t n_filters);
/* Both accept NULL and hand it back. */
const struct mapping_filters *mapping_filters_ref(const struct mapping_filters *filters);
const struct mapping_filters *mapping_filters_unref(const struct mapping_filters *filters);
/* NULL counts as empty. Order matters, as the order of processing does. */
bool mapping_filters_equal(const struct mapping_filters *a, const struct mapping_filters *b);
/* Everything but the reference identity of the filters. */
bool mapping_record_equal(const struct mapping_record *a, const struct mapping_record *b);
