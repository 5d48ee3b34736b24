#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/address.h"
#include "base/random.h"
#include "base/util.h"

static struct ip_address address_of(const char *text)
{
    struct ip_address address;

    assert_int_equal(ip_address_parse(text, &address), 0);
    return address;
}

static struct ip_prefix prefix_of(const char *text)
{
    struct ip_prefix prefix;

    assert_int_equal(ip_prefix_parse(text, &prefix), 0);
    return prefix;
}

/* [R-6887-5-1] */
static void test_ip_address_parse_prints_back(void **state)
{
    static const struct {
        const char *text, *printed;
        bool is_ipv4;
    } cases[] = {
        {"0.0.0.0", "0.0.0.0", true},
        {"10.77.0.1", "10.77.0.1", true},
        {"255.255.255.255", "255.255.255.255", true},
        {"::ffff:10.77.0.1", "10.77.0.1", true},
        {"::ffff:a4d:1", "10.77.0.1", true},
        {"0:0:0:0:0:ffff:0a4d:0001", "10.77.0.1", true},
        {"::", "::", false},
        {"::1", "::1", false},
        {"fd77::2", "fd77::2", false},
        {"FD77:0:0::2", "fd77::2", false},
        {"2001:db8:1:2:3:4:5:6", "2001:db8:1:2:3:4:5:6", false},
        {"2001:db8:1111:2222:3333:4444:5555:6666", "2001:db8:1111:2222:3333:4444:5555:6666", false},
        /* One bit away from the mapped form in each of its three parts. */
        {"::fffe:10.77.0.1", "::fffe:a4d:1", false},
        {"::1:ffff:a4d:1", "::1:ffff:a4d:1", false},
        {"8000::ffff:a4d:1", "8000::ffff:a4d:1", false},
    };

    (void) state;
    for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
        char text[IP_ADDRESS_TEXT_SIZE];
        struct ip_address address = address_of(cases[i].text);

        assert_string_equal(ip_address_format(&address, text), cases[i].printed);
        assert_int_equal(ip_address_is_ipv4(&address), cases[i].is_ipv4);
    }
}

static void test_ip_address_parse_refuses(void **state)
{
    static const char *const cases[] = {
        "",
        " ",
        "10.77.0",
        "10.77.0.1.2",
        "10.77.0.256",
        "10.77.0.1 ",
        " 10.77.0.1",
        "10.77.0.-1",
        "0x0a.77.0.1",
        "10.77.0.1/32",
        "localhost",
        "fd77::2::3",
        "fd77:",
        "12345::",
        "fd77::2%lo",
        "[fd77::2]",
        "fd77::2/128",
        "1:2:3:4:5:6:7:8:9",
        "10.77.0.1:80",
    };

    (void) state;
    for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
        struct ip_address address = IP_ADDRESS_ANY_IPV4;

        assert_int_equal(ip_address_parse(cases[i], &address), -EINVAL);
        assert_true(ip_address_equal(&address, &IP_ADDRESS_ANY_IPV4));
    }
}

static void test_ip_address_format_random_round_trip(void **state)
{
    struct random_source random = random_seeded(1);

    (void) state;
    for (int i = 0; i < 10000; i++) {
        char text[IP_ADDRESS_TEXT_SIZE];
        struct ip_address address, again;

        random_fill(&random, address.octets, sizeof(address.octets));
        /* Runs of zeros are what the text form abbreviates. */
        for (size_t j = 0; j < sizeof(address.octets); j++)
            if (random_below(&random, 3) > 0)
                address.octets[j] = 0;
        if (i % 4 == 0)
            address = ip_address_from_ipv4((uint32_t) random_u64(&random));
        again = address_of(ip_address_format(&address, text));
        assert_memory_equal(&again, &address, sizeof(address));
    }
}

static void test_ip_address_from_ipv4_host_order(void **state)
{
    struct ip_address address = ip_address_from_ipv4(UINT32_C(0x0a4d0001));
    struct ip_address expected = address_of("10.77.0.1");

    (void) state;
    assert_true(ip_address_equal(&address, &expected));
    assert_int_equal(ip_address_to_ipv4(&address), 0x0a4d0001);
}

