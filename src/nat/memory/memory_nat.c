/*
 * Installed mappings are entries in two indices, by id and by external endpoint. An apply that
 * fails half way must leave nothing behind, so it only marks: replaced entries are retired, new
 * ones stay at the end of the list; then either the retired ones or the new ones are freed. Undoing
 * allocates nothing and cannot fail.
 */

#include "nat/memory/memory_nat.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/hash_index.h"
#include "base/list.h"
#include "base/siphash.h"
#include "base/time.h"

struct entry {
    struct hash_link by_id;
    struct hash_link by_external;
    struct list_link link; /* in memory_nat.entries, or in the transaction's list of new ones */
    struct entry *next_retired;
    bool retired;
    uint64_t timeout_ns;
    struct mapping_record record;
};

struct known_flow {
    uint8_t protocol;
    struct endpoint internal, remote, external;
};

struct memory_nat {
    struct nat nat;
    struct hash_index by_id;
    struct hash_index by_external;
    struct list_link entries;
    size_t n_entries;
    uint32_t grace_s;
    bool is_ready; /* reconciled since it was made or flushed */
    unsigned int n_failures;
    int failure;
    struct known_flow *flows;
    size_t n_flows;
    int news[2]; /* a pipe once somebody watches, else -1; an octet in it for each flush */
};

/* What one apply or reconcile has done so far. */
struct transaction {
    struct list_link added;
    struct entry *retired;
};

/* Only tests and the simulator hash here, so a fixed key does. */
static uint64_t hash_of(const void *data, size_t size_bytes)
{
    static const struct siphash_key key = {.k0 = 1, .k1 = 2};

    return siphash(&key, data, size_bytes);
}

static uint64_t hash_external(const struct mapping_record *record)
{
    uint8_t key[19];

    memcpy(key, record->external_address.octets, 16);
    key[16] = record->protocol;
    key[17] = (uint8_t) (record->external_port >> 8);
    key[18] = (uint8_t) record->external_port;
    return hash_of(key, sizeof(key));
}

static struct memory_nat *memory_of(struct nat *nat)
{
    return CONTAINER_OF(nat, struct memory_nat, nat);
}

static const struct memory_nat *const_memory_of(const struct nat *nat)
{
    return (const struct memory_nat *) ((const char *) nat - offsetof(struct memory_nat, nat));
}

static struct entry *find(const struct memory_nat *memory, uint64_t id)
{
    struct hash_link *link = hash_index_first(&memory->by_id, hash_of(&id, sizeof(id)));

    for (; link; link = hash_index_next(link)) {
        struct entry *entry = CONTAINER_OF(link, struct entry, by_id);
        if (!entry->retired && entry->record.id == id)
            return entry;
    }
    return NULL;
}

static bool is_peer(const struct mapping_record *record)
{
    return record->kind == MAPPING_KIND_PEER;
}

/*
 * A MAP and a PEER mapping of one host may share an external endpoint, two PEER mappings when the
 * remotes differ.
 */
static bool collides(const struct mapping_record *a, const struct mapping_record *b)
{
    return a->protocol == b->protocol && a->external_port == b->external_port &&
           ip_address_equal(&a->external_address, &b->external_address) &&
           is_peer(a) == is_peer(b) &&
           (!is_peer(a) || (a->remote_port == b->remote_port &&
                            ip_address_equal(&a->remote_address, &b->remote_address)));
}

static bool external_is_taken(const struct memory_nat *memory, const struct mapping_record *record)
{
    struct hash_link *link = hash_index_first(&memory->by_external, hash_external(record));

    for (; link; link = hash_index_next(link)) {
        struct entry *entry = CONTAINER_OF(link, struct entry, by_external);
        if (!entry->retired && collides(&entry->record, record))
            return true;
    }
    return false;
}

static void discard(struct memory_nat *memory, struct entry *entry)
{
    hash_index_remove(&memory->by_id, &entry->by_id);
    hash_index_remove(&memory->by_external, &entry->by_external);
    list_remove(&entry->link);
    memory->n_entries--;
    mapping_filters_unref(entry->record.filters);
    free(entry);
}

static void retire(struct memory_nat *memory, struct transaction *transaction, uint64_t id)
{
    struct entry *entry = find(memory, id);

    if (!entry)
        return;
    entry->retired = true;
    entry->next_retired = transaction->retired;
    transaction->retired = entry;
}

static uint64_t timeout_of(const struct mapping_record *record, uint32_t grace_s)
{
    return record->expires_ns == TIME_NEVER ? TIME_NEVER : record->expires_ns + grace_s * NS_PER_S;
}

static int insert(struct memory_nat *memory, struct entry *entry)
{
    uint64_t id = entry->record.id;

    if (hash_index_insert(&memory->by_id, &entry->by_id, hash_of(&id, sizeof(id))) < 0)
        return -ENOMEM;
    if (hash_index_insert(&memory->by_external, &entry->by_external,
                          hash_external(&entry->record)) < 0) {
        hash_index_remove(&memory->by_id, &entry->by_id);
        return -ENOMEM;
    }
    return 0;
}

