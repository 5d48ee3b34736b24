/* Requests against the table of known datagrams: the verdict on each, each octet, each prefix, each mutation. */

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "vector.h"
#include "wire/request.h"

struct expectation {
    const char *name;
    enum pcp_verdict verdict;
    enum pcp_result result;
};

/* What a server offering everything answers; every other request of the table is accepted. */
static const struct expectation expectations[] = {
    {"v3_map_req", PCP_VERDICT_ANSWER, PCP_RESULT_UNSUPP_VERSION},
    {"v1_map_req", PCP_VERDICT_ANSWER, PCP_RESULT_UNSUPP_VERSION},
    {"v0_natpmp_pubaddr_req", PCP_VERDICT_ANSWER, PCP_RESULT_UNSUPP_VERSION},
    {"neg_one_octet", PCP_VERDICT_DROP, PCP_RESULT_SUCCESS},
    {"neg_r_bit_set", PCP_VERDICT_DROP, PCP_RESULT_SUCCESS},
    {"neg_short_header", PCP_VERDICT_DROP, PCP_RESULT_SUCCESS},
    {"neg_map_short", PCP_VERDICT_ANSWER, PCP_RESULT_MALFORMED_REQUEST},
    {"neg_not_multiple_of_4", PCP_VERDICT_ANSWER, PCP_RESULT_MALFORMED_REQUEST},
    {"neg_too_long", PCP_VERDICT_ANSWER, PCP_RESULT_MALFORMED_REQUEST},
    {"neg_opcode_50", PCP_VERDICT_ANSWER, PCP_RESULT_UNSUPP_OPCODE},
    {"neg_get_short", PCP_VERDICT_ANSWER, PCP_RESULT_UNSUPP_OPCODE},
    {"neg_get_two_next", PCP_VERDICT_ANSWER, PCP_RESULT_UNSUPP_OPCODE},
    {"neg_get_next_short", PCP_VERDICT_ANSWER, PCP_RESULT_UNSUPP_OPCODE},
    {"neg_client_address", PCP_VERDICT_ANSWER, PCP_RESULT_ADDRESS_MISMATCH},
    {"neg_option_overrun", PCP_VERDICT_ANSWER, PCP_RESULT_MALFORMED_OPTION},
    {"neg_filter_header_only", PCP_VERDICT_ANSWER, PCP_RESULT_MALFORMED_OPTION},
    {"neg_unknown_mandatory", PCP_VERDICT_ANSWER, PCP_RESULT_UNSUPP_OPTION},
    {"neg_option_0", PCP_VERDICT_ANSWER, PCP_RESULT_UNSUPP_OPTION},
    {"neg_third_party_id_alone", PCP_VERDICT_ANSWER, PCP_RESULT_UNSUPP_OPTION},
    {"map_third_party_id_req", PCP_VERDICT_ANSWER, PCP_RESULT_UNSUPP_OPTION},
    {"map_third_party_id_mpls_req", PCP_VERDICT_ANSWER, PCP_RESULT_UNSUPP_OPTION},
    {"neg_two_prefer_failure", PCP_VERDICT_ANSWER, PCP_RESULT_MALFORMED_OPTION},
    {"neg_prefer_failure_len4", PCP_VERDICT_ANSWER, PCP_RESULT_MALFORMED_OPTION},
    {"neg_prefer_failure_port0", PCP_VERDICT_ANSWER, PCP_RESULT_MALFORMED_OPTION},
    {"neg_prefer_failure_delete", PCP_VERDICT_ANSWER, PCP_RESULT_MALFORMED_OPTION},
    {"neg_prefer_failure_peer", PCP_VERDICT_ANSWER, PCP_RESULT_MALFORMED_REQUEST},
    {"neg_filter_delete", PCP_VERDICT_ANSWER, PCP_RESULT_MALFORMED_OPTION},
    {"neg_filter_peer", PCP_VERDICT_ANSWER, PCP_RESULT_MALFORMED_OPTION},
    {"neg_filter_prefix_129", PCP_VERDICT_ANSWER, PCP_RESULT_MALFORMED_OPTION},
    {"neg_filter_prefix_v4_24", PCP_VERDICT_ANSWER, PCP_RESULT_MALFORMED_OPTION},
    {"neg_third_party_self", PCP_VERDICT_ANSWER, PCP_RESULT_MALFORMED_REQUEST},
    {"neg_third_party_twice", PCP_VERDICT_ANSWER, PCP_RESULT_MALFORMED_OPTION},
    {"neg_third_party_len12", PCP_VERDICT_ANSWER, PCP_RESULT_MALFORMED_OPTION},
    {"neg_map_proto0_port80", PCP_VERDICT_ANSWER, PCP_RESULT_MALFORMED_REQUEST},
    {"neg_peer_proto0", PCP_VERDICT_ANSWER, PCP_RESULT_MALFORMED_REQUEST},
    {"neg_peer_port0", PCP_VERDICT_ANSWER, PCP_RESULT_MALFORMED_REQUEST},
    {"neg_peer_remote_port0", PCP_VERDICT_ANSWER, PCP_RESULT_MALFORMED_REQUEST},
};

