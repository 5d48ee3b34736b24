/* Responses against the table of known datagrams: those built from fields, those copied from a request, and the reading. */

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "vector.h"
#include "wire/response.h"

struct error_case {
    const char *request;
    enum pcp_result result;
    uint32_t lifetime_s;
    uint32_t epoch_s;
    const char *response;
};

static const struct error_case error_cases[] = {
    {"map_create_req", PCP_RESULT_NOT_AUTHORIZED, 1800, 1000, "err_02_not_authorized"},
    {"map_create_req", PCP_RESULT_MALFORMED_REQUEST, 1800, 1000, "err_03_malformed_request"},
    {"neg_opcode_50", PCP_RESULT_UNSUPP_OPCODE, 1800, 1000, "err_04_unsupp_opcode"},
    {"neg_unknown_mandatory", PCP_RESULT_UNSUPP_OPTION, 1800, 1000, "err_05_unsupp_option"},
    {"map_create_req", PCP_RESULT_MALFORMED_OPTION, 1800, 1000, "err_06_malformed_option"},
    {"map_create_req", PCP_RESULT_NETWORK_FAILURE, 30, 1000, "err_07_network_failure"},
    {"map_create_req", PCP_RESULT_NO_RESOURCES, 30, 1000, "err_08_no_resources"},
    {"map_create_req", PCP_RESULT_UNSUPP_PROTOCOL, 1800, 1000, "err_09_unsupp_protocol"},
    {"map_create_req", PCP_RESULT_USER_EX_QUOTA, 30, 1000, "err_10_user_ex_quota"},
    {"map_prefer_failure_req", PCP_RESULT_CANNOT_PROVIDE_EXTERNAL, 30, 1000,
     "err_11_cannot_provide_external"},
    {"map_create_req", PCP_RESULT_ADDRESS_MISMATCH, 1800, 1000, "err_12_address_mismatch"},
    {"map_filter_req", PCP_RESULT_EXCESSIVE_REMOTE_PEERS, 1800, 1000,
     "err_13_excessive_remote_peers"},
    {"map_create_req", PCP_RESULT_NOT_AUTHORIZED, 2345, 1000, "err_not_authorized_nonce_mismatch"},
    {"peer_create_req", PCP_RESULT_CANNOT_PROVIDE_EXTERNAL, 30, 1000, "err_peer_cannot_provide"},
    {"map_prefer_failure_req", PCP_RESULT_CANNOT_PROVIDE_EXTERNAL, 30, 3,
     "map_update_prefer_failure_lost"},
    /* Results of RFC 7843, which we only carry. */
    {"map_third_party_id_req", (enum pcp_result) 24, 1800, 1000, "err_24_third_party_id_unknown"},
    {"neg_third_party_id_alone", (enum pcp_result) 25, 1800, 1000,
     "err_25_third_party_missing_option"},
    {"map_third_party_id_req", (enum pcp_result) 26, 1800, 1000,
     "err_26_unsupp_third_party_id_length"},
    {"v3_map_req", PCP_RESULT_UNSUPP_VERSION, 1800, 1000, "v3_unsupp_version_rsp"},
    {"v0_natpmp_pubaddr_req", PCP_RESULT_UNSUPP_VERSION, 1800, 1000, "v0_unsupp_version_rsp"},
};

/* The 96 bits of the client address that stay in place when the request could not be parsed. */
#define RESERVED_OFFSET 12
#define RESERVED_SIZE 12

static const uint8_t zeros[PCP_SIZE_MAX];

static struct ip_address address(const char *text)
{
    struct ip_address result;
    assert_int_equal(ip_address_parse(text, &result), 0);
    return result;
}

static bool is_pcp_response(const struct vector *vector)
{
    return !vector->is_request && !vector_is_in_group(vector, "natpmp");
}

static int decode_vector(const char *name, struct pcp_response *ret_response)
{
    const struct vector *vector = vector_find(name);
    uint8_t *octets = vector_octets(vector);
    int r = pcp_response_decode(octets, vector->size_bytes, ret_response);
    free(octets);
    return r;
}

