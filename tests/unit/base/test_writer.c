/* The cursor over a buffer to fill: order of octets, all or nothing per write, the sticky failure. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/writer.h"

static void test_writer_u8_to_u64_writes_network_order(void **state)
{
    (void) state;
    static const uint8_t expected[] = {0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08,
                                       0x09, 0x0a, 0x0b, 0x0c, 0x0d, 0x0e, 0x0f};
    uint8_t data[sizeof(expected)];
    struct writer writer = writer_init(data, sizeof(data));

    writer_u8(&writer, 0x01);
    writer_u16(&writer, 0x0203);
    writer_u32(&writer, 0x04050607);
    writer_u64(&writer, UINT64_C(0x08090a0b0c0d0e0f));
    assert_false(writer_failed(&writer));
    assert_int_equal(writer_position(&writer), sizeof(expected));
    assert_memory_equal(data, expected, sizeof(expected));
}

static void test_writer_u32_that_does_not_fit_writes_nothing(void **state)
{
    (void) state;
    static const uint8_t untouched[] = {0xaa, 0xaa, 0xaa};
    uint8_t data[3];
    memset(data, 0xaa, sizeof(data));
    struct writer writer = writer_init(data, sizeof(data));

    writer_u32(&writer, 0x01020304);
    assert_true(writer_failed(&writer));
    assert_int_equal(writer_position(&writer), 0);
    assert_memory_equal(data, untouched, sizeof(data));
}

static void test_writer_u8_after_failure_writes_nothing(void **state)
{
    (void) state;
    static const uint8_t expected[] = {0x01, 0xaa};
    uint8_t data[2] = {0xaa, 0xaa};
    struct writer writer = writer_init(data, sizeof(data));

    writer_u8(&writer, 0x01);
    writer_u16(&writer, 0x0203);
    writer_u8(&writer, 0x04);
    assert_true(writer_failed(&writer));
    assert_int_equal(writer_position(&writer), 1);
    assert_memory_equal(data, expected, sizeof(data));
}

static void test_writer_bytes_and_zeros_fill_exactly(void **state)
{
    (void) state;
    static const uint8_t expected[] = {'a', 'b', 'c', 0, 0};
    uint8_t data[5];
    memset(data, 0xaa, sizeof(data));
    struct writer writer = writer_init(data, sizeof(data));

    writer_bytes(&writer, "abc", 3);
    writer_zeros(&writer, 2);
    assert_false(writer_failed(&writer));
    assert_memory_equal(data, expected, sizeof(data));
    writer_zeros(&writer, 1);
    assert_true(writer_failed(&writer));
}

static void test_writer_bytes_of_huge_size_fails(void **state)
{
    (void) state;
    uint8_t data[4] = {0};
    struct writer writer = writer_init(data, sizeof(data));

    writer_u8(&writer, 1);
    writer_zeros(&writer, SIZE_MAX);
    assert_true(writer_failed(&writer));
    assert_int_equal(writer_position(&writer), 1);
}

static void test_writer_bytes_of_nothing_succeeds_without_room(void **state)
{
    (void) state;
    struct writer writer = writer_init(NULL, 0);

    writer_bytes(&writer, NULL, 0);
    writer_zeros(&writer, 0);
    assert_false(writer_failed(&writer));
    writer_u8(&writer, 1);
    assert_true(writer_failed(&writer));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_writer_u8_to_u64_writes_network_order),
        cmocka_unit_test(test_writer_u32_that_does_not_fit_writes_nothing),
        cmocka_unit_test(test_writer_u8_after_failure_writes_nothing),
        cmocka_unit_test(test_writer_bytes_and_zeros_fill_exactly),
        cmocka_unit_test(test_writer_bytes_of_huge_size_fails),
        cmocka_unit_test(test_writer_bytes_of_nothing_succeeds_without_room),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
