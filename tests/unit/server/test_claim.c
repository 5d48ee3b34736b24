/* Where mappings go: without translation on IPv6, and all ports or all protocols of an address. */

#include "fixture.h"

#define OTHER_EXTERNAL 0xcb007101 /* 203.0.113.1 */
#define ICMP 1
#define GRE 47

static int setup_claim(void **state)
{
    struct server_settings settings = engine_settings();
    if (setup(state) < 0)
        return -1;
    assert_int_equal(ip_prefix_parse("2001:db8:1::/64", &settings.internal_prefixes[1]), 0);
    assert_int_equal(ip_prefix_parse("fe80::/10", &settings.internal_prefixes[2]), 0);
    settings.n_internal_prefixes = 3;
    settings.whole_ports = true;
    restart_with(*state, &settings);
    return 0;
}

#define CLAIM_TEST(name) cmocka_unit_test_setup_teardown(name, setup_claim, teardown)

static struct ip_address address_of(const char *text)
{
    struct ip_address address;
    assert_int_equal(ip_address_parse(text, &address), 0);
    return address;
}

static void prefer_failure(struct engine *engine)
{
    engine_add_option(engine, &(struct pcp_option){.code = PCP_OPTION_PREFER_FAILURE});
}

static uint8_t map_whole(struct engine *engine, uint32_t host, uint8_t protocol, uint32_t nonce,
                         uint32_t lifetime_s)
{
    engine_map(engine, host, 0, nonce, lifetime_s)->mapping.protocol = protocol;
    return engine_ask(engine, host)->result;
}

static void test_ipv6_keeps_its_endpoint(void **state)
{
    struct engine *engine = *state;
    struct ip_address host = address_of("2001:db8:1::5");
    static const char *const suggestions[] = {"::", "2001:db8:1::5", "2001:db8:9::9"};

    for (size_t i = 0; i < N_ELEMENTS(suggestions); i++) {
        uint16_t port = (uint16_t) (80 + i);
        struct pcp_request *request = engine_map_of(engine, &host, port, 1, 3600);
        request->mapping.external = (struct endpoint){address_of(suggestions[i]), 9000};
        const struct pcp_response *response = engine_ask_of(engine, &host);
        assert_result(response, PCP_RESULT_SUCCESS);
        assert_true(endpoint_equal(&response->mapping.external, &(struct endpoint){host, port}));
    }
    /* Two hosts with the same port are not in each other's way. */
    struct ip_address other = address_of("2001:db8:1::6");
    engine_map_of(engine, &other, 80, 1, 3600);
    assert_int_equal(engine_ask_of(engine, &other)->mapping.external.port, 80);
    engine_set_external(engine, NULL, 0);
    engine_map_of(engine, &other, 81, 1, 3600);
    assert_result(engine_ask_of(engine, &other), PCP_RESULT_SUCCESS);
    assert_consistent(engine);
    engine_crash(engine, ENGINE_CRASH_BEFORE_STORE);
    assert_int_equal(engine_n_live(engine), 5);
    assert_consistent(engine);
    engine_map_of(engine, &host, 80, 1, 0);
    assert_result(engine_ask_of(engine, &host), PCP_RESULT_SUCCESS);
    engine_map_of(engine, &host, 80, 1, 3600);
    assert_int_equal(engine_ask_of(engine, &host)->mapping.external.port, 80);
    assert_consistent(engine);
}

static void test_ipv6_prefer_failure(void **state)
{
    struct engine *engine = *state;
    struct ip_address host = address_of("2001:db8:1::5");

    engine_map_of(engine, &host, 80, 1, 3600)->mapping.external.port = 81;
    prefer_failure(engine);
    assert_result(engine_ask_of(engine, &host), PCP_RESULT_CANNOT_PROVIDE_EXTERNAL);
    engine_map_of(engine, &host, 80, 1, 3600)->mapping.external =
        (struct endpoint){address_of("2001:db8:1::6"), 80};
    prefer_failure(engine);
    assert_result(engine_ask_of(engine, &host), PCP_RESULT_CANNOT_PROVIDE_EXTERNAL);
    engine_map_of(engine, &host, 80, 1, 3600)->mapping.external.port = 80;
    prefer_failure(engine);
    assert_result(engine_ask_of(engine, &host), PCP_RESULT_SUCCESS);
}

