/*
 * Two sources behind one call. The system's hands out octets of getrandom(2) from a buffer per
 * thread; octets handed out are wiped, and a forked child starts with an empty buffer, so nothing
 * is ever given twice. The seeded one is xoshiro256** (Blackman and Vigna, 2018), its state filled
 * by splitmix64 from the seed.
 */

#include "base/random.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

/* getrandom(2) fills up to 256 octets without being interrupted. */
#define POOL_SIZE 256

struct pool {
    uint8_t octets[POOL_SIZE];
    size_t n_left;
    pid_t owner;
};

static void fill_from_kernel(uint8_t *data, size_t size_bytes)
{
    while (size_bytes > 0) {
        ssize_t n = getrandom(data, size_bytes, 0);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            abort();
        data += n;
        size_bytes -= (size_t) n;
    }
}

static void fill_system(struct random_source *source, void *ret_data, size_t size_bytes)
{
    static _Thread_local struct pool pool;
    pid_t self = getpid();
    uint8_t *taken;

    (void) source;
    if (size_bytes > POOL_SIZE) {
        fill_from_kernel(ret_data, size_bytes);
        return;
    }
    if (pool.owner != self || pool.n_left < size_bytes) {
        fill_from_kernel(pool.octets, POOL_SIZE);
        pool.n_left = POOL_SIZE;
        pool.owner = self;
    }
    pool.n_left -= size_bytes;
    taken = pool.octets + pool.n_left;
    memcpy(ret_data, taken, size_bytes);
    explicit_bzero(taken, size_bytes);
}

struct random_source random_system(void)
{
    return (struct random_source){.fill = fill_system};
}

static uint64_t rotate_left(uint64_t value, unsigned int n_bits)
{
    return value << n_bits | value >> (64 - n_bits);
}

static uint64_t xoshiro_next(uint64_t *s)
{
    uint64_t result = rotate_left(s[1] * 5, 7) * 9;
    uint64_t shifted = s[1] << 17;

    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= shifted;
    s[3] = rotate_left(s[3], 45);
    return result;
}

static void fill_seeded(struct random_source *source, void *ret_data, size_t size_bytes)
{
    uint8_t *octets = ret_data;

    for (size_t i = 0; i < size_bytes; i += 8) {
        uint64_t word = xoshiro_next(source->state);

        for (size_t j = 0; j < 8 && i + j < size_bytes; j++)
            octets[i + j] = (uint8_t) (word >> (8 * j));
    }
}

static uint64_t splitmix_next(uint64_t *state)
{
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);

    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

struct random_source random_seeded(uint64_t seed)
{
    struct random_source source = {.fill = fill_seeded};

    for (int i = 0; i < 4; i++)
        source.state[i] = splitmix_next(&seed);
    return source;
}

void random_fill(struct random_source *source, void *ret_data, size_t size_bytes)
{
    source->fill(source, ret_data, size_bytes);
}

uint64_t random_u64(struct random_source *source)
{
    uint8_t octets[8];
    uint64_t value = 0;

    /* Octet by octet, so that a seed means the same on every machine. */
    source->fill(source, octets, sizeof(octets));
    for (unsigned int i = 0; i < 8; i++)
        value |= (uint64_t) octets[i] << (8 * i);
    return value;
}

uint64_t random_below(struct random_source *source, uint64_t bound)
{
    uint64_t threshold, value;

    assert(bound > 0);
    /* 2^64 mod bound: values below it would make small results likelier. */
    threshold = -bound % bound;
    do
        value = random_u64(source);
    while (value < threshold);
    return value % bound;
}
