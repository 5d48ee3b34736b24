#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <poll.h>
#include <string.h>

#include "base/time.h"
#include "nat/memory/memory_nat.h"

#define GRACE_S 30

static struct mapping_record make_record(uint64_t id, uint16_t internal_port,
                                         uint16_t external_port)
{
    return (struct mapping_record){
        .id = id,
        .expires_ns = 100 * NS_PER_S,
        .internal_address = ip_address_from_ipv4(0x0a4d0005),
        .external_address = ip_address_from_ipv4(0xc6336401),
        .internal_port = internal_port,
        .external_port = external_port,
        .protocol = 17,
        .kind = MAPPING_KIND_MAP,
        .state = MAPPING_STATE_LIVE,
    };
}

static struct change addition(const struct mapping_record *after)
{
    return (struct change){.has_after = true, .after = *after};
}

static struct change removal(const struct mapping_record *before)
{
    return (struct change){.had_before = true, .before = *before};
}

static struct change replacement(const struct mapping_record *before,
                                 const struct mapping_record *after)
{
    return (struct change){
        .had_before = true, .has_after = true, .before = *before, .after = *after};
}

static int setup(void **state)
{
    struct nat_settings settings = {.grace_s = GRACE_S};
    struct nat *nat = memory_nat_new();

    *state = nat;
    return nat && nat_reconcile(nat, &settings, NULL, 0, 0) == 0 ? 0 : -1;
}

static int teardown(void **state)
{
    nat_close(*state);
    return 0;
}

static void test_apply_adds_and_removes(void **state)
{
    struct nat *nat = *state;
    struct mapping_record record = make_record(1, 1000, 2000), other = make_record(1, 1000, 2001);
    struct change change = addition(&record);

    assert_int_equal(nat_apply(nat, &change, 1, 0), 0);
    assert_int_equal(memory_nat_count(nat), 1);
    assert_true(memory_nat_contains(nat, &record));
    assert_false(memory_nat_contains(nat, &other));
    assert_int_equal(memory_nat_timeout_ns(nat, 1), (100 + GRACE_S) * NS_PER_S);
    assert_int_equal(memory_nat_timeout_ns(nat, 2), 0);

    change = removal(&record);
    assert_int_equal(nat_apply(nat, &change, 1, 0), 0);
    assert_int_equal(memory_nat_count(nat), 0);
    assert_int_equal(nat_apply(nat, &change, 1, 0), 0);
}

static void test_apply_ignores_held_mappings(void **state)
{
    struct nat *nat = *state;
    struct mapping_record live = make_record(1, 1000, 2000), held = live;
    struct change change;

    held.state = MAPPING_STATE_HELD;
    change = addition(&held);
    assert_int_equal(nat_apply(nat, &change, 1, 0), 0);
    assert_int_equal(memory_nat_count(nat), 0);
    change = replacement(&held, &live);
    assert_int_equal(nat_apply(nat, &change, 1, 0), 0);
    assert_true(memory_nat_contains(nat, &live));
    change = replacement(&live, &held);
    assert_int_equal(nat_apply(nat, &change, 1, 0), 0);
    assert_int_equal(memory_nat_count(nat), 0);
}

static void test_apply_renews_static_and_dynamic(void **state)
{
    struct nat *nat = *state;
    struct mapping_record record = make_record(1, 1000, 2000), renewed = record;
    struct change change = addition(&record);

    assert_int_equal(nat_apply(nat, &change, 1, 0), 0);
    renewed.expires_ns = 500 * NS_PER_S;
    change = replacement(&record, &renewed);
    assert_int_equal(nat_apply(nat, &change, 1, 0), 0);
    assert_int_equal(memory_nat_timeout_ns(nat, 1), (500 + GRACE_S) * NS_PER_S);
    record = renewed;
    renewed.expires_ns = TIME_NEVER;
    change = replacement(&record, &renewed);
    assert_int_equal(nat_apply(nat, &change, 1, 0), 0);
    assert_true(memory_nat_timeout_ns(nat, 1) == TIME_NEVER);
}

