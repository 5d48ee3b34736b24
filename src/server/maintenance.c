/*
 * What happens to mappings without a client asking: they expire, the operator clears them, the external address changes.
 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/time.h"
#include "server/internal.h"

uint32_t remaining_s(const struct mapping_record *record, uint64_t now_ns)
{
    if (record->expires_ns == TIME_NEVER)
        return PCP_LIFETIME_INFINITE;
    if (record->expires_ns <= now_ns)
        return 0;
    uint64_t seconds = (record->expires_ns - now_ns + NS_PER_S - 1) / NS_PER_S;
    return seconds < UINT32_MAX ? (uint32_t) seconds : UINT32_MAX - 1;
}

/* Held mappings are bounded by the quota as live ones are: beyond it the oldest goes. All together they are bounded as well. */
static int make_room_for_held(struct server *server, struct subscriber *subscriber)
{
    while (subscriber->n_held > 0 &&
           subscriber->n_held >= server->settings.mappings_per_subscriber) {
        struct mapping *oldest = CONTAINER_OF(subscriber->held.next, struct mapping, of_subscriber);
        int r = tick_put(server, oldest, NULL, NULL);
        if (r < 0)
            return r;
    }
    return 0;
}

int maintenance_end_mapping(struct server *server, struct mapping *mapping, uint64_t now_ns)
{
    if (mapping->record.state == MAPPING_STATE_HELD || server->settings.recycle_delay_s == 0)
        return tick_put(server, mapping, NULL, NULL);

    int r = make_room_for_held(server, mapping->subscriber);
    if (r < 0)
        return r;
    if (server->table.n_held >= server->settings.mappings_total)
        return tick_put(server, mapping, NULL, NULL);
    struct mapping_record held = mapping->record;
    held.state = MAPPING_STATE_HELD;
    held.expires_ns = now_ns + server->settings.recycle_delay_s * NS_PER_S;
    held.filters = NULL;
    return tick_put(server, mapping, &held, NULL);
}

static uint64_t next_due_ns(const struct server *server)
{
    /* A full tick takes nothing more: what is due waits for the commit, whose end wakes the caller anyway. */
    if (!tick_has_room(server))
        return TIME_NEVER;
    if (server->stranded && external_space_first_active(&server->table.external))
        return server->retry_not_before_ns;
    uint64_t expiry_ns = deadline_heap_next_ns(&server->table.deadlines);
    return expiry_ns < server->retry_not_before_ns ? server->retry_not_before_ns : expiry_ns;
}

uint64_t server_next_deadline_ns(const struct server *server)
{
    uint64_t due_ns = next_due_ns(server);
    uint64_t retry_ns = tick_retry_ns(server);
    return due_ns < retry_ns ? due_ns : retry_ns;
}

/* Mappings are gathered first, as the table must not change while it is walked. */
struct gathering {
    struct mapping **items;
    size_t n_items, n_allocated;
    bool (*matches)(const struct gathering *gathering, const struct mapping_record *record);
    const struct server *server;
    const struct ip_prefix *subscriber;
    uint64_t id;
};

static int gather(void *context, struct mapping *mapping)
{
    struct gathering *gathering = context;
    if (!gathering->matches(gathering, &mapping->record))
        return 0;
    if (gathering->n_items == gathering->n_allocated) {
        size_t n = gathering->n_allocated ? gathering->n_allocated * 2 : 64;
        struct mapping **items = reallocarray(gathering->items, n, sizeof(struct mapping *));
        if (!items)
            return -ENOMEM;
        gathering->items = items;
        gathering->n_allocated = n;
    }
    gathering->items[gathering->n_items++] = mapping;
    return 0;
}

static bool can_be_cleared(const struct mapping_record *record)
{
    return record->state == MAPPING_STATE_LIVE && record->kind != MAPPING_KIND_STATIC;
}

static bool matches_all(const struct gathering *gathering, const struct mapping_record *record)
{
    (void) gathering;
    return can_be_cleared(record);
}

static bool matches_subscriber(const struct gathering *gathering,
                               const struct mapping_record *record)
{
    return can_be_cleared(record) &&
           ip_prefix_contains(gathering->subscriber, &record->internal_address);
}

static bool matches_id(const struct gathering *gathering, const struct mapping_record *record)
{
    return can_be_cleared(record) && record->id == gathering->id;
}

