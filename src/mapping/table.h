#pragma once

/*
 * The mapping table: every mapping the server knows, live or held back, with its indices, deadlines, external ports and
 * subscribers. Pure data: it decides nothing and knows no protocol. This module alone touches the indices.
 *
 * A subscriber is who is charged: one internal address, or all addresses of one prefix. Objects are freed when nothing refers
 * to them any more.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/deadline_heap.h"
#include "base/hash_index.h"
#include "base/list.h"
#include "base/random.h"
#include "base/siphash.h"
#include "base/slab.h"
#include "base/util.h"
#include "mapping/external.h"
#include "mapping/record.h"

struct subscriber {
    struct hash_link link;
    struct ip_address address; /* first of its prefix */
    struct list_link mappings; /* live ones, of all its addresses */
    struct list_link held;     /* oldest first */
    uint32_t n_live;
    uint32_t n_held;
    /* Number of the last tick that changed something of this subscriber: answers about it wait for that tick. */
    uint64_t last_change_tick;
    /* Service time at which this subscriber's own Epoch was 0, when it has one later than everybody's. */
    uint64_t epoch_zero_ns;
    struct list_link of_own_epochs; /* of those that have one */
    uint32_t n_references;
};

struct mapping {
    struct mapping_record record;
    struct hash_link by_key;
    struct hash_link by_external;
    struct deadline deadline; /* record.expires_ns */
    struct subscriber *subscriber;
    struct list_link of_subscriber;
};

/* What makes a mapping the same mapping (RFC 6887 s11.3, s12.3). Remote is all zero for MAP. */
struct mapping_key {
    struct ip_address internal_address;
    struct ip_address remote_address;
    uint16_t internal_port;
    uint16_t remote_port;
    uint8_t protocol;
    bool is_peer;
    bool external_is_ipv4;
};

struct mapping_table {
    struct siphash_key hash_key;
    struct hash_index by_key;
    struct hash_index by_external;
    struct hash_index subscribers;
    uint8_t subscriber_length_ipv4, subscriber_length_ipv6; /* of 128 */
    struct deadline_heap deadlines;
    struct slab mapping_slab;
    struct slab subscriber_slab;
    struct external_space external;
    size_t n_live;
    size_t n_held;
};

void mapping_table_init(struct mapping_table *table, struct random_source *random,
                        const struct port_range *ranges, size_t n_ranges);
void mapping_table_deinit(struct mapping_table *table);

struct mapping_key mapping_key_of(const struct mapping_record *record);
/* The live mapping with this key, or NULL. */
struct mapping *mapping_table_find(const struct mapping_table *table,
                                   const struct mapping_key *key);
/* The held one with this key and this nonce (NULL: without nonce), or NULL. */
struct mapping *mapping_table_find_held(const struct mapping_table *table,
                                        const struct mapping_key *key, const uint8_t *nonce);
/* The mapping with the id and key of `record`, whatever else changed since. */
struct mapping *mapping_table_find_record(const struct mapping_table *table,
                                          const struct mapping_record *record);
/* Linear: for the operator. */
struct mapping *mapping_table_find_id(const struct mapping_table *table, uint64_t id);
/* Somebody has this external endpoint, live or held. */
struct mapping *mapping_table_find_external(const struct mapping_table *table,
                                            const struct ip_address *address, uint8_t protocol,
                                            uint16_t port);
/* The next one that has the same external endpoint, or NULL. */
struct mapping *mapping_table_next_external(const struct mapping *mapping);
/* True when (address, protocol, port) could be given to a new mapping now. */
bool mapping_table_external_is_free(struct mapping_table *table, const struct ip_address *address,
                                    uint8_t protocol, uint16_t port);

/*
 * Puts a record in. 0; -EEXIST (a live mapping has that key); -EADDRINUSE (external endpoint taken by another internal one); -ENOMEM;
 * -ENOSPC. Takes its own reference on the filters.
 */
MUST_CHECK int mapping_table_insert(struct mapping_table *table,
                                    const struct mapping_record *record,
                                    struct mapping **ret_mapping);
/*
 * Makes `mapping` equal to `record` (same id and key): expiry, state, external endpoint, filters, nonce, client may differ. 0; -EADDRINUSE, -EEXIST,
 * -ENOMEM with nothing changed.
 */
MUST_CHECK int mapping_table_update(struct mapping_table *table, struct mapping *mapping,
                                    const struct mapping_record *record);
void mapping_table_remove(struct mapping_table *table, struct mapping *mapping);
/* Other external port ranges from now on; what is mapped stays mapped. */
MUST_CHECK int mapping_table_set_ranges(struct mapping_table *table,
                                        const struct port_range *ranges, size_t n_ranges);

/* The prefix that is one subscriber with `address`. */
struct ip_prefix mapping_table_subscriber_prefix(const struct mapping_table *table,
                                                 const struct ip_address *address);
/*
 * Other prefixes are one subscriber from now on: what the old ones have goes over to the new ones. Callers' references are void; the new subscribers
 * carry one for each of `pending` (internal addresses). No subscriber may have an Epoch of its own. 0, or -ENOMEM with nothing changed.
 */
MUST_CHECK int mapping_table_set_subscriber_lengths(struct mapping_table *table,
                                                    uint8_t length_ipv4, uint8_t length_ipv6,
                                                    const struct ip_address *pending,
                                                    size_t n_pending);
/* Of the address or its prefix; NULL when unknown. */
struct subscriber *mapping_table_find_subscriber(const struct mapping_table *table,
                                                 const struct ip_address *address);
/* Finds or makes it, with a reference of the caller's. NULL when out of memory. */
struct subscriber *mapping_table_ref_subscriber(struct mapping_table *table,
                                                const struct ip_address *address);
void mapping_table_unref_subscriber(struct mapping_table *table, struct subscriber *subscriber);

/*
 * Visits every mapping, in no order; the table must not change meanwhile. A non-zero return stops and is returned.
 */
int mapping_table_for_each(const struct mapping_table *table,
                           int (*visit)(void *context, struct mapping *mapping), void *context);
