/* NAT-PMP (RFC 6886 s3) on the table of PCP. */

#include "fixture.h"

#define OTHER_EXTERNAL 0xcb007101 /* 203.0.113.1 */

static int setup_natpmp(void **state)
{
    struct server_settings settings = engine_settings();
    if (setup(state) < 0)
        return -1;
    settings.natpmp = settings.peer = true;
    restart_with(*state, &settings);
    return 0;
}

#define NATPMP_TEST(name) cmocka_unit_test_setup_teardown(name, setup_natpmp, teardown)

static const struct natpmp_response *ask(struct engine *engine, uint32_t host, uint8_t opcode,
                                         uint16_t internal_port, uint16_t external_port,
                                         uint32_t lifetime_s)
{
    struct natpmp_request request = {opcode, internal_port, external_port, lifetime_s};
    return engine_ask_natpmp(engine, host, &request);
}

static uint16_t map_udp(struct engine *engine, uint32_t host, uint16_t internal_port,
                        uint16_t external_port)
{
    const struct natpmp_response *response =
        ask(engine, host, NATPMP_OPCODE_MAP_UDP, internal_port, external_port, 3600);
    assert_string_equal(natpmp_result_name(response->result), "SUCCESS");
    return response->external_port;
}

/* [R-6886-3.2-1] [R-6886-3.2-3] */
static void test_address(void **state)
{
    struct engine *engine = *state;

    engine_sleep_s(engine, 100);
    const struct natpmp_response *response = ask(engine, HOST_A, NATPMP_OPCODE_ADDRESS, 0, 0, 0);
    assert_int_equal(response->result, NATPMP_RESULT_SUCCESS);
    assert_int_equal(response->external_address, ENGINE_EXTERNAL);
    assert_int_equal(response->epoch_s, 100);
    assert_int_equal(engine->answers[0].size_bytes, 12);
}

/* [R-6886-3.2-2] */
static void test_address_without_one(void **state)
{
    struct engine *engine = *state;

    engine_set_external(engine, NULL, 0);
    const struct natpmp_response *response = ask(engine, HOST_A, NATPMP_OPCODE_ADDRESS, 0, 0, 0);
    assert_int_equal(response->result, NATPMP_RESULT_NETWORK_FAILURE);
    assert_int_equal(response->external_address, 0);
    /* [R-6886-3.5-4] */
    response = ask(engine, HOST_A, NATPMP_OPCODE_MAP_TCP, 80, 0, 3600);
    assert_int_equal(response->result, NATPMP_RESULT_NETWORK_FAILURE);
    assert_int_equal(response->opcode, NATPMP_OPCODE_MAP_TCP);
    assert_int_equal(response->internal_port, 80);
    assert_int_equal(response->external_port, 0);
    assert_int_equal(response->lifetime_s, 0);
}

/* [R-6886-3.3-2] [R-6886-3.3-3] [R-6886-3.3-4] [R-6886-3.3-8] */
static void test_map(void **state)
{
    struct engine *engine = *state;
    struct mapping_record record;
    const struct endpoint internal = {ip_address_from_ipv4(HOST_A), 80};

    const struct natpmp_response *response =
        ask(engine, HOST_A, NATPMP_OPCODE_MAP_TCP, 80, 5000, 7200);
    assert_int_equal(response->result, NATPMP_RESULT_SUCCESS);
    assert_int_equal(response->opcode, NATPMP_OPCODE_MAP_TCP);
    assert_int_equal(response->internal_port, 80);
    assert_int_equal(response->external_port, 5000);
    assert_int_equal(response->lifetime_s, 7200);
    assert_int_equal(engine_n_live(engine), 1);
    assert_true(engine_find_of(engine, MAPPING_KIND_MAP, &internal, IPPROTO_TCP, &record));
    assert_false(record.has_nonce);
    assert_int_equal(map_udp(engine, HOST_A, 80, 5000), 5000);
    assert_int_equal(engine_n_live(engine), 2);
    assert_consistent(engine);
    engine_crash(engine, ENGINE_CRASH_BEFORE_STORE);
    assert_int_equal(map_udp(engine, HOST_A, 80, 0), 5000);
    assert_consistent(engine);
}

