/* What an inconsiderate or hostile client gets, whatever octets it sends; and the Epoch. */

#include "fixture.h"

static size_t encode(const struct engine *engine, uint8_t *ret_data)
{
    int size = pcp_request_encode(&engine->request, ret_data, PCP_SIZE_MAX);
    assert_true(size > 0);
    return (size_t) size;
}

static void expect_silence(struct engine *engine, const void *data, size_t size_bytes)
{
    engine_send_octets(engine, HOST_A, data, size_bytes);
    engine_settle(engine);
    assert_int_equal(engine_collect(engine), 0);
    assert_int_equal(engine_n_live(engine), 0);
}

/* One answer with this result; all octets behind the header as in the request. */
static void expect_error(struct engine *engine, const uint8_t *data, size_t size_bytes,
                         uint8_t result)
{
    unsigned int n_commits = memory_store_n_commits(engine->store);
    size_t n_live = engine_n_live(engine);
    engine_sleep_s(engine, 7);
    engine_send_octets(engine, HOST_A, data, size_bytes);
    /* Nothing was decided, so nothing is waited for. */
    assert_int_equal(engine_collect(engine), 1);
    const struct engine_answer *answer = &engine->answers[0];
    /* A client cannot decode what comes back of a request that could not be decoded. */
    struct reader header = reader_init(answer->data, answer->size_bytes);
    reader_skip(&header, 1);
    assert_int_equal(reader_u8(&header), data[1] | PCP_RESPONSE_BIT);
    reader_skip(&header, 1);
    assert_string_equal(pcp_result_name(reader_u8(&header)), pcp_result_name(result));
    assert_int_equal(reader_u32(&header), pcp_result_is_long((enum pcp_result) result) ? 1800 : 30);
    assert_int_equal(reader_u32(&header), engine_epoch_s(engine, HOST_A));
    size_t n_same = size_bytes < answer->size_bytes ? size_bytes : answer->size_bytes;
    if (n_same > 24)
        assert_memory_equal(answer->data + 24, data + 24, n_same - 24);
    engine_settle(engine);
    assert_int_equal(memory_store_n_commits(engine->store), n_commits);
    assert_int_equal(engine_n_live(engine), n_live);
}

static void expect_map_error(struct engine *engine, uint8_t result)
{
    uint8_t data[PCP_SIZE_MAX];
    expect_error(engine, data, encode(engine, data), result);
}

/* [R-6887-8.2-7] [R-6887-8.2-10] */
static void test_receive_too_short(void **state)
{
    struct engine *engine = *state;
    uint8_t data[24] = {2, 1};

    expect_silence(engine, data, 0);
    expect_silence(engine, data, 1);
    expect_silence(engine, data, 20);
    expect_silence(engine, data, 23);
}

/* [R-6887-8.2-8] */
static void test_receive_response_bit(void **state)
{
    struct engine *engine = *state;
    uint8_t data[PCP_SIZE_MAX];

    engine_map(engine, HOST_A, 80, 1, 3600);
    size_t size = encode(engine, data);
    data[1] |= 0x80;
    expect_silence(engine, data, size);
    assert_int_equal(server_counters(engine->server)->n_dropped, 1);
}

/* [R-6887-7.2-1] [R-6887-8.2-9] [R-6887-9-1] */
static void test_receive_other_version(void **state)
{
    struct engine *engine = *state;
    uint8_t data[24] = {3, 1};

    expect_error(engine, data, sizeof(data), PCP_RESULT_UNSUPP_VERSION);
    assert_int_equal(engine->answers[0].data[0], 2);
    data[0] = 1;
    expect_error(engine, data, 2, PCP_RESULT_UNSUPP_VERSION);
    assert_int_equal(engine->answers[0].data[0], 2);
    assert_int_equal(engine->answers[0].size_bytes, 24);
}

/* [R-6887-8.2-12] */
static void test_receive_too_long(void **state)
{
    struct engine *engine = *state;
    uint8_t data[1104] = {0};

    engine_map(engine, HOST_A, 80, 1, 3600);
    encode(engine, data);
    expect_error(engine, data, sizeof(data), PCP_RESULT_MALFORMED_REQUEST);
    assert_int_equal(engine->answers[0].size_bytes, 1100);
}

/* [R-6887-8.2-12] */
static void test_receive_not_a_multiple_of_4(void **state)
{
    struct engine *engine = *state;
    uint8_t data[PCP_SIZE_MAX] = {0};

    engine_map(engine, HOST_A, 80, 1, 3600);
    encode(engine, data);
    expect_error(engine, data, 62, PCP_RESULT_MALFORMED_REQUEST);
    assert_int_equal(engine->answers[0].size_bytes, 64);
}

