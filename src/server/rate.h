#pragma once

/* Requests per second and source address, in bounded memory: a token bucket for each of the sources seen most recently. */

#include <stdbool.h>
#include <stdint.h>

#include "base/address.h"
#include "base/random.h"
#include "base/siphash.h"

#define RATE_SETS 1024
#define RATE_WAYS 4

struct rate_bucket {
    uint64_t source_hash; /* 0: unused */
    uint64_t updated_ns;
    uint64_t credit_ns; /* time saved up: each request costs 1 s / rate */
};

struct rate_limit {
    struct siphash_key key;
    struct rate_bucket buckets[RATE_SETS][RATE_WAYS];
};

void rate_limit_init(struct rate_limit *limit, struct random_source *random);
/* False: the source has had its share. `rate_per_s` 0: always true. IPv6 sources count by /64, link-local ones singly. */
bool rate_limit_permits(struct rate_limit *limit, uint64_t now_ns, const struct ip_address *source,
                        uint32_t rate_per_s, uint32_t burst);
