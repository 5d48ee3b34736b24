/* Expiry, clears, and changes of the external address. */

#include "fixture.h"

#define OTHER_EXTERNAL 0xcb007101 /* 203.0.113.1 */

static struct ip_prefix prefix_of(uint32_t host)
{
    return (struct ip_prefix){ip_address_from_ipv4(host), 128};
}

static int clear(struct engine *engine, enum server_clear_scope scope, uint32_t host, uint64_t id)
{
    struct ip_prefix prefix = prefix_of(host);
    uint64_t tick;
    return server_clear(engine->server, engine->now_ns, scope, &prefix, id, &tick);
}

static void set_external(struct engine *engine, uint32_t address)
{
    engine_set_external(engine, &address, 1);
}

static uint32_t external_of(const struct engine *engine, uint32_t host, uint16_t internal_port,
                            uint16_t *ret_port)
{
    struct mapping_record record;
    assert_true(engine_find(engine, host, internal_port, &record));
    *ret_port = record.external_port;
    return ip_address_to_ipv4(&record.external_address);
}

/* [R-6887-15-5] [R-6887-15-6] */
static void test_advance_live_to_held_to_gone(void **state)
{
    struct engine *engine = *state;

    engine_create(engine, HOST_A, 80, 1, 3600);
    assert_int_equal(server_next_deadline_ns(engine->server), engine->now_ns + 3600 * NS_PER_S);
    engine->now_ns += 3600 * NS_PER_S - 1;
    engine_settle(engine);
    assert_int_equal(engine_n_live(engine), 1);
    engine->now_ns++;
    engine_settle(engine);
    assert_int_equal(engine_n_live(engine), 0);
    assert_int_equal(engine_n_held(engine), 1);
    assert_int_equal(memory_nat_count(engine->nat), 0);
    assert_consistent(engine);
    assert_int_equal(server_next_deadline_ns(engine->server), engine->now_ns + 120 * NS_PER_S);
    engine_sleep_s(engine, 120);
    engine_settle(engine);
    assert_int_equal(engine_n_held(engine), 0);
    assert_int_equal(memory_store_count(engine->store), 0);
    assert_int_equal(server_next_deadline_ns(engine->server), TIME_NEVER);
    assert_int_equal(engine_collect(engine), 0);
}

static void test_advance_after_a_long_time_away(void **state)
{
    struct engine *engine = *state;

    for (uint16_t i = 0; i < 10; i++)
        engine_create(engine, HOST_A, (uint16_t) (80 + i), 1, 3600);
    engine_sleep_s(engine, 100000);
    engine_crash(engine, ENGINE_CRASH_BEFORE_STORE);
    engine_settle(engine);
    assert_int_equal(engine_n_live(engine), 0);
    assert_consistent(engine);
}

static void test_advance_with_recycle_delay_0(void **state)
{
    struct engine *engine = *state;
    struct server_settings settings = engine_settings();

    settings.recycle_delay_s = 0;
    restart_with(engine, &settings);
    engine_create(engine, HOST_A, 80, 1, 3600);
    engine_sleep_s(engine, 3600);
    engine_settle(engine);
    assert_int_equal(engine_n_live(engine) + engine_n_held(engine), 0);
    assert_consistent(engine);
}

/* A failing store must not make the daemon spin: one attempt a second, and all is well when it works again. */
static void test_advance_with_a_failing_store(void **state)
{
    struct engine *engine = *state;
    unsigned int n_attempts = 0;

    engine_create(engine, HOST_A, 80, 1, 120);
    engine_sleep_s(engine, 120);
    uint64_t end_ns = engine->now_ns + 60 * NS_PER_S;
    while (engine->now_ns < end_ns) {
        server_advance(engine->server, engine->now_ns);
        assert_true(engine_seal(engine));
        n_attempts++;
        engine_finish(engine, ENGINE_STORE_FAILS);
        server_advance(engine->server, engine->now_ns);
        assert_false(server_wants_commit(engine->server, engine->now_ns));
        uint64_t next_ns = server_next_deadline_ns(engine->server);
        assert_true(next_ns > engine->now_ns && next_ns <= engine->now_ns + NS_PER_S);
        engine->now_ns = next_ns;
        assert_int_equal(engine_n_live(engine), 1);
    }
    assert_int_equal(n_attempts, 60);
    engine_settle(engine);
    assert_int_equal(engine_n_live(engine), 0);
    assert_consistent(engine);
}

