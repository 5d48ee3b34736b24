#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "base/time.h"
#include "mapping/table.h"

/* The allocator can be told to fail, once, at the n-th call from now. */
static unsigned int fail_at;

static bool fails_now(void)
{
    return fail_at > 0 && --fail_at == 0;
}

void *__real_malloc(size_t size_bytes);
void *__real_calloc(size_t n, size_t size_bytes);
void *__real_reallocarray(void *old, size_t n, size_t size_bytes);
void *__wrap_malloc(size_t size_bytes);
void *__wrap_calloc(size_t n, size_t size_bytes);
void *__wrap_reallocarray(void *old, size_t n, size_t size_bytes);

void *__wrap_malloc(size_t size_bytes)
{
    return fails_now() ? NULL : __real_malloc(size_bytes);
}

void *__wrap_calloc(size_t n, size_t size_bytes)
{
    return fails_now() ? NULL : __real_calloc(n, size_bytes);
}

void *__wrap_reallocarray(void *old, size_t n, size_t size_bytes)
{
    return fails_now() ? NULL : __real_reallocarray(old, n, size_bytes);
}

struct fixture {
    struct mapping_table table;
    struct random_source random;
    uint64_t next_id;
};

static const struct port_range ordinary = {1024, 9999};
#define EXTERNAL 0xc6336401

static int setup(void **state)
{
    struct fixture *fixture = calloc(1, sizeof(*fixture));
    struct ip_address external = ip_address_from_ipv4(EXTERNAL);
    if (!fixture)
        return -1;
    fixture->random = random_seeded(11);
    fixture->next_id = 1;
    mapping_table_init(&fixture->table, &fixture->random, &ordinary, 1);
    *state = fixture;
    return external_space_set_active(&fixture->table.external, &external, 1);
}

static int teardown(void **state)
{
    struct fixture *fixture = *state;
    fail_at = 0;
    mapping_table_deinit(&fixture->table);
    free(fixture);
    return 0;
}

static struct mapping_record make_record(struct fixture *fixture, uint32_t host,
                                         uint16_t internal_port, uint16_t external_port)
{
    return (struct mapping_record){
        .id = fixture->next_id++,
        .expires_ns = 100 * NS_PER_S,
        .internal_address = ip_address_from_ipv4(0x0a000000 + host),
        .external_address = ip_address_from_ipv4(EXTERNAL),
        .internal_port = internal_port,
        .external_port = external_port,
        .protocol = IPPROTO_UDP,
        .kind = MAPPING_KIND_MAP,
        .state = MAPPING_STATE_LIVE,
        .has_nonce = true,
    };
}

static struct mapping *insert(struct fixture *fixture, const struct mapping_record *record)
{
    struct mapping *mapping = NULL;
    assert_int_equal(mapping_table_insert(&fixture->table, record, &mapping), 0);
    assert_non_null(mapping);
    return mapping;
}

static struct mapping *find(struct fixture *fixture, const struct mapping_record *record)
{
    struct mapping_key key = mapping_key_of(record);
    return mapping_table_find(&fixture->table, &key);
}

static bool is_free(struct fixture *fixture, uint16_t port)
{
    struct ip_address external = ip_address_from_ipv4(EXTERNAL);
    return mapping_table_external_is_free(&fixture->table, &external, IPPROTO_UDP, port);
}

static size_t n_subscribers(const struct fixture *fixture)
{
    return hash_index_count(&fixture->table.subscribers);
}

static void test_insert_and_remove(void **state)
{
    struct fixture *fixture = *state;
    struct mapping_record record = make_record(fixture, 1, 80, 5000);
    struct mapping *mapping = insert(fixture, &record);

    assert_ptr_equal(find(fixture, &record), mapping);
    assert_ptr_equal(mapping_table_find_id(&fixture->table, record.id), mapping);
    assert_ptr_equal(mapping_table_find_record(&fixture->table, &record), mapping);
    assert_ptr_equal(
        mapping_table_find_external(&fixture->table, &record.external_address, IPPROTO_UDP, 5000),
        mapping);
    assert_false(is_free(fixture, 5000));
    assert_int_equal(fixture->table.n_live, 1);
    assert_int_equal(mapping->subscriber->n_live, 1);
    assert_ptr_equal(deadline_heap_first(&fixture->table.deadlines), &mapping->deadline);

    mapping_table_remove(&fixture->table, mapping);
    assert_null(find(fixture, &record));
    assert_null(mapping_table_find_id(&fixture->table, record.id));
    assert_true(is_free(fixture, 5000));
    assert_int_equal(fixture->table.n_live, 0);
    assert_int_equal(n_subscribers(fixture), 0);
    assert_null(deadline_heap_first(&fixture->table.deadlines));
}

