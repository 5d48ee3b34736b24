/*
 * One slab object per mapping, sitting in: the key index (live and held), the external index (live and held), the deadline
 * heap, and its subscriber's list. Held mappings keep their key entry, so that their owner can be recognised; lookups for
 * live ones pass them over.
 *
 * External endpoints belong to an internal endpoint, not to one mapping: a MAP and the PEERs of the same internal endpoint
 * share one (RFC 6887 s11.3, s12.3). The pool's bit is taken by the first and given back by the last.
 */

#include "mapping/table.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "base/time.h"

void mapping_table_init(struct mapping_table *table, struct random_source *random,
                        const struct port_range *ranges, size_t n_ranges)
{
    memset(table, 0, sizeof(*table));
    table->subscriber_length_ipv4 = table->subscriber_length_ipv6 = 128;
    random_fill(random, &table->hash_key, sizeof(table->hash_key));
    hash_index_init(&table->by_key);
    hash_index_init(&table->by_external);
    hash_index_init(&table->subscribers);
    deadline_heap_init(&table->deadlines);
    slab_init(&table->mapping_slab, sizeof(struct mapping));
    slab_init(&table->subscriber_slab, sizeof(struct subscriber));
    external_space_init(&table->external, ranges, n_ranges);
}

static int unref_filters(void *context, struct mapping *mapping)
{
    (void) context;
    mapping->record.filters = mapping_filters_unref(mapping->record.filters);
    return 0;
}

void mapping_table_deinit(struct mapping_table *table)
{
    mapping_table_for_each(table, unref_filters, NULL);
    hash_index_deinit(&table->by_key);
    hash_index_deinit(&table->by_external);
    hash_index_deinit(&table->subscribers);
    deadline_heap_deinit(&table->deadlines);
    slab_deinit(&table->mapping_slab);
    slab_deinit(&table->subscriber_slab);
    external_space_deinit(&table->external);
}

struct mapping_key mapping_key_of(const struct mapping_record *record)
{
    return (struct mapping_key){
        .internal_address = record->internal_address,
        .remote_address = record->remote_address,
        .internal_port = record->internal_port,
        .remote_port = record->remote_port,
        .protocol = record->protocol,
        .is_peer = record->kind == MAPPING_KIND_PEER,
        .external_is_ipv4 = ip_address_is_ipv4(&record->external_address),
    };
}

static uint64_t hash_of_key(const struct mapping_table *table, const struct mapping_key *key)
{
    uint8_t octets[40];
    memcpy(octets, key->internal_address.octets, 16);
    memcpy(octets + 16, key->remote_address.octets, 16);
    memcpy(octets + 32, &key->internal_port, 2);
    memcpy(octets + 34, &key->remote_port, 2);
    octets[36] = key->protocol;
    octets[37] = key->is_peer;
    octets[38] = key->external_is_ipv4;
    octets[39] = 0;
    return siphash(&table->hash_key, octets, sizeof(octets));
}

static uint64_t hash_of_external(const struct mapping_table *table,
                                 const struct ip_address *address, uint8_t protocol, uint16_t port)
{
    uint8_t octets[20] = {0};
    memcpy(octets, address->octets, 16);
    memcpy(octets + 16, &port, 2);
    octets[18] = protocol;
    return siphash(&table->hash_key, octets, sizeof(octets));
}

static bool key_matches(const struct mapping_record *record, const struct mapping_key *key)
{
    return record->internal_port == key->internal_port && record->protocol == key->protocol &&
           record->remote_port == key->remote_port &&
           (record->kind == MAPPING_KIND_PEER) == key->is_peer &&
           ip_address_equal(&record->internal_address, &key->internal_address) &&
           ip_address_equal(&record->remote_address, &key->remote_address) &&
           ip_address_is_ipv4(&record->external_address) == key->external_is_ipv4;
}

static bool external_matches(const struct mapping_record *record, const struct ip_address *address,
                             uint8_t protocol, uint16_t port)
{
    return record->external_port == port && record->protocol == protocol &&
           ip_address_equal(&record->external_address, address);
}

static bool same_internal_endpoint(const struct mapping_record *a, const struct mapping_record *b)
{
    return a->internal_port == b->internal_port &&
           ip_address_equal(&a->internal_address, &b->internal_address);
}

