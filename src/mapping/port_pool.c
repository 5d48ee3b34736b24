/*
 * A bitmap of free ports with counts per group of 4096 and per parity. Picking chooses a rank uniformly among the free
 * ports of a parity and walks to it: at most 16 groups, 64 words, 64 bits, whatever the fill.
 */

#include "mapping/port_pool.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define WORDS_PER_GROUP (PORT_POOL_WORDS / PORT_POOL_GROUPS)

static const uint64_t parity_mask[2] = {UINT64_C(0x5555555555555555), UINT64_C(0xaaaaaaaaaaaaaaaa)};

static uint64_t port_bit(uint16_t port)
{
    return UINT64_C(1) << (port & 63);
}

void port_set_add(struct port_set *set, struct port_range range)
{
    for (uint32_t port = range.first; port <= range.last; port++)
        set->words[port >> 6] |= port_bit((uint16_t) port);
}

void port_set_remove(struct port_set *set, uint16_t port)
{
    set->words[port >> 6] &= ~port_bit(port);
}

bool port_set_contains(const struct port_set *set, uint16_t port)
{
    return set->words[port >> 6] & port_bit(port);
}

void port_pool_init(struct port_pool *pool, const struct port_set *allowed)
{
    memset(pool, 0, sizeof(*pool));
    memcpy(pool->free, allowed->words, sizeof(pool->free));
    for (size_t i = 0; i < PORT_POOL_WORDS; i++) {
        for (size_t parity = 0; parity < 2; parity++) {
            unsigned int n =
                (unsigned int) __builtin_popcountll(pool->free[i] & parity_mask[parity]);
            pool->n_free_in_group[i / WORDS_PER_GROUP][parity] =
                (uint16_t) (pool->n_free_in_group[i / WORDS_PER_GROUP][parity] + n);
            pool->n_free[parity] += n;
        }
    }
}

bool port_pool_is_free(const struct port_pool *pool, uint16_t port)
{
    return pool->free[port >> 6] & port_bit(port);
}

bool port_pool_reserve(struct port_pool *pool, uint16_t port)
{
    if (!port_pool_is_free(pool, port))
        return false;
    pool->free[port >> 6] &= ~port_bit(port);
    pool->n_free_in_group[port >> 12][port & 1]--;
    pool->n_free[port & 1]--;
    return true;
}

void port_pool_release(struct port_pool *pool, const struct port_set *allowed, uint16_t port)
{
    if (!port_set_contains(allowed, port))
        return;
    assert(!port_pool_is_free(pool, port));
    pool->free[port >> 6] |= port_bit(port);
    pool->n_free_in_group[port >> 12][port & 1]++;
    pool->n_free[port & 1]++;
}

static unsigned int nth_set_bit(uint64_t word, uint32_t n)
{
    for (; n > 0; n--)
        word &= word - 1;
    return (unsigned int) __builtin_ctzll(word);
}

bool port_pool_pick(const struct port_pool *pool, struct random_source *random, uint16_t like,
                    uint16_t *ret_port)
{
    size_t parity = like & 1;
    if (pool->n_free[parity] == 0)
        parity ^= 1;
    if (pool->n_free[parity] == 0)
        return false;

    uint32_t rank = (uint32_t) random_below(random, pool->n_free[parity]);
    size_t group = 0;
    while (rank >= pool->n_free_in_group[group][parity])
        rank -= pool->n_free_in_group[group++][parity];

    for (size_t i = group * WORDS_PER_GROUP; i < (group + 1) * WORDS_PER_GROUP; i++) {
        uint64_t word = pool->free[i] & parity_mask[parity];
        uint32_t n = (uint32_t) __builtin_popcountll(word);
        if (rank < n) {
            *ret_port = (uint16_t) (i * 64 + nth_set_bit(word, rank));
            return true;
        }
        rank -= n;
    }
    assert(false && "the counts say there is a free port");
    return false;
}