static void test_insert_same_key(void **state)
{
    struct fixture *fixture = *state;
    struct mapping_record record = make_record(fixture, 1, 80, 5000);
    struct mapping_record again = make_record(fixture, 1, 80, 5001);

    insert(fixture, &record);
    assert_int_equal(mapping_table_insert(&fixture->table, &again, NULL), -EEXIST);
    assert_true(is_free(fixture, 5001));
    again.protocol = IPPROTO_TCP;
    insert(fixture, &again);
}

static void test_insert_external_of_another(void **state)
{
    struct fixture *fixture = *state;
    struct mapping_record record = make_record(fixture, 1, 80, 5000);
    struct mapping_record other = make_record(fixture, 2, 80, 5000);

    insert(fixture, &record);
    assert_int_equal(mapping_table_insert(&fixture->table, &other, NULL), -EADDRINUSE);
    assert_int_equal(n_subscribers(fixture), 1);
    other.internal_address = record.internal_address;
    other.internal_port = 81;
    assert_int_equal(mapping_table_insert(&fixture->table, &other, NULL), -EADDRINUSE);
    assert_int_equal(fixture->table.n_live, 1);
}

/* The same holds outside the configured ports, where the pool has no bits. */
static void test_insert_external_outside_ranges_of_another(void **state)
{
    struct fixture *fixture = *state;
    struct mapping_record record = make_record(fixture, 1, 80, 80);
    struct mapping_record other = make_record(fixture, 2, 80, 80);

    struct mapping *mapping = insert(fixture, &record);
    assert_int_equal(mapping_table_insert(&fixture->table, &other, NULL), -EADDRINUSE);
    mapping_table_remove(&fixture->table, mapping);
    insert(fixture, &other);
}

/* RFC 6887 s11.3, s12.3: a MAP and the PEERs of one internal endpoint share its external endpoint. */
static void test_insert_shares_external_of_one_internal_endpoint(void **state)
{
    struct fixture *fixture = *state;
    struct mapping_record map = make_record(fixture, 1, 80, 5000);
    struct mapping_record peer = make_record(fixture, 1, 80, 5000);
    struct mapping_record stranger = make_record(fixture, 2, 80, 5000);

    peer.kind = MAPPING_KIND_PEER;
    peer.remote_address = ip_address_from_ipv4(0x08080808);
    peer.remote_port = 53;
    struct mapping *first = insert(fixture, &map), *second = insert(fixture, &peer);
    assert_ptr_equal(find(fixture, &map), first);
    assert_ptr_equal(find(fixture, &peer), second);
    mapping_table_remove(&fixture->table, first);
    assert_false(is_free(fixture, 5000));
    assert_int_equal(mapping_table_insert(&fixture->table, &stranger, NULL), -EADDRINUSE);
    mapping_table_remove(&fixture->table, second);
    assert_true(is_free(fixture, 5000));
    insert(fixture, &stranger);
}

