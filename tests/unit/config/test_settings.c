/*
 * settings_load() on files: good ones give these values, each bad one exactly the complaints beside
 * it.
 */

#include <dirent.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "config/settings.h"
#include "config/text.h"

/* A file with `text`, removed by the caller. */
static void write_file(char *path, const char *text)
{
    strcpy(path, "/tmp/holdfast-test-XXXXXX");
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t) strlen(text));
    close(fd);
}

static int load_text(const char *text, struct settings *ret_settings, char **ret_error)
{
    char path[32];
    write_file(path, text);
    int result = settings_load(path, ret_settings, ret_error);
    unlink(path);
    return result;
}

static void load_good(const char *path, struct settings *ret_settings)
{
    char *error = NULL;
    int result = settings_load(path, ret_settings, &error);
    if (error)
        print_error("%s\n", error);
    assert_int_equal(result, 0);
}

static void assert_range(struct settings_range range, uint16_t first, uint16_t last)
{
    assert_int_equal(range.first, first);
    assert_int_equal(range.last, last);
}

static void assert_prefix(const struct ip_prefix *prefix, const char *expected)
{
    char text[IP_PREFIX_TEXT_SIZE];
    assert_string_equal(ip_prefix_format(prefix, text), expected);
}

static void assert_defaults(const struct settings *settings)
{
    assert_string_equal(settings->state_directory, "/var/lib/holdfast");
    assert_string_equal(settings->control_socket, "/run/holdfast/control");
    assert_int_equal(settings->log_level, LOG_LEVEL_INFO);
    assert_int_equal(settings->server.n_inside_interfaces, 1);
    assert_string_equal(settings->server.inside_interfaces[0], "lan0");
    assert_string_equal(settings->server.outside_interface, "wan0");
    assert_int_equal(settings->server.n_external_addresses, 0);
    assert_int_equal(settings->server.n_external_ports, 1);
    assert_range(settings->server.external_ports[0], 1024, 32767);
    assert_int_equal(settings->server.n_internal_prefixes, 5);
    assert_prefix(&settings->server.internal_prefixes[0], "10.0.0.0/8");
    assert_prefix(&settings->server.internal_prefixes[4], "fc00::/7");
    assert_int_equal(settings->server.lifetime_min_s, 120);
    assert_int_equal(settings->server.lifetime_max_s, 86400);
    assert_int_equal(settings->server.mappings_per_subscriber, 128);
    assert_int_equal(settings->server.mappings_total, 65536);
    assert_int_equal(settings->server.filters_per_mapping, 16);
    assert_int_equal(settings->server.recycle_delay_s, 120);
    assert_false(settings->server.masquerade);
    assert_range(settings->server.masquerade_ports, 32768, 65535);
    assert_true(settings->server.prefer_failure);
    assert_true(settings->server.peer);
    assert_true(settings->server.natpmp);
    assert_false(settings->server.whole_ports);
    assert_int_equal(settings->server.n_third_parties, 0);
    assert_int_equal(settings->server.nonce_policy, SETTINGS_NONCE_STRICT);
    assert_int_equal(settings->server.request_rate_per_s, 200);
    assert_int_equal(settings->server.request_burst, 400);
    assert_int_equal(settings->server.subscriber_prefix_ipv4, 32);
    assert_int_equal(settings->server.subscriber_prefix_ipv6, 64);
    assert_int_equal(settings->n_statics, 0);
}

static void assert_endpoint(const struct endpoint *endpoint, const char *expected)
{
    char text[ENDPOINT_TEXT_SIZE];
    assert_string_equal(endpoint_format(endpoint, text), expected);
}

static void assert_static(const struct settings_static *mapping, const char *name, uint8_t protocol,
                          const char *internal, const char *external)
{
    assert_string_equal(mapping->name, name);
    assert_int_equal(mapping->protocol, protocol);
    assert_endpoint(&mapping->internal, internal);
    assert_endpoint(&mapping->external, external);
}

static void assert_full_statics(const struct settings *settings)
{
    assert_int_equal(settings->n_statics, 7);
    assert_static(&settings->statics[0], "web", 6, "10.77.0.2:8080", "203.0.113.2:80");
    assert_static(&settings->statics[1], "mail.1", 6, "10.77.0.3:25", "[::]:25");
    assert_static(&settings->statics[2], "same-port", 17, "10.77.0.3:53", "[::]:53");
    assert_static(&settings->statics[3], "host", 0, "192.0.2.7:0", "203.0.113.1:0");
    assert_static(&settings->statics[4], "tunnel", 47, "10.77.0.4:0", "[::]:0");
    assert_static(&settings->statics[5], "pinhole", 132, "[fd77::2]:8080", "[fd77::2]:8080");
    assert_static(&settings->statics[6], "pinhole-told", 33, "[fd77::2]:80", "[fd77::2]:80");
}

