/*
 * Mappings are kept as the octets a disk would hold, so that every run on this store also runs the
 * record codec, and nothing in here shares a filter list with the engine's thread. A commit first
 * encodes everything, which is all that can fail, and then applies it.
 */

#include "store/memory/memory_store.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash_index.h"
#include "store/record.h"

struct entry {
    struct hash_link link;
    struct entry *next, **previous_next; /* in order of first commit */
    uint64_t id;
    size_t size_bytes;
    uint8_t data[];
};

struct memory_store {
    struct store store;
    struct hash_index by_id;
    struct entry *first, **last_next;
    struct store_epoch *epochs;
    size_t n_epochs;
    struct store_clock clock;
    unsigned int n_commits;
    unsigned int n_failures_left;
    int failure;
};

static struct memory_store *from_store(const struct store *store)
{
    return CONTAINER_OF(store, struct memory_store, store);
}

/* Ids grow by one and are never aimed by anybody: an odd multiplier spreads them well enough. */
static uint64_t hash_id(uint64_t id)
{
    uint64_t hash = id * UINT64_C(0x9e3779b97f4a7c15);

    return hash ^ hash >> 32;
}

static struct entry *find_entry(const struct memory_store *memory, uint64_t id)
{
    struct hash_link *link = hash_index_first(&memory->by_id, hash_id(id));

    for (; link; link = hash_index_next(link)) {
        struct entry *entry = CONTAINER_OF(link, struct entry, link);

        if (entry->id == id)
            return entry;
    }
    return NULL;
}

static void remove_entry(struct memory_store *memory, uint64_t id)
{
    struct entry *entry = find_entry(memory, id);

    if (!entry)
        return;
    hash_index_remove(&memory->by_id, &entry->link);
    *entry->previous_next = entry->next;
    if (entry->next)
        entry->next->previous_next = entry->previous_next;
    else
        memory->last_next = entry->previous_next;
    free(entry);
}

static void append_entry(struct memory_store *memory, struct entry *entry)
{
    /* Bucket arrays exist from the start, so this cannot fail (base/hash_index.h). */
    int r = hash_index_insert(&memory->by_id, &entry->link, hash_id(entry->id));

    assert(r == 0);
    (void) r;
    entry->next = NULL;
    entry->previous_next = memory->last_next;
    *memory->last_next = entry;
    memory->last_next = &entry->next;
}

static int entry_new(const struct mapping_record *record, struct entry **ret_entry)
{
    uint8_t data[STORE_RECORD_SIZE_MAX];
    struct entry *entry;
    int size_bytes;

    size_bytes = store_record_encode_mapping(record, data, sizeof(data));
    if (size_bytes < 0)
        return size_bytes;
    entry = malloc(sizeof(*entry) + (size_t) size_bytes);
    if (!entry)
        return -ENOMEM;
    entry->id = record->id;
    entry->size_bytes = (size_t) size_bytes;
    memcpy(entry->data, data, entry->size_bytes);
    *ret_entry = entry;
    return 0;
}

static void free_entries(struct entry **entries, size_t n_entries)
{
    for (size_t i = 0; i < n_entries; i++)
        free(entries[i]);
    free(entries);
}

/* One entry per change, NULL for removals. */
static int prepare_entries(const struct store_commit *commit, struct entry ***ret_entries)
{
    struct entry **entries = calloc(commit->n_changes + 1, sizeof(*entries));
    int r;

    if (!entries)
        return -ENOMEM;
    for (size_t i = 0; i < commit->n_changes; i++) {
        if (!commit->changes[i].has_after)
            continue;
        r = entry_new(&commit->changes[i].after, &entries[i]);
        if (r < 0) {
            free_entries(entries, i);
            return r;
        }
    }
    *ret_entries = entries;
    return 0;
}

static int reserve_epochs(struct memory_store *memory, size_t n_more)
{
    struct store_epoch *epochs;

    if (n_more == 0)
        return 0;
    epochs = reallocarray(memory->epochs, memory->n_epochs + n_more, sizeof(*epochs));
    if (!epochs)
        return -ENOMEM;
    memory->epochs = epochs;
    return 0;
}

