/* MAP: create, renew, delete (RFC 6887 s11, s13.2, s15). */

#include "fixture.h"

static const struct pcp_response *suggest(struct engine *engine, uint32_t host,
                                          uint16_t internal_port, uint32_t nonce,
                                          uint16_t external_port)
{
    engine_map(engine, host, internal_port, nonce, 3600)->mapping.external.port = external_port;
    return engine_ask(engine, host);
}

static const struct pcp_response *insist(struct engine *engine, uint32_t host,
                                         uint16_t internal_port, uint32_t nonce, uint32_t address,
                                         uint16_t external_port)
{
    struct pcp_request *request = engine_map(engine, host, internal_port, nonce, 3600);
    request->mapping.external = (struct endpoint){ip_address_from_ipv4(address), external_port};
    engine_add_option(engine, &(struct pcp_option){.code = PCP_OPTION_PREFER_FAILURE});
    return engine_ask(engine, host);
}

/* [R-6887-11.3-2] [R-6887-11.3-17] */
static void test_create_answers_what_was_granted(void **state)
{
    struct engine *engine = *state;
    struct mapping_record record;

    const struct pcp_response *response = suggest(engine, HOST_A, 80, 1, 5000);
    assert_result(response, PCP_RESULT_SUCCESS);
    assert_int_equal(response->lifetime_s, 3600);
    assert_int_equal(response->mapping.external.port, 5000);
    assert_int_equal(ip_address_to_ipv4(&response->mapping.external.address), ENGINE_EXTERNAL);
    assert_int_equal(response->mapping.internal_port, 80);
    assert_int_equal(response->mapping.protocol, IPPROTO_UDP);
    assert_memory_equal(response->mapping.nonce, engine->request.mapping.nonce, PCP_NONCE_SIZE);
    assert_int_equal(engine->answers[0].to.port, 40000);
    assert_true(engine_find(engine, HOST_A, 80, &record));
    assert_int_equal(record.expires_ns, engine->now_ns + 3600 * NS_PER_S);
    assert_true(memory_store_contains(engine->store, record.id));
    assert_true(memory_nat_contains(engine->nat, &record));
    assert_consistent(engine);
}

/* One protocol is one protocol: there are no twins (RFC 6887 s11.3). [R-6887-11.3-21] */
static void test_create_tcp_and_udp_are_apart(void **state)
{
    struct engine *engine = *state;

    suggest(engine, HOST_A, 80, 1, 5000);
    struct pcp_request *request = engine_map(engine, HOST_A, 80, 2, 3600);
    request->mapping.protocol = IPPROTO_TCP;
    request->mapping.external.port = 5000;
    assert_int_equal(engine_ask(engine, HOST_A)->mapping.external.port, 5000);
    assert_int_equal(engine_n_live(engine), 2);
}

/* [R-6887-15-1] */
/* [R-6887-15-3] [R-6887-15-4] */
static void test_create_clamps_lifetime(void **state)
{
    struct engine *engine = *state;

    engine_map(engine, HOST_A, 80, 1, 1);
    assert_int_equal(engine_ask(engine, HOST_A)->lifetime_s, 120);
    engine_map(engine, HOST_A, 81, 1, 120);
    assert_int_equal(engine_ask(engine, HOST_A)->lifetime_s, 120);
    engine_map(engine, HOST_A, 82, 1, 86401);
    assert_int_equal(engine_ask(engine, HOST_A)->lifetime_s, 86400);
    engine_map(engine, HOST_A, 83, 1, UINT32_MAX);
    assert_int_equal(engine_ask(engine, HOST_A)->lifetime_s, 86400);
}

/* [R-6887-7.4-5] [R-6887-11.3-20] */
static void test_create_suggestion_taken_or_not_to_be_had(void **state)
{
    struct engine *engine = *state;

    suggest(engine, HOST_A, 80, 1, 5000);
    const uint16_t impossible[] = {5000, 5350, 5351, 80, 40000};
    for (uint16_t i = 0; i < N_ELEMENTS(impossible); i++) {
        const struct pcp_response *response =
            suggest(engine, HOST_B, (uint16_t) (100 + i), 1, impossible[i]);
        assert_result(response, PCP_RESULT_SUCCESS);
        assert_int_not_equal(response->mapping.external.port, impossible[i]);
        assert_in_range(response->mapping.external.port, 1024, 32767);
    }
}

