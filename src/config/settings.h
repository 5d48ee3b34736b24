#pragma once

/*
 * holdfastd's configuration file as checked values. Parsing is libconfuse's; every value is checked
 * here, and every complaint has the form "file:line: what is wrong and what is allowed".
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/address.h"
#include "base/log.h"
#include "base/util.h"

#define SETTINGS_INTERFACES_MAX 16
#define SETTINGS_ADDRESSES_MAX 64
#define SETTINGS_PREFIXES_MAX 64
#define SETTINGS_RANGES_MAX 64
#define SETTINGS_THIRD_PARTIES_MAX 32
#define SETTINGS_STATICS_MAX 256
#define SETTINGS_NAME_SIZE 32

struct settings_range {
    uint16_t first, last;
};

/* Who of `source` may make mappings for whom of `target`. */
struct settings_third_party {
    struct ip_prefix source, target;
};

enum settings_nonce_policy { SETTINGS_NONCE_STRICT, SETTINGS_NONCE_ADOPT_SAME_HOST };

/* section static NAME { } */
struct settings_static {
    char name[SETTINGS_NAME_SIZE];
    uint8_t protocol; /* 0: all */
    struct endpoint internal;
    struct endpoint external; /* address any: the first external address */
};

struct settings {
    char *state_directory; /* default /var/lib/holdfast */
    char *control_socket;  /* default /run/holdfast/control */
    enum log_level log_level;

    /* section server { } */
    struct {
        char inside_interfaces[SETTINGS_INTERFACES_MAX]
                              [16]; /* required: requests are taken from these only */
        size_t n_inside_interfaces;
        char outside_interface[16]; /* required */
        struct ip_address
            external_addresses[SETTINGS_ADDRESSES_MAX]; /* empty: those of the outside interface */
        size_t n_external_addresses;
        struct settings_range external_ports[SETTINGS_RANGES_MAX]; /* default 1024-32767 */
        size_t n_external_ports;
        struct ip_prefix internal_prefixes
            [SETTINGS_PREFIXES_MAX]; /* default 10/8, 172.16/12, 192.168/16, 100.64/10, fc00::/7 */
        size_t n_internal_prefixes;
        uint32_t lifetime_min_s;          /* default 120 */
        uint32_t lifetime_max_s;          /* default 86400 */
        uint32_t mappings_per_subscriber; /* default 128 */
        uint32_t mappings_total;          /* default 65536 */
        uint32_t filters_per_mapping; /* default 16; 1 to 64: RFC 6887 s13.3 wants at least one */
        uint32_t recycle_delay_s;     /* default 120; 0 switches the hold off */
        bool masquerade;              /* default false */
        struct settings_range
            masquerade_ports; /* default 32768-65535; must not overlap external_ports */
        bool prefer_failure;  /* default true */
        bool peer;            /* default true */
        bool natpmp;          /* default true */
        bool whole_ports;     /* default false */
        enum settings_nonce_policy nonce_policy; /* default strict */
        uint32_t request_rate_per_s;             /* default 200; 0: no limit */
        uint32_t request_burst;                  /* default 400 */
        uint32_t subscriber_prefix_ipv4;         /* default 32; of 32 */
        uint32_t subscriber_prefix_ipv6;         /* default 64 */
        struct settings_third_party third_parties[SETTINGS_THIRD_PARTIES_MAX]; /* default none */
        size_t n_third_parties;
    } server;

    struct settings_static statics[SETTINGS_STATICS_MAX];
    size_t n_statics;
};

/*
 * Reads `path`. 0; -ENOENT, -EACCES ... when it cannot be read; -EINVAL when it is wrong. On
 * failure `ret_error` (freed by the caller) holds one or more lines "file:line: ...", separated by
 * '\n', without a final one. ret_settings is owned by the caller (settings_deinit()), and written
 * only on success.
 */
MUST_CHECK int settings_load(const char *path, struct settings *ret_settings, char **ret_error);
void settings_deinit(struct settings *settings);

/*
 * Prints every setting in config syntax: read again, it gives the same settings. 0 or -errno of the
 * stream.
 */
MUST_CHECK int settings_dump(const struct settings *settings, FILE *stream);
