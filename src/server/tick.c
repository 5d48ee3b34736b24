/*
 * Ticks: what was decided together is committed together. Each change is made in the table at once, so that the next
 * request sees it, and recorded for the store and the kernel; answers that tell of it wait. If the commit fails, this tick
 * and the one decided on top of it are taken back, newest change first, and every waiting answer becomes an error.
 */

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/time.h"
#include "base/writer.h"
#include "server/internal.h"

/* Where a response has its Epoch (RFC 6887 s7.2, RFC 6886 s3.3). */
#define EPOCH_OFFSET 8
#define NATPMP_EPOCH_OFFSET 4

void tick_init(struct tick *tick)
{
    memset(tick, 0, sizeof(*tick));
    change_set_init(&tick->changes);
}

void reply_batch_deinit(struct reply_batch *batch)
{
    free(batch->replies);
    free(batch->octets);
    memset(batch, 0, sizeof(*batch));
}

void tick_deinit(struct tick *tick)
{
    change_set_deinit(&tick->changes);
    free(tick->epochs);
    reply_batch_deinit(&tick->replies);
}

static void reply_batch_clear(struct reply_batch *batch)
{
    batch->n_replies = 0;
    batch->size_bytes = 0;
}

static void tick_clear(struct tick *tick)
{
    change_set_clear(&tick->changes);
    tick->n_epochs = 0;
    tick->stamp = false;
    tick->has_statics = false;
    reply_batch_clear(&tick->replies);
}

bool tick_has_room(const struct server *server)
{
    return server->deciding->changes.n_items < TICK_CHANGES_MAX &&
           server->deciding->replies.n_replies < TICK_REPLIES_MAX &&
           server->outbox.n_replies < TICK_REPLIES_MAX;
}

bool tick_has_changes(const struct tick *tick)
{
    return tick->changes.n_items > 0 || tick->n_epochs > 0 || tick->stamp;
}

static void *grow(void *array, size_t *n_allocated, size_t n_wanted, size_t item_size_bytes)
{
    if (n_wanted <= *n_allocated)
        return array;
    size_t n = *n_allocated ? *n_allocated : 64;
    while (n < n_wanted)
        n *= 2;
    void *grown = reallocarray(array, n, item_size_bytes);
    if (grown)
        *n_allocated = n;
    return grown;
}

static int append_octets(struct reply_batch *batch, const void *data, size_t size_bytes,
                         size_t *ret_offset)
{
    uint8_t *octets =
        grow(batch->octets, &batch->allocated_bytes, batch->size_bytes + size_bytes, 1);
    if (!octets)
        return -ENOMEM;
    batch->octets = octets;
    memcpy(octets + batch->size_bytes, data, size_bytes);
    *ret_offset = batch->size_bytes;
    batch->size_bytes += size_bytes;
    return 0;
}

int reply_batch_append(struct reply_batch *batch, const struct datagram *request,
                       const void *response, size_t size_bytes, uint8_t result, bool keep_request)
{
    struct reply *replies =
        grow(batch->replies, &batch->n_replies_allocated, batch->n_replies + 1, sizeof(*replies));
    if (!replies)
        return -ENOMEM;
    batch->replies = replies;

    struct reply reply = {
        .from = request->destination,
        .to = request->source,
        .interface_index = request->interface_index,
        .result = result,
        .response_size_bytes = size_bytes,
    };
    int r = append_octets(batch, response, size_bytes, &reply.response_offset);
    if (r == 0 && keep_request) {
        reply.request_size_bytes = request->size_bytes;
        static const uint8_t zeros[REQUEST_ROOM(0)];
        size_t padding = REQUEST_ROOM(request->size_bytes) - request->size_bytes, ignored;
        r = append_octets(batch, request->data, request->size_bytes, &reply.request_offset);
        if (r == 0)
            r = append_octets(batch, zeros, padding, &ignored);
    }
    if (r < 0)
        return r;
    replies[batch->n_replies++] = reply;
    return 0;
}

static void count_reply(struct server *server, uint8_t result)
{
    server->counters.n_responses++;
    server->counters.results[result % SERVER_RESULTS]++;
}

int release_reply(struct server *server, const struct datagram *request, const void *response,
                  size_t size_bytes, uint8_t result)
{
    count_reply(server, result);
    return reply_batch_append(&server->outbox, request, response, size_bytes, result, false);
}