/* A suggested address that is not ours harms nothing; the port is still honoured. */
static void test_create_suggestion_of_another_address(void **state)
{
    struct engine *engine = *state;

    struct pcp_request *request = engine_map(engine, HOST_A, 80, 1, 3600);
    request->mapping.external = (struct endpoint){ip_address_from_ipv4(0x01010101), 5000};
    const struct pcp_response *response = engine_ask(engine, HOST_A);
    assert_result(response, PCP_RESULT_SUCCESS);
    assert_int_equal(response->mapping.external.port, 5000);
    assert_int_equal(ip_address_to_ipv4(&response->mapping.external.address), ENGINE_EXTERNAL);
}

static void test_create_keeps_port_or_parity(void **state)
{
    struct engine *engine = *state;

    assert_int_equal(engine_create(engine, HOST_A, 7000, 1, 3600), 7000);
    for (uint32_t host = 1; host < 40; host++) {
        assert_int_equal(engine_create(engine, HOST_A + host, 7000, 1, 3600) & 1, 0);
        if (host > 1)
            assert_int_equal(engine_create(engine, HOST_A + host, 7001, 1, 3600) & 1, 1);
    }
}

/* RFC 6887 s11.3: these two are the protocol's own, whoever asks however. [R-6887-11.3-18] */
static void test_create_never_gives_pcp_ports(void **state)
{
    struct engine *engine = *state;
    struct server_settings settings = engine_settings();

    settings.external_ports[0] = (struct port_range){5349, 5352};
    restart_with(engine, &settings);
    assert_result(insist(engine, HOST_A, 5351, 1, ENGINE_EXTERNAL, 5351),
                  PCP_RESULT_CANNOT_PROVIDE_EXTERNAL);
    assert_result(insist(engine, HOST_A, 5350, 1, ENGINE_EXTERNAL, 5350),
                  PCP_RESULT_CANNOT_PROVIDE_EXTERNAL);
    uint16_t one = engine_create(engine, HOST_A, 5351, 1, 3600);
    uint16_t two = engine_create(engine, HOST_A, 5350, 1, 3600);
    assert_true((one == 5349 && two == 5352) || (one == 5352 && two == 5349));
    engine_map(engine, HOST_A, 1, 1, 3600);
    assert_result(engine_ask(engine, HOST_A), PCP_RESULT_NO_RESOURCES);
    assert_int_equal(engine->response.lifetime_s, 30);
    struct pcp_request *request = engine_map(engine, HOST_A, 5351, 1, 3600);
    request->mapping.protocol = IPPROTO_TCP;
    assert_int_equal(engine_ask(engine, HOST_A)->mapping.external.port, 5351);
}

/* [R-6887-11.3-23] */
/* [R-6887-11.3-22] [R-6887-17.2-1] */
static void test_create_beyond_the_quota(void **state)
{
    struct engine *engine = *state;

    for (uint16_t i = 0; i < engine->settings.mappings_per_subscriber; i++)
        engine_create(engine, HOST_A, (uint16_t) (80 + i), 1, 3600);
    engine_map(engine, HOST_A, 1000, 1, 3600);
    assert_result(engine_ask(engine, HOST_A), PCP_RESULT_USER_EX_QUOTA);
    assert_int_equal(engine->response.lifetime_s, 30);
    engine_create(engine, HOST_B, 1000, 1, 3600);
    engine_create(engine, HOST_A, 80, 1, 7200); /* a renewal is none more */
    engine_delete(engine, HOST_A, 80, 1);
    engine_create(engine, HOST_A, 1000, 1, 3600);
}

/* [R-6887-7.4-4] */
static void test_create_beyond_the_total(void **state)
{
    struct engine *engine = *state;
    struct server_settings settings = engine_settings();

    settings.mappings_total = 3;
    restart_with(engine, &settings);
    for (uint32_t i = 0; i < 3; i++)
        engine_create(engine, HOST_A + i, 80, 1, 3600);
    engine_map(engine, HOST_A + 9, 80, 1, 3600);
    assert_result(engine_ask(engine, HOST_A + 9), PCP_RESULT_NO_RESOURCES);
    engine_delete(engine, HOST_A, 80, 1);
    engine_create(engine, HOST_A + 9, 80, 1, 3600);
}

