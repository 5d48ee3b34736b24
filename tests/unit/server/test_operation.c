/* Who may ask for whom: THIRD_PARTY, nonces, and who is one subscriber. */

#include "fixture.h"

#define MANAGER 0x0a000101  /* 10.0.1.1 */
#define STRANGER 0x0a000102 /* 10.0.1.2 */
#define OTHER_EXTERNAL 0xcb007101

static int setup_third_party(void **state)
{
    struct server_settings settings = engine_settings();
    if (setup(state) < 0)
        return -1;
    settings.third_parties[0] = (struct server_third_party){
        .source = {ip_address_from_ipv4(MANAGER), 128},
        .target = {ip_address_from_ipv4(0x0a000000), 120},
    };
    settings.n_third_parties = 1;
    restart_with(*state, &settings);
    return 0;
}

#define THIRD_PARTY_TEST(name) cmocka_unit_test_setup_teardown(name, setup_third_party, teardown)

static struct pcp_request *map_for(struct engine *engine, uint32_t source, uint32_t host,
                                   uint16_t internal_port, uint32_t nonce, uint32_t lifetime_s)
{
    struct pcp_request *request = engine_map(engine, source, internal_port, nonce, lifetime_s);
    struct pcp_option option = {.code = PCP_OPTION_THIRD_PARTY,
                                .third_party = ip_address_from_ipv4(host)};
    engine_add_option(engine, &option);
    return request;
}

static uint8_t ask_for(struct engine *engine, uint32_t source, uint32_t host,
                       uint16_t internal_port, uint32_t nonce, uint32_t lifetime_s)
{
    map_for(engine, source, host, internal_port, nonce, lifetime_s);
    return engine_ask(engine, source)->result;
}

/* [R-6887-13.1-1] [R-6887-13.1-3] [R-6887-13.1-5] */
static void test_third_party_by_default(void **state)
{
    struct engine *engine = *state;

    assert_int_equal(ask_for(engine, MANAGER, HOST_A, 80, 1, 3600), PCP_RESULT_UNSUPP_OPTION);
    assert_int_equal(ask_for(engine, MANAGER, MANAGER, 80, 1, 3600), PCP_RESULT_UNSUPP_OPTION);
    assert_int_equal(engine_n_live(engine), 0);
}

/* [R-6887-13.1-4] [R-6887-13.1-6] */
static void test_third_party_prefixes(void **state)
{
    struct engine *engine = *state;
    struct mapping_record record;

    assert_int_equal(ask_for(engine, MANAGER, HOST_A, 80, 1, 3600), PCP_RESULT_SUCCESS);
    assert_int_equal(engine->response.n_options, 1);
    assert_int_equal(engine->response.options[0].code, PCP_OPTION_THIRD_PARTY);
    assert_true(engine_find(engine, HOST_A, 80, &record));
    assert_true(record.third_party);
    assert_int_equal(ip_address_to_ipv4(&record.client_address), MANAGER);
    assert_int_equal(ask_for(engine, STRANGER, HOST_A, 81, 1, 3600), PCP_RESULT_UNSUPP_OPTION);
    assert_int_equal(ask_for(engine, MANAGER, STRANGER, 80, 1, 3600), PCP_RESULT_UNSUPP_OPTION);
    assert_int_equal(engine_n_live(engine), 1);
    /* Its end takes the same rights. */
    assert_int_equal(ask_for(engine, STRANGER, HOST_A, 80, 1, 0), PCP_RESULT_UNSUPP_OPTION);
    assert_int_equal(ask_for(engine, MANAGER, HOST_A, 80, 2, 0), PCP_RESULT_NOT_AUTHORIZED);
    assert_int_equal(ask_for(engine, MANAGER, HOST_A, 80, 1, 0), PCP_RESULT_SUCCESS);
    assert_int_equal(engine_n_live(engine), 0);
    assert_consistent(engine);
}

/* [R-6887-13.1-2] */
static void test_third_party_of_itself(void **state)
{
    struct engine *engine = *state;

    assert_int_equal(ask_for(engine, MANAGER, MANAGER, 80, 1, 3600), PCP_RESULT_MALFORMED_REQUEST);
}