/* No translation between families; :: is no wish for one. */
static void test_family_that_cannot_be_provided(void **state)
{
    struct engine *engine = *state;
    struct ip_address ipv6 = address_of("2001:db8:1::5"), ipv4 = ip_address_from_ipv4(HOST_A);
    const struct {
        struct ip_address source, suggested;
        enum pcp_result result;
    } cases[] = {
        {ipv4, IP_ADDRESS_ANY_IPV6, PCP_RESULT_SUCCESS},
        {ipv4, IP_ADDRESS_ANY_IPV4, PCP_RESULT_SUCCESS},
        {ipv4, ipv6, PCP_RESULT_NOT_AUTHORIZED},
        {ipv6, IP_ADDRESS_ANY_IPV6, PCP_RESULT_SUCCESS},
        {ipv6, IP_ADDRESS_ANY_IPV4, PCP_RESULT_NOT_AUTHORIZED},
        {ipv6, ip_address_from_ipv4(ENGINE_EXTERNAL), PCP_RESULT_NOT_AUTHORIZED},
    };

    for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
        engine_map_of(engine, &cases[i].source, 80, 1, 3600)->mapping.external.address =
            cases[i].suggested;
        assert_result(engine_ask_of(engine, &cases[i].source), (uint8_t) cases[i].result);
    }
    /* [R-6887-15.1-5] [R-6887-15.1-6] What a delete suggests is copied, no more. */
    engine_map_of(engine, &ipv4, 80, 1, 0)->mapping.external = (struct endpoint){ipv6, 7};
    const struct pcp_response *response = engine_ask_of(engine, &ipv4);
    assert_result(response, PCP_RESULT_SUCCESS);
    assert_true(endpoint_equal(&response->mapping.external, &(struct endpoint){ipv6, 7}));
    assert_int_equal(engine_n_live(engine), 1);
}

/* Whatever the configuration permits: the address alone does not say which host it is. */
static void test_link_local_source(void **state)
{
    struct engine *engine = *state;
    struct ip_address host = address_of("fe80::5");

    engine_map_of(engine, &host, 80, 1, 3600);
    assert_result(engine_ask_of(engine, &host), PCP_RESULT_NOT_AUTHORIZED);
    engine_map_of(engine, &host, 80, 1, 3600)->opcode = PCP_OPCODE_ANNOUNCE;
    assert_result(engine_ask_of(engine, &host), PCP_RESULT_SUCCESS);
    assert_int_equal(engine_n_live(engine), 0);
}

/* [R-6887-11.3-4] [R-6887-11.3-5] */
static void test_whole_on_ipv6(void **state)
{
    struct engine *engine = *state;
    struct ip_address host = address_of("2001:db8:1::5");
    static const uint8_t protocols[] = {0, IPPROTO_TCP, GRE};

    for (size_t i = 0; i < N_ELEMENTS(protocols); i++) {
        engine_map_of(engine, &host, 0, 1, 3600)->mapping.protocol = protocols[i];
        const struct pcp_response *response = engine_ask_of(engine, &host);
        assert_result(response, PCP_RESULT_SUCCESS);
        assert_true(endpoint_equal(&response->mapping.external, &(struct endpoint){host, 0}));
    }
    engine_map_of(engine, &host, 80, 1, 3600)->mapping.protocol = GRE;
    assert_result(engine_ask_of(engine, &host), PCP_RESULT_UNSUPP_PROTOCOL);
    assert_consistent(engine);
    engine_crash(engine, ENGINE_CRASH_BEFORE_STORE);
    assert_int_equal(engine_n_live(engine), 3);
    assert_consistent(engine);
}

/* [R-6887-11.3-4] [R-6887-11.3-5] */
static void test_whole_not_offered(void **state)
{
    struct engine *engine = *state;
    struct server_settings settings = engine->settings;

    assert_int_equal(map_whole(engine, HOST_A, IPPROTO_TCP, 1, 3600), PCP_RESULT_SUCCESS);
    settings.whole_ports = false;
    assert_int_equal(server_set_settings(engine->server, engine->now_ns, &settings), 0);
    engine_settle(engine);
    assert_int_equal(engine_n_live(engine), 0);
    assert_int_equal(map_whole(engine, HOST_A, IPPROTO_TCP, 1, 3600), PCP_RESULT_UNSUPP_PROTOCOL);
    assert_int_equal(map_whole(engine, HOST_A, 0, 1, 3600), PCP_RESULT_UNSUPP_PROTOCOL);
    assert_int_equal(map_whole(engine, HOST_A, GRE, 1, 3600), PCP_RESULT_UNSUPP_PROTOCOL);
}