static void test_create_on_another_address_when_one_is_full(void **state)
{
    struct engine *engine = *state;
    struct server_settings settings = engine_settings();
    const uint32_t two[] = {ENGINE_EXTERNAL, ENGINE_EXTERNAL + 1};

    settings.external_ports[0] = (struct port_range){2000, 2001};
    restart_with(engine, &settings);
    engine_set_external(engine, two, 2);
    unsigned int n_on_second = 0;
    for (uint16_t i = 0; i < 4; i++) {
        engine_map(engine, HOST_A, (uint16_t) (80 + i), 1, 3600);
        const struct pcp_response *response = engine_ask(engine, HOST_A);
        assert_result(response, PCP_RESULT_SUCCESS);
        n_on_second +=
            ip_address_to_ipv4(&response->mapping.external.address) == ENGINE_EXTERNAL + 1;
    }
    assert_int_equal(n_on_second, 2);
    engine_map(engine, HOST_A, 90, 1, 3600);
    assert_result(engine_ask(engine, HOST_A), PCP_RESULT_NO_RESOURCES);
    assert_consistent(engine);
}

/* [R-6887-10-2] */
static void test_create_on_the_suggested_and_on_the_same_address(void **state)
{
    struct engine *engine = *state;
    const uint32_t two[] = {ENGINE_EXTERNAL, ENGINE_EXTERNAL + 1};

    engine_set_external(engine, two, 2);
    struct pcp_request *request = engine_map(engine, HOST_A, 80, 1, 3600);
    request->mapping.external.address = ip_address_from_ipv4(two[1]);
    const struct pcp_response *response = engine_ask(engine, HOST_A);
    assert_int_equal(ip_address_to_ipv4(&response->mapping.external.address), two[1]);
    engine_map(engine, HOST_A, 81, 1, 3600);
    response = engine_ask(engine, HOST_A);
    assert_int_equal(ip_address_to_ipv4(&response->mapping.external.address), two[1]);
    engine_map(engine, HOST_B, 81, 1, 3600);
    response = engine_ask(engine, HOST_B);
    assert_int_equal(ip_address_to_ipv4(&response->mapping.external.address), two[0]);
}

/* [R-6887-7.4-3] */
static void test_create_without_external_address(void **state)
{
    struct engine *engine = *state;

    engine_create(engine, HOST_A, 80, 1, 3600);
    engine_set_external(engine, NULL, 0);
    engine_settle(engine);
    engine_map(engine, HOST_A, 81, 1, 3600);
    assert_result(engine_ask(engine, HOST_A), PCP_RESULT_NETWORK_FAILURE);
    assert_int_equal(engine->response.lifetime_s, 30);
    engine_map(engine, HOST_A, 80, 1, 3700);
    assert_result(engine_ask(engine, HOST_A), PCP_RESULT_NETWORK_FAILURE);
    assert_int_equal(engine_n_live(engine), 1);
    engine_crash(engine, ENGINE_CRASH_BEFORE_STORE);
    assert_int_equal(engine_n_live(engine), 1);
    const uint32_t back[] = {ENGINE_EXTERNAL};
    engine_set_external(engine, back, 1);
    engine_settle(engine);
    engine_create(engine, HOST_A, 80, 1, 3700);
    assert_consistent(engine);
}

/* [R-6887-11.3-11] [R-6887-11.3-19] [R-6887-13.2-1] [R-6887-13.2-2] */
static void test_prefer_failure(void **state)
{
    struct engine *engine = *state;

    const struct pcp_response *response = insist(engine, HOST_A, 80, 1, ENGINE_EXTERNAL, 5000);
    assert_result(response, PCP_RESULT_SUCCESS);
    assert_int_equal(response->mapping.external.port, 5000);
    assert_int_equal(response->n_options, 1);
    assert_result(insist(engine, HOST_B, 80, 1, ENGINE_EXTERNAL, 5000),
                  PCP_RESULT_CANNOT_PROVIDE_EXTERNAL);
    assert_int_equal(engine->response.mapping.external.port, 5000);
    assert_result(insist(engine, HOST_B, 80, 1, 0x01010101, 5001),
                  PCP_RESULT_CANNOT_PROVIDE_EXTERNAL);
    assert_result(insist(engine, HOST_B, 80, 1, ENGINE_EXTERNAL, 80),
                  PCP_RESULT_CANNOT_PROVIDE_EXTERNAL);
    assert_int_equal(engine_n_live(engine), 1);
    assert_result(insist(engine, HOST_B, 80, 1, 0, 5001), PCP_RESULT_SUCCESS);
    /* Of the existing mapping. */
    assert_result(insist(engine, HOST_A, 80, 1, ENGINE_EXTERNAL, 5002),
                  PCP_RESULT_CANNOT_PROVIDE_EXTERNAL);
    assert_result(insist(engine, HOST_A, 80, 1, ENGINE_EXTERNAL, 5000), PCP_RESULT_SUCCESS);
}