static void test_update_to_held_and_back(void **state)
{
    struct fixture *fixture = *state;
    struct mapping_record record = make_record(fixture, 1, 80, 5000), held = record;
    uint8_t other_nonce[MAPPING_NONCE_SIZE] = {9};
    struct mapping_key key = mapping_key_of(&record);
    struct mapping *mapping = insert(fixture, &record);

    held.state = MAPPING_STATE_HELD;
    held.expires_ns = 200 * NS_PER_S;
    assert_int_equal(mapping_table_update(&fixture->table, mapping, &held), 0);
    assert_null(find(fixture, &record));
    assert_ptr_equal(mapping_table_find_held(&fixture->table, &key, record.nonce), mapping);
    assert_null(mapping_table_find_held(&fixture->table, &key, other_nonce));
    assert_null(mapping_table_find_held(&fixture->table, &key, NULL));
    assert_false(is_free(fixture, 5000));
    assert_int_equal(fixture->table.n_live, 0);
    assert_int_equal(fixture->table.n_held, 1);
    assert_int_equal(mapping->subscriber->n_held, 1);
    assert_int_equal(deadline_heap_next_ns(&fixture->table.deadlines), 200 * NS_PER_S);

    assert_int_equal(mapping_table_update(&fixture->table, mapping, &record), 0);
    assert_ptr_equal(find(fixture, &record), mapping);
    assert_null(mapping_table_find_held(&fixture->table, &key, record.nonce));
    assert_int_equal(fixture->table.n_live, 1);
    assert_int_equal(fixture->table.n_held, 0);
}

static void test_update_held_to_live_while_another_lives(void **state)
{
    struct fixture *fixture = *state;
    struct mapping_record held = make_record(fixture, 1, 80, 5000), live = held;
    struct mapping_record other = make_record(fixture, 1, 80, 5001);

    held.state = MAPPING_STATE_HELD;
    struct mapping *mapping = insert(fixture, &held);
    insert(fixture, &other);
    assert_int_equal(mapping_table_update(&fixture->table, mapping, &live), -EEXIST);
    assert_true(mapping_record_equal(&mapping->record, &held));
}

static void test_update_external_taken(void **state)
{
    struct fixture *fixture = *state;
    struct mapping_record a = make_record(fixture, 1, 80, 5000), moved = a;
    struct mapping_record b = make_record(fixture, 2, 80, 5001);

    struct mapping *mapping = insert(fixture, &a);
    insert(fixture, &b);
    moved.external_port = 5001;
    moved.expires_ns = 5;
    assert_int_equal(mapping_table_update(&fixture->table, mapping, &moved), -EADDRINUSE);
    assert_true(mapping_record_equal(&mapping->record, &a));
    assert_int_equal(mapping->deadline.at_ns, a.expires_ns);
    assert_false(is_free(fixture, 5000));
    moved.external_port = 5002;
    assert_int_equal(mapping_table_update(&fixture->table, mapping, &moved), 0);
    assert_true(is_free(fixture, 5000));
    assert_false(is_free(fixture, 5002));
    assert_ptr_equal(
        mapping_table_find_external(&fixture->table, &a.external_address, IPPROTO_UDP, 5002),
        mapping);
}

static void test_update_counts_filter_references(void **state)
{
    struct fixture *fixture = *state;
    struct mapping_filter item = {.remote = {ip_address_from_ipv4(0x01020304), 128}};
    const struct mapping_filters *filters = mapping_filters_new(&item, 1);
    struct mapping_record plain = make_record(fixture, 1, 80, 5000), filtered = plain;

    struct mapping *mapping = insert(fixture, &plain);
    filtered.filters = filters;
    assert_int_equal(mapping_table_update(&fixture->table, mapping, &filtered), 0);
    assert_int_equal(filters->n_references, 2);
    assert_int_equal(mapping_table_update(&fixture->table, mapping, &filtered), 0);
    assert_int_equal(filters->n_references, 2);
    assert_int_equal(mapping_table_update(&fixture->table, mapping, &plain), 0);
    assert_int_equal(filters->n_references, 1);
    assert_int_equal(mapping_table_update(&fixture->table, mapping, &filtered), 0);
    mapping_table_remove(&fixture->table, mapping);
    assert_int_equal(filters->n_references, 1);
    mapping_filters_unref(filters);
}

static void test_insert_static_never_expires(void **state)
{
    struct fixture *fixture = *state;
    struct mapping_record record = make_record(fixture, 1, 80, 5000), mortal;

    record.kind = MAPPING_KIND_STATIC;
    record.expires_ns = TIME_NEVER;
    mortal = record;
    mortal.expires_ns = 7;
    struct mapping *mapping = insert(fixture, &record);
    assert_int_equal(deadline_heap_next_ns(&fixture->table.deadlines), TIME_NEVER);
    assert_int_equal(mapping_table_update(&fixture->table, mapping, &mortal), 0);
    assert_int_equal(deadline_heap_next_ns(&fixture->table.deadlines), 7);
    assert_int_equal(mapping_table_update(&fixture->table, mapping, &record), 0);
    assert_int_equal(deadline_heap_next_ns(&fixture->table.deadlines), TIME_NEVER);
}

