#pragma once

/*
 * Intrusive hash index: objects embed a hash_link, the index holds buckets of chains. It grows and shrinks a few
 * buckets per operation, so no single insertion pays for a rehash of a million entries. Lookups pass the hash and walk
 * candidates with equal hash:
 *
 *     for (struct hash_link *link = hash_index_first(&index, hash); link; link = hash_index_next(link))
 *         if (equal(CONTAINER_OF(link, struct thing, link), key)) ...
 *
 * An insertion or removal may move any entry, so a walk must not go on behind one.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct hash_link {
    struct hash_link *next;
    uint64_t hash;
};

struct hash_index {
    struct hash_link **buckets[2]; /* [1] is the table being migrated to, or NULL */
    size_t n_buckets[2];           /* powers of two */
    size_t n_migrated;             /* buckets of [0] already moved */
    size_t n_entries;
};

void hash_index_init(struct hash_index *index);
/* Frees the buckets; the objects are the caller's. */
void hash_index_deinit(struct hash_index *index);
/* 0, or -ENOMEM (nothing inserted). */
int hash_index_insert(struct hash_index *index, struct hash_link *link, uint64_t hash)
    __attribute__((warn_unused_result));
/* `link` must be in the index. Never fails. */
void hash_index_remove(struct hash_index *index, struct hash_link *link);
/* First entry whose full hash equals `hash`, or NULL. */
struct hash_link *hash_index_first(const struct hash_index *index, uint64_t hash);
/* Next entry with the same full hash, or NULL. */
struct hash_link *hash_index_next(const struct hash_link *link);
size_t hash_index_count(const struct hash_index *index);