/* [R-6887-5-2] [R-6887-5-3] */
static void test_ip_address_is_classes(void **state)
{
    enum {
        ANY = 1,
        MULTICAST = 2,
        LOOPBACK = 4,
        LINK_LOCAL = 8,
    };
    static const struct {
        const char *text;
        int classes;
    } cases[] = {
        {"::", ANY},
        {"0.0.0.0", ANY},
        {"0.0.0.1", 0},
        {"::2", 0},
        {"::1", LOOPBACK},
        {"127.0.0.1", LOOPBACK},
        {"127.255.1.2", LOOPBACK},
        {"126.255.255.255", 0},
        {"128.0.0.0", 0},
        {"224.0.0.1", MULTICAST},
        {"239.255.255.255", MULTICAST},
        {"223.255.255.255", 0},
        {"240.0.0.0", 0},
        {"ff02::1", MULTICAST},
        {"fe00::1", 0},
        {"169.254.0.1", LINK_LOCAL},
        {"169.253.0.1", 0},
        {"fe80::1", LINK_LOCAL},
        {"febf::1", LINK_LOCAL},
        {"fec0::1", 0},
        {"7f00::1", 0},
        {"e000::1", 0},
        {"a9fe::1", 0},
    };

    (void) state;
    for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
        struct ip_address address = address_of(cases[i].text);
        int classes = (ip_address_is_any(&address) ? ANY : 0) |
                      (ip_address_is_multicast(&address) ? MULTICAST : 0) |
                      (ip_address_is_loopback(&address) ? LOOPBACK : 0) |
                      (ip_address_is_link_local(&address) ? LINK_LOCAL : 0);

        assert_int_equal(classes, cases[i].classes);
    }
}

static void test_ip_address_compare_orders_octets(void **state)
{
    struct ip_address low = address_of("10.0.0.255"), high = address_of("10.0.1.0");

    (void) state;
    assert_true(ip_address_compare(&low, &high) < 0);
    assert_true(ip_address_compare(&high, &low) > 0);
    assert_int_equal(ip_address_compare(&low, &low), 0);
}

static void test_endpoint_parse_prints_back(void **state)
{
    static const struct {
        const char *text, *printed;
    } cases[] = {
        {"10.77.0.1:80", "10.77.0.1:80"},
        {"10.77.0.1", "10.77.0.1:5351"},
        {"10.77.0.1:0", "10.77.0.1:0"},
        {"10.77.0.1:65535", "10.77.0.1:65535"},
        {"10.77.0.1:00080", "10.77.0.1:80"},
        {"fd77::1", "[fd77::1]:5351"},
        {"[fd77::1]", "[fd77::1]:5351"},
        {"[fd77::1]:80", "[fd77::1]:80"},
        {"[::]:1", "[::]:1"},
        {"[::ffff:10.77.0.1]:80", "10.77.0.1:80"},
        {"[2001:db8:1111:2222:3333:4444:5555:6666]:65535",
         "[2001:db8:1111:2222:3333:4444:5555:6666]:65535"},
    };

    (void) state;
    for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
        char text[ENDPOINT_TEXT_SIZE];
        struct endpoint endpoint, again;

        assert_int_equal(endpoint_parse(cases[i].text, 5351, &endpoint), 0);
        assert_string_equal(endpoint_format(&endpoint, text), cases[i].printed);
        assert_int_equal(endpoint_parse(text, 1, &again), 0);
        assert_true(endpoint_equal(&endpoint, &again));
    }
}

static void test_endpoint_parse_refuses(void **state)
{
    static const char *const cases[] = {
        "",
        ":80",
        "[]:80",
        "[",
        "[fd77::1",
        "fd77::1]:80",
        "[fd77::1]80",
        "[fd77::1]:",
        "[10.77.0.1]:80",
        "[10.77.0.1:80]",
        "10.77.0.1:",
        "10.77.0.1:65536",
        "10.77.0.1:99999999999999999999",
        "10.77.0.1:-1",
        "10.77.0.1:+1",
        "10.77.0.1: 1",
        "10.77.0.1:1 ",
        "10.77.0.1:0x10",
        "10.77.0.1:http",
        "11111111111111111111111111111111111111111111111111111:80",
    };

    (void) state;
    for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
        struct endpoint endpoint;

        assert_int_equal(endpoint_parse(cases[i], 5351, &endpoint), -EINVAL);
    }
}

static void test_endpoint_equal_compares_both(void **state)
{
    struct endpoint a = {address_of("10.77.0.1"), 80};
    struct endpoint other_port = {a.address, 81};
    struct endpoint other_address = {address_of("10.77.0.2"), 80};

    (void) state;
    assert_true(endpoint_equal(&a, &a));
    assert_false(endpoint_equal(&a, &other_port));
    assert_false(endpoint_equal(&a, &other_address));
}