/* A rule does not permit what internal-prefixes forbids. */
static void test_third_party_of_a_foreign_host(void **state)
{
    struct engine *engine = *state;
    struct server_settings settings = engine->settings;

    settings.third_parties[0].target = (struct ip_prefix){IP_ADDRESS_ANY_IPV6, 0};
    assert_int_equal(server_set_settings(engine->server, engine->now_ns, &settings), 0);
    assert_int_equal(ask_for(engine, MANAGER, 0x08080808, 80, 1, 3600), PCP_RESULT_NOT_AUTHORIZED);
    assert_int_equal(ask_for(engine, MANAGER, HOST_A, 80, 1, 3600), PCP_RESULT_SUCCESS);
}

static void test_third_party_quota(void **state)
{
    struct engine *engine = *state;

    for (uint16_t i = 0; i < engine->settings.mappings_per_subscriber; i++)
        assert_int_equal(ask_for(engine, MANAGER, HOST_A, 80 + i, 1, 3600), PCP_RESULT_SUCCESS);
    assert_int_equal(ask_for(engine, MANAGER, HOST_A, 8000, 1, 3600), PCP_RESULT_USER_EX_QUOTA);
    engine_map(engine, HOST_A, 8000, 1, 3600);
    assert_result(engine_ask(engine, HOST_A), PCP_RESULT_USER_EX_QUOTA);
    assert_int_equal(ask_for(engine, MANAGER, HOST_B, 80, 1, 3600), PCP_RESULT_SUCCESS);
    engine_create(engine, MANAGER, 80, 1, 3600);
}

/* The client that manages a mapping learns of its end as the host itself does; others do not. */
static void test_third_party_epoch(void **state)
{
    struct engine *engine = *state;
    uint64_t tick;

    for (int i = 0; i < 2; i++) {
        engine_create(engine, HOST_A, 81, 1, 36000);
        assert_int_equal(ask_for(engine, MANAGER, HOST_A, 80, 1, 36000), PCP_RESULT_SUCCESS);
        engine_sleep_s(engine, 1000);
        uint32_t epoch_s = engine_epoch_s(engine, STRANGER);
        engine_forget(engine);
        if (i == 0) {
            struct ip_prefix prefix = {ip_address_from_ipv4(HOST_A), 128};
            assert_int_equal(server_clear(engine->server, engine->now_ns, SERVER_CLEAR_SUBSCRIBER,
                                          &prefix, 0, &tick),
                             2);
        } else {
            engine_set_external(engine, &(uint32_t){OTHER_EXTERNAL}, 1);
        }
        engine_settle(engine);
        engine_collect(engine);
        assert_int_equal(engine_epoch_s(engine, HOST_A), 0);
        assert_int_equal(engine_epoch_s(engine, MANAGER), 0);
        assert_int_equal(engine_epoch_s(engine, STRANGER), epoch_s);
        size_t n_to_manager = 0;
        for (size_t j = 0; j < engine->n_notices; j++)
            n_to_manager += ip_address_to_ipv4(&engine->notices[j].to.address) == MANAGER;
        assert_int_equal(n_to_manager, 2 + i);
        engine_crash(engine, ENGINE_CRASH_BEFORE_STORE);
        assert_int_equal(engine_epoch_s(engine, MANAGER), 0);
    }
}

/* [R-6887-14.2-3] */
static void test_third_party_update(void **state)
{
    struct engine *engine = *state;

    assert_int_equal(ask_for(engine, MANAGER, HOST_A, 80, 1, 3600), PCP_RESULT_SUCCESS);
    engine_set_external(engine, &(uint32_t){OTHER_EXTERNAL}, 1);
    engine_settle(engine);
    engine_collect(engine);
    size_t n = 0;
    for (size_t i = 0; i < engine->n_notices; i++) {
        const struct pcp_response *response = engine_notice(engine, i);
        if (response->opcode != PCP_OPCODE_MAP)
            continue;
        n++;
        assert_int_equal(ip_address_to_ipv4(&engine->notices[i].to.address), MANAGER);
        assert_int_equal(response->n_options, 1);
        assert_int_equal(response->options[0].code, PCP_OPTION_THIRD_PARTY);
        assert_int_equal(ip_address_to_ipv4(&response->options[0].third_party), HOST_A);
    }
    assert_int_equal(n, 1);
}

