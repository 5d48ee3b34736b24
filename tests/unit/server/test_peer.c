/* PEER (RFC 6887 s12): flows that are and flows that will be, and what MAP and PEER share. */

#include "fixture.h"

#define OTHER_EXTERNAL 0xcb007101 /* 203.0.113.1 */
#define REMOTE 0x08080808

static int setup_peer(void **state)
{
    struct server_settings settings = engine_settings();
    if (setup(state) < 0)
        return -1;
    settings.peer = true;
    restart_with(*state, &settings);
    return 0;
}

#define PEER_TEST(name) cmocka_unit_test_setup_teardown(name, setup_peer, teardown)

static struct endpoint endpoint_of(uint32_t address, uint16_t port)
{
    return (struct endpoint){ip_address_from_ipv4(address), port};
}

static struct pcp_request *peer(struct engine *engine, uint32_t host, uint16_t internal_port,
                                uint16_t remote_port, uint32_t nonce, uint32_t lifetime_s)
{
    struct ip_address address = ip_address_from_ipv4(host);
    struct endpoint remote = endpoint_of(REMOTE, remote_port);
    return engine_peer_of(engine, &address, internal_port, &remote, nonce, lifetime_s);
}

static uint16_t create_peer(struct engine *engine, uint32_t host, uint16_t internal_port,
                            uint16_t remote_port, uint32_t nonce)
{
    peer(engine, host, internal_port, remote_port, nonce, 3600);
    const struct pcp_response *response = engine_ask(engine, host);
    assert_result(response, PCP_RESULT_SUCCESS);
    return response->mapping.external.port;
}

static uint8_t delete_peer(struct engine *engine, uint32_t host, uint16_t internal_port,
                           uint16_t remote_port, uint32_t nonce)
{
    peer(engine, host, internal_port, remote_port, nonce, 0);
    return engine_ask(engine, host)->result;
}

/* [R-6887-12.3-6] [R-6887-12.3-8] */
static void test_peer_without_a_suggestion(void **state)
{
    struct engine *engine = *state;

    struct pcp_request request = *peer(engine, HOST_A, 5000, 443, 1, 3600);
    const struct pcp_response *response = engine_ask(engine, HOST_A);
    assert_result(response, PCP_RESULT_SUCCESS);
    assert_int_equal(response->opcode, PCP_OPCODE_PEER);
    assert_int_equal(response->lifetime_s, 3600);
    assert_int_equal(response->mapping.external.port, 5000);
    assert_int_equal(ip_address_to_ipv4(&response->mapping.external.address), ENGINE_EXTERNAL);
    assert_int_equal(response->mapping.protocol, request.mapping.protocol);
    assert_int_equal(response->mapping.internal_port, 5000);
    assert_true(endpoint_equal(&response->mapping.remote, &request.mapping.remote));
    assert_memory_equal(response->mapping.nonce, request.mapping.nonce, PCP_NONCE_SIZE);
    assert_consistent(engine);
}

static void test_peer_with_a_suggestion(void **state)
{
    struct engine *engine = *state;

    peer(engine, HOST_A, 5000, 443, 1, 3600)->mapping.external = endpoint_of(ENGINE_EXTERNAL, 6000);
    assert_int_equal(engine_ask(engine, HOST_A)->mapping.external.port, 6000);
    peer(engine, HOST_A, 5001, 443, 1, 3600)->mapping.external.address =
        ip_address_from_ipv4(ENGINE_EXTERNAL);
    assert_int_equal(engine_ask(engine, HOST_A)->mapping.external.port, 5001);
}

/* [R-6887-12.1-4] [R-6887-12.3-7] [R-6887-7.4-5] */
static void test_peer_with_a_suggestion_that_cannot_be(void **state)
{
    struct engine *engine = *state;
    const struct endpoint suggestions[] = {
        endpoint_of(ENGINE_EXTERNAL, 7000), /* another's */
        endpoint_of(ENGINE_EXTERNAL, 80),   /* not in the ranges */
        endpoint_of(OTHER_EXTERNAL, 6000),
        endpoint_of(OTHER_EXTERNAL, 0),
    };

    engine_map(engine, HOST_B, 80, 1, 3600)->mapping.external.port = 7000;
    assert_int_equal(engine_ask(engine, HOST_B)->mapping.external.port, 7000);
    for (size_t i = 0; i < N_ELEMENTS(suggestions); i++) {
        peer(engine, HOST_A, 5000, 443, 1, 3600)->mapping.external = suggestions[i];
        assert_result(engine_ask(engine, HOST_A), PCP_RESULT_CANNOT_PROVIDE_EXTERNAL);
        assert_int_equal(engine_n_live(engine), 1);
        assert_int_equal(engine_n_held(engine), 0);
    }
    assert_consistent(engine);
}