static void assert_encodes_as(const struct pcp_response *response, const char *name)
{
    const struct vector *vector = vector_find(name);
    uint8_t *expected = vector_octets(vector);
    uint8_t octets[PCP_SIZE_MAX];

    assert_int_equal(pcp_response_encode(response, octets, sizeof(octets)), vector->size_bytes);
    assert_memory_equal(octets, expected, vector->size_bytes);
    free(expected);
}

/* Whether the response can be built from the fields we know: opcode, options, reserved octets. */
static bool is_expressible(const struct vector *vector, const uint8_t *octets)
{
    static const char *const inexpressible[] = {
        /* Options we skip. */
        "map_description_rsp", "map_description_trunc_rsp", "map_prefix64_wkp_rsp",
        "map_prefix64_list_rsp", "announce_prefix64_rsp", "map_port_set_rsp",
        "err_05_unsupp_option", "err_24_third_party_id_unknown",
        "err_25_third_party_missing_option", "err_26_unsupp_third_party_id_length",
        /* Opcodes and versions of others. */
        "err_04_unsupp_opcode", "v3_unsupp_version_rsp", "v0_unsupp_version_rsp",
        "natpmp_server_reply_to_pcp", "natpmp_server_reply_to_pcp_old"};

    for (size_t i = 0; i < N_ELEMENTS(inexpressible); i++) {
        if (strcmp(vector->name, inexpressible[i]) == 0)
            return false;
    }
    return memcmp(octets + RESERVED_OFFSET, zeros, RESERVED_SIZE) == 0;
}

static void test_pcp_response_decode_known_datagrams(void **state)
{
    (void) state;
    static struct pcp_response response;
    size_t n_compared = 0;

    for (size_t i = 0; i < n_vectors; i++) {
        if (!is_pcp_response(&vectors[i]))
            continue;
        uint8_t *octets = vector_octets(&vectors[i]);
        assert_int_equal(decode_vector(vectors[i].name, &response), 0);
        assert_int_equal(response.version, octets[0]);
        assert_int_equal(response.opcode, octets[1] & 0x7f);
        assert_int_equal(response.result, octets[3]);
        if (is_expressible(&vectors[i], octets)) {
            assert_encodes_as(&response, vectors[i].name);
            n_compared++;
        }
        free(octets);
    }
    assert_true(n_compared >= 25);
}

/* [R-6887-7-2] [R-6887-7.2-2] [R-6887-8.2-6] */
static void test_pcp_response_encode_map(void **state)
{
    (void) state;
    static struct pcp_response response;

    response.opcode = PCP_OPCODE_MAP;
    response.lifetime_s = 2900;
    response.epoch_s = 3;
    response.mapping.protocol = 6;
    response.mapping.internal_port = 8080;
    response.mapping.external.port = 40001;
    response.mapping.external.address = address("203.0.113.66");
    for (uint8_t i = 0; i < PCP_NONCE_SIZE; i++)
        response.mapping.nonce[i] = (uint8_t) (1 + i);
    response.n_options = 1;
    response.options[0].code = PCP_OPTION_THIRD_PARTY;
    response.options[0].third_party = address("192.168.1.77");
    assert_encodes_as(&response, "map_update_third_party");
}

static void test_pcp_response_encode_peer_of_other_family(void **state)
{
    (void) state;
    static struct pcp_response response;

    response.version = 77; /* not what is sent */
    response.opcode = PCP_OPCODE_PEER;
    response.lifetime_s = 600;
    response.epoch_s = 1000;
    response.mapping.protocol = 6;
    response.mapping.internal_port = 50000;
    response.mapping.external.port = 61000;
    response.mapping.external.address = address("203.0.113.5");
    response.mapping.remote.port = 443;
    response.mapping.remote.address = address("64:ff9b::c633:644d");
    for (uint8_t i = 0; i < PCP_NONCE_SIZE; i++)
        response.mapping.nonce[i] = (uint8_t) (0xa1 + i);
    assert_encodes_as(&response, "peer_nat64_rsp");
}