static void test_set_ranges_adopts_and_keeps(void **state)
{
    struct fixture *fixture = *state;
    struct mapping_record low = make_record(fixture, 1, 80, 80);
    struct mapping_record high = make_record(fixture, 2, 80, 5000);
    struct port_range all = {1, 65535}, none = {60000, 60001};
    struct mapping *first = insert(fixture, &low), *second = insert(fixture, &high);

    assert_int_equal(mapping_table_set_ranges(&fixture->table, &all, 1), 0);
    assert_false(is_free(fixture, 80));
    assert_false(is_free(fixture, 5000));
    assert_true(is_free(fixture, 81));
    assert_int_equal(mapping_table_set_ranges(&fixture->table, &none, 1), 0);
    assert_ptr_equal(find(fixture, &low), first);
    assert_ptr_equal(find(fixture, &high), second);
    mapping_table_remove(&fixture->table, first);
    assert_int_equal(mapping_table_set_ranges(&fixture->table, &all, 1), 0);
    assert_true(is_free(fixture, 80));
    assert_false(is_free(fixture, 5000));
    mapping_table_remove(&fixture->table, second);
    assert_true(is_free(fixture, 5000));
}

static void test_ref_subscriber_outlives_mappings(void **state)
{
    struct fixture *fixture = *state;
    struct mapping_record record = make_record(fixture, 1, 80, 5000);
    struct subscriber *subscriber =
        mapping_table_ref_subscriber(&fixture->table, &record.internal_address);

    assert_non_null(subscriber);
    struct mapping *mapping = insert(fixture, &record);
    assert_ptr_equal(mapping->subscriber, subscriber);
    mapping_table_remove(&fixture->table, mapping);
    assert_ptr_equal(mapping_table_find_subscriber(&fixture->table, &record.internal_address),
                     subscriber);
    mapping_table_unref_subscriber(&fixture->table, subscriber);
    assert_null(mapping_table_find_subscriber(&fixture->table, &record.internal_address));
}

/* A naive list beside the table. */
enum { MODEL_MAX = 400 };
struct model {
    struct mapping_record records[MODEL_MAX];
    size_t n;
};

static bool model_has_live(const struct model *model, const struct mapping_record *record)
{
    for (size_t i = 0; i < model->n; i++)
        if (model->records[i].state == MAPPING_STATE_LIVE && model->records[i].id != record->id &&
            model->records[i].internal_port == record->internal_port &&
            ip_address_equal(&model->records[i].internal_address, &record->internal_address))
            return true;
    return false;
}

static bool model_external_is_of_another(const struct model *model,
                                         const struct mapping_record *record)
{
    for (size_t i = 0; i < model->n; i++)
        if (model->records[i].id != record->id &&
            model->records[i].external_port == record->external_port &&
            (model->records[i].internal_port != record->internal_port ||
             !ip_address_equal(&model->records[i].internal_address, &record->internal_address)))
            return true;
    return false;
}

static struct mapping_record random_record(struct fixture *fixture)
{
    struct random_source *random = &fixture->random;
    struct mapping_record record = make_record(fixture, (uint32_t) random_below(random, 5),
                                               (uint16_t) (1 + random_below(random, 8)),
                                               (uint16_t) (1000 + random_below(random, 60)));
    record.expires_ns = random_below(random, 1000);
    if (random_below(random, 3) == 0)
        record.state = MAPPING_STATE_HELD;
    return record;
}

static void step_insert(struct fixture *fixture, struct model *model)
{
    struct mapping_record record = random_record(fixture);
    int expected = 0;
    if (record.state == MAPPING_STATE_LIVE && model_has_live(model, &record))
        expected = -EEXIST;
    else if (model_external_is_of_another(model, &record))
        expected = -EADDRINUSE;
    assert_int_equal(mapping_table_insert(&fixture->table, &record, NULL), expected);
    if (expected == 0)
        model->records[model->n++] = record;
}

