/*
 * What happens to mappings without a client asking: they expire, the operator clears them, the external address changes.
 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/time.h"
#include "server/claim.h"
#include "server/internal.h"
#include "server/operation.h"

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

/* [R-6887-12.3-9] [R-6887-15-10] [R-6887-15-11] */
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
    bool is_owing = server->unsettled ||
                    (server->stranded && external_space_first_active(&server->table.external));
    if (is_owing)
        return server->retry_not_before_ns;
    uint64_t expiry_ns = deadline_heap_next_ns(&server->table.deadlines);
    return expiry_ns < server->retry_not_before_ns ? server->retry_not_before_ns : expiry_ns;
}

static uint64_t earlier(uint64_t a_ns, uint64_t b_ns)
{
    return a_ns < b_ns ? a_ns : b_ns;
}

uint64_t server_next_deadline_ns(const struct server *server)
{
    return earlier(next_due_ns(server), earlier(tick_retry_ns(server), tell_next_ns(server)));
}

/* Not again where it restarted at `since_ns` or later. */
static int restart_epochs(struct server *server, const struct mapping_record *record,
                          uint64_t since_ns, uint64_t now_ns)
{
    int r = 0;
    if (epoch_zero_of(server, &record->internal_address) < since_ns)
        r = tick_reset_subscriber_epoch(server, &record->internal_address, now_ns);
    if (r == 0 && record->third_party && epoch_zero_of(server, &record->client_address) < since_ns)
        r = tick_reset_subscriber_epoch(server, &record->client_address, now_ns);
    if (r == 0)
        tell_subscriber(server, now_ns, record);
    return r;
}

