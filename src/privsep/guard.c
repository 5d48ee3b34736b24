/*
 * Lists are searched one after the other: they are short, and a command of a million mappings asks for the same few
 * entries. That an address belongs to an outside interface is asked of the kernel, once for each address not known yet;
 * an address that was there stays permitted when it goes, as mappings wait on it for its return or for another one.
 */

#include "privsep/guard.h"

#include <errno.h>
#include <ifaddrs.h>
#include <libgen.h>
#include <limits.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/time.h"

/* The longest lifetime that any configuration can grant. */
#define LIFETIME_MAX_NS (UINT64_C(31536000) * NS_PER_S)
/* Translators give flows of unprivileged ports no privileged ones. */
#define FLOW_PORT_MIN 1024
/* Besides mappings that come: those that go, and those held back. */
#define ITEMS_PER_MAPPING 4
#define ITEMS_MIN 65536
/* PCP's own ports (RFC 6887 s19.1) are nobody's to have. */
#define OWN_PORT_FIRST 5350
#define OWN_PORT_LAST 5351

void guard_init(struct guard *guard, const struct privsep_policy *policy)
{
    *guard = (struct guard){.policy = *policy, .former = *policy};
}

void guard_change_policy(struct guard *guard, const struct privsep_policy *policy)
{
    guard->former = guard->policy;
    guard->policy = *policy;
    guard->n_seen = 0;
}

size_t guard_n_items_max(const struct guard *guard)
{
    uint32_t now = guard->policy.mappings_total, before = guard->former.mappings_total;
    return ITEMS_PER_MAPPING * (size_t) (now > before ? now : before) + ITEMS_MIN;
}

/* ---- external addresses */

static bool list_has(const struct ip_address *addresses, size_t n_addresses,
                     const struct ip_address *address)
{
    for (size_t i = 0; i < n_addresses; i++)
        if (ip_address_equal(&addresses[i], address))
            return true;
    return false;
}

static bool has_interface(const struct nat_settings *settings, const char *name)
{
    for (size_t i = 0; i < settings->n_outside_interfaces; i++)
        if (strncmp(settings->outside_interfaces[i], name,
                    sizeof(settings->outside_interfaces[i])) == 0)
            return true;
    return false;
}

static void remember(struct guard *guard, const struct ip_address *address)
{
    if (list_has(guard->seen, guard->n_seen, address))
        return;
    if (guard->n_seen == GUARD_SEEN_MAX)
        memmove(guard->seen, guard->seen + 1, --guard->n_seen * sizeof(guard->seen[0]));
    guard->seen[guard->n_seen++] = *address;
}

static void look_at_interfaces(struct guard *guard)
{
    struct ifaddrs *all;
    if (getifaddrs(&all) < 0)
        return;
    for (const struct ifaddrs *one = all; one; one = one->ifa_next) {
        if (!one->ifa_addr || one->ifa_addr->sa_family != AF_INET ||
            !has_interface(&guard->policy.nat, one->ifa_name))
            continue;
        struct sockaddr_in ipv4;
        memcpy(&ipv4, one->ifa_addr, sizeof(ipv4));
        struct ip_address address = ip_address_from_ipv4(ntohl(ipv4.sin_addr.s_addr));
        remember(guard, &address);
    }
    freeifaddrs(all);
}

static bool is_external(struct guard *guard, const struct ip_address *address)
{
    const struct nat_settings *settings = &guard->policy.nat;
    if (!ip_address_is_ipv4(address) || ip_address_is_any(address))
        return false;
    if (settings->n_external_addresses > 0)
        return list_has(settings->external_addresses, settings->n_external_addresses, address);
    if (list_has(guard->seen, guard->n_seen, address))
        return true;
    look_at_interfaces(guard);
    return list_has(guard->seen, guard->n_seen, address);
}

/* ---- settings */

static bool has_prefix(const struct nat_settings *settings, const struct ip_prefix *prefix)
{
    for (size_t i = 0; i < settings->n_internal_prefixes; i++)
        if (ip_prefix_equal(&settings->internal_prefixes[i], prefix))
            return true;
    return false;
}

static bool permits_lists(struct guard *guard, const struct nat_settings *settings)
{
    for (size_t i = 0; i < settings->n_outside_interfaces; i++)
        if (!has_interface(&guard->policy.nat, settings->outside_interfaces[i]))
            return false;
    for (size_t i = 0; i < settings->n_external_addresses; i++)
        if (!is_external(guard, &settings->external_addresses[i]))
            return false;
    for (size_t i = 0; i < settings->n_internal_prefixes; i++)
        if (!has_prefix(&guard->policy.nat, &settings->internal_prefixes[i]))
            return false;
    return true;
}

static bool permits_masquerade(struct guard *guard, const struct nat_settings *settings)
{
    const struct nat_settings *allowed = &guard->policy.nat;
    if (!settings->masquerade)
        return true;
    return allowed->masquerade &&
           settings->masquerade_port_first == allowed->masquerade_port_first &&
           settings->masquerade_port_last == allowed->masquerade_port_last &&
           (ip_address_is_any(&settings->masquerade_address) ||
            is_external(guard, &settings->masquerade_address));
}

bool guard_permits_settings(struct guard *guard, const struct nat_settings *settings)
{
    const struct nat_settings *allowed = &guard->policy.nat;
    return settings->grace_s <= allowed->grace_s && settings->size_hint <= allowed->size_hint &&
           permits_masquerade(guard, settings) && permits_lists(guard, settings);
}

/* ---- mappings */

