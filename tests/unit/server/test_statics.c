/* Static mappings: what the configuration maps, whoever is in the way. */

#include "fixture.h"

#define OTHER_EXTERNAL 0xcb007101 /* 203.0.113.1 */

static struct server_static static_of(uint32_t host, uint16_t internal_port, uint32_t external,
                                      uint16_t external_port, uint8_t protocol)
{
    return (struct server_static){
        .internal = {ip_address_from_ipv4(host), internal_port},
        .external = {ip_address_from_ipv4(external), external_port},
        .protocol = protocol,
    };
}

/* UDP, on whatever address there is. */
static void configure(struct server_settings *settings, uint32_t host, uint16_t internal_port,
                      uint16_t external_port)
{
    settings->statics[settings->n_statics++] =
        static_of(host, internal_port, 0, external_port, IPPROTO_UDP);
}

static void reload(struct engine *engine, const struct server_settings *settings)
{
    assert_int_equal(server_set_settings(engine->server, engine->now_ns, settings), 0);
    engine->settings = *settings;
    engine_settle(engine);
    engine_collect(engine);
}

static bool find_static(const struct engine *engine, uint32_t host, uint16_t internal_port,
                        struct mapping_record *ret_record)
{
    struct endpoint internal = {ip_address_from_ipv4(host), internal_port};
    return engine_find_of(engine, MAPPING_KIND_STATIC, &internal, IPPROTO_UDP, ret_record);
}

/* [R-6887-11.3-8] [R-6887-11.3-12] [R-6887-11.3-13] [R-6887-15.1-7] */
static void test_map_of_a_static_mapping(void **state)
{
    struct engine *engine = *state;
    struct server_settings settings = engine_settings();

    configure(&settings, HOST_A, 80, 443); /* outside the ranges */
    restart_with(engine, &settings);
    assert_int_equal(engine_n_live(engine), 1);
    assert_int_equal(memory_store_count(engine->store), 0);
    assert_int_equal(memory_nat_count(engine->nat), 1);
    for (uint32_t nonce = 1; nonce <= 2; nonce++) {
        engine_map(engine, HOST_A, 80, nonce, 3600)->mapping.external.port = 5000;
        const struct pcp_response *response = engine_ask(engine, HOST_A);
        assert_result(response, PCP_RESULT_SUCCESS);
        assert_int_equal(response->lifetime_s, PCP_LIFETIME_INFINITE);
        assert_int_equal(response->mapping.external.port, 443);
        engine_map(engine, HOST_A, 80, nonce, 0);
        assert_result(engine_ask(engine, HOST_A), PCP_RESULT_NOT_AUTHORIZED);
    }
    engine_map(engine, HOST_A, 80, 1, 3600)->mapping.external.port = 5000;
    engine_add_option(engine, &(struct pcp_option){.code = PCP_OPTION_PREFER_FAILURE});
    assert_result(engine_ask(engine, HOST_A), PCP_RESULT_CANNOT_PROVIDE_EXTERNAL);
    /* Neither the operator's clear nor time ends it. */
    uint64_t tick;
    assert_int_equal(server_clear(engine->server, engine->now_ns, SERVER_CLEAR_ALL, NULL, 0, &tick),
                     0);
    engine_sleep_s(engine, 1000000);
    engine_settle(engine);
    assert_int_equal(engine_n_live(engine), 1);
    assert_consistent(engine);
}

static void test_reload(void **state)
{
    struct engine *engine = *state;
    struct server_settings settings = engine_settings();
    struct mapping_record record;
    uint64_t id;

    configure(&settings, HOST_A, 80, 443);
    configure(&settings, HOST_A, 81, 444);
    reload(engine, &settings);
    assert_true(find_static(engine, HOST_A, 80, &record));
    id = record.id;
    engine_sleep_s(engine, 100);
    reload(engine, &settings);
    assert_true(find_static(engine, HOST_A, 80, &record));
    assert_int_equal(record.id, id);
    assert_int_equal(engine_epoch_s(engine, HOST_A), 100);
    /* Whoever asked was told that it has no end. */
    settings.statics[1].external.port = 445;
    reload(engine, &settings);
    assert_true(find_static(engine, HOST_A, 81, &record));
    assert_int_equal(record.external_port, 445);
    assert_int_equal(engine_epoch_s(engine, HOST_A), 0);
    assert_int_equal(engine_epoch_s(engine, HOST_B), 100);
    settings.n_statics = 0;
    reload(engine, &settings);
    assert_int_equal(engine_n_live(engine), 0);
    assert_int_equal(engine_n_held(engine), 0);
    assert_consistent(engine);
}