static void step_update(struct fixture *fixture, struct model *model, size_t i)
{
    struct mapping_record record = random_record(fixture);
    struct mapping_record *old = &model->records[i];
    record.id = old->id;
    record.internal_address = old->internal_address;
    record.internal_port = old->internal_port;
    int expected = 0;
    if (record.state == MAPPING_STATE_LIVE && old->state == MAPPING_STATE_HELD &&
        model_has_live(model, &record))
        expected = -EEXIST;
    else if (record.external_port != old->external_port &&
             model_external_is_of_another(model, &record))
        expected = -EADDRINUSE;
    struct mapping *mapping = mapping_table_find_record(&fixture->table, old);
    assert_non_null(mapping);
    assert_int_equal(mapping_table_update(&fixture->table, mapping, &record), expected);
    if (expected == 0)
        *old = record;
    assert_true(mapping_record_equal(&mapping->record, old));
}

static void step_remove(struct fixture *fixture, struct model *model, size_t i)
{
    struct mapping *mapping = mapping_table_find_record(&fixture->table, &model->records[i]);
    assert_non_null(mapping);
    mapping_table_remove(&fixture->table, mapping);
    model->records[i] = model->records[--model->n];
}

static void compare(struct fixture *fixture, const struct model *model)
{
    size_t n_live = 0;
    uint64_t earliest_ns = TIME_NEVER;
    bool taken[1100] = {false};
    for (size_t i = 0; i < model->n; i++) {
        const struct mapping_record *record = &model->records[i];
        const struct mapping *mapping = mapping_table_find_record(&fixture->table, record);
        assert_non_null(mapping);
        assert_true(mapping_record_equal(&mapping->record, record));
        n_live += record->state == MAPPING_STATE_LIVE;
        if (record->state == MAPPING_STATE_LIVE)
            assert_ptr_equal(find(fixture, record), mapping);
        if (record->expires_ns < earliest_ns)
            earliest_ns = record->expires_ns;
        taken[record->external_port] = true;
    }
    assert_int_equal(fixture->table.n_live, n_live);
    assert_int_equal(fixture->table.n_held, model->n - n_live);
    assert_int_equal(hash_index_count(&fixture->table.by_external), model->n);
    assert_int_equal(deadline_heap_next_ns(&fixture->table.deadlines), earliest_ns);
    for (uint16_t port = 1000; port < 1060; port++)
        assert_int_equal(is_free(fixture, port), !taken[port] && port >= 1024);
}

static void test_table_agrees_with_a_model(void **state)
{
    struct fixture *fixture = *state;
    struct model *model = calloc(1, sizeof(*model));

    for (int step = 0; step < 20000; step++) {
        uint64_t what = random_below(&fixture->random, 5);
        size_t i = model->n ? (size_t) random_below(&fixture->random, model->n) : 0;
        if (model->n == 0 || (what < 2 && model->n < MODEL_MAX))
            step_insert(fixture, model);
        else if (what < 4)
            step_update(fixture, model, i);
        else
            step_remove(fixture, model, i);
        if (step % 20 == 0)
            compare(fixture, model);
    }
    while (model->n > 0)
        step_remove(fixture, model, 0);
    compare(fixture, model);
    assert_int_equal(n_subscribers(fixture), 0);
    free(model);
}

/* Whatever allocation fails: -ENOMEM (or success without it), and nothing of it stays. */
static void test_insert_out_of_memory(void **state)
{
    struct fixture *fixture = *state;
    unsigned int n_failures = 0;

    for (unsigned int at = 1; at < 40; at++) {
        /* A fresh table has everything still to allocate. */
        struct random_source random = random_seeded(at);
        struct mapping_table table;
        struct mapping_record record = make_record(fixture, at, 80, 5000);
        mapping_table_init(&table, &random, &ordinary, 1);
        fail_at = at;
        int r = mapping_table_insert(&table, &record, NULL);
        bool failed = fail_at == 0;
        fail_at = 0;
        if (r < 0) {
            assert_true(failed);
            assert_int_equal(r, -ENOMEM);
            n_failures++;
            assert_int_equal(table.n_live, 0);
            assert_int_equal(hash_index_count(&table.by_key), 0);
            assert_int_equal(hash_index_count(&table.by_external), 0);
            assert_int_equal(hash_index_count(&table.subscribers), 0);
            assert_int_equal(deadline_heap_next_ns(&table.deadlines), TIME_NEVER);
            assert_int_equal(mapping_table_insert(&table, &record, NULL), 0);
        }
        assert_int_equal(table.n_live, 1);
        mapping_table_deinit(&table);
    }
    assert_true(n_failures >= 7);
}