/* [R-6887-8.2-12] */
static void test_receive_too_short_for_map(void **state)
{
    struct engine *engine = *state;
    uint8_t data[PCP_SIZE_MAX];

    engine_map(engine, HOST_A, 80, 1, 3600);
    encode(engine, data);
    expect_error(engine, data, 56, PCP_RESULT_MALFORMED_REQUEST);
}

/* [R-6887-7.2-5] [R-6887-8.2-4] */
static void test_receive_unknown_opcode(void **state)
{
    struct engine *engine = *state;
    uint8_t data[PCP_SIZE_MAX];

    engine_map(engine, HOST_A, 80, 1, 3600);
    size_t size = encode(engine, data);
    data[1] = 50;
    expect_error(engine, data, size, PCP_RESULT_UNSUPP_OPCODE);
    assert_int_equal(engine->answers[0].size_bytes, size);
    /* PEER is known but not offered. */
    data[1] = PCP_OPCODE_PEER;
    expect_error(engine, data, size, PCP_RESULT_UNSUPP_OPCODE);
}

/* [R-6887-8.2-13] */
static void test_receive_client_address_of_another(void **state)
{
    struct engine *engine = *state;

    engine_map(engine, HOST_B, 80, 1, 3600);
    expect_map_error(engine, PCP_RESULT_ADDRESS_MISMATCH);
    engine->request.client_address = ip_address_from_ipv4(HOST_A);
    engine->request.client_address.octets[0] = 1;
    expect_map_error(engine, PCP_RESULT_ADDRESS_MISMATCH);
}

/* [R-6887-7.3-8] [R-6887-7.3-10] */
static void test_receive_option_beyond_the_end(void **state)
{
    struct engine *engine = *state;
    uint8_t data[PCP_SIZE_MAX] = {0};

    engine_map(engine, HOST_A, 80, 1, 3600);
    size_t size = encode(engine, data);
    data[size] = 200;
    data[size + 3] = 8;
    expect_error(engine, data, size + 8, PCP_RESULT_MALFORMED_OPTION);
}

static void test_receive_unknown_options(void **state)
{
    struct engine *engine = *state;
    uint8_t data[PCP_SIZE_MAX] = {0};

    engine_map(engine, HOST_A, 80, 1, 3600);
    size_t size = encode(engine, data);
    data[size] = 64;
    expect_error(engine, data, size + 4, PCP_RESULT_UNSUPP_OPTION);

    data[size] = 200;
    data[size + 3] = 3;
    engine_send_octets(engine, HOST_A, data, size + 8);
    engine_settle(engine);
    assert_int_equal(engine_collect(engine), 1);
    assert_result(engine_answer(engine, 0), PCP_RESULT_SUCCESS);
    assert_int_equal(engine->answers[0].size_bytes, size);
}

/* [R-6887-11.3-9] [R-6887-13.2-3] */
static void test_receive_bad_prefer_failure(void **state)
{
    struct engine *engine = *state;
    struct pcp_option option = {.code = PCP_OPTION_PREFER_FAILURE};
    uint8_t data[PCP_SIZE_MAX] = {0};

    struct pcp_request *request = engine_map(engine, HOST_A, 80, 1, 3600);
    engine_add_option(engine, &option);
    expect_map_error(engine, PCP_RESULT_MALFORMED_OPTION); /* port 0 */
    request->mapping.external.port = 5000;
    request->lifetime_s = 0;
    expect_map_error(engine, PCP_RESULT_MALFORMED_OPTION); /* with a delete */
    request->lifetime_s = 3600;
    size_t size = encode(engine, data);
    data[size - 1] = 4;
    expect_error(engine, data, size + 4, PCP_RESULT_MALFORMED_OPTION); /* with data */
    engine_add_option(engine, &option);
    expect_map_error(engine, PCP_RESULT_MALFORMED_OPTION); /* twice */
}

static void test_receive_prefer_failure_not_offered(void **state)
{
    struct engine *engine = *state;
    struct server_settings settings = engine_settings();
    struct pcp_option option = {.code = PCP_OPTION_PREFER_FAILURE};

    settings.prefer_failure = false;
    restart_with(engine, &settings);
    engine_map(engine, HOST_A, 80, 1, 3600)->mapping.external.port = 5000;
    engine_add_option(engine, &option);
    expect_map_error(engine, PCP_RESULT_UNSUPP_OPTION);
}