static const struct pcp_capabilities everything = {
    .map = true,
    .peer = true,
    .announce = true,
    .third_party = true,
    .prefer_failure = true,
    .filter = true,
};

static const uint8_t nonce[PCP_NONCE_SIZE] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};

static struct ip_address address(const char *text)
{
    struct ip_address result;
    assert_int_equal(ip_address_parse(text, &result), 0);
    return result;
}

static bool is_pcp_request(const struct vector *vector)
{
    return vector->is_request && !vector_is_in_group(vector, "natpmp");
}

static struct expectation expectation_of(const struct vector *vector)
{
    for (size_t i = 0; i < N_ELEMENTS(expectations); i++) {
        if (strcmp(expectations[i].name, vector->name) == 0)
            return expectations[i];
    }
    return (struct expectation){vector->name, PCP_VERDICT_ACCEPT, PCP_RESULT_SUCCESS};
}

/* Copies a sound request without the options we do not know. Returns the octets left. */
static size_t strip_unknown_options(const uint8_t *octets, size_t size_bytes, uint8_t *ret_octets)
{
    size_t fields = octets[1] == PCP_OPCODE_MAP    ? PCP_MAP_SIZE
                    : octets[1] == PCP_OPCODE_PEER ? PCP_PEER_SIZE
                                                   : 0;
    size_t from = PCP_HEADER_SIZE + fields;
    size_t to = from;

    memcpy(ret_octets, octets, from);
    while (from < size_bytes) {
        size_t length = (size_t) (octets[from + 2] << 8 | octets[from + 3]);
        size_t total = 4 + (length + 3) / 4 * 4;
        if (octets[from] <= PCP_OPTION_FILTER) {
            memcpy(ret_octets + to, octets + from, total);
            to += total;
        }
        from += total;
    }
    return to;
}

/* decode(encode(decode(x))) says what decode(x) says. */
static void assert_stable(const struct pcp_request *request)
{
    static struct pcp_request again;
    enum pcp_result result;
    uint8_t first[PCP_SIZE_MAX], second[PCP_SIZE_MAX];

    int first_size = pcp_request_encode(request, first, sizeof(first));
    assert_true(first_size > 0);
    assert_int_equal(pcp_request_decode(first, (size_t) first_size, &request->client_address,
                                        &everything, &again, &result),
                     PCP_VERDICT_ACCEPT);
    assert_int_equal(again.n_options, request->n_options);
    int second_size = pcp_request_encode(&again, second, sizeof(second));
    assert_int_equal(first_size, second_size);
    assert_memory_equal(first, second, (size_t) first_size);
}

/* What can be said of any octets whatever. */
static void check_any(const uint8_t *octets, size_t size_bytes, const struct ip_address *source)
{
    static struct pcp_request request;
    enum pcp_result result;
    enum pcp_verdict verdict =
        pcp_request_decode(octets, size_bytes, source, &everything, &request, &result);

    switch (verdict) {
    case PCP_VERDICT_DROP:
        assert_true(size_bytes < 2 || octets[1] & PCP_RESPONSE_BIT ||
                    (octets[0] == PCP_VERSION && size_bytes < PCP_HEADER_SIZE));
        break;
    case PCP_VERDICT_ANSWER:
        assert_true(result != PCP_RESULT_SUCCESS);
        break;
    case PCP_VERDICT_ACCEPT:
        assert_int_equal(result, PCP_RESULT_SUCCESS);
        assert_true(size_bytes % 4 == 0 && size_bytes <= PCP_SIZE_MAX);
        assert_stable(&request);
        break;
    }
}