/* [R-6887-12-1] */
static void test_peer_switched_off(void **state)
{
    struct engine *engine = *state;
    struct server_settings settings = engine->settings;

    create_peer(engine, HOST_A, 5000, 443, 1);
    settings.peer = false;
    assert_int_equal(server_set_settings(engine->server, engine->now_ns, &settings), 0);
    engine_settle(engine);
    assert_int_equal(engine_n_live(engine), 0);
    peer(engine, HOST_A, 5000, 443, 1, 3600);
    assert_result(engine_ask(engine, HOST_A), PCP_RESULT_UNSUPP_OPCODE);
    assert_consistent(engine);
}

/* [R-6887-11.3-24] One external endpoint for all mappings of an internal one; the last gives it back. */
static void test_peer_and_map_share(void **state)
{
    struct engine *engine = *state;
    struct server_settings settings = engine->settings;

    settings.recycle_delay_s = 0;
    /* In which order they come and go: bit sets of {PEER 443, PEER 444, MAP}. */
    static const uint8_t orders[][3] = {{0, 1, 2}, {2, 1, 0}, {1, 2, 0}, {2, 0, 1}};
    for (size_t i = 0; i < N_ELEMENTS(orders); i++) {
        restart_with(engine, &settings);
        for (size_t j = 0; j < 3; j++) {
            uint8_t which = orders[i][j];
            uint16_t port = which == 2 ? engine_create(engine, HOST_A, 80, 1, 3600)
                                       : create_peer(engine, HOST_A, 80, 443 + which, 1);
            static uint16_t first;
            first = j == 0 ? port : first;
            assert_int_equal(port, first);
        }
        assert_int_equal(engine_n_live(engine), 3);
        assert_consistent(engine);
        engine_crash(engine, ENGINE_CRASH_BEFORE_STORE);
        struct mapping_record record;
        assert_true(engine_find(engine, HOST_A, 80, &record));
        for (size_t j = 3; j-- > 0;) {
            uint8_t which = orders[(i + 1) % N_ELEMENTS(orders)][j];
            engine_map(engine, HOST_B, 80, 1, 3600)->mapping.external.port = record.external_port;
            engine_add_option(engine, &(struct pcp_option){.code = PCP_OPTION_PREFER_FAILURE});
            assert_result(engine_ask(engine, HOST_B), PCP_RESULT_CANNOT_PROVIDE_EXTERNAL);
            if (which == 2)
                engine_delete(engine, HOST_A, 80, 1);
            else
                assert_int_equal(delete_peer(engine, HOST_A, 80, 443 + which, 1), 0);
            assert_consistent(engine);
        }
        engine_map(engine, HOST_B, 80, 1, 3600)->mapping.external.port = record.external_port;
        assert_int_equal(engine_ask(engine, HOST_B)->mapping.external.port, record.external_port);
        assert_consistent(engine);
    }
}

static void test_peer_with_another_suggestion_than_its_map(void **state)
{
    struct engine *engine = *state;

    uint16_t port = engine_create(engine, HOST_A, 5000, 1, 3600);
    peer(engine, HOST_A, 5000, 443, 1, 3600)->mapping.external.port = port + 1;
    assert_result(engine_ask(engine, HOST_A), PCP_RESULT_CANNOT_PROVIDE_EXTERNAL);
    peer(engine, HOST_A, 5000, 443, 1, 3600)->mapping.external.port = port;
    assert_result(engine_ask(engine, HOST_A), PCP_RESULT_SUCCESS);
}