/* [R-6887-13.1-1] [R-6887-13.1-3] [R-6887-13.1-4] [R-6887-13.1-5] [R-6887-18.1-3] */
static void test_receive_third_party_not_offered(void **state)
{
    struct engine *engine = *state;
    struct pcp_option option = {.code = PCP_OPTION_THIRD_PARTY,
                                .third_party = ip_address_from_ipv4(HOST_B)};

    engine_map(engine, HOST_A, 80, 1, 3600);
    engine_add_option(engine, &option);
    expect_map_error(engine, PCP_RESULT_UNSUPP_OPTION);
}

/* [R-6887-13.3-7] */
static void test_receive_bad_filter(void **state)
{
    struct engine *engine = *state;

    engine_map(engine, HOST_A, 80, 1, 3600);
    engine_add_filter(engine, 0x01020304, 129, 0);
    expect_map_error(engine, PCP_RESULT_MALFORMED_OPTION);
    engine_map(engine, HOST_A, 80, 1, 3600);
    engine_add_filter(engine, 0x01020300, 24, 0);
    expect_map_error(engine, PCP_RESULT_MALFORMED_OPTION);
    engine_map(engine, HOST_A, 80, 1, 0);
    engine_add_filter(engine, 0x01020304, 128, 0);
    expect_map_error(engine, PCP_RESULT_MALFORMED_OPTION);
}

/* [R-6887-11.3-6] [R-6887-15.1-4] */
static void test_receive_protocol_0_with_a_port(void **state)
{
    struct engine *engine = *state;

    struct pcp_request *request = engine_map(engine, HOST_A, 80, 1, 3600);
    request->mapping.protocol = 0;
    expect_map_error(engine, PCP_RESULT_MALFORMED_REQUEST);
    request->lifetime_s = 0;
    expect_map_error(engine, PCP_RESULT_MALFORMED_REQUEST);
}

/* All protocols, all ports, and protocols without ports would hand a whole host's traffic to one client. */
/* [R-6887-11.3-3] [R-6887-11.3-4] [R-6887-11.3-5] */
static void test_receive_protocols_that_cannot_be_mapped(void **state)
{
    struct engine *engine = *state;

    struct pcp_request *request = engine_map(engine, HOST_A, 0, 1, 3600);
    request->mapping.protocol = 0;
    expect_map_error(engine, PCP_RESULT_UNSUPP_PROTOCOL);
    request->mapping.protocol = IPPROTO_TCP;
    expect_map_error(engine, PCP_RESULT_UNSUPP_PROTOCOL);
    const uint8_t portless[] = {1, 41, 47, 50, 58, 255};
    for (size_t i = 0; i < N_ELEMENTS(portless); i++) {
        request->mapping.protocol = portless[i];
        request->mapping.internal_port = (uint16_t) (i * 80);
        expect_map_error(engine, PCP_RESULT_UNSUPP_PROTOCOL);
    }
}

/* [R-6887-18.1-1] */
static void test_receive_from_outside_the_prefixes(void **state)
{
    struct engine *engine = *state;
    uint8_t data[PCP_SIZE_MAX];

    engine_map(engine, 0xc0a80001, 80, 1, 3600);
    size_t size = encode(engine, data);
    engine_send_octets(engine, 0xc0a80001, data, size);
    assert_int_equal(engine_collect(engine), 1);
    assert_result(engine_answer(engine, 0), PCP_RESULT_NOT_AUTHORIZED);
    assert_int_equal(engine_n_live(engine), 0);
}

static void test_receive_family_that_cannot_be_given(void **state)
{
    struct engine *engine = *state;

    struct pcp_request *request = engine_map(engine, HOST_A, 80, 1, 3600);
    request->mapping.external.address = (struct ip_address){{0x20, 1, 0x0d, 0xb8}};
    expect_map_error(engine, PCP_RESULT_NOT_AUTHORIZED);
    request->mapping.external.address = IP_ADDRESS_ANY_IPV6;
    assert_result(engine_ask(engine, HOST_A), PCP_RESULT_SUCCESS);
}

