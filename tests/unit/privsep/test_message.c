#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/random.h"
#include "base/time.h"
#include "privsep/message.h"

static struct mapping_record record_with_filters(size_t n_filters)
{
    struct mapping_filter items[MAPPING_FILTERS_MAX] = {0};
    struct mapping_record record = {
        .id = 0x0102030405060708,
        .expires_ns = 77 * NS_PER_S,
        .internal_address = ip_address_from_ipv4(0x0a4d0002),
        .external_address = ip_address_from_ipv4(0xcb007101),
        .remote_address = ip_address_from_ipv4(0xc6336401),
        .internal_port = 1111,
        .external_port = 2222,
        .remote_port = 3333,
        .protocol = 6,
        .kind = MAPPING_KIND_PEER,
        .state = MAPPING_STATE_LIVE,
    };
    for (size_t i = 0; i < n_filters; i++)
        items[i] = (struct mapping_filter){
            .remote = {.address = ip_address_from_ipv4((uint32_t) i << 8), .length = 120},
            .remote_port = (uint16_t) i};
    if (n_filters > 0)
        record.filters = mapping_filters_new(items, n_filters);
    return record;
}

static struct change whole_change(size_t n_filters)
{
    struct change change = {.had_before = true, .has_after = true};
    change.before = record_with_filters(n_filters);
    change.after = record_with_filters(n_filters);
    change.after.external_port++;
    return change;
}

static void free_change(struct change *change)
{
    mapping_filters_unref(change->before.filters);
    mapping_filters_unref(change->after.filters);
}

static size_t encode_change(const struct change *change, uint8_t *ret_data)
{
    struct writer writer = writer_init(ret_data, MESSAGE_ITEM_SIZE_MAX);
    message_put_change(&writer, change);
    assert_false(writer_failed(&writer));
    return writer_position(&writer);
}

static bool decode_change(const uint8_t *data, size_t size, struct change *ret_change)
{
    struct reader reader = reader_init(data, size);
    message_get_change(&reader, ret_change);
    return message_is_whole(&reader);
}

static void test_message_change_comes_back_whole(void **state)
{
    uint8_t data[MESSAGE_ITEM_SIZE_MAX];
    static const size_t counts[] = {0, 1, MAPPING_FILTERS_MAX};
    (void) state;
    for (size_t i = 0; i < N_ELEMENTS(counts); i++) {
        struct change change = whole_change(counts[i]), read;
        size_t size = encode_change(&change, data);
        assert_true(decode_change(data, size, &read));
        assert_true(read.had_before && read.has_after);
        assert_true(mapping_record_equal(&change.before, &read.before));
        assert_true(mapping_record_equal(&change.after, &read.after));
        free_change(&change);
        free_change(&read);
    }
}

static void test_message_change_cut_short_or_too_long_fails(void **state)
{
    uint8_t data[MESSAGE_ITEM_SIZE_MAX];
    struct change change = whole_change(3), read;
    size_t size = encode_change(&change, data);
    (void) state;
    for (size_t n = 0; n < size; n++) {
        assert_false(decode_change(data, n, &read));
        free_change(&read);
    }
    data[size] = 0;
    assert_false(decode_change(data, size + 1, &read));
    free_change(&read);
    free_change(&change);
}

/* Places of single fields in an encoded change of one side. */
enum {
    AT_SIDES = 0,
    AT_KIND = 1 + 16 + 48 + 6 + 1,
    AT_STATE,
    AT_N_FILTERS,
    AT_LENGTH = AT_N_FILTERS + 17
};

static void test_message_change_meaningless_fields_fail(void **state)
{
    static const struct {
        size_t at;
        uint8_t value;
    } wrong[] = {{AT_SIDES, 0},     {AT_SIDES, 4},    {AT_SIDES, 255}, {AT_KIND, 0},
                 {AT_KIND, 4},      {AT_STATE, 0},    {AT_STATE, 3},   {AT_N_FILTERS, 65},
                 {AT_N_FILTERS, 0}, {AT_LENGTH, 129}, {AT_LENGTH, 255}};
    uint8_t data[MESSAGE_ITEM_SIZE_MAX];
    struct change change = {.has_after = true, .after = record_with_filters(1)}, read;
    size_t size = encode_change(&change, data);
    (void) state;
    assert_true(decode_change(data, size, &read));
    free_change(&read);
    for (size_t i = 0; i < N_ELEMENTS(wrong); i++) {
        uint8_t right = data[wrong[i].at];
        data[wrong[i].at] = wrong[i].value;
        assert_false(decode_change(data, size, &read));
        free_change(&read);
        data[wrong[i].at] = right;
    }
    free_change(&change);
}

static void test_message_change_of_two_mappings_fails(void **state)
{
    uint8_t data[MESSAGE_ITEM_SIZE_MAX];
    struct change change = whole_change(0), read;
    (void) state;
    change.after.id++;
    assert_false(decode_change(data, encode_change(&change, data), &read));
}

