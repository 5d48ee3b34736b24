/*
 * The engine's entry: a datagram is decoded, judged and handed to its opcode. What is decided goes through tick.c; what
 * comes of itself is in maintenance.c.
 */

#include "server/server.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/time.h"
#include "server/internal.h"

/* [R-6887-12-1] [R-6887-13.1-5] [R-6887-13.2-1] */
void server_take_settings(struct server *server, const struct server_settings *settings)
{
    server->settings = *settings;
    if (settings->subscriber_length_ipv4 == 0)
        server->settings.subscriber_length_ipv4 = 128;
    if (settings->subscriber_length_ipv6 == 0)
        server->settings.subscriber_length_ipv6 = 128;
    server->capabilities = (struct pcp_capabilities){
        .map = true,
        .peer = settings->peer,
        .announce = true,
        .prefer_failure = settings->prefer_failure,
        .filter = true,
    };
}

struct server *server_new(const struct server_settings *settings, struct random_source *random)
{
    struct server *server = calloc(1, sizeof(*server));
    if (!server)
        return NULL;
    server_take_settings(server, settings);
    server->random = random;
    server->next_id = 1;
    list_init(&server->own_epochs);
    server->tick_number = 1;
    mapping_table_init(&server->table, random, settings->external_ports,
                       settings->n_external_ports);
    server->table.subscriber_length_ipv4 = server->settings.subscriber_length_ipv4;
    server->table.subscriber_length_ipv6 = server->settings.subscriber_length_ipv6;
    rate_limit_init(&server->rate, random);
    tell_init(server);
    tick_init(&server->ticks[0]);
    tick_init(&server->ticks[1]);
    server->deciding = &server->ticks[0];
    server->committing = &server->ticks[1];
    change_set_init(&server->debt);
    change_set_init(&server->store_changes);
    return server;
}

void server_free(struct server *server)
{
    if (!server)
        return;
    tell_deinit(server);
    tick_deinit(&server->ticks[0]);
    tick_deinit(&server->ticks[1]);
    change_set_deinit(&server->debt);
    change_set_deinit(&server->store_changes);
    reply_batch_deinit(&server->outbox);
    free(server->outbox_datagrams);
    mapping_table_deinit(&server->table);
    free(server);
}

static bool endpoints_are_sound(const struct mapping_record *record)
{
    bool is_ipv4 = ip_address_is_ipv4(&record->internal_address);
    if (ip_address_is_ipv4(&record->external_address) != is_ipv4)
        return false;
    if (!is_ipv4 && (record->internal_port != record->external_port ||
                     !ip_address_equal(&record->internal_address, &record->external_address)))
        return false;
    if (record->internal_port == 0 || record->external_port == 0)
        return record->internal_port == record->external_port && record->kind == MAPPING_KIND_MAP;
    return external_protocol_has_ports(record->protocol);
}

static bool record_is_sound(const struct mapping_record *record)
{
    if (record->state != MAPPING_STATE_LIVE && record->state != MAPPING_STATE_HELD)
        return false;
    if (record->kind == MAPPING_KIND_PEER && record->remote_port == 0)
        return false;
    return (record->kind == MAPPING_KIND_MAP || record->kind == MAPPING_KIND_PEER) &&
           endpoints_are_sound(record);
}

int server_restore_mapping(struct server *server, const struct mapping_record *record)
{
    if (!record_is_sound(record))
        return -EINVAL;
    int r = mapping_table_insert(&server->table, record, NULL);
    if (r == 0 && record->id >= server->next_id)
        server->next_id = record->id + 1;
    return r;
}

/*
 * The prefixes may have been others when it was stored. The Epoch of a smaller one is that of all it is part of now; that of a larger one, whose
 * members nobody knows, is everybody's: a reset too many costs a refresh, one too few hides a loss.
 */
int server_restore_epoch(struct server *server, const struct store_epoch *epoch)
{
    const struct ip_prefix *stored = &epoch->subscriber;
    struct ip_prefix now = mapping_table_subscriber_prefix(&server->table, &stored->address);
    if (stored->length < now.length) {
        if (epoch->epoch_zero_ns > server->epoch_floor_ns)
            server->epoch_floor_ns = epoch->epoch_zero_ns;
        return 0;
    }
    return set_own_epoch(server, &stored->address, epoch->epoch_zero_ns) ? 0 : -ENOMEM;
}

/* Epochs of their own that are not later than the common one say nothing any more. */
static void drop_stale_epochs(struct server *server)
{
    struct list_link *link = server->own_epochs.next;
    while (link != &server->own_epochs) {
        struct subscriber *subscriber = CONTAINER_OF(link, struct subscriber, of_own_epochs);
        link = link->next;
        if (subscriber->epoch_zero_ns > server->epoch_zero_ns)
            continue;
        subscriber->epoch_zero_ns = 0;
        list_remove(&subscriber->of_own_epochs);
        server->n_own_epochs--;
        mapping_table_unref_subscriber(&server->table, subscriber);
    }
}

void server_start(struct server *server, uint64_t epoch_zero_ns, uint64_t next_id)
{
    server->epoch_zero_ns =
        epoch_zero_ns > server->epoch_floor_ns ? epoch_zero_ns : server->epoch_floor_ns;
    server->unsettled = true;
    if (next_id > server->next_id)
        server->next_id = next_id;
    drop_stale_epochs(server);
}