static void test_apply_failing_half_way_changes_nothing(void **state)
{
    struct nat *nat = *state;
    struct mapping_record first = make_record(1, 1000, 2000), second = make_record(2, 1001, 2001);
    struct mapping_record thief = make_record(3, 1002, 2001);
    struct change changes[4] = {addition(&first), addition(&second)};

    assert_int_equal(nat_apply(nat, changes, 2, 0), 0);
    struct mapping_record fourth = make_record(4, 1003, 2003);
    changes[0] = removal(&first);
    changes[1] = addition(&fourth);
    changes[2] = removal(&fourth);
    changes[3] = addition(&thief);
    assert_int_equal(nat_apply(nat, changes, 4, 0), -EEXIST);
    assert_int_equal(memory_nat_count(nat), 2);
    assert_true(memory_nat_contains(nat, &first));
    assert_true(memory_nat_contains(nat, &second));
    assert_false(memory_nat_contains(nat, &thief));
}

static void test_apply_hands_a_port_over_in_one_go(void **state)
{
    struct nat *nat = *state;
    struct mapping_record old = make_record(1, 1000, 2000), new = make_record(2, 1001, 2000);
    struct change changes[2] = {addition(&old)};

    assert_int_equal(nat_apply(nat, changes, 1, 0), 0);
    changes[0] = removal(&old);
    changes[1] = addition(&new);
    assert_int_equal(nat_apply(nat, changes, 2, 0), 0);
    assert_true(memory_nat_contains(nat, &new));
    assert_int_equal(memory_nat_count(nat), 1);
}

static void test_apply_lets_peers_share_a_port_when_remotes_differ(void **state)
{
    struct nat *nat = *state;
    struct mapping_record a = make_record(1, 1000, 2000), b;
    struct change change;

    a.kind = MAPPING_KIND_PEER;
    a.remote_address = ip_address_from_ipv4(0x01020304);
    a.remote_port = 80;
    b = a;
    b.id = 2;
    change = addition(&a);
    assert_int_equal(nat_apply(nat, &change, 1, 0), 0);
    change = addition(&b);
    assert_int_equal(nat_apply(nat, &change, 1, 0), -EEXIST);
    b.remote_port = 81;
    change = addition(&b);
    assert_int_equal(nat_apply(nat, &change, 1, 0), 0);
    assert_int_equal(memory_nat_count(nat), 2);
}

static void test_contains_compares_filters(void **state)
{
    struct nat *nat = *state;
    struct mapping_filter filter = {
        .remote = {.address = ip_address_from_ipv4(0x01020300), .length = 120}};
    struct mapping_record plain = make_record(1, 1000, 2000), filtered = plain;
    struct change change = addition(&plain);

    filtered.filters = mapping_filters_new(&filter, 1);
    assert_non_null(filtered.filters);
    assert_int_equal(nat_apply(nat, &change, 1, 0), 0);
    assert_false(memory_nat_contains(nat, &filtered));
    change = replacement(&plain, &filtered);
    assert_int_equal(nat_apply(nat, &change, 1, 0), 0);
    assert_true(memory_nat_contains(nat, &filtered));
    assert_false(memory_nat_contains(nat, &plain));
    assert_int_equal(filtered.filters->n_references, 1);
    mapping_filters_unref(filtered.filters);
}

static void test_fail_next_fails_the_given_number_of_calls(void **state)
{
    struct nat *nat = *state;
    struct nat_settings settings = {.grace_s = GRACE_S};
    struct mapping_record record = make_record(1, 1000, 2000);
    struct change change = addition(&record);

    memory_nat_fail_next(nat, 2, -EPERM);
    assert_int_equal(nat_apply(nat, &change, 1, 0), -EPERM);
    assert_int_equal(nat_reconcile(nat, &settings, NULL, 0, 0), -EPERM);
    assert_int_equal(memory_nat_count(nat), 0);
    assert_int_equal(nat_apply(nat, &change, 1, 0), 0);
}

static void test_flush_makes_apply_fail_until_reconcile(void **state)
{
    struct nat *nat = *state;
    struct nat_settings settings = {.grace_s = 5};
    struct mapping_record live = make_record(1, 1000, 2000), held = make_record(2, 1001, 2001);
    const struct mapping_record *records[2] = {&live, &held};
    struct change change = addition(&live);

    held.state = MAPPING_STATE_HELD;
    assert_int_equal(nat_apply(nat, &change, 1, 0), 0);
    memory_nat_flush(nat);
    assert_int_equal(memory_nat_count(nat), 0);
    assert_int_equal(nat_apply(nat, &change, 1, 0), -ENOENT);
    assert_int_equal(nat_reconcile(nat, &settings, records, 2, 0), 0);
    assert_int_equal(memory_nat_count(nat), 1);
    assert_int_equal(memory_nat_timeout_ns(nat, 1), 105 * NS_PER_S);
}

