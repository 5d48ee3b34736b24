#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/hash_index.h"
#include "base/random.h"
#include "base/util.h"

#define N_OBJECTS 3000

struct thing {
    struct hash_link link;
    uint64_t hash;
    bool is_in;
};

static bool allocation_fails;

/* The linker puts these in calloc's place (tests/unit/base/meson.build). */
void *__real_calloc(size_t n, size_t size_bytes);
void *__wrap_calloc(size_t n, size_t size_bytes);

void *__wrap_calloc(size_t n, size_t size_bytes)
{
    return allocation_fails ? NULL : __real_calloc(n, size_bytes);
}

static size_t count_matches(const struct hash_index *index, uint64_t hash,
                            const struct hash_link *wanted, bool *ret_found)
{
    size_t n = 0;

    *ret_found = false;
    for (struct hash_link *link = hash_index_first(index, hash); link;
         link = hash_index_next(link)) {
        assert_int_equal(link->hash, hash);
        *ret_found = *ret_found || link == wanted;
        n++;
    }
    return n;
}

static void check_all(const struct hash_index *index, const struct thing *things, size_t n_in)
{
    assert_int_equal(hash_index_count(index), n_in);
    for (size_t i = 0; i < N_OBJECTS; i++) {
        bool found;

        count_matches(index, things[i].hash, &things[i].link, &found);
        assert_int_equal(found, things[i].is_in);
    }
}

static size_t toggle(struct hash_index *index, struct thing *thing, size_t n_in)
{
    if (thing->is_in) {
        hash_index_remove(index, &thing->link);
        thing->is_in = false;
        return n_in - 1;
    }
    assert_int_equal(hash_index_insert(index, &thing->link, thing->hash), 0);
    thing->is_in = true;
    return n_in + 1;
}

/*
 * Fills and empties in waves, so that growing and shrinking are both crossed, at every state of
 * migration.
 */
static void run_waves(uint64_t seed, uint64_t n_hashes)
{
    static struct thing things[N_OBJECTS];
    struct random_source random = random_seeded(seed);
    struct hash_index index;
    size_t n_in = 0;

    hash_index_init(&index);
    for (size_t i = 0; i < N_OBJECTS; i++)
        things[i] = (struct thing){.hash = random_below(&random, n_hashes)};
    for (int step = 0; step < 40000; step++) {
        bool is_filling = step / 8000 % 2 == 0;
        struct thing *thing = &things[random_below(&random, N_OBJECTS)];
        bool found;

        if (thing->is_in == is_filling && random_below(&random, 8) > 0)
            continue;
        n_in = toggle(&index, thing, n_in);
        count_matches(&index, thing->hash, &thing->link, &found);
        assert_int_equal(found, thing->is_in);
        if (step % 400 == 0)
            check_all(&index, things, n_in);
    }
    check_all(&index, things, n_in);
    hash_index_deinit(&index);
}

static void test_hash_index_random_waves_match_model(void **state)
{
    (void) state;
    for (uint64_t seed = 1; seed <= 3; seed++)
        run_waves(seed, UINT64_MAX);
}

static void test_hash_index_random_waves_with_equal_hashes(void **state)
{
    (void) state;
    run_waves(4, 100);
}

static void test_hash_index_first_when_empty(void **state)
{
    struct hash_index index;

    (void) state;
    hash_index_init(&index);
    assert_null(hash_index_first(&index, 0));
    assert_int_equal(hash_index_count(&index), 0);
    hash_index_deinit(&index);
}

static void test_hash_index_next_finds_each_duplicate_once(void **state)
{
    struct hash_link links[40];
    struct hash_index index;
    bool found;

    (void) state;
    hash_index_init(&index);
    for (size_t i = 0; i < N_ELEMENTS(links); i++)
        assert_int_equal(hash_index_insert(&index, &links[i], i % 2 ? 5 : 5 + (UINT64_C(1) << 40)),
                         0);
    for (size_t i = 0; i < N_ELEMENTS(links); i++) {
        assert_int_equal(count_matches(&index, links[i].hash, &links[i], &found), 20);
        assert_true(found);
    }
    hash_index_deinit(&index);
}

static void test_hash_index_insert_grows_and_remove_shrinks(void **state)
{
    struct thing *things = calloc(10000, sizeof(*things));
    struct random_source random = random_seeded(7);
    struct hash_index index;

    (void) state;
    hash_index_init(&index);
    for (size_t i = 0; i < 10000; i++)
        assert_int_equal(hash_index_insert(&index, &things[i].link, random_u64(&random)), 0);
    assert_true(index.n_buckets[0] >= 5000 && index.n_buckets[0] <= 16384);
    for (size_t i = 0; i < 10000; i++)
        hash_index_remove(&index, &things[i].link);
    assert_int_equal(hash_index_count(&index), 0);
    assert_true(index.n_buckets[0] <= 64);
    hash_index_deinit(&index);
    free(things);
}

static void test_hash_index_insert_without_any_memory(void **state)
{
    struct hash_link link;
    struct hash_index index;

    (void) state;
    hash_index_init(&index);
    allocation_fails = true;
    assert_int_equal(hash_index_insert(&index, &link, 1), -ENOMEM);
    assert_int_equal(hash_index_count(&index), 0);
    assert_null(hash_index_first(&index, 1));
    allocation_fails = false;
    assert_int_equal(hash_index_insert(&index, &link, 1), 0);
    assert_ptr_equal(hash_index_first(&index, 1), &link);
    hash_index_deinit(&index);
}

static void test_hash_index_insert_goes_on_when_growing_fails(void **state)
{
    static struct hash_link links[500];
    struct hash_index index;
    size_t n_buckets;

    (void) state;
    hash_index_init(&index);
    assert_int_equal(hash_index_insert(&index, &links[0], 0), 0);
    n_buckets = index.n_buckets[0];
    allocation_fails = true;
    for (uint64_t i = 1; i < N_ELEMENTS(links) - 1; i++)
        assert_int_equal(hash_index_insert(&index, &links[i], i), 0);
    allocation_fails = false;
    assert_int_equal(index.n_buckets[0], n_buckets);
    assert_int_equal(
        hash_index_insert(&index, &links[N_ELEMENTS(links) - 1], N_ELEMENTS(links) - 1), 0);
    assert_true(index.n_buckets[1] > n_buckets);
    for (uint64_t i = 0; i < N_ELEMENTS(links); i++)
        assert_ptr_equal(hash_index_first(&index, i), &links[i]);
    hash_index_deinit(&index);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hash_index_random_waves_match_model),
        cmocka_unit_test(test_hash_index_random_waves_with_equal_hashes),
        cmocka_unit_test(test_hash_index_first_when_empty),
        cmocka_unit_test(test_hash_index_next_finds_each_duplicate_once),
        cmocka_unit_test(test_hash_index_insert_grows_and_remove_shrinks),
        cmocka_unit_test(test_hash_index_insert_without_any_memory),
        cmocka_unit_test(test_hash_index_insert_goes_on_when_growing_fails),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
