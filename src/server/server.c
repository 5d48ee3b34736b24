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

static void take_settings(struct server *server, const struct server_settings *settings)
{
    server->settings = *settings;
    server->capabilities = (struct pcp_capabilities){
        .map = true,
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
    take_settings(server, settings);
    server->random = random;
    server->next_id = 1;
    list_init(&server->own_epochs);
    server->tick_number = 1;
    mapping_table_init(&server->table, random, settings->external_ports,
                       settings->n_external_ports);
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
    tick_deinit(&server->ticks[0]);
    tick_deinit(&server->ticks[1]);
    change_set_deinit(&server->debt);
    change_set_deinit(&server->store_changes);
    reply_batch_deinit(&server->outbox);
    free(server->outbox_datagrams);
    mapping_table_deinit(&server->table);
    free(server);
}

static bool record_is_sound(const struct mapping_record *record)
{
    if (record->state != MAPPING_STATE_LIVE && record->state != MAPPING_STATE_HELD)
        return false;
    return record->kind == MAPPING_KIND_MAP && ip_address_is_ipv4(&record->internal_address) &&
           ip_address_is_ipv4(&record->external_address) && record->internal_port != 0 &&
           record->external_port != 0 && external_protocol_has_ports(record->protocol);
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

int server_restore_epoch(struct server *server, const struct store_epoch *epoch)
{
    return set_own_epoch(server, &epoch->subscriber.address, epoch->epoch_zero_ns) ? 0 : -ENOMEM;
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
        mapping_table_unref_subscriber(&server->table, subscriber);
    }
}

void server_start(struct server *server, uint64_t epoch_zero_ns, uint64_t next_id)
{
    server->epoch_zero_ns = epoch_zero_ns;
    if (next_id > server->next_id)
        server->next_id = next_id;
    drop_stale_epochs(server);
}

void server_reset_epoch(struct server *server, uint64_t now_ns)
{
    server->epoch_zero_ns = now_ns;
    server->deciding->stamp = true;
    drop_stale_epochs(server);
}

void server_stamp_clock(struct server *server)
{
    server->deciding->stamp = true;
}

static void receive_announce(struct server *server, uint64_t now_ns,
                             const struct datagram *datagram)
{
    struct pcp_response response = {.opcode = PCP_OPCODE_ANNOUNCE};
    answer_success(server, now_ns, datagram, &response, false);
}

void server_receive(struct server *server, uint64_t now_ns, const struct datagram *datagram)
{
    struct pcp_request request;
    enum pcp_result result = PCP_RESULT_SUCCESS;

    server->counters.n_requests++;
    if (!tick_has_room(server)) {
        server->counters.n_overloads++;
        server->counters.n_dropped++;
        return;
    }
    switch (pcp_request_decode(datagram->data, datagram->size_bytes, &datagram->source.address,
                               &server->capabilities, &request, &result)) {
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
    else
        receive_announce(server, now_ns, datagram);
}

int server_set_settings(struct server *server, const struct server_settings *settings)
{
    int r = mapping_table_set_ranges(&server->table, settings->external_ports,
                                     settings->n_external_ports);
    if (r == 0)
        take_settings(server, settings);
    return r;
}

uint64_t epoch_zero_of(const struct server *server, const struct ip_address *client)
{
    const struct subscriber *subscriber = mapping_table_find_subscriber(&server->table, client);
    if (subscriber && subscriber->epoch_zero_ns > server->epoch_zero_ns)
        return subscriber->epoch_zero_ns;
    return server->epoch_zero_ns;
}

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
    size_t n = 0;
    for (const struct list_link *link = server->own_epochs.next; link != &server->own_epochs;
         link = link->next)
        n++;
    return n;
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