/* Moving to an address whose pool cannot be had leaves the mapping where it was. */
static void test_update_out_of_memory(void **state)
{
    struct fixture *fixture = *state;
    struct mapping_record record = make_record(fixture, 1, 80, 5000), moved = record;
    struct mapping *mapping = insert(fixture, &record);

    moved.external_address = ip_address_from_ipv4(EXTERNAL + 1);
    moved.expires_ns = 3;
    fail_at = 1;
    assert_int_equal(mapping_table_update(&fixture->table, mapping, &moved), -ENOMEM);
    fail_at = 0;
    assert_true(mapping_record_equal(&mapping->record, &record));
    assert_int_equal(mapping->deadline.at_ns, record.expires_ns);
    assert_false(is_free(fixture, 5000));
    assert_int_equal(mapping_table_update(&fixture->table, mapping, &moved), 0);
    assert_true(is_free(fixture, 5000));
}

static void test_set_ranges_out_of_memory(void **state)
{
    struct fixture *fixture = *state;
    struct port_range other = {20000, 20001};

    fail_at = 1;
    assert_int_equal(mapping_table_set_ranges(&fixture->table, &other, 1), -ENOMEM);
    fail_at = 0;
    assert_true(is_free(fixture, 5000));
    assert_false(is_free(fixture, 20000));
}

/* All ports of a protocol are one external endpoint, which has one owner, and take no port. */
static void test_insert_all_ports_of_another(void **state)
{
    struct fixture *fixture = *state;
    struct mapping_record record = make_record(fixture, 1, 0, 0);
    struct mapping_record other = make_record(fixture, 2, 0, 0);

    struct mapping *mapping = insert(fixture, &record);
    assert_int_equal(mapping_table_insert(&fixture->table, &other, NULL), -EADDRINUSE);
    assert_true(is_free(fixture, 5000));
    assert_int_equal(external_space_n_mappings(&fixture->table.external, &record.external_address,
                                               record.protocol),
                     1);
    mapping_table_remove(&fixture->table, mapping);
    assert_int_equal(
        external_space_n_mappings(&fixture->table.external, &record.external_address, 0), 0);
    insert(fixture, &other);
}

static struct subscriber *subscriber_of(const struct fixture *fixture, uint32_t host)
{
    struct ip_address address =
        make_record((struct fixture *) fixture, host, 1, 1).internal_address;
    return mapping_table_find_subscriber(&fixture->table, &address);
}

/* Joined and parted again, with what was pending; in the order in which mappings were held. */
static void test_set_subscriber_lengths(void **state)
{
    struct fixture *fixture = *state;
    struct mapping_table *table = &fixture->table;
    struct mapping *held[4];

    for (uint32_t i = 0; i < 4; i++) {
        struct mapping_record record = make_record(fixture, i, 80, (uint16_t) (5000 + i));
        record.state = MAPPING_STATE_HELD;
        held[i] = insert(fixture, &record);
        record = make_record(fixture, i, 81, (uint16_t) (6000 + i));
        insert(fixture, &record);
    }
    struct ip_address pending = held[0]->record.internal_address;
    subscriber_of(fixture, 2)->last_change_tick = 7;
    assert_int_equal(mapping_table_set_subscriber_lengths(table, 120, 64, &pending, 1), 0);
    assert_int_equal(n_subscribers(fixture), 1);
    assert_ptr_equal(subscriber_of(fixture, 3), subscriber_of(fixture, 99));
    assert_int_equal(subscriber_of(fixture, 3)->n_live, 4);
    assert_int_equal(subscriber_of(fixture, 3)->n_held, 4);
    assert_int_equal(subscriber_of(fixture, 3)->n_references, 9);
    assert_int_equal(subscriber_of(fixture, 3)->last_change_tick, 7);
    assert_int_equal(table->n_live, 4);
    assert_int_equal(table->n_held, 4);
    pending.octets[15] ^= 0x80; /* of one who has nothing */
    assert_int_equal(mapping_table_set_subscriber_lengths(table, 128, 128, &pending, 1), 0);
    assert_int_equal(n_subscribers(fixture), 5);
    assert_int_equal(mapping_table_find_subscriber(table, &pending)->n_references, 1);
    for (uint32_t i = 0; i < 4; i++) {
        assert_ptr_equal(held[i]->subscriber, subscriber_of(fixture, i));
        assert_int_equal(subscriber_of(fixture, i)->n_references, 2);
    }
    mapping_table_unref_subscriber(table, mapping_table_find_subscriber(table, &pending));
    assert_int_equal(n_subscribers(fixture), 4);
}

