#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/log.h"
#include "base/time.h"
#include "base/util.h"

static FILE *capture;
static int saved_stderr;
static char captured[16384];

static int start_capture(void **state)
{
    (void) state;
    capture = tmpfile();
    saved_stderr = dup(STDERR_FILENO);
    if (!capture || saved_stderr < 0 || dup2(fileno(capture), STDERR_FILENO) < 0)
        return -1;
    log_set_level(LOG_LEVEL_INFO);
    return unsetenv("JOURNAL_STREAM");
}

static int stop_capture(void **state)
{
    (void) state;
    dup2(saved_stderr, STDERR_FILENO);
    close(saved_stderr);
    return fclose(capture);
}

/* What was logged since the last call. */
static const char *logged(void)
{
    ssize_t n = pread(STDERR_FILENO, captured, sizeof(captured) - 1, 0);

    assert_true(n >= 0);
    captured[n] = '\0';
    assert_int_equal(ftruncate(STDERR_FILENO, 0), 0);
    assert_int_equal(lseek(STDERR_FILENO, 0, SEEK_SET), 0);
    return captured;
}

static void test_log_event_fields(void **state)
{
    (void) state;
    log_event(LOG_LEVEL_NOTICE, "mapping made", "internal", "10.77.0.2:80", "lifetime_s", "7200",
              "nonce", NULL, NULL);
    assert_string_equal(logged(),
                        "notice: mapping made internal=10.77.0.2:80 lifetime_s=7200 nonce=-\n");
    log_event(LOG_LEVEL_ERROR, "bare", NULL);
    assert_string_equal(logged(), "error: bare\n");
}

static void test_log_event_quotes_values(void **state)
{
    static const struct {
        const char *value, *printed;
    } cases[] = {
        {"plain", "plain"},
        {"[fd77::1]:80", "[fd77::1]:80"},
        {"", "\"\""},
        {"-", "\"-\""},
        {"two words", "\"two words\""},
        {"a=b", "\"a=b\""},
        {"say \"no\"", "\"say \\\"no\\\"\""},
        {"back\\slash", "\"back\\\\slash\""},
        {"line\nbreak\r\ttab", "\"line\\nbreak\\r\\ttab\""},
        {"\x1b[31mred\x7f", "\"\\x1b[31mred\\x7f\""},
        {"caf\xc3\xa9", "\"caf\\xc3\\xa9\""},
        {"fake\nerror: injected", "\"fake\\nerror: injected\""},
    };

    (void) state;
    for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
        char expected[128];

        log_event(LOG_LEVEL_INFO, "m", "k", cases[i].value, "after", "1", NULL);
        snprintf(expected, sizeof(expected), "info: m k=%s after=1\n", cases[i].printed);
        assert_string_equal(logged(), expected);
    }
}

/* Whatever a client sent: one call, one line, printable octets only. */
static void test_log_event_every_octet_stays_on_one_line(void **state)
{
    (void) state;
    for (int octet = 1; octet < 256; octet++) {
        const char text[] = {'a', (char) octet, 'b', '\0'};
        const char *line;

        log_event(LOG_LEVEL_INFO, text, text, text, NULL);
        line = logged();
        assert_ptr_equal(strchr(line, '\n'), line + strlen(line) - 1);
        for (const char *c = line; *c != '\n'; c++)
            assert_in_range((unsigned char) *c, 0x20, 0x7e);
    }
}

static void test_log_event_long_line_is_cut(void **state)
{
    char value[5000];
    const char *line;

    (void) state;
    memset(value, '\n', sizeof(value) - 1);
    value[sizeof(value) - 1] = '\0';
    /* Every alignment of the last escape against the end of the buffer. */
    for (size_t i = 0; i < 8; i++) {
        log_event(LOG_LEVEL_INFO, &"message"[i % 4], "k", value, "never", "seen", NULL);
        line = logged();
        assert_in_range(strlen(line), 2000, 2048);
        assert_string_equal(line + strlen(line) - 6, "\\n...\n");
        assert_null(strstr(line, "seen"));
        value[i] = 'x';
    }
}

static void test_log_message_formats_and_escapes(void **state)
{
    char text[5000];
    const char *line;

    (void) state;
    log_message(LOG_LEVEL_WARNING, "%s has %d, 100%%", "a\nb", 7);
    assert_string_equal(logged(), "warning: a\\nb has 7, 100%\n");
    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    log_message(LOG_LEVEL_WARNING, "%s", text);
    line = logged();
    assert_true(strlen(line) <= 2048);
    assert_string_equal(line + strlen(line) - 5, "x...\n");
}

