/* Command lines of holdfast: what they mean, and what is said about wrong ones. */

#include "programs/holdfast/arguments.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define WORDS_MAX 128

/* Words parted by single spaces. */
static int parse(const char *line, struct arguments *ret_arguments, char *ret_complaint)
{
    char copy[2048], *words[WORDS_MAX] = {0};
    int n_words = 0;
    assert_true((size_t) snprintf(copy, sizeof(copy), "holdfast %s", line) < sizeof(copy));
    for (char *word = strtok(copy, " "); word; word = strtok(NULL, " ")) {
        assert_true(n_words < WORDS_MAX - 1);
        words[n_words++] = word;
    }
    return arguments_parse(n_words, words, ret_arguments, ret_complaint);
}

static struct arguments parsed(const char *line)
{
    struct arguments arguments;
    char complaint[ARGUMENTS_COMPLAINT_SIZE] = "";
    if (parse(line, &arguments, complaint) != 0)
        fail_msg("%s: %s", line, complaint);
    return arguments;
}

static struct endpoint endpoint(const char *text)
{
    struct endpoint result;
    assert_int_equal(endpoint_parse(text, 0, &result), 0);
    return result;
}

static void test_arguments_parse_map_defaults(void **state)
{
    (void) state;
    struct arguments arguments = parsed("map tcp 8080");
    assert_int_equal(arguments.command, COMMAND_MAP);
    assert_int_equal(arguments.protocol, 6);
    assert_int_equal(arguments.internal_port, 8080);
    assert_int_equal(arguments.external.port, 0);
    assert_int_equal(arguments.lifetime_s, 7200);
    assert_int_equal(arguments.timeout_s, 10);
    assert_false(arguments.has_external_address || arguments.prefers_failure ||
                 arguments.has_nonce || arguments.has_server || arguments.has_internal_address ||
                 arguments.wants_json);
    assert_int_equal(arguments.n_filters, 0);
}

static void test_arguments_parse_map_everything(void **state)
{
    (void) state;
    struct arguments arguments = parsed(
        "--json map udp 53 --external-port 5353 --external-address 203.0.113.1 --lifetime 600 "
        "--prefer-failure --filter 198.51.100.0/24,443 --filter 2001:db8::/32 "
        "--nonce 0102030405060708090a0B0c --server 10.77.0.1 --internal-address 10.77.0.2 "
        "--timeout 3");
    struct endpoint external = endpoint("203.0.113.1:5353");
    struct endpoint server = endpoint("10.77.0.1:5351");
    struct ip_address internal = endpoint("10.77.0.2").address;
    static const uint8_t nonce[PCP_NONCE_SIZE] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};
    assert_int_equal(arguments.protocol, 17);
    assert_true(arguments.has_external_address);
    assert_true(endpoint_equal(&arguments.external, &external));
    assert_int_equal(arguments.lifetime_s, 600);
    assert_true(arguments.prefers_failure);
    assert_int_equal(arguments.n_filters, 2);
    assert_int_equal(arguments.filters[0].remote.length, 120);
    assert_int_equal(arguments.filters[0].remote_port, 443);
    assert_int_equal(arguments.filters[1].remote.length, 32);
    assert_int_equal(arguments.filters[1].remote_port, 0);
    assert_true(arguments.has_nonce);
    assert_memory_equal(arguments.nonce, nonce, sizeof(nonce));
    assert_true(arguments.has_server);
    assert_true(endpoint_equal(&arguments.server, &server));
    assert_true(arguments.has_internal_address);
    assert_true(ip_address_equal(&arguments.internal_address, &internal));
    assert_int_equal(arguments.timeout_s, 3);
    assert_true(arguments.wants_json);
}

static void test_arguments_parse_protocols(void **state)
{
    (void) state;
    assert_int_equal(parsed("map TCP 1").protocol, 6);
    assert_int_equal(parsed("map 132 1").protocol, 132);
    assert_int_equal(parsed("map sctp 1").protocol, 132);
    assert_int_equal(parsed("map dccp 1").protocol, 33);
    assert_int_equal(parsed("map UDPlite 1").protocol, 136);
    assert_int_equal(parsed("map 0 0").protocol, 0);
}

static void test_arguments_parse_other_commands(void **state)
{
    (void) state;
    struct arguments arguments = parsed("unmap tcp 80 --nonce 000000000000000000000000");
    assert_int_equal(arguments.command, COMMAND_UNMAP);
    assert_true(arguments.has_nonce);
    assert_int_equal(parsed("announce --server 10.77.0.1").command, COMMAND_ANNOUNCE);
    assert_int_equal(parsed("--help").command, COMMAND_HELP);
    assert_int_equal(parsed("map --help").command, COMMAND_HELP);
    assert_int_equal(parsed("--version nonsense").command, COMMAND_VERSION);
}

static void test_arguments_parse_servers(void **state)
{
    (void) state;
    static const struct {
        const char *line, *server, *interface;
    } cases[] = {
        {"announce --server 10.77.0.1:99", "10.77.0.1:99", ""},
        {"announce --server fd77::1", "[fd77::1]:5351", ""},
        {"announce --server [fd77::1]:99", "[fd77::1]:99", ""},
        {"announce --server fe80::1%eth0", "[fe80::1]:5351", "eth0"},
        {"announce --server [fe80::1%lan-br0]:99", "[fe80::1]:99", "lan-br0"},
    };
    for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
        struct arguments arguments = parsed(cases[i].line);
        char text[ENDPOINT_TEXT_SIZE];
        assert_string_equal(endpoint_format(&arguments.server, text), cases[i].server);
        assert_string_equal(arguments.server_interface, cases[i].interface);
    }
}