static bool is_static(const struct privsep_policy *policy, const struct mapping_record *record,
                      const struct privsep_static **ret_static)
{
    for (size_t i = 0; i < policy->n_statics; i++) {
        const struct privsep_static *one = &policy->statics[i];
        if (one->protocol != record->protocol || one->internal.port != record->internal_port ||
            one->external.port != record->external_port ||
            !ip_address_equal(&one->internal.address, &record->internal_address))
            continue;
        if (ip_address_is_any(&one->external.address) ||
            ip_address_equal(&one->external.address, &record->external_address)) {
            *ret_static = one;
            return true;
        }
    }
    return false;
}

static bool is_internal(const struct privsep_policy *policy, const struct ip_address *address)
{
    for (size_t i = 0; i < policy->nat.n_internal_prefixes; i++)
        if (ip_prefix_contains(&policy->nat.internal_prefixes[i], address))
            return true;
    return false;
}

static bool is_mappable(const struct privsep_policy *policy, uint16_t port)
{
    for (size_t i = 0; i < policy->n_external_ports; i++)
        if (port >= policy->external_ports[i].first && port <= policy->external_ports[i].last)
            return true;
    return false;
}

/* A PEER mapping may take over the port of a flow that is there already: ours to masquerade, or some other's. */
static bool is_port_of_flows(const struct privsep_policy *policy, uint16_t port)
{
    if (!policy->nat.masquerade)
        return port >= FLOW_PORT_MIN;
    return port >= policy->nat.masquerade_port_first && port <= policy->nat.masquerade_port_last;
}

static bool permits_port(const struct privsep_policy *policy, const struct mapping_record *record)
{
    if (record->protocol == IPPROTO_UDP && record->external_port >= OWN_PORT_FIRST &&
        record->external_port <= OWN_PORT_LAST)
        return false;
    if (record->kind == MAPPING_KIND_PEER)
        return record->external_port != 0 && (is_mappable(policy, record->external_port) ||
                                              is_port_of_flows(policy, record->external_port));
    if (record->external_port == 0)
        return policy->whole_ports && record->internal_port == 0;
    return record->internal_port != 0 && is_mappable(policy, record->external_port);
}

/* IPv6 is not translated: what is let in is what the host has. */
static bool is_untranslated(const struct mapping_record *record)
{
    return record->internal_port == record->external_port &&
           ip_address_equal(&record->internal_address, &record->external_address);
}

static bool permits_endpoints(const struct privsep_policy *policy,
                              const struct mapping_record *record)
{
    if (record->kind == MAPPING_KIND_PEER && (!policy->peer || record->remote_port == 0))
        return false;
    if (!is_internal(policy, &record->internal_address))
        return false;
    return ip_address_is_ipv4(&record->internal_address)
               ? ip_address_is_ipv4(&record->external_address) && permits_port(policy, record)
               : is_untranslated(record);
}

static bool permits_time(const struct mapping_record *record, uint64_t now_ns)
{
    if (record->expires_ns == TIME_NEVER)
        return record->kind == MAPPING_KIND_STATIC;
    return record->expires_ns <= now_ns || record->expires_ns - now_ns <= LIFETIME_MAX_NS;
}

enum guard_verdict guard_judge_record(struct guard *guard, const struct mapping_record *record,
                                      uint64_t now_ns)
{
    const struct privsep_static *of_config = NULL;
    if (record->state != MAPPING_STATE_LIVE)
        return GUARD_VERDICT_PERMITTED;
    if (!permits_time(record, now_ns))
        return GUARD_VERDICT_FORBIDDEN;
    if (is_static(&guard->policy, record, &of_config)) {
        if (!ip_address_is_any(&of_config->external.address) || is_untranslated(record))
            return GUARD_VERDICT_PERMITTED;
    } else if (record->kind == MAPPING_KIND_STATIC || !permits_endpoints(&guard->policy, record)) {
        return GUARD_VERDICT_FORBIDDEN;
    }
    if (!ip_address_is_ipv4(&record->internal_address))
        return is_untranslated(record) ? GUARD_VERDICT_PERMITTED : GUARD_VERDICT_FORBIDDEN;
    return is_external(guard, &record->external_address) ? GUARD_VERDICT_PERMITTED
                                                         : GUARD_VERDICT_NOT_HERE;
}

static bool was_mapped(const struct privsep_policy *policy, const struct mapping_record *record)
{
    const struct privsep_static *of_config;
    return is_static(policy, record, &of_config) || permits_endpoints(policy, record);
}

bool guard_permits_cut(const struct guard *guard, const struct mapping_record *record)
{
    return was_mapped(&guard->policy, record) || was_mapped(&guard->former, record);
}

bool guard_permits_flow(const struct guard *guard, const struct message_flow *flow)
{
    return is_internal(&guard->policy, &flow->internal.address);
}

/* ---- the configuration file */

/* Sticky folders let nobody replace what is not theirs. */
static int check_one(const char *path)
{
    struct stat status;
    if (stat(path, &status) < 0)
        return -errno;
    bool is_shared = status.st_mode & (S_IWGRP | S_IWOTH);
    if (S_ISDIR(status.st_mode) && (status.st_mode & S_ISVTX))
        is_shared = false;
    return status.st_uid != 0 || is_shared ? -EACCES : 0;
}

int guard_check_file(const char *path)
{
    char resolved[PATH_MAX];
    if (path[0] != '/')
        return -EINVAL;
    if (!realpath(path, resolved))
        return -errno;
    int r = check_one(resolved);
    while (r == 0 && strcmp(resolved, "/") != 0) {
        (void) dirname(resolved); /* shortens it where it is */
        r = check_one(resolved);
    }
    return r;
}