/*
 * A held answer tells the Epoch of the moment it leaves: a client compares it with the time of arrival, and a slow commit must not look
 * like lost state (RFC 6887 s8.5). It goes on from the Epoch it was decided under, even if that was reset since: what it grants
 * may be what was lost.
 */
static void refresh_epoch(const struct reply_batch *batch, const struct reply *reply,
                          uint64_t now_ns)
{
    uint8_t *response = batch->octets + reply->response_offset;
    struct writer writer =
        writer_init(response + (response[0] == 0 ? NATPMP_EPOCH_OFFSET : EPOCH_OFFSET), 4);
    writer_u32(&writer, epoch_since(reply->epoch_zero_ns, now_ns));
}

/* Into the outbox, which takes over the whole batch when it is empty. */
static void release_replies(struct server *server, uint64_t now_ns, struct reply_batch *batch)
{
    for (size_t i = 0; i < batch->n_replies; i++) {
        refresh_epoch(batch, &batch->replies[i], now_ns);
        count_reply(server, batch->replies[i].result);
    }

    if (server->outbox.n_replies == 0) {
        struct reply_batch empty = server->outbox;
        server->outbox = *batch;
        *batch = empty;
        reply_batch_clear(batch);
        return;
    }
    for (size_t i = 0; i < batch->n_replies; i++) {
        const struct reply *reply = &batch->replies[i];
        struct datagram request = {.source = reply->to,
                                   .destination = reply->from,
                                   .interface_index = reply->interface_index};
        if (reply_batch_append(&server->outbox, &request, batch->octets + reply->response_offset,
                               reply->response_size_bytes, reply->result, false) < 0)
            break; /* out of memory: the client asks again */
    }
    reply_batch_clear(batch);
}

static int apply_to_table(struct server *server, struct mapping *before,
                          const struct mapping_record *after, struct mapping **ret_mapping)
{
    if (!before)
        return mapping_table_insert(&server->table, after, ret_mapping);
    if (after) {
        *ret_mapping = before;
        return mapping_table_update(&server->table, before, after);
    }
    mapping_table_remove(&server->table, before);
    return 0;
}

static void pop_change(struct change_set *set)
{
    struct change *last = &set->items[--set->n_items];
    last->before.filters = mapping_filters_unref(last->before.filters);
    last->after.filters = mapping_filters_unref(last->after.filters);
}

int tick_put(struct server *server, struct mapping *before, const struct mapping_record *after,
             struct mapping **ret_mapping)
{
    const struct ip_address address =
        before ? before->record.internal_address : after->internal_address;
    const uint8_t kind = before ? before->record.kind : after->kind;
    struct mapping *mapping = NULL;

    /* Kept alive while its change is on the way, so that answers about it know to wait. */
    struct subscriber *subscriber = mapping_table_ref_subscriber(&server->table, &address);
    if (!subscriber)
        return -ENOMEM;
    int r = change_set_append(&server->deciding->changes, before ? &before->record : NULL, after);
    if (r == 0) {
        r = apply_to_table(server, before, after, &mapping);
        if (r < 0)
            pop_change(&server->deciding->changes);
    }
    if (r < 0) {
        mapping_table_unref_subscriber(&server->table, subscriber);
        return r;
    }
    subscriber->last_change_tick = server->tick_number;
    server->deciding->has_statics |= kind == MAPPING_KIND_STATIC;
    if (ret_mapping)
        *ret_mapping = mapping;
    return 0;
}

static const struct ip_address *changed_subscriber(const struct change *change)
{
    return change->had_before ? &change->before.internal_address : &change->after.internal_address;
}

/* Gives back the references tick_put() took. */
static void unref_subscribers(struct server *server, const struct tick *tick)
{
    for (size_t i = 0; i < tick->changes.n_items; i++) {
        struct subscriber *subscriber = mapping_table_find_subscriber(
            &server->table, changed_subscriber(&tick->changes.items[i]));
        assert(subscriber);
        mapping_table_unref_subscriber(&server->table, subscriber);
    }
}

