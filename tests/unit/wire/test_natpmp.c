/* NAT-PMP against the table of known datagrams. */

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "vector.h"
#include "wire/natpmp.h"

static bool is_natpmp(const struct vector *vector, bool is_request)
{
    return vector_is_in_group(vector, "natpmp") && vector->is_request == is_request;
}

static void assert_is_vector(const uint8_t *octets, int size, const char *name)
{
    const struct vector *vector = vector_find(name);
    uint8_t *expected = vector_octets(vector);

    assert_int_equal(size, vector->size_bytes);
    assert_memory_equal(octets, expected, vector->size_bytes);
    free(expected);
}

static enum natpmp_verdict decode_request(const char *name, struct natpmp_request *ret_request,
                                          enum natpmp_result *ret_result)
{
    const struct vector *vector = vector_find(name);
    uint8_t *octets = vector_octets(vector);
    enum natpmp_verdict verdict =
        natpmp_request_decode(octets, vector->size_bytes, ret_request, ret_result);
    free(octets);
    return verdict;
}

static int decode_response(const char *name, struct natpmp_response *ret_response)
{
    const struct vector *vector = vector_find(name);
    uint8_t *octets = vector_octets(vector);
    int r = natpmp_response_decode(octets, vector->size_bytes, ret_response);
    free(octets);
    return r;
}

static void test_natpmp_request_known_datagrams(void **state)
{
    (void) state;
    struct natpmp_request request;
    enum natpmp_result result;
    size_t n_compared = 0;

    for (size_t i = 0; i < n_vectors; i++) {
        if (!is_natpmp(&vectors[i], true))
            continue;
        enum natpmp_verdict verdict = decode_request(vectors[i].name, &request, &result);
        if (strcmp(vectors[i].name, "natpmp_unsupp_opcode_req") == 0) {
            assert_int_equal(verdict, NATPMP_VERDICT_ANSWER);
            assert_int_equal(result, NATPMP_RESULT_UNSUPP_OPCODE);
            assert_int_equal(request.opcode, 9);
            continue;
        }
        uint8_t octets[12];
        assert_int_equal(verdict, NATPMP_VERDICT_ACCEPT);
        assert_int_equal(result, NATPMP_RESULT_SUCCESS);
        int size = natpmp_request_encode(&request, octets, sizeof(octets));
        assert_is_vector(octets, size, vectors[i].name);
        n_compared++;
    }
    assert_int_equal(n_compared, 5);
}

static void test_natpmp_request_decode_map_fields(void **state)
{
    (void) state;
    struct natpmp_request request;
    enum natpmp_result result;

    assert_int_equal(decode_request("natpmp_map_tcp_req", &request, &result),
                     NATPMP_VERDICT_ACCEPT);
    assert_int_equal(request.opcode, NATPMP_OPCODE_MAP_TCP);
    assert_int_equal(request.internal_port, 8080);
    assert_int_equal(request.external_port, 8080);
    assert_int_equal(request.lifetime_s, 7200);
}

/* [R-6886-3.5-2] */
static void test_natpmp_request_decode_response_is_dropped(void **state)
{
    (void) state;
    struct natpmp_request request;
    enum natpmp_result result;

    assert_int_equal(decode_request("natpmp_pubaddr_rsp", &request, &result), NATPMP_VERDICT_DROP);
    assert_int_equal(decode_request("natpmp_unsupp_opcode_rsp", &request, &result),
                     NATPMP_VERDICT_DROP);
}

static void test_natpmp_request_decode_every_truncated_prefix_is_dropped(void **state)
{
    (void) state;
    struct natpmp_request request;
    enum natpmp_result result;

    for (size_t i = 0; i < n_vectors; i++) {
        uint8_t *octets = vector_octets(&vectors[i]);
        for (size_t n = 0; is_natpmp(&vectors[i], true) && n < vectors[i].size_bytes; n++) {
            uint8_t *prefix = vector_copy(octets, n);
            assert_int_equal(natpmp_request_decode(prefix, n, &request, &result),
                             NATPMP_VERDICT_DROP);
            free(prefix);
        }
        free(octets);
    }
}

static void test_natpmp_request_decode_ignores_a_tail(void **state)
{
    (void) state;
    struct natpmp_request request;
    enum natpmp_result result;
    static const uint8_t address_octets[] = {0, 0, 0xff};
    static const uint8_t map_octets[] = {0, 1, 0, 0, 0, 80, 0, 81, 0, 0, 0, 9, 0xff};

    assert_int_equal(
        natpmp_request_decode(address_octets, sizeof(address_octets), &request, &result),
        NATPMP_VERDICT_ACCEPT);
    assert_int_equal(natpmp_request_decode(map_octets, sizeof(map_octets), &request, &result),
                     NATPMP_VERDICT_ACCEPT);
    assert_int_equal(request.internal_port, 80);
    assert_int_equal(request.external_port, 81);
    assert_int_equal(request.lifetime_s, 9);
}