/* [R-6887-11.3-14] [R-6887-11.3-15] */
static void test_renew_ignores_suggestion_and_sets_lifetime_anew(void **state)
{
    struct engine *engine = *state;
    struct mapping_record record;

    uint16_t port = engine_create(engine, HOST_A, 80, 1, 3600);
    engine_sleep_s(engine, 100);
    struct pcp_request *request = engine_map(engine, HOST_A, 80, 1, 7200);
    request->mapping.external.port = 9999;
    const struct pcp_response *response = engine_ask(engine, HOST_A);
    assert_int_equal(response->mapping.external.port, port);
    assert_int_equal(response->lifetime_s, 7200);
    request->lifetime_s = 300;
    assert_int_equal(engine_ask(engine, HOST_A)->lifetime_s, 300);
    assert_true(engine_find(engine, HOST_A, 80, &record));
    assert_int_equal(record.expires_ns, engine->now_ns + 300 * NS_PER_S);
    assert_int_equal(memory_nat_timeout_ns(engine->nat, record.id),
                     record.expires_ns + 30 * NS_PER_S);
    assert_consistent(engine);
}

/* [R-6887-11.3-7] */
static void test_renew_and_delete_with_another_nonce(void **state)
{
    struct engine *engine = *state;
    struct mapping_record before, after;

    engine_create(engine, HOST_A, 80, 1, 3600);
    assert_true(engine_find(engine, HOST_A, 80, &before));
    engine->now_ns += 100 * NS_PER_S - 1;
    engine_map(engine, HOST_A, 80, 2, 3600);
    assert_result(engine_ask(engine, HOST_A), PCP_RESULT_NOT_AUTHORIZED);
    assert_int_equal(engine->response.lifetime_s, 3501); /* what is left, rounded up */
    engine_map(engine, HOST_A, 80, 2, 0);
    assert_result(engine_ask(engine, HOST_A), PCP_RESULT_NOT_AUTHORIZED);
    assert_true(engine_find(engine, HOST_A, 80, &after));
    assert_true(mapping_record_equal(&before, &after));
}

/* [R-6887-8-2] */
static void test_retransmission_costs_no_commit(void **state)
{
    struct engine *engine = *state;

    suggest(engine, HOST_A, 80, 1, 5000);
    unsigned int n_commits = memory_store_n_commits(engine->store);
    for (uint32_t i = 0; i < 4; i++) {
        engine_send(engine, HOST_A);
        assert_false(server_wants_commit(engine->server, engine->now_ns));
        assert_int_equal(engine_collect(engine), 1);
        assert_result(engine_answer(engine, 0), PCP_RESULT_SUCCESS);
        assert_int_equal(engine->response.mapping.external.port, 5000);
        assert_int_equal(engine->response.lifetime_s, 3600 - 3 * i);
        engine_sleep_s(engine, 3);
    }
    assert_int_equal(memory_store_n_commits(engine->store), n_commits);
    assert_int_equal(server_counters(engine->server)->n_repeated, 4);
    /* Later it is a renewal. */
    assert_int_equal(engine_ask(engine, HOST_A)->lifetime_s, 3600);
    assert_int_equal(memory_store_n_commits(engine->store), n_commits + 1);
}

/* Nobody can keep a mapping short of its renewals by asking often. */
static void test_retransmission_every_second_still_renews(void **state)
{
    struct engine *engine = *state;
    struct mapping_record record;

    engine_create(engine, HOST_A, 80, 1, 120);
    for (int i = 0; i < 1000; i++) {
        engine_sleep_s(engine, 1);
        assert_in_range(engine_ask(engine, HOST_A)->lifetime_s, 113, 120);
    }
    assert_true(engine_find(engine, HOST_A, 80, &record));
}