static enum pcp_result decode_vector(const char *name, const struct pcp_capabilities *capabilities,
                                     struct pcp_request *ret_request)
{
    const struct vector *vector = vector_find(name);
    struct ip_address source = address(vector->source);
    uint8_t *octets = vector_octets(vector);
    enum pcp_result result;

    enum pcp_verdict verdict =
        pcp_request_decode(octets, vector->size_bytes, &source, capabilities, ret_request, &result);
    assert_true(verdict != PCP_VERDICT_DROP);
    assert_true((verdict == PCP_VERDICT_ACCEPT) == (result == PCP_RESULT_SUCCESS));
    free(octets);
    return result;
}

static void assert_encodes_as(const struct pcp_request *request, const char *name)
{
    const struct vector *vector = vector_find(name);
    uint8_t *expected = vector_octets(vector);
    uint8_t octets[PCP_SIZE_MAX];

    assert_int_equal(pcp_request_encode(request, octets, sizeof(octets)), vector->size_bytes);
    assert_memory_equal(octets, expected, vector->size_bytes);
    free(expected);
}

/* [R-6887-7.3-7] [R-6887-12.1-1] [R-6887-12.1-5] [R-6887-13.1-2] [R-6887-A-1] */
static void test_pcp_request_decode_known_datagrams(void **state)
{
    (void) state;
    static struct pcp_request request;

    for (size_t i = 0; i < N_ELEMENTS(expectations); i++)
        assert_true(is_pcp_request(vector_find(expectations[i].name)));
    for (size_t i = 0; i < n_vectors; i++) {
        if (!is_pcp_request(&vectors[i]))
            continue;
        struct expectation expected = expectation_of(&vectors[i]);
        struct ip_address source = address(vectors[i].source);
        uint8_t *octets = vector_octets(&vectors[i]);
        enum pcp_result result;
        enum pcp_verdict verdict = pcp_request_decode(octets, vectors[i].size_bytes, &source,
                                                      &everything, &request, &result);
        if (verdict != expected.verdict || result != expected.result)
            fail_msg("%s: verdict %d, result %s", vectors[i].name, (int) verdict,
                     pcp_result_name((uint8_t) result));
        free(octets);
    }
}

static void test_pcp_request_encode_of_decoded_yields_same_octets(void **state)
{
    (void) state;
    static struct pcp_request request;
    size_t n_compared = 0;

    for (size_t i = 0; i < n_vectors; i++) {
        if (!is_pcp_request(&vectors[i]) ||
            expectation_of(&vectors[i]).verdict != PCP_VERDICT_ACCEPT)
            continue;
        uint8_t expected[PCP_SIZE_MAX], octets[PCP_SIZE_MAX];
        uint8_t *original = vector_octets(&vectors[i]);
        size_t expected_size = strip_unknown_options(original, vectors[i].size_bytes, expected);
        assert_int_equal(decode_vector(vectors[i].name, &everything, &request), PCP_RESULT_SUCCESS);
        int size = pcp_request_encode(&request, octets, sizeof(octets));
        assert_int_equal(size, expected_size);
        assert_memory_equal(octets, expected, expected_size);
        free(original);
        n_compared++;
    }
    assert_true(n_compared >= 30);
}

static void test_pcp_request_encode_map(void **state)
{
    (void) state;
    static struct pcp_request request;

    request.opcode = PCP_OPCODE_MAP;
    request.lifetime_s = 3600;
    request.client_address = address("192.168.1.10");
    request.mapping.protocol = 6;
    request.mapping.internal_port = 8080;
    request.mapping.external.port = 40001;
    request.mapping.external.address = address("203.0.113.5");
    memcpy(request.mapping.nonce, nonce, sizeof(nonce));
    assert_encodes_as(&request, "map_renew_req");
}

static void test_pcp_request_encode_peer(void **state)
{
    (void) state;
    static struct pcp_request request;

    request.opcode = PCP_OPCODE_PEER;
    request.lifetime_s = 600;
    request.client_address = address("192.168.1.10");
    request.mapping.protocol = 6;
    request.mapping.internal_port = 50000;
    request.mapping.external.port = 61000;
    request.mapping.external.address = address("203.0.113.5");
    request.mapping.remote.port = 443;
    request.mapping.remote.address = address("198.51.100.77");
    for (uint8_t i = 0; i < PCP_NONCE_SIZE; i++)
        request.mapping.nonce[i] = (uint8_t) (0xa1 + i);
    assert_encodes_as(&request, "peer_restore_req");
}