/* Every truncation and every changed octet of a request with options: answered or not, nothing of it breaks the state. */
static void test_receive_mutated(void **state)
{
    struct engine *engine = *state;
    uint8_t data[PCP_SIZE_MAX];

    engine_map(engine, HOST_A, 80, 1, 3600)->mapping.external.port = 5000;
    engine_add_filter(engine, 0x01020304, 128, 7);
    engine_add_option(engine, &(struct pcp_option){.code = PCP_OPTION_PREFER_FAILURE});
    size_t size = encode(engine, data);
    for (size_t length = 0; length < size; length++)
        engine_send_octets(engine, HOST_A, data, length);
    for (size_t i = 0; i < size; i++) {
        for (int bit = 0; bit < 8; bit++) {
            data[i] ^= (uint8_t) (1 << bit);
            engine_send_octets(engine, HOST_A, data, size);
            data[i] ^= (uint8_t) (1 << bit);
        }
        engine_settle(engine);
        engine_collect(engine);
    }
    assert_true(engine_n_live(engine) <= engine->settings.mappings_per_subscriber);
    assert_consistent(engine);
}

/* [R-6887-7.2-5] [R-6887-14.1.1-1] [R-6887-14.1.2-2] */
static void test_receive_announce(void **state)
{
    struct engine *engine = *state;
    uint8_t data[24] = {2, 0};
    struct ip_address host = ip_address_from_ipv4(HOST_A);

    memcpy(data + 8, host.octets, 16);
    engine_sleep_s(engine, 1234);
    engine_send_octets(engine, HOST_A, data, sizeof(data));
    assert_int_equal(engine_collect(engine), 1);
    assert_result(engine_answer(engine, 0), PCP_RESULT_SUCCESS);
    assert_int_equal(engine->response.lifetime_s, 0);
    assert_int_equal(engine->response.epoch_s, 1234);
    assert_int_equal(engine->answers[0].size_bytes, 24);
}

/* RFC 6887 s8.2: an overloaded server may drop. What one tick holds is bounded, and room comes back with the commit. */
/* [R-6887-8.2-11] */
static void test_receive_beyond_the_tick(void **state)
{
    struct engine *engine = *state;

    engine_create(engine, HOST_A, 80, 1, 3600);
    engine_map(engine, HOST_A, 80, 2, 3600);
    engine->request.lifetime_s = 3600;
    for (int i = 0; i < 16384 + 500; i++)
        engine_send(engine, HOST_A); /* NOT_AUTHORIZED each */
    assert_int_equal(server_counters(engine->server)->n_overloads, 500);
    assert_int_equal(engine_collect(engine), 16384);
    assert_result(engine_ask(engine, HOST_A), PCP_RESULT_NOT_AUTHORIZED);
}

static void test_next_deadline_while_a_tick_is_full(void **state)
{
    struct engine *engine = *state;

    engine_create(engine, HOST_A, 80, 1, 120);
    engine_map(engine, HOST_A, 81, 1, 3600);
    engine_send(engine, HOST_A);
    assert_true(engine_seal(engine));
    for (int i = 0; i < 16384 + 1; i++)
        engine_send(engine, HOST_A);
    engine_sleep_s(engine, 200);
    server_advance(engine->server, engine->now_ns);
    assert_true(server_next_deadline_ns(engine->server) > engine->now_ns);
    engine_finish(engine, ENGINE_COMMITS);
    engine_settle(engine);
    engine_collect(engine);
    engine_settle(engine);
    assert_int_equal(engine_n_live(engine), 1);
}

static void test_epoch_goes_on_over_a_restart(void **state)
{
    struct engine *engine = *state;

    engine_create(engine, HOST_A, 80, 1, 3600);
    engine_sleep_s(engine, 1000);
    assert_int_equal(engine_epoch_s(engine, HOST_A), 1000);
    engine_crash(engine, ENGINE_CRASH_BEFORE_STORE);
    assert_int_equal(engine_epoch_s(engine, HOST_A), 1000);
    engine_sleep_s(engine, 5);
    assert_int_equal(engine_epoch_s(engine, HOST_A), 1005);
}

static void test_reset_epoch_is_for_everybody_and_stored(void **state)
{
    struct engine *engine = *state;

    engine_sleep_s(engine, 1000);
    server_reset_epoch(engine->server, engine->now_ns);
    assert_int_equal(engine_epoch_s(engine, HOST_A), 0);
    engine_settle(engine);
    engine_sleep_s(engine, 10);
    engine_crash(engine, ENGINE_CRASH_BEFORE_STORE);
    assert_int_equal(engine_epoch_s(engine, HOST_A), 10);
    assert_int_equal(engine_epoch_s(engine, HOST_B), 10);
}