static void test_settings_load_shipped_example(void **state)
{
    (void) state;
    struct settings settings;
    load_good(SOURCE_ROOT "/data/holdfastd.conf", &settings);
    assert_defaults(&settings);
    settings_deinit(&settings);
}

/*
 * Takes the '#' from "#name = value" lines: what the example shows as defaults has to be just that.
 */
static void test_settings_load_shipped_example_uncommented(void **state)
{
    (void) state;
    char *text;
    size_t size_bytes;
    assert_int_equal(text_read(SOURCE_ROOT "/data/holdfastd.conf", &text, &size_bytes), 0);
    unsigned int n_uncommented = 0;
    for (char *octet = text; *octet; octet++) {
        if (octet[0] != '#' || octet[1] == ' ' || strncmp(octet, "#external-addresses", 19) == 0 ||
            strncmp(octet, "#third-party", 12) == 0)
            continue;
        *octet = ' ';
        n_uncommented++;
    }
    assert_int_equal(n_uncommented, 22);
    struct settings settings;
    char *error = NULL;
    assert_int_equal(load_text(text, &settings, &error), 0);
    assert_defaults(&settings);
    settings_deinit(&settings);
    free(text);
}

static void test_settings_load_full_file(void **state)
{
    (void) state;
    struct settings settings;
    load_good(SOURCE_ROOT "/tests/support/config/full.conf", &settings);
    assert_string_equal(settings.state_directory, "/srv/holdfast");
    assert_string_equal(settings.control_socket, "/tmp/holdfast \"test\"");
    assert_int_equal(settings.log_level, LOG_LEVEL_DEBUG);
    assert_int_equal(settings.server.n_inside_interfaces, 3);
    assert_string_equal(settings.server.inside_interfaces[1], "lan1");
    assert_int_equal(settings.server.n_external_addresses, 2);
    assert_int_equal(ip_address_to_ipv4(&settings.server.external_addresses[1]), 0xcb007102);
    assert_int_equal(settings.server.n_external_ports, 4);
    assert_range(settings.server.external_ports[0], 80, 80);
    assert_range(settings.server.external_ports[3], 40000, 40000);
    assert_int_equal(settings.server.n_internal_prefixes, 3);
    assert_prefix(&settings.server.internal_prefixes[2], "192.0.2.7/32");
    assert_int_equal(settings.server.lifetime_min_s, 60);
    assert_int_equal(settings.server.lifetime_max_s, 7200);
    assert_int_equal(settings.server.mappings_per_subscriber, 16);
    assert_int_equal(settings.server.mappings_total, 1000000);
    assert_int_equal(settings.server.filters_per_mapping, 64);
    assert_int_equal(settings.server.recycle_delay_s, 0);
    assert_true(settings.server.masquerade);
    assert_range(settings.server.masquerade_ports, 50000, 60000);
    assert_false(settings.server.prefer_failure);
    assert_false(settings.server.peer);
    assert_false(settings.server.natpmp);
    assert_true(settings.server.whole_ports);
    assert_int_equal(settings.server.n_third_parties, 2);
    assert_prefix(&settings.server.third_parties[0].source, "10.77.0.5/32");
    assert_prefix(&settings.server.third_parties[0].target, "10.77.0.0/24");
    assert_prefix(&settings.server.third_parties[1].target, "fd77::/48");
    assert_int_equal(settings.server.nonce_policy, SETTINGS_NONCE_ADOPT_SAME_HOST);
    assert_int_equal(settings.server.request_rate_per_s, 0);
    assert_int_equal(settings.server.request_burst, 1000000);
    assert_int_equal(settings.server.subscriber_prefix_ipv4, 24);
    assert_int_equal(settings.server.subscriber_prefix_ipv6, 56);
    assert_full_statics(&settings);
    settings_deinit(&settings);
}

static void check_good(const char *server_options, const char *statics)
{
    char text[1024];
    snprintf(text, sizeof(text),
             "server { inside-interfaces = lan0 outside-interface = wan0\n%s }\n%s", server_options,
             statics);
    struct settings settings;
    char *error = NULL;
    assert_int_equal(load_text(text, &settings, &error), 0);
    settings_deinit(&settings);
}