/* [R-6886-3.3-10] Neither more than asked for nor than configured. */
static void test_renew(void **state)
{
    struct engine *engine = *state;
    static const uint32_t lifetimes_s[][2] = {{1, 1}, {60, 60}, {100000, 86400}, {300, 300}};

    map_udp(engine, HOST_A, 80, 5000);
    for (size_t i = 0; i < N_ELEMENTS(lifetimes_s); i++) {
        const struct natpmp_response *response =
            ask(engine, HOST_A, NATPMP_OPCODE_MAP_UDP, 80, 6000, lifetimes_s[i][0]);
        assert_int_equal(response->lifetime_s, lifetimes_s[i][1]);
        assert_int_equal(response->external_port, 5000);
    }
    engine_sleep_s(engine, 299);
    engine_settle(engine);
    assert_int_equal(engine_n_live(engine), 1);
    /* [R-6886-3.4-1] */
    engine_sleep_s(engine, 1);
    engine_settle(engine);
    assert_int_equal(engine_n_live(engine), 0);
    assert_consistent(engine);
}

static void test_map_repeated_is_not_committed_again(void **state)
{
    struct engine *engine = *state;

    map_udp(engine, HOST_A, 80, 5000);
    uint64_t n_commits = server_counters(engine->server)->n_commits;
    engine->now_ns += 750 * NS_PER_MS;
    assert_int_equal(map_udp(engine, HOST_A, 80, 5000), 5000);
    assert_int_equal(server_counters(engine->server)->n_commits, n_commits);
}

/* [R-6886-3.4-2] [R-6886-3.4-3] [R-6886-3.4-4] */
static void test_delete_one(void **state)
{
    struct engine *engine = *state;

    map_udp(engine, HOST_A, 80, 5000);
    map_udp(engine, HOST_A, 81, 5001);
    for (int i = 0; i < 2; i++) {
        const struct natpmp_response *response =
            ask(engine, HOST_A, NATPMP_OPCODE_MAP_UDP, 80, 6000, 0);
        assert_int_equal(response->result, NATPMP_RESULT_SUCCESS);
        assert_int_equal(response->internal_port, 80);
        assert_int_equal(response->external_port, 0);
        assert_int_equal(response->lifetime_s, 0);
        assert_int_equal(engine_n_live(engine), 1);
    }
    assert_consistent(engine);
}

/* [R-6886-3.4-8] [R-6886-3.4-10] */
static void test_delete_all(void **state)
{
    struct engine *engine = *state;

    for (uint16_t i = 0; i < 5; i++)
        map_udp(engine, HOST_A, 80 + i, 0);
    ask(engine, HOST_A, NATPMP_OPCODE_MAP_TCP, 80, 0, 3600);
    map_udp(engine, HOST_B, 80, 0);
    const struct natpmp_response *response = ask(engine, HOST_A, NATPMP_OPCODE_MAP_UDP, 0, 0, 0);
    assert_int_equal(response->result, NATPMP_RESULT_SUCCESS);
    assert_int_equal(response->internal_port, 0);
    assert_int_equal(response->external_port, 0);
    assert_int_equal(response->lifetime_s, 0);
    assert_int_equal(engine_n_live(engine), 2);
    assert_consistent(engine);
}

/* [R-6886-3.4-9] [R-6886-3.4-5] What has a nonce is not NAT-PMP's to end. */
static void test_delete_all_in_part(void **state)
{
    struct engine *engine = *state;

    map_udp(engine, HOST_A, 80, 0);
    engine_create(engine, HOST_A, 81, 1, 3600);
    map_udp(engine, HOST_A, 82, 0);
    const struct natpmp_response *response = ask(engine, HOST_A, NATPMP_OPCODE_MAP_UDP, 0, 0, 0);
    assert_int_equal(response->result, NATPMP_RESULT_NOT_AUTHORIZED);
    assert_int_equal(response->lifetime_s, 0);
    assert_int_equal(engine_n_live(engine), 1);
    assert_consistent(engine);
}

/* The list of a subscriber of many addresses has others' mappings too. */
static void test_delete_all_of_one_address_of_a_subscriber(void **state)
{
    struct engine *engine = *state;
    struct server_settings settings = engine->settings;

    settings.subscriber_length_ipv4 = 120;
    restart_with(engine, &settings);
    map_udp(engine, HOST_A, 80, 0);
    map_udp(engine, HOST_B, 80, 0);
    assert_int_equal(ask(engine, HOST_A, NATPMP_OPCODE_MAP_UDP, 0, 0, 0)->result,
                     NATPMP_RESULT_SUCCESS);
    struct mapping_record record;
    assert_true(engine_find(engine, HOST_B, 80, &record));
    assert_int_equal(engine_n_live(engine), 1);
}

