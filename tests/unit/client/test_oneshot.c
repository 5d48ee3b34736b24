/* The exchange on a virtual clock: when it sends, and which answers it believes. */

#include "client/oneshot.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "base/time.h"

#define START_NS (1000 * NS_PER_S)

/* A source that always draws the same: `state[0]` of 2^20. */
static void fill_constant(struct random_source *source, void *ret_data, size_t size_bytes)
{
    uint8_t *octets = ret_data;
    for (size_t i = 0; i < size_bytes; i++)
        octets[i] = (uint8_t) (source->state[0] >> (8 * (i % 8)));
}

static struct random_source constant(uint64_t drawn)
{
    return (struct random_source){.fill = fill_constant, .state = {drawn}};
}

static struct endpoint endpoint(const char *text)
{
    struct endpoint parsed;
    assert_int_equal(endpoint_parse(text, 5351, &parsed), 0);
    return parsed;
}

static struct pcp_request map_request(void)
{
    struct pcp_request request = {
        .opcode = PCP_OPCODE_MAP,
        .lifetime_s = 7200,
        .client_address = endpoint("10.77.0.2").address,
        .mapping =
            {
                .nonce = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12},
                .protocol = 6,
                .internal_port = 8080,
                .external = {IP_ADDRESS_ANY_IPV4, 9090},
            },
    };
    return request;
}

static struct oneshot begin(const struct pcp_request *request, struct random_source *random,
                            uint64_t duration_ns)
{
    struct oneshot oneshot;
    struct endpoint server = endpoint("10.77.0.1");
    assert_int_equal(oneshot_init(&oneshot, request, &server, random, START_NS, duration_ns), 0);
    return oneshot;
}

/* Jumps from deadline to deadline; returns how many transmissions there were, their times relative to the start. */
static size_t run_unanswered(struct oneshot *oneshot, size_t n_wanted, uint64_t *ret_sent_ns)
{
    size_t n_sent = 0;
    uint64_t now_ns = START_NS;
    while (n_sent < n_wanted) {
        switch (oneshot_advance(oneshot, now_ns)) {
        case ONESHOT_STEP_SEND:
            ret_sent_ns[n_sent++] = now_ns - START_NS;
            break;
        case ONESHOT_STEP_WAIT:
            fail_msg("the deadline named was too early");
            break;
        case ONESHOT_STEP_GIVE_UP:
            return n_sent;
        }
        assert_int_equal(oneshot_advance(oneshot, now_ns), ONESHOT_STEP_WAIT);
        assert_int_equal(oneshot_advance(oneshot, oneshot_next_ns(oneshot) - 1), ONESHOT_STEP_WAIT);
        now_ns = oneshot_next_ns(oneshot);
    }
    return n_sent;
}

static void test_oneshot_advance_mean_randomness_gives_the_nominal_schedule(void **state)
{
    (void) state;
    static const uint64_t expected_s[] = {0, 3, 9, 21, 45, 93, 189, 381, 765, 1533, 2557, 3581};
    enum { N = sizeof(expected_s) / sizeof(expected_s[0]) };
    struct random_source random = constant(1 << 19);
    struct pcp_request request = map_request();
    struct oneshot oneshot = begin(&request, &random, TIME_NEVER);
    uint64_t sent_ns[N];
    assert_int_equal(run_unanswered(&oneshot, N, sent_ns), N);
    for (size_t i = 0; i < N; i++)
        assert_int_equal(sent_ns[i], expected_s[i] * NS_PER_S);
}