static void test_log_set_level_suppresses_below(void **state)
{
    (void) state;
    log_set_level(LOG_LEVEL_WARNING);
    assert_int_equal(log_level(), LOG_LEVEL_WARNING);
    log_event(LOG_LEVEL_NOTICE, "hidden", NULL);
    log_message(LOG_LEVEL_DEBUG, "hidden");
    log_message(LOG_LEVEL_WARNING, "shown");
    assert_string_equal(logged(), "warning: shown\n");
    log_set_level(LOG_LEVEL_DEBUG);
    log_message(LOG_LEVEL_DEBUG, "shown too");
    assert_string_equal(logged(), "debug: shown too\n");
}

static void test_log_level_parse_names(void **state)
{
    static const enum log_level levels[] = {LOG_LEVEL_ERROR, LOG_LEVEL_WARNING, LOG_LEVEL_NOTICE,
                                            LOG_LEVEL_INFO, LOG_LEVEL_DEBUG};
    enum log_level level = LOG_LEVEL_INFO;

    (void) state;
    for (size_t i = 0; i < N_ELEMENTS(levels); i++) {
        assert_int_equal(log_level_parse(log_level_name(levels[i]), &level), 0);
        assert_int_equal(level, levels[i]);
    }
    assert_int_equal(log_level_parse("Info", &level), -EINVAL);
    assert_int_equal(log_level_parse("", &level), -EINVAL);
    assert_int_equal(level, LOG_LEVEL_DEBUG);
}

static void test_log_event_to_the_journal(void **state)
{
    struct stat status;
    char stream[64];

    (void) state;
    assert_int_equal(fstat(STDERR_FILENO, &status), 0);
    snprintf(stream, sizeof(stream), "%llu:%llu", (unsigned long long) status.st_dev,
             (unsigned long long) status.st_ino);
    setenv("JOURNAL_STREAM", stream, 1);
    log_event(LOG_LEVEL_WARNING, "m", "k", "v", NULL);
    assert_string_equal(logged(), "<4>m k=v\n");

    /* Inherited from a service whose journal this stderr no longer is. */
    snprintf(stream, sizeof(stream), "%llu:%llu", (unsigned long long) status.st_dev,
             (unsigned long long) status.st_ino + 1);
    setenv("JOURNAL_STREAM", stream, 1);
    log_event(LOG_LEVEL_WARNING, "m", "k", "v", NULL);
    assert_string_equal(logged(), "warning: m k=v\n");
}

static void test_log_limit_permits_burst_per_interval(void **state)
{
    uint64_t now_ns = 1000 * NS_PER_S;
    struct log_limit limit = {0};

    (void) state;
    for (int i = 0; i < 10; i++)
        assert_int_equal(log_limit_permits(&limit, now_ns + (uint64_t) i, 3, 5), i < 3);
    assert_false(log_limit_permits(&limit, now_ns + 5 * NS_PER_S - 1, 3, 5));
    assert_string_equal(logged(), "");
    assert_true(log_limit_permits(&limit, now_ns + 5 * NS_PER_S, 3, 5));
    assert_string_equal(logged(), "notice: 8 similar lines suppressed\n");
    assert_true(log_limit_permits(&limit, now_ns + 5 * NS_PER_S, 3, 5));
    assert_true(log_limit_permits(&limit, now_ns + 5 * NS_PER_S, 3, 5));
    assert_false(log_limit_permits(&limit, now_ns + 5 * NS_PER_S, 3, 5));
    assert_string_equal(logged(), "");
}

static void test_log_limit_permits_after_quiet_interval(void **state)
{
    struct log_limit limit = {0};

    (void) state;
    assert_true(log_limit_permits(&limit, 1, 1, 1));
    assert_true(log_limit_permits(&limit, 3 * NS_PER_S, 1, 1));
    assert_string_equal(logged(), "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_log_event_fields, start_capture, stop_capture),
        cmocka_unit_test_setup_teardown(test_log_event_quotes_values, start_capture, stop_capture),
        cmocka_unit_test_setup_teardown(test_log_event_every_octet_stays_on_one_line, start_capture,
                                        stop_capture),
        cmocka_unit_test_setup_teardown(test_log_event_long_line_is_cut, start_capture,
                                        stop_capture),
        cmocka_unit_test_setup_teardown(test_log_message_formats_and_escapes, start_capture,
                                        stop_capture),
        cmocka_unit_test_setup_teardown(test_log_set_level_suppresses_below, start_capture,
                                        stop_capture),
        cmocka_unit_test_setup_teardown(test_log_level_parse_names, start_capture, stop_capture),
        cmocka_unit_test_setup_teardown(test_log_event_to_the_journal, start_capture, stop_capture),
        cmocka_unit_test_setup_teardown(test_log_limit_permits_burst_per_interval, start_capture,
                                        stop_capture),
        cmocka_unit_test_setup_teardown(test_log_limit_permits_after_quiet_interval, start_capture,
                                        stop_capture),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
