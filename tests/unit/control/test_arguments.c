#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "programs/holdfastctl/arguments.h"

#define WORDS_MAX 16

struct line {
    char text[256];
    char *words[WORDS_MAX + 1];
    int n_words;
};

/* Splits at spaces; "holdfastctl" goes before. */
static void split(struct line *line, const char *text)
{
    snprintf(line->text, sizeof(line->text), "holdfastctl %s", text);
    line->n_words = 0;
    for (char *rest = line->text, *word; (word = strsep(&rest, " ")) != NULL;) {
        if (*word)
            line->words[line->n_words++] = word;
    }
    line->words[line->n_words] = NULL;
}

static void check_good(const char *text, enum holdfastctl_command command, const char *parameters)
{
    struct line line;
    struct arguments arguments;
    char error[ARGUMENTS_ERROR_SIZE] = "";
    split(&line, text);
    assert_int_equal(arguments_parse(line.n_words, line.words, NULL, &arguments, error), 0);
    assert_int_equal(arguments.command, command);
    if (parameters) {
        char *dumped = json_dumps(arguments.parameters, JSON_COMPACT | JSON_SORT_KEYS);
        assert_string_equal(dumped, parameters);
        free(dumped);
    } else {
        assert_null(arguments.parameters);
    }
    arguments_deinit(&arguments);
}

static void check_bad(const char *text, const char *expected)
{
    struct line line;
    struct arguments arguments;
    char error[ARGUMENTS_ERROR_SIZE] = "";
    split(&line, text);
    assert_int_equal(arguments_parse(line.n_words, line.words, NULL, &arguments, error), -EINVAL);
    assert_string_equal(error, expected);
}

static void test_arguments_parse_commands(void **state)
{
    (void) state;
    check_good("status", HOLDFASTCTL_COMMAND_STATUS, "{}");
    check_good("list", HOLDFASTCTL_COMMAND_LIST, "{}");
    check_good("list --id 7", HOLDFASTCTL_COMMAND_LIST, "{\"id\":7}");
    check_good("--subscriber 10.77.0.0/24 list --protocol TCP --internal-port 8080 "
               "--external-port=0",
               HOLDFASTCTL_COMMAND_LIST,
               "{\"external_port\":0,\"internal_port\":8080,\"protocol\":6,"
               "\"subscriber\":\"10.77.0.0/24\"}");
    check_good("clear --all", HOLDFASTCTL_COMMAND_CLEAR, "{\"all\":true}");
    check_good("clear --id 9223372036854775807", HOLDFASTCTL_COMMAND_CLEAR,
               "{\"id\":9223372036854775807}");
    check_good("clear --subscriber fd77::2", HOLDFASTCTL_COMMAND_CLEAR,
               "{\"subscriber\":\"fd77::2\"}");
    check_good("reload", HOLDFASTCTL_COMMAND_RELOAD, "{}");
    check_good("log-level debug", HOLDFASTCTL_COMMAND_LOG_LEVEL, "{\"level\":\"debug\"}");
    check_good("--help", HOLDFASTCTL_COMMAND_HELP, NULL);
    check_good("list --version", HOLDFASTCTL_COMMAND_VERSION, NULL);
}

static void test_arguments_parse_wrong_usage(void **state)
{
    (void) state;
    check_bad("", "a command is missing");
    check_bad("stat", "unknown command \"stat\"");
    check_bad("status now", "unexpected word \"now\"");
    check_bad("status --all", "status does not take --all");
    check_bad("clear --protocol tcp --all", "clear does not take --protocol");
    check_bad("list --all", "list does not take --all");
    check_bad("list --id 1 --id 2", "--id is given twice");
    check_bad("list --id", "--id needs a value");
    check_bad("--socket= status", "--socket needs a path");
    check_bad("list --nonce 5", "unknown option --nonce");
    check_bad("list -x", "unknown option -x");
    check_bad("list --json=yes", "--json=yes takes no value");
    check_bad("clear", "clear needs exactly one of --subscriber, --id and --all");
    check_bad("clear --id 5 --all", "clear needs exactly one of --subscriber, --id and --all");
    check_bad("log-level", "log-level needs a level");
    check_bad("log-level loud",
              "log-level: \"loud\" is wrong; allowed: error, warning, notice, info or debug");
}

static void test_arguments_parse_wrong_values(void **state)
{
    (void) state;
    check_bad("list --id 0", "--id: \"0\" is wrong; allowed: a number from 1");
    check_bad("list --id -1", "--id: \"-1\" is wrong; allowed: a number from 1");
    check_bad("list --id 9223372036854775808",
              "--id: \"9223372036854775808\" is wrong; allowed: a number from 1");
    check_bad("list --internal-port 65536",
              "--internal-port: \"65536\" is wrong; allowed: 0 to 65535");
    check_bad("list --external-port http",
              "--external-port: \"http\" is wrong; allowed: 0 to 65535");
    check_bad("list --subscriber 10.77.0.2/24",
              "--subscriber: \"10.77.0.2/24\" is wrong; allowed: an address, or a prefix without "
              "bits behind its length");
    check_bad("list --protocol 256",
              "--protocol: \"256\" is wrong; allowed: tcp, udp, sctp, dccp, udplite, icmp, icmpv6, "
              "all, or 0 to 255");
}

static void check_socket(const char *text, const char *environment_socket, const char *expected)
{
    struct line line;
    struct arguments arguments;
    char error[ARGUMENTS_ERROR_SIZE];
    split(&line, text);
    assert_int_equal(
        arguments_parse(line.n_words, line.words, environment_socket, &arguments, error), 0);
    assert_string_equal(arguments.socket_path, expected);
    arguments_deinit(&arguments);
}

static void test_arguments_parse_socket(void **state)
{
    (void) state;
    check_socket("status", NULL, "/run/holdfast/control");
    check_socket("status", "", "/run/holdfast/control");
    check_socket("status", "/tmp/a", "/tmp/a");
    check_socket("status --socket /tmp/b", "/tmp/a", "/tmp/b");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_arguments_parse_commands),
        cmocka_unit_test(test_arguments_parse_wrong_usage),
        cmocka_unit_test(test_arguments_parse_wrong_values),
        cmocka_unit_test(test_arguments_parse_socket),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