static void test_port_0(void **state)
{
    struct engine *engine = *state;

    assert_int_not_equal(ask(engine, HOST_A, NATPMP_OPCODE_MAP_UDP, 0, 5000, 3600)->result,
                         NATPMP_RESULT_SUCCESS);
    assert_int_equal(engine_n_live(engine), 0);
}

/* [R-6886-3.5-3] */
static void test_unknown_opcode(void **state)
{
    struct engine *engine = *state;
    const uint8_t request[] = {0, 3, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11};

    engine_sleep_s(engine, 258);
    engine_send_octets(engine, HOST_A, request, sizeof(request));
    assert_int_equal(engine_collect(engine), 1);
    const uint8_t answer[] = {0, 131, 0, 5, 0, 0, 1, 2, 7, 8, 9, 10, 11};
    assert_int_equal(engine->answers[0].size_bytes, sizeof(answer));
    assert_memory_equal(engine->answers[0].data, answer, sizeof(answer));
    engine_send_octets(engine, HOST_A, request, 2);
    assert_int_equal(engine_collect(engine), 1);
    assert_int_equal(engine->answers[0].size_bytes, 8);
}

/* [R-6886-3.5-2] */
static void test_what_is_no_request(void **state)
{
    struct engine *engine = *state;
    uint8_t octets[12] = {0, 1};

    for (size_t size = 0; size < sizeof(octets); size++) {
        engine_send_octets(engine, HOST_A, octets, size);
        assert_int_equal(engine_collect(engine), 0);
    }
    for (unsigned int opcode = 128; opcode < 256; opcode++) {
        octets[1] = (uint8_t) opcode;
        engine_send_octets(engine, HOST_A, octets, sizeof(octets));
        assert_int_equal(engine_collect(engine), 0);
    }
    struct ip_address ipv6 = {{0x20, 0x01, 0x0d, 0xb8}};
    octets[1] = NATPMP_OPCODE_ADDRESS;
    engine_send_octets_of(engine, &ipv6, octets, 2);
    assert_int_equal(engine_collect(engine), 0);
}

static void test_of_a_stranger(void **state)
{
    struct engine *engine = *state;

    assert_int_equal(ask(engine, 0x0b000001, NATPMP_OPCODE_MAP_UDP, 80, 0, 3600)->result,
                     NATPMP_RESULT_NOT_AUTHORIZED);
    assert_int_equal(engine_n_live(engine), 0);
}

/* [R-6886-5-1] PCP answers, with its own version. */
static void test_switched_off(void **state)
{
    struct engine *engine = *state;
    struct server_settings settings = engine->settings;
    const uint8_t request[] = {0, 0};

    settings.natpmp = false;
    assert_int_equal(server_set_settings(engine->server, engine->now_ns, &settings), 0);
    engine_send_octets(engine, HOST_A, request, sizeof(request));
    engine_settle(engine);
    assert_int_equal(engine_collect(engine), 1);
    assert_int_equal(engine->answers[0].data[0], PCP_VERSION);
    assert_int_equal(engine->answers[0].data[1], 0x80);
    assert_int_equal(engine->answers[0].data[3], PCP_RESULT_UNSUPP_VERSION);
}