/* They stay together when the address changes and the port is not free there. */
static void test_peer_and_map_move_together(void **state)
{
    struct engine *engine = *state;
    const uint32_t two[] = {OTHER_EXTERNAL, ENGINE_EXTERNAL};
    struct mapping_record record, other;
    const struct endpoint internal = endpoint_of(HOST_A, 5000);

    engine_create(engine, HOST_A, 5000, 1, 3600);
    for (uint16_t i = 0; i < 8; i++)
        create_peer(engine, HOST_A, 5000, 443 + i, 1);
    engine_set_external(engine, two, 2);
    engine_map(engine, HOST_B, 80, 1, 3600)->mapping.external = endpoint_of(OTHER_EXTERNAL, 5000);
    assert_int_equal(engine_ask(engine, HOST_B)->mapping.external.port, 5000);
    engine_set_external(engine, two, 1);
    engine_settle(engine);
    engine_collect(engine);
    assert_true(engine_find_of(engine, MAPPING_KIND_MAP, &internal, IPPROTO_UDP, &record));
    assert_true(engine_find_of(engine, MAPPING_KIND_PEER, &internal, IPPROTO_UDP, &other));
    assert_int_equal(ip_address_to_ipv4(&record.external_address), OTHER_EXTERNAL);
    assert_int_not_equal(record.external_port, 5000);
    for (uint16_t i = 0; i < 8; i++)
        assert_int_equal(create_peer(engine, HOST_A, 5000, 443 + i, 1), record.external_port);
    assert_int_equal(engine_n_live(engine), 10);
    assert_consistent(engine);
    engine_crash(engine, ENGINE_CRASH_BEFORE_STORE);
    assert_consistent(engine);
}

struct flows {
    struct server_flow_source source;
    struct endpoint internal, remote, external;
    unsigned int n_asked;
};

static int find_flow(struct server_flow_source *source, uint8_t protocol,
                     const struct endpoint *internal, const struct endpoint *remote,
                     struct endpoint *ret_external)
{
    struct flows *flows = (struct flows *) source;
    flows->n_asked++;
    if (protocol != IPPROTO_UDP || !endpoint_equal(internal, &flows->internal) ||
        !endpoint_equal(remote, &flows->remote))
        return -ENOENT;
    *ret_external = flows->external;
    return 0;
}

static void restart_with_flow(struct engine *engine, struct flows *flows, uint32_t address,
                              uint16_t port)
{
    struct server_settings settings = engine->settings;
    *flows = (struct flows){
        .source = {.find = find_flow},
        .internal = endpoint_of(HOST_A, 5000),
        .remote = endpoint_of(REMOTE, 443),
        .external = endpoint_of(address, port),
    };
    settings.flows = &flows->source;
    restart_with(engine, &settings);
}

/* [R-6887-12.3-5] */
static void test_peer_of_a_flow(void **state)
{
    struct engine *engine = *state;
    struct flows flows;

    restart_with_flow(engine, &flows, ENGINE_EXTERNAL, 50000); /* outside the ranges */
    peer(engine, HOST_A, 5000, 443, 1, 3600)->mapping.external.port = 6000;
    const struct pcp_response *response = engine_ask(engine, HOST_A);
    assert_result(response, PCP_RESULT_SUCCESS);
    assert_int_equal(response->mapping.external.port, 50000);
    /* MAP is not let out of the ranges by it. */
    assert_int_not_equal(engine_create(engine, HOST_A, 5000, 1, 3600), 50000);
    /* Nobody else can have it, and a restart or other settings do not take it away. */
    flows.internal = endpoint_of(HOST_B, 5000);
    peer(engine, HOST_B, 5000, 443, 1, 3600);
    assert_result(engine_ask(engine, HOST_B), PCP_RESULT_CANNOT_PROVIDE_EXTERNAL);
    engine_crash(engine, ENGINE_CRASH_BEFORE_STORE);
    assert_int_equal(server_set_settings(engine->server, engine->now_ns, &engine->settings), 0);
    engine_settle(engine);
    engine_collect(engine);
    assert_int_equal(engine_n_live(engine), 2);
    flows.internal = endpoint_of(HOST_A, 5000);
    flows.n_asked = 0;
    assert_int_equal(create_peer(engine, HOST_A, 5000, 443, 1), 50000);
    assert_int_equal(flows.n_asked, 0); /* a renewal looks for nothing */
    assert_consistent(engine);
    /* Given back with the last of it. */
    assert_int_equal(delete_peer(engine, HOST_A, 5000, 443, 1), 0);
    engine_sleep_s(engine, 121);
    engine_settle(engine);
    flows.internal = endpoint_of(HOST_B, 5000);
    assert_int_equal(create_peer(engine, HOST_B, 5000, 443, 1), 50000);
    assert_consistent(engine);
}

