#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "control/message.h"

static int parse_call(const char *text, struct control_call *ret_call)
{
    return control_call_parse(text, strlen(text), ret_call);
}

static void test_control_call_parse_full(void **state)
{
    (void) state;
    struct control_call call;
    assert_int_equal(
        parse_call("{\"method\": \"a.B\", \"parameters\": {\"id\": 7}, \"more\": true}", &call), 0);
    assert_string_equal(call.method, "a.B");
    assert_int_equal(json_integer_value(json_object_get(call.parameters, "id")), 7);
    assert_true(call.more);
    assert_false(call.oneway);
    control_call_deinit(&call);
}

static void test_control_call_parse_least(void **state)
{
    (void) state;
    struct control_call call;
    assert_int_equal(parse_call("{\"method\":\"\",\"oneway\":true,\"more\":false}", &call), 0);
    assert_true(json_is_object(call.parameters));
    assert_int_equal(json_object_size(call.parameters), 0);
    assert_true(call.oneway);
    control_call_deinit(&call);
}

static void test_control_call_parse_bad(void **state)
{
    (void) state;
    static const char *const texts[] = {
        "",
        " ",
        "[]",
        "\"method\"",
        "{}",
        "{\"method\": 5}",
        "{\"method\": null}",
        "{\"method\": \"a\", \"method\": \"b\"}",
        "{\"method\": \"a\", \"parameters\": {\"x\": {\"y\": 1, \"y\": 1}}}",
        "{\"method\": \"a\", \"parameters\": []}",
        "{\"method\": \"a\", \"parameters\": null}",
        "{\"method\": \"a\", \"more\": 1}",
        "{\"method\": \"a\", \"oneway\": \"true\"}",
        "{\"method\": \"a\", \"more\": true, \"oneway\": true}",
        "{\"method\": \"a\", \"upgrade\": true}",
        "{\"method\": \"a\\u0000b\"}",
        "{\"method\": \"a\", \"parameters\": {\"a\\u0000\": 1}}",
        "{\"method\": \"a\"} {}",
        "{\"method\": \"a\"",
        "{\"method\": \"\xff\"}",
        "{\"method\": \"a\", \"parameters\": {\"x\": 99999999999999999999}}",
    };
    for (size_t i = 0; i < N_ELEMENTS(texts); i++) {
        struct control_call call = {.more = true};
        assert_int_equal(parse_call(texts[i], &call), -EBADMSG);
        assert_null(call.method);
        assert_true(call.more);
    }
    struct control_call call;
    static const char with_nul[] = "{\"method\": \"a\"}\0";
    assert_int_equal(control_call_parse(with_nul, sizeof(with_nul) - 1, &call), -EBADMSG);
}

/* Every prefix of a good call is none. */
static void test_control_call_parse_truncated(void **state)
{
    (void) state;
    static const char text[] =
        "{\"method\":\"a\",\"parameters\":{\"b\":[1,\"c\\\"\"]},\"more\":true}";
    struct control_call call;
    for (size_t length = 0; length < sizeof(text) - 1; length++)
        assert_int_equal(control_call_parse(text, length, &call), -EBADMSG);
    assert_int_equal(control_call_parse(text, sizeof(text) - 1, &call), 0);
    control_call_deinit(&call);
}

static void check_depth(unsigned int n_arrays, int expected)
{
    char text[256] = "{\"method\": \"[[[[[[[[[[[[[[[[[[{{\\\"[[\", \"parameters\": {\"a\": ";
    for (unsigned int i = 0; i < n_arrays; i++)
        strcat(text, "[");
    for (unsigned int i = 0; i < n_arrays; i++)
        strcat(text, "]");
    strcat(text, "}}");
    struct control_call call;
    assert_int_equal(parse_call(text, &call), expected);
    if (expected == 0)
        control_call_deinit(&call);
}

static void test_control_call_parse_depth(void **state)
{
    (void) state;
    check_depth(CONTROL_DEPTH_MAX - 2, 0);
    check_depth(CONTROL_DEPTH_MAX - 1, -EBADMSG);
}

static void check_size(size_t size_bytes, int expected)
{
    char *text = malloc(size_bytes + 1);
    snprintf(text, size_bytes + 1, "%-*s", (int) size_bytes, "{\"method\":\"a\"}");
    struct control_call call;
    assert_int_equal(control_call_parse(text, size_bytes, &call), expected);
    if (expected == 0)
        control_call_deinit(&call);
    free(text);
}

static void test_control_call_parse_size(void **state)
{
    (void) state;
    check_size(CONTROL_CALL_SIZE_MAX, 0);
    check_size(CONTROL_CALL_SIZE_MAX + 1, -EBADMSG);
}

static void test_control_call_format_parses(void **state)
{
    (void) state;
    char *text = control_call_format("a.B", json_pack("{s:i}", "id", 7), true);
    assert_string_equal(text, "{\"method\":\"a.B\",\"parameters\":{\"id\":7},\"more\":true}");
    free(text);
    text = control_call_format("a.B", NULL, false);
    assert_string_equal(text, "{\"method\":\"a.B\",\"parameters\":{}}");
    free(text);
    assert_null(control_call_format("\xff", NULL, false));
}

static void test_control_reply_format_parses(void **state)
{
    (void) state;
    struct control_reply reply;
    char *text = control_reply_format(json_pack("{s:i}", "n", 7), true);
    assert_int_equal(control_reply_parse(text, strlen(text), &reply), 0);
    assert_null(reply.error);
    assert_true(reply.continues);
    assert_int_equal(json_integer_value(json_object_get(reply.parameters, "n")), 7);
    control_reply_deinit(&reply);
    free(text);
    text = control_reply_format(NULL, false);
    assert_string_equal(text, "{\"parameters\":{}}");
    free(text);
}

static void test_control_error_format_parses(void **state)
{
    (void) state;
    struct control_reply reply;
    char *text = control_error_format(CONTROL_ERROR_FAILED, json_pack("{s:s}", "reason", "x\ny"));
    assert_null(strchr(text, '\n'));
    assert_int_equal(control_reply_parse(text, strlen(text), &reply), 0);
    assert_string_equal(reply.error, CONTROL_ERROR_FAILED);
    assert_false(reply.continues);
    control_reply_deinit(&reply);
    free(text);
}

static void test_control_reply_parse_bad(void **state)
{
    (void) state;
    static const char *const texts[] = {
        "",
        "5",
        "{\"error\": 5}",
        "{\"parameters\": 5}",
        "{\"continues\": 5}",
        "{\"error\": \"a\", \"continues\": true}",
        "{\"method\": \"a\"}",
    };
    struct control_reply reply;
    for (size_t i = 0; i < N_ELEMENTS(texts); i++)
        assert_int_equal(control_reply_parse(texts[i], strlen(texts[i]), &reply), -EBADMSG);
    assert_int_equal(control_reply_parse("{}", 2, &reply), 0);
    assert_true(json_is_object(reply.parameters));
    control_reply_deinit(&reply);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_control_call_parse_full),
        cmocka_unit_test(test_control_call_parse_least),
        cmocka_unit_test(test_control_call_parse_bad),
        cmocka_unit_test(test_control_call_parse_truncated),
        cmocka_unit_test(test_control_call_parse_depth),
        cmocka_unit_test(test_control_call_parse_size),
        cmocka_unit_test(test_control_call_format_parses),
        cmocka_unit_test(test_control_reply_format_parses),
        cmocka_unit_test(test_control_error_format_parses),
        cmocka_unit_test(test_control_reply_parse_bad),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