static void test_advance_with_a_failing_kernel(void **state)
{
    struct engine *engine = *state;

    engine_create(engine, HOST_A, 80, 1, 120);
    engine_sleep_s(engine, 120);
    for (int i = 0; i < 5; i++) {
        server_advance(engine->server, engine->now_ns);
        assert_true(engine_seal(engine));
        engine_finish(engine, ENGINE_KERNEL_FAILS);
        assert_int_equal(engine_n_live(engine), 1);
        engine->now_ns = server_next_deadline_ns(engine->server);
    }
    engine_settle(engine);
    assert_int_equal(engine_n_live(engine), 0);
    assert_consistent(engine);
}

/* Whoever renews in time keeps the mapping, even if the expiry is being committed and fails. */
static void test_advance_then_revival_in_the_next_tick(void **state)
{
    struct engine *engine = *state;

    uint16_t port = engine_create(engine, HOST_A, 80, 1, 120);
    engine_sleep_s(engine, 120);
    server_advance(engine->server, engine->now_ns);
    assert_true(engine_seal(engine));
    engine_map(engine, HOST_A, 80, 1, 3600);
    engine_send(engine, HOST_A);
    engine_finish(engine, ENGINE_COMMITS);
    engine_settle(engine);
    assert_int_equal(engine_collect(engine), 1);
    assert_int_equal(engine_answer(engine, 0)->mapping.external.port, port);
    assert_int_equal(engine_n_live(engine), 1);
    assert_consistent(engine);
}

/* [R-6887-8.5-2] [R-6887-8.5-4] */
static void test_clear_resets_only_the_epochs_concerned(void **state)
{
    struct engine *engine = *state;

    engine_create(engine, HOST_A, 80, 1, 3600);
    engine_create(engine, HOST_A, 81, 1, 3600);
    engine_create(engine, HOST_B, 80, 1, 3600);
    engine_sleep_s(engine, 1000);
    assert_int_equal(clear(engine, SERVER_CLEAR_SUBSCRIBER, HOST_A, 0), 2);
    engine_settle(engine);
    assert_int_equal(engine_epoch_s(engine, HOST_A), 0);
    assert_int_equal(engine_epoch_s(engine, HOST_B), 1000);
    assert_int_equal(engine_n_live(engine), 1);
    assert_int_equal(engine_n_held(engine), 2);
    assert_consistent(engine);

    engine_sleep_s(engine, 10);
    engine_crash(engine, ENGINE_CRASH_BEFORE_STORE);
    assert_int_equal(engine_epoch_s(engine, HOST_A), 10);
    assert_int_equal(engine_epoch_s(engine, HOST_B), 1010);
    /* Long after everything of that subscriber is gone. */
    engine_sleep_s(engine, 10000);
    engine_settle(engine);
    engine_crash(engine, ENGINE_CRASH_BEFORE_STORE);
    assert_int_equal(engine_epoch_s(engine, HOST_A), 10010);
}

/* Else every address that was ever cleared would be remembered for ever. */
static void test_clear_epoch_is_forgotten_a_lifetime_later(void **state)
{
    struct engine *engine = *state;

    engine_sleep_s(engine, 1000);
    engine_create(engine, HOST_A, 80, 1, 3600);
    engine_create(engine, HOST_B, 80, 1, 3600);
    assert_int_equal(clear(engine, SERVER_CLEAR_ALL, 0, 0), 2);
    engine_settle(engine);
    assert_int_equal(server_n_own_epochs(engine->server), 2);
    engine_create(engine, HOST_B, 80, 1, 86400);
    engine_sleep_s(engine, 86399);
    engine_settle(engine);
    assert_int_equal(server_n_own_epochs(engine->server), 2);
    engine_sleep_s(engine, 61);
    engine_settle(engine);
    assert_int_equal(server_n_own_epochs(engine->server), 1);
    assert_int_equal(engine_epoch_s(engine, HOST_A), 1000 + 86460);
    assert_int_equal(engine_epoch_s(engine, HOST_B), 86460);
    engine_crash(engine, ENGINE_CRASH_BEFORE_STORE);
    assert_int_equal(server_n_own_epochs(engine->server), 1);
    assert_int_equal(engine_epoch_s(engine, HOST_A), 1000 + 86460);
}

