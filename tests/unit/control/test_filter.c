#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "control/filter.h"

static int parse_list(const char *text, struct control_filter *ret_filter, char *ret_parameter)
{
    json_t *parameters = json_loads(text, 0, NULL);
    assert_non_null(parameters);
    const char *parameter = "";
    int result = control_filter_parse(parameters, ret_filter, &parameter);
    strcpy(ret_parameter, parameter);
    json_decref(parameters);
    return result;
}

static int parse_clear(const char *text, struct control_filter *ret_filter, char *ret_parameter)
{
    json_t *parameters = json_loads(text, 0, NULL);
    assert_non_null(parameters);
    const char *parameter = "";
    int result = control_filter_parse_clear(parameters, ret_filter, &parameter);
    strcpy(ret_parameter, parameter);
    json_decref(parameters);
    return result;
}

/* 10.77.0.2:8080 TCP, mapped to port 80. */
static struct control_filter_subject subject(void)
{
    return (struct control_filter_subject){
        .id = 7,
        .internal_address = ip_address_from_ipv4(0x0a4d0002),
        .internal_port = 8080,
        .external_port = 80,
        .protocol = 6,
    };
}

static bool matches(const char *parameters)
{
    struct control_filter filter;
    char parameter[32];
    assert_int_equal(parse_list(parameters, &filter, parameter), 0);
    struct control_filter_subject mapping = subject();
    return control_filter_matches(&filter, &mapping);
}

static void test_control_filter_matches_each_parameter(void **state)
{
    (void) state;
    assert_true(matches("{}"));
    assert_true(matches("{\"subscriber\": \"10.77.0.2\"}"));
    assert_true(matches("{\"subscriber\": \"10.77.0.0/24\"}"));
    assert_false(matches("{\"subscriber\": \"10.77.0.3\"}"));
    assert_false(matches("{\"subscriber\": \"fd77::/64\"}"));
    assert_true(matches("{\"protocol\": 6}"));
    assert_true(matches("{\"protocol\": \"tCp\"}"));
    assert_false(matches("{\"protocol\": \"17\"}"));
    assert_false(matches("{\"protocol\": \"all\"}"));
    assert_true(matches("{\"internal_port\": 8080}"));
    assert_false(matches("{\"internal_port\": 80}"));
    assert_true(matches("{\"external_port\": 80}"));
    assert_false(matches("{\"external_port\": 0}"));
    assert_true(matches("{\"id\": 7}"));
    assert_false(matches("{\"id\": 8}"));
}

static void test_control_filter_matches_all_given(void **state)
{
    (void) state;
    assert_true(matches("{\"subscriber\": \"10.77.0.2\", \"protocol\": 6, \"internal_port\": 8080, "
                        "\"external_port\": 80, \"id\": 7}"));
    assert_false(matches("{\"subscriber\": \"10.77.0.2\", \"protocol\": 17}"));
}

static void test_control_filter_parse_bad(void **state)
{
    (void) state;
    static const struct {
        const char *parameters, *parameter;
    } cases[] = {
        {"{\"subscriber\": \"10.77.0.2/24\"}", "subscriber"},
        {"{\"subscriber\": 5}", "subscriber"},
        {"{\"subscriber\": null}", "subscriber"},
        {"{\"protocol\": 256}", "protocol"},
        {"{\"protocol\": -1}", "protocol"},
        {"{\"protocol\": 6.0}", "protocol"},
        {"{\"protocol\": \"\"}", "protocol"},
        {"{\"protocol\": \"256\"}", "protocol"},
        {"{\"protocol\": \"tc\"}", "protocol"},
        {"{\"protocol\": true}", "protocol"},
        {"{\"internal_port\": 65536}", "internal_port"},
        {"{\"internal_port\": \"80\"}", "internal_port"},
        {"{\"external_port\": -1}", "external_port"},
        {"{\"id\": 0}", "id"},
        {"{\"id\": [7]}", "id"},
        {"{\"all\": true}", "all"},
        {"{\"id\": 7, \"port\": 80}", "port"},
    };
    for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
        struct control_filter filter;
        char parameter[32];
        assert_int_equal(parse_list(cases[i].parameters, &filter, parameter), -EINVAL);
        assert_string_equal(parameter, cases[i].parameter);
    }
}

static void test_control_filter_parse_clear_one(void **state)
{
    (void) state;
    struct control_filter filter;
    struct control_filter_subject mapping = subject();
    char parameter[32];
    assert_int_equal(parse_clear("{\"all\": true}", &filter, parameter), 0);
    assert_true(control_filter_matches(&filter, &mapping));
    assert_int_equal(parse_clear("{\"id\": 8}", &filter, parameter), 0);
    assert_false(control_filter_matches(&filter, &mapping));
    assert_int_equal(parse_clear("{\"subscriber\": \"10.0.0.0/8\"}", &filter, parameter), 0);
    assert_true(control_filter_matches(&filter, &mapping));
}

static void test_control_filter_parse_clear_bad(void **state)
{
    (void) state;
    static const struct {
        const char *parameters, *parameter;
    } cases[] = {
        {"{}", "all"},
        {"{\"all\": false}", "all"},
        {"{\"all\": 1}", "all"},
        {"{\"id\": 7, \"all\": true}", "all"},
        {"{\"id\": 7, \"subscriber\": \"10.77.0.2\"}", "id"},
        {"{\"protocol\": 6}", "protocol"},
        {"{\"subscriber\": \"\"}", "subscriber"},
    };
    for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
        struct control_filter filter;
        char parameter[32];
        assert_int_equal(parse_clear(cases[i].parameters, &filter, parameter), -EINVAL);
        assert_string_equal(parameter, cases[i].parameter);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_control_filter_matches_each_parameter),
        cmocka_unit_test(test_control_filter_matches_all_given),
        cmocka_unit_test(test_control_filter_parse_bad),
        cmocka_unit_test(test_control_filter_parse_clear_one),
        cmocka_unit_test(test_control_filter_parse_clear_bad),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