struct mapping *mapping_table_find(const struct mapping_table *table, const struct mapping_key *key)
{
    for (struct hash_link *link = hash_index_first(&table->by_key, hash_of_key(table, key)); link;
         link = hash_index_next(link)) {
        struct mapping *mapping = CONTAINER_OF(link, struct mapping, by_key);
        if (mapping->record.state == MAPPING_STATE_LIVE && key_matches(&mapping->record, key))
            return mapping;
    }
    return NULL;
}

struct mapping *mapping_table_find_held(const struct mapping_table *table,
                                        const struct mapping_key *key, const uint8_t *nonce)
{
    for (struct hash_link *link = hash_index_first(&table->by_key, hash_of_key(table, key)); link;
         link = hash_index_next(link)) {
        struct mapping *mapping = CONTAINER_OF(link, struct mapping, by_key);
        if (mapping->record.state != MAPPING_STATE_HELD || !key_matches(&mapping->record, key))
            continue;
        if (mapping->record.has_nonce != (nonce != NULL))
            continue;
        if (!nonce || memcmp(mapping->record.nonce, nonce, MAPPING_NONCE_SIZE) == 0)
            return mapping;
    }
    return NULL;
}

struct mapping *mapping_table_find_record(const struct mapping_table *table,
                                          const struct mapping_record *record)
{
    struct mapping_key key = mapping_key_of(record);
    for (struct hash_link *link = hash_index_first(&table->by_key, hash_of_key(table, &key)); link;
         link = hash_index_next(link)) {
        struct mapping *mapping = CONTAINER_OF(link, struct mapping, by_key);
        if (mapping->record.id == record->id)
            return mapping;
    }
    return NULL;
}

struct mapping *mapping_table_find_external(const struct mapping_table *table,
                                            const struct ip_address *address, uint8_t protocol,
                                            uint16_t port)
{
    uint64_t hash = hash_of_external(table, address, protocol, port);
    for (struct hash_link *link = hash_index_first(&table->by_external, hash); link;
         link = hash_index_next(link)) {
        struct mapping *mapping = CONTAINER_OF(link, struct mapping, by_external);
        if (external_matches(&mapping->record, address, protocol, port))
            return mapping;
    }
    return NULL;
}

struct mapping *mapping_table_next_external(const struct mapping *mapping)
{
    const struct mapping_record *record = &mapping->record;
    for (struct hash_link *link = hash_index_next(&mapping->by_external); link;
         link = hash_index_next(link)) {
        struct mapping *other = CONTAINER_OF(link, struct mapping, by_external);
        if (external_matches(&other->record, &record->external_address, record->protocol,
                             record->external_port))
            return other;
    }
    return NULL;
}

bool mapping_table_external_is_free(struct mapping_table *table, const struct ip_address *address,
                                    uint8_t protocol, uint16_t port)
{
    return external_space_is_free(&table->external, address, protocol, port) &&
           !mapping_table_find_external(table, address, protocol, port);
}

struct ip_prefix mapping_table_subscriber_prefix(const struct mapping_table *table,
                                                 const struct ip_address *address)
{
    uint8_t length =
        ip_address_is_ipv4(address) ? table->subscriber_length_ipv4 : table->subscriber_length_ipv6;
    return (struct ip_prefix){.address = ip_address_mask(address, length), .length = length};
}

struct subscriber *mapping_table_find_subscriber(const struct mapping_table *table,
                                                 const struct ip_address *address)
{
    struct ip_address first = mapping_table_subscriber_prefix(table, address).address;
    uint64_t hash = siphash(&table->hash_key, first.octets, sizeof(first.octets));
    for (struct hash_link *link = hash_index_first(&table->subscribers, hash); link;
         link = hash_index_next(link)) {
        struct subscriber *subscriber = CONTAINER_OF(link, struct subscriber, link);
        if (ip_address_equal(&subscriber->address, &first))
            return subscriber;
    }
    return NULL;
}

static struct subscriber *make_subscriber(struct mapping_table *table,
                                          const struct ip_address *address)
{
    struct subscriber *subscriber = slab_alloc(&table->subscriber_slab);
    if (!subscriber)
        return NULL;
    subscriber->address = mapping_table_subscriber_prefix(table, address).address;
    list_init(&subscriber->mappings);
    list_init(&subscriber->held);
    list_init(&subscriber->of_own_epochs);
    uint64_t hash = siphash(&table->hash_key, subscriber->address.octets, 16);
    if (hash_index_insert(&table->subscribers, &subscriber->link, hash) < 0) {
        slab_free(&table->subscriber_slab, subscriber);
        return NULL;
    }
    return subscriber;
}