struct subscriber *set_own_epoch(struct server *server, const struct ip_address *address,
                                 uint64_t epoch_zero_ns)
{
    struct subscriber *subscriber = mapping_table_ref_subscriber(&server->table, address);
    if (!subscriber)
        return NULL;
    if (list_is_empty(&subscriber->of_own_epochs)) {
        list_append(&server->own_epochs, &subscriber->of_own_epochs);
        server->n_own_epochs++;
    } else
        mapping_table_unref_subscriber(&server->table, subscriber);
    if (epoch_zero_ns > subscriber->epoch_zero_ns)
        subscriber->epoch_zero_ns = epoch_zero_ns;
    return subscriber;
}

static int append_epoch(struct tick *tick, const struct store_epoch *epoch)
{
    struct store_epoch *epochs =
        grow(tick->epochs, &tick->n_epochs_allocated, tick->n_epochs + 1, sizeof(*epochs));
    if (!epochs)
        return -ENOMEM;
    tick->epochs = epochs;
    epochs[tick->n_epochs++] = *epoch;
    return 0;
}

int tick_forget_subscriber_epoch(struct server *server, struct subscriber *subscriber)
{
    struct store_epoch removal = {
        .subscriber = mapping_table_subscriber_prefix(&server->table, &subscriber->address)};
    int r = append_epoch(server->deciding, &removal);
    if (r < 0)
        return r;
    subscriber->epoch_zero_ns = 0;
    list_remove(&subscriber->of_own_epochs);
    server->n_own_epochs--;
    mapping_table_unref_subscriber(&server->table, subscriber);
    return 0;
}

int tick_reset_subscriber_epoch(struct server *server, const struct ip_address *address,
                                uint64_t now_ns)
{
    struct subscriber *known = mapping_table_find_subscriber(&server->table, address);
    if (known)
        known->last_change_tick = server->tick_number;
    if (epoch_zero_of(server, address) == now_ns)
        return 0; /* with an earlier change of this moment, or everybody's */
    /* More of them than there can be mappings: one for all. */
    if (server->n_own_epochs >= server->settings.mappings_total) {
        server_reset_epoch(server, now_ns);
        return 0;
    }
    struct store_epoch epoch = {
        .subscriber = mapping_table_subscriber_prefix(&server->table, address),
        .epoch_zero_ns = now_ns,
    };
    int r = append_epoch(server->deciding, &epoch);
    if (r < 0)
        return r;
    struct subscriber *subscriber = set_own_epoch(server, address, now_ns);
    if (!subscriber) {
        server->deciding->n_epochs--;
        return -ENOMEM;
    }
    subscriber->last_change_tick = server->tick_number;
    return 0;
}

static void append_pending(const struct tick *tick, struct ip_address *addresses, size_t *n)
{
    for (size_t i = 0; i < tick->changes.n_items; i++)
        addresses[(*n)++] = *changed_subscriber(&tick->changes.items[i]);
}

int tick_set_subscriber_lengths(struct server *server, uint8_t length_ipv4, uint8_t length_ipv6)
{
    struct mapping_table *table = &server->table;
    size_t n_changes = server->deciding->changes.n_items + server->committing->changes.n_items;
    struct ip_address *pending = calloc(n_changes + 1, sizeof(*pending));
    if (!pending)
        return -ENOMEM;
    size_t n_pending = 0;
    append_pending(server->deciding, pending, &n_pending);
    append_pending(server->committing, pending, &n_pending);
    int r =
        mapping_table_set_subscriber_lengths(table, length_ipv4, length_ipv6, pending, n_pending);
    for (size_t i = 0; r == 0 && i < n_pending; i++)
        mapping_table_find_subscriber(table, &pending[i])->last_change_tick = server->tick_number;
    free(pending);
    return r;
}

/* Something the store must be told that nobody waits for: after a failure it is tried again at intervals. */
static bool is_owing(const struct server *server)
{
    return server->debt.n_items > 0 || server->deciding->n_epochs > 0 || server->deciding->stamp;
}

bool server_wants_commit(const struct server *server, uint64_t now_ns)
{
    if (server->in_flight)
        return false;
    if (server->deciding->changes.n_items > 0 || server->deciding->replies.n_replies > 0)
        return true;
    return is_owing(server) && now_ns >= server->retry_not_before_ns;
}

uint64_t tick_retry_ns(const struct server *server)
{
    return !server->in_flight && is_owing(server) ? server->retry_not_before_ns : TIME_NEVER;
}