static void test_clear_by_id(void **state)
{
    struct engine *engine = *state;
    struct mapping_record record;

    engine_create(engine, HOST_A, 80, 1, 3600);
    engine_create(engine, HOST_A, 81, 1, 3600);
    assert_true(engine_find(engine, HOST_A, 81, &record));
    assert_int_equal(clear(engine, SERVER_CLEAR_ID, 0, record.id), 1);
    assert_int_equal(clear(engine, SERVER_CLEAR_ID, 0, record.id), 0); /* held is gone */
    assert_int_equal(clear(engine, SERVER_CLEAR_ID, 0, 12345), 0);
    engine_settle(engine);
    assert_true(engine_find(engine, HOST_A, 80, &record));
    assert_false(engine_find(engine, HOST_A, 81, &record));
    assert_consistent(engine);
}

static void test_clear_of_nothing(void **state)
{
    struct engine *engine = *state;

    engine_sleep_s(engine, 100);
    assert_int_equal(clear(engine, SERVER_CLEAR_ALL, 0, 0), 0);
    assert_int_equal(clear(engine, SERVER_CLEAR_SUBSCRIBER, HOST_A, 0), 0);
    assert_false(server_wants_commit(engine->server, engine->now_ns));
    assert_int_equal(engine_epoch_s(engine, HOST_A), 100);
}

/* With the hold of this subscriber full, each mapping that ends pushes an older one out, which must not be among those still to be ended. */
static void test_clear_subscriber_with_a_full_hold(void **state)
{
    struct engine *engine = *state;
    struct server_settings settings = engine_settings();

    settings.mappings_per_subscriber = 4;
    restart_with(engine, &settings);
    for (uint16_t i = 0; i < 4; i++) {
        engine_create(engine, HOST_A, (uint16_t) (80 + i), 1, 3600);
        engine_delete(engine, HOST_A, (uint16_t) (80 + i), 1);
    }
    for (uint16_t i = 0; i < 4; i++)
        engine_create(engine, HOST_A, (uint16_t) (180 + i), 1, 3600);
    assert_int_equal(engine_n_held(engine), 4);
    assert_int_equal(clear(engine, SERVER_CLEAR_SUBSCRIBER, HOST_A, 0), 4);
    engine_settle(engine);
    assert_int_equal(engine_n_live(engine), 0);
    assert_int_equal(engine_n_held(engine), 4);
    assert_consistent(engine);
}

/* Ports are not lost to holds of hosts without mappings, and holds are no reason to have a host ask again. */
static void test_clear_subscriber_with_held_only(void **state)
{
    struct engine *engine = *state;

    engine_create(engine, HOST_A, 80, 1, 3600);
    engine_delete(engine, HOST_A, 80, 1);
    engine_sleep_s(engine, 100);
    assert_int_equal(clear(engine, SERVER_CLEAR_SUBSCRIBER, HOST_A, 0), 0);
    assert_int_equal(engine_epoch_s(engine, HOST_A), 100);
}

/* The mappings come back, the Epoch does not: it was seen. And the store is told of it later. */
static void test_clear_with_a_failing_store(void **state)
{
    struct engine *engine = *state;

    engine_create(engine, HOST_A, 80, 1, 3600);
    engine_sleep_s(engine, 1000);
    assert_int_equal(clear(engine, SERVER_CLEAR_ALL, 0, 0), 1);
    for (int i = 0; i < 3; i++) {
        assert_true(engine_seal(engine));
        engine_finish(engine, ENGINE_STORE_FAILS);
        assert_int_equal(engine_n_live(engine), 1);
        engine_sleep_s(engine, 1);
        assert_int_equal(engine_epoch_s(engine, HOST_A), i + 1);
    }
    engine_settle(engine);
    engine_crash(engine, ENGINE_CRASH_BEFORE_STORE);
    assert_int_equal(engine_epoch_s(engine, HOST_A), 3);
    assert_int_equal(engine_epoch_s(engine, HOST_B), 1003);
    assert_int_equal(engine_n_live(engine), 1);
    assert_consistent(engine);
}

static void test_clear_many_of_one_subscriber_writes_one_epoch(void **state)
{
    struct engine *engine = *state;

    for (uint16_t i = 0; i < 16; i++)
        engine_create(engine, HOST_A, (uint16_t) (80 + i), 1, 3600);
    engine_create(engine, HOST_B, 80, 1, 3600);
    engine_sleep_s(engine, 1);
    assert_int_equal(clear(engine, SERVER_CLEAR_ALL, 0, 0), 17);
    assert_true(engine_seal(engine));
    assert_int_equal(engine->commit.store.n_epochs, 2);
    engine_finish(engine, ENGINE_COMMITS);
    assert_consistent(engine);
}

