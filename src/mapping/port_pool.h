#pragma once

/*
 * The external ports of one address and one protocol: which are free, and a uniformly random free one in constant time
 * however full the pool is. 8 kB each.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/random.h"

#define PORT_POOL_WORDS 1024 /* 65536 / 64 */
#define PORT_POOL_GROUPS 16

struct port_range {
    uint16_t first, last;
};

/* Ports that may be given out at all: one set for all pools of a protocol. */
struct port_set {
    uint64_t words[PORT_POOL_WORDS];
};

struct port_pool {
    uint64_t free[PORT_POOL_WORDS];
    uint16_t n_free_in_group[PORT_POOL_GROUPS][2]; /* by parity */
    uint32_t n_free[2];
};

void port_set_add(struct port_set *set, struct port_range range);
void port_set_remove(struct port_set *set, uint16_t port);
bool port_set_contains(const struct port_set *set, uint16_t port);

/* All ports of `allowed` free. */
void port_pool_init(struct port_pool *pool, const struct port_set *allowed);
bool port_pool_is_free(const struct port_pool *pool, uint16_t port);
/*
 * Takes a port. False when it was not free; a port outside the allowed set (kept from an earlier configuration) counts as taken
 * from the start and stays so.
 */
bool port_pool_reserve(struct port_pool *pool, uint16_t port);
/* Gives it back, if `allowed` still has it. */
void port_pool_release(struct port_pool *pool, const struct port_set *allowed, uint16_t port);
/* A uniformly random free port of the parity of `like`, of the other parity when there is none. False: the pool is exhausted. */
bool port_pool_pick(const struct port_pool *pool, struct random_source *random, uint16_t like,
                    uint16_t *ret_port);
