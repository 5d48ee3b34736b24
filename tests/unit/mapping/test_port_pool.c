#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "mapping/port_pool.h"

struct fixture {
    struct port_set allowed;
    struct port_pool pool;
    struct random_source random;
};

static void allow(struct fixture *fixture, uint16_t first, uint16_t last)
{
    memset(fixture, 0, sizeof(*fixture));
    fixture->random = random_seeded(7);
    port_set_add(&fixture->allowed, (struct port_range){first, last});
    port_pool_init(&fixture->pool, &fixture->allowed);
}

static void test_port_set_add_includes_both_ends(void **state)
{
    (void) state;
    struct fixture fixture;

    allow(&fixture, 1000, 65535);
    assert_false(port_set_contains(&fixture.allowed, 999));
    assert_true(port_set_contains(&fixture.allowed, 1000));
    assert_true(port_set_contains(&fixture.allowed, 65535));
    assert_false(port_set_contains(&fixture.allowed, 0));
    port_set_remove(&fixture.allowed, 1000);
    assert_false(port_set_contains(&fixture.allowed, 1000));
    assert_true(port_set_contains(&fixture.allowed, 1001));
}

static void test_port_pool_reserve_taken_and_outside(void **state)
{
    (void) state;
    struct fixture fixture;

    allow(&fixture, 1000, 1999);
    assert_true(port_pool_is_free(&fixture.pool, 1500));
    assert_true(port_pool_reserve(&fixture.pool, 1500));
    assert_false(port_pool_is_free(&fixture.pool, 1500));
    assert_false(port_pool_reserve(&fixture.pool, 1500));
    assert_false(port_pool_reserve(&fixture.pool, 2000));
    port_pool_release(&fixture.pool, &fixture.allowed, 2000);
    assert_false(port_pool_is_free(&fixture.pool, 2000));
    port_pool_release(&fixture.pool, &fixture.allowed, 1500);
    assert_true(port_pool_is_free(&fixture.pool, 1500));
    assert_int_equal(fixture.pool.n_free[0] + fixture.pool.n_free[1], 1000);
}

/* A port taken before the set shrank is not given back into the pool. */
static void test_port_pool_release_no_longer_allowed(void **state)
{
    (void) state;
    struct fixture fixture;

    allow(&fixture, 1000, 1003);
    assert_true(port_pool_reserve(&fixture.pool, 1001));
    port_set_remove(&fixture.allowed, 1001);
    port_pool_release(&fixture.pool, &fixture.allowed, 1001);
    assert_false(port_pool_is_free(&fixture.pool, 1001));
    assert_int_equal(fixture.pool.n_free[0], 2);
    assert_int_equal(fixture.pool.n_free[1], 1);
}

static void test_port_pool_pick_keeps_parity_while_it_can(void **state)
{
    (void) state;
    struct fixture fixture;
    uint16_t port;

    allow(&fixture, 1000, 1009);
    for (int i = 0; i < 5; i++) {
        assert_true(port_pool_pick(&fixture.pool, &fixture.random, 40001, &port));
        assert_int_equal(port & 1, 1);
        assert_true(port_pool_reserve(&fixture.pool, port));
    }
    for (int i = 0; i < 5; i++) {
        assert_true(port_pool_pick(&fixture.pool, &fixture.random, 40001, &port));
        assert_int_equal(port & 1, 0);
        assert_true(port_pool_reserve(&fixture.pool, port));
    }
    assert_false(port_pool_pick(&fixture.pool, &fixture.random, 40001, &port));
    assert_false(port_pool_pick(&fixture.pool, &fixture.random, 40000, &port));
}

static void test_port_pool_pick_empty_set(void **state)
{
    (void) state;
    struct port_set none = {0};
    struct port_pool pool;
    struct random_source random = random_seeded(1);
    uint16_t port;

    port_pool_init(&pool, &none);
    assert_false(port_pool_pick(&pool, &random, 0, &port));
}