static void test_oneshot_advance_extreme_randomness_stays_within_a_tenth(void **state)
{
    (void) state;
    struct pcp_request request = map_request();
    uint64_t sent_ns[12];

    struct random_source lowest = constant(0);
    struct oneshot oneshot = begin(&request, &lowest, TIME_NEVER);
    run_unanswered(&oneshot, 12, sent_ns);
    assert_int_equal(sent_ns[1], 2700 * NS_PER_MS);
    /* Twice what the last interval was, not twice what it was meant to be. */
    assert_int_equal(sent_ns[2] - sent_ns[1], 4860 * NS_PER_MS);

    struct random_source highest = constant((1 << 20) - 1);
    oneshot = begin(&request, &highest, TIME_NEVER);
    run_unanswered(&oneshot, 12, sent_ns);
    assert_in_range(sent_ns[1], 3300 * NS_PER_MS - NS_PER_MS, 3300 * NS_PER_MS);
    /* The cap comes before the randomness. */
    assert_in_range(sent_ns[11] - sent_ns[10], 1126400 * NS_PER_MS - 2 * NS_PER_MS,
                    1126400 * NS_PER_MS);
}

static void test_oneshot_advance_intervals_of_many_seeds(void **state)
{
    (void) state;
    struct pcp_request request = map_request();
    bool has_lower = false, has_upper = false;
    for (uint64_t seed = 0; seed < 200; seed++) {
        struct random_source random = random_seeded(seed);
        struct oneshot oneshot = begin(&request, &random, TIME_NEVER);
        uint64_t sent_ns[14];
        run_unanswered(&oneshot, 14, sent_ns);
        uint64_t nominal_ns = 3 * NS_PER_S;
        for (size_t i = 1; i < 14; i++) {
            uint64_t gap_ns = sent_ns[i] - sent_ns[i - 1];
            assert_in_range(gap_ns, nominal_ns - nominal_ns / 10, nominal_ns + nominal_ns / 10);
            has_lower |= gap_ns < nominal_ns - nominal_ns / 12;
            has_upper |= gap_ns > nominal_ns + nominal_ns / 12;
            nominal_ns = 2 * gap_ns > 1024 * NS_PER_S ? 1024 * NS_PER_S : 2 * gap_ns;
        }
    }
    assert_true(has_lower && has_upper);
}

static void test_oneshot_advance_gives_up_in_time(void **state)
{
    (void) state;
    struct random_source random = constant(1 << 19);
    struct pcp_request request = map_request();
    struct oneshot oneshot = begin(&request, &random, 10 * NS_PER_S);
    uint64_t sent_ns[8];
    assert_int_equal(run_unanswered(&oneshot, 8, sent_ns), 3);
    assert_int_equal(oneshot_next_ns(&oneshot), START_NS + 10 * NS_PER_S);
    assert_int_equal(oneshot_advance(&oneshot, START_NS + 10 * NS_PER_S), ONESHOT_STEP_GIVE_UP);
}

static void test_oneshot_advance_called_late_counts_from_then(void **state)
{
    (void) state;
    struct random_source random = constant(1 << 19);
    struct pcp_request request = map_request();
    struct oneshot oneshot = begin(&request, &random, TIME_NEVER);
    assert_int_equal(oneshot_advance(&oneshot, START_NS + NS_PER_S), ONESHOT_STEP_SEND);
    assert_int_equal(oneshot_next_ns(&oneshot), START_NS + 4 * NS_PER_S);
}

static void test_oneshot_init_encodes_the_request(void **state)
{
    (void) state;
    struct random_source random = constant(0);
    struct pcp_request request = map_request();
    struct oneshot oneshot = begin(&request, &random, TIME_NEVER);
    uint8_t expected[PCP_SIZE_MAX];
    int size = pcp_request_encode(&request, expected, sizeof(expected));
    assert_int_equal(oneshot.request_size_bytes, size);
    assert_memory_equal(oneshot.request, expected, (size_t) size);
}

static void test_oneshot_init_too_many_options_fails(void **state)
{
    (void) state;
    struct random_source random = constant(0);
    struct endpoint server = endpoint("10.77.0.1");
    struct oneshot oneshot;
    struct pcp_request request = map_request();
    request.n_options = 50;
    for (size_t i = 0; i < request.n_options; i++)
        request.options[i] = (struct pcp_option){.code = PCP_OPTION_FILTER};
    assert_int_equal(oneshot_init(&oneshot, &request, &server, &random, START_NS, TIME_NEVER),
                     -ENOSPC);
}