/* Static mappings are the configuration's to remember. */
static int append_stored(struct change_set *set, const struct change_set *part)
{
    for (size_t i = 0; i < part->n_items; i++) {
        const struct change *change = &part->items[i];
        const struct mapping_record *any = change->had_before ? &change->before : &change->after;
        int r = 0;
        if (any->kind != MAPPING_KIND_STATIC)
            r = change_set_append(set, change->had_before ? &change->before : NULL,
                                  change->has_after ? &change->after : NULL);
        if (r < 0)
            return r;
    }
    return 0;
}

static int gather_store_changes(struct server *server, struct server_commit *commit)
{
    const struct change_set *changes = &server->committing->changes;
    commit->store.changes = changes->items;
    commit->store.n_changes = changes->n_items;
    if (server->debt.n_items == 0 && !server->committing->has_statics)
        return 0;

    change_set_clear(&server->store_changes);
    int r = append_stored(&server->store_changes, &server->debt);
    if (r == 0)
        r = append_stored(&server->store_changes, changes);
    commit->store.changes = server->store_changes.items;
    commit->store.n_changes = server->store_changes.n_items;
    return r;
}

static void turn_tick(struct server *server)
{
    struct tick *closed = server->deciding;
    server->deciding = server->committing;
    server->committing = closed;
    server->tick_number++;
    server->in_flight = true;
}

bool server_seal(struct server *server, uint64_t now_ns, struct server_commit *ret_commit)
{
    if (!server_wants_commit(server, now_ns))
        return false;
    if (!tick_has_changes(server->deciding) && server->debt.n_items == 0) {
        release_replies(server, now_ns, &server->deciding->replies);
        return false;
    }
    turn_tick(server);
    *ret_commit = (struct server_commit){
        .tick = server->tick_number - 1,
        .clock = {.epoch_zero_ns = server->epoch_zero_ns, .next_id = server->next_id},
        .changes = server->committing->changes.items,
        .n_changes = server->committing->changes.n_items,
    };
    ret_commit->store.epochs = server->committing->epochs;
    ret_commit->store.n_epochs = server->committing->n_epochs;
    ret_commit->store.clock = &ret_commit->clock;
    if (gather_store_changes(server, ret_commit) < 0) {
        server_complete(server, now_ns, SERVER_OUTCOME_STORE_FAILED);
        return false;
    }
    return true;
}

static int take_back(struct server *server, const struct change *change)
{
    if (!change->had_before) {
        struct mapping *mapping = mapping_table_find_record(&server->table, &change->after);
        if (mapping)
            mapping_table_remove(&server->table, mapping);
        return 0;
    }
    if (!change->has_after)
        return mapping_table_insert(&server->table, &change->before, NULL);
    struct mapping *mapping = mapping_table_find_record(&server->table, &change->after);
    return mapping ? mapping_table_update(&server->table, mapping, &change->before) : -ENOENT;
}

/* False when something could not be put back (out of memory): then state is in doubt. */
static bool take_back_tick(struct server *server, const struct tick *tick)
{
    bool whole = true;
    for (size_t i = tick->changes.n_items; i > 0; i--) {
        const struct change *change = &tick->changes.items[i - 1];
        if (take_back(server, change) < 0)
            whole = false;
        if (change->had_before && ip_address_is_ipv4(&change->before.external_address) &&
            !external_space_is_active(&server->table.external, &change->before.external_address))
            server->stranded = true;
        if (maintenance_is_unsettled(server, change))
            server->unsettled = true;
    }
    return whole;
}

/*
 * Over its own request, whose place is long enough: telling of a failure needs no memory.
 */
static void fail_reply(const struct server *server, const struct reply_batch *batch,
                       struct reply *reply, enum pcp_result result)
{
    uint8_t response[PCP_SIZE_MAX];
    uint8_t *request = batch->octets + reply->request_offset;
    int size;
    if (request[0] == 0)
        size = natpmp_encode_failure(request, reply->request_size_bytes, result, response,
                                     sizeof(response));
    else
        size = pcp_response_encode_error(request, reply->request_size_bytes, result,
                                         error_lifetime_s(result), 0, response, sizeof(response));
    /* Only requests that could be decoded are held. */
    assert(size >= 0 && (size_t) size <= REQUEST_ROOM(reply->request_size_bytes));
    memcpy(request, response, (size_t) size);
    reply->result = (uint8_t) result;
    reply->response_offset = reply->request_offset;
    reply->response_size_bytes = (size_t) size;
    reply->epoch_zero_ns = epoch_zero_of(server, &reply->to.address);
}