int maintenance_reset_epoch_of(struct server *server, const struct mapping_record *record,
                               uint64_t now_ns)
{
    return restart_epochs(server, record, TIME_NEVER, now_ns);
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

/*
 * As if their lifetime had run out: their external ports are held back like any other. Their owners' Epochs restart, and they are told.
 */
/* [R-6887-8.5-2] */
static int take_away_gathered(struct server *server, const struct gathering *gathering,
                              uint64_t now_ns)
{
    for (size_t i = 0; i < gathering->n_items; i++) {
        struct mapping *mapping = gathering->items[i];
        struct mapping_record record = mapping->record;
        int r = maintenance_reset_epoch_of(server, &record, now_ns);
        if (r == 0)
            r = maintenance_end_mapping(server, mapping, now_ns);
        if (r < 0)
            return r;
    }
    return (int) gathering->n_items;
}

/* A part of a subscriber stands for all of it. */
static struct ip_prefix whole_subscribers(const struct server *server,
                                          const struct ip_prefix *prefix)
{
    struct ip_prefix whole = mapping_table_subscriber_prefix(&server->table, &prefix->address);
    return prefix->length < whole.length ? *prefix : whole;
}

int server_clear(struct server *server, uint64_t now_ns, enum server_clear_scope scope,
                 const struct ip_prefix *subscriber, uint64_t id, uint64_t *ret_tick)
{
    struct ip_prefix cleared = {0};
    if (scope == SERVER_CLEAR_SUBSCRIBER)
        cleared = whole_subscribers(server, subscriber);
    struct gathering gathering = {.subscriber = &cleared, .id = id};
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
        r = take_away_gathered(server, &gathering, now_ns);
    free(gathering.items);
    *ret_tick = server->tick_number;
    return r;
}

/* Static mappings stay on what the configuration says (statics.c). */
static bool matches_inactive(const struct gathering *gathering, const struct mapping_record *record)
{
    return record->kind != MAPPING_KIND_STATIC && ip_address_is_ipv4(&record->external_address) &&
           !external_space_is_active(&gathering->server->table.external, &record->external_address);
}

/* To where the others of its internal endpoint are already, else with its port if that is free, else with another. False: there is no place for it. */
/* [R-6887-14.2-4] */
static bool find_place(struct server *server, struct mapping_record *moved,
                       const struct ip_address *address)
{
    struct claim claim = {
        .internal_address = moved->internal_address,
        .internal_port = moved->internal_port,
        .protocol = moved->protocol,
        .suggested = {.address = *address, .port = moved->external_port},
        .is_peer = moved->kind == MAPPING_KIND_PEER,
        .with_companion = moved->kind == MAPPING_KIND_MAP && !moved->has_nonce,
    };
    const struct mapping *sibling = claim_find_sibling(server, &claim);
    /* What is held is its port: without that there is nothing to hold. */
    bool is_held = moved->state == MAPPING_STATE_HELD;
    if (is_held && sibling && sibling->record.external_port != moved->external_port)
        sibling = NULL;
    struct endpoint external;
    if (sibling)
        external =
            (struct endpoint){sibling->record.external_address, sibling->record.external_port};
    else if (claim_external(server, &claim, &external) != PCP_RESULT_SUCCESS)
        return false;
    if ((moved->prefer_failure || is_held) && external.port != moved->external_port)
        return false;
    moved->external_address = external.address;
    moved->external_port = external.port;
    return true;
}

/* Its owner learns of it by the Epoch, by an announcement, and if it goes on by a Mapping Update. */
/* [R-6887-8.5-3] */
static int move_mapping(struct server *server, struct mapping *mapping,
                        const struct ip_address *address, uint64_t now_ns)
{
    struct mapping_record before = mapping->record, moved = mapping->record;
    bool found = find_place(server, &moved, address);
    int r = tick_put(server, mapping, found ? &moved : NULL, NULL);
    if (r < 0 || before.state != MAPPING_STATE_LIVE)
        return r;
    /* Not again when a move that was taken back is tried once more: nothing was granted there since. */
    r = restart_epochs(server, &before, server->stranded_since_ns, now_ns);
    if (r == 0 && found)
        tell_update(server, now_ns, &moved);
    else if (r == 0 && before.prefer_failure)
        tell_lost(server, now_ns, &before);
    return r;
}

static bool port_is_allowed(const struct server *server, const struct mapping_record *record)
{
    return record->external_port == 0 ||
           external_space_is_allowed(&server->table.external, record->protocol,
                                     record->external_port);
}

/*
 * Moves what stands on addresses that are gone, if there is one to move to. Those that may keep their port come first, so that none of
 * the others takes it.
 */
/* [R-6887-14.2-1] */
static int move_stranded(struct server *server, uint64_t now_ns)
{
    const struct ip_address *target = external_space_first_active(&server->table.external);
    if (!target)
        return 0;
    struct ip_address address = *target;

    struct gathering gathering = {.matches = matches_inactive, .server = server};
    int r = mapping_table_for_each(&server->table, gather, &gathering);
    size_t n_keeping = 0;
    for (size_t i = 0; r == 0 && i < gathering.n_items; i++) {
        struct mapping *mapping = gathering.items[i];
        if (!port_is_allowed(server, &mapping->record))
            continue;
        gathering.items[i] = gathering.items[n_keeping];
        gathering.items[n_keeping++] = mapping;
    }
    for (size_t i = 0; r == 0 && i < gathering.n_items; i++)
        r = move_mapping(server, gathering.items[i], &address, now_ns);
    free(gathering.items);
    if (r == 0)
        server->stranded = false;
    return r;
}

static bool is_forbidden(const struct server *server, const struct mapping_record *record)
{
    if (!can_be_cleared(record))
        return false;
    if (!claim_is_permitted(server, &record->internal_address))
        return true;
    if (record->third_party &&
        !operation_may_name(server, &record->client_address, &record->internal_address))
        return true;
    if (record->kind == MAPPING_KIND_PEER)
        return !server->settings.peer;
    if (!ip_address_is_ipv4(&record->external_address))
        return false;
    return record->external_port == 0
               ? !server->settings.whole_ports
               : !external_space_is_allowed(&server->table.external, record->protocol,
                                            record->external_port);
}

static bool matches_forbidden(const struct gathering *gathering,
                              const struct mapping_record *record)
{
    return is_forbidden(gathering->server, record);
}

bool maintenance_is_unsettled(const struct server *server, const struct change *change)
{
    const struct mapping_record *any = change->had_before ? &change->before : &change->after;
    return any->kind == MAPPING_KIND_STATIC ||
           (change->had_before && is_forbidden(server, &change->before));
}

static int make_statics(struct server *server, uint64_t now_ns)
{
    int r = statics_make(server, now_ns);
    server->unsettled = r == -ENOMEM;
    return r;
}

/* Makes true what the settings say. */
static int settle(struct server *server, uint64_t now_ns)
{
    struct gathering gathering = {.matches = matches_forbidden, .server = server};
    int r = mapping_table_for_each(&server->table, gather, &gathering);
    if (r == 0)
        r = take_away_gathered(server, &gathering, now_ns);
    free(gathering.items);
    server->unsettled = r < 0;
    return r < 0 ? r : make_statics(server, now_ns);
}

int server_set_external_addresses(struct server *server, uint64_t now_ns,
                                  const struct ip_address *addresses, size_t n_addresses)
{
    const struct ip_address *first = external_space_first_active(&server->table.external);
    struct ip_address before = first ? *first : IP_ADDRESS_ANY_IPV6;
    int r = external_space_set_active(&server->table.external, addresses, n_addresses);
    if (r < 0)
        return r;
    first = external_space_first_active(&server->table.external);
    if (first && !ip_address_equal(first, &before))
        tell_address(server, now_ns);
    server->stranded = true;
    server->stranded_since_ns = now_ns;
    r = move_stranded(server, now_ns);
    if (r == 0)
        r = server->unsettled ? settle(server, now_ns) : make_statics(server, now_ns);
    else
        server->unsettled = true;
    return r == -EADDRINUSE
               ? 0
               : r; /* the settings contradict themselves, as server_set_settings() said */
}

/* Who had an Epoch with others that has it alone now, or the reverse, cannot be told apart: everybody's restarts. */
static int take_subscriber_lengths(struct server *server, uint64_t now_ns,
                                   const struct server_settings *settings)
{
    uint8_t length_ipv4 = settings->subscriber_length_ipv4 ? settings->subscriber_length_ipv4 : 128;
    uint8_t length_ipv6 = settings->subscriber_length_ipv6 ? settings->subscriber_length_ipv6 : 128;
    if (length_ipv4 == server->table.subscriber_length_ipv4 &&
        length_ipv6 == server->table.subscriber_length_ipv6)
        return 0;
    if (!list_is_empty(&server->own_epochs))
        server_reset_epoch(server, now_ns);
    return tick_set_subscriber_lengths(server, length_ipv4, length_ipv6);
}

int server_set_settings(struct server *server, uint64_t now_ns,
                        const struct server_settings *settings)
{
    int r = take_subscriber_lengths(server, now_ns, settings);
    if (r == 0)
        r = mapping_table_set_ranges(&server->table, settings->external_ports,
                                     settings->n_external_ports);
    if (r < 0)
        return r;
    server_take_settings(server, settings);
    return settle(server, now_ns);
}

static int do_overdue(struct server *server, uint64_t now_ns)
{
    int r = server->stranded ? move_stranded(server, now_ns) : 0;
    if (r == 0 && server->unsettled && settle(server, now_ns) == -ENOMEM)
        r = -ENOMEM;
    return r;
}

static void do_due(struct server *server, uint64_t now_ns)
{
    if (do_overdue(server, now_ns) < 0) {
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

/*
 * An Epoch of its own is remembered for one lifetime longer than its subscriber has anything: whoever asks after that holds nothing
 * that the common Epoch could deny.
 */
static bool epoch_is_over(const struct server *server, const struct subscriber *subscriber,
                          uint64_t now_ns)
{
    return subscriber->n_live == 0 && subscriber->n_held == 0 &&
           subscriber->last_change_tick <= server->committed_number &&
           now_ns - subscriber->epoch_zero_ns > server->settings.lifetime_max_s * NS_PER_S;
}

static void forget_epochs(struct server *server, uint64_t now_ns)
{
    struct list_link *link = server->own_epochs.next;
    while (link != &server->own_epochs && tick_has_room(server)) {
        struct subscriber *subscriber = CONTAINER_OF(link, struct subscriber, of_own_epochs);
        link = link->next;
        if (epoch_is_over(server, subscriber, now_ns) &&
            tick_forget_subscriber_epoch(server, subscriber) < 0)
            return;
    }
}

/* [R-6887-15-5] [R-6887-15-6] [R-6886-3.4-1] */
void server_advance(struct server *server, uint64_t now_ns)
{
    if (now_ns >= server->retry_not_before_ns)
        do_due(server, now_ns);
    if (now_ns >= server->forget_not_before_ns) {
        forget_epochs(server, now_ns);
        server->forget_not_before_ns = now_ns + FORGET_INTERVAL_NS;
    }
    tell_advance(server, now_ns);
}
