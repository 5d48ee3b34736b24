/*
 * A port outside the allowed set can be taken only by a restored mapping. The pool has no bit for such ports, so that two
 * restored mappings cannot share one, the table's external index is asked as well (mapping/table.c).
 */

#include "mapping/external.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "wire/pcp.h"

static int protocol_slot(uint8_t protocol)
{
    switch (protocol) {
    case IPPROTO_TCP:
        return 0;
    case IPPROTO_UDP:
        return 1;
    case IPPROTO_SCTP:
        return 2;
    case IPPROTO_DCCP:
        return 3;
    case IPPROTO_UDPLITE:
        return 4;
    }
    return -1;
}

bool external_protocol_has_ports(uint8_t protocol)
{
    return protocol_slot(protocol) >= 0;
}

/* [R-6887-11.3-18] */
static void fill_allowed(struct external_space *space, const struct port_range *ranges,
                         size_t n_ranges)
{
    memset(space->allowed, 0, sizeof(space->allowed));
    for (size_t slot = 0; slot < EXTERNAL_PROTOCOLS; slot++) {
        for (size_t i = 0; i < n_ranges; i++)
            port_set_add(&space->allowed[slot], ranges[i]);
        port_set_remove(&space->allowed[slot], 0);
    }
    int udp = protocol_slot(IPPROTO_UDP);
    port_set_remove(&space->allowed[udp], PCP_CLIENT_PORT);
    port_set_remove(&space->allowed[udp], PCP_SERVER_PORT);
}

void external_space_init(struct external_space *space, const struct port_range *ranges,
                         size_t n_ranges)
{
    memset(space, 0, sizeof(*space));
    fill_allowed(space, ranges, n_ranges);
}

static void free_address(struct external_address *address)
{
    for (size_t slot = 0; slot < EXTERNAL_PROTOCOLS; slot++)
        free(address->pools[slot]);
}

void external_space_deinit(struct external_space *space)
{
    for (size_t i = 0; i < space->n_addresses; i++)
        free_address(&space->addresses[i]);
    space->n_addresses = 0;
}

/* A pool over the new set in which everything taken under the old one stays taken. */
static void rebuild_pool(struct port_pool *pool, const struct port_set *before,
                         const struct port_set *after)
{
    struct port_pool old = *pool;
    port_pool_init(pool, after);
    for (uint32_t port = 0; port <= UINT16_MAX; port++)
        if (port_set_contains(before, (uint16_t) port) && !port_pool_is_free(&old, (uint16_t) port))
            port_pool_reserve(pool, (uint16_t) port);
}

int external_space_set_ranges(struct external_space *space, const struct port_range *ranges,
                              size_t n_ranges)
{
    struct port_set *before = malloc(sizeof(space->allowed));
    if (!before)
        return -ENOMEM;
    memcpy(before, space->allowed, sizeof(space->allowed));
    fill_allowed(space, ranges, n_ranges);
    for (size_t i = 0; i < space->n_addresses; i++)
        for (size_t slot = 0; slot < EXTERNAL_PROTOCOLS; slot++)
            if (space->addresses[i].pools[slot])
                rebuild_pool(space->addresses[i].pools[slot], &before[slot], &space->allowed[slot]);
    free(before);
    return 0;
}

static struct external_address *find_address(const struct external_space *space,
                                             const struct ip_address *address)
{
    for (size_t i = 0; i < space->n_addresses; i++)
        if (ip_address_equal(&space->addresses[i].address, address))
            return (struct external_address *) &space->addresses[i];
    return NULL;
}

static bool is_in_use(const struct external_address *address)
{
    return address->n_reserved > 0 || address->n_mappings > 0;
}

/* Forgets addresses that are neither active nor in use. */
static void drop_unused(struct external_space *space)
{
    for (size_t i = 0; i < space->n_addresses;) {
        struct external_address *entry = &space->addresses[i];
        if (entry->active || is_in_use(entry)) {
            i++;
            continue;
        }
        free_address(entry);
        memmove(entry, entry + 1, (space->n_addresses - i - 1) * sizeof(*entry));
        space->n_addresses--;
    }
}

static struct external_address *add_address(struct external_space *space,
                                            const struct ip_address *address)
{
    struct external_address *entry = find_address(space, address);
    if (entry)
        return entry;
    if (space->n_addresses == EXTERNAL_ADDRESSES_MAX)
        drop_unused(space);
    if (space->n_addresses == EXTERNAL_ADDRESSES_MAX)
        return NULL;
    entry = &space->addresses[space->n_addresses++];
    memset(entry, 0, sizeof(*entry));
    entry->address = *address;
    return entry;
}

static bool is_listed(const struct ip_address *addresses, size_t n_addresses,
                      const struct ip_address *address)
{
    for (size_t i = 0; i < n_addresses; i++)
        if (ip_address_equal(&addresses[i], address))
            return true;
    return false;
}

/* Asked first, so that adding them one by one cannot fail half way. */
static bool has_room(const struct external_space *space, const struct ip_address *addresses,
                     size_t n_addresses)
{
    size_t n_wanted = n_addresses;
    for (size_t i = 0; i < space->n_addresses; i++)
        if (is_in_use(&space->addresses[i]) &&
            !is_listed(addresses, n_addresses, &space->addresses[i].address))
            n_wanted++;
    return n_wanted <= EXTERNAL_ADDRESSES_MAX;
}