static void fail_replies(struct server *server, uint64_t now_ns, struct reply_batch *batch,
                         enum pcp_result result)
{
    for (size_t i = 0; i < batch->n_replies; i++)
        fail_reply(server, batch, &batch->replies[i], result);
    release_replies(server, now_ns, batch);
}

/* [R-6887-7.4-4] */
static enum pcp_result result_of(enum server_outcome outcome)
{
    return outcome == SERVER_OUTCOME_KERNEL_FAILED ? PCP_RESULT_NETWORK_FAILURE
                                                   : PCP_RESULT_NO_RESOURCES;
}

/* What the store must still be told after a failure: nothing if it refused, the reverse of the tick if it had taken it. */
static int settle_debt(struct server *server, enum server_outcome outcome)
{
    if (outcome == SERVER_OUTCOME_STORE_FAILED)
        return 0;
    change_set_clear(&server->debt);
    if (outcome == SERVER_OUTCOME_DONE)
        return 0;
    return change_set_append_inverse(&server->debt, &server->committing->changes);
}

/*
 * Epochs once lowered stay lowered, as an Epoch that ran on again would deny the reset that clients have seen. So the store is told
 * with a later tick. Without memory for that the store keeps the
 * older one, and a crash before the next change of that subscriber would let it run on.
 */
static void carry_epochs(struct tick *later, const struct tick *failed)
{
    later->stamp |= failed->stamp;
    struct store_epoch *epochs = grow(later->epochs, &later->n_epochs_allocated,
                                      later->n_epochs + failed->n_epochs, sizeof(*epochs));
    if (!epochs)
        return;
    later->epochs = epochs;
    memmove(epochs + failed->n_epochs, epochs, later->n_epochs * sizeof(*epochs));
    if (failed->n_epochs > 0)
        memcpy(epochs, failed->epochs, failed->n_epochs * sizeof(*epochs));
    later->n_epochs += failed->n_epochs;
}

/* [R-6887-7.3-5] */
static void fail_tick(struct server *server, uint64_t now_ns, enum server_outcome outcome)
{
    bool whole = take_back_tick(server, server->deciding);
    whole &= take_back_tick(server, server->committing);
    unref_subscribers(server, server->deciding);
    unref_subscribers(server, server->committing);
    server->counters.n_commits_failed++;
    server->retry_not_before_ns = now_ns + COMMIT_RETRY_NS;

    enum pcp_result result = result_of(outcome);
    fail_replies(server, now_ns, &server->committing->replies, result);
    fail_replies(server, now_ns, &server->deciding->replies, result);
    change_set_clear(&server->deciding->changes);
    if (outcome == SERVER_OUTCOME_STORE_FAILED)
        carry_epochs(server->deciding, server->committing);
    if (!whole)
        server_reset_epoch(server, now_ns);
}

void server_complete(struct server *server, uint64_t now_ns, enum server_outcome outcome)
{
    assert(server->in_flight);
    bool owed = settle_debt(server, outcome) == 0;

    server->counters.n_commits++;
    server->committed_number = server->tick_number - 1;
    if (outcome == SERVER_OUTCOME_DONE) {
        release_replies(server, now_ns, &server->committing->replies);
        unref_subscribers(server, server->committing);
    } else {
        fail_tick(server, now_ns, outcome);
    }
    tick_clear(server->committing);
    server->in_flight = false;
    if (!owed)
        server_reset_epoch(server, now_ns);
}

size_t server_outbox(struct server *server, const struct datagram **ret_datagrams)
{
    size_t n = server->outbox.n_replies;
    struct datagram *datagrams =
        grow(server->outbox_datagrams, &server->n_outbox_allocated, n, sizeof(*datagrams));
    if (!datagrams && n > 0)
        return 0;
    server->outbox_datagrams = datagrams;
    for (size_t i = 0; i < n; i++) {
        const struct reply *reply = &server->outbox.replies[i];
        datagrams[i] = (struct datagram){
            .source = reply->from,
            .destination = reply->to,
            .interface_index = reply->interface_index,
            .data = server->outbox.octets + reply->response_offset,
            .size_bytes = reply->response_size_bytes,
        };
    }
    *ret_datagrams = datagrams;
    return n;
}

void server_outbox_clear(struct server *server)
{
    reply_batch_clear(&server->outbox);
}
