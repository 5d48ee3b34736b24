/*
 * A directive is one entry here, one member of struct settings, one paragraph of the man page and
 * one test.
 */

#include "config/directive.h"

#include <stdio.h>
#include <string.h>

#include "config/settings.h"
#include "config/value.h"

#define AT(member) .offset = offsetof(struct settings, member), .n_min = 1, .n_max = 1
#define AT_LIST(member, n_min_items)                                                               \
    .offset = offsetof(struct settings, server.member),                                            \
    .count_offset = offsetof(struct settings, server.n_##member), .n_min = (n_min_items),          \
    .n_max = N_ELEMENTS(((struct settings *) NULL)->server.member)
#define NUMBER(member, minimum_value, maximum_value, unit_text)                                    \
    AT(server.member), .kind = &value_number, .minimum = (minimum_value),                          \
                       .maximum = (maximum_value), .unit = (unit_text)
#define BOOLEAN(member)                                                                            \
    AT(server.member), .kind = &value_boolean, .allowed = "true or false (yes, on, no, off)"

#define AT_STATIC(member)                                                                          \
    .section = DIRECTIVE_STATIC, .offset = offsetof(struct settings_static, member), .n_min = 1,   \
    .n_max = 1

#define ALLOWED_INTERFACE "an interface name of 1 to 15 characters without '/', ':' or white space"
#define ALLOWED_ENDPOINT                                                                           \
    "a unicast address and a port, such as 192.0.2.1:80 or [fd77::2]:80; port 0: all ports"
#define ALLOWED_RANGE "a port or FIRST-LAST, ports from 1 to 65535"

const struct directive directives[] = {
    {
        .name = "state-directory",
        AT(state_directory),
        .kind = &value_path,
        .allowed = "an absolute path of at most 4095 octets",
        .defaults = {"/var/lib/holdfast"},
    },
    {
        .name = "control-socket",
        AT(control_socket),
        .kind = &value_socket_path,
        .allowed = "an absolute path of at most 107 octets",
        .defaults = {"/run/holdfast/control"},
    },
    {
        .name = "log-level",
        AT(log_level),
        .kind = &value_log_level,
        .allowed = "error, warning, notice, info or debug",
        .defaults = {"info"},
    },
    {
        .name = "inside-interfaces",
        .section = DIRECTIVE_SERVER,
        .is_required = true,
        AT_LIST(inside_interfaces, 1),
        .kind = &value_interface,
        .allowed = ALLOWED_INTERFACE,
    },
    {
        .name = "outside-interface",
        .section = DIRECTIVE_SERVER,
        .is_required = true,
        AT(server.outside_interface),
        .kind = &value_interface,
        .allowed = ALLOWED_INTERFACE,
    },
    {
        .name = "external-addresses",
        .section = DIRECTIVE_SERVER,
        AT_LIST(external_addresses, 0),
        .kind = &value_external_address,
        .allowed = "unicast IPv4 addresses such as 203.0.113.1",
    },
    {
        .name = "external-ports",
        .section = DIRECTIVE_SERVER,
        AT_LIST(external_ports, 1),
        .kind = &value_port_range,
        .allowed = ALLOWED_RANGE,
        .defaults = {"1024-32767"},
    },
    {
        .name = "internal-prefixes",
        .section = DIRECTIVE_SERVER,
        AT_LIST(internal_prefixes, 1),
        .kind = &value_prefix,
        .allowed = "a unicast IPv4 or IPv6 prefix such as 10.77.0.0/24 or fd77::/64",
        .defaults = {"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7"},
    },
    {
        /* [R-6887-15-2] [R-6887-15-3] */
        .name = "lifetime-min",
        .section = DIRECTIVE_SERVER,
        NUMBER(lifetime_min_s, 1, 86400, " seconds"),
        .defaults = {"120"},
    },
    {
        /* [R-6887-15-4] */
        .name = "lifetime-max",
        .section = DIRECTIVE_SERVER,
        NUMBER(lifetime_max_s, 1, 31536000, " seconds"),
        .defaults = {"86400"},
    },
    {
        .name = "mappings-per-subscriber",
        .section = DIRECTIVE_SERVER,
        NUMBER(mappings_per_subscriber, 1, 1048576, ""),
        .defaults = {"128"},
    },
    {
        .name = "mappings-total",
        .section = DIRECTIVE_SERVER,
        NUMBER(mappings_total, 1, 16777216, ""),
        .defaults = {"65536"},
    },
    {
        /* [R-6887-13.3-11] */
        .name = "filters-per-mapping",
        .section = DIRECTIVE_SERVER,
        NUMBER(filters_per_mapping, 1, 64, ""),
        .defaults = {"16"},
    },
    {
        .name = "recycle-delay",
        .section = DIRECTIVE_SERVER,
        NUMBER(recycle_delay_s, 0, 86400, " seconds"),
        .defaults = {"120"},
    },
    {
        .name = "masquerade",
        .section = DIRECTIVE_SERVER,
        BOOLEAN(masquerade),
        .defaults = {"false"},
    },
    {
        .name = "masquerade-ports",
        .section = DIRECTIVE_SERVER,
        AT(server.masquerade_ports),
        .kind = &value_port_range,
        .allowed = ALLOWED_RANGE,
        .defaults = {"32768-65535"},
    },
    {
        .name = "prefer-failure",
        .section = DIRECTIVE_SERVER,
        BOOLEAN(prefer_failure),
        .defaults = {"true"},
    },
    {
        .name = "peer",
        .section = DIRECTIVE_SERVER,
        BOOLEAN(peer),
        .defaults = {"true"},
    },
    {
        .name = "nat-pmp",
        .section = DIRECTIVE_SERVER,
        BOOLEAN(natpmp),
        .defaults = {"true"},
    },
    {
        .name = "whole-ports",
        .section = DIRECTIVE_SERVER,
        BOOLEAN(whole_ports),
        .defaults = {"false"},
    },
    {
        .name = "third-party",
        .section = DIRECTIVE_SERVER,
        AT_LIST(third_parties, 0),
        .kind = &value_third_party,
        .allowed = "SOURCE for TARGET, two prefixes, such as \"10.77.0.5 for 10.77.0.0/24\"",
    },
    {
        .name = "nonce-policy",
        .section = DIRECTIVE_SERVER,
        AT(server.nonce_policy),
        .kind = &value_nonce_policy,
        .allowed = "strict or adopt-same-host",
        .defaults = {"strict"},
    },
    {
        .name = "request-rate",
        .section = DIRECTIVE_SERVER,
        NUMBER(request_rate_per_s, 0, 1000000, " requests per second"),
        .defaults = {"200"},
    },
    {
        .name = "request-burst",
        .section = DIRECTIVE_SERVER,
        NUMBER(request_burst, 1, 1000000, " requests"),
        .defaults = {"400"},
    },
    {
        .name = "subscriber-prefix-ipv4",
        .section = DIRECTIVE_SERVER,
        NUMBER(subscriber_prefix_ipv4, 1, 32, " bits"),
        .defaults = {"32"},
    },
    {
        .name = "subscriber-prefix-ipv6",
        .section = DIRECTIVE_SERVER,
        NUMBER(subscriber_prefix_ipv6, 1, 128, " bits"),
        .defaults = {"64"},
    },
    {
        .name = "protocol",
        AT_STATIC(protocol),
        .is_required = true,
        .kind = &value_protocol,
        .allowed = "tcp, udp, sctp, dccp, udplite, all or a number from 0 to 255",
    },
    {
        .name = "internal",
        AT_STATIC(internal),
        .is_required = true,
        .kind = &value_endpoint,
        .allowed = ALLOWED_ENDPOINT,
    },
    {
        .name = "external",
        AT_STATIC(external),
        .kind = &value_endpoint,
        .allowed = ALLOWED_ENDPOINT,
    },
    {
        .name = "external-port",
        AT_STATIC(external.port),
        .kind = &value_port,
        .allowed = "a port from 0 to 65535; 0: all ports",
    },
};

const size_t n_directives = N_ELEMENTS(directives);

size_t directive_find(const char *name, enum directive_section section)
{
    for (size_t i = 0; i < n_directives; i++) {
        if (directives[i].section == section && strcmp(directives[i].name, name) == 0)
            return i;
    }
    return n_directives;
}

const char *directive_section_name(enum directive_section section)
{
    switch (section) {
    case DIRECTIVE_SERVER:
        return DIRECTIVE_SERVER_NAME;
    case DIRECTIVE_STATIC:
        return DIRECTIVE_STATIC_NAME;
    case DIRECTIVE_TOP:
    case DIRECTIVE_SECTIONS:
        break;
    }
    return NULL;
}

const char *directive_allowed(const struct directive *directive, char *ret_allowed)
{
    if (directive->kind == &value_number)
        snprintf(ret_allowed, DIRECTIVE_ALLOWED_SIZE, "%u to %u%s", directive->minimum,
                 directive->maximum, directive->unit);
    else
        snprintf(ret_allowed, DIRECTIVE_ALLOWED_SIZE, "%s", directive->allowed);
    return ret_allowed;
}