static void check_good_text(const char *server_options)
{
    check_good(server_options, "");
}

/* What is just allowed between options. */
static void test_settings_load_limits(void **state)
{
    (void) state;
    check_good_text("lifetime-min = 7200 lifetime-max = 7200");
    check_good_text("external-ports = 1024-65535");
    check_good_text("masquerade = true external-ports = {80, 1024-32767}");
    check_good_text("masquerade-ports = 1025-65535 external-ports = 1024");
    check_good_text("lifetime-min = 1 lifetime-max = 31536000 mappings-total = 16777216");
    check_good_text("external-addresses = {}");
    check_good_text("third-party = {} subscriber-prefix-ipv4 = 1 subscriber-prefix-ipv6 = 128");
}

/* Static mappings that are alike, but not in each other's way. */
static void test_settings_load_statics_beside_each_other(void **state)
{
    (void) state;
    check_good("", "static a { protocol = tcp internal = 10.0.0.1:80 }"
                   "static b { protocol = udp internal = 10.0.0.1:80 }"
                   "static c { protocol = tcp internal = 10.0.0.1:81 }"
                   "static d { protocol = tcp internal = '[fd77::1]:80' }"
                   "static e { protocol = tcp internal = 10.0.0.1:0 }"
                   "static f { protocol = tcp internal = 10.0.0.2:80 external-port = 82 }");
    check_good("", "static a { protocol = tcp internal = 10.0.0.1:80 external = 192.0.2.1:80 }"
                   "static b { protocol = tcp internal = 10.0.0.2:80 external = 192.0.2.2:80 }");
    check_good("external-addresses = {192.0.2.1, 192.0.2.2}",
               "static a { protocol = tcp internal = 10.0.0.1:80 external-port = 80 }"
               "static b { protocol = tcp internal = 10.0.0.2:80 external = 192.0.2.2:80 }");
    check_good("", "static a { protocol = tcp internal = 10.0.0.1:40000 }");
    check_good("masquerade = true",
               "static a { protocol = tcp internal = '[fd77::1]:40000' }"
               "static b { protocol = tcp internal = 10.0.0.1:0 }"
               "static c { protocol = tcp internal = 10.0.0.1:40000 external-port = 80 }"
               "static d { protocol = udp internal = '[fd77::1]:5351' }");
}

/* Puts "path:" before each line of `expect`, which is freed. */
static char *prefix_lines(char *expect, const char *path)
{
    char *text = NULL;
    size_t size_bytes = 0;
    FILE *stream = open_memstream(&text, &size_bytes);
    assert_non_null(stream);
    const char *separator = "";
    for (char *rest = expect, *line; (line = strsep(&rest, "\n")) != NULL;) {
        if (*line == '\0')
            continue;
        fprintf(stream, "%s%s:%s", separator, path, line);
        separator = "\n";
    }
    fclose(stream);
    free(expect);
    return text;
}

static void check_bad_file(const char *path)
{
    char expect_path[512];
    snprintf(expect_path, sizeof(expect_path), "%.*s.expect", (int) (strlen(path) - 5), path);
    char *expect, *error = NULL;
    size_t size_bytes;
    assert_int_equal(text_read(expect_path, &expect, &size_bytes), 0);
    expect = prefix_lines(expect, path);
    struct settings settings;
    assert_int_equal(settings_load(path, &settings, &error), -EINVAL);
    assert_non_null(error);
    assert_string_equal(error, expect);
    for (char *rest = error, *line; (line = strsep(&rest, "\n")) != NULL;)
        assert_non_null(strstr(line, "allowed: "));
    free(expect);
    free(error);
}

/* [R-6887-13.3-11] */
static void test_settings_load_bad_files(void **state)
{
    (void) state;
    static const char directory_path[] = SOURCE_ROOT "/tests/support/config/bad";
    DIR *directory = opendir(directory_path);
    assert_non_null(directory);
    unsigned int n_files = 0;
    for (struct dirent *entry; (entry = readdir(directory)) != NULL;) {
        size_t length = strlen(entry->d_name);
        if (length < 5 || strcmp(entry->d_name + length - 5, ".conf") != 0)
            continue;
        char path[512];
        snprintf(path, sizeof(path), "%s/%s", directory_path, entry->d_name);
        check_bad_file(path);
        n_files++;
    }
    closedir(directory);
    assert_true(n_files >= 38);
}