/* In the order given, before all others: which is the first must not depend on what was mapped first. */
static void sort_active(struct external_space *space, const struct ip_address *addresses,
                        size_t n_addresses)
{
    size_t n_sorted = 0;
    for (size_t i = 0; i < n_addresses; i++) {
        struct external_address *entry = find_address(space, &addresses[i]);
        if (!entry || entry < &space->addresses[n_sorted])
            continue; /* named twice */
        struct external_address other = space->addresses[n_sorted];
        space->addresses[n_sorted++] = *entry;
        *entry = other;
    }
}

int external_space_set_active(struct external_space *space, const struct ip_address *addresses,
                              size_t n_addresses)
{
    if (n_addresses > EXTERNAL_ADDRESSES_MAX / 2 || !has_room(space, addresses, n_addresses))
        return -ENOSPC;
    for (size_t i = 0; i < space->n_addresses; i++)
        space->addresses[i].active = false;
    for (size_t i = 0; i < n_addresses; i++) {
        struct external_address *entry = add_address(space, &addresses[i]);
        if (entry)
            entry->active = true;
    }
    drop_unused(space);
    sort_active(space, addresses, n_addresses);
    return 0;
}

bool external_space_is_active(const struct external_space *space, const struct ip_address *address)
{
    const struct external_address *entry = find_address(space, address);
    return entry && entry->active;
}

const struct ip_address *external_space_first_active(const struct external_space *space)
{
    for (size_t i = 0; i < space->n_addresses; i++)
        if (space->addresses[i].active)
            return &space->addresses[i].address;
    return NULL;
}

bool external_space_is_allowed(const struct external_space *space, uint8_t protocol, uint16_t port)
{
    int slot = protocol_slot(protocol);
    return slot >= 0 && port_set_contains(&space->allowed[slot], port);
}

static struct port_pool *get_pool(struct external_space *space, struct external_address *entry,
                                  int slot)
{
    if (!entry->pools[slot]) {
        entry->pools[slot] = malloc(sizeof(struct port_pool));
        if (entry->pools[slot])
            port_pool_init(entry->pools[slot], &space->allowed[slot]);
    }
    return entry->pools[slot];
}

int external_space_reserve(struct external_space *space, const struct ip_address *address,
                           uint8_t protocol, uint16_t port)
{
    int slot = protocol_slot(protocol);
    if (slot < 0)
        return 0;
    struct external_address *entry = add_address(space, address);
    if (!entry)
        return -ENOSPC;
    struct port_pool *pool = get_pool(space, entry, slot);
    if (!pool)
        return -ENOMEM;
    if (!port_pool_reserve(pool, port) && port_set_contains(&space->allowed[slot], port))
        return -EADDRINUSE;
    entry->n_reserved++;
    return 0;
}

int external_space_count(struct external_space *space, const struct ip_address *address,
                         uint8_t protocol, int change)
{
    struct external_address *entry = add_address(space, address);
    if (!entry)
        return -ENOSPC;
    entry->n_mappings += (uint32_t) change;
    entry->n_mappings_of[protocol] += (uint32_t) change;
    return 0;
}

uint32_t external_space_n_mappings(const struct external_space *space,
                                   const struct ip_address *address, uint8_t protocol)
{
    const struct external_address *entry = find_address(space, address);
    if (!entry)
        return 0;
    return protocol == 0 ? entry->n_mappings : entry->n_mappings_of[protocol];
}

void external_space_adopt(struct external_space *space, const struct ip_address *address,
                          uint8_t protocol, uint16_t port)
{
    int slot = protocol_slot(protocol);
    struct external_address *entry = find_address(space, address);
    if (slot >= 0 && entry && entry->pools[slot])
        (void) port_pool_reserve(entry->pools[slot], port);
}

void external_space_release(struct external_space *space, const struct ip_address *address,
                            uint8_t protocol, uint16_t port)
{
    int slot = protocol_slot(protocol);
    struct external_address *entry = find_address(space, address);
    if (slot < 0 || !entry || !entry->pools[slot])
        return;
    port_pool_release(entry->pools[slot], &space->allowed[slot], port);
    entry->n_reserved--;
}

bool external_space_is_free(struct external_space *space, const struct ip_address *address,
                            uint8_t protocol, uint16_t port)
{
    int slot = protocol_slot(protocol);
    struct external_address *entry = find_address(space, address);
    if (slot < 0 || !entry || !entry->active || !port_set_contains(&space->allowed[slot], port))
        return false;
    return !entry->pools[slot] || port_pool_is_free(entry->pools[slot], port);
}

int external_space_pick(struct external_space *space, const struct ip_address *address,
                        uint8_t protocol, uint16_t like, struct random_source *random,
                        uint16_t *ret_port)
{
    int slot = protocol_slot(protocol);
    struct external_address *entry = find_address(space, address);
    if (slot < 0 || !entry || !entry->active)
        return -EADDRNOTAVAIL;
    struct port_pool *pool = get_pool(space, entry, slot);
    if (!pool)
        return -ENOMEM;
    return port_pool_pick(pool, random, like, ret_port) ? 0 : -EADDRNOTAVAIL;
}