/* What nobody could ask for any more ends. */
static void test_third_party_withdrawn(void **state)
{
    struct engine *engine = *state;
    struct server_settings settings = engine->settings;
    struct mapping_record record;

    assert_int_equal(ask_for(engine, MANAGER, HOST_A, 80, 1, 3600), PCP_RESULT_SUCCESS);
    engine_create(engine, HOST_A, 81, 1, 3600);
    settings.n_third_parties = 0;
    assert_int_equal(server_set_settings(engine->server, engine->now_ns, &settings), 0);
    engine_settle(engine);
    assert_false(engine_find(engine, HOST_A, 80, &record));
    assert_true(engine_find(engine, HOST_A, 81, &record));
    assert_consistent(engine);
}

/* [R-6887-11.3-7] */
static void test_nonce_strict(void **state)
{
    struct engine *engine = *state;

    engine_create(engine, HOST_A, 80, 1, 3600);
    engine_sleep_s(engine, 100);
    engine_map(engine, HOST_A, 80, 2, 3600);
    const struct pcp_response *response = engine_ask(engine, HOST_A);
    assert_result(response, PCP_RESULT_NOT_AUTHORIZED);
    assert_int_equal(response->lifetime_s, 3500);
    assert_int_equal(server_counters(engine->server)->n_adopted, 0);
}

static void test_nonce_adopted_from_the_same_host(void **state)
{
    struct engine *engine = *state;
    struct server_settings settings = engine->settings;

    settings.nonce_policy = SERVER_NONCE_ADOPT_SAME_HOST;
    restart_with(engine, &settings);
    uint16_t port = engine_create(engine, HOST_A, 80, 1, 3600);
    engine_sleep_s(engine, 100);
    assert_int_equal(engine_create(engine, HOST_A, 80, 2, 3600), port);
    assert_int_equal(server_counters(engine->server)->n_adopted, 1);
    assert_int_equal(engine_create(engine, HOST_A, 80, 2, 3600), port);
    assert_int_equal(server_counters(engine->server)->n_adopted, 1);
    struct mapping_record record;
    assert_true(engine_find(engine, HOST_A, 80, &record));
    assert_memory_equal(record.nonce, engine->request.mapping.nonce, MAPPING_NONCE_SIZE);
    /* Not for others. */
    assert_int_equal(ask_for(engine, MANAGER, HOST_A, 80, 3, 3600), PCP_RESULT_NOT_AUTHORIZED);
    assert_int_equal(ask_for(engine, MANAGER, HOST_A, 80, 3, 0), PCP_RESULT_NOT_AUTHORIZED);
    assert_int_equal(server_counters(engine->server)->n_adopted, 1);
    engine_crash(engine, ENGINE_CRASH_BEFORE_STORE);
    assert_int_equal(engine_create(engine, HOST_A, 80, 2, 3600), port);
    assert_int_equal(server_counters(engine->server)->n_adopted, 0);
    assert_consistent(engine);
}

/* Subscribers of /24 and /64. */
static void use_prefixes(struct engine *engine)
{
    struct server_settings settings = engine->settings;
    settings.subscriber_length_ipv4 = 120;
    settings.subscriber_length_ipv6 = 64;
    settings.mappings_per_subscriber = 3;
    assert_int_equal(ip_prefix_parse("2001:db8::/32", &settings.internal_prefixes[1]), 0);
    settings.n_internal_prefixes = 2;
    restart_with(engine, &settings);
}