struct subscriber *mapping_table_ref_subscriber(struct mapping_table *table,
                                                const struct ip_address *address)
{
    struct subscriber *subscriber = mapping_table_find_subscriber(table, address);
    if (!subscriber)
        subscriber = make_subscriber(table, address);
    if (subscriber)
        subscriber->n_references++;
    return subscriber;
}

void mapping_table_unref_subscriber(struct mapping_table *table, struct subscriber *subscriber)
{
    assert(subscriber->n_references > 0);
    if (--subscriber->n_references > 0)
        return;
    assert(subscriber->n_live == 0 && subscriber->n_held == 0);
    hash_index_remove(&table->subscribers, &subscriber->link);
    slab_free(&table->subscriber_slab, subscriber);
}

/* Another mapping already stands on this external endpoint; `self` does not count. */
static struct mapping *find_sharer(const struct mapping_table *table,
                                   const struct mapping_record *record, const struct mapping *self)
{
    uint64_t hash =
        hash_of_external(table, &record->external_address, record->protocol, record->external_port);
    for (struct hash_link *link = hash_index_first(&table->by_external, hash); link;
         link = hash_index_next(link)) {
        struct mapping *mapping = CONTAINER_OF(link, struct mapping, by_external);
        if (mapping != self && external_matches(&mapping->record, &record->external_address,
                                                record->protocol, record->external_port))
            return mapping;
    }
    return NULL;
}

/* IPv6 mappings keep their address and take no port from anybody; neither do mappings of all ports. */
static bool takes_port(const struct mapping_record *record)
{
    return record->external_port != 0 && ip_address_is_ipv4(&record->external_address);
}

static int acquire_external(struct mapping_table *table, const struct mapping_record *record)
{
    if (!ip_address_is_ipv4(&record->external_address))
        return 0;
    const struct mapping *sharer = find_sharer(table, record, NULL);
    if (sharer)
        return same_internal_endpoint(&sharer->record, record) ? 0 : -EADDRINUSE;
    if (!takes_port(record))
        return 0;
    return external_space_reserve(&table->external, &record->external_address, record->protocol,
                                  record->external_port);
}

/* `self` is out of the external index by now. */
static void release_external(struct mapping_table *table, const struct mapping_record *record)
{
    if (takes_port(record) && !find_sharer(table, record, NULL))
        external_space_release(&table->external, &record->external_address, record->protocol,
                               record->external_port);
}

/* IPv6 mappings are on nobody's external address but their own. */
static int count_external(struct mapping_table *table, const struct mapping_record *record,
                          int change)
{
    if (!ip_address_is_ipv4(&record->external_address))
        return 0;
    return external_space_count(&table->external, &record->external_address, record->protocol,
                                change);
}

static int link_external(struct mapping_table *table, struct mapping *mapping,
                         const struct mapping_record *record)
{
    int r = acquire_external(table, record);
    if (r < 0)
        return r;
    r = count_external(table, record, 1);
    if (r < 0) {
        release_external(table, record);
        return r;
    }
    r = hash_index_insert(&table->by_external, &mapping->by_external,
                          hash_of_external(table, &record->external_address, record->protocol,
                                           record->external_port));
    if (r < 0) {
        (void) !count_external(table, record, -1);
        release_external(table, record);
    }
    return r;
}

static void unlink_external(struct mapping_table *table, struct mapping *mapping)
{
    struct mapping_record record = mapping->record;
    hash_index_remove(&table->by_external, &mapping->by_external);
    (void) !count_external(table, &record,
                           -1); /* its address has an entry, as it was counted there */
    release_external(table, &record);
}

static void charge(struct mapping_table *table, struct mapping *mapping)
{
    struct subscriber *subscriber = mapping->subscriber;
    if (mapping->record.state == MAPPING_STATE_LIVE) {
        list_append(&subscriber->mappings, &mapping->of_subscriber);
        subscriber->n_live++;
        table->n_live++;
    } else {
        list_append(&subscriber->held, &mapping->of_subscriber);
        subscriber->n_held++;
        table->n_held++;
    }
}

static void refund(struct mapping_table *table, struct mapping *mapping)
{
    list_remove(&mapping->of_subscriber);
    if (mapping->record.state == MAPPING_STATE_LIVE) {
        mapping->subscriber->n_live--;
        table->n_live--;
    } else {
        mapping->subscriber->n_held--;
        table->n_held--;
    }
}

static int schedule(struct mapping_table *table, struct mapping *mapping, uint64_t expires_ns)
{
    if (expires_ns == TIME_NEVER) {
        deadline_heap_remove(&table->deadlines, &mapping->deadline);
        return 0;
    }
    return deadline_heap_set(&table->deadlines, &mapping->deadline, expires_ns);
}