/* [R-6886-3.3-5] [R-6886-3.3-6] [R-6886-3.3-7] */
static void test_companion_port(void **state)
{
    struct engine *engine = *state;

    assert_int_equal(map_udp(engine, HOST_A, 80, 5000), 5000);
    /* Nobody else gets the port of the other protocol, by either protocol; the same host does. */
    const struct natpmp_response *response =
        ask(engine, HOST_B, NATPMP_OPCODE_MAP_TCP, 80, 5000, 3600);
    assert_int_equal(response->result, NATPMP_RESULT_SUCCESS);
    assert_int_not_equal(response->external_port, 5000);
    struct pcp_request *request = engine_map(engine, HOST_B, 81, 1, 3600);
    request->mapping.protocol = IPPROTO_TCP;
    request->mapping.external.port = 5000;
    assert_int_not_equal(engine_ask(engine, HOST_B)->mapping.external.port, 5000);
    request = engine_map(engine, HOST_B, 82, 1, 3600);
    request->mapping.protocol = IPPROTO_TCP;
    request->mapping.external.port = 5000;
    engine_add_option(engine, &(struct pcp_option){.code = PCP_OPTION_PREFER_FAILURE});
    assert_result(engine_ask(engine, HOST_B), PCP_RESULT_CANNOT_PROVIDE_EXTERNAL);
    request = engine_map(engine, HOST_A, 83, 1, 3600);
    request->mapping.protocol = IPPROTO_TCP;
    request->mapping.external.port = 5000;
    assert_int_equal(engine_ask(engine, HOST_A)->mapping.external.port, 5000);
    /* What a PCP client has already is in the way. */
    request = engine_map(engine, HOST_B, 84, 1, 3600);
    request->mapping.protocol = IPPROTO_TCP;
    request->mapping.external.port = 6000;
    assert_int_equal(engine_ask(engine, HOST_B)->mapping.external.port, 6000);
    assert_int_not_equal(map_udp(engine, HOST_A, 84, 6000), 6000);
    /* PCP clients are not in each other's. */
    engine_map(engine, HOST_A, 85, 1, 3600)->mapping.external.port = 6000;
    assert_int_equal(engine_ask(engine, HOST_A)->mapping.external.port, 6000);
    assert_consistent(engine);
}

/* Not even when few ports are left, nor by taking over the port of a PEER. */
static void test_companion_port_with_few_ports(void **state)
{
    struct engine *engine = *state;
    struct server_settings settings = engine->settings;
    struct ip_address host = ip_address_from_ipv4(HOST_A);
    struct endpoint remote = {ip_address_from_ipv4(0x08080808), 443};

    settings.external_ports[0] = (struct port_range){2000, 2001};
    restart_with(engine, &settings);
    struct pcp_request *request = engine_map(engine, HOST_B, 80, 1, 3600);
    request->mapping.protocol = IPPROTO_TCP;
    request->mapping.external.port = 2000;
    assert_int_equal(engine_ask(engine, HOST_B)->mapping.external.port, 2000);
    engine_peer_of(engine, &host, 80, &remote, 1, 3600)->mapping.external.port = 2000;
    assert_result(engine_ask(engine, HOST_A), PCP_RESULT_SUCCESS);
    assert_int_equal(map_udp(engine, HOST_A, 80, 0), 2001);
    assert_int_equal(ask(engine, HOST_A, NATPMP_OPCODE_MAP_UDP, 81, 0, 3600)->result,
                     NATPMP_RESULT_OUT_OF_RESOURCES);
    assert_consistent(engine);
}

static void test_shares_the_port_of_a_peer(void **state)
{
    struct engine *engine = *state;
    struct ip_address host = ip_address_from_ipv4(HOST_A);
    struct endpoint remote = {ip_address_from_ipv4(0x08080808), 443};

    engine_peer_of(engine, &host, 80, &remote, 1, 3600)->mapping.external.port = 6000;
    assert_result(engine_ask(engine, HOST_A), PCP_RESULT_SUCCESS);
    assert_int_equal(map_udp(engine, HOST_A, 80, 7000), 6000);
    assert_consistent(engine);
    /* Which keeps the other protocol's port for it, whoever of the two came first. */
    struct pcp_request *request = engine_map(engine, HOST_B, 80, 1, 3600);
    request->mapping.protocol = IPPROTO_TCP;
    request->mapping.external.port = 6000;
    assert_int_not_equal(engine_ask(engine, HOST_B)->mapping.external.port, 6000);
    map_udp(engine, HOST_A, 81, 6001);
    engine_peer_of(engine, &host, 81, &remote, 1, 3600);
    assert_result(engine_ask(engine, HOST_A), PCP_RESULT_SUCCESS);
    request = engine_map(engine, HOST_B, 81, 1, 3600);
    request->mapping.protocol = IPPROTO_TCP;
    request->mapping.external.port = 6001;
    assert_int_not_equal(engine_ask(engine, HOST_B)->mapping.external.port, 6001);
}

