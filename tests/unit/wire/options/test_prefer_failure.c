/* PREFER_FAILURE: a header and nothing else. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "wire/option.h"

static void test_prefer_failure_decode_accepts_no_data(void **state)
{
    (void) state;
    const struct pcp_option_descriptor *descriptor = pcp_option_find(PCP_OPTION_PREFER_FAILURE);
    static const uint8_t data[4];
    struct reader empty = reader_init(data, 0), full = reader_init(data, sizeof(data));
    struct pcp_option option;

    assert_int_equal(descriptor->size_max_bytes, 0);
    assert_true(descriptor->decode(&empty, &option));
    assert_false(descriptor->decode(&full, &option));
}

static void test_prefer_failure_encode_writes_the_layout_of_the_rfc(void **state)
{
    (void) state;
    static const uint8_t expected[] = {2, 0, 0, 0};
    struct pcp_option option = {.code = PCP_OPTION_PREFER_FAILURE};
    uint8_t octets[8];
    struct writer writer = writer_init(octets, sizeof(octets));

    pcp_option_write(&option, &writer);
    assert_int_equal(writer_position(&writer), sizeof(expected));
    assert_memory_equal(octets, expected, sizeof(expected));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_prefer_failure_decode_accepts_no_data),
        cmocka_unit_test(test_prefer_failure_encode_writes_the_layout_of_the_rfc),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