/* In its entirety: nobody else has anything there, or gets anything afterwards. [R-6887-11.3-4] */
static void test_whole_protocol(void **state)
{
    struct engine *engine = *state;

    engine_map(engine, HOST_B, 80, 1, 3600)->mapping.protocol = IPPROTO_TCP;
    assert_result(engine_ask(engine, HOST_B), PCP_RESULT_SUCCESS);
    assert_int_equal(map_whole(engine, HOST_A, IPPROTO_TCP, 1, 3600), PCP_RESULT_UNSUPP_PROTOCOL);
    /* Its own are not in the way, nor another protocol. */
    engine_create(engine, HOST_A, 80, 1, 3600);
    assert_int_equal(map_whole(engine, HOST_A, IPPROTO_UDP, 1, 3600), PCP_RESULT_SUCCESS);
    assert_int_equal(map_whole(engine, HOST_A, GRE, 1, 3600), PCP_RESULT_SUCCESS);
    assert_int_equal(map_whole(engine, HOST_B, GRE, 1, 3600), PCP_RESULT_UNSUPP_PROTOCOL);
    assert_int_equal(map_whole(engine, HOST_B, 0, 1, 3600), PCP_RESULT_UNSUPP_PROTOCOL);
    engine_map(engine, HOST_B, 80, 1, 3600);
    assert_result(engine_ask(engine, HOST_B), PCP_RESULT_NO_RESOURCES);
    engine_map(engine, HOST_B, 80, 1, 3600)->mapping.external.port = 5000;
    prefer_failure(engine);
    assert_result(engine_ask(engine, HOST_B), PCP_RESULT_CANNOT_PROVIDE_EXTERNAL);
    engine_create(engine, HOST_A, 81, 1, 3600);
    assert_consistent(engine);
}

/* [R-6887-11.3-5] */
static void test_whole_of_all_protocols(void **state)
{
    struct engine *engine = *state;
    const uint32_t two[] = {ENGINE_EXTERNAL, OTHER_EXTERNAL};

    engine_create(engine, HOST_B, 80, 1, 3600);
    assert_int_equal(map_whole(engine, HOST_A, 0, 1, 3600), PCP_RESULT_UNSUPP_PROTOCOL);
    engine_set_external(engine, two, 2);
    engine_map(engine, HOST_A, 0, 1, 3600)->mapping.protocol = 0;
    const struct pcp_response *response = engine_ask(engine, HOST_A);
    assert_result(response, PCP_RESULT_SUCCESS);
    assert_int_equal(ip_address_to_ipv4(&response->mapping.external.address), OTHER_EXTERNAL);
    /* Others go to the other address, whatever they suggest. */
    engine_map(engine, HOST_B, 81, 1, 3600)->mapping.external =
        (struct endpoint){ip_address_from_ipv4(OTHER_EXTERNAL), 5000};
    response = engine_ask(engine, HOST_B);
    assert_result(response, PCP_RESULT_SUCCESS);
    assert_int_equal(ip_address_to_ipv4(&response->mapping.external.address), ENGINE_EXTERNAL);
    assert_int_equal(map_whole(engine, HOST_B, GRE, 1, 3600), PCP_RESULT_SUCCESS);
    assert_int_equal(map_whole(engine, HOST_A + 2, GRE, 1, 3600), PCP_RESULT_UNSUPP_PROTOCOL);
    assert_consistent(engine);
    /* When an address goes, what stood there does not go where somebody has everything. */
    engine_set_external(engine, two + 1, 1);
    engine_settle(engine);
    struct mapping_record record;
    assert_false(engine_find(engine, HOST_B, 80, &record));
    assert_int_equal(engine_n_live(engine), 1);
    assert_consistent(engine);
}

/* A hold is somebody's too: the port is promised back. */
static void test_whole_next_to_a_hold(void **state)
{
    struct engine *engine = *state;

    engine_create(engine, HOST_B, 80, 1, 3600);
    engine_delete(engine, HOST_B, 80, 1);
    assert_int_equal(map_whole(engine, HOST_A, 0, 1, 3600), PCP_RESULT_UNSUPP_PROTOCOL);
    engine_sleep_s(engine, 121);
    engine_settle(engine);
    assert_int_equal(map_whole(engine, HOST_A, 0, 1, 3600), PCP_RESULT_SUCCESS);
}