/* PCP gives it a nonce; from then on NAT-PMP may read it, no more. */
static void test_of_what_pcp_has_taken_over(void **state)
{
    struct engine *engine = *state;

    map_udp(engine, HOST_A, 80, 5000);
    assert_int_equal(engine_create(engine, HOST_A, 80, 1, 7200), 5000);
    const struct natpmp_response *response = ask(engine, HOST_A, NATPMP_OPCODE_MAP_UDP, 80, 0, 60);
    assert_int_equal(response->result, NATPMP_RESULT_SUCCESS);
    assert_int_equal(response->external_port, 5000);
    assert_int_equal(response->lifetime_s, 60);
    struct mapping_record record;
    assert_true(engine_find(engine, HOST_A, 80, &record));
    assert_int_equal(record.expires_ns, engine->now_ns + 7200 * NS_PER_S);
    assert_int_equal(ask(engine, HOST_A, NATPMP_OPCODE_MAP_UDP, 80, 0, 0)->result,
                     NATPMP_RESULT_NOT_AUTHORIZED);
    engine_map(engine, HOST_A, 80, 2, 3600);
    assert_result(engine_ask(engine, HOST_A), PCP_RESULT_NOT_AUTHORIZED);
    assert_int_equal(engine_n_live(engine), 1);
    assert_consistent(engine);
}

/* Over, but the store refuses: there is nothing left to promise. */
static void test_of_what_should_have_ended(void **state)
{
    struct engine *engine = *state;

    engine_create(engine, HOST_A, 80, 1, 120);
    engine_sleep_s(engine, 120);
    server_advance(engine->server, engine->now_ns);
    assert_true(engine_seal(engine));
    engine_finish(engine, ENGINE_STORE_FAILS);
    struct natpmp_request request = {NATPMP_OPCODE_MAP_UDP, 80, 0, 60};
    engine_send_natpmp(engine, HOST_A, &request);
    assert_int_equal(engine_collect(engine), 1);
    assert_int_equal(engine_natpmp_answer(engine, 0)->result, NATPMP_RESULT_OUT_OF_RESOURCES);
    engine_run_ms(engine, 2000);
    assert_int_not_equal(map_udp(engine, HOST_A, 80, 0), 0);
    assert_consistent(engine);
}

/* Its own port comes back to it within the hold, not to a PCP client. */
static void test_after_its_end(void **state)
{
    struct engine *engine = *state;

    map_udp(engine, HOST_A, 80, 5000);
    ask(engine, HOST_A, NATPMP_OPCODE_MAP_UDP, 80, 0, 0);
    engine_map(engine, HOST_A, 80, 1, 3600)->mapping.external.port = 5000;
    assert_int_not_equal(engine_ask(engine, HOST_A)->mapping.external.port, 5000);
    engine_delete(engine, HOST_A, 80, 1);
    assert_int_equal(map_udp(engine, HOST_A, 80, 0), 5000);
    assert_consistent(engine);
}

static void test_quota(void **state)
{
    struct engine *engine = *state;

    for (uint16_t i = 0; i < engine->settings.mappings_per_subscriber; i++)
        map_udp(engine, HOST_A, 80 + i, 0);
    assert_int_equal(ask(engine, HOST_A, NATPMP_OPCODE_MAP_UDP, 8000, 0, 3600)->result,
                     NATPMP_RESULT_OUT_OF_RESOURCES);
    engine_map(engine, HOST_A, 8000, 1, 3600);
    assert_result(engine_ask(engine, HOST_A), PCP_RESULT_USER_EX_QUOTA);
}

/* [R-6886-3.5-4] The error carries the Epoch of when it leaves. */
static void test_with_failing_commits(void **state)
{
    struct engine *engine = *state;
    static const uint8_t results[] = {
        [ENGINE_STORE_FAILS] = NATPMP_RESULT_OUT_OF_RESOURCES,
        [ENGINE_KERNEL_FULL] = NATPMP_RESULT_OUT_OF_RESOURCES,
        [ENGINE_KERNEL_FAILS] = NATPMP_RESULT_NETWORK_FAILURE,
    };

    for (enum engine_end end = ENGINE_STORE_FAILS; end <= ENGINE_KERNEL_FAILS; end++) {
        struct natpmp_request request = {NATPMP_OPCODE_MAP_TCP, 80, 5000, 3600};
        engine_send_natpmp(engine, HOST_A, &request);
        request = (struct natpmp_request){.opcode = NATPMP_OPCODE_MAP_UDP};
        engine_send_natpmp(engine, HOST_A, &request); /* delete all */
        assert_true(engine_seal(engine));
        assert_int_equal(engine_collect(engine), 0);
        engine_sleep_s(engine, 10);
        engine_finish(engine, end);
        assert_int_equal(engine_collect(engine), 2);
        for (size_t i = 0; i < 2; i++) {
            const struct natpmp_response *response = engine_natpmp_answer(engine, i);
            assert_int_equal(response->result, results[end]);
            assert_int_equal(response->opcode,
                             i == 0 ? NATPMP_OPCODE_MAP_TCP : NATPMP_OPCODE_MAP_UDP);
            assert_int_equal(response->internal_port, i == 0 ? 80 : 0);
            assert_int_equal(response->external_port, 0);
            assert_int_equal(response->lifetime_s, 0);
            assert_int_equal(response->epoch_s, engine_epoch_s(engine, HOST_A));
        }
        assert_int_equal(engine_n_live(engine), 0);
        engine_sleep_s(engine, 2);
        engine_settle(engine);
        assert_consistent(engine);
    }
}