static void test_repetition_with_other_filter_or_port_is_none(void **state)
{
    struct engine *engine = *state;

    engine_create(engine, HOST_A, 80, 1, 3600);
    unsigned int n_commits = memory_store_n_commits(engine->store);
    engine_add_filter(engine, 0x01020304, 128, 0);
    assert_result(engine_ask(engine, HOST_A), PCP_RESULT_SUCCESS);
    assert_int_equal(memory_store_n_commits(engine->store), n_commits + 1);
    assert_result(engine_ask(engine, HOST_A), PCP_RESULT_SUCCESS);
    assert_int_equal(memory_store_n_commits(engine->store), n_commits + 1);
}

/* [R-6887-15.1-1] [R-6887-15.1-8] [R-6887-15.1-9] */
static void test_delete_and_delete_again(void **state)
{
    struct engine *engine = *state;
    struct mapping_record record;

    uint16_t port = engine_create(engine, HOST_A, 80, 1, 3600);
    engine_delete(engine, HOST_A, 80, 1);
    assert_int_equal(engine->response.mapping.external.port, 0); /* copied, erratum 3621 */
    assert_false(engine_find(engine, HOST_A, 80, &record));
    assert_int_equal(memory_nat_count(engine->nat), 0);
    assert_int_equal(engine_n_held(engine), 1);
    assert_consistent(engine);
    unsigned int n_commits = memory_store_n_commits(engine->store);
    engine_delete(engine, HOST_A, 80, 1);
    engine_delete(engine, HOST_A, 80, 77); /* of nothing: anybody may */
    assert_int_equal(memory_store_n_commits(engine->store), n_commits);
    assert_result(insist(engine, HOST_B, 80, 1, ENGINE_EXTERNAL, port),
                  PCP_RESULT_CANNOT_PROVIDE_EXTERNAL);
}

/* RFC 6887 s11.3: port 0, or protocol 0 as well, names the wildcard mapping, not everything. */
static void test_delete_wildcards_leave_others_alone(void **state)
{
    struct engine *engine = *state;

    engine_create(engine, HOST_A, 80, 1, 3600);
    engine_delete(engine, HOST_A, 0, 1);
    struct pcp_request *request = engine_map(engine, HOST_A, 0, 1, 0);
    request->mapping.protocol = 0;
    assert_result(engine_ask(engine, HOST_A), PCP_RESULT_SUCCESS);
    assert_int_equal(engine_n_live(engine), 1);
}

/* [R-6887-15-10] [R-6887-15-12] */
static void test_held_port_comes_back_to_its_owner_only(void **state)
{
    struct engine *engine = *state;

    uint16_t port = suggest(engine, HOST_A, 80, 1, 5000)->mapping.external.port;
    engine_delete(engine, HOST_A, 80, 1);
    assert_int_not_equal(suggest(engine, HOST_B, 80, 1, port)->mapping.external.port, port);
    assert_int_not_equal(suggest(engine, HOST_A, 81, 1, port)->mapping.external.port, port);
    /* The same internal endpoint with another nonce is somebody else. */
    assert_int_not_equal(suggest(engine, HOST_A, 80, 2, port)->mapping.external.port, port);
    engine_delete(engine, HOST_A, 80, 2);
    assert_int_equal(engine_create(engine, HOST_A, 80, 1, 3600), port);
    assert_consistent(engine);
}

static void test_held_port_is_insisted_on(void **state)
{
    struct engine *engine = *state;

    suggest(engine, HOST_A, 80, 1, 5000);
    engine_delete(engine, HOST_A, 80, 1);
    assert_result(insist(engine, HOST_A, 80, 2, ENGINE_EXTERNAL, 5000),
                  PCP_RESULT_CANNOT_PROVIDE_EXTERNAL);
    assert_result(insist(engine, HOST_A, 80, 1, ENGINE_EXTERNAL, 5001), PCP_RESULT_SUCCESS);
    assert_int_equal(engine->response.mapping.external.port, 5001);
    engine_delete(engine, HOST_A, 80, 1);
    assert_consistent(engine);
}

/* [R-6887-15-10] */
static void test_held_port_is_free_after_the_delay(void **state)
{
    struct engine *engine = *state;

    suggest(engine, HOST_A, 80, 1, 5000);
    engine_delete(engine, HOST_A, 80, 1);
    engine_sleep_s(engine, 119);
    engine_settle(engine);
    assert_int_equal(engine_n_held(engine), 1);
    engine_sleep_s(engine, 1);
    engine_settle(engine);
    assert_int_equal(engine_n_held(engine), 0);
    assert_int_equal(memory_store_count(engine->store), 0);
    assert_int_equal(suggest(engine, HOST_B, 80, 1, 5000)->mapping.external.port, 5000);
}