static void assert_unreadable(const char *path, int expected, const char *words)
{
    struct settings settings;
    char *error = NULL, line[256];
    assert_int_equal(settings_load(path, &settings, &error), expected);
    snprintf(line, sizeof(line), "%s: %s", path, words);
    assert_string_equal(error, line);
    free(error);
}

static void test_settings_load_unreadable(void **state)
{
    (void) state;
    assert_unreadable("/nonexistent/holdfastd.conf", -ENOENT, strerror(ENOENT));
    assert_unreadable("/", -EISDIR, strerror(EISDIR));
    assert_unreadable("/dev/zero", -EINVAL, "is not a regular file");
}

/* Many unknown names and complaints end in a bounded number of lines. */
static void test_settings_load_many_errors(void **state)
{
    (void) state;
    static char text[200000];
    size_t length = 0;
    for (unsigned int i = 0; i < 3000; i++)
        length += (size_t) snprintf(text + length, sizeof(text) - length,
                                    "unknown-%u = {1, 2}\nlog-level = \"x\"\n", i);
    struct settings settings;
    char *error = NULL;
    assert_int_equal(load_text(text, &settings, &error), -EINVAL);
    unsigned int n_lines = 1;
    for (const char *octet = error; *octet; octet++)
        n_lines += *octet == '\n';
    assert_in_range(n_lines, 33, 100);
    free(error);
}

static char *dump(const struct settings *settings)
{
    char *text = NULL;
    size_t size_bytes = 0;
    FILE *stream = open_memstream(&text, &size_bytes);
    assert_non_null(stream);
    assert_int_equal(settings_dump(settings, stream), 0);
    fclose(stream);
    return text;
}

static void check_dump(const char *path)
{
    struct settings settings, again;
    char *error = NULL;
    load_good(path, &settings);
    char *first = dump(&settings);
    assert_int_equal(load_text(first, &again, &error), 0);
    char *second = dump(&again);
    assert_string_equal(first, second);
    assert_memory_equal(&settings.server, &again.server, sizeof(settings.server));
    assert_int_equal(settings.n_statics, again.n_statics);
    assert_memory_equal(settings.statics, again.statics, sizeof(settings.statics));
    assert_string_equal(settings.state_directory, again.state_directory);
    assert_string_equal(settings.control_socket, again.control_socket);
    assert_int_equal(settings.log_level, again.log_level);
    free(first);
    free(second);
    settings_deinit(&settings);
    settings_deinit(&again);
}

static void test_settings_dump_reloads(void **state)
{
    (void) state;
    check_dump(SOURCE_ROOT "/data/holdfastd.conf");
    check_dump(SOURCE_ROOT "/tests/support/config/full.conf");
}

static void test_settings_dump_escapes(void **state)
{
    (void) state;
    struct settings settings;
    char *error = NULL;
    assert_int_equal(load_text("state-directory = '/a\\\\b\"${HOME}'\n"
                               "server { inside-interfaces = lan0 outside-interface = wan0 }",
                               &settings, &error),
                     0);
    assert_string_equal(settings.state_directory, "/a\\b\"${HOME}");
    char *text = dump(&settings);
    struct settings again;
    assert_int_equal(load_text(text, &again, &error), 0);
    assert_string_equal(again.state_directory, settings.state_directory);
    free(text);
    settings_deinit(&settings);
    settings_deinit(&again);
}

static void test_settings_dump_full_device(void **state)
{
    (void) state;
    struct settings settings;
    load_good(SOURCE_ROOT "/data/holdfastd.conf", &settings);
    FILE *stream = fopen("/dev/full", "w");
    assert_non_null(stream);
    assert_int_equal(settings_dump(&settings, stream), -ENOSPC);
    fclose(stream);
    settings_deinit(&settings);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_settings_load_shipped_example),
        cmocka_unit_test(test_settings_load_shipped_example_uncommented),
        cmocka_unit_test(test_settings_load_full_file),
        cmocka_unit_test(test_settings_load_limits),
        cmocka_unit_test(test_settings_load_statics_beside_each_other),
        cmocka_unit_test(test_settings_load_bad_files),
        cmocka_unit_test(test_settings_load_unreadable),
        cmocka_unit_test(test_settings_load_many_errors),
        cmocka_unit_test(test_settings_dump_reloads),
        cmocka_unit_test(test_settings_dump_escapes),
        cmocka_unit_test(test_settings_dump_full_device),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