static void test_pcp_request_encode_announce_ipv6(void **state)
{
    (void) state;
    static struct pcp_request request;

    request.opcode = PCP_OPCODE_ANNOUNCE;
    request.client_address = address("2001:db8:1::10");
    assert_encodes_as(&request, "announce_req_v6");
}

static void test_pcp_request_encode_option_we_do_not_know(void **state)
{
    (void) state;
    static struct pcp_request request;
    static const uint8_t data[] = {0x11, 0x22, 0x33};

    assert_int_equal(decode_vector("map_unknown_optional_req", &everything, &request),
                     PCP_RESULT_SUCCESS);
    request.n_options = 1;
    request.options[0].code = 200;
    request.options[0].unknown.data = data;
    request.options[0].unknown.size_bytes = sizeof(data);
    assert_encodes_as(&request, "map_unknown_optional_req");
}

static void test_pcp_request_encode_without_room(void **state)
{
    (void) state;
    static struct pcp_request request;

    assert_int_equal(decode_vector("map_filter_replace_req", &everything, &request),
                     PCP_RESULT_SUCCESS);
    for (size_t size_bytes = 0; size_bytes < 132; size_bytes++) {
        uint8_t *room = vector_copy((const uint8_t[132]){0}, size_bytes);
        assert_int_equal(pcp_request_encode(&request, room, size_bytes), -ENOSPC);
        free(room);
    }
}

static void test_pcp_request_encode_above_size_limit(void **state)
{
    (void) state;
    static struct pcp_request request;
    static uint8_t room[2 * PCP_SIZE_MAX];

    request.opcode = PCP_OPCODE_ANNOUNCE;
    request.n_options = PCP_OPTIONS_MAX;
    for (size_t i = 0; i < PCP_OPTIONS_MAX; i++)
        request.options[i].code = 200;
    assert_int_equal(pcp_request_encode(&request, room, sizeof(room)), PCP_SIZE_MAX);
    request.options[0].unknown.data = nonce;
    request.options[0].unknown.size_bytes = 1;
    assert_int_equal(pcp_request_encode(&request, room, sizeof(room)), -ENOSPC);
}

static void test_pcp_request_encode_opcode_we_do_not_know(void **state)
{
    (void) state;
    static struct pcp_request request;
    uint8_t room[PCP_SIZE_MAX];

    request.opcode = 50;
    assert_int_equal(pcp_request_encode(&request, room, sizeof(room)), -EINVAL);
}

/* [R-6887-7-2] */
static void test_pcp_request_decode_map_fields(void **state)
{
    (void) state;
    static struct pcp_request request;
    struct ip_address client = address("192.168.1.10"), external = address("203.0.113.5");

    assert_int_equal(decode_vector("map_renew_req", &everything, &request), PCP_RESULT_SUCCESS);
    assert_int_equal(request.opcode, PCP_OPCODE_MAP);
    assert_int_equal(request.lifetime_s, 3600);
    assert_true(ip_address_equal(&request.client_address, &client));
    assert_memory_equal(request.mapping.nonce, nonce, sizeof(nonce));
    assert_int_equal(request.mapping.protocol, 6);
    assert_int_equal(request.mapping.internal_port, 8080);
    assert_int_equal(request.mapping.external.port, 40001);
    assert_true(ip_address_equal(&request.mapping.external.address, &external));
    assert_int_equal(request.n_options, 0);
}

static void test_pcp_request_decode_peer_fields(void **state)
{
    (void) state;
    static struct pcp_request request;
    struct ip_address remote = address("198.51.100.77");

    assert_int_equal(decode_vector("peer_restore_req", &everything, &request), PCP_RESULT_SUCCESS);
    assert_int_equal(request.mapping.internal_port, 50000);
    assert_int_equal(request.mapping.external.port, 61000);
    assert_int_equal(request.mapping.remote.port, 443);
    assert_true(ip_address_equal(&request.mapping.remote.address, &remote));
}

/* [R-6887-7.3-4] */
static void test_pcp_request_decode_options_in_order(void **state)
{
    (void) state;
    static struct pcp_request request;

    assert_int_equal(decode_vector("map_filter_replace_req", &everything, &request),
                     PCP_RESULT_SUCCESS);
    assert_int_equal(request.n_options, 3);
    assert_int_equal(request.options[0].filter.remote.length, 0);
    assert_int_equal(request.options[1].filter.remote.length, 120);
    assert_int_equal(request.options[2].filter.remote.length, 128);
    assert_int_equal(request.options[2].filter.remote_port, 5000);
}