struct answer {
    uint8_t octets[PCP_SIZE_MAX];
    struct pcp_response fields;
    struct datagram datagram;
};

/* The right answer to map_request(), for a test to spoil. */
static void init_answer(struct answer *answer, const struct pcp_request *request)
{
    memset(answer, 0, sizeof(*answer));
    answer->fields.opcode = request->opcode;
    answer->fields.lifetime_s = 3600;
    answer->fields.epoch_s = 77;
    answer->fields.mapping = request->mapping;
    answer->fields.mapping.external = endpoint("203.0.113.1:9090");
    answer->datagram.source = endpoint("10.77.0.1");
    answer->datagram.destination.address = request->client_address;
    answer->datagram.data = answer->octets;
}

static enum oneshot_verdict give(const struct pcp_request *request, struct answer *answer,
                                 struct pcp_response *ret_response)
{
    struct random_source random = constant(0);
    struct oneshot oneshot = begin(request, &random, TIME_NEVER);
    if (answer->datagram.size_bytes == 0) {
        int size = pcp_response_encode(&answer->fields, answer->octets, sizeof(answer->octets));
        assert_true(size > 0);
        answer->datagram.size_bytes = (size_t) size;
    }
    return oneshot_receive(&oneshot, &answer->datagram, ret_response);
}

static void test_oneshot_receive_right_answer(void **state)
{
    (void) state;
    struct pcp_request request = map_request();
    struct pcp_response response;
    struct answer answer;
    init_answer(&answer, &request);
    assert_int_equal(give(&request, &answer, &response), ONESHOT_VERDICT_ANSWERED);
    assert_int_equal(response.result, PCP_RESULT_SUCCESS);
    assert_int_equal(response.lifetime_s, 3600);
    assert_int_equal(response.epoch_s, 77);
    assert_int_equal(response.mapping.external.port, 9090);
}

static void test_oneshot_receive_unknown_destination_is_no_obstacle(void **state)
{
    (void) state;
    struct pcp_request request = map_request();
    struct pcp_response response;
    struct answer answer;
    init_answer(&answer, &request);
    answer.datagram.destination.address = IP_ADDRESS_ANY_IPV6;
    assert_int_equal(give(&request, &answer, &response), ONESHOT_VERDICT_ANSWERED);
}

static void spoil_source_address(struct answer *answer)
{
    answer->datagram.source = endpoint("10.77.0.3");
}

static void spoil_source_port(struct answer *answer)
{
    answer->datagram.source.port = 5350;
}

static void spoil_destination(struct answer *answer)
{
    answer->datagram.destination = endpoint("10.77.0.9");
}

static void spoil_opcode(struct answer *answer)
{
    answer->fields.opcode = PCP_OPCODE_PEER;
}

static void spoil_nonce(struct answer *answer)
{
    answer->fields.mapping.nonce[11] ^= 1;
}

static void spoil_protocol(struct answer *answer)
{
    answer->fields.mapping.protocol = 17;
}

static void spoil_internal_port(struct answer *answer)
{
    answer->fields.mapping.internal_port++;
}

static void spoil_nonce_of_error(struct answer *answer)
{
    answer->fields.result = PCP_RESULT_NO_RESOURCES;
    answer->fields.mapping.nonce[0] ^= 1;
}

static void test_oneshot_receive_any_wrong_field_is_ignored(void **state)
{
    (void) state;
    static void (*const spoilers[])(struct answer *) = {
        spoil_source_address, spoil_source_port, spoil_destination,   spoil_opcode,
        spoil_nonce,          spoil_protocol,    spoil_internal_port, spoil_nonce_of_error,
    };
    struct pcp_request request = map_request();
    for (size_t i = 0; i < N_ELEMENTS(spoilers); i++) {
        struct pcp_response response = {.result = 99};
        struct answer answer;
        init_answer(&answer, &request);
        spoilers[i](&answer);
        assert_int_equal(give(&request, &answer, &response), ONESHOT_VERDICT_IGNORED);
        assert_int_equal(response.result, 99);
    }
}