/* Clients in the way end, live or held, and are told. */
static void test_obstacles(void **state)
{
    struct engine *engine = *state;
    struct server_settings settings = engine_settings();
    struct mapping_record record;

    engine_map(engine, HOST_B, 80, 1, 3600)->mapping.external.port = 5000; /* has the port */
    assert_int_equal(engine_ask(engine, HOST_B)->mapping.external.port, 5000);
    engine_create(engine, HOST_A, 80, 1, 3600); /* has the internal endpoint */
    engine_map(engine, HOST_B + 1, 80, 1, 3600)->mapping.external.port = 5001;
    assert_int_equal(engine_ask(engine, HOST_B + 1)->mapping.external.port, 5001);
    engine_delete(engine, HOST_B + 1, 80, 1); /* a held port */
    engine_create(engine, HOST_B + 2, 80, 1, 3600);
    engine_sleep_s(engine, 100);
    configure(&settings, HOST_A, 80, 5000);
    configure(&settings, HOST_A, 81, 5001);
    reload(engine, &settings);
    assert_true(find_static(engine, HOST_A, 80, &record));
    assert_true(find_static(engine, HOST_A, 81, &record));
    assert_int_equal(engine_n_live(engine), 3);
    assert_int_equal(engine_n_held(engine), 0);
    assert_int_equal(engine_epoch_s(engine, HOST_A), 0);
    assert_int_equal(engine_epoch_s(engine, HOST_B), 0);
    assert_int_equal(engine_epoch_s(engine, HOST_B + 1), 100);
    assert_int_equal(engine_epoch_s(engine, HOST_B + 2), 100);
    assert_true(engine->n_notices > 0);
    engine_map(engine, HOST_B, 80, 1, 3600)->mapping.external.port = 5000;
    assert_int_not_equal(engine_ask(engine, HOST_B)->mapping.external.port, 5000);
    assert_consistent(engine);
    engine_crash(engine, ENGINE_CRASH_BEFORE_STORE);
    assert_int_equal(engine_n_live(engine), 4);
    assert_consistent(engine);
}

/* All ports of a protocol, and all protocols, leave nothing to others. */
static void test_obstacles_of_a_whole(void **state)
{
    struct engine *engine = *state;
    struct server_settings settings = engine_settings();
    struct mapping_record record;

    engine_create(engine, HOST_A, 80, 1, 3600);
    engine_create(engine, HOST_B, 80, 1, 3600);
    engine_map(engine, HOST_B, 80, 1, 3600)->mapping.protocol = IPPROTO_TCP;
    assert_result(engine_ask(engine, HOST_B), PCP_RESULT_SUCCESS);
    settings.statics[0] = static_of(HOST_A, 0, 0, 0, IPPROTO_UDP);
    settings.n_statics = 1;
    reload(engine, &settings);
    assert_false(engine_find(engine, HOST_B, 80, &record));
    assert_true(engine_find(engine, HOST_A, 80, &record));
    assert_int_equal(engine_n_live(engine), 3);
    settings.statics[0].protocol = 0;
    reload(engine, &settings);
    assert_int_equal(engine_n_live(engine), 2);
    engine_map(engine, HOST_B, 80, 1, 3600);
    assert_result(engine_ask(engine, HOST_B), PCP_RESULT_NO_RESOURCES);
    assert_consistent(engine);
    /* And the reverse: a client that has everything. */
    settings.n_statics = 0;
    settings.whole_ports = true;
    reload(engine, &settings);
    engine_sleep_s(engine, 121);
    engine_settle(engine);
    engine_map(engine, HOST_A, 0, 1, 3600)->mapping.protocol = 0;
    assert_result(engine_ask(engine, HOST_A), PCP_RESULT_SUCCESS);
    settings.n_statics = 0;
    configure(&settings, HOST_B, 80, 443);
    reload(engine, &settings);
    assert_true(find_static(engine, HOST_B, 80, &record));
    assert_int_equal(engine_n_live(engine), 2);
    assert_consistent(engine);
}

static void test_two_that_contradict(void **state)
{
    struct engine *engine = *state;
    struct server_settings settings = engine_settings();
    struct mapping_record record;

    configure(&settings, HOST_A, 80, 443);
    configure(&settings, HOST_B, 80, 443);
    configure(&settings, HOST_B, 81, 444);
    assert_int_equal(server_set_settings(engine->server, engine->now_ns, &settings), -EADDRINUSE);
    engine_settle(engine);
    assert_true(find_static(engine, HOST_A, 80, &record));
    assert_false(find_static(engine, HOST_B, 80, &record));
    assert_true(find_static(engine, HOST_B, 81, &record));
    assert_true(server_next_deadline_ns(engine->server) > engine->now_ns);
    assert_consistent(engine);
}