static void test_held_port_survives_a_restart(void **state)
{
    struct engine *engine = *state;

    suggest(engine, HOST_A, 80, 1, 5000);
    engine_delete(engine, HOST_A, 80, 1);
    engine_crash(engine, ENGINE_CRASH_BEFORE_STORE);
    assert_int_not_equal(suggest(engine, HOST_B, 80, 1, 5000)->mapping.external.port, 5000);
    assert_int_equal(engine_create(engine, HOST_A, 80, 1, 3600), 5000);
    assert_consistent(engine);
}

/* The quota is charged for live mappings only, but held ones cannot be piled up. */
static void test_held_ports_of_one_flooding_host_are_bounded(void **state)
{
    struct engine *engine = *state;

    for (uint32_t i = 0; i < 2000; i++) {
        uint16_t port = (uint16_t) (1 + random_below(&engine->random, 65535));
        engine_create(engine, HOST_A, port, i, 3600);
        engine_delete(engine, HOST_A, port, i);
    }
    assert_int_equal(engine_n_live(engine), 0);
    assert_int_equal(engine_n_held(engine), engine->settings.mappings_per_subscriber);
    assert_consistent(engine);
}

static void test_held_ports_of_many_flooding_hosts_are_bounded(void **state)
{
    struct engine *engine = *state;
    size_t n_live, n_held, n_subscribers;

    for (uint32_t i = 0; i < 3000; i++) {
        uint32_t host = 0x0a000001 + (uint32_t) random_below(&engine->random, 0xfffff0);
        engine_create(engine, host, 80, i, 3600);
        engine_delete(engine, host, 80, i);
    }
    server_count(engine->server, &n_live, &n_held, &n_subscribers);
    assert_int_equal(n_live, 0);
    assert_int_equal(n_held, engine->settings.mappings_total);
    assert_int_equal(n_subscribers, engine->settings.mappings_total);
    assert_consistent(engine);
    engine_sleep_s(engine, 200);
    engine_settle(engine);
    server_count(engine->server, &n_live, &n_held, &n_subscribers);
    assert_int_equal(n_held + n_subscribers, 0);
    assert_int_equal(memory_store_count(engine->store), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ENGINE_TEST(test_create_answers_what_was_granted),
        ENGINE_TEST(test_create_tcp_and_udp_are_apart),
        ENGINE_TEST(test_create_clamps_lifetime),
        ENGINE_TEST(test_create_suggestion_taken_or_not_to_be_had),
        ENGINE_TEST(test_create_suggestion_of_another_address),
        ENGINE_TEST(test_create_keeps_port_or_parity),
        ENGINE_TEST(test_create_never_gives_pcp_ports),
        ENGINE_TEST(test_create_beyond_the_quota),
        ENGINE_TEST(test_create_beyond_the_total),
        ENGINE_TEST(test_create_on_another_address_when_one_is_full),
        ENGINE_TEST(test_create_on_the_suggested_and_on_the_same_address),
        ENGINE_TEST(test_create_without_external_address),
        ENGINE_TEST(test_prefer_failure),
        ENGINE_TEST(test_renew_ignores_suggestion_and_sets_lifetime_anew),
        ENGINE_TEST(test_renew_and_delete_with_another_nonce),
        ENGINE_TEST(test_retransmission_costs_no_commit),
        ENGINE_TEST(test_retransmission_every_second_still_renews),
        ENGINE_TEST(test_repetition_with_other_filter_or_port_is_none),
        ENGINE_TEST(test_delete_and_delete_again),
        ENGINE_TEST(test_delete_wildcards_leave_others_alone),
        ENGINE_TEST(test_held_port_comes_back_to_its_owner_only),
        ENGINE_TEST(test_held_port_is_insisted_on),
        ENGINE_TEST(test_held_port_is_free_after_the_delay),
        ENGINE_TEST(test_held_port_survives_a_restart),
        ENGINE_TEST(test_held_ports_of_one_flooding_host_are_bounded),
        ENGINE_TEST(test_held_ports_of_many_flooding_hosts_are_bounded),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