static void test_pcp_response_encode_without_room(void **state)
{
    (void) state;
    static struct pcp_response response;

    assert_int_equal(decode_vector("map_filter_replace_rsp", &response), 0);
    for (size_t size_bytes = 0; size_bytes < 132; size_bytes++) {
        uint8_t *room = vector_copy(zeros, size_bytes);
        assert_int_equal(pcp_response_encode(&response, room, size_bytes), -ENOSPC);
        free(room);
    }
}

static void test_pcp_response_encode_opcode_we_do_not_know(void **state)
{
    (void) state;
    static struct pcp_response response;
    uint8_t room[PCP_SIZE_MAX];

    response.opcode = 98;
    assert_int_equal(pcp_response_encode(&response, room, sizeof(room)), -EINVAL);
}

/* [R-6887-7.3-6] */
static void test_pcp_response_encode_error_known_datagrams(void **state)
{
    (void) state;
    for (size_t i = 0; i < N_ELEMENTS(error_cases); i++) {
        const struct error_case *error = &error_cases[i];
        const struct vector *request = vector_find(error->request);
        const struct vector *response = vector_find(error->response);
        uint8_t *octets = vector_octets(request), *expected = vector_octets(response);
        uint8_t *room = vector_copy(zeros, response->size_bytes);

        assert_int_equal(pcp_response_encode_error(octets, request->size_bytes, error->result,
                                                   error->lifetime_s, error->epoch_s, room,
                                                   response->size_bytes),
                         response->size_bytes);
        assert_memory_equal(room, expected, response->size_bytes);
        assert_int_equal(pcp_response_encode_error(octets, request->size_bytes, error->result,
                                                   error->lifetime_s, error->epoch_s, room,
                                                   response->size_bytes - 1),
                         -ENOSPC);
        free(octets);
        free(expected);
        free(room);
    }
}

/* [R-6887-7-1] */
static void test_pcp_response_encode_error_of_too_long_request_is_truncated(void **state)
{
    (void) state;
    const struct vector *request = vector_find("neg_too_long");
    uint8_t *octets = vector_octets(request);
    uint8_t room[PCP_SIZE_MAX + 4];

    assert_int_equal(pcp_response_encode_error(octets, request->size_bytes,
                                               PCP_RESULT_MALFORMED_REQUEST, 1800, 1000, room,
                                               sizeof(room)),
                     PCP_SIZE_MAX);
    assert_int_equal(room[0], PCP_VERSION);
    assert_int_equal(room[1], 0x81);
    assert_int_equal(room[3], PCP_RESULT_MALFORMED_REQUEST);
    assert_memory_equal(room + RESERVED_OFFSET, octets + RESERVED_OFFSET,
                        PCP_SIZE_MAX - RESERVED_OFFSET);
    free(octets);
}

/* [R-6887-8.2-5] */
static void test_pcp_response_encode_error_pads_to_multiple_of_4(void **state)
{
    (void) state;
    const struct vector *request = vector_find("neg_not_multiple_of_4");
    uint8_t *octets = vector_octets(request);
    uint8_t room[PCP_SIZE_MAX];

    memset(room, 0xaa, sizeof(room));
    assert_int_equal(pcp_response_encode_error(octets, request->size_bytes,
                                               PCP_RESULT_MALFORMED_REQUEST, 1800, 1000, room,
                                               sizeof(room)),
                     64);
    assert_int_equal(room[0], PCP_VERSION);
    assert_int_equal(room[1], 0x81);
    assert_memory_equal(room + RESERVED_OFFSET, octets + RESERVED_OFFSET, 62 - RESERVED_OFFSET);
    assert_memory_equal(room + 62, zeros, 2);
    free(octets);
}