static void put_epoch(struct memory_store *memory, const struct store_epoch *epoch)
{
    size_t i = 0;

    while (i < memory->n_epochs &&
           !ip_prefix_equal(&memory->epochs[i].subscriber, &epoch->subscriber))
        i++;
    if (epoch->epoch_zero_ns == 0) {
        if (i < memory->n_epochs)
            memory->epochs[i] = memory->epochs[--memory->n_epochs];
        return;
    }
    memory->epochs[i] = *epoch;
    if (i == memory->n_epochs)
        memory->n_epochs++;
}

static void apply(struct memory_store *memory, const struct store_commit *commit,
                  struct entry **entries)
{
    for (size_t i = 0; i < commit->n_changes; i++) {
        const struct change *change = &commit->changes[i];

        remove_entry(memory, change->has_after ? change->after.id : change->before.id);
        if (entries[i])
            append_entry(memory, entries[i]);
    }
    for (size_t i = 0; i < commit->n_epochs; i++)
        put_epoch(memory, &commit->epochs[i]);
    memory->clock = *commit->clock;
    memory->n_commits++;
}

static int commit_changes(struct store *store, const struct store_commit *commit)
{
    struct memory_store *memory = from_store(store);
    struct entry **entries;
    int r;

    assert(commit->clock);
    if (memory->n_failures_left > 0) {
        memory->n_failures_left--;
        return memory->failure;
    }
    r = reserve_epochs(memory, commit->n_epochs);
    if (r < 0)
        return r;
    r = prepare_entries(commit, &entries);
    if (r < 0)
        return r;
    apply(memory, commit, entries);
    free(entries);
    return 0;
}

static int load_mappings(const struct memory_store *memory,
                         const struct store_load_handler *handler)
{
    for (const struct entry *entry = memory->first; entry; entry = entry->next) {
        struct mapping_record record;
        int r;

        r = store_record_decode_mapping(entry->data, entry->size_bytes, &record);
        if (r < 0)
            return r;
        r = handler->mapping(handler->context, &record);
        mapping_filters_unref(record.filters);
        if (r != 0)
            return r;
    }
    return 0;
}

static int load(struct store *store, const struct store_load_handler *handler)
{
    struct memory_store *memory = from_store(store);
    int r;

    if (memory->n_commits == 0)
        return -ENODATA;
    r = handler->clock(handler->context, &memory->clock);
    for (size_t i = 0; r == 0 && i < memory->n_epochs; i++)
        r = handler->epoch(handler->context, &memory->epochs[i]);
    return r == 0 ? load_mappings(memory, handler) : r;
}

static void close_memory(struct store *store)
{
    struct memory_store *memory = from_store(store);
    struct entry *entry = memory->first;

    while (entry) {
        struct entry *next = entry->next;

        free(entry);
        entry = next;
    }
    hash_index_deinit(&memory->by_id);
    free(memory->epochs);
    free(memory);
}

static const struct store_operations memory_operations = {
    .load = load,
    .commit = commit_changes,
    .close = close_memory,
};

struct store *memory_store_new(void)
{
    struct memory_store *memory = calloc(1, sizeof(*memory));
    struct hash_link first_use;

    if (!memory)
        return NULL;
    memory->store.operations = &memory_operations;
    memory->last_next = &memory->first;
    hash_index_init(&memory->by_id);
    if (hash_index_insert(&memory->by_id, &first_use, 0) < 0) {
        free(memory);
        return NULL;
    }
    hash_index_remove(&memory->by_id, &first_use);
    return &memory->store;
}

void memory_store_fail_next(struct store *store, unsigned int n, int error)
{
    struct memory_store *memory = from_store(store);

    memory->n_failures_left = n;
    memory->failure = error;
}

size_t memory_store_count(const struct store *store)
{
    return hash_index_count(&from_store(store)->by_id);
}

bool memory_store_contains(const struct store *store, uint64_t id)
{
    return find_entry(from_store(store), id) != NULL;
}

unsigned int memory_store_n_commits(const struct store *store)
{
    return from_store(store)->n_commits;
}