static int link_mapping(struct mapping_table *table, struct mapping *mapping,
                        const struct mapping_record *record, const struct mapping_key *key)
{
    int r = link_external(table, mapping, record);
    if (r < 0)
        return r;
    mapping->record = *record;
    r = schedule(table, mapping, record->expires_ns);
    if (r == 0)
        r = hash_index_insert(&table->by_key, &mapping->by_key, hash_of_key(table, key));
    if (r < 0) {
        deadline_heap_remove(&table->deadlines, &mapping->deadline);
        unlink_external(table, mapping);
    }
    return r;
}

int mapping_table_insert(struct mapping_table *table, const struct mapping_record *record,
                         struct mapping **ret_mapping)
{
    struct mapping_key key = mapping_key_of(record);
    if (record->state == MAPPING_STATE_LIVE && mapping_table_find(table, &key))
        return -EEXIST;

    struct subscriber *subscriber = mapping_table_ref_subscriber(table, &record->internal_address);
    if (!subscriber)
        return -ENOMEM;
    struct mapping *mapping = slab_alloc(&table->mapping_slab);
    int r = mapping ? 0 : -ENOMEM;
    if (r == 0) {
        deadline_init(&mapping->deadline);
        r = link_mapping(table, mapping, record, &key);
    }
    if (r < 0) {
        slab_free(&table->mapping_slab, mapping);
        mapping_table_unref_subscriber(table, subscriber);
        return r;
    }
    mapping->record.filters = mapping_filters_ref(record->filters);
    mapping->subscriber = subscriber;
    charge(table, mapping);
    if (ret_mapping)
        *ret_mapping = mapping;
    return 0;
}

static bool external_changes(const struct mapping_record *a, const struct mapping_record *b)
{
    return a->external_port != b->external_port ||
           !ip_address_equal(&a->external_address, &b->external_address);
}

/*
 * Moves to the other endpoint; on failure the old one is kept. The old entry's memory is reused, so putting it back cannot fail:
 * hash_index_insert() allocates nothing once the index has buckets.
 */
static int move_external(struct mapping_table *table, struct mapping *mapping,
                         const struct mapping_record *record)
{
    struct mapping_record old = mapping->record;
    unlink_external(table, mapping);
    int r = link_external(table, mapping, record);
    if (r < 0) {
        int back = link_external(table, mapping, &old);
        assert(back == 0);
        (void) back;
    }
    return r;
}

int mapping_table_update(struct mapping_table *table, struct mapping *mapping,
                         const struct mapping_record *record)
{
    assert(mapping->record.id == record->id);
    if (record->state == MAPPING_STATE_LIVE && mapping->record.state != MAPPING_STATE_LIVE) {
        struct mapping_key key = mapping_key_of(record);
        if (mapping_table_find(table, &key))
            return -EEXIST;
    }
    uint64_t expires_before_ns = mapping->record.expires_ns;
    int r = schedule(table, mapping, record->expires_ns);
    if (r < 0)
        return r;
    if (external_changes(&mapping->record, record)) {
        r = move_external(table, mapping, record);
        if (r < 0) {
            int back = schedule(table, mapping, expires_before_ns);
            assert(back == 0);
            (void) back;
            return r;
        }
    }
    refund(table, mapping);
    const struct mapping_filters *filters = mapping_filters_ref(record->filters);
    mapping_filters_unref(mapping->record.filters);
    mapping->record = *record;
    mapping->record.filters = filters;
    charge(table, mapping);
    return 0;
}

void mapping_table_remove(struct mapping_table *table, struct mapping *mapping)
{
    refund(table, mapping);
    hash_index_remove(&table->by_key, &mapping->by_key);
    unlink_external(table, mapping);
    deadline_heap_remove(&table->deadlines, &mapping->deadline);
    mapping_filters_unref(mapping->record.filters);
    mapping_table_unref_subscriber(table, mapping->subscriber);
    slab_free(&table->mapping_slab, mapping);
}

static int adopt(void *context, struct mapping *mapping)
{
    struct mapping_table *table = context;
    const struct mapping_record *record = &mapping->record;
    if (takes_port(record))
        external_space_adopt(&table->external, &record->external_address, record->protocol,
                             record->external_port);
    return 0;
}