static void test_restore_mapping_that_cannot_be(void **state)
{
    struct engine *engine = *state;
    struct mapping_record record, bad;

    engine_create(engine, HOST_A, 80, 1, 3600);
    assert_true(engine_find(engine, HOST_A, 80, &record));
    bad = record;
    bad.state = 7;
    assert_int_equal(server_restore_mapping(engine->server, &bad), -EINVAL);
    bad = record;
    bad.protocol = 50;
    assert_int_equal(server_restore_mapping(engine->server, &bad), -EINVAL);
    bad = record;
    bad.external_port = 0;
    assert_int_equal(server_restore_mapping(engine->server, &bad), -EINVAL);
    bad = record;
    bad.external_address = IP_ADDRESS_ANY_IPV6;
    assert_int_equal(server_restore_mapping(engine->server, &bad), -EINVAL);
    bad = record;
    bad.id = 99;
    assert_int_equal(server_restore_mapping(engine->server, &bad), -EEXIST);
    bad.internal_port = 81;
    assert_int_equal(server_restore_mapping(engine->server, &bad), -EADDRINUSE);
    assert_int_equal(engine_n_live(engine), 1);
}

/* Ids are never used twice, or the store would mix two mappings up. */
static void test_restore_mapping_and_next_id(void **state)
{
    struct engine *engine = *state;
    struct mapping_record first, second;
    struct server_settings settings = engine_settings();

    settings.recycle_delay_s = 0;
    restart_with(engine, &settings);
    engine_create(engine, HOST_A, 80, 1, 3600);
    assert_true(engine_find(engine, HOST_A, 80, &first));
    engine_delete(engine, HOST_A, 80, 1);
    engine_crash(engine, ENGINE_CRASH_BEFORE_STORE);
    engine_create(engine, HOST_A, 80, 1, 3600);
    assert_true(engine_find(engine, HOST_A, 80, &second));
    assert_true(second.id > first.id);
}

/* What the new settings permit goes on, whatever the quota. */
static void test_set_settings_keeps_what_is_permitted(void **state)
{
    struct engine *engine = *state;
    struct server_settings settings = engine_settings();

    engine_map(engine, HOST_A, 80, 1, 3600)->mapping.external.port = 20002;
    assert_int_equal(engine_ask(engine, HOST_A)->mapping.external.port, 20002);
    engine_sleep_s(engine, 1000);
    settings.external_ports[0] = (struct port_range){20000, 20003};
    settings.mappings_per_subscriber = 1;
    assert_int_equal(server_set_settings(engine->server, engine->now_ns, &settings), 0);
    engine_map(engine, HOST_A, 80, 1, 3601);
    assert_int_equal(engine_ask(engine, HOST_A)->mapping.external.port, 20002);
    assert_int_equal(engine_epoch_s(engine, HOST_A), 1000);
    engine_map(engine, HOST_A, 81, 1, 3600);
    assert_result(engine_ask(engine, HOST_A), PCP_RESULT_USER_EX_QUOTA);
    engine_map(engine, HOST_B, 80, 1, 3600)->mapping.external.port = 5001;
    const struct pcp_response *response = engine_ask(engine, HOST_B);
    assert_result(response, PCP_RESULT_SUCCESS);
    assert_in_range(response->mapping.external.port, 20000, 20003);
    engine_crash(engine, ENGINE_CRASH_BEFORE_STORE);
    assert_int_equal(engine_n_live(engine), 2);
    assert_consistent(engine);
}

/* What they do not permit ends, and those concerned see their Epoch restart. [R-6887-8.5-2] [R-6887-8.5-4] */
static void test_set_settings_ends_what_is_forbidden(void **state)
{
    struct engine *engine = *state;
    struct server_settings settings = engine_settings();

    engine_map(engine, HOST_A, 80, 1, 3600)->mapping.external.port = 5000;
    assert_int_equal(engine_ask(engine, HOST_A)->mapping.external.port, 5000);
    engine_map(engine, HOST_B, 80, 1, 3600)->mapping.external.port = 20000;
    assert_int_equal(engine_ask(engine, HOST_B)->mapping.external.port, 20000);
    engine_sleep_s(engine, 1000);
    settings.external_ports[0] = (struct port_range){20000, 20003};
    assert_int_equal(server_set_settings(engine->server, engine->now_ns, &settings), 0);
    engine_settle(engine);
    assert_int_equal(engine_n_live(engine), 1);
    assert_int_equal(engine_epoch_s(engine, HOST_A), 0);
    assert_int_equal(engine_epoch_s(engine, HOST_B), 1000);
    /* Not even its own old port comes back. */
    engine_collect(engine);
    engine_map(engine, HOST_A, 80, 1, 3600)->mapping.external.port = 5000;
    assert_in_range(engine_ask(engine, HOST_A)->mapping.external.port, 20000, 20003);
    settings.internal_prefixes[0] = (struct ip_prefix){ip_address_from_ipv4(HOST_A), 128};
    assert_int_equal(server_set_settings(engine->server, engine->now_ns, &settings), 0);
    engine_settle(engine);
    struct mapping_record record;
    assert_true(engine_find(engine, HOST_A, 80, &record));
    assert_false(engine_find(engine, HOST_B, 80, &record));
    assert_consistent(engine);
}