static void test_oneshot_receive_every_truncated_prefix_is_ignored(void **state)
{
    (void) state;
    struct pcp_request request = map_request();
    struct pcp_response response;
    struct answer answer;
    init_answer(&answer, &request);
    int size = pcp_response_encode(&answer.fields, answer.octets, sizeof(answer.octets));
    for (int n = 1; n < size; n++) {
        answer.datagram.size_bytes = (size_t) n;
        assert_int_equal(give(&request, &answer, &response), ONESHOT_VERDICT_IGNORED);
    }
}

static void test_oneshot_receive_own_request_reflected_is_ignored(void **state)
{
    (void) state;
    struct pcp_request request = map_request();
    struct pcp_response response;
    struct answer answer;
    init_answer(&answer, &request);
    int size = pcp_request_encode(&request, answer.octets, sizeof(answer.octets));
    answer.datagram.size_bytes = (size_t) size;
    assert_int_equal(give(&request, &answer, &response), ONESHOT_VERDICT_IGNORED);
}

static void test_oneshot_receive_error_is_an_answer(void **state)
{
    (void) state;
    struct pcp_request request = map_request();
    struct pcp_response response;
    struct answer answer;
    uint8_t octets[PCP_SIZE_MAX];
    init_answer(&answer, &request);
    int size = pcp_request_encode(&request, octets, sizeof(octets));
    size = pcp_response_encode_error(octets, (size_t) size, PCP_RESULT_USER_EX_QUOTA, 30, 5,
                                     answer.octets, sizeof(answer.octets));
    answer.datagram.size_bytes = (size_t) size;
    assert_int_equal(give(&request, &answer, &response), ONESHOT_VERDICT_ANSWERED);
    assert_int_equal(response.result, PCP_RESULT_USER_EX_QUOTA);
    assert_int_equal(response.lifetime_s, 30);
}

static void test_oneshot_receive_natpmp_answer(void **state)
{
    (void) state;
    static const uint8_t forms[][8] = {
        {0, 0x80, 0, 1, 0, 0, 0, 9},
        {0, 0x81, 0, 1, 0, 0, 0, 9},
        {0, 0x00, 0, 1, 0, 0, 0, 9},
    };
    struct pcp_request request = map_request();
    struct pcp_response response;
    for (size_t i = 0; i < N_ELEMENTS(forms); i++) {
        struct answer answer;
        init_answer(&answer, &request);
        memcpy(answer.octets, forms[i], 8);
        answer.datagram.size_bytes = 8;
        assert_int_equal(give(&request, &answer, &response), ONESHOT_VERDICT_NATPMP);
    }
}

static void test_oneshot_receive_natpmp_answer_from_elsewhere_is_ignored(void **state)
{
    (void) state;
    struct pcp_request request = map_request();
    struct pcp_response response;
    struct answer answer;
    init_answer(&answer, &request);
    memcpy(answer.octets, "\0\x80\0\1\0\0\0\x09", 8);
    answer.datagram.size_bytes = 8;
    spoil_source_address(&answer);
    assert_int_equal(give(&request, &answer, &response), ONESHOT_VERDICT_IGNORED);
}

static void test_oneshot_receive_other_version_refused(void **state)
{
    (void) state;
    struct pcp_request request = map_request();
    struct pcp_response response;
    struct answer answer;
    init_answer(&answer, &request);
    memcpy(answer.octets, "\1\x81\0\1", 4);
    answer.datagram.size_bytes = 24;
    assert_int_equal(give(&request, &answer, &response), ONESHOT_VERDICT_ANSWERED);
    assert_int_equal(response.result, PCP_RESULT_UNSUPP_VERSION);
    assert_int_equal(response.version, 1);
}

