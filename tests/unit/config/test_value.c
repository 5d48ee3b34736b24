#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/log.h"
#include "config/settings.h"
#include "config/value.h"

static const struct directive number = {.minimum = 5, .maximum = 4000000000};

static void assert_wrong(const struct value_kind *kind, const char *text, const char *expected)
{
    char item[64];
    const char *wrong = NULL;
    assert_int_equal(kind->parse(&number, text, item, &wrong), -EINVAL);
    assert_string_equal(wrong, expected);
}

static void assert_number(const char *text, uint32_t expected)
{
    uint32_t value;
    const char *wrong = NULL;
    assert_int_equal(value_number.parse(&number, text, &value, &wrong), 0);
    assert_int_equal(value, expected);
}

static void test_value_number_good(void **state)
{
    (void) state;
    assert_number("5", 5);
    assert_number("0005", 5);
    assert_number("4000000000", 4000000000);
    assert_number("0xff", 255);
    assert_number("0XEE6B2800", 4000000000);
}

static void test_value_number_bad(void **state)
{
    (void) state;
    static const char *const words[] = {"",    "-",  "0x", "0xg", "1e9",
                                        "1.0", " 7", "7 ", "+7",  "--7"};
    for (size_t i = 0; i < N_ELEMENTS(words); i++)
        assert_wrong(&value_number, words[i], "is not a whole number");
    assert_wrong(&value_number, "4", "is too small");
    assert_wrong(&value_number, "-7", "is too small");
    assert_wrong(&value_number, "-18446744073709551609", "is too small");
    assert_wrong(&value_number, "4000000001", "is too large");
    assert_wrong(&value_number, "4294967302", "is too large");
    assert_wrong(&value_number, "18446744073709551622", "is too large");
    assert_wrong(&value_number, "340282366920938463463374607431768211462", "is too large");
}

static void assert_formatted(const struct value_kind *kind, const char *text, const char *expected)
{
    union {
        char *path;
        char octets[64];
    } item = {0};
    char formatted[DIRECTIVE_VALUE_TEXT_SIZE];
    const char *wrong = NULL;
    assert_int_equal(kind->parse(&number, text, &item, &wrong), 0);
    kind->format(&item, formatted);
    assert_string_equal(formatted, expected);
    if (kind->is_owned)
        free(item.path);
}

static void test_value_format_each_kind(void **state)
{
    (void) state;
    assert_formatted(&value_path, "/a\"b\\c$d", "/a\\\"b\\\\c\\$d");
    assert_formatted(&value_socket_path, "/run/x", "/run/x");
    assert_formatted(&value_log_level, "notice", "notice");
    assert_formatted(&value_interface, "abcdefghijklmno", "abcdefghijklmno");
    assert_formatted(&value_external_address, "203.0.113.1", "203.0.113.1");
    assert_formatted(&value_prefix, "10.0.0.0/8", "10.0.0.0/8");
    assert_formatted(&value_prefix, "fd77::/64", "fd77::/64");
    assert_formatted(&value_port_range, "0x50", "80");
    assert_formatted(&value_port_range, "7-9", "7-9");
    assert_formatted(&value_number, "0x10", "16");
    assert_formatted(&value_boolean, "on", "true");
    assert_formatted(&value_boolean, "no", "false");
    assert_formatted(&value_nonce_policy, "strict", "strict");
    assert_formatted(&value_nonce_policy, "adopt-same-host", "adopt-same-host");
    assert_formatted(&value_third_party, "10.0.0.1 for fd77::/64", "10.0.0.1/32 for fd77::/64");
    assert_formatted(&value_protocol, "6", "tcp");
    assert_formatted(&value_protocol, "UdpLite", "udplite");
    assert_formatted(&value_protocol, "0", "all");
    assert_formatted(&value_protocol, "255", "255");
    assert_formatted(&value_endpoint, "10.0.0.1:0", "10.0.0.1:0");
    assert_formatted(&value_endpoint, "[fd77::1]:65535", "[fd77::1]:65535");
    assert_formatted(&value_port, "0", "0");
    assert_formatted(&value_port, "65535", "65535");
}

static void test_value_path_bad(void **state)
{
    (void) state;
    char text[5000];
    memset(text, 'x', sizeof(text));
    text[0] = '/';
    text[4096] = '\0';
    assert_wrong(&value_path, text, "is too long");
    text[4095] = '\0';
    assert_formatted(&value_path, text, text);
    text[108] = '\0';
    assert_wrong(&value_socket_path, text, "is too long");
    text[107] = '\0';
    assert_formatted(&value_socket_path, text, text);
    assert_wrong(&value_path, "x", "is not an absolute path");
    assert_wrong(&value_path, "", "is not an absolute path");
    assert_wrong(&value_path, "/a\nb", "holds a line end or tab");
}

static void test_value_clashes_ranges(void **state)
{
    (void) state;
    const struct settings_range low = {10, 20}, touching = {20, 30}, high = {21, 30};
    assert_true(value_port_range.clashes(&value_port_range, &low, &touching));
    assert_true(value_port_range.clashes(&value_port_range, &touching, &low));
    assert_false(value_port_range.clashes(&value_port_range, &low, &high));
    assert_false(value_port_range.clashes(&value_port_range, &high, &low));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_value_number_good),      cmocka_unit_test(test_value_number_bad),
        cmocka_unit_test(test_value_format_each_kind), cmocka_unit_test(test_value_path_bad),
        cmocka_unit_test(test_value_clashes_ranges),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
