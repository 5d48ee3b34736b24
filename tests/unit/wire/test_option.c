/* The frame that all options share, and the table of those we know. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "wire/option.h"

static const uint8_t data[] = {0x11, 0x22, 0x33, 0x44, 0x55};

static void test_pcp_option_find_by_code(void **state)
{
    (void) state;
    unsigned int n_known = 0;

    for (unsigned int code = 0; code <= UINT8_MAX; code++) {
        const struct pcp_option_descriptor *descriptor = pcp_option_find((uint8_t) code);
        if (!descriptor)
            continue;
        assert_int_equal(descriptor->code, code);
        assert_true(descriptor->size_min_bytes <= descriptor->size_max_bytes);
        n_known++;
    }
    assert_int_equal(n_known, 3);
}

/* RFC 6887 s13.1 to s13.3. */
static void test_pcp_option_find_yields_rules_of_the_rfc(void **state)
{
    (void) state;
    const struct pcp_option_descriptor *third_party = pcp_option_find(PCP_OPTION_THIRD_PARTY);
    const struct pcp_option_descriptor *prefer_failure = pcp_option_find(PCP_OPTION_PREFER_FAILURE);
    const struct pcp_option_descriptor *filter = pcp_option_find(PCP_OPTION_FILTER);

    assert_true(third_party->valid_in_map && third_party->valid_in_peer);
    assert_true(prefer_failure->valid_in_map && !prefer_failure->valid_in_peer);
    assert_true(filter->valid_in_map && !filter->valid_in_peer);
    assert_false(third_party->valid_in_announce || prefer_failure->valid_in_announce ||
                 filter->valid_in_announce);
    assert_false(third_party->repeatable || prefer_failure->repeatable);
    assert_true(filter->repeatable);
}

/* [R-6887-7.3-1] [R-6887-7.3-3] */
static void test_pcp_option_read_frame_moves_behind_padding(void **state)
{
    (void) state;
    static const uint8_t octets[] = {200, 0xff, 0, 5, 1, 2, 3, 4, 5, 0, 0, 0, 201, 0, 0, 0};
    struct reader reader = reader_init(octets, sizeof(octets));

    struct pcp_option_frame frame = pcp_option_read_frame(&reader);
    assert_int_equal(frame.code, 200);
    assert_int_equal(frame.size_bytes, 5);
    assert_int_equal(reader_remaining(&frame.body), 5);
    assert_int_equal(reader_u8(&frame.body), 1);
    frame = pcp_option_read_frame(&reader);
    assert_int_equal(frame.code, 201);
    assert_int_equal(reader_remaining(&frame.body), 0);
    assert_int_equal(reader_remaining(&reader), 0);
    assert_false(reader_failed(&reader));
}

static void test_pcp_option_read_frame_past_end_fails(void **state)
{
    (void) state;
    static const uint8_t octets[] = {200, 0, 0, 5, 1, 2, 3, 4, 5, 0, 0, 0};

    for (size_t size_bytes = 0; size_bytes < sizeof(octets); size_bytes++) {
        struct reader reader = reader_init(octets, size_bytes);
        (void) pcp_option_read_frame(&reader);
        assert_true(reader_failed(&reader));
        assert_int_equal(reader_remaining(&reader), 0);
    }
}

/* [R-6887-7.3-2] [R-6887-7.3-3] */
static void test_pcp_option_write_pads_to_multiple_of_4(void **state)
{
    (void) state;
    for (size_t size_bytes = 0; size_bytes <= sizeof(data); size_bytes++) {
        uint8_t octets[16], expected[16] = {200, 0, 0, (uint8_t) size_bytes};
        size_t total = 4 + (size_bytes + 3) / 4 * 4;
        struct pcp_option option = {.code = 200,
                                    .unknown = {.data = data, .size_bytes = (uint16_t) size_bytes}};
        struct writer writer = writer_init(octets, sizeof(octets));

        memcpy(expected + 4, data, size_bytes);
        memset(octets, 0xaa, sizeof(octets));
        pcp_option_write(&option, &writer);
        assert_false(writer_failed(&writer));
        assert_int_equal(writer_position(&writer), total);
        assert_memory_equal(octets, expected, total);
    }
}

static void test_pcp_option_write_of_known_option_takes_its_size(void **state)
{
    (void) state;
    uint8_t octets[24];
    struct pcp_option option = {.code = PCP_OPTION_FILTER};
    struct writer writer = writer_init(octets, sizeof(octets));

    pcp_option_write(&option, &writer);
    assert_int_equal(writer_position(&writer), 24);
    assert_int_equal(octets[3], 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pcp_option_find_by_code),
        cmocka_unit_test(test_pcp_option_find_yields_rules_of_the_rfc),
        cmocka_unit_test(test_pcp_option_read_frame_moves_behind_padding),
        cmocka_unit_test(test_pcp_option_read_frame_past_end_fails),
        cmocka_unit_test(test_pcp_option_write_pads_to_multiple_of_4),
        cmocka_unit_test(test_pcp_option_write_of_known_option_takes_its_size),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