/* Each names what is wrong: `said` must be in the complaint. */
static void test_arguments_parse_wrong_lines(void **state)
{
    (void) state;
    static const struct {
        const char *line, *said;
    } cases[] = {
        {"", "command"},
        {"fly", "fly"},
        {"map", "PROTO"},
        {"map tcp", "PORT"},
        {"map tcp 80 81", "81"},
        {"announce tcp", "tcp"},
        {"map icmp 0", "icmp"},
        {"map 256 0", "256"},
        {"map tcp 65536", "65536"},
        {"map tcp 8o", "8o"},
        {"map tcp +80", "+80"},
        {"map 0 80", "protocol 0"},
        {"map tcp 80 --external-port", "--external-port"},
        {"map tcp 80 --external-port x", "--external-port x"},
        {"map tcp 80 --external-address 203.0.113", "203.0.113"},
        {"map tcp 80 --lifetime 0", "--lifetime"},
        {"map tcp 80 --lifetime 4294967296", "--lifetime"},
        {"map tcp 80 --lifetime 99999999999999999999999", "--lifetime"},
        {"map tcp 80 --prefer-failure", "--external-port"},
        {"map tcp 80 --filter 203.0.113.1/24", "--filter 203.0.113.1/24: the address has bits"},
        {"map tcp 80 --filter 203.0.113.1/24,80", "bits set behind the prefix length"},
        {"map tcp 80 --filter 203.0.113.0/24,", "behind the comma is not a port"},
        {"map tcp 80 --filter 203.0.113.0/24,70000", "behind the comma is not a port"},
        {"map tcp 80 --filter ,1", "not an address"},
        {"map tcp 80 --filter 203.0.113.0/33", "not an address"},
        {"map tcp 80 --filter 2001:db8::/129", "not an address"},
        {"map tcp 80 --filter 203.0.113.1:80", "not an address"},
        {"map tcp 80 --nonce 01", "--nonce"},
        {"map tcp 80 --nonce 0102030405060708090a0b0g", "--nonce"},
        {"map tcp 80 --nonce +1+2+3+4+5+6+7+8+9+a+b+c", "--nonce"},
        {"map tcp 80 --server nowhere", "--server"},
        {"map tcp 80 --server 10.77.0.1:0", "--server"},
        {"map tcp 80 --server 0.0.0.0", "--server"},
        {"map tcp 80 --server 224.0.0.1", "--server"},
        {"map tcp 80 --server fe80::1", "interface"},
        {"map tcp 80 --server fe80::1%", "--server"},
        {"map tcp 80 --server fe80::1%abcdefghijklmnop", "--server"},
        {"map tcp 80 --internal-address 0.0.0.0", "--internal-address"},
        {"map tcp 80 --server 10.77.0.1 --internal-address fd77::2", "families"},
        {"map tcp 80 --timeout 0", "--timeout"},
        {"map tcp 80 --timeout 86401", "--timeout"},
        {"map tcp 80 --no-such-option", "--no-such-option"},
        {"map tcp 80 -x", "-x"},
        {"unmap tcp 80", "--nonce"},
        {"unmap tcp 80 --nonce 0102030405060708090a0b0c --lifetime 5", "--lifetime"},
        {"announce --external-port 5", "--external-port"},
        {"announce --nonce 0102030405060708090a0b0c", "--nonce"},
    };
    for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
        struct arguments arguments = {.timeout_s = 4711};
        char complaint[ARGUMENTS_COMPLAINT_SIZE] = "";
        if (parse(cases[i].line, &arguments, complaint) != -EINVAL)
            fail_msg("accepted: %s", cases[i].line);
        if (!strstr(complaint, cases[i].said))
            fail_msg("%s: %s", cases[i].line, complaint);
        assert_int_equal(arguments.timeout_s, 4711);
    }
}

static void test_arguments_parse_too_many_filters(void **state)
{
    (void) state;
    char line[2048] = "map tcp 80", complaint[ARGUMENTS_COMPLAINT_SIZE];
    struct arguments arguments;
    for (size_t i = 0; i < ARGUMENTS_FILTERS_MAX; i++)
        strcat(line, " --filter 203.0.113.1");
    assert_int_equal(parsed(line).n_filters, ARGUMENTS_FILTERS_MAX);
    strcat(line, " --filter 203.0.113.1");
    assert_int_equal(parse(line, &arguments, complaint), -EINVAL);
    assert_non_null(strstr(complaint, "no room"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_arguments_parse_map_defaults),
        cmocka_unit_test(test_arguments_parse_map_everything),
        cmocka_unit_test(test_arguments_parse_protocols),
        cmocka_unit_test(test_arguments_parse_other_commands),
        cmocka_unit_test(test_arguments_parse_servers),
        cmocka_unit_test(test_arguments_parse_wrong_lines),
        cmocka_unit_test(test_arguments_parse_too_many_filters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