static void test_pcp_response_encode_error_of_every_prefix(void **state)
{
    (void) state;
    const struct vector *request = vector_find("map_filter_replace_req");
    uint8_t *octets = vector_octets(request);

    for (size_t n = 2; n <= request->size_bytes; n++) {
        uint8_t *prefix = vector_copy(octets, n);
        uint8_t room[PCP_SIZE_MAX];
        memset(room, 0xaa, sizeof(room));
        int size = pcp_response_encode_error(prefix, n, PCP_RESULT_UNSUPP_VERSION, 1800, 7, room,
                                             sizeof(room));
        assert_int_equal(size % 4, 0);
        assert_true(size >= PCP_HEADER_SIZE && (size_t) size < (n < 24 ? 25 : n + 4));
        if (n > RESERVED_OFFSET)
            assert_memory_equal(room + RESERVED_OFFSET, octets + RESERVED_OFFSET,
                                n - RESERVED_OFFSET);
        size_t padding_from = n > RESERVED_OFFSET ? n : RESERVED_OFFSET;
        assert_memory_equal(room + padding_from, zeros, (size_t) size - padding_from);
        assert_int_equal(room[size], 0xaa);
        free(prefix);
    }
    free(octets);
}

static void test_pcp_response_decode_map_fields(void **state)
{
    (void) state;
    static struct pcp_response response;
    struct ip_address external = address("203.0.113.5");

    assert_int_equal(decode_vector("map_renew_rsp_shorter", &response), 0);
    assert_int_equal(response.version, PCP_VERSION);
    assert_int_equal(response.opcode, PCP_OPCODE_MAP);
    assert_int_equal(response.result, PCP_RESULT_SUCCESS);
    assert_int_equal(response.lifetime_s, 1200);
    assert_int_equal(response.epoch_s, 2800);
    assert_int_equal(response.mapping.internal_port, 8080);
    assert_int_equal(response.mapping.external.port, 40001);
    assert_true(ip_address_equal(&response.mapping.external.address, &external));
}

static void test_pcp_response_decode_skips_unknown_options(void **state)
{
    (void) state;
    static struct pcp_response response;

    assert_int_equal(decode_vector("map_description_rsp", &response), 0);
    assert_int_equal(response.n_options, 0);
    /* THIRD_PARTY is kept, THIRD_PARTY_ID of the mandatory range is not. */
    assert_int_equal(decode_vector("err_24_third_party_id_unknown", &response), 0);
    assert_int_equal(response.n_options, 1);
    assert_int_equal(response.options[0].code, PCP_OPTION_THIRD_PARTY);
}

static void test_pcp_response_decode_skips_known_option_with_unsound_data(void **state)
{
    (void) state;
    static struct pcp_response response;
    static const char *const requests[] = {"neg_third_party_len12", "neg_filter_prefix_129",
                                           "neg_filter_prefix_v4_24", "neg_prefer_failure_len4"};

    for (size_t i = 0; i < N_ELEMENTS(requests); i++) {
        const struct vector *request = vector_find(requests[i]);
        uint8_t *octets = vector_octets(request);
        uint8_t room[PCP_SIZE_MAX];
        int size =
            pcp_response_encode_error(octets, request->size_bytes, PCP_RESULT_MALFORMED_OPTION,
                                      1800, 1000, room, sizeof(room));
        assert_int_equal(size, request->size_bytes);
        assert_int_equal(pcp_response_decode(room, (size_t) size, &response), 0);
        assert_int_equal(response.result, PCP_RESULT_MALFORMED_OPTION);
        assert_int_equal(response.n_options, 0);
        free(octets);
    }
}

static void test_pcp_response_decode_option_overrun_is_ignored(void **state)
{
    (void) state;
    static struct pcp_response response;
    const struct vector *vector = vector_find("map_third_party_rsp");
    uint8_t *octets = vector_octets(vector);

    octets[PCP_HEADER_SIZE + PCP_MAP_SIZE + 3] = 17;
    assert_int_equal(pcp_response_decode(octets, vector->size_bytes, &response), -EBADMSG);
    free(octets);
}

