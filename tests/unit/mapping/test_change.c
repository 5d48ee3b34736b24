#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "mapping/change.h"

static struct mapping_record make_record(uint64_t id, uint16_t external_port)
{
    static const struct mapping_filter filter = {.remote = {.length = 96}};
    struct mapping_record record = {
        .id = id,
        .kind = MAPPING_KIND_MAP,
        .state = MAPPING_STATE_LIVE,
        .external_port = external_port,
        .filters = mapping_filters_new(&filter, 1),
    };

    assert_non_null(record.filters);
    return record;
}

static void test_change_set_append_each_kind(void **state)
{
    struct mapping_record before = make_record(1, 10), after = make_record(1, 20);
    struct change_set set;

    (void) state;
    change_set_init(&set);
    assert_int_equal(change_set_append(&set, NULL, &after), 0);
    assert_int_equal(change_set_append(&set, &before, &after), 0);
    assert_int_equal(change_set_append(&set, &before, NULL), 0);
    assert_int_equal(set.n_items, 3);
    assert_false(set.items[0].had_before);
    assert_true(set.items[0].has_after);
    assert_true(set.items[1].had_before && set.items[1].has_after);
    assert_true(mapping_record_equal(&set.items[1].before, &before));
    assert_true(mapping_record_equal(&set.items[1].after, &after));
    assert_true(set.items[2].had_before);
    assert_false(set.items[2].has_after);
    change_set_deinit(&set);
    mapping_filters_unref(before.filters);
    mapping_filters_unref(after.filters);
}

/* The table lets go of its filters; the set must not notice. */
static void test_change_set_append_keeps_filters(void **state)
{
    struct mapping_record before = make_record(1, 10), after = make_record(1, 20);
    const struct mapping_filters *filters = after.filters;
    struct change_set set;

    (void) state;
    change_set_init(&set);
    for (uint32_t i = 1; i <= 100; i++) {
        assert_int_equal(change_set_append(&set, &before, &after), 0);
        assert_int_equal(filters->n_references, i + 1);
    }
    mapping_filters_unref(before.filters);
    mapping_filters_unref(after.filters);
    assert_int_equal(filters->n_references, 100);
    assert_int_equal(set.items[99].before.filters->n_filters, 1);
    change_set_deinit(&set);
}

static void test_change_set_clear_keeps_room(void **state)
{
    struct mapping_record after = make_record(1, 20);
    struct change_set set;
    struct change *items;

    (void) state;
    change_set_init(&set);
    for (int i = 0; i < 100; i++)
        assert_int_equal(change_set_append(&set, NULL, &after), 0);
    items = set.items;
    change_set_clear(&set);
    assert_int_equal(set.n_items, 0);
    assert_int_equal(after.filters->n_references, 1);
    for (int i = 0; i < 100; i++)
        assert_int_equal(change_set_append(&set, NULL, &after), 0);
    assert_ptr_equal(set.items, items);
    change_set_deinit(&set);
    mapping_filters_unref(after.filters);
}

static void test_change_set_append_inverse_reverses(void **state)
{
    struct mapping_record one = make_record(1, 10), two = make_record(1, 20);
    struct change_set set, inverse;

    (void) state;
    change_set_init(&set);
    change_set_init(&inverse);
    assert_int_equal(change_set_append(&set, NULL, &one), 0);
    assert_int_equal(change_set_append(&set, &one, &two), 0);
    assert_int_equal(change_set_append(&set, &two, NULL), 0);
    assert_int_equal(change_set_append_inverse(&inverse, &set), 0);
    assert_int_equal(change_set_append_inverse(&inverse, &set), 0);
    assert_int_equal(inverse.n_items, 6);
    for (size_t i = 0; i < inverse.n_items; i++) {
        const struct change *change = &set.items[2 - i % 3], *undo = &inverse.items[i];

        assert_int_equal(undo->had_before, change->has_after);
        assert_int_equal(undo->has_after, change->had_before);
        assert_true(mapping_record_equal(&undo->before, &change->after));
        assert_true(mapping_record_equal(&undo->after, &change->before));
    }
    change_set_deinit(&set);
    change_set_deinit(&inverse);
    assert_int_equal(one.filters->n_references, 1);
    assert_int_equal(two.filters->n_references, 1);
    mapping_filters_unref(one.filters);
    mapping_filters_unref(two.filters);
}

static void test_change_set_append_inverse_of_empty(void **state)
{
    struct change_set set, inverse;

    (void) state;
    change_set_init(&set);
    change_set_init(&inverse);
    assert_int_equal(change_set_append_inverse(&inverse, &set), 0);
    assert_int_equal(inverse.n_items, 0);
    change_set_deinit(&set);
    change_set_deinit(&inverse);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_change_set_append_each_kind),
        cmocka_unit_test(test_change_set_append_keeps_filters),
        cmocka_unit_test(test_change_set_clear_keeps_room),
        cmocka_unit_test(test_change_set_append_inverse_reverses),
        cmocka_unit_test(test_change_set_append_inverse_of_empty),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