/* What is told would not be true of the flow. */
static void test_peer_of_a_flow_on_the_port_of_another(void **state)
{
    struct engine *engine = *state;
    struct flows flows;

    restart_with_flow(engine, &flows, ENGINE_EXTERNAL, 6000);
    engine_map(engine, HOST_B, 80, 1, 3600)->mapping.external.port = 6000;
    assert_int_equal(engine_ask(engine, HOST_B)->mapping.external.port, 6000);
    peer(engine, HOST_A, 5000, 443, 1, 3600);
    assert_result(engine_ask(engine, HOST_A), PCP_RESULT_CANNOT_PROVIDE_EXTERNAL);
    /* Of another port of the same host too. */
    flows.external.port = 6001;
    engine_map(engine, HOST_A, 81, 1, 3600)->mapping.external.port = 6001;
    assert_int_equal(engine_ask(engine, HOST_A)->mapping.external.port, 6001);
    peer(engine, HOST_A, 5000, 443, 1, 3600);
    assert_result(engine_ask(engine, HOST_A), PCP_RESULT_CANNOT_PROVIDE_EXTERNAL);
    assert_int_equal(engine_n_live(engine), 2);
    assert_consistent(engine);
}

/* A flow that is not translated, or is left from an address that is gone, is none. */
static void test_peer_of_a_flow_on_a_foreign_address(void **state)
{
    struct engine *engine = *state;
    struct flows flows;

    restart_with_flow(engine, &flows, OTHER_EXTERNAL, 6000);
    assert_int_equal(create_peer(engine, HOST_A, 5000, 443, 1), 5000);
    assert_int_equal(flows.n_asked, 1);
}

/* [R-6887-15-16] */
static void test_peer_never_shortens(void **state)
{
    struct engine *engine = *state;

    create_peer(engine, HOST_A, 5000, 443, 1);
    engine_sleep_s(engine, 100);
    peer(engine, HOST_A, 5000, 443, 1, 120);
    assert_int_equal(engine_ask(engine, HOST_A)->lifetime_s, 3500);
    peer(engine, HOST_A, 5000, 443, 1, 7200);
    assert_int_equal(engine_ask(engine, HOST_A)->lifetime_s, 7200);
    assert_int_equal(engine_n_live(engine), 1);
    assert_consistent(engine);
}

static void test_peer_repeated_is_not_committed_again(void **state)
{
    struct engine *engine = *state;

    create_peer(engine, HOST_A, 5000, 443, 1);
    uint64_t n_commits = server_counters(engine->server)->n_commits;
    engine_sleep_s(engine, 3);
    assert_int_equal(create_peer(engine, HOST_A, 5000, 443, 1), 5000);
    assert_int_equal(server_counters(engine->server)->n_commits, n_commits);
    assert_int_equal(server_counters(engine->server)->n_repeated, 1);
}

/* [R-6887-12.3-3] */
static void test_peer_with_another_nonce(void **state)
{
    struct engine *engine = *state;

    create_peer(engine, HOST_A, 5000, 443, 1);
    engine_sleep_s(engine, 600);
    peer(engine, HOST_A, 5000, 443, 2, 3600);
    const struct pcp_response *response = engine_ask(engine, HOST_A);
    assert_result(response, PCP_RESULT_NOT_AUTHORIZED);
    assert_int_equal(response->lifetime_s, 3000);
    assert_int_equal(delete_peer(engine, HOST_A, 5000, 443, 2), PCP_RESULT_NOT_AUTHORIZED);
    assert_int_equal(engine_n_live(engine), 1);
}

static void test_peer_lifetime_0(void **state)
{
    struct engine *engine = *state;

    create_peer(engine, HOST_A, 5000, 443, 1);
    create_peer(engine, HOST_A, 5000, 444, 1);
    assert_int_equal(delete_peer(engine, HOST_A, 5000, 443, 1), PCP_RESULT_SUCCESS);
    assert_int_equal(engine_n_live(engine), 1);
    assert_int_equal(delete_peer(engine, HOST_A, 5000, 443, 1), PCP_RESULT_SUCCESS);
    assert_int_equal(engine_n_live(engine), 1);
    assert_consistent(engine);
}

