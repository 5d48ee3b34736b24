/* The fields of MAP and PEER behind the common header. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "wire/payload.h"

static const uint8_t peer_octets[PCP_PEER_SIZE] = {
    1,    2,    3,    4,    5,    6,    7,    8,    9, 10, 11,   12, /* nonce */
    6,    0xee, 0xee, 0xee, 0x1f, 0x90, 0x9c, 0x41,                  /* protocol, ports */
    0,    0,    0,    0,    0,    0,    0,    0,    0, 0,  0xff, 0xff, 203, 0,  113, 5,
    0x01, 0xbb, 0xee, 0xee, /* remote port */
    0,    0,    0,    0,    0,    0,    0,    0,    0, 0,  0xff, 0xff, 198, 51, 100, 77,
};

static void test_pcp_payload_size_by_opcode(void **state)
{
    (void) state;
    assert_int_equal(pcp_payload_size(PCP_OPCODE_ANNOUNCE), 0);
    assert_int_equal(pcp_payload_size(PCP_OPCODE_MAP), PCP_MAP_SIZE);
    assert_int_equal(pcp_payload_size(PCP_OPCODE_PEER), PCP_PEER_SIZE);
    assert_true(pcp_payload_size(3) < 0);
    assert_true(pcp_payload_size(0x81) < 0);
}

/* [R-6887-12.1-2] */
static void test_pcp_payload_read_peer_ignores_reserved_octets(void **state)
{
    (void) state;
    struct reader reader = reader_init(peer_octets, sizeof(peer_octets));
    struct pcp_mapping_fields fields;

    pcp_payload_read(&reader, PCP_OPCODE_PEER, &fields);
    assert_false(reader_failed(&reader));
    assert_int_equal(reader_remaining(&reader), 0);
    assert_memory_equal(fields.nonce, peer_octets, PCP_NONCE_SIZE);
    assert_int_equal(fields.protocol, 6);
    assert_int_equal(fields.internal_port, 8080);
    assert_int_equal(fields.external.port, 40001);
    assert_int_equal(ip_address_to_ipv4(&fields.external.address), 0xcb007105);
    assert_int_equal(fields.remote.port, 443);
    assert_int_equal(ip_address_to_ipv4(&fields.remote.address), 0xc633644d);
}

static void test_pcp_payload_read_map_leaves_remote_zero(void **state)
{
    (void) state;
    struct reader reader = reader_init(peer_octets, sizeof(peer_octets));
    static const struct endpoint none;
    struct pcp_mapping_fields fields;

    memset(&fields, 0xaa, sizeof(fields));
    pcp_payload_read(&reader, PCP_OPCODE_MAP, &fields);
    assert_int_equal(reader_remaining(&reader), PCP_PEER_SIZE - PCP_MAP_SIZE);
    assert_true(endpoint_equal(&fields.remote, &none));
}

static void test_pcp_payload_read_truncated_fails(void **state)
{
    (void) state;
    struct pcp_mapping_fields fields;

    for (size_t size_bytes = 0; size_bytes < PCP_PEER_SIZE; size_bytes++) {
        struct reader reader = reader_init(peer_octets, size_bytes);
        pcp_payload_read(&reader, PCP_OPCODE_PEER, &fields);
        assert_true(reader_failed(&reader));
        reader = reader_init(peer_octets, size_bytes);
        pcp_payload_read(&reader, PCP_OPCODE_MAP, &fields);
        assert_true(reader_failed(&reader) == (size_bytes < PCP_MAP_SIZE));
    }
}

/* [R-6887-11.1-2] [R-6887-12.1-3] */
static void test_pcp_payload_write_sends_reserved_octets_as_zero(void **state)
{
    (void) state;
    struct reader reader = reader_init(peer_octets, sizeof(peer_octets));
    uint8_t octets[PCP_PEER_SIZE], expected[PCP_PEER_SIZE];
    struct writer writer = writer_init(octets, sizeof(octets));
    struct pcp_mapping_fields fields;

    memcpy(expected, peer_octets, sizeof(expected));
    memset(expected + 13, 0, 3);
    memset(expected + 38, 0, 2);
    pcp_payload_read(&reader, PCP_OPCODE_PEER, &fields);
    pcp_payload_write(&writer, PCP_OPCODE_PEER, &fields, NULL, 0);
    assert_int_equal(writer_position(&writer), sizeof(expected));
    assert_memory_equal(octets, expected, sizeof(expected));
}

static void test_pcp_payload_write_announce_is_options_only(void **state)
{
    (void) state;
    static const uint8_t expected[] = {PCP_OPTION_PREFER_FAILURE, 0, 0, 0};
    struct pcp_mapping_fields fields = {.protocol = 6};
    struct pcp_option option = {.code = PCP_OPTION_PREFER_FAILURE};
    uint8_t octets[8];
    struct writer writer = writer_init(octets, sizeof(octets));

    pcp_payload_write(&writer, PCP_OPCODE_ANNOUNCE, &fields, &option, 1);
    assert_int_equal(writer_position(&writer), sizeof(expected));
    assert_memory_equal(octets, expected, sizeof(expected));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pcp_payload_size_by_opcode),
        cmocka_unit_test(test_pcp_payload_read_peer_ignores_reserved_octets),
        cmocka_unit_test(test_pcp_payload_read_map_leaves_remote_zero),
        cmocka_unit_test(test_pcp_payload_read_truncated_fails),
        cmocka_unit_test(test_pcp_payload_write_sends_reserved_octets_as_zero),
        cmocka_unit_test(test_pcp_payload_write_announce_is_options_only),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