/* [R-6887-8.5-3] [R-6887-14.2-1] */
static void test_set_external_addresses_moves_mappings(void **state)
{
    struct engine *engine = *state;
    uint16_t port, moved;

    port = engine_create(engine, HOST_A, 5000, 1, 3600);
    engine_sleep_s(engine, 1000);
    set_external(engine, OTHER_EXTERNAL);
    engine_settle(engine);
    assert_int_equal(external_of(engine, HOST_A, 5000, &moved), OTHER_EXTERNAL);
    assert_int_equal(moved, port);
    assert_int_equal(engine_epoch_s(engine, HOST_A), 0);
    assert_int_equal(engine_epoch_s(engine, HOST_B), 1000);
    assert_consistent(engine);
    assert_int_equal(engine_create(engine, HOST_A, 5000, 1, 3600), port);
    engine_crash(engine, ENGINE_CRASH_BEFORE_STORE);
    assert_int_equal(external_of(engine, HOST_A, 5000, &moved), OTHER_EXTERNAL);
    assert_consistent(engine);
}

static void test_set_external_addresses_two_become_one(void **state)
{
    struct engine *engine = *state;
    const uint32_t two[] = {ENGINE_EXTERNAL, OTHER_EXTERNAL};
    uint16_t port_a, port_b;

    engine_set_external(engine, two, 2);
    for (uint32_t i = 0; i < 2; i++) {
        struct pcp_request *request = engine_map(engine, HOST_A + i, 5000, 1, 3600);
        request->mapping.external = (struct endpoint){ip_address_from_ipv4(two[i]), 5000};
        assert_int_equal(engine_ask(engine, HOST_A + i)->mapping.external.port, 5000);
    }
    engine_sleep_s(engine, 100);
    set_external(engine, ENGINE_EXTERNAL);
    engine_settle(engine);
    assert_int_equal(external_of(engine, HOST_A, 5000, &port_a), ENGINE_EXTERNAL);
    assert_int_equal(external_of(engine, HOST_B, 5000, &port_b), ENGINE_EXTERNAL);
    assert_int_equal(port_a, 5000);
    assert_int_not_equal(port_b, 5000);
    assert_int_equal(engine_epoch_s(engine, HOST_A), 100);
    assert_int_equal(engine_epoch_s(engine, HOST_B), 0);
    assert_consistent(engine);
}

/* Without room some end; their owners learn of it by the Epoch. */
static void test_set_external_addresses_without_room(void **state)
{
    struct engine *engine = *state;
    struct server_settings settings = engine_settings();
    const uint32_t two[] = {ENGINE_EXTERNAL, OTHER_EXTERNAL};

    settings.external_ports[0] = (struct port_range){2000, 2001};
    restart_with(engine, &settings);
    engine_set_external(engine, two, 2);
    for (uint32_t i = 0; i < 4; i++)
        engine_create(engine, HOST_A + i, 80, 1, 3600);
    engine_sleep_s(engine, 100);
    set_external(engine, OTHER_EXTERNAL);
    engine_settle(engine);
    assert_int_equal(engine_n_live(engine), 2);
    unsigned int n_reset = 0;
    for (uint32_t i = 0; i < 4; i++)
        n_reset += engine_epoch_s(engine, HOST_A + i) == 0;
    assert_int_equal(n_reset, 2);
    assert_consistent(engine);
}

/* What a failed commit puts back onto the address that is gone is moved again, without anybody's help. */
static void test_set_external_addresses_with_failing_commits(void **state)
{
    struct engine *engine = *state;
    uint16_t port;

    for (enum engine_end end = ENGINE_STORE_FAILS; end <= ENGINE_KERNEL_FAILS; end++) {
        engine_create(engine, HOST_A, 5000, 1, 3600);
        engine_sleep_s(engine, 1000);
        set_external(engine, end % 2 ? OTHER_EXTERNAL : ENGINE_EXTERNAL);
        for (int i = 0; i < 3; i++) {
            server_advance(engine->server, engine->now_ns);
            assert_true(engine_seal(engine));
            engine_finish(engine, end);
            assert_false(server_wants_commit(engine->server, engine->now_ns));
            server_advance(engine->server, engine->now_ns);
            uint64_t deadline_ns = server_next_deadline_ns(engine->server);
            assert_in_range(deadline_ns, engine->now_ns + 1, engine->now_ns + NS_PER_S);
            engine_sleep_s(engine, 1);
        }
        engine_settle(engine);
        assert_int_equal(external_of(engine, HOST_A, 5000, &port),
                         end % 2 ? OTHER_EXTERNAL : ENGINE_EXTERNAL);
        assert_int_equal(port, 5000);
        /* One change, one reset, however many attempts. */
        assert_int_equal(engine_epoch_s(engine, HOST_A), 3);
        assert_consistent(engine);
    }
}