static void test_pcp_response_decode_request_is_ignored(void **state)
{
    (void) state;
    static struct pcp_response response;

    assert_int_equal(decode_vector("map_create_req", &response), -EBADMSG);
    assert_int_equal(decode_vector("announce_req", &response), -EBADMSG);
    assert_int_equal(decode_vector("natpmp_pubaddr_announce", &response), -EBADMSG);
    assert_int_equal(decode_vector("natpmp_map_udp_rsp", &response), -EBADMSG);
}

static void test_pcp_response_decode_unsupp_version_of_natpmp_server(void **state)
{
    (void) state;
    static struct pcp_response response;
    static const char *const answers[] = {"natpmp_server_reply_to_pcp",
                                          "natpmp_server_reply_to_pcp_old"};

    for (size_t i = 0; i < N_ELEMENTS(answers); i++) {
        assert_int_equal(decode_vector(answers[i], &response), 0);
        assert_int_equal(response.version, 0);
        assert_int_equal(response.opcode, 0);
        assert_int_equal(response.result, PCP_RESULT_UNSUPP_VERSION);
        assert_int_equal(response.epoch_s, 0);
    }
}

static void test_pcp_response_decode_natpmp_result_is_16_bits(void **state)
{
    (void) state;
    static struct pcp_response response;
    static const uint8_t octets[] = {0, 0x80, 0x01, 0x01, 0, 0, 0, 0};

    assert_int_equal(pcp_response_decode(octets, sizeof(octets), &response), -EBADMSG);
}

static void test_pcp_response_decode_unsupp_version_with_header_has_lifetime(void **state)
{
    (void) state;
    static struct pcp_response response;

    assert_int_equal(decode_vector("v3_unsupp_version_rsp", &response), 0);
    assert_int_equal(response.version, PCP_VERSION);
    assert_int_equal(response.result, PCP_RESULT_UNSUPP_VERSION);
    assert_int_equal(response.lifetime_s, 1800);
    assert_int_equal(response.epoch_s, 1000);
}

static void test_pcp_response_decode_too_long_is_ignored(void **state)
{
    (void) state;
    static struct pcp_response response;
    const struct vector *vector = vector_find("neg_too_long");
    uint8_t *octets = vector_octets(vector);

    octets[1] |= PCP_RESPONSE_BIT;
    assert_int_equal(pcp_response_decode(octets, vector->size_bytes, &response), -EBADMSG);
    assert_int_equal(pcp_response_decode(octets, PCP_SIZE_MAX, &response), -EBADMSG);
    /* The option's length now ends with the datagram. */
    octets[PCP_HEADER_SIZE + PCP_MAP_SIZE + 3] = 0x0c;
    assert_int_equal(pcp_response_decode(octets, PCP_SIZE_MAX, &response), 0);
    free(octets);
}

/* decode(encode(decode(x))) says what decode(x) says. */
static void check_any(const uint8_t *octets, size_t size_bytes)
{
    static struct pcp_response response, again;
    uint8_t first[PCP_SIZE_MAX], second[PCP_SIZE_MAX];

    if (pcp_response_decode(octets, size_bytes, &response) < 0)
        return;
    if (response.result != PCP_RESULT_UNSUPP_VERSION)
        assert_true(size_bytes >= PCP_HEADER_SIZE && size_bytes % 4 == 0);
    int first_size = pcp_response_encode(&response, first, sizeof(first));
    if (response.opcode > PCP_OPCODE_PEER) {
        assert_int_equal(first_size, -EINVAL);
        return;
    }
    assert_int_equal(pcp_response_decode(first, (size_t) first_size, &again), 0);
    int second_size = pcp_response_encode(&again, second, sizeof(second));
    if (response.result != PCP_RESULT_UNSUPP_VERSION) {
        assert_int_equal(second_size, first_size);
        assert_memory_equal(first, second, (size_t) first_size);
    }
}

