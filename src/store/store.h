#pragma once

/*
 * Stable storage behind one small interface. A commit is one transaction and one sync: after it returns 0 a power cut
 * loses nothing of it; when it fails nothing of it is there. Commits come from one thread at a time.
 */

#include <stddef.h>
#include <stdint.h>

#include "base/address.h"
#include "base/util.h"
#include "mapping/change.h"
#include "mapping/record.h"

#define STORE_BOOT_ID_SIZE 16

/*
 * The clock record: one sample of the service clock against the machine's clocks, written with every commit, from which
 * the next start works out what time it is (mapping/service_clock.h).
 */
struct store_clock {
    uint8_t boot_id[STORE_BOOT_ID_SIZE]; /* /proc/sys/kernel/random/boot_id */
    uint64_t boottime_ns;                /* CLOCK_BOOTTIME when sampled */
    uint64_t wall_ns;                    /* CLOCK_REALTIME when sampled */
    uint64_t service_ns;                 /* service time when sampled */
    uint64_t epoch_zero_ns;              /* service time at which the Epoch was 0 */
    uint64_t next_id;                    /* first mapping id not yet used */
};

/* An Epoch of its own for one subscriber whose state was lost while the others' was not (RFC 6887 s8.5 permits it). */
struct store_epoch {
    struct ip_prefix subscriber;
    uint64_t epoch_zero_ns;
};

struct store_commit {
    const struct change
        *changes; /* PUT of `after`, or removal of `before.id` when there is no after */
    size_t n_changes;
    const struct store_epoch *epochs; /* upserts by subscriber, removals where epoch_zero_ns is 0 */
    size_t n_epochs;
    const struct store_clock *clock;
};

/*
 * What a load delivers, in no particular order. `filters` of a record belong to the callee, who takes its own reference.
 * A non-zero return stops the load, which then returns it.
 */
struct store_load_handler {
    int (*clock)(void *context, const struct store_clock *clock);
    int (*mapping)(void *context, const struct mapping_record *record);
    int (*epoch)(void *context, const struct store_epoch *epoch);
    void *context;
};

struct store;

struct store_operations {
    /* 0; -ENODATA when the store is new (nothing was ever committed); -EBADMSG when a record is damaged; -errno. */
    int (*load)(struct store *store, const struct store_load_handler *handler);
    /* 0 or -errno (-ENOSPC, -EIO, ...): all or nothing, durable on return. */
    int (*commit)(struct store *store, const struct store_commit *commit);
    void (*close)(struct store *store);
};

struct store {
    const struct store_operations *operations;
};

static inline MUST_CHECK int store_load(struct store *store,
                                        const struct store_load_handler *handler)
{
    return store->operations->load(store, handler);
}

static inline MUST_CHECK int store_commit(struct store *store, const struct store_commit *commit)
{
    return store->operations->commit(store, commit);
}

/* Accepts NULL. */
static inline void store_close(struct store *store)
{
    if (store)
        store->operations->close(store);
}
