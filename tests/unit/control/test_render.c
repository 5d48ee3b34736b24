#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "programs/holdfastctl/render.h"

struct output {
    FILE *stream;
    char *text;
    size_t size_bytes;
};

static void begin(struct output *output)
{
    output->stream = open_memstream(&output->text, &output->size_bytes);
    assert_non_null(output->stream);
}

static void end(struct output *output, const char *expected)
{
    fclose(output->stream);
    assert_string_equal(output->text, expected);
    free(output->text);
}

static json_t *load(const char *text)
{
    json_t *value = json_loads(text, 0, NULL);
    assert_non_null(value);
    return value;
}

static void check_duration(uint64_t seconds, const char *expected)
{
    char text[RENDER_DURATION_SIZE];
    assert_string_equal(render_duration(seconds, text), expected);
}

static void test_render_duration_units(void **state)
{
    (void) state;
    check_duration(0, "0s");
    check_duration(59, "59s");
    check_duration(60, "1m00s");
    check_duration(3599, "59m59s");
    check_duration(7012, "1h56m");
    check_duration(86399, "23h59m");
    check_duration(86400, "1d00h");
    check_duration(UINT64_MAX, "213503982334601d07h");
}

static void check_status(const char *status, const char *expected)
{
    struct output output;
    json_t *parameters = load(status);
    begin(&output);
    render_status(output.stream, parameters);
    end(&output, expected);
    json_decref(parameters);
}

static void test_render_status_durable(void **state)
{
    (void) state;
    check_status(
        "{\"version\": \"0.1.0\", \"pid\": 4711, \"mode\": \"durable\", \"uptime_s\": 188, "
        "\"log_level\": \"info\", \"epoch\": {\"seconds\": 12345, \"state\": \"continued\", "
        "\"reason\": \"same-boot\", \"at\": \"2026-01-31T12:00:00Z\", \"own\": 2}, "
        "\"mappings\": {\"live\": 12, \"held\": 1, \"limit\": 65536}, \"subscribers\": 3, "
        "\"external_addresses\": "
        "[\"203.0.113.1\", \"203.0.113.2\"], \"store\": {\"kind\": \"lmdb\", \"path\": "
        "\"/var/lib/holdfast\", \"commits\": 411, \"failures\": 0}, \"kernel\": {\"reconciles\": "
        "3, \"repairs\": 2, \"failures\": 2}, \"counters\": {\"requests\": 1022, \"responses\": "
        "1020, \"dropped\": "
        "5, \"overloads\": 2, \"limited\": 1, \"adopted\": 5, \"results\": {\"SUCCESS\": 1019, "
        "\"NO_RESOURCES\": "
        "1}}}",
        "holdfastd 0.1.0, process 4711, up 3m08s, log level info\n"
        "Mode: durable; mappings come back after a restart or a reboot\n"
        "Epoch: 12345 s; went on over the restart at 2026-01-31T12:00:00Z, same boot; 2 "
        "subscribers have a later Epoch of their own\n"
        "Mappings: 12 of at most 65536; 1 port held back; 3 subscribers\n"
        "External addresses: 203.0.113.1, 203.0.113.2\n"
        "Store: lmdb in /var/lib/holdfast; 411 commits, 0 failures\n"
        "Kernel: reconciled 3 times, 2 of them repairs, 2 failures\n"
        "Requests: 1022 received, 1020 responses sent, 5 dropped, 1 of them above the rate limit, "
        "2 of them for want of room, 5 with another nonce adopted\n"
        "Results: SUCCESS 1019, NO_RESOURCES 1\n");
}