int mapping_table_set_ranges(struct mapping_table *table, const struct port_range *ranges,
                             size_t n_ranges)
{
    int r = external_space_set_ranges(&table->external, ranges, n_ranges);
    if (r < 0)
        return r;
    return mapping_table_for_each(table, adopt, table);
}

static int for_each_link(const struct hash_index *index,
                         int (*visit)(void *context, struct hash_link *link), void *context)
{
    for (size_t which = 0; which < 2; which++) {
        for (size_t i = 0; index->buckets[which] && i < index->n_buckets[which]; i++) {
            for (struct hash_link *link = index->buckets[which][i], *next; link; link = next) {
                next = link->next;
                int r = visit(context, link);
                if (r != 0)
                    return r;
            }
        }
    }
    return 0;
}

struct mapping_visit {
    int (*visit)(void *context, struct mapping *mapping);
    void *context;
};

static int visit_mapping(void *context, struct hash_link *link)
{
    const struct mapping_visit *mapping_visit = context;
    return mapping_visit->visit(mapping_visit->context, CONTAINER_OF(link, struct mapping, by_key));
}

int mapping_table_for_each(const struct mapping_table *table,
                           int (*visit)(void *context, struct mapping *mapping), void *context)
{
    struct mapping_visit mapping_visit = {.visit = visit, .context = context};
    return for_each_link(&table->by_key, visit_mapping, &mapping_visit);
}

static int free_subscriber(void *context, struct hash_link *link)
{
    struct mapping_table *table = context;
    slab_free(&table->subscriber_slab, CONTAINER_OF(link, struct subscriber, link));
    return 0;
}

static void free_subscribers(struct mapping_table *table, struct hash_index *subscribers)
{
    for_each_link(subscribers, free_subscriber, table);
    hash_index_deinit(subscribers);
}

static int ref_new_subscriber(void *context, struct mapping *mapping)
{
    return mapping_table_ref_subscriber(context, &mapping->record.internal_address) ? 0 : -ENOMEM;
}

/* In the order of the list, as held mappings stand in it by age. */
static void move_mappings(struct mapping_table *table, struct list_link *list, uint64_t tick)
{
    while (!list_is_empty(list)) {
        struct mapping *mapping = CONTAINER_OF(list->next, struct mapping, of_subscriber);
        refund(table, mapping);
        mapping->subscriber =
            mapping_table_find_subscriber(table, &mapping->record.internal_address);
        charge(table, mapping);
        if (mapping->subscriber->last_change_tick < tick)
            mapping->subscriber->last_change_tick = tick;
    }
}

static int move_subscriber(void *context, struct hash_link *link)
{
    struct subscriber *subscriber = CONTAINER_OF(link, struct subscriber, link);
    assert(list_is_empty(&subscriber->of_own_epochs));
    move_mappings(context, &subscriber->mappings, subscriber->last_change_tick);
    move_mappings(context, &subscriber->held, subscriber->last_change_tick);
    return 0;
}

int mapping_table_set_subscriber_lengths(struct mapping_table *table, uint8_t length_ipv4,
                                         uint8_t length_ipv6, const struct ip_address *pending,
                                         size_t n_pending)
{
    struct hash_index old = table->subscribers;
    uint8_t old_length_ipv4 = table->subscriber_length_ipv4;
    uint8_t old_length_ipv6 = table->subscriber_length_ipv6;
    hash_index_init(&table->subscribers);
    table->subscriber_length_ipv4 = length_ipv4;
    table->subscriber_length_ipv6 = length_ipv6;

    int r = mapping_table_for_each(table, ref_new_subscriber, table);
    for (size_t i = 0; r == 0 && i < n_pending; i++)
        if (!mapping_table_ref_subscriber(table, &pending[i]))
            r = -ENOMEM;
    if (r < 0) {
        free_subscribers(table, &table->subscribers);
        table->subscribers = old;
        table->subscriber_length_ipv4 = old_length_ipv4;
        table->subscriber_length_ipv6 = old_length_ipv6;
        return r;
    }
    for_each_link(&old, move_subscriber, table);
    free_subscribers(table, &old);
    return 0;
}

struct id_search {
    uint64_t id;
    struct mapping *found;
};

static int match_id(void *context, struct mapping *mapping)
{
    struct id_search *search = context;
    if (mapping->record.id != search->id)
        return 0;
    search->found = mapping;
    return 1;
}

struct mapping *mapping_table_find_id(const struct mapping_table *table, uint64_t id)
{
    struct id_search search = {.id = id};
    mapping_table_for_each(table, match_id, &search);
    return search.found;
}
