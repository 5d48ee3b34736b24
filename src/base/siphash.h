#pragma once

/* SipHash-2-4: the keyed hash for everything that comes from the network, so that nobody outside can aim at one bucket. */

#include <stddef.h>
#include <stdint.h>

struct siphash_key {
    uint64_t k0, k1;
};

uint64_t siphash(const struct siphash_key *key, const void *data, size_t size_bytes);