/*
 * A list of our own: the reference count of the given one is for the engine's thread only, and this
 * may be another.
 */
static int copy_filters(const struct mapping_filters *filters,
                        const struct mapping_filters **ret_copy)
{
    const struct mapping_filters *copy = NULL;

    if (filters) {
        copy = mapping_filters_new(filters->items, filters->n_filters);
        if (!copy)
            return -ENOMEM;
    }
    *ret_copy = copy;
    return 0;
}

static int add(struct memory_nat *memory, struct transaction *transaction,
               const struct mapping_record *record, uint32_t grace_s)
{
    struct entry *entry;

    if (external_is_taken(memory, record))
        return -EEXIST;
    entry = calloc(1, sizeof(*entry));
    if (!entry)
        return -ENOMEM;
    entry->record = *record;
    if (copy_filters(record->filters, &entry->record.filters) < 0) {
        free(entry);
        return -ENOMEM;
    }
    if (insert(memory, entry) < 0) {
        mapping_filters_unref(entry->record.filters);
        free(entry);
        return -ENOMEM;
    }
    entry->timeout_ns = timeout_of(record, grace_s);
    list_append(&transaction->added, &entry->link);
    memory->n_entries++;
    return 0;
}

static void transaction_begin(struct transaction *transaction)
{
    list_init(&transaction->added);
    transaction->retired = NULL;
}

static void commit(struct memory_nat *memory, struct transaction *transaction)
{
    while (transaction->retired) {
        struct entry *entry = transaction->retired;
        transaction->retired = entry->next_retired;
        discard(memory, entry);
    }
    while (!list_is_empty(&transaction->added)) {
        struct list_link *link = transaction->added.next;
        list_remove(link);
        list_append(&memory->entries, link);
    }
}

static void roll_back(struct memory_nat *memory, struct transaction *transaction)
{
    /* Before the added ones go: some of them may be on the list of retired ones as well. */
    for (struct entry *entry = transaction->retired; entry; entry = entry->next_retired)
        entry->retired = false;
    while (!list_is_empty(&transaction->added))
        discard(memory, CONTAINER_OF(transaction->added.next, struct entry, link));
}

static int finish(struct memory_nat *memory, struct transaction *transaction, int error)
{
    if (error < 0)
        roll_back(memory, transaction);
    else
        commit(memory, transaction);
    return error;
}

static bool is_failing(struct memory_nat *memory)
{
    if (memory->n_failures == 0)
        return false;
    memory->n_failures--;
    return true;
}

static int apply_change(struct memory_nat *memory, struct transaction *transaction,
                        const struct change *change)
{
    if (change->had_before && change->before.state == MAPPING_STATE_LIVE)
        retire(memory, transaction, change->before.id);
    if (change->has_after && change->after.state == MAPPING_STATE_LIVE)
        return add(memory, transaction, &change->after, memory->grace_s);
    return 0;
}

static int apply(struct nat *nat, const struct change *changes, size_t n_changes, uint64_t now_ns)
{
    struct memory_nat *memory = memory_of(nat);
    struct transaction transaction;
    int error = 0;

    (void) now_ns; /* nothing vanishes by itself here */
    if (is_failing(memory))
        return memory->failure;
    if (!memory->is_ready)
        return -ENOENT;
    transaction_begin(&transaction);
    for (size_t i = 0; i < n_changes && error == 0; i++)
        error = apply_change(memory, &transaction, &changes[i]);
    return finish(memory, &transaction, error);
}

static int cut_flows(struct nat *nat, const struct change *changes, size_t n_changes)
{
    (void) nat; /* there are no flows */
    (void) changes;
    (void) n_changes;
    return 0;
}

static void retire_all(struct memory_nat *memory, struct transaction *transaction)
{
    for (struct list_link *link = memory->entries.next; link != &memory->entries;
         link = link->next) {
        struct entry *entry = CONTAINER_OF(link, struct entry, link);
        entry->retired = true;
        entry->next_retired = transaction->retired;
        transaction->retired = entry;
    }
}

static int reconcile(struct nat *nat, const struct nat_settings *settings,
                     const struct mapping_record *const *records, size_t n_records, uint64_t now_ns)
{
    struct memory_nat *memory = memory_of(nat);
    struct transaction transaction;
    int error = 0;

    (void) now_ns;
    if (is_failing(memory))
        return memory->failure;
    transaction_begin(&transaction);
    retire_all(memory, &transaction);
    for (size_t i = 0; i < n_records && error == 0; i++)
        if (records[i]->state == MAPPING_STATE_LIVE)
            error = add(memory, &transaction, records[i], settings->grace_s);
    error = finish(memory, &transaction, error);
    if (error == 0) {
        memory->grace_s = settings->grace_s;
        memory->is_ready = true;
    }
    return error;
}