static void test_pcp_request_decode_leaves_out_optional_options(void **state)
{
    (void) state;
    static struct pcp_request request;

    assert_int_equal(decode_vector("map_unknown_optional_req", &everything, &request),
                     PCP_RESULT_SUCCESS);
    assert_int_equal(request.n_options, 0);
    assert_int_equal(decode_vector("neg_port_set_prefer_failure", &everything, &request),
                     PCP_RESULT_SUCCESS);
    assert_int_equal(request.n_options, 1);
    assert_int_equal(request.options[0].code, PCP_OPTION_PREFER_FAILURE);
}

/* [R-6887-7.4-1] [R-6887-12.1-5] */
static void test_pcp_request_decode_option_not_offered(void **state)
{
    (void) state;
    static struct pcp_request request;
    static const struct pcp_capabilities bare = {.map = true, .peer = true, .announce = true};

    assert_int_equal(decode_vector("map_third_party_req", &bare, &request),
                     PCP_RESULT_UNSUPP_OPTION);
    assert_int_equal(decode_vector("peer_third_party_req", &bare, &request),
                     PCP_RESULT_UNSUPP_OPTION);
    assert_int_equal(decode_vector("map_prefer_failure_req", &bare, &request),
                     PCP_RESULT_UNSUPP_OPTION);
    assert_int_equal(decode_vector("map_filter_req", &bare, &request), PCP_RESULT_UNSUPP_OPTION);
    assert_int_equal(decode_vector("neg_third_party_twice", &bare, &request),
                     PCP_RESULT_UNSUPP_OPTION);
    assert_int_equal(decode_vector("neg_third_party_len12", &bare, &request),
                     PCP_RESULT_UNSUPP_OPTION);
    /* Fixed by RFC 6887 s12.1 whether the option is offered or not. */
    assert_int_equal(decode_vector("neg_prefer_failure_peer", &bare, &request),
                     PCP_RESULT_MALFORMED_REQUEST);
    /* Nonsense before support: the structure is judged first. */
    assert_int_equal(decode_vector("neg_filter_header_only", &bare, &request),
                     PCP_RESULT_MALFORMED_OPTION);
}

static void test_pcp_request_decode_opcode_not_offered(void **state)
{
    (void) state;
    static struct pcp_request request;
    struct pcp_capabilities capabilities = everything;

    capabilities.peer = false;
    assert_int_equal(decode_vector("peer_create_req", &capabilities, &request),
                     PCP_RESULT_UNSUPP_OPCODE);
    assert_int_equal(decode_vector("map_create_req", &capabilities, &request), PCP_RESULT_SUCCESS);
    capabilities.map = capabilities.announce = false;
    assert_int_equal(decode_vector("map_create_req", &capabilities, &request),
                     PCP_RESULT_UNSUPP_OPCODE);
    assert_int_equal(decode_vector("announce_req", &capabilities, &request),
                     PCP_RESULT_UNSUPP_OPCODE);
}

/* [R-6887-14.1.1-3] */
static void test_pcp_request_decode_announce_from_wrong_address(void **state)
{
    (void) state;
    static struct pcp_request request;
    const struct vector *vector = vector_find("announce_req");
    struct ip_address other = address("192.168.1.11");
    uint8_t *octets = vector_octets(vector);
    enum pcp_result result;

    assert_int_equal(
        pcp_request_decode(octets, vector->size_bytes, &other, &everything, &request, &result),
        PCP_VERDICT_ANSWER);
    assert_int_equal(result, PCP_RESULT_ADDRESS_MISMATCH);
    free(octets);
}

/* [R-6887-13-1] */
static void test_pcp_request_decode_known_option_in_announce(void **state)
{
    (void) state;
    static struct pcp_request request;
    static const uint8_t octets[] = {
        2, 0, 0,    0,    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        0, 0, 0xff, 0xff, 1, 2, 3, 4, 3, 0, 0, 4, 0, 0, 0, 0, /* FILTER, too short besides */
    };
    struct ip_address source = address("1.2.3.4");
    enum pcp_result result;

    assert_int_equal(
        pcp_request_decode(octets, sizeof(octets), &source, &everything, &request, &result),
        PCP_VERDICT_ANSWER);
    assert_int_equal(result, PCP_RESULT_MALFORMED_OPTION);
}