/* Under a sanitizer: nothing is read outside, nothing is lost. */
static void test_message_change_survives_mutations(void **state)
{
    uint8_t data[MESSAGE_ITEM_SIZE_MAX], mutant[MESSAGE_ITEM_SIZE_MAX];
    struct random_source random = random_seeded(2026);
    struct change change = whole_change(5), read;
    size_t size = encode_change(&change, data), n_whole = 0;
    (void) state;
    for (int i = 0; i < 100000; i++) {
        memcpy(mutant, data, size);
        for (uint64_t n = 1 + random_below(&random, 4); n > 0; n--)
            mutant[random_below(&random, size)] = (uint8_t) random_u64(&random);
        n_whole += decode_change(mutant, random_below(&random, size + 1), &read);
        free_change(&read);
        bool is_whole = decode_change(mutant, size, &read);
        if (is_whole && read.has_after)
            assert_in_range(read.after.kind, MAPPING_KIND_MAP, MAPPING_KIND_STATIC);
        n_whole += is_whole;
        free_change(&read);
    }
    assert_true(n_whole > 1000);
    free_change(&change);
}

static struct nat_settings settings(void)
{
    struct nat_settings settings = {
        .outside_interfaces = {"wan0", "a-name-of-15-oc"},
        .n_outside_interfaces = 2,
        .external_addresses = {ip_address_from_ipv4(0xcb007101)},
        .n_external_addresses = 1,
        .internal_prefixes = {{.address = ip_address_from_ipv4(0x0a4d0000), .length = 120}},
        .n_internal_prefixes = 1,
        .masquerade = true,
        .masquerade_port_first = 40000,
        .masquerade_port_last = 50000,
        .masquerade_address = IP_ADDRESS_ANY_IPV4,
        .grace_s = 30,
        .size_hint = 1000,
    };
    return settings;
}

static bool decode_settings(const uint8_t *data, size_t size, struct nat_settings *ret_settings)
{
    struct reader reader = reader_init(data, size);
    message_get_settings(&reader, ret_settings);
    return message_is_whole(&reader);
}

static void test_message_settings_come_back_whole(void **state)
{
    uint8_t data[4096];
    struct writer writer = writer_init(data, sizeof(data));
    struct nat_settings put = settings(), read;
    (void) state;
    message_put_settings(&writer, &put);
    size_t size = writer_position(&writer);
    assert_true(decode_settings(data, size, &read));
    assert_memory_equal(&put, &read, sizeof(put));
    for (size_t n = 0; n < size; n++)
        assert_false(decode_settings(data, n, &read));
    assert_false(decode_settings(data, size + 1, &read));
}

static void test_message_settings_meaningless_fields_fail(void **state)
{
    uint8_t data[4096], right[4096];
    struct writer writer = writer_init(right, sizeof(right));
    struct nat_settings put = settings(), read;
    (void) state;
    message_put_settings(&writer, &put);
    size_t size = writer_position(&writer);
    const struct {
        size_t at;
        uint8_t value;
    } wrong[] = {
        {0, 17},             /* interfaces */
        {1, 0},              /* a name without letters */
        {3, '/'},            /* in a name */
        {3, ' '},            /* in a name */
        {8, 'x'},            /* behind the end of a name */
        {32, 'x'},           /* a name without an end */
        {33, 65},            /* addresses */
        {33 + 17, 65},       /* prefixes */
        {33 + 17 + 17, 129}, /* length of one */
        {33 + 17 + 18, 2},   /* masquerade */
    };
    for (size_t i = 0; i < N_ELEMENTS(wrong); i++) {
        memcpy(data, right, size);
        data[wrong[i].at] = wrong[i].value;
        assert_false(decode_settings(data, size, &read));
    }
}

static void test_message_verdict_error_out_of_range_fails(void **state)
{
    uint8_t data[64];
    struct writer writer = writer_init(data, sizeof(data));
    struct message_verdict put = {.error = -2}, read;
    (void) state;
    message_put_verdict(&writer, &put);
    struct reader reader = reader_init(data, writer_position(&writer));
    message_get_verdict(&reader, &read);
    assert_true(message_is_whole(&reader));
    assert_int_equal(read.error, -2);
    data[0] = 0x10; /* 4096 */
    data[1] = 0;
    reader = reader_init(data, writer_position(&writer));
    message_get_verdict(&reader, &read);
    assert_true(reader_failed(&reader));
}

static bool decode_ready(uint8_t stage, uint8_t error)
{
    uint8_t data[] = {stage, 0, error};
    struct reader reader = reader_init(data, sizeof(data));
    struct message_ready ready;
    message_get_ready(&reader, &ready);
    return message_is_whole(&reader);
}

static void test_message_ready_contradiction_fails(void **state)
{
    (void) state;
    assert_true(decode_ready(MESSAGE_STAGE_DONE, 0));
    assert_true(decode_ready(MESSAGE_STAGE_NAT, 1));
    assert_false(decode_ready(MESSAGE_STAGE_NAT, 0));
    assert_false(decode_ready(MESSAGE_STAGE_DONE, 1));
    assert_false(decode_ready(0, 1));
    assert_false(decode_ready(MESSAGE_STAGE_DONE + 1, 1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_message_change_comes_back_whole),
        cmocka_unit_test(test_message_change_cut_short_or_too_long_fails),
        cmocka_unit_test(test_message_change_meaningless_fields_fail),
        cmocka_unit_test(test_message_change_of_two_mappings_fails),
        cmocka_unit_test(test_message_change_survives_mutations),
        cmocka_unit_test(test_message_settings_come_back_whole),
        cmocka_unit_test(test_message_settings_meaningless_fields_fail),
        cmocka_unit_test(test_message_verdict_error_out_of_range_fails),
        cmocka_unit_test(test_message_ready_contradiction_fails),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