static void test_natpmp_request_decode_every_opcode(void **state)
{
    (void) state;
    struct natpmp_request request;
    enum natpmp_result result;

    for (unsigned int opcode = 0; opcode <= UINT8_MAX; opcode++) {
        const uint8_t octets[12] = {0, (uint8_t) opcode};
        enum natpmp_verdict expected = opcode >= 128 ? NATPMP_VERDICT_DROP
                                       : opcode > 2  ? NATPMP_VERDICT_ANSWER
                                                     : NATPMP_VERDICT_ACCEPT;
        assert_int_equal(natpmp_request_decode(octets, sizeof(octets), &request, &result),
                         expected);
    }
}

static void test_natpmp_request_encode_refusals(void **state)
{
    (void) state;
    struct natpmp_request request = {.opcode = NATPMP_OPCODE_MAP_UDP};
    uint8_t octets[12];

    for (size_t size_bytes = 0; size_bytes < sizeof(octets); size_bytes++)
        assert_int_equal(natpmp_request_encode(&request, octets, size_bytes), -ENOSPC);
    request.opcode = 3;
    assert_int_equal(natpmp_request_encode(&request, octets, sizeof(octets)), -EINVAL);
}

/* [R-6886-3.3-2] */
static void test_natpmp_response_known_datagrams(void **state)
{
    (void) state;
    struct natpmp_response response;
    size_t n_compared = 0;

    for (size_t i = 0; i < n_vectors; i++) {
        if (!is_natpmp(&vectors[i], false))
            continue;
        uint8_t octets[NATPMP_RESPONSE_SIZE_MAX];
        assert_int_equal(decode_response(vectors[i].name, &response), 0);
        int size = natpmp_response_encode(&response, octets, sizeof(octets));
        assert_is_vector(octets, size, vectors[i].name);
        assert_int_equal(natpmp_response_encode(&response, octets, vectors[i].size_bytes - 1),
                         -ENOSPC);
        n_compared++;
    }
    assert_int_equal(n_compared, 10);
}

static void test_natpmp_response_encode_from_fields(void **state)
{
    (void) state;
    uint8_t octets[NATPMP_RESPONSE_SIZE_MAX];
    struct natpmp_response address = {
        .opcode = NATPMP_OPCODE_ADDRESS, .epoch_s = 1234, .external_address = 0xcb007105};
    struct natpmp_response mapping = {.opcode = NATPMP_OPCODE_MAP_TCP,
                                      .epoch_s = 1236,
                                      .internal_port = 8080,
                                      .external_port = 40001,
                                      .lifetime_s = 3600};
    struct natpmp_response opcode = {
        .opcode = 9, .result = NATPMP_RESULT_UNSUPP_OPCODE, .epoch_s = 77};
    struct natpmp_response version = {
        .opcode = NATPMP_OPCODE_ADDRESS, .result = NATPMP_RESULT_UNSUPP_VERSION, .epoch_s = 78};

    assert_is_vector(octets, natpmp_response_encode(&address, octets, sizeof(octets)),
                     "natpmp_pubaddr_rsp");
    assert_is_vector(octets, natpmp_response_encode(&mapping, octets, sizeof(octets)),
                     "natpmp_map_tcp_rsp");
    assert_is_vector(octets, natpmp_response_encode(&opcode, octets, sizeof(octets)),
                     "natpmp_unsupp_opcode_rsp");
    assert_is_vector(octets, natpmp_response_encode(&version, octets, sizeof(octets)),
                     "natpmp_unsupp_version_rsp");
}

static void test_natpmp_response_decode_fields(void **state)
{
    (void) state;
    struct natpmp_response response;

    assert_int_equal(decode_response("natpmp_map_tcp_rsp", &response), 0);
    assert_int_equal(response.opcode, NATPMP_OPCODE_MAP_TCP);
    assert_int_equal(response.result, NATPMP_RESULT_SUCCESS);
    assert_int_equal(response.epoch_s, 1236);
    assert_int_equal(response.internal_port, 8080);
    assert_int_equal(response.external_port, 40001);
    assert_int_equal(response.lifetime_s, 3600);
    assert_int_equal(decode_response("natpmp_pubaddr_rsp", &response), 0);
    assert_int_equal(response.external_address, 0xcb007105);
}

static void test_natpmp_response_decode_opcode_0_only_for_unsupp_version(void **state)
{
    (void) state;
    struct natpmp_response response;
    static const uint8_t refusal[] = {0, 0, 0, 1, 0, 0, 0, 9};
    static const uint8_t address[] = {0, 0, 0, 0, 0, 0, 0, 9, 1, 2, 3, 4};

    assert_int_equal(natpmp_response_decode(refusal, sizeof(refusal), &response), 0);
    assert_int_equal(response.result, NATPMP_RESULT_UNSUPP_VERSION);
    assert_int_equal(response.epoch_s, 9);
    assert_int_equal(natpmp_response_decode(address, sizeof(address), &response), -EBADMSG);
}