static void test_pcp_request_decode_fills_opcode_and_lifetime_of_refused(void **state)
{
    (void) state;
    static struct pcp_request request;

    assert_int_equal(decode_vector("neg_filter_peer", &everything, &request),
                     PCP_RESULT_MALFORMED_OPTION);
    assert_int_equal(request.opcode, PCP_OPCODE_PEER);
    assert_int_equal(request.lifetime_s, 600);
}

/* What RFC 6887 s8.2 says of a length alone. */
static bool judge_by_length(const uint8_t *octets, size_t size_bytes, struct expectation *ret)
{
    size_t needed = PCP_HEADER_SIZE;

    *ret = (struct expectation){"length", PCP_VERDICT_DROP, PCP_RESULT_SUCCESS};
    if (size_bytes < 2 || octets[1] & PCP_RESPONSE_BIT)
        return true;
    ret->verdict = PCP_VERDICT_ANSWER;
    ret->result = PCP_RESULT_UNSUPP_VERSION;
    if (octets[0] != PCP_VERSION)
        return true;
    ret->verdict = size_bytes < PCP_HEADER_SIZE ? PCP_VERDICT_DROP : PCP_VERDICT_ANSWER;
    ret->result = size_bytes < PCP_HEADER_SIZE ? PCP_RESULT_SUCCESS : PCP_RESULT_MALFORMED_REQUEST;
    if (octets[1] == PCP_OPCODE_MAP)
        needed += PCP_MAP_SIZE;
    if (octets[1] == PCP_OPCODE_PEER)
        needed += PCP_PEER_SIZE;
    return size_bytes < needed || size_bytes > PCP_SIZE_MAX || size_bytes % 4 != 0;
}

static void test_pcp_request_decode_every_truncated_prefix(void **state)
{
    (void) state;
    static struct pcp_request request;

    for (size_t i = 0; i < n_vectors; i++) {
        struct ip_address source = address(vectors[i].source);
        uint8_t *octets = vector_octets(&vectors[i]);
        for (size_t size_bytes = 0; size_bytes <= vectors[i].size_bytes; size_bytes++) {
            uint8_t *prefix = vector_copy(octets, size_bytes);
            struct expectation expected;
            enum pcp_result result;
            check_any(prefix, size_bytes, &source);
            if (judge_by_length(prefix, size_bytes, &expected)) {
                assert_int_equal(
                    pcp_request_decode(prefix, size_bytes, &source, &everything, &request, &result),
                    expected.verdict);
                assert_int_equal(result, expected.result);
            }
            free(prefix);
        }
        free(octets);
    }
}

static void mutate(uint8_t *octets, size_t position, size_t size_bytes)
{
    uint8_t original = octets[position];

    for (unsigned int change = 1; change <= UINT8_MAX; change++) {
        octets[position] = (uint8_t) (original ^ change);
        struct ip_address source = IP_ADDRESS_ANY_IPV4;
        /* The sender keeps pace with the field, else most mutations would end at ADDRESS_MISMATCH. */
        if (size_bytes >= PCP_HEADER_SIZE)
            memcpy(source.octets, octets + 8, sizeof(source.octets));
        check_any(octets, size_bytes, &source);
    }
    octets[position] = original;
}

static void test_pcp_request_decode_every_single_octet_mutation(void **state)
{
    (void) state;
    for (size_t i = 0; i < n_vectors; i++) {
        if (!is_pcp_request(&vectors[i]) || vectors[i].size_bytes > PCP_SIZE_MAX)
            continue;
        uint8_t *octets = vector_octets(&vectors[i]);
        for (size_t position = 0; position < vectors[i].size_bytes; position++)
            mutate(octets, position, vectors[i].size_bytes);
        free(octets);
    }
}

static void test_pcp_request_decode_most_options_that_fit(void **state)
{
    (void) state;
    static struct pcp_request request;
    const struct vector *vector = vector_find("map_filter_req");
    struct ip_address source = address(vector->source);
    uint8_t *original = vector_octets(vector);
    uint8_t octets[PCP_SIZE_MAX];
    size_t size_bytes = PCP_HEADER_SIZE + PCP_MAP_SIZE, n_filters = 0;
    enum pcp_result result;

    memcpy(octets, original, size_bytes);
    for (; size_bytes + 24 <= sizeof(octets); size_bytes += 24, n_filters++)
        memcpy(octets + size_bytes, original + PCP_HEADER_SIZE + PCP_MAP_SIZE, 24);
    assert_int_equal(
        pcp_request_decode(octets, size_bytes, &source, &everything, &request, &result),
        PCP_VERDICT_ACCEPT);
    assert_int_equal(request.n_options, n_filters);
    assert_int_equal(n_filters, 43);
    free(original);
}