/* [R-6887-12.3-9] Nothing of it stays with us; its flow is the kernel's from then on. */
static void test_peer_not_renewed(void **state)
{
    struct engine *engine = *state;

    create_peer(engine, HOST_A, 5000, 443, 1);
    assert_int_equal(memory_nat_count(engine->nat), 1);
    engine_sleep_s(engine, 3600);
    engine_settle(engine);
    assert_int_equal(engine_n_live(engine), 0);
    assert_int_equal(memory_nat_count(engine->nat), 0);
    assert_int_equal(engine_epoch_s(engine, HOST_A), 3600);
    assert_consistent(engine);
}

/* Until its port is free again only the same client gets it back, with the suggestion a client sends then. */
static void test_peer_after_its_end(void **state)
{
    struct engine *engine = *state;

    assert_int_equal(create_peer(engine, HOST_A, 5000, 443, 1), 5000);
    assert_int_equal(delete_peer(engine, HOST_A, 5000, 443, 1), PCP_RESULT_SUCCESS);
    peer(engine, HOST_B, 5000, 443, 1, 3600)->mapping.external.port = 5000;
    assert_result(engine_ask(engine, HOST_B), PCP_RESULT_CANNOT_PROVIDE_EXTERNAL);
    peer(engine, HOST_A, 5000, 443, 1, 3600)->mapping.external = endpoint_of(ENGINE_EXTERNAL, 5000);
    assert_result(engine_ask(engine, HOST_A), PCP_RESULT_SUCCESS);
    assert_int_equal(engine_n_held(engine), 0);
    assert_consistent(engine);
}

/* [R-6887-15.1-12] */
static void test_map_delete_with_only_a_peer(void **state)
{
    struct engine *engine = *state;

    create_peer(engine, HOST_A, 5000, 443, 1);
    engine_map(engine, HOST_A, 5000, 1, 0);
    assert_result(engine_ask(engine, HOST_A), PCP_RESULT_NOT_AUTHORIZED);
    engine_map(engine, HOST_A, 5001, 1, 0);
    assert_result(engine_ask(engine, HOST_A), PCP_RESULT_SUCCESS);
    engine_map(engine, HOST_A, 5000, 1, 0)->mapping.protocol = IPPROTO_TCP;
    assert_result(engine_ask(engine, HOST_A), PCP_RESULT_SUCCESS);
    assert_int_equal(engine_n_live(engine), 1);
}

/* [R-6887-12.3-2] */
static void test_peer_with_an_invalid_remote(void **state)
{
    struct engine *engine = *state;
    static const char *const remotes[] = {
        "::",      "0.0.0.0",     "127.0.0.1",   "::1",     "224.0.0.1", "255.255.255.255",
        "ff02::1", "2001:db8::1", "169.254.1.1", "fe80::1",
    };

    for (size_t i = 0; i < N_ELEMENTS(remotes); i++) {
        struct pcp_request *request = peer(engine, HOST_A, 5000, 443, 1, 3600);
        assert_int_equal(ip_address_parse(remotes[i], &request->mapping.remote.address), 0);
        assert_result(engine_ask(engine, HOST_A), PCP_RESULT_MALFORMED_REQUEST);
    }
    assert_int_equal(engine_n_live(engine), 0);
}

/* [R-6887-12.1-1] */
static void test_peer_with_fields_zero(void **state)
{
    struct engine *engine = *state;

    peer(engine, HOST_A, 0, 443, 1, 3600);
    assert_result(engine_ask(engine, HOST_A), PCP_RESULT_MALFORMED_REQUEST);
    peer(engine, HOST_A, 5000, 0, 1, 3600);
    assert_result(engine_ask(engine, HOST_A), PCP_RESULT_MALFORMED_REQUEST);
    peer(engine, HOST_A, 5000, 443, 1, 3600)->mapping.protocol = 0;
    assert_result(engine_ask(engine, HOST_A), PCP_RESULT_MALFORMED_REQUEST);
    peer(engine, HOST_A, 5000, 443, 1, 3600)->mapping.protocol = 47;
    assert_result(engine_ask(engine, HOST_A), PCP_RESULT_UNSUPP_PROTOCOL);
}

static void test_peer_counts_to_the_quota(void **state)
{
    struct engine *engine = *state;

    for (uint16_t i = 0; i < engine->settings.mappings_per_subscriber; i++)
        create_peer(engine, HOST_A, 5000, 443 + i, 1);
    peer(engine, HOST_A, 5000, 80, 1, 3600);
    assert_result(engine_ask(engine, HOST_A), PCP_RESULT_USER_EX_QUOTA);
}

