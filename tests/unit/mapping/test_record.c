#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/util.h"
#include "mapping/record.h"

static const struct mapping_filter two_filters[] = {
    {.remote = {.address = {{0x20, 0x01}}, .length = 16}, .remote_port = 0},
    {.remote = {.address = {{0x20, 0x02}}, .length = 16}, .remote_port = 80},
};

static void test_mapping_kind_name_all(void **state)
{
    (void) state;
    assert_string_equal(mapping_kind_name(MAPPING_KIND_MAP), "MAP");
    assert_string_equal(mapping_kind_name(MAPPING_KIND_PEER), "PEER");
    assert_string_equal(mapping_kind_name(MAPPING_KIND_STATIC), "STATIC");
}

static void test_mapping_protocol_format_every_number(void **state)
{
    static const struct {
        uint8_t number;
        const char *text;
    } cases[] = {
        {0, "all"}, {1, "ICMP"},    {6, "TCP"},    {17, "UDP"},      {33, "DCCP"},
        {47, "47"}, {58, "ICMPv6"}, {132, "SCTP"}, {136, "UDPLITE"}, {255, "255"},
    };
    char text[9];

    (void) state;
    for (size_t i = 0; i < N_ELEMENTS(cases); i++)
        assert_string_equal(mapping_protocol_format(cases[i].number, text), cases[i].text);
    for (unsigned int number = 0; number < 256; number++) {
        text[8] = 'x';
        assert_ptr_equal(mapping_protocol_format((uint8_t) number, text), text);
        assert_true(strlen(text) < 8);
        assert_int_equal(text[8], 'x');
    }
}

static void test_mapping_filters_ref_counts(void **state)
{
    struct mapping_filters *filters = mapping_filters_new(two_filters, 2);

    (void) state;
    assert_non_null(filters);
    assert_int_equal(filters->n_references, 1);
    assert_ptr_equal(mapping_filters_ref(filters), filters);
    assert_int_equal(filters->n_references, 2);
    assert_null(mapping_filters_unref(filters));
    assert_int_equal(filters->n_references, 1);
    assert_int_equal(filters->n_filters, 2);
    assert_int_equal(filters->items[1].remote_port, 80);
    /* The last one frees; the leak checker sees it if not. */
    assert_null(mapping_filters_unref(filters));
}

static void test_mapping_filters_ref_null(void **state)
{
    (void) state;
    assert_null(mapping_filters_ref(NULL));
    assert_null(mapping_filters_unref(NULL));
}

static void test_mapping_filters_equal_by_value(void **state)
{
    struct mapping_filter changed[2];
    struct mapping_filters *a = mapping_filters_new(two_filters, 2);
    struct mapping_filters *b = mapping_filters_new(two_filters, 2);
    struct mapping_filters *other;

    (void) state;
    assert_true(mapping_filters_equal(NULL, NULL));
    assert_true(mapping_filters_equal(a, b));
    assert_false(mapping_filters_equal(a, NULL));
    assert_false(mapping_filters_equal(NULL, a));
    mapping_filters_unref(b);

    for (int i = 0; i < 5; i++) {
        memcpy(changed, two_filters, sizeof(changed));
        if (i == 0)
            changed[1].remote_port = 81;
        else if (i == 1)
            changed[1].remote.length = 17;
        else if (i == 2)
            changed[0].remote.address.octets[15] = 1;
        else if (i == 3)
            changed[0] = two_filters[1], changed[1] = two_filters[0];
        other = mapping_filters_new(changed, i == 4 ? 1 : 2);
        assert_false(mapping_filters_equal(a, other));
        mapping_filters_unref(other);
    }
    mapping_filters_unref(a);
}

#define FIELD(name)                                                                                \
    {                                                                                              \
        offsetof(struct mapping_record, name), sizeof(((struct mapping_record *) 0)->name)         \
    }

/* Every octet of every field counts, and nothing but the fields. */
static void test_mapping_record_equal_every_field(void **state)
{
    static const struct {
        size_t offset, size_bytes;
    } fields[] = {
        FIELD(id),
        FIELD(created_ns),
        FIELD(expires_ns),
        FIELD(internal_address),
        FIELD(external_address),
        FIELD(remote_address),
        FIELD(client_address),
        FIELD(internal_port),
        FIELD(external_port),
        FIELD(remote_port),
        FIELD(client_port),
        FIELD(protocol),
        FIELD(kind),
        FIELD(state),
        FIELD(has_nonce),
        FIELD(third_party),
        FIELD(prefer_failure),
        FIELD(nonce),
    };
    size_t n_octets = 0;

    (void) state;
    for (size_t i = 0; i < N_ELEMENTS(fields); i++)
        for (size_t j = 0; j < fields[i].size_bytes; j++) {
            struct mapping_record a = {0}, b = {0};

            assert_true(mapping_record_equal(&a, &b));
            ((uint8_t *) &b)[fields[i].offset + j] ^= 1;
            assert_false(mapping_record_equal(&a, &b));
            n_octets++;
        }
    /* A new field must be added above. */
    assert_int_equal(n_octets, 3 * 8 + 4 * 16 + 4 * 2 + 6 + MAPPING_NONCE_SIZE);
    assert_in_range(sizeof(struct mapping_record), n_octets + sizeof(void *),
                    n_octets + sizeof(void *) + 7);
}

static void test_mapping_record_equal_filters_by_value(void **state)
{
    struct mapping_record a = {.filters = mapping_filters_new(two_filters, 2)};
    struct mapping_record b = {.filters = mapping_filters_new(two_filters, 2)};
    struct mapping_record none = {0};

    (void) state;
    assert_true(mapping_record_equal(&a, &b));
    assert_false(mapping_record_equal(&a, &none));
    mapping_filters_unref(a.filters);
    mapping_filters_unref(b.filters);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mapping_kind_name_all),
        cmocka_unit_test(test_mapping_protocol_format_every_number),
        cmocka_unit_test(test_mapping_filters_ref_counts),
        cmocka_unit_test(test_mapping_filters_ref_null),
        cmocka_unit_test(test_mapping_filters_equal_by_value),
        cmocka_unit_test(test_mapping_record_equal_every_field),
        cmocka_unit_test(test_mapping_record_equal_filters_by_value),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
