/* FILTER: the prefix lengths of each family, and what decoding clears. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "wire/option.h"

#define FILTER_SIZE 20

static struct ip_address address(const char *text)
{
    struct ip_address result;
    assert_int_equal(ip_address_parse(text, &result), 0);
    return result;
}

static bool decode(const char *text, uint8_t length, uint16_t port, struct pcp_filter *ret_filter)
{
    struct ip_address remote = address(text);
    uint8_t octets[FILTER_SIZE];
    struct pcp_option option = {.code = PCP_OPTION_FILTER};
    struct writer writer = writer_init(octets, sizeof(octets));

    writer_u8(&writer, 0xee); /* reserved */
    writer_u8(&writer, length);
    writer_u16(&writer, port);
    writer_bytes(&writer, remote.octets, sizeof(remote.octets));
    struct reader body = reader_init(octets, sizeof(octets));
    bool is_sound = pcp_option_find(PCP_OPTION_FILTER)->decode(&body, &option);
    *ret_filter = option.filter;
    return is_sound;
}

/* Erratum 3891; 96 is accepted besides. */
/* [R-6887-13.3-1] [R-6887-13.3-4] */
static void test_filter_decode_prefix_lengths_of_ipv4(void **state)
{
    (void) state;
    struct pcp_filter filter;

    for (unsigned int length = 0; length <= UINT8_MAX; length++) {
        bool is_valid = length == 0 || (length >= 96 && length <= 128);
        assert_true(decode("198.51.100.7", (uint8_t) length, 0, &filter) == is_valid);
    }
}

/* [R-6887-13.3-4] */
static void test_filter_decode_prefix_lengths_of_ipv6(void **state)
{
    (void) state;
    struct pcp_filter filter;

    for (unsigned int length = 0; length <= UINT8_MAX; length++)
        assert_true(decode("2001:db8::1", (uint8_t) length, 0, &filter) == (length <= 128));
}

/* A response carries the option as it came (RFC 6887 s7.3). */
static void test_filter_decode_keeps_what_carries_no_meaning(void **state)
{
    (void) state;
    struct pcp_filter filter;
    struct ip_address remote = address("198.51.100.7");

    assert_true(decode("198.51.100.7", 120, 443, &filter));
    assert_true(ip_address_equal(&filter.remote.address, &remote));
    assert_int_equal(filter.remote.length, 120);
    assert_int_equal(filter.remote_port, 443);
    assert_true(decode("198.51.100.7", 0, 443, &filter));
    assert_true(ip_address_equal(&filter.remote.address, &remote));
    assert_int_equal(filter.remote.length, 0);
    assert_int_equal(filter.remote_port, 443);
}

/* [R-6887-13.3-2] */
static void test_filter_encode_writes_the_layout_of_the_rfc(void **state)
{
    (void) state;
    static const uint8_t expected[] = {3, 0, 0, 20, 0, 128, 0x13, 0x88, 0,   0, 0,   0,
                                       0, 0, 0, 0,  0, 0,   0xff, 0xff, 203, 0, 113, 99};
    uint8_t octets[sizeof(expected)];
    struct writer writer = writer_init(octets, sizeof(octets));
    struct pcp_option option = {
        .code = PCP_OPTION_FILTER,
        .filter = {.remote = {.address = address("203.0.113.99"), .length = 128},
                   .remote_port = 5000},
    };

    pcp_option_write(&option, &writer);
    assert_int_equal(writer_position(&writer), sizeof(expected));
    assert_memory_equal(octets, expected, sizeof(expected));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_filter_decode_prefix_lengths_of_ipv4),
        cmocka_unit_test(test_filter_decode_prefix_lengths_of_ipv6),
        cmocka_unit_test(test_filter_decode_keeps_what_carries_no_meaning),
        cmocka_unit_test(test_filter_encode_writes_the_layout_of_the_rfc),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