static void test_peer_without_an_external_address(void **state)
{
    struct engine *engine = *state;

    create_peer(engine, HOST_A, 5000, 443, 1);
    engine_set_external(engine, NULL, 0);
    engine_sleep_s(engine, 100);
    peer(engine, HOST_A, 5000, 443, 1, 3600);
    assert_result(engine_ask(engine, HOST_A), PCP_RESULT_NETWORK_FAILURE);
    peer(engine, HOST_A, 5001, 443, 1, 3600);
    assert_result(engine_ask(engine, HOST_A), PCP_RESULT_NETWORK_FAILURE);
    assert_int_equal(engine_n_live(engine), 1);
}

static void test_peer_with_failing_commits(void **state)
{
    struct engine *engine = *state;

    for (enum engine_end end = ENGINE_STORE_FAILS; end <= ENGINE_KERNEL_FAILS; end++) {
        peer(engine, HOST_A, 5000, 443, 1, 3600);
        engine_send(engine, HOST_A);
        assert_true(engine_seal(engine));
        engine_finish(engine, end);
        assert_int_equal(engine_collect(engine), 1);
        assert_int_not_equal(engine_answer(engine, 0)->result, PCP_RESULT_SUCCESS);
        assert_int_equal(engine_n_live(engine), 0);
        engine_sleep_s(engine, 2);
        engine_settle(engine);
        assert_consistent(engine);
    }
}

static void test_peer_ipv6(void **state)
{
    struct engine *engine = *state;
    struct server_settings settings = engine->settings;
    struct ip_address host;
    struct endpoint remote = {.port = 443};

    assert_int_equal(ip_prefix_parse("2001:db8:1::/64", &settings.internal_prefixes[1]), 0);
    settings.n_internal_prefixes = 2;
    restart_with(engine, &settings);
    assert_int_equal(ip_address_parse("2001:db8:1::5", &host), 0);
    assert_int_equal(ip_address_parse("2001:db8:2::1", &remote.address), 0);
    engine_peer_of(engine, &host, 5000, &remote, 1, 3600);
    const struct pcp_response *response = engine_ask_of(engine, &host);
    assert_result(response, PCP_RESULT_SUCCESS);
    assert_true(endpoint_equal(&response->mapping.external, &(struct endpoint){host, 5000}));
    engine_peer_of(engine, &host, 5001, &remote, 1, 3600)->mapping.external.port = 5002;
    assert_result(engine_ask_of(engine, &host), PCP_RESULT_CANNOT_PROVIDE_EXTERNAL);
    remote.address = ip_address_from_ipv4(REMOTE);
    engine_peer_of(engine, &host, 5000, &remote, 1, 3600);
    assert_result(engine_ask_of(engine, &host), PCP_RESULT_MALFORMED_REQUEST);
    engine_crash(engine, ENGINE_CRASH_BEFORE_STORE);
    assert_int_equal(engine_n_live(engine), 1);
    assert_consistent(engine);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        PEER_TEST(test_peer_without_a_suggestion),
        PEER_TEST(test_peer_with_a_suggestion),
        PEER_TEST(test_peer_with_a_suggestion_that_cannot_be),
        PEER_TEST(test_peer_switched_off),
        PEER_TEST(test_peer_and_map_share),
        PEER_TEST(test_peer_with_another_suggestion_than_its_map),
        PEER_TEST(test_peer_and_map_move_together),
        PEER_TEST(test_peer_of_a_flow),
        PEER_TEST(test_peer_of_a_flow_on_the_port_of_another),
        PEER_TEST(test_peer_of_a_flow_on_a_foreign_address),
        PEER_TEST(test_peer_never_shortens),
        PEER_TEST(test_peer_repeated_is_not_committed_again),
        PEER_TEST(test_peer_with_another_nonce),
        PEER_TEST(test_peer_lifetime_0),
        PEER_TEST(test_peer_not_renewed),
        PEER_TEST(test_peer_after_its_end),
        PEER_TEST(test_map_delete_with_only_a_peer),
        PEER_TEST(test_peer_with_an_invalid_remote),
        PEER_TEST(test_peer_with_fields_zero),
        PEER_TEST(test_peer_counts_to_the_quota),
        PEER_TEST(test_peer_without_an_external_address),
        PEER_TEST(test_peer_with_failing_commits),
        PEER_TEST(test_peer_ipv6),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