/* [R-6887-15.1-2] [R-6887-15.1-3] */
static void test_whole_delete(void **state)
{
    struct engine *engine = *state;
    static const uint8_t protocols[] = {0, IPPROTO_UDP, GRE};

    for (size_t i = 0; i < N_ELEMENTS(protocols); i++) {
        assert_int_equal(map_whole(engine, HOST_A, protocols[i], 1, 3600), PCP_RESULT_SUCCESS);
        uint16_t port = engine_create(engine, HOST_A, 80, 1, 3600);
        assert_int_equal(map_whole(engine, HOST_A, protocols[i], 2, 0), PCP_RESULT_NOT_AUTHORIZED);
        assert_int_equal(engine_n_live(engine), 2);
        assert_int_equal(map_whole(engine, HOST_A, protocols[i], 1, 0), PCP_RESULT_SUCCESS);
        /* That one, not all of the protocol. */
        assert_int_equal(engine_n_live(engine), 1);
        assert_int_equal(engine_create(engine, HOST_A, 80, 1, 3600), port);
        assert_int_equal(map_whole(engine, HOST_A, protocols[i], 1, 0), PCP_RESULT_SUCCESS);
        engine_delete(engine, HOST_A, 80, 1);
        engine_sleep_s(engine, 121);
        engine_settle(engine);
        assert_int_equal(engine_n_held(engine), 0);
        assert_consistent(engine);
    }
}

/* [R-6887-15.1-4] */
static void test_whole_of_all_protocols_with_a_port(void **state)
{
    struct engine *engine = *state;

    engine_map(engine, HOST_A, 80, 1, 0)->mapping.protocol = 0;
    assert_result(engine_ask(engine, HOST_A), PCP_RESULT_MALFORMED_REQUEST);
}

/* Two addresses of one subscriber are two hosts. */
static void test_whole_within_a_subscriber(void **state)
{
    struct engine *engine = *state;
    struct server_settings settings = engine->settings;

    settings.subscriber_length_ipv4 = 120;
    restart_with(engine, &settings);
    engine_create(engine, HOST_B, 80, 1, 3600);
    assert_int_equal(map_whole(engine, HOST_A, 0, 1, 3600), PCP_RESULT_UNSUPP_PROTOCOL);
    assert_int_equal(map_whole(engine, HOST_A, ICMP, 1, 3600), PCP_RESULT_SUCCESS);
    /* Nor do they share an external port. */
    assert_int_not_equal(engine_create(engine, HOST_A, 80, 1, 3600),
                         engine_create(engine, HOST_B, 80, 1, 3600));
    engine_map(engine, HOST_A + 2, 80, 1, 0);
    assert_result(engine_ask(engine, HOST_A + 2), PCP_RESULT_SUCCESS);
    assert_consistent(engine);
}

/* A record that contradicts another is not taken. */
static void test_restore_of_two_wholes(void **state)
{
    struct engine *engine = *state;
    struct mapping_record record = {
        .id = 100,
        .kind = MAPPING_KIND_MAP,
        .state = MAPPING_STATE_LIVE,
        .expires_ns = engine->now_ns + NS_PER_S,
        .internal_address = ip_address_from_ipv4(HOST_A),
        .external_address = ip_address_from_ipv4(ENGINE_EXTERNAL),
        .protocol = GRE,
        .has_nonce = true,
    };

    assert_int_equal(server_restore_mapping(engine->server, &record), 0);
    record.id++;
    record.internal_address = ip_address_from_ipv4(HOST_B);
    assert_int_equal(server_restore_mapping(engine->server, &record), -EADDRINUSE);
    record.internal_address = address_of("2001:db8:1::5");
    record.external_address = address_of("2001:db8:1::6");
    assert_int_equal(server_restore_mapping(engine->server, &record), -EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        CLAIM_TEST(test_ipv6_keeps_its_endpoint),
        CLAIM_TEST(test_ipv6_prefer_failure),
        CLAIM_TEST(test_family_that_cannot_be_provided),
        CLAIM_TEST(test_link_local_source),
        CLAIM_TEST(test_whole_on_ipv6),
        CLAIM_TEST(test_whole_not_offered),
        CLAIM_TEST(test_whole_protocol),
        CLAIM_TEST(test_whole_of_all_protocols),
        CLAIM_TEST(test_whole_next_to_a_hold),
        CLAIM_TEST(test_whole_delete),
        CLAIM_TEST(test_whole_of_all_protocols_with_a_port),
        CLAIM_TEST(test_whole_within_a_subscriber),
        CLAIM_TEST(test_restore_of_two_wholes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