/* [R-6887-8.5-2] [R-6886-3.6-1] [R-6886-3.7-1] */
void server_reset_epoch(struct server *server, uint64_t now_ns)
{
    server->epoch_zero_ns = now_ns;
    server->deciding->stamp = true;
    drop_stale_epochs(server);
    tell_all(server, now_ns);
}

/* [R-6887-14.1.3-3] */
void server_announce(struct server *server, uint64_t now_ns)
{
    tell_all(server, now_ns);
}

void server_stamp_clock(struct server *server)
{
    server->deciding->stamp = true;
}

/* [R-6887-14.1.1-1] [R-6887-14.1.1-2] [R-6887-14.1.2-2] */
static void receive_announce(struct server *server, uint64_t now_ns,
                             const struct datagram *datagram)
{
    struct pcp_response response = {.opcode = PCP_OPCODE_ANNOUNCE};
    answer_success(server, now_ns, datagram, &response, false);
}

/* [R-6887-13.1-1] [R-6887-13.1-4] [R-6887-13.1-6] [R-6887-18.1-3] */
static bool may_name_others(const struct server *server, const struct ip_address *source)
{
    for (size_t i = 0; i < server->settings.n_third_parties; i++)
        if (ip_prefix_contains(&server->settings.third_parties[i].source, source))
            return true;
    return false;
}

static void receive_pcp(struct server *server, uint64_t now_ns, const struct datagram *datagram)
{
    struct pcp_request request;
    enum pcp_result result = PCP_RESULT_SUCCESS;
    struct pcp_capabilities capabilities = server->capabilities;
    capabilities.third_party = may_name_others(server, &datagram->source.address);

    switch (pcp_request_decode(datagram->data, datagram->size_bytes, &datagram->source.address,
                               &capabilities, &request, &result)) {
    case PCP_VERDICT_DROP:
        server->counters.n_dropped++;
        return;
    case PCP_VERDICT_ANSWER:
        answer_error(server, now_ns, datagram, result, error_lifetime_s(result), false);
        return;
    case PCP_VERDICT_ACCEPT:
        break;
    }
    if (request.opcode == PCP_OPCODE_MAP)
        map_receive(server, now_ns, datagram, &request);
    else if (request.opcode == PCP_OPCODE_PEER)
        peer_receive(server, now_ns, datagram, &request);
    else
        receive_announce(server, now_ns, datagram);
}

/* [R-6887-8.2-11] [R-6887-A-3] [R-6886-5-1] */
void server_receive(struct server *server, uint64_t now_ns, const struct datagram *datagram)
{
    server->counters.n_requests++;
    if (!rate_limit_permits(&server->rate, now_ns, &datagram->source.address,
                            server->settings.rate_per_s, server->settings.rate_burst)) {
        server->counters.n_limited++;
        server->counters.n_dropped++;
    } else if (!tick_has_room(server)) {
        server->counters.n_overloads++;
        server->counters.n_dropped++;
    } else if (server->settings.natpmp && datagram->size_bytes > 0 && datagram->data[0] == 0) {
        natpmp_receive(server, now_ns, datagram);
    } else {
        receive_pcp(server, now_ns, datagram);
    }
}

/* [R-6887-8.5-4] */
uint64_t epoch_zero_of(const struct server *server, const struct ip_address *client)
{
    const struct subscriber *subscriber = mapping_table_find_subscriber(&server->table, client);
    if (subscriber && subscriber->epoch_zero_ns > server->epoch_zero_ns)
        return subscriber->epoch_zero_ns;
    return server->epoch_zero_ns;
}

/* [R-6887-8.5-1] */
uint32_t epoch_since(uint64_t epoch_zero_ns, uint64_t now_ns)
{
    return now_ns > epoch_zero_ns ? (uint32_t) ((now_ns - epoch_zero_ns) / NS_PER_S) : 0;
}

uint32_t server_epoch_s(const struct server *server, uint64_t now_ns,
                        const struct ip_address *client)
{
    return epoch_since(epoch_zero_of(server, client), now_ns);
}

size_t server_n_own_epochs(const struct server *server)
{
    return server->n_own_epochs;
}

uint64_t server_epoch_zero_ns(const struct server *server)
{
    return server->epoch_zero_ns;
}

const struct server_counters *server_counters(const struct server *server)
{
    return &server->counters;
}

void server_count(const struct server *server, size_t *ret_n_live, size_t *ret_n_held,
                  size_t *ret_n_subscribers)
{
    *ret_n_live = server->table.n_live;
    *ret_n_held = server->table.n_held;
    *ret_n_subscribers = hash_index_count(&server->table.subscribers);
}

struct record_visit {
    int (*visit)(void *context, const struct mapping_record *record);
    void *context;
};

static int visit_record(void *context, struct mapping *mapping)
{
    const struct record_visit *record_visit = context;
    return record_visit->visit(record_visit->context, &mapping->record);
}

int server_for_each_mapping(const struct server *server,
                            int (*visit)(void *context, const struct mapping_record *record),
                            void *context)
{
    struct record_visit record_visit = {.visit = visit, .context = context};
    return mapping_table_for_each(&server->table, visit_record, &record_visit);
}