static void test_set_subscriber_lengths_keeps_the_order_of_holds(void **state)
{
    struct fixture *fixture = *state;
    struct mapping *held[5];

    for (uint32_t i = 0; i < 5; i++) {
        struct mapping_record record =
            make_record(fixture, 1, (uint16_t) (80 + i), (uint16_t) (5000 + i));
        record.state = MAPPING_STATE_HELD;
        held[i] = insert(fixture, &record);
    }
    assert_int_equal(mapping_table_set_subscriber_lengths(&fixture->table, 96, 0, NULL, 0), 0);
    const struct list_link *link = &subscriber_of(fixture, 1)->held;
    for (uint32_t i = 0; i < 5; i++) {
        link = link->next;
        assert_ptr_equal(link, &held[i]->of_subscriber);
    }
}

static void test_set_subscriber_lengths_out_of_memory(void **state)
{
    struct fixture *fixture = *state;
    unsigned int n_failures = 0;

    for (uint32_t i = 0; i < 500; i++) {
        struct mapping_record record = make_record(fixture, i, 80, (uint16_t) (2000 + i));
        insert(fixture, &record);
    }
    for (unsigned int at = 1; at < 10; at++) {
        struct subscriber *before = subscriber_of(fixture, 1);
        fail_at = at;
        int r = mapping_table_set_subscriber_lengths(&fixture->table, 128, 127, NULL, 0);
        fail_at = 0;
        if (r == 0)
            break;
        n_failures++;
        assert_int_equal(r, -ENOMEM);
        assert_int_equal(fixture->table.subscriber_length_ipv6, 128);
        assert_int_equal(n_subscribers(fixture), 500);
        assert_ptr_equal(subscriber_of(fixture, 1), before);
        assert_int_equal(before->n_references, 1);
    }
    assert_true(n_failures >= 1);
    assert_int_equal(fixture->table.subscriber_length_ipv6, 127);
    assert_int_equal(n_subscribers(fixture), 500);
    assert_int_equal(fixture->table.n_live, 500);
}

#define TABLE_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TABLE_TEST(test_insert_and_remove),
        TABLE_TEST(test_insert_same_key),
        TABLE_TEST(test_insert_external_of_another),
        TABLE_TEST(test_insert_external_outside_ranges_of_another),
        TABLE_TEST(test_insert_shares_external_of_one_internal_endpoint),
        TABLE_TEST(test_update_to_held_and_back),
        TABLE_TEST(test_update_held_to_live_while_another_lives),
        TABLE_TEST(test_update_external_taken),
        TABLE_TEST(test_update_counts_filter_references),
        TABLE_TEST(test_insert_static_never_expires),
        TABLE_TEST(test_set_ranges_adopts_and_keeps),
        TABLE_TEST(test_ref_subscriber_outlives_mappings),
        TABLE_TEST(test_table_agrees_with_a_model),
        TABLE_TEST(test_insert_out_of_memory),
        TABLE_TEST(test_update_out_of_memory),
        TABLE_TEST(test_set_ranges_out_of_memory),
        TABLE_TEST(test_insert_all_ports_of_another),
        TABLE_TEST(test_set_subscriber_lengths),
        TABLE_TEST(test_set_subscriber_lengths_keeps_the_order_of_holds),
        TABLE_TEST(test_set_subscriber_lengths_out_of_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