/* A commit that fails puts what is forbidden back; it is ended again as soon as commits succeed. */
static void test_set_settings_with_failing_commits(void **state)
{
    struct engine *engine = *state;
    struct server_settings settings = engine_settings();

    for (enum engine_end end = ENGINE_STORE_FAILS; end <= ENGINE_KERNEL_FAILS; end++) {
        engine_create(engine, HOST_A, 80, 1, 3600);
        settings.internal_prefixes[0].address = ip_address_from_ipv4(0x0b000000);
        assert_int_equal(server_set_settings(engine->server, engine->now_ns, &settings), 0);
        assert_true(engine_seal(engine));
        engine_finish(engine, end);
        assert_int_equal(engine_n_live(engine), 1);
        engine_run_ms(engine, 2000);
        assert_int_equal(engine_n_live(engine), 0);
        assert_consistent(engine);
        settings.internal_prefixes[0].address = ip_address_from_ipv4(0x0a000000);
        assert_int_equal(server_set_settings(engine->server, engine->now_ns, &settings), 0);
    }
}

/* Settings that changed while the daemon was away. */
static void test_start_ends_what_is_forbidden(void **state)
{
    struct engine *engine = *state;

    engine_create(engine, HOST_A, 80, 1, 3600);
    engine_create(engine, HOST_B, 80, 1, 3600);
    engine_sleep_s(engine, 1000);
    engine->settings.internal_prefixes[0] = (struct ip_prefix){ip_address_from_ipv4(HOST_A), 128};
    engine_crash(engine, ENGINE_CRASH_BEFORE_STORE);
    engine_settle(engine);
    assert_int_equal(engine_n_live(engine), 1);
    assert_int_equal(engine_epoch_s(engine, HOST_A), 1000);
    assert_int_equal(engine_epoch_s(engine, HOST_B), 0);
    assert_consistent(engine);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ENGINE_TEST(test_receive_too_short),
        ENGINE_TEST(test_receive_response_bit),
        ENGINE_TEST(test_receive_other_version),
        ENGINE_TEST(test_receive_too_long),
        ENGINE_TEST(test_receive_not_a_multiple_of_4),
        ENGINE_TEST(test_receive_too_short_for_map),
        ENGINE_TEST(test_receive_unknown_opcode),
        ENGINE_TEST(test_receive_client_address_of_another),
        ENGINE_TEST(test_receive_option_beyond_the_end),
        ENGINE_TEST(test_receive_unknown_options),
        ENGINE_TEST(test_receive_bad_prefer_failure),
        ENGINE_TEST(test_receive_prefer_failure_not_offered),
        ENGINE_TEST(test_receive_third_party_not_offered),
        ENGINE_TEST(test_receive_bad_filter),
        ENGINE_TEST(test_receive_protocol_0_with_a_port),
        ENGINE_TEST(test_receive_protocols_that_cannot_be_mapped),
        ENGINE_TEST(test_receive_from_outside_the_prefixes),
        ENGINE_TEST(test_receive_family_that_cannot_be_given),
        ENGINE_TEST(test_receive_mutated),
        ENGINE_TEST(test_receive_announce),
        ENGINE_TEST(test_receive_beyond_the_tick),
        ENGINE_TEST(test_next_deadline_while_a_tick_is_full),
        ENGINE_TEST(test_epoch_goes_on_over_a_restart),
        ENGINE_TEST(test_reset_epoch_is_for_everybody_and_stored),
        ENGINE_TEST(test_restore_mapping_that_cannot_be),
        ENGINE_TEST(test_restore_mapping_and_next_id),
        ENGINE_TEST(test_set_settings_keeps_what_is_permitted),
        ENGINE_TEST(test_set_settings_ends_what_is_forbidden),
        ENGINE_TEST(test_set_settings_with_failing_commits),
        ENGINE_TEST(test_start_ends_what_is_forbidden),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