/* [R-6887-17.2-1] */
static void test_subscriber_quota(void **state)
{
    struct engine *engine = *state;
    struct ip_address host = {{0x20, 0x01, 0x0d, 0xb8, [7] = 1}};

    use_prefixes(engine);
    for (uint32_t i = 0; i < 3; i++)
        engine_create(engine, HOST_A + i, 80, 1, 3600);
    engine_map(engine, HOST_A + 3, 80, 1, 3600);
    assert_result(engine_ask(engine, HOST_A + 3), PCP_RESULT_USER_EX_QUOTA);
    engine_create(engine, MANAGER, 80, 1, 3600);
    for (uint8_t i = 0; i < 4; i++) {
        host.octets[15] = i;
        engine_map_of(engine, &host, 80, 1, 3600);
        assert_result(engine_ask_of(engine, &host),
                      i < 3 ? PCP_RESULT_SUCCESS : PCP_RESULT_USER_EX_QUOTA);
    }
    host.octets[7] = 2;
    engine_map_of(engine, &host, 80, 1, 3600);
    assert_result(engine_ask_of(engine, &host), PCP_RESULT_SUCCESS);
    size_t n_live, n_held, n_subscribers;
    server_count(engine->server, &n_live, &n_held, &n_subscribers);
    assert_int_equal(n_subscribers, 4);
    assert_consistent(engine);
}

/* A part of it stands for all of it, and all of it has one Epoch. */
static void test_subscriber_clear(void **state)
{
    struct engine *engine = *state;
    struct ip_prefix prefix = {ip_address_from_ipv4(HOST_A + 7), 128};
    uint64_t tick;

    use_prefixes(engine);
    engine_create(engine, HOST_A, 80, 1, 3600);
    engine_create(engine, HOST_B, 80, 1, 3600);
    engine_create(engine, MANAGER, 80, 1, 3600);
    engine_sleep_s(engine, 1000);
    assert_int_equal(
        server_clear(engine->server, engine->now_ns, SERVER_CLEAR_SUBSCRIBER, &prefix, 0, &tick),
        2);
    /* An answer about another address of it waits as well. */
    engine_map(engine, HOST_B + 1, 80, 1, 0);
    engine_send(engine, HOST_B + 1);
    assert_int_equal(engine_collect(engine), 0);
    engine_settle(engine);
    assert_int_equal(engine_collect(engine), 1);
    for (uint32_t i = 0; i < 10; i++)
        assert_int_equal(engine_epoch_s(engine, HOST_A + i), 0);
    assert_int_equal(engine_epoch_s(engine, MANAGER), 1000);
    engine_sleep_s(engine, 10);
    engine_crash(engine, ENGINE_CRASH_BEFORE_STORE);
    assert_int_equal(engine_epoch_s(engine, HOST_A + 9), 10);
    assert_int_equal(engine_epoch_s(engine, MANAGER), 1010);
    /* Each address is one subscriber now: nobody knows which they were, so the Epoch is everybody's. */
    engine->settings.subscriber_length_ipv4 = 128;
    engine_crash(engine, ENGINE_CRASH_BEFORE_STORE);
    assert_int_equal(engine_epoch_s(engine, HOST_A + 9), 10);
    assert_int_equal(engine_epoch_s(engine, MANAGER), 10);
    assert_consistent(engine);
}

static void test_subscriber_larger_after_a_restart(void **state)
{
    struct engine *engine = *state;
    struct ip_prefix prefix = {ip_address_from_ipv4(HOST_A), 128};
    uint64_t tick;

    for (int i = 0; i < 3; i++) {
        uint32_t host = i % 2 ? HOST_A : HOST_B;
        engine_create(engine, host, 80, 1, 36000);
        engine_sleep_s(engine, 1000);
        prefix.address = ip_address_from_ipv4(host);
        assert_int_equal(server_clear(engine->server, engine->now_ns, SERVER_CLEAR_SUBSCRIBER,
                                      &prefix, 0, &tick),
                         1);
        engine_settle(engine);
        engine_collect(engine);
    }
    engine_sleep_s(engine, 10);
    engine->settings.subscriber_length_ipv4 = 120;
    engine_crash(engine, ENGINE_CRASH_BEFORE_STORE);
    /* The latest of them, whichever the store had first. */
    assert_int_equal(engine_epoch_s(engine, HOST_A), 10);
    assert_int_equal(engine_epoch_s(engine, HOST_B), 10);
    assert_int_equal(engine_epoch_s(engine, HOST_B + 1), 10);
    assert_int_equal(engine_epoch_s(engine, MANAGER), 3010);
}

