/*
 * A small set-associative cache: a source's bucket lives in one of four places; a new source takes the place of the one
 * heard of longest ago, whose bucket would be the fullest anyway. The hash is keyed, so nobody can aim at another's place.
 */

#include "server/rate.h"

#include <string.h>

#include "base/time.h"

void rate_limit_init(struct rate_limit *limit, struct random_source *random)
{
    memset(limit, 0, sizeof(*limit));
    random_fill(random, &limit->key, sizeof(limit->key));
}

static struct rate_bucket *find_bucket(struct rate_limit *limit, uint64_t hash, uint64_t full_ns,
                                       uint64_t now_ns)
{
    struct rate_bucket *set = limit->buckets[(hash >> 1) % RATE_SETS];
    struct rate_bucket *oldest = &set[0];
    for (size_t i = 0; i < RATE_WAYS; i++) {
        if (set[i].source_hash == hash)
            return &set[i];
        if (set[i].updated_ns < oldest->updated_ns)
            oldest = &set[i];
    }
    *oldest = (struct rate_bucket){.source_hash = hash, .updated_ns = now_ns, .credit_ns = full_ns};
    return oldest;
}

/* One network's hosts share an IPv6 /64, but all hosts there are share the link-local one. */
static struct ip_address counted_source(const struct ip_address *source)
{
    return ip_address_is_ipv4(source) || ip_address_is_link_local(source)
               ? *source
               : ip_address_mask(source, 64);
}

/* [R-6887-8.2-11] */
bool rate_limit_permits(struct rate_limit *limit, uint64_t now_ns, const struct ip_address *source,
                        uint32_t rate_per_s, uint32_t burst)
{
    if (rate_per_s == 0)
        return true;
    struct ip_address counted = counted_source(source);
    uint64_t hash = siphash(&limit->key, counted.octets, sizeof(counted.octets)) | 1;
    uint64_t cost_ns = NS_PER_S / rate_per_s;
    uint64_t full_ns = cost_ns * (burst > 0 ? burst : 1);

    struct rate_bucket *bucket = find_bucket(limit, hash, full_ns, now_ns);
    bucket->credit_ns += now_ns - bucket->updated_ns;
    bucket->updated_ns = now_ns;
    if (bucket->credit_ns > full_ns)
        bucket->credit_ns = full_ns;
    if (bucket->credit_ns < cost_ns)
        return false;
    bucket->credit_ns -= cost_ns;
    return true;
}