static void test_natpmp_response_decode_other_version_is_ignored(void **state)
{
    (void) state;
    struct natpmp_response response;

    assert_int_equal(decode_response("announce_rsp", &response), -EBADMSG);
    assert_int_equal(decode_response("map_create_rsp", &response), -EBADMSG);
}

static void test_natpmp_response_decode_every_truncated_prefix_is_ignored(void **state)
{
    (void) state;
    struct natpmp_response response;

    for (size_t i = 0; i < n_vectors; i++) {
        uint8_t *octets = vector_octets(&vectors[i]);
        for (size_t n = 0; is_natpmp(&vectors[i], false) && n < vectors[i].size_bytes; n++) {
            uint8_t *prefix = vector_copy(octets, n);
            assert_int_equal(natpmp_response_decode(prefix, n, &response), -EBADMSG);
            free(prefix);
        }
        free(octets);
    }
}

static void check_any(const uint8_t *octets, size_t size_bytes)
{
    struct natpmp_request request, request_again;
    struct natpmp_response response, response_again;
    enum natpmp_result result;
    uint8_t room[NATPMP_RESPONSE_SIZE_MAX];

    if (natpmp_request_decode(octets, size_bytes, &request, &result) == NATPMP_VERDICT_ACCEPT) {
        int size = natpmp_request_encode(&request, room, sizeof(room));
        assert_true(size > 0 && (size_t) size <= size_bytes);
        assert_int_equal(natpmp_request_decode(room, (size_t) size, &request_again, &result),
                         NATPMP_VERDICT_ACCEPT);
        assert_int_equal(request.internal_port, request_again.internal_port);
        assert_int_equal(request.external_port, request_again.external_port);
        assert_int_equal(request.lifetime_s, request_again.lifetime_s);
    }
    if (natpmp_response_decode(octets, size_bytes, &response) == 0) {
        int size = natpmp_response_encode(&response, room, sizeof(room));
        assert_true(size > 0 && (size_t) size <= size_bytes);
        assert_int_equal(natpmp_response_decode(room, (size_t) size, &response_again), 0);
        assert_int_equal(response.result, response_again.result);
        assert_int_equal(response.epoch_s, response_again.epoch_s);
        assert_int_equal(response.external_address, response_again.external_address);
        assert_int_equal(response.lifetime_s, response_again.lifetime_s);
    }
}

static void test_natpmp_decode_every_single_octet_mutation(void **state)
{
    (void) state;
    for (size_t i = 0; i < n_vectors; i++) {
        if (!vector_is_in_group(&vectors[i], "natpmp"))
            continue;
        uint8_t *octets = vector_octets(&vectors[i]);
        for (size_t at = 0; at < vectors[i].size_bytes; at++) {
            for (unsigned int change = 1; change <= UINT8_MAX; change++) {
                octets[at] ^= (uint8_t) change;
                check_any(octets, vectors[i].size_bytes);
                octets[at] ^= (uint8_t) change;
            }
        }
        free(octets);
    }
}

static void test_natpmp_result_name_of_known_and_unknown(void **state)
{
    (void) state;
    assert_string_equal(natpmp_result_name(0), "SUCCESS");
    assert_string_equal(natpmp_result_name(5), "UNSUPP_OPCODE");
    assert_string_equal(natpmp_result_name(6), "UNKNOWN");
    assert_string_equal(natpmp_result_name(UINT16_MAX), "UNKNOWN");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_natpmp_request_known_datagrams),
        cmocka_unit_test(test_natpmp_request_decode_map_fields),
        cmocka_unit_test(test_natpmp_request_decode_response_is_dropped),
        cmocka_unit_test(test_natpmp_request_decode_every_truncated_prefix_is_dropped),
        cmocka_unit_test(test_natpmp_request_decode_ignores_a_tail),
        cmocka_unit_test(test_natpmp_request_decode_every_opcode),
        cmocka_unit_test(test_natpmp_request_encode_refusals),
        cmocka_unit_test(test_natpmp_response_known_datagrams),
        cmocka_unit_test(test_natpmp_response_encode_from_fields),
        cmocka_unit_test(test_natpmp_response_decode_fields),
        cmocka_unit_test(test_natpmp_response_decode_opcode_0_only_for_unsupp_version),
        cmocka_unit_test(test_natpmp_response_decode_other_version_is_ignored),
        cmocka_unit_test(test_natpmp_response_decode_every_truncated_prefix_is_ignored),
        cmocka_unit_test(test_natpmp_decode_every_single_octet_mutation),
        cmocka_unit_test(test_natpmp_result_name_of_known_and_unknown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