/* A MAP request with one option of `size_bytes` zero octets appended. */
static enum pcp_result decode_with_option(uint8_t code, uint8_t size_bytes,
                                          struct pcp_request *ret_request)
{
    const struct vector *vector = vector_find("map_renew_req");
    struct ip_address source = address(vector->source);
    uint8_t *octets = vector_octets(vector);
    uint8_t longer[PCP_SIZE_MAX] = {0};
    enum pcp_result result;

    memcpy(longer, octets, vector->size_bytes);
    longer[vector->size_bytes] = code;
    longer[vector->size_bytes + 3] = size_bytes;
    (void) pcp_request_decode(longer, vector->size_bytes + 4 + (size_bytes + 3U) / 4 * 4, &source,
                              &everything, ret_request, &result);
    free(octets);
    return result;
}

/* [R-6887-7.3-12] */
static void test_pcp_request_decode_option_of_other_size(void **state)
{
    (void) state;
    static struct pcp_request request;

    for (unsigned int size_bytes = 0; size_bytes <= 64; size_bytes++) {
        uint8_t size = (uint8_t) size_bytes;
        assert_true((decode_with_option(PCP_OPTION_THIRD_PARTY, size, &request) ==
                     PCP_RESULT_MALFORMED_OPTION) == (size != 16));
        assert_true((decode_with_option(PCP_OPTION_PREFER_FAILURE, size, &request) ==
                     PCP_RESULT_MALFORMED_OPTION) == (size != 0));
        assert_true((decode_with_option(PCP_OPTION_FILTER, size, &request) ==
                     PCP_RESULT_MALFORMED_OPTION) == (size != 20));
    }
}

/* [R-6887-7.3-11] [R-6887-7.3-13] */
static void test_pcp_request_decode_every_unknown_option_code(void **state)
{
    (void) state;
    static struct pcp_request request;

    for (unsigned int code = 0; code <= UINT8_MAX; code++) {
        if (pcp_option_find((uint8_t) code))
            continue;
        assert_int_equal(decode_with_option((uint8_t) code, 4, &request),
                         code < 128 ? PCP_RESULT_UNSUPP_OPTION : PCP_RESULT_SUCCESS);
        assert_int_equal(request.n_options, 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pcp_request_decode_known_datagrams),
        cmocka_unit_test(test_pcp_request_encode_of_decoded_yields_same_octets),
        cmocka_unit_test(test_pcp_request_encode_map),
        cmocka_unit_test(test_pcp_request_encode_peer),
        cmocka_unit_test(test_pcp_request_encode_announce_ipv6),
        cmocka_unit_test(test_pcp_request_encode_option_we_do_not_know),
        cmocka_unit_test(test_pcp_request_encode_without_room),
        cmocka_unit_test(test_pcp_request_encode_above_size_limit),
        cmocka_unit_test(test_pcp_request_encode_opcode_we_do_not_know),
        cmocka_unit_test(test_pcp_request_decode_map_fields),
        cmocka_unit_test(test_pcp_request_decode_peer_fields),
        cmocka_unit_test(test_pcp_request_decode_options_in_order),
        cmocka_unit_test(test_pcp_request_decode_leaves_out_optional_options),
        cmocka_unit_test(test_pcp_request_decode_option_not_offered),
        cmocka_unit_test(test_pcp_request_decode_opcode_not_offered),
        cmocka_unit_test(test_pcp_request_decode_announce_from_wrong_address),
        cmocka_unit_test(test_pcp_request_decode_known_option_in_announce),
        cmocka_unit_test(test_pcp_request_decode_fills_opcode_and_lifetime_of_refused),
        cmocka_unit_test(test_pcp_request_decode_every_truncated_prefix),
        cmocka_unit_test(test_pcp_request_decode_every_single_octet_mutation),
        cmocka_unit_test(test_pcp_request_decode_most_options_that_fit),
        cmocka_unit_test(test_pcp_request_decode_option_of_other_size),
        cmocka_unit_test(test_pcp_request_decode_every_unknown_option_code),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