static void test_oneshot_receive_prefer_failure_not_kept_is_ignored(void **state)
{
    (void) state;
    struct pcp_request request = map_request();
    request.n_options = 1;
    request.options[0].code = PCP_OPTION_PREFER_FAILURE;
    struct pcp_response response;
    struct answer answer;

    init_answer(&answer, &request);
    assert_int_equal(give(&request, &answer, &response), ONESHOT_VERDICT_ANSWERED);

    init_answer(&answer, &request);
    answer.fields.mapping.external.port++;
    assert_int_equal(give(&request, &answer, &response), ONESHOT_VERDICT_IGNORED);

    init_answer(&answer, &request);
    answer.fields.mapping.external = endpoint("[fd77::1]:9090");
    assert_int_equal(give(&request, &answer, &response), ONESHOT_VERDICT_IGNORED);

    request.mapping.external.address = endpoint("203.0.113.1").address;
    init_answer(&answer, &request);
    assert_int_equal(give(&request, &answer, &response), ONESHOT_VERDICT_ANSWERED);

    request.mapping.external.address = endpoint("203.0.113.2").address;
    init_answer(&answer, &request);
    assert_int_equal(give(&request, &answer, &response), ONESHOT_VERDICT_IGNORED);
}

static void test_oneshot_receive_peer_compares_the_remote(void **state)
{
    (void) state;
    struct pcp_request request = map_request();
    request.opcode = PCP_OPCODE_PEER;
    request.mapping.remote = endpoint("198.51.100.7:443");
    struct pcp_response response;
    struct answer answer;
    init_answer(&answer, &request);
    assert_int_equal(give(&request, &answer, &response), ONESHOT_VERDICT_ANSWERED);
    init_answer(&answer, &request);
    answer.fields.mapping.remote.port = 444;
    assert_int_equal(give(&request, &answer, &response), ONESHOT_VERDICT_IGNORED);
}

static void test_oneshot_receive_announce(void **state)
{
    (void) state;
    struct pcp_request request = {
        .opcode = PCP_OPCODE_ANNOUNCE,
        .client_address = endpoint("10.77.0.2").address,
    };
    struct pcp_response response;
    struct answer answer;
    init_answer(&answer, &request);
    assert_int_equal(give(&request, &answer, &response), ONESHOT_VERDICT_ANSWERED);
    assert_int_equal(response.epoch_s, 77);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_oneshot_advance_mean_randomness_gives_the_nominal_schedule),
        cmocka_unit_test(test_oneshot_advance_extreme_randomness_stays_within_a_tenth),
        cmocka_unit_test(test_oneshot_advance_intervals_of_many_seeds),
        cmocka_unit_test(test_oneshot_advance_gives_up_in_time),
        cmocka_unit_test(test_oneshot_advance_called_late_counts_from_then),
        cmocka_unit_test(test_oneshot_init_encodes_the_request),
        cmocka_unit_test(test_oneshot_init_too_many_options_fails),
        cmocka_unit_test(test_oneshot_receive_right_answer),
        cmocka_unit_test(test_oneshot_receive_unknown_destination_is_no_obstacle),
        cmocka_unit_test(test_oneshot_receive_any_wrong_field_is_ignored),
        cmocka_unit_test(test_oneshot_receive_every_truncated_prefix_is_ignored),
        cmocka_unit_test(test_oneshot_receive_own_request_reflected_is_ignored),
        cmocka_unit_test(test_oneshot_receive_error_is_an_answer),
        cmocka_unit_test(test_oneshot_receive_natpmp_answer),
        cmocka_unit_test(test_oneshot_receive_natpmp_answer_from_elsewhere_is_ignored),
        cmocka_unit_test(test_oneshot_receive_other_version_refused),
        cmocka_unit_test(test_oneshot_receive_prefer_failure_not_kept_is_ignored),
        cmocka_unit_test(test_oneshot_receive_peer_compares_the_remote),
        cmocka_unit_test(test_oneshot_receive_announce),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