static void test_pcp_response_decode_every_truncated_prefix(void **state)
{
    (void) state;
    static struct pcp_response response;

    for (size_t i = 0; i < n_vectors; i++) {
        uint8_t *octets = vector_octets(&vectors[i]);
        for (size_t n = 0; n <= vectors[i].size_bytes; n++) {
            uint8_t *prefix = vector_copy(octets, n);
            bool is_unsupp_version = n >= 4 && prefix[3] == PCP_RESULT_UNSUPP_VERSION;
            check_any(prefix, n);
            if (!is_unsupp_version && (n < PCP_HEADER_SIZE || n % 4 != 0))
                assert_int_equal(pcp_response_decode(prefix, n, &response), -EBADMSG);
            free(prefix);
        }
        free(octets);
    }
}

static void test_pcp_response_decode_map_shorter_than_its_opcode_is_ignored(void **state)
{
    (void) state;
    static struct pcp_response response;
    const struct vector *map = vector_find("map_create_rsp"),
                        *peer = vector_find("peer_create_rsp");
    uint8_t *map_octets = vector_octets(map), *peer_octets = vector_octets(peer);

    for (size_t n = 0; n < map->size_bytes; n++)
        assert_int_equal(pcp_response_decode(map_octets, n, &response), -EBADMSG);
    for (size_t n = 0; n < peer->size_bytes; n++)
        assert_int_equal(pcp_response_decode(peer_octets, n, &response), -EBADMSG);
    free(map_octets);
    free(peer_octets);
}

static void test_pcp_response_decode_every_single_octet_mutation(void **state)
{
    (void) state;
    for (size_t i = 0; i < n_vectors; i++) {
        uint8_t *octets = vector_octets(&vectors[i]);
        for (size_t at = 0; is_pcp_response(&vectors[i]) && at < vectors[i].size_bytes; at++) {
            for (unsigned int change = 1; change <= UINT8_MAX; change++) {
                octets[at] ^= (uint8_t) change;
                check_any(octets, vectors[i].size_bytes);
                octets[at] ^= (uint8_t) change;
            }
        }
        free(octets);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pcp_response_decode_known_datagrams),
        cmocka_unit_test(test_pcp_response_encode_map),
        cmocka_unit_test(test_pcp_response_encode_peer_of_other_family),
        cmocka_unit_test(test_pcp_response_encode_without_room),
        cmocka_unit_test(test_pcp_response_encode_opcode_we_do_not_know),
        cmocka_unit_test(test_pcp_response_encode_error_known_datagrams),
        cmocka_unit_test(test_pcp_response_encode_error_of_too_long_request_is_truncated),
        cmocka_unit_test(test_pcp_response_encode_error_pads_to_multiple_of_4),
        cmocka_unit_test(test_pcp_response_encode_error_of_every_prefix),
        cmocka_unit_test(test_pcp_response_decode_map_fields),
        cmocka_unit_test(test_pcp_response_decode_skips_unknown_options),
        cmocka_unit_test(test_pcp_response_decode_skips_known_option_with_unsound_data),
        cmocka_unit_test(test_pcp_response_decode_option_overrun_is_ignored),
        cmocka_unit_test(test_pcp_response_decode_request_is_ignored),
        cmocka_unit_test(test_pcp_response_decode_unsupp_version_of_natpmp_server),
        cmocka_unit_test(test_pcp_response_decode_natpmp_result_is_16_bits),
        cmocka_unit_test(test_pcp_response_decode_unsupp_version_with_header_has_lifetime),
        cmocka_unit_test(test_pcp_response_decode_too_long_is_ignored),
        cmocka_unit_test(test_pcp_response_decode_every_truncated_prefix),
        cmocka_unit_test(test_pcp_response_decode_map_shorter_than_its_opcode_is_ignored),
        cmocka_unit_test(test_pcp_response_decode_every_single_octet_mutation),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