/* The address changes between a grant and its commit. */
static void test_set_external_addresses_with_a_create_in_flight(void **state)
{
    struct engine *engine = *state;
    uint16_t port;

    for (enum engine_end end = ENGINE_COMMITS; end <= ENGINE_KERNEL_FAILS; end++) {
        set_external(engine, ENGINE_EXTERNAL);
        engine_settle(engine);
        engine_map(engine, HOST_A, 5000, 1, 3600);
        engine_send(engine, HOST_A);
        assert_true(engine_seal(engine));
        set_external(engine, OTHER_EXTERNAL);
        engine_finish(engine, end);
        engine_settle(engine);
        engine_sleep_s(engine, 2);
        engine_settle(engine);
        assert_int_equal(engine_n_live(engine), end == ENGINE_COMMITS);
        if (end == ENGINE_COMMITS)
            assert_int_equal(external_of(engine, HOST_A, 5000, &port), OTHER_EXTERNAL);
        assert_consistent(engine);
        engine_collect(engine);
        engine_delete(engine, HOST_A, 5000, 1);
    }
}

/* The same address back again after none at all: nothing moved, nothing reset. */
static void test_set_external_addresses_none_and_back(void **state)
{
    struct engine *engine = *state;
    uint16_t port;

    engine_create(engine, HOST_A, 5000, 1, 3600);
    engine_sleep_s(engine, 100);
    engine_set_external(engine, NULL, 0);
    engine_settle(engine);
    assert_int_equal(server_next_deadline_ns(engine->server), engine->now_ns + 3500 * NS_PER_S);
    set_external(engine, ENGINE_EXTERNAL);
    engine_settle(engine);
    assert_int_equal(external_of(engine, HOST_A, 5000, &port), ENGINE_EXTERNAL);
    assert_int_equal(engine_epoch_s(engine, HOST_A), 100);
    assert_consistent(engine);
}

static void test_set_external_addresses_moves_held_ports(void **state)
{
    struct engine *engine = *state;

    engine_create(engine, HOST_A, 5000, 1, 3600);
    engine_delete(engine, HOST_A, 5000, 1);
    engine_sleep_s(engine, 50);
    set_external(engine, OTHER_EXTERNAL);
    engine_settle(engine);
    assert_int_equal(engine_epoch_s(engine, HOST_A), 50);
    assert_consistent(engine);
    assert_int_not_equal(engine_create(engine, HOST_B, 5000, 1, 3600), 5000);
    assert_int_equal(engine_create(engine, HOST_A, 5000, 1, 3600), 5000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ENGINE_TEST(test_advance_live_to_held_to_gone),
        ENGINE_TEST(test_advance_after_a_long_time_away),
        ENGINE_TEST(test_advance_with_recycle_delay_0),
        ENGINE_TEST(test_advance_with_a_failing_store),
        ENGINE_TEST(test_advance_with_a_failing_kernel),
        ENGINE_TEST(test_advance_then_revival_in_the_next_tick),
        ENGINE_TEST(test_clear_resets_only_the_epochs_concerned),
        ENGINE_TEST(test_clear_epoch_is_forgotten_a_lifetime_later),
        ENGINE_TEST(test_clear_by_id),
        ENGINE_TEST(test_clear_of_nothing),
        ENGINE_TEST(test_clear_subscriber_with_a_full_hold),
        ENGINE_TEST(test_clear_subscriber_with_held_only),
        ENGINE_TEST(test_clear_with_a_failing_store),
        ENGINE_TEST(test_clear_many_of_one_subscriber_writes_one_epoch),
        ENGINE_TEST(test_set_external_addresses_moves_mappings),
        ENGINE_TEST(test_set_external_addresses_two_become_one),
        ENGINE_TEST(test_set_external_addresses_without_room),
        ENGINE_TEST(test_set_external_addresses_with_failing_commits),
        ENGINE_TEST(test_set_external_addresses_with_a_create_in_flight),
        ENGINE_TEST(test_set_external_addresses_none_and_back),
        ENGINE_TEST(test_set_external_addresses_moves_held_ports),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
