/* Names and classes of the code points. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "wire/pcp.h"

static void test_pcp_opcode_name_of_known_and_unknown(void **state)
{
    (void) state;
    assert_string_equal(pcp_opcode_name(PCP_OPCODE_ANNOUNCE), "ANNOUNCE");
    assert_string_equal(pcp_opcode_name(PCP_OPCODE_MAP), "MAP");
    assert_string_equal(pcp_opcode_name(PCP_OPCODE_PEER), "PEER");
    assert_string_equal(pcp_opcode_name(3), "UNKNOWN");
    assert_string_equal(pcp_opcode_name(UINT8_MAX), "UNKNOWN");
}

static void test_pcp_result_name_of_known_and_unknown(void **state)
{
    (void) state;
    assert_string_equal(pcp_result_name(PCP_RESULT_SUCCESS), "SUCCESS");
    assert_string_equal(pcp_result_name(PCP_RESULT_ADDRESS_MISMATCH), "ADDRESS_MISMATCH");
    assert_string_equal(pcp_result_name(PCP_RESULT_EXCESSIVE_REMOTE_PEERS),
                        "EXCESSIVE_REMOTE_PEERS");
    assert_string_equal(pcp_result_name(14), "UNKNOWN");
    assert_string_equal(pcp_result_name(UINT8_MAX), "UNKNOWN");
}

static void test_pcp_option_name_of_known_and_unknown(void **state)
{
    (void) state;
    assert_string_equal(pcp_option_name(PCP_OPTION_THIRD_PARTY), "THIRD_PARTY");
    assert_string_equal(pcp_option_name(PCP_OPTION_PREFER_FAILURE), "PREFER_FAILURE");
    assert_string_equal(pcp_option_name(PCP_OPTION_FILTER), "FILTER");
    assert_string_equal(pcp_option_name(0), "UNKNOWN");
    assert_string_equal(pcp_option_name(200), "UNKNOWN");
}

/* RFC 6887 s7.4. */
/* [R-6887-7.4-2] */
static void test_pcp_result_is_long_follows_the_rfc(void **state)
{
    (void) state;
    for (unsigned int result = 1; result <= PCP_RESULT_EXCESSIVE_REMOTE_PEERS; result++) {
        bool is_short = result == PCP_RESULT_NETWORK_FAILURE || result == PCP_RESULT_NO_RESOURCES ||
                        result == PCP_RESULT_USER_EX_QUOTA ||
                        result == PCP_RESULT_CANNOT_PROVIDE_EXTERNAL;
        assert_true(pcp_result_is_long((enum pcp_result) result) == !is_short);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pcp_opcode_name_of_known_and_unknown),
        cmocka_unit_test(test_pcp_result_name_of_known_and_unknown),
        cmocka_unit_test(test_pcp_option_name_of_known_and_unknown),
        cmocka_unit_test(test_pcp_result_is_long_follows_the_rfc),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
