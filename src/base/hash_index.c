/*
 * Buckets of singly linked chains, resized incrementally. While a resize is under way both arrays
 * exist: old buckets below `n_migrated` are empty and their entries live in the new array, the
 * others are untouched; so every hash has exactly one bucket at any time and look-ups need not
 * migrate anything. Each insertion and removal moves a few old buckets; a resize is through long
 * before the next one can be due. An array that cannot be allocated is no error as long as there is
 * an old one: chains get longer, and the next insertion tries again.
 */

#include "base/hash_index.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#define N_BUCKETS_MIN 16
/*
 * Old buckets moved per operation. Shrinking must be through before the few entries left are gone
 * too, and can afford it: most buckets are empty then.
 */
#define GROWING_STEP 4
#define SHRINKING_STEP 16
/* Growing above one entry per bucket, shrinking below an eighth: far enough apart never to flap. */
#define SHRINK_RATIO 8
#define SHRINK_FACTOR 4

void hash_index_init(struct hash_index *index)
{
    *index = (struct hash_index){0};
}

void hash_index_deinit(struct hash_index *index)
{
    free(index->buckets[0]);
    free(index->buckets[1]);
    hash_index_init(index);
}

static struct hash_link **find_bucket(const struct hash_index *index, uint64_t hash)
{
    size_t slot = (size_t) hash & (index->n_buckets[0] - 1);

    if (index->buckets[1] && slot < index->n_migrated)
        return &index->buckets[1][(size_t) hash & (index->n_buckets[1] - 1)];
    return &index->buckets[0][slot];
}

static void move_bucket(struct hash_index *index, size_t slot)
{
    struct hash_link *link = index->buckets[0][slot];

    index->buckets[0][slot] = NULL;
    while (link) {
        struct hash_link *next = link->next;
        struct hash_link **bucket =
            &index->buckets[1][(size_t) link->hash & (index->n_buckets[1] - 1)];

        link->next = *bucket;
        *bucket = link;
        link = next;
    }
}

static void migrate_step(struct hash_index *index)
{
    bool is_growing = index->n_buckets[1] > index->n_buckets[0];
    int n_steps = is_growing ? GROWING_STEP : SHRINKING_STEP;

    if (!index->buckets[1])
        return;
    for (int i = 0; i < n_steps && index->n_migrated < index->n_buckets[0]; i++)
        move_bucket(index, index->n_migrated++);
    if (index->n_migrated < index->n_buckets[0])
        return;

    free(index->buckets[0]);
    index->buckets[0] = index->buckets[1];
    index->n_buckets[0] = index->n_buckets[1];
    index->buckets[1] = NULL;
    index->n_buckets[1] = 0;
    index->n_migrated = 0;
}

/* Starts a resize; the old array goes on alone when there is no memory. */
static void start_resize(struct hash_index *index, size_t n_buckets)
{
    struct hash_link **buckets = calloc(n_buckets, sizeof(struct hash_link *));

    if (!buckets)
        return;
    index->buckets[1] = buckets;
    index->n_buckets[1] = n_buckets;
    index->n_migrated = 0;
}

static void resize_if_due(struct hash_index *index)
{
    if (index->buckets[1])
        return;
    if (index->n_entries > index->n_buckets[0])
        start_resize(index, index->n_buckets[0] * 2);
    else if (index->n_buckets[0] >= N_BUCKETS_MIN * SHRINK_FACTOR &&
             index->n_entries < index->n_buckets[0] / SHRINK_RATIO)
        start_resize(index, index->n_buckets[0] / SHRINK_FACTOR);
}

int hash_index_insert(struct hash_index *index, struct hash_link *link, uint64_t hash)
{
    struct hash_link **bucket;

    if (!index->buckets[0]) {
        index->buckets[0] = calloc(N_BUCKETS_MIN, sizeof(struct hash_link *));
        if (!index->buckets[0])
            return -ENOMEM;
        index->n_buckets[0] = N_BUCKETS_MIN;
    }
    bucket = find_bucket(index, hash);
    link->hash = hash;
    link->next = *bucket;
    *bucket = link;
    index->n_entries++;
    resize_if_due(index);
    migrate_step(index);
    return 0;
}

void hash_index_remove(struct hash_index *index, struct hash_link *link)
{
    struct hash_link **place = find_bucket(index, link->hash);

    while (*place != link) {
        assert(*place);
        place = &(*place)->next;
    }
    *place = link->next;
    link->next = NULL;
    index->n_entries--;
    resize_if_due(index);
    migrate_step(index);
}

static struct hash_link *find_hash(struct hash_link *link, uint64_t hash)
{
    while (link && link->hash != hash)
        link = link->next;
    return link;
}

struct hash_link *hash_index_first(const struct hash_index *index, uint64_t hash)
{
    return index->buckets[0] ? find_hash(*find_bucket(index, hash), hash) : NULL;
}

struct hash_link *hash_index_next(const struct hash_link *link)
{
    return find_hash(link->next, link->hash);
}

size_t hash_index_count(const struct hash_index *index)
{
    return index->n_entries;
}