static void test_render_status_volatile(void **state)
{
    (void) state;
    check_status(
        "{\"version\": \"0.1.0\", \"pid\": 1, \"mode\": \"volatile\", \"uptime_s\": 5, "
        "\"log_level\": \"debug\", \"epoch\": {\"seconds\": 5, \"state\": \"reset\", \"reason\": "
        "\"rolled-back\", \"at\": \"2026-01-31T12:00:00Z\", \"own\": 1}, \"mappings\": {\"live\": "
        "0, \"held\": 0, "
        "\"limit\": 1}, \"subscribers\": 1, \"external_addresses\": [], \"store\": {\"kind\": "
        "\"memory\", \"path\": null, \"commits\": 1, \"failures\": 1}, \"kernel\": "
        "{\"reconciles\": 1, \"repairs\": 0, \"failures\": 0}, \"counters\": {\"requests\": 0, "
        "\"responses\": 0, "
        "\"dropped\": 0, \"limited\": 0, \"adopted\": 0, \"results\": {}}}",
        "holdfastd 0.1.0, process 1, up 5s, log level debug\n"
        "Mode: volatile; mappings are lost when the daemon stops\n"
        "Epoch: 5 s; restarted from zero at 2026-01-31T12:00:00Z: the store is older than the last "
        "commit of this boot; 1 subscriber has a later Epoch of its own\n"
        "Mappings: 0 of at most 1; 0 ports held back; 1 subscriber\n"
        "External addresses: none\n"
        "Store: memory; 1 commit, 1 failure\n"
        "Kernel: reconciled 1 time, 0 of them repairs, 0 failures\n"
        "Requests: 0 received, 0 responses sent, 0 dropped\n");
}

/* A daemon of another version, or a hostile one: no field can be relied upon. */
static void test_render_status_strange(void **state)
{
    (void) state;
    check_status("{\"version\": 5, \"pid\": -1, \"epoch\": {\"state\": \"reset\", \"reason\": "
                 "\"moon\\u001bphase\"}, \"external_addresses\": [7], \"counters\": 5}",
                 "holdfastd ?, process ?, up ?, log level ?\n"
                 "Mode: ?\n"
                 "Epoch: ? s; restarted from zero at ?: moon?phase\n"
                 "Mappings: ? of at most ?; ? ports held back; ? subscribers\n"
                 "External addresses: ?\n"
                 "Store: ?; ? commits, ? failures\n"
                 "Kernel: reconciled ? times, ? of them repairs, ? failures\n"
                 "Requests: ? received, ? responses sent, ? dropped\n");
}

static void test_render_table_aligned(void **state)
{
    (void) state;
    json_t *mappings =
        load("[{\"id\": 7, \"kind\": \"MAP\", \"protocol\": \"TCP\", \"internal\": "
             "\"10.77.0.2:8080\", \"external\": \"203.0.113.1:80\", \"remote\": null, "
             "\"lifetime_s\": 7012, \"filters\": [{}], \"client\": \"10.77.0.2:40000\"},"
             "{\"id\": 1234, \"kind\": \"STATIC\", \"protocol\": \"all\", \"internal\": "
             "\"[fd77::2]:0\", \"external\": \"[fd77::2]:0\", \"remote\": null, \"lifetime_s\": "
             "null, \"filters\": [], \"client\": null}]");
    struct output output;
    struct render_table table;
    begin(&output);
    render_table_init(&table);
    render_table_add(&table, output.stream, mappings);
    render_table_end(&table, output.stream);
    end(&output,
        "  ID  KIND    PROTOCOL  INTERNAL        EXTERNAL        REMOTE  LIFETIME  FILTERS "
        " CLIENT\n"
        "   7  MAP     TCP       10.77.0.2:8080  203.0.113.1:80  -          1h56m        1 "
        " 10.77.0.2:40000\n"
        "1234  STATIC  all       [fd77::2]:0     [fd77::2]:0     -         no end        0 "
        " -\n");
    json_decref(mappings);
}