/* As if their lifetime had run out: their external ports are held back like any other. */
static int clear_gathered(struct server *server, const struct gathering *gathering, uint64_t now_ns)
{
    for (size_t i = 0; i < gathering->n_items; i++) {
        struct mapping *mapping = gathering->items[i];
        struct ip_address address = mapping->record.internal_address;
        int r = tick_reset_subscriber_epoch(server, &address, now_ns);
        if (r == 0)
            r = maintenance_end_mapping(server, mapping, now_ns);
        if (r < 0)
            return r;
    }
    return (int) gathering->n_items;
}

int server_clear(struct server *server, uint64_t now_ns, enum server_clear_scope scope,
                 const struct ip_prefix *subscriber, uint64_t id, uint64_t *ret_tick)
{
    struct gathering gathering = {.subscriber = subscriber, .id = id};
    switch (scope) {
    case SERVER_CLEAR_ALL:
        gathering.matches = matches_all;
        break;
    case SERVER_CLEAR_SUBSCRIBER:
        gathering.matches = matches_subscriber;
        break;
    case SERVER_CLEAR_ID:
        gathering.matches = matches_id;
        break;
    }
    int r = mapping_table_for_each(&server->table, gather, &gathering);
    if (r == 0)
        r = clear_gathered(server, &gathering, now_ns);
    free(gathering.items);
    *ret_tick = server->tick_number;
    return r;
}

static bool matches_inactive(const struct gathering *gathering, const struct mapping_record *record)
{
    return ip_address_is_ipv4(&record->external_address) &&
           !external_space_is_active(&gathering->server->table.external, &record->external_address);
}

/* With its port if that is free there, else with another; without any it ends, and its owner learns by the Epoch. */
static int move_mapping(struct server *server, struct mapping *mapping,
                        const struct ip_address *address, uint64_t now_ns)
{
    struct mapping_record moved = mapping->record;
    struct ip_address internal_address = mapping->record.internal_address;
    struct endpoint external = {.address = *address, .port = moved.external_port};
    int r = 0;
    if (!mapping_table_external_is_free(&server->table, address, moved.protocol, external.port))
        r = external_space_pick_anywhere(&server->table.external, address, moved.protocol,
                                         moved.external_port, server->random, &external);
    if (r < 0 && r != -EADDRNOTAVAIL)
        return r;
    moved.external_address = external.address;
    moved.external_port = external.port;
    bool is_live = moved.state == MAPPING_STATE_LIVE;
    r = tick_put(server, mapping, r == 0 ? &moved : NULL, NULL);
    /* Not again when a move that was taken back is tried once more: nothing was granted there since. */
    if (r == 0 && is_live && epoch_zero_of(server, &internal_address) < server->stranded_since_ns)
        r = tick_reset_subscriber_epoch(server, &internal_address, now_ns);
    return r;
}

/* Moves what stands on addresses that are gone, if there is one to move to. */
static int move_stranded(struct server *server, uint64_t now_ns)
{
    const struct ip_address *target = external_space_first_active(&server->table.external);
    if (!target)
        return 0;
    struct ip_address address = *target;

    struct gathering gathering = {.matches = matches_inactive, .server = server};
    int r = mapping_table_for_each(&server->table, gather, &gathering);
    for (size_t i = 0; r == 0 && i < gathering.n_items; i++)
        r = move_mapping(server, gathering.items[i], &address, now_ns);
    free(gathering.items);
    if (r == 0)
        server->stranded = false;
    return r;
}

int server_set_external_addresses(struct server *server, uint64_t now_ns,
                                  const struct ip_address *addresses, size_t n_addresses)
{
    int r = external_space_set_active(&server->table.external, addresses, n_addresses);
    if (r < 0)
        return r;
    server->stranded = true;
    server->stranded_since_ns = now_ns;
    return move_stranded(server, now_ns);
}

void server_advance(struct server *server, uint64_t now_ns)
{
    if (now_ns < server->retry_not_before_ns)
        return;
    if (server->stranded && move_stranded(server, now_ns) < 0) {
        server->retry_not_before_ns = now_ns + COMMIT_RETRY_NS;
        return;
    }
    while (tick_has_room(server)) {
        struct deadline *deadline = deadline_heap_first(&server->table.deadlines);
        if (!deadline || deadline->at_ns > now_ns)
            return;
        struct mapping *mapping = CONTAINER_OF(deadline, struct mapping, deadline);
        if (maintenance_end_mapping(server, mapping, now_ns) < 0) {
            server->retry_not_before_ns = now_ns + COMMIT_RETRY_NS;
            return;
        }
    }
}