/* Chi-square over 64 buckets of 512 free ports that lie unevenly; 63 degrees of freedom, so 130 is beyond one in a million. */
static void test_port_pool_pick_is_uniform(void **state)
{
    (void) state;
    struct fixture fixture;
    enum { N_PICKS = 64000, N_BUCKETS = 64 };
    static uint32_t rank_of[65536];
    unsigned int counts[N_BUCKETS] = {0};
    uint32_t n_free = 0;

    allow(&fixture, 1, 65535);
    for (uint32_t port = 1; port <= 65535; port++) {
        bool keep = port % 2 == 1 && (port < 600 || (port > 30000 && port < 30300) || port > 65000);
        if (!keep)
            assert_true(port_pool_reserve(&fixture.pool, (uint16_t) port));
        else
            rank_of[port] = n_free++;
    }
    assert_int_equal(fixture.pool.n_free[1], n_free);
    for (int i = 0; i < N_PICKS; i++) {
        uint16_t port;
        assert_true(port_pool_pick(&fixture.pool, &fixture.random, 1, &port));
        assert_true(port_pool_is_free(&fixture.pool, port));
        counts[rank_of[port] * N_BUCKETS / n_free]++;
    }
    double chi_square = 0;
    for (uint32_t bucket = 0; bucket < N_BUCKETS; bucket++) {
        /* The first rank of a bucket is the smallest that the division above puts there. */
        uint32_t first = (bucket * n_free + N_BUCKETS - 1) / N_BUCKETS;
        uint32_t next = ((bucket + 1) * n_free + N_BUCKETS - 1) / N_BUCKETS;
        double expected = (double) N_PICKS * (next - first) / n_free;
        chi_square += (counts[bucket] - expected) * (counts[bucket] - expected) / expected;
    }
    assert_true(chi_square < 130);
}

/*
 * Each pick takes one random number and no search through taken ports: a source that would run dry is asked once per pick, however
 * full the pool is.
 */
static unsigned int n_fills;

static void fill_counted(struct random_source *source, void *ret_data, size_t size_bytes)
{
    (void) source;
    n_fills++;
    memset(ret_data, 0x2b, size_bytes);
}

static void test_port_pool_pick_costs_the_same_when_full(void **state)
{
    (void) state;
    struct fixture fixture;
    struct random_source counted = {.fill = fill_counted};
    uint16_t port;

    allow(&fixture, 1, 65535);
    for (uint32_t i = 1; i <= 65535; i++)
        if (i != 48879 && i != 48880)
            assert_true(port_pool_reserve(&fixture.pool, (uint16_t) i));
    n_fills = 0;
    assert_true(port_pool_pick(&fixture.pool, &counted, 1, &port));
    assert_int_equal(port, 48879);
    assert_true(port_pool_pick(&fixture.pool, &counted, 2, &port));
    assert_int_equal(port, 48880);
    assert_int_equal(n_fills, 2);
}

/* Counts and bits against an array of booleans. */
static void test_port_pool_agrees_with_a_model(void **state)
{
    (void) state;
    struct fixture fixture;
    static bool is_free[65536];

    allow(&fixture, 4000, 4299);
    for (uint32_t port = 4000; port < 4300; port++)
        is_free[port] = true;
    for (int i = 0; i < 20000; i++) {
        uint16_t port = (uint16_t) (3990 + random_below(&fixture.random, 320));
        uint32_t n_free[2] = {0};
        if (random_below(&fixture.random, 2)) {
            assert_int_equal(port_pool_reserve(&fixture.pool, port), is_free[port]);
            is_free[port] = false;
        } else if (port >= 4000 && port < 4300 && !is_free[port]) {
            port_pool_release(&fixture.pool, &fixture.allowed, port);
            is_free[port] = true;
        }
        if (i % 100 != 0)
            continue;
        for (uint32_t p = 3990; p < 4310; p++) {
            assert_int_equal(port_pool_is_free(&fixture.pool, (uint16_t) p), is_free[p]);
            n_free[p & 1] += is_free[p];
        }
        assert_int_equal(n_free[0], fixture.pool.n_free[0]);
        assert_int_equal(n_free[1], fixture.pool.n_free[1]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_port_set_add_includes_both_ends),
        cmocka_unit_test(test_port_pool_reserve_taken_and_outside),
        cmocka_unit_test(test_port_pool_release_no_longer_allowed),
        cmocka_unit_test(test_port_pool_pick_keeps_parity_while_it_can),
        cmocka_unit_test(test_port_pool_pick_empty_set),
        cmocka_unit_test(test_port_pool_pick_is_uniform),
        cmocka_unit_test(test_port_pool_pick_costs_the_same_when_full),
        cmocka_unit_test(test_port_pool_agrees_with_a_model),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
