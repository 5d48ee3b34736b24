#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "store/memory/memory_store.h"
#include "store_fixture.h"

static int set_up(void **state)
{
    *state = memory_store_new();
    return *state ? 0 : -1;
}

static int tear_down(void **state)
{
    store_close(*state);
    return 0;
}

static void test_memory_store_load_when_new(void **state)
{
    struct fixture_content content;

    assert_int_equal(fixture_load(*state, &content), -ENODATA);
    assert_int_equal(content.n_clocks, 0);
}

static int compare_ids(const void *a, const void *b)
{
    uint64_t id_a = ((const struct mapping_record *) a)->id;
    uint64_t id_b = ((const struct mapping_record *) b)->id;

    return id_a < id_b ? -1 : id_a > id_b;
}

static void test_memory_store_commit_and_load(void **state)
{
    struct fixture_content content;

    for (uint64_t batch = 0; batch < 200; batch++) {
        assert_int_equal(fixture_commit_batch(*state, batch), 0);
        assert_int_equal(memory_store_n_commits(*state), batch + 1);
    }
    assert_true(memory_store_contains(*state, 2000));
    assert_false(memory_store_contains(*state, 1));
    assert_int_equal(fixture_load(*state, &content), 0);
    assert_int_equal(memory_store_count(*state), content.n_records);
    qsort(content.records, content.n_records, sizeof(content.records[0]), compare_ids);
    assert_int_equal(fixture_check_batches(&content), 200);
    fixture_content_deinit(&content);
}

static void test_memory_store_commit_same_id_twice(void **state)
{
    struct mapping_record expected = fixture_record(1, 2);
    struct fixture_content content;
    struct change_set set;

    change_set_init(&set);
    fixture_add(&set, 1);
    fixture_update(&set, 1, 0, 2);
    fixture_add(&set, 2);
    fixture_remove(&set, 2, 0);
    fixture_remove(&set, 3, 0);
    assert_int_equal(fixture_commit(*state, &set, 4), 0);
    change_set_deinit(&set);
    assert_int_equal(fixture_load(*state, &content), 0);
    assert_int_equal(content.n_records, 1);
    assert_true(mapping_record_equal(&content.records[0], &expected));
    fixture_content_deinit(&content);
}

static void test_memory_store_commit_epochs_upsert_and_remove(void **state)
{
    struct store_epoch epochs[] = {
        {.subscriber = {.length = 128}, .epoch_zero_ns = 1},
        {.subscriber = {.length = 64}, .epoch_zero_ns = 2},
        {.subscriber = {.length = 128}, .epoch_zero_ns = 3},
    };
    struct store_clock clock = fixture_clock(1);
    struct store_commit commit = {.epochs = epochs, .n_epochs = 3, .clock = &clock};
    struct fixture_content content;

    assert_int_equal(store_commit(*state, &commit), 0);
    assert_int_equal(store_commit(*state, &commit), 0);
    assert_int_equal(fixture_load(*state, &content), 0);
    assert_int_equal(content.n_epochs, 2);
    assert_int_equal(content.epochs[0].epoch_zero_ns, 3);
    assert_int_equal(content.epochs[1].epoch_zero_ns, 2);
    fixture_content_deinit(&content);

    epochs[0].epoch_zero_ns = 0;
    commit.n_epochs = 1;
    assert_int_equal(store_commit(*state, &commit), 0);
    assert_int_equal(store_commit(*state, &commit), 0);
    assert_int_equal(fixture_load(*state, &content), 0);
    assert_int_equal(content.n_epochs, 1);
    assert_int_equal(content.epochs[0].epoch_zero_ns, 2);
    fixture_content_deinit(&content);
}

static void test_memory_store_fail_next_changes_nothing(void **state)
{
    struct fixture_content before, after;

    for (uint64_t batch = 0; batch < 5; batch++)
        assert_int_equal(fixture_commit_batch(*state, batch), 0);
    assert_int_equal(fixture_load(*state, &before), 0);
    memory_store_fail_next(*state, 2, -ENOSPC);
    assert_int_equal(fixture_commit_batch(*state, 5), -ENOSPC);
    assert_int_equal(fixture_commit_batch(*state, 5), -ENOSPC);
    assert_int_equal(fixture_load(*state, &after), 0);
    assert_true(fixture_content_equal(&before, &after));
    assert_int_equal(memory_store_n_commits(*state), 5);
    fixture_content_deinit(&after);
    assert_int_equal(fixture_commit_batch(*state, 5), 0);
    assert_int_equal(fixture_load(*state, &after), 0);
    assert_false(fixture_content_equal(&before, &after));
    fixture_content_deinit(&before);
    fixture_content_deinit(&after);
}

/* One record that cannot be stored, behind others that can. */
static void test_memory_store_commit_unencodable_changes_nothing(void **state)
{
    struct mapping_record bad = fixture_record(3, 0);
    struct change_set set;

    change_set_init(&set);
    fixture_add(&set, 1);
    fixture_add(&set, 2);
    bad.kind = 0;
    assert_int_equal(change_set_append(&set, NULL, &bad), 0);
    assert_int_equal(fixture_commit(*state, &set, 4), -EINVAL);
    change_set_deinit(&set);
    assert_int_equal(memory_store_count(*state), 0);
    assert_int_equal(memory_store_n_commits(*state), 0);
}

static int refuse_mapping(void *context, const struct mapping_record *record)
{
    ++*(unsigned int *) context;
    return record->id == 2 ? -EDOM : 0;
}

static int accept_clock(void *context, const struct store_clock *clock)
{
    (void) context;
    (void) clock;
    return 0;
}

static void test_memory_store_load_stops_when_told(void **state)
{
    unsigned int n_seen = 0;
    struct store_load_handler handler = {
        .clock = accept_clock,
        .mapping = refuse_mapping,
        .context = &n_seen,
    };

    assert_int_equal(fixture_commit_batch(*state, 0), 0);
    assert_int_equal(store_load(*state, &handler), -EDOM);
    assert_int_equal(n_seen, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_memory_store_load_when_new, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_memory_store_commit_and_load, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_memory_store_commit_same_id_twice, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_memory_store_commit_epochs_upsert_and_remove, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_memory_store_fail_next_changes_nothing, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_memory_store_commit_unencodable_changes_nothing,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_memory_store_load_stops_when_told, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