/* [R-6886-3.6-1] */
static void test_epoch_after_a_clear(void **state)
{
    struct engine *engine = *state;
    struct ip_prefix prefix = {ip_address_from_ipv4(HOST_A), 128};
    uint64_t tick;

    map_udp(engine, HOST_A, 80, 0);
    engine_sleep_s(engine, 500);
    assert_int_equal(
        server_clear(engine->server, engine->now_ns, SERVER_CLEAR_SUBSCRIBER, &prefix, 0, &tick),
        1);
    engine_settle(engine);
    engine_collect(engine);
    assert_int_equal(ask(engine, HOST_A, NATPMP_OPCODE_ADDRESS, 0, 0, 0)->epoch_s, 0);
    assert_int_equal(ask(engine, HOST_B, NATPMP_OPCODE_ADDRESS, 0, 0, 0)->epoch_s, 500);
}

/* [R-6886-3.4-6] */
static void test_of_a_static_mapping(void **state)
{
    struct engine *engine = *state;
    struct server_settings settings = engine->settings;

    settings.statics[0] = (struct server_static){
        .internal = {ip_address_from_ipv4(HOST_A), 80},
        .external = {IP_ADDRESS_ANY_IPV4, 443},
        .protocol = IPPROTO_UDP,
    };
    settings.n_statics = 1;
    restart_with(engine, &settings);
    const struct natpmp_response *response =
        ask(engine, HOST_A, NATPMP_OPCODE_MAP_UDP, 80, 0, 3600);
    assert_int_equal(response->external_port, 443);
    assert_int_equal(response->lifetime_s, 3600);
    assert_int_equal(ask(engine, HOST_A, NATPMP_OPCODE_MAP_UDP, 80, 0, 0)->result,
                     NATPMP_RESULT_NOT_AUTHORIZED);
    assert_int_equal(ask(engine, HOST_A, NATPMP_OPCODE_MAP_UDP, 0, 0, 0)->result,
                     NATPMP_RESULT_NOT_AUTHORIZED);
    assert_int_equal(engine_n_live(engine), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        NATPMP_TEST(test_address),
        NATPMP_TEST(test_address_without_one),
        NATPMP_TEST(test_map),
        NATPMP_TEST(test_renew),
        NATPMP_TEST(test_map_repeated_is_not_committed_again),
        NATPMP_TEST(test_delete_one),
        NATPMP_TEST(test_delete_all),
        NATPMP_TEST(test_delete_all_in_part),
        NATPMP_TEST(test_delete_all_of_one_address_of_a_subscriber),
        NATPMP_TEST(test_port_0),
        NATPMP_TEST(test_unknown_opcode),
        NATPMP_TEST(test_what_is_no_request),
        NATPMP_TEST(test_of_a_stranger),
        NATPMP_TEST(test_switched_off),
        NATPMP_TEST(test_companion_port),
        NATPMP_TEST(test_companion_port_with_few_ports),
        NATPMP_TEST(test_shares_the_port_of_a_peer),
        NATPMP_TEST(test_of_what_pcp_has_taken_over),
        NATPMP_TEST(test_after_its_end),
        NATPMP_TEST(test_of_what_should_have_ended),
        NATPMP_TEST(test_quota),
        NATPMP_TEST(test_with_failing_commits),
        NATPMP_TEST(test_epoch_after_a_clear),
        NATPMP_TEST(test_of_a_static_mapping),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