static void forget_entries(struct memory_nat *memory)
{
    while (!list_is_empty(&memory->entries))
        discard(memory, CONTAINER_OF(memory->entries.next, struct entry, link));
    memory->is_ready = false;
}

static int remove_all(struct nat *nat)
{
    forget_entries(memory_of(nat));
    return 0;
}

static void close_memory(struct nat *nat)
{
    struct memory_nat *memory = memory_of(nat);

    forget_entries(memory);
    hash_index_deinit(&memory->by_id);
    hash_index_deinit(&memory->by_external);
    free(memory->flows);
    for (size_t i = 0; i < N_ELEMENTS(memory->news); i++)
        if (memory->news[i] >= 0)
            close(memory->news[i]);
    free(memory);
}

static struct known_flow *find_known(const struct memory_nat *memory, uint8_t protocol,
                                     const struct endpoint *internal, const struct endpoint *remote)
{
    for (size_t i = 0; i < memory->n_flows; i++) {
        struct known_flow *flow = &memory->flows[i];
        if (flow->protocol == protocol && endpoint_equal(&flow->internal, internal) &&
            endpoint_equal(&flow->remote, remote))
            return flow;
    }
    return NULL;
}

static int find_flow(struct nat *nat, uint8_t protocol, const struct endpoint *internal,
                     const struct endpoint *remote, struct endpoint *ret_external)
{
    const struct known_flow *flow = find_known(memory_of(nat), protocol, internal, remote);

    if (!flow)
        return -ENOENT;
    *ret_external = flow->external;
    return 0;
}

static int watch(struct nat *nat, int *ret_fd)
{
    struct memory_nat *memory = memory_of(nat);

    if (memory->news[0] < 0 && pipe2(memory->news, O_CLOEXEC | O_NONBLOCK) < 0)
        return -errno;
    *ret_fd = memory->news[0];
    return 0;
}

static bool was_touched(struct nat *nat)
{
    const struct memory_nat *memory = memory_of(nat);
    char news[64];
    bool is_touched = false;

    while (memory->news[0] >= 0 && read(memory->news[0], news, sizeof(news)) > 0)
        is_touched = true;
    return is_touched;
}

static const struct nat_operations operations = {
    .apply = apply,
    .cut_flows = cut_flows,
    .reconcile = reconcile,
    .remove_all = remove_all,
    .find_flow = find_flow,
    .watch = watch,
    .was_touched = was_touched,
    .close = close_memory,
};

struct nat *memory_nat_new(void)
{
    struct memory_nat *memory = calloc(1, sizeof(*memory));

    if (!memory)
        return NULL;
    memory->nat.operations = &operations;
    hash_index_init(&memory->by_id);
    hash_index_init(&memory->by_external);
    list_init(&memory->entries);
    memory->news[0] = memory->news[1] = -1;
    return &memory->nat;
}

void memory_nat_fail_next(struct nat *nat, unsigned int n, int error)
{
    struct memory_nat *memory = memory_of(nat);

    memory->n_failures = n;
    memory->failure = error;
}

void memory_nat_flush(struct nat *nat)
{
    struct memory_nat *memory = memory_of(nat);

    forget_entries(memory);
    /* A full pipe is news enough. */
    if (memory->news[1] >= 0)
        (void) !write(memory->news[1], "", 1);
}

int memory_nat_set_flow(struct nat *nat, uint8_t protocol, const struct endpoint *internal,
                        const struct endpoint *remote, const struct endpoint *external)
{
    struct memory_nat *memory = memory_of(nat);
    struct known_flow *flow = find_known(memory, protocol, internal, remote);

    if (flow && !external) {
        *flow = memory->flows[--memory->n_flows];
    } else if (flow) {
        flow->external = *external;
    } else if (external) {
        flow = reallocarray(memory->flows, memory->n_flows + 1, sizeof(*flow));
        if (!flow)
            return -ENOMEM;
        memory->flows = flow;
        memory->flows[memory->n_flows++] = (struct known_flow){
            .protocol = protocol, .internal = *internal, .remote = *remote, .external = *external};
    }
    return 0;
}

size_t memory_nat_count(const struct nat *nat)
{
    return const_memory_of(nat)->n_entries;
}

bool memory_nat_contains(const struct nat *nat, const struct mapping_record *record)
{
    const struct entry *entry = find(const_memory_of(nat), record->id);
    const struct mapping_record *found = entry ? &entry->record : NULL;

    return found && found->protocol == record->protocol &&
           found->internal_port == record->internal_port &&
           found->external_port == record->external_port &&
           found->remote_port == record->remote_port &&
           ip_address_equal(&found->internal_address, &record->internal_address) &&
           ip_address_equal(&found->external_address, &record->external_address) &&
           ip_address_equal(&found->remote_address, &record->remote_address) &&
           mapping_filters_equal(found->filters, record->filters);
}

uint64_t memory_nat_timeout_ns(const struct nat *nat, uint64_t id)
{
    const struct entry *entry = find(const_memory_of(nat), id);

    return entry ? entry->timeout_ns : 0;
}
