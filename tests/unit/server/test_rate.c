/* The rate limit: exact, per source, in bounded memory. */

#include "fixture.h"

#include "server/rate.h"

static int setup_limit(void **state)
{
    struct random_source random = random_seeded(1);
    struct rate_limit *limit = malloc(sizeof(*limit));
    if (!limit)
        return -1;
    rate_limit_init(limit, &random);
    *state = limit;
    return 0;
}

static int teardown_limit(void **state)
{
    free(*state);
    return 0;
}

#define LIMIT_TEST(name) cmocka_unit_test_setup_teardown(name, setup_limit, teardown_limit)

static unsigned int count(struct rate_limit *limit, uint64_t now_ns, const char *source,
                          uint32_t rate_per_s, uint32_t burst, unsigned int n)
{
    struct ip_address address;
    unsigned int n_permitted = 0;
    assert_int_equal(ip_address_parse(source, &address), 0);
    while (n-- > 0)
        n_permitted += rate_limit_permits(limit, now_ns, &address, rate_per_s, burst);
    return n_permitted;
}

static void test_permits_burst_then_rate(void **state)
{
    struct rate_limit *limit = *state;
    uint64_t now_ns = NS_PER_S;

    assert_int_equal(count(limit, now_ns, "10.0.0.5", 10, 5, 100), 5);
    assert_int_equal(count(limit, now_ns + 100 * NS_PER_MS - 1, "10.0.0.5", 10, 5, 100), 0);
    now_ns += 100 * NS_PER_MS;
    assert_int_equal(count(limit, now_ns, "10.0.0.5", 10, 5, 100), 1);
    now_ns += 250 * NS_PER_MS;
    assert_int_equal(count(limit, now_ns, "10.0.0.5", 10, 5, 100), 2);
    now_ns += 50 * NS_PER_MS; /* what was left over counts */
    assert_int_equal(count(limit, now_ns, "10.0.0.5", 10, 5, 100), 1);
    now_ns += 1000 * NS_PER_S;
    assert_int_equal(count(limit, now_ns, "10.0.0.5", 10, 5, 100), 5);
}

static void test_permits_without_limit(void **state)
{
    assert_int_equal(count(*state, 0, "10.0.0.5", 0, 0, 1000), 1000);
}

static void test_permits_one_at_once_at_least(void **state)
{
    assert_int_equal(count(*state, NS_PER_S, "10.0.0.5", 10, 0, 10), 1);
}

static void test_permits_each_source(void **state)
{
    struct rate_limit *limit = *state;

    assert_int_equal(count(limit, NS_PER_S, "10.0.0.5", 10, 5, 10), 5);
    assert_int_equal(count(limit, NS_PER_S, "10.0.0.6", 10, 5, 10), 5);
    /* An IPv6 network is one, but not all the hosts that have no other address. */
    assert_int_equal(count(limit, NS_PER_S, "2001:db8::1", 10, 5, 10), 5);
    assert_int_equal(count(limit, NS_PER_S, "2001:db8::2", 10, 5, 10), 0);
    assert_int_equal(count(limit, NS_PER_S, "2001:db8:0:1::2", 10, 5, 10), 5);
    assert_int_equal(count(limit, NS_PER_S, "fe80::1", 10, 5, 10), 5);
    assert_int_equal(count(limit, NS_PER_S, "fe80::2", 10, 5, 10), 5);
}

/* Whoever was heard of last stays limited, however many others there are; and the memory is used. */
static void test_permits_with_many_sources(void **state)
{
    struct rate_limit *limit = *state;
    size_t n_used = 0;

    for (uint32_t i = 0; i < 100000; i++) {
        struct ip_address address = ip_address_from_ipv4(0x0a000000 + i);
        uint64_t now_ns = NS_PER_S + i;
        assert_true(rate_limit_permits(limit, now_ns, &address, 1, 1));
        assert_false(rate_limit_permits(limit, now_ns, &address, 1, 1));
    }
    for (size_t i = 0; i < RATE_SETS; i++)
        for (size_t j = 0; j < RATE_WAYS; j++)
            n_used += limit->buckets[i][j].source_hash != 0;
    assert_int_equal(n_used, RATE_SETS * RATE_WAYS);
}

static void test_server_limits(void **state)
{
    struct engine *engine = *state;
    struct server_settings settings = engine->settings;

    settings.rate_per_s = 2;
    settings.rate_burst = 3;
    assert_int_equal(server_set_settings(engine->server, engine->now_ns, &settings), 0);
    uint64_t n_dropped = server_counters(engine->server)->n_dropped;
    for (uint16_t i = 0; i < 5; i++) {
        engine_map(engine, HOST_A, 80 + i, 1, 3600);
        engine_send(engine, HOST_A);
    }
    engine_settle(engine);
    assert_int_equal(engine_collect(engine), 3);
    assert_int_equal(server_counters(engine->server)->n_limited, 2);
    assert_int_equal(server_counters(engine->server)->n_dropped, n_dropped + 2);
    engine_create(engine, HOST_B, 80, 1, 3600);
    engine_sleep_s(engine, 1);
    engine_create(engine, HOST_A, 84, 1, 3600);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        LIMIT_TEST(test_permits_burst_then_rate),      LIMIT_TEST(test_permits_without_limit),
        LIMIT_TEST(test_permits_one_at_once_at_least), LIMIT_TEST(test_permits_each_source),
        LIMIT_TEST(test_permits_with_many_sources),    ENGINE_TEST(test_server_limits),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
