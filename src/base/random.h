#pragma once

/*
 * Source of random octets, handed to the engines so that a simulator can replay them. Programs use random_system();
 * tests use random_seeded().
 */

#include <stddef.h>
#include <stdint.h>

struct random_source {
    void (*fill)(struct random_source *source, void *ret_data, size_t size_bytes);
    uint64_t state[4]; /* of random_seeded() */
};

/* getrandom(2), buffered; aborts when the kernel has no randomness to give, as nothing safe can be done then. */
struct random_source random_system(void);
/* xoshiro256** from `seed`: deterministic, for tests only. */
struct random_source random_seeded(uint64_t seed);

void random_fill(struct random_source *source, void *ret_data, size_t size_bytes);
uint64_t random_u64(struct random_source *source);
/* Uniform in [0, bound), without modulo bias. `bound` > 0. */
uint64_t random_below(struct random_source *source, uint64_t bound);