/* While changes are decided and under way. */
static void test_subscriber_lengths_changed(void **state)
{
    struct engine *engine = *state;
    struct server_settings settings = engine->settings;
    static const uint8_t lengths[] = {120, 128, 104, 128};

    settings.mappings_per_subscriber = 8;
    for (enum engine_end end = ENGINE_COMMITS; end <= ENGINE_KERNEL_FAILS; end++) {
        settings.recycle_delay_s = end % 2 ? 0 : 120; /* 0: of what is deleted nothing is left */
        assert_int_equal(server_set_settings(engine->server, engine->now_ns, &settings), 0);
        for (uint32_t i = 0; i < 3; i++)
            engine_create(engine, HOST_A + i, 80, 1, 3600);
        engine_delete(engine, HOST_A + 2, 80, 1);
        engine_map(engine, HOST_A + 3, 80, 1, 3600); /* new */
        engine_send(engine, HOST_A + 3);
        engine_map(engine, HOST_A, 80, 1, 0);
        engine_send(engine, HOST_A);
        assert_true(engine_seal(engine));
        engine_map(engine, HOST_B, 80, 1, 0);
        engine_send(engine, HOST_B);
        settings.subscriber_length_ipv4 = lengths[end];
        assert_int_equal(server_set_settings(engine->server, engine->now_ns, &settings), 0);
        /* What is pending stays so. */
        engine_map(engine, HOST_A, 80, 1, 0);
        engine_send(engine, HOST_A);
        assert_int_equal(engine_collect(engine), 0);
        engine_finish(engine, end);
        engine_settle(engine);
        engine_collect(engine);
        assert_int_equal(engine_epoch_s(engine, HOST_A), engine_epoch_s(engine, MANAGER));
        engine_sleep_s(engine, 2);
        engine_settle(engine);
        assert_consistent(engine);
        for (uint32_t i = 0; i < 4; i++)
            engine_delete(engine, HOST_A + i, 80, 1);
        engine_sleep_s(engine, 121);
        engine_settle(engine);
        size_t n_live, n_held, n_subscribers;
        server_count(engine->server, &n_live, &n_held, &n_subscribers);
        assert_int_equal(n_live + n_held + n_subscribers, 0);
        engine->settings = settings;
    }
}

/* Own Epochs cannot be split or joined: everybody's restarts. */
static void test_subscriber_lengths_changed_with_own_epochs(void **state)
{
    struct engine *engine = *state;
    struct server_settings settings = engine->settings;
    struct ip_prefix prefix = {ip_address_from_ipv4(HOST_A), 128};
    uint64_t tick;

    engine_create(engine, HOST_A, 80, 1, 3600);
    engine_sleep_s(engine, 1000);
    assert_int_equal(
        server_clear(engine->server, engine->now_ns, SERVER_CLEAR_SUBSCRIBER, &prefix, 0, &tick),
        1);
    engine_settle(engine);
    engine_sleep_s(engine, 1000);
    settings.subscriber_length_ipv4 = 120;
    assert_int_equal(server_set_settings(engine->server, engine->now_ns, &settings), 0);
    assert_int_equal(engine_epoch_s(engine, HOST_A), 0);
    assert_int_equal(engine_epoch_s(engine, MANAGER), 0);
    assert_int_equal(server_n_own_epochs(engine->server), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ENGINE_TEST(test_third_party_by_default),
        THIRD_PARTY_TEST(test_third_party_prefixes),
        THIRD_PARTY_TEST(test_third_party_of_itself),
        THIRD_PARTY_TEST(test_third_party_of_a_foreign_host),
        THIRD_PARTY_TEST(test_third_party_quota),
        THIRD_PARTY_TEST(test_third_party_epoch),
        THIRD_PARTY_TEST(test_third_party_update),
        THIRD_PARTY_TEST(test_third_party_withdrawn),
        ENGINE_TEST(test_nonce_strict),
        THIRD_PARTY_TEST(test_nonce_adopted_from_the_same_host),
        ENGINE_TEST(test_subscriber_quota),
        ENGINE_TEST(test_subscriber_clear),
        ENGINE_TEST(test_subscriber_larger_after_a_restart),
        ENGINE_TEST(test_subscriber_lengths_changed),
        ENGINE_TEST(test_subscriber_lengths_changed_with_own_epochs),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
