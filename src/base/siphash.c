/*
 * SipHash-2-4 as published by Aumasson and Bernstein ("SipHash: a fast short-input PRF", 2012): two
 * compression rounds per eight octets, four at the end, the length in the last octet of the last
 * word.
 */

#include "base/siphash.h"

struct siphash_state {
    uint64_t v0, v1, v2, v3;
};

static uint64_t rotate_left(uint64_t value, unsigned int n_bits)
{
    return value << n_bits | value >> (64 - n_bits);
}

static void mix(struct siphash_state *s)
{
    s->v0 += s->v1;
    s->v2 += s->v3;
    s->v1 = rotate_left(s->v1, 13) ^ s->v0;
    s->v3 = rotate_left(s->v3, 16) ^ s->v2;
    s->v0 = rotate_left(s->v0, 32);
    s->v2 += s->v1;
    s->v0 += s->v3;
    s->v1 = rotate_left(s->v1, 17) ^ s->v2;
    s->v3 = rotate_left(s->v3, 21) ^ s->v0;
    s->v2 = rotate_left(s->v2, 32);
}

static void absorb(struct siphash_state *s, uint64_t word)
{
    s->v3 ^= word;
    mix(s);
    mix(s);
    s->v0 ^= word;
}

static uint64_t load_little_endian(const uint8_t *data, size_t n_octets)
{
    uint64_t word = 0;

    for (size_t i = 0; i < n_octets; i++)
        word |= (uint64_t) data[i] << (8 * i);
    return word;
}

uint64_t siphash(const struct siphash_key *key, const void *data, size_t size_bytes)
{
    struct siphash_state s = {
        .v0 = key->k0 ^ UINT64_C(0x736f6d6570736575),
        .v1 = key->k1 ^ UINT64_C(0x646f72616e646f6d),
        .v2 = key->k0 ^ UINT64_C(0x6c7967656e657261),
        .v3 = key->k1 ^ UINT64_C(0x7465646279746573),
    };
    const uint8_t *octets = data;
    size_t n_left = size_bytes;

    for (; n_left >= 8; n_left -= 8, octets += 8)
        absorb(&s, load_little_endian(octets, 8));
    absorb(&s, (uint64_t) size_bytes << 56 | load_little_endian(octets, n_left));
    s.v2 ^= 0xff;
    for (int i = 0; i < 4; i++)
        mix(&s);
    return s.v0 ^ s.v1 ^ s.v2 ^ s.v3;
}