static void test_ip_prefix_parse_prints_back(void **state)
{
    static const struct {
        const char *text, *printed;
        uint8_t length;
    } cases[] = {
        {"10.77.0.0/24", "10.77.0.0/24", 120},
        {"10.77.0.1", "10.77.0.1/32", 128},
        {"10.77.0.1/32", "10.77.0.1/32", 128},
        {"0.0.0.0/0", "0.0.0.0/0", 96},
        {"128.0.0.0/1", "128.0.0.0/1", 97},
        {"10.77.0.254/31", "10.77.0.254/31", 127},
        {"fd77::/64", "fd77::/64", 64},
        {"fd77::2", "fd77::2/128", 128},
        {"::/0", "::/0", 0},
        {"8000::/1", "8000::/1", 1},
        {"::ffff:10.77.0.0/120", "10.77.0.0/24", 120},
        {"::ffff:0.0.0.0/96", "0.0.0.0/0", 96},
        /* Shorter than the mapped prefix: covers IPv6 addresses too, so it is one. */
        {"::/80", "::/80", 80},
        {"2001:db8:1111:2222:3333:4444:5555:6666/128", "2001:db8:1111:2222:3333:4444:5555:6666/128",
         128},
    };

    (void) state;
    for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
        char text[IP_PREFIX_TEXT_SIZE];
        struct ip_prefix prefix = prefix_of(cases[i].text), again;

        assert_int_equal(prefix.length, cases[i].length);
        again = prefix_of(ip_prefix_format(&prefix, text));
        assert_string_equal(text, cases[i].printed);
        assert_true(ip_prefix_equal(&prefix, &again));
    }
}

static void test_ip_prefix_parse_refuses(void **state)
{
    static const char *const cases[] = {
        "",
        "/24",
        "10.77.0.0/",
        "10.77.0.0/33",
        "10.77.0.0/120",
        "10.77.0.0/-1",
        "10.77.0.0/ 24",
        "10.77.0.0/24 ",
        "10.77.0.0/24/24",
        "10.77.0.0/0x18",
        "10.77.0.0/4294967320",
        "fd77::/129",
        "fd77::/",
        "fd77::x/64",
        /* Bits behind the length. */
        "10.77.0.1/24",
        "10.77.0.128/24",
        "10.77.0.1/0",
        "10.77.0.1/31",
        "fd77::1/64",
        "fd77::1/127",
        "fd77:0:0:0:8000::/64",
        "::1/0",
        "::ffff:10.77.0.0/24",
    };

    (void) state;
    for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
        struct ip_prefix prefix;

        assert_int_equal(ip_prefix_parse(cases[i], &prefix), -EINVAL);
    }
}

static bool bit_of(const struct ip_address *address, unsigned int bit)
{
    return address->octets[bit / 8] >> (7 - bit % 8) & 1;
}

static void test_ip_address_mask_every_length(void **state)
{
    struct random_source random = random_seeded(2);

    (void) state;
    for (unsigned int length = 0; length <= 128; length++) {
        struct ip_address address, masked;

        random_fill(&random, address.octets, sizeof(address.octets));
        masked = ip_address_mask(&address, (uint8_t) length);
        for (unsigned int bit = 0; bit < 128; bit++)
            assert_int_equal(bit_of(&masked, bit), bit < length && bit_of(&address, bit));
    }
}

static void test_ip_prefix_contains_every_flipped_bit(void **state)
{
    static const char *const cases[] = {"10.77.0.0/24", "0.0.0.0/0", "fd77::/64",
                                        "::/0",         "fd77::2",   "10.64.0.0/11"};

    (void) state;
    for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
        struct ip_prefix prefix = prefix_of(cases[i]);

        assert_true(ip_prefix_contains(&prefix, &prefix.address));
        for (unsigned int bit = 0; bit < 128; bit++) {
            struct ip_address address = prefix.address;

            address.octets[bit / 8] ^= (uint8_t) (0x80 >> bit % 8);
            assert_int_equal(ip_prefix_contains(&prefix, &address), bit >= prefix.length);
        }
    }
}

static void test_ip_prefix_equal_compares_length(void **state)
{
    struct ip_prefix wide = prefix_of("10.0.0.0/8"), narrow = prefix_of("10.0.0.0/9");

    (void) state;
    assert_true(ip_prefix_equal(&wide, &wide));
    assert_false(ip_prefix_equal(&wide, &narrow));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ip_address_parse_prints_back),
        cmocka_unit_test(test_ip_address_parse_refuses),
        cmocka_unit_test(test_ip_address_format_random_round_trip),
        cmocka_unit_test(test_ip_address_from_ipv4_host_order),
        cmocka_unit_test(test_ip_address_is_classes),
        cmocka_unit_test(test_ip_address_compare_orders_octets),
        cmocka_unit_test(test_endpoint_parse_prints_back),
        cmocka_unit_test(test_endpoint_parse_refuses),
        cmocka_unit_test(test_endpoint_equal_compares_both),
        cmocka_unit_test(test_ip_prefix_parse_prints_back),
        cmocka_unit_test(test_ip_prefix_parse_refuses),
        cmocka_unit_test(test_ip_address_mask_every_length),
        cmocka_unit_test(test_ip_prefix_contains_every_flipped_bit),
        cmocka_unit_test(test_ip_prefix_equal_compares_length),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