static void test_reconcile_removes_what_is_stale(void **state)
{
    struct nat *nat = *state;
    struct nat_settings settings = {.grace_s = GRACE_S};
    struct mapping_record stale = make_record(1, 1000, 2000), kept = make_record(2, 1001, 2001);
    const struct mapping_record *records[1] = {&kept};
    struct change changes[2] = {addition(&stale), addition(&kept)};

    assert_int_equal(nat_apply(nat, changes, 2, 0), 0);
    assert_int_equal(nat_reconcile(nat, &settings, records, 1, 0), 0);
    assert_int_equal(memory_nat_count(nat), 1);
    assert_true(memory_nat_contains(nat, &kept));
    assert_int_equal(nat_remove_all(nat), 0);
    assert_int_equal(memory_nat_count(nat), 0);
}

static void test_flush_is_news_to_whoever_watches(void **state)
{
    struct nat *nat = *state;
    struct pollfd news = {.events = POLLIN};

    assert_false(nat_was_touched(nat));
    assert_int_equal(nat_watch(nat, &news.fd), 0);
    assert_int_equal(nat_remove_all(nat), 0); /* our own doing */
    assert_int_equal(poll(&news, 1, 0), 0);
    memory_nat_flush(nat);
    memory_nat_flush(nat);
    assert_int_equal(poll(&news, 1, 0), 1);
    assert_true(nat_was_touched(nat));
    assert_false(nat_was_touched(nat));
}

static void test_find_flow_finds_what_was_set(void **state)
{
    struct nat *nat = *state;
    const struct endpoint internal = {ip_address_from_ipv4(0x0a4d0002), 5000};
    const struct endpoint remote = {ip_address_from_ipv4(0xcb007164), 80};
    const struct endpoint first = {ip_address_from_ipv4(0xcb007101), 40000};
    const struct endpoint second = {ip_address_from_ipv4(0xcb007101), 40001};
    struct endpoint found;

    assert_int_equal(nat_find_flow(nat, 6, &internal, &remote, &found), -ENOENT);
    assert_int_equal(memory_nat_set_flow(nat, 6, &internal, &remote, &first), 0);
    assert_int_equal(memory_nat_set_flow(nat, 17, &internal, &remote, &second), 0);
    assert_int_equal(nat_find_flow(nat, 6, &internal, &remote, &found), 0);
    assert_true(endpoint_equal(&found, &first));
    assert_int_equal(nat_find_flow(nat, 6, &remote, &internal, &found), -ENOENT);
    assert_int_equal(memory_nat_set_flow(nat, 6, &internal, &remote, &second), 0);
    assert_int_equal(nat_find_flow(nat, 6, &internal, &remote, &found), 0);
    assert_true(endpoint_equal(&found, &second));
    assert_int_equal(memory_nat_set_flow(nat, 6, &internal, &remote, NULL), 0);
    assert_int_equal(nat_find_flow(nat, 6, &internal, &remote, &found), -ENOENT);
    assert_int_equal(nat_find_flow(nat, 17, &internal, &remote, &found), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_apply_adds_and_removes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_apply_ignores_held_mappings, setup, teardown),
        cmocka_unit_test_setup_teardown(test_apply_renews_static_and_dynamic, setup, teardown),
        cmocka_unit_test_setup_teardown(test_apply_failing_half_way_changes_nothing, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_apply_hands_a_port_over_in_one_go, setup, teardown),
        cmocka_unit_test_setup_teardown(test_apply_lets_peers_share_a_port_when_remotes_differ,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(test_contains_compares_filters, setup, teardown),
        cmocka_unit_test_setup_teardown(test_fail_next_fails_the_given_number_of_calls, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_flush_makes_apply_fail_until_reconcile, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_reconcile_removes_what_is_stale, setup, teardown),
        cmocka_unit_test_setup_teardown(test_flush_is_news_to_whoever_watches, setup, teardown),
        cmocka_unit_test_setup_teardown(test_find_flow_finds_what_was_set, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
