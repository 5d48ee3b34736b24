/* The cursor over received octets: order of octets, bounds, the sticky failure, sub-readers. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/reader.h"

static const uint8_t octets[] = {0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08,
                                 0x09, 0x0a, 0x0b, 0x0c, 0x0d, 0x0e, 0x0f, 0x10};

static void test_reader_u8_to_u64_yields_host_order(void **state)
{
    (void) state;
    struct reader reader = reader_init(octets, sizeof(octets));

    assert_int_equal(reader_u8(&reader), 0x01);
    assert_int_equal(reader_u16(&reader), 0x0203);
    assert_int_equal(reader_u32(&reader), 0x04050607);
    assert_true(reader_u64(&reader) == UINT64_C(0x08090a0b0c0d0e0f));
    assert_int_equal(reader_remaining(&reader), 1);
    assert_false(reader_failed(&reader));
}

static void test_reader_u16_past_end_fails_and_yields_zero(void **state)
{
    (void) state;
    struct reader reader = reader_init(octets, 3);

    assert_int_equal(reader_u16(&reader), 0x0102);
    assert_int_equal(reader_u16(&reader), 0);
    assert_true(reader_failed(&reader));
}

static void test_reader_u8_after_failure_does_not_recover(void **state)
{
    (void) state;
    struct reader reader = reader_init(octets, 3);

    assert_int_equal(reader_u32(&reader), 0);
    assert_int_equal(reader_u8(&reader), 0);
    assert_int_equal(reader_remaining(&reader), 0);
    assert_true(reader_failed(&reader));
}

static void test_reader_bytes_copies(void **state)
{
    (void) state;
    struct reader reader = reader_init(octets, sizeof(octets));
    uint8_t copy[5];

    reader_skip(&reader, 2);
    reader_bytes(&reader, copy, sizeof(copy));
    assert_memory_equal(copy, octets + 2, sizeof(copy));
    assert_int_equal(reader_remaining(&reader), sizeof(octets) - 7);
}

static void test_reader_bytes_past_end_zero_fills(void **state)
{
    (void) state;
    struct reader reader = reader_init(octets, 4);
    static const uint8_t zeros[5];
    uint8_t copy[5];

    memset(copy, 0xaa, sizeof(copy));
    reader_bytes(&reader, copy, sizeof(copy));
    assert_memory_equal(copy, zeros, sizeof(copy));
    assert_true(reader_failed(&reader));
}

static void test_reader_bytes_of_nothing_succeeds_at_end(void **state)
{
    (void) state;
    struct reader reader = reader_init(octets, 0);

    reader_bytes(&reader, NULL, 0);
    reader_skip(&reader, 0);
    assert_false(reader_failed(&reader));
}

static void test_reader_init_without_data(void **state)
{
    (void) state;
    struct reader reader = reader_init(NULL, 0);

    assert_int_equal(reader_remaining(&reader), 0);
    assert_int_equal(reader_u8(&reader), 0);
    assert_true(reader_failed(&reader));
}

static void test_reader_skip_of_huge_size_fails(void **state)
{
    (void) state;
    struct reader reader = reader_init(octets, sizeof(octets));

    reader_u8(&reader);
    reader_skip(&reader, SIZE_MAX);
    assert_true(reader_failed(&reader));
}

static void test_reader_sub_cannot_see_past_itself(void **state)
{
    (void) state;
    struct reader reader = reader_init(octets, sizeof(octets));

    struct reader sub = reader_sub(&reader, 2);
    assert_int_equal(reader_u32(&sub), 0);
    assert_true(reader_failed(&sub));
    assert_false(reader_failed(&reader));
    assert_int_equal(reader_u8(&reader), 0x03);
}

static void test_reader_sub_past_end_fails_both(void **state)
{
    (void) state;
    struct reader reader = reader_init(octets, 4);

    struct reader sub = reader_sub(&reader, 5);
    assert_true(reader_failed(&sub));
    assert_true(reader_failed(&reader));
    assert_int_equal(reader_remaining(&sub), 0);
}

static void test_reader_u64_of_every_length_stays_inside(void **state)
{
    (void) state;
    for (size_t size_bytes = 0; size_bytes <= 8; size_bytes++) {
        uint8_t *copy = malloc(size_bytes > 0 ? size_bytes : 1);
        assert_non_null(copy);
        memcpy(copy, octets, size_bytes);
        struct reader reader = reader_init(copy, size_bytes);
        uint64_t value = reader_u64(&reader);
        assert_true(reader_failed(&reader) == (size_bytes < 8));
        assert_true(value == (size_bytes < 8 ? 0 : UINT64_C(0x0102030405060708)));
        free(copy);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reader_u8_to_u64_yields_host_order),
        cmocka_unit_test(test_reader_u16_past_end_fails_and_yields_zero),
        cmocka_unit_test(test_reader_u8_after_failure_does_not_recover),
        cmocka_unit_test(test_reader_bytes_copies),
        cmocka_unit_test(test_reader_bytes_past_end_zero_fills),
        cmocka_unit_test(test_reader_bytes_of_nothing_succeeds_at_end),
        cmocka_unit_test(test_reader_init_without_data),
        cmocka_unit_test(test_reader_skip_of_huge_size_fails),
        cmocka_unit_test(test_reader_sub_cannot_see_past_itself),
        cmocka_unit_test(test_reader_sub_past_end_fails_both),
        cmocka_unit_test(test_reader_u64_of_every_length_stays_inside),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
