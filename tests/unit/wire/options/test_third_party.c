/* THIRD_PARTY: sixteen octets of address, as they are. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "wire/option.h"

static const uint8_t octets[] = {1, 0, 0, 16, 0,    0,    0,   0,   0, 0,
                                 0, 0, 0, 0,  0xff, 0xff, 192, 168, 1, 77};

static void test_third_party_decode_yields_address(void **state)
{
    (void) state;
    struct reader reader = reader_init(octets, sizeof(octets));
    struct pcp_option option;

    struct pcp_option_frame frame = pcp_option_read_frame(&reader);
    assert_true(pcp_option_find(frame.code)->decode(&frame.body, &option));
    assert_false(reader_failed(&frame.body));
    assert_int_equal(ip_address_to_ipv4(&option.third_party), 0xc0a8014d);
}

static void test_third_party_decode_accepts_its_size_only(void **state)
{
    (void) state;
    const struct pcp_option_descriptor *descriptor = pcp_option_find(PCP_OPTION_THIRD_PARTY);

    assert_int_equal(descriptor->size_min_bytes, 16);
    assert_int_equal(descriptor->size_max_bytes, 16);
}

static void test_third_party_encode_writes_the_layout_of_the_rfc(void **state)
{
    (void) state;
    struct pcp_option option = {.code = PCP_OPTION_THIRD_PARTY,
                                .third_party = ip_address_from_ipv4(0xc0a8014d)};
    uint8_t written[sizeof(octets)];
    struct writer writer = writer_init(written, sizeof(written));

    pcp_option_write(&option, &writer);
    assert_int_equal(writer_position(&writer), sizeof(octets));
    assert_memory_equal(written, octets, sizeof(octets));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_third_party_decode_yields_address),
        cmocka_unit_test(test_third_party_decode_accepts_its_size_only),
        cmocka_unit_test(test_third_party_encode_writes_the_layout_of_the_rfc),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