/* The longest there is: IPv6 on both sides, and a remote peer. */
static void test_render_table_peer_over_ipv6(void **state)
{
    (void) state;
    json_t *mappings =
        load("[{\"id\": 8, \"kind\": \"PEER\", \"protocol\": \"UDP\", \"internal\": "
             "\"[2001:db8:1111:2222:3333:4444:5555:6666]:65535\", \"external\": "
             "\"[2001:db8:1111:2222:3333:4444:5555:6666]:65535\", \"remote\": "
             "\"[2001:db8:7777:7777:7777:7777:7777:7777]:5060\", \"lifetime_s\": 60, "
             "\"filters\": [], \"client\": \"[fe80::1]:5350\"}]");
    struct output output;
    struct render_table table;
    begin(&output);
    render_table_init(&table);
    render_table_add(&table, output.stream, mappings);
    end(&output, "ID  KIND  PROTOCOL  INTERNAL                                        "
                 "EXTERNAL                                        "
                 "REMOTE                                         LIFETIME  FILTERS  CLIENT\n"
                 " 8  PEER  UDP       [2001:db8:1111:2222:3333:4444:5555:6666]:65535  "
                 "[2001:db8:1111:2222:3333:4444:5555:6666]:65535  "
                 "[2001:db8:7777:7777:7777:7777:7777:7777]:5060     1m00s        0  "
                 "[fe80::1]:5350\n");
    json_decref(mappings);
}

static void test_render_table_parts(void **state)
{
    (void) state;
    json_t *empty = load("[]"), *one = load("[{\"id\": 1}]");
    struct output output;
    struct render_table table;
    begin(&output);
    render_table_init(&table);
    render_table_add(&table, output.stream, empty);
    render_table_add(&table, output.stream, one);
    render_table_add(&table, output.stream, one);
    render_table_end(&table, output.stream);
    end(&output, "ID  KIND  PROTOCOL  INTERNAL  EXTERNAL  REMOTE  LIFETIME  FILTERS  CLIENT\n"
                 " 1  ?     ?         ?         ?         ?              ?        0  ?\n"
                 " 1  ?     ?         ?         ?         ?              ?        0  ?\n");
    json_decref(empty);
    json_decref(one);
}

static void test_render_table_empty(void **state)
{
    (void) state;
    struct output output;
    struct render_table table;
    begin(&output);
    render_table_init(&table);
    render_table_end(&table, output.stream);
    end(&output, "no mappings\n");
}

static void check_error(const char *text, const char *expected)
{
    struct output output;
    struct control_reply reply;
    assert_int_equal(control_reply_parse(text, strlen(text), &reply), 0);
    begin(&output);
    render_error(output.stream, "a.B", &reply);
    end(&output, expected);
    control_reply_deinit(&reply);
}

static void test_render_error_each(void **state)
{
    (void) state;
    check_error("{\"error\": \"io.holdfast.Control.Failed\", \"parameters\": {\"reason\": \"no\"}}",
                "holdfastctl: no\n");
    check_error("{\"error\": \"io.holdfast.Control.Failed\", \"parameters\": {\"reason\": "
                "\"a:1: x\\n\\na:2: y\\u0007\\n\"}}",
                "holdfastctl: a:1: x\nholdfastctl: a:2: y?\n");
    check_error("{\"error\": \"io.holdfast.Control.Failed\"}",
                "holdfastctl: holdfastd answered io.holdfast.Control.Failed\n");
    check_error("{\"error\": \"org.varlink.service.PermissionDenied\"}",
                "holdfastctl: permission denied: that is for root and the daemon's user\n");
    check_error("{\"error\": \"org.varlink.service.MethodNotFound\"}",
                "holdfastctl: holdfastd does not know a.B\n");
    check_error("{\"error\": \"org.varlink.service.InvalidParameter\", \"parameters\": "
                "{\"parameter\": \"id\"}}",
                "holdfastctl: holdfastd refused the parameter id\n");
    check_error("{\"error\": \"x\\ny\"}", "holdfastctl: holdfastd answered x?y\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_render_duration_units),
        cmocka_unit_test(test_render_status_durable),
        cmocka_unit_test(test_render_status_volatile),
        cmocka_unit_test(test_render_status_strange),
        cmocka_unit_test(test_render_table_peer_over_ipv6),
        cmocka_unit_test(test_render_table_aligned),
        cmocka_unit_test(test_render_table_parts),
        cmocka_unit_test(test_render_table_empty),
        cmocka_unit_test(test_render_error_each),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