/* The external address is not there yet, comes, changes, goes, and comes back. */
static void test_external_address(void **state)
{
    struct engine *engine = *state;
    struct server_settings settings = engine_settings();
    const uint32_t other = OTHER_EXTERNAL, first = ENGINE_EXTERNAL;
    struct mapping_record record;

    configure(&settings, HOST_A, 80, 443);
    settings.statics[settings.n_statics++] =
        static_of(HOST_A, 81, OTHER_EXTERNAL, 444, IPPROTO_UDP);
    engine_set_external(engine, NULL, 0);
    reload(engine, &settings);
    assert_int_equal(engine_n_live(engine), 0);
    engine_set_external(engine, &first, 1);
    engine_settle(engine);
    assert_true(find_static(engine, HOST_A, 80, &record));
    assert_int_equal(ip_address_to_ipv4(&record.external_address), ENGINE_EXTERNAL);
    assert_false(find_static(engine, HOST_A, 81, &record));
    assert_consistent(engine);
    /* Where there is none at all everything stays, but is not promised. */
    engine_set_external(engine, NULL, 0);
    engine_settle(engine);
    engine_collect(engine);
    assert_int_equal(engine_n_live(engine), 1);
    engine_map(engine, HOST_A, 80, 1, 3600);
    assert_result(engine_ask(engine, HOST_A), PCP_RESULT_NETWORK_FAILURE);
    engine_set_external(engine, &other, 1);
    engine_settle(engine);
    for (uint16_t port = 80; port < 82; port++) {
        assert_true(find_static(engine, HOST_A, port, &record));
        assert_int_equal(ip_address_to_ipv4(&record.external_address), OTHER_EXTERNAL);
    }
    assert_consistent(engine);
    /* That of the configuration is not moved. */
    engine_set_external(engine, &first, 1);
    engine_settle(engine);
    assert_true(find_static(engine, HOST_A, 80, &record));
    assert_false(find_static(engine, HOST_A, 81, &record));
    assert_consistent(engine);
}

/* A commit that fails takes them back; they are made again as soon as commits succeed. */
static void test_with_failing_commits(void **state)
{
    struct engine *engine = *state;
    struct server_settings settings = engine_settings();
    struct mapping_record record;

    for (enum engine_end end = ENGINE_STORE_FAILS; end <= ENGINE_KERNEL_FAILS; end++) {
        engine_map(engine, HOST_B, 80, 1, 3600)->mapping.external.port = 5000;
        assert_int_equal(engine_ask(engine, HOST_B)->mapping.external.port, 5000);
        settings.n_statics = 0;
        configure(&settings, HOST_A, 80, 5000);
        assert_int_equal(server_set_settings(engine->server, engine->now_ns, &settings), 0);
        assert_true(engine_seal(engine));
        engine_finish(engine, end);
        assert_false(find_static(engine, HOST_A, 80, &record));
        engine_run_ms(engine, 2000);
        assert_true(find_static(engine, HOST_A, 80, &record));
        assert_false(engine_find(engine, HOST_B, 80, &record));
        assert_consistent(engine);
        settings.n_statics = 0;
        assert_int_equal(server_set_settings(engine->server, engine->now_ns, &settings), 0);
        assert_true(engine_seal(engine));
        engine_finish(engine, end);
        engine_run_ms(engine, 2000);
        assert_int_equal(engine_n_live(engine), 0);
        assert_consistent(engine);
    }
}

static void test_ipv6(void **state)
{
    struct engine *engine = *state;
    struct server_settings settings = engine_settings();

    settings.statics[0] = (struct server_static){.protocol = IPPROTO_TCP};
    assert_int_equal(ip_address_parse("2001:db8::5", &settings.statics[0].internal.address), 0);
    settings.statics[0].internal.port = settings.statics[0].external.port = 22;
    settings.n_statics = 1;
    engine_set_external(engine, NULL, 0);
    reload(engine, &settings);
    struct mapping_record record;
    assert_true(engine_find_of(engine, MAPPING_KIND_STATIC, &settings.statics[0].internal,
                               IPPROTO_TCP, &record));
    assert_true(ip_address_equal(&record.external_address, &record.internal_address));
    assert_consistent(engine);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ENGINE_TEST(test_map_of_a_static_mapping),
        ENGINE_TEST(test_reload),
        ENGINE_TEST(test_obstacles),
        ENGINE_TEST(test_obstacles_of_a_whole),
        ENGINE_TEST(test_two_that_contradict),
        ENGINE_TEST(test_external_address),
        ENGINE_TEST(test_with_failing_commits),
        ENGINE_TEST(test_ipv6),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
