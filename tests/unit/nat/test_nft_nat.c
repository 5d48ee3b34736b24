/*
 * The operations, with nft(8) as an independent reader and real packets as judges. Where kernels
 * differ, on several kernels' worth of features: what this one has, and without the newer ones.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/time.h"
#include "base/util.h"
#include "nft_lab.h"

/*
 * Through this mapping a datagram always gets in; what was sent before it and has not arrived will
 * not arrive.
 */

#define KEY_EXTERNAL "17 . 203.0.113.1 . 7000"
#define KEY_INTERNAL "17 . 192.168.7.2 . 5000"

static void assert_timeouts(uint64_t timeout_s)
{
    struct lab_element map = lab_find_element("map4", KEY_EXTERNAL);
    struct lab_element reverse = lab_find_element("rev4", KEY_INTERNAL);
    struct lab_element live = lab_find_element("live4", KEY_INTERNAL);

    assert_true(map.is_there && reverse.is_there && live.is_there);
    assert_int_equal(map.timeout_s, timeout_s);
    assert_int_equal(reverse.timeout_s, timeout_s);
    assert_int_equal(live.timeout_s, timeout_s);
    assert_string_equal(map.data, "192.168.7.2 . 5000");
    assert_string_equal(reverse.data, "203.0.113.1 . 7000");
}

static void test_renewal_moves_the_timeout(void **state)
{
    (void) state;
    LAB_NEED_ROOT();
    for (size_t i = 0; i < LAB_FEATURES_COUNT; i++) {
        struct mapping_record record = lab_record(1, UDP, LAN1, 5000, 7000), renewed = record;
        struct mapping_record lasting = record;

        nft_nat_force_features(lab_nat, &lab_features[i]);
        lab_apply(lab_addition(&record));
        assert_timeouts(3600);
        renewed.expires_ns = 7200 * NS_PER_S;
        lab_apply(lab_replacement(&record, &renewed));
        assert_timeouts(7200);
        renewed.expires_ns = 60 * NS_PER_S;
        lab_apply(lab_replacement(&record, &renewed));
        assert_timeouts(60);
        lasting.expires_ns = TIME_NEVER;
        lab_apply(lab_replacement(&renewed, &lasting));
        assert_timeouts(0);
        lab_apply(lab_replacement(&lasting, &record));
        assert_timeouts(3600);
        lab_apply(lab_removal(&record));
        assert_false(lab_find_element("map4", KEY_EXTERNAL).is_there);
        assert_false(lab_find_element("rev4", KEY_INTERNAL).is_there);
        assert_false(lab_find_element("live4", KEY_INTERNAL).is_there);
    }
}

/* Renewing for the same span again and again must restart the clock each time. */
static void test_renewal_with_an_equal_timeout_restarts_it(void **state)
{
    (void) state;
    LAB_NEED_ROOT();
    for (size_t i = 0; i < LAB_FEATURES_COUNT; i++) {
        struct mapping_record record = lab_record(1, UDP, LAN1, 5000, 7000);
        int inside = lab_udp(LAB_LAN1, LAN1, 5000), outside = lab_udp(LAB_WAN1, WAN1, 4000);
        uint64_t end_ms = lab_now_ms() + 2500;
        struct change change;

        nft_nat_force_features(lab_nat, &lab_features[i]);
        record.expires_ns = 1 * NS_PER_S;
        lab_apply(lab_addition(&record));
        change = lab_replacement(&record, &record);
        while (lab_now_ms() < end_ms) {
            assert_int_equal(nat_apply(lab_nat, &change, 1, 0), 0);
            lab_expect_admitted(outside, LAB_EXTERNAL, 7000, inside);
            assert_true(lab_is_quiet(inside) && poll(NULL, 0, 100) == 0);
        }
        lab_apply(lab_removal(&record));
        close(inside);
        close(outside);
    }
}

static void test_renewal_survives_foreign_removal(void **state)
{
    (void) state;
    LAB_NEED_ROOT();
    for (size_t i = 0; i < LAB_FEATURES_COUNT; i++) {
        struct mapping_record record = lab_record(1, UDP, LAN1, 5000, 7000);
        struct mapping_record other = lab_record(2, UDP, LAN2, 5000, 7002);
        struct change changes[] = {lab_replacement(&record, &record),
                                   lab_replacement(&other, &other)};

        nft_nat_force_features(lab_nat, &lab_features[i]);
        lab_apply(lab_addition(&record));
        lab_apply(lab_addition(&other));
        lab_run("nft delete element inet holdfast map4 '{ udp . 203.0.113.1 . 7000 }'");
        lab_run("nft delete element inet holdfast live4 '{ udp . 192.168.8.2 . 5000 }'");
        assert_int_equal(nat_apply(lab_nat, changes, 2, 0), 0);
        assert_timeouts(3600);
        assert_true(lab_find_element("live4", "17 . 192.168.8.2 . 5000").is_there);
        lab_run("nft delete element inet holdfast rev4 '{ udp . 192.168.7.2 . 5000 }'");
        changes[0] = lab_removal(&record);
        changes[1] = lab_removal(&other);
        assert_int_equal(nat_apply(lab_nat, changes, 2, 0), 0);
        assert_int_equal(nat_apply(lab_nat, changes, 2, 0), 0);
        assert_int_equal(lab_count_elements("map4"), 1); /* the fence's */
    }
}

static void test_filter_change_survives_foreign_removal(void **state)
{
    (void) state;
    LAB_NEED_ROOT();
    struct mapping_filter first = lab_filter("198.51.100.0/24", 0);
    struct mapping_filter second = lab_filter("198.51.101.0/24", 0);
    struct mapping_record before = lab_record(1, UDP, LAN1, 5000, 7000), after = before;

    before.filters = mapping_filters_new(&first, 1);
    after.filters = mapping_filters_new(&second, 1);
    for (size_t i = 0; i < LAB_FEATURES_COUNT; i++) {
        nft_nat_force_features(lab_nat, &lab_features[i]);
        lab_apply(lab_addition(&before));
        lab_run("nft delete element inet holdfast filt4_any "
                "'{ udp . 192.168.7.2 . 5000 . 198.51.100.0/24 }'");
        lab_apply(lab_replacement(&before, &after));
        assert_true(lab_find_element("filt4_any", KEY_INTERNAL " . 198.51.101.0/24").is_there);
        lab_run("nft flush set inet holdfast filt4_any && nft flush set inet holdfast filt4_on");
        lab_apply(lab_removal(&after));
    }
    mapping_filters_unref(before.filters);
    mapping_filters_unref(after.filters);
}

static void test_removal_stops_inbound_flows_at_once(void **state)
{
    (void) state;
    LAB_NEED_ROOT();
    struct mapping_record record = lab_record(1, UDP, LAN1, 5000, 7000), held = record;
    int inside = lab_udp(LAB_LAN1, LAN1, 5000), outside = lab_udp(LAB_WAN1, WAN1, 4000);

    held.state = MAPPING_STATE_HELD;
    lab_apply(lab_addition(&record));
    lab_expect_admitted(outside, LAB_EXTERNAL, 7000, inside);
    lab_send(inside, WAN1, 4000, "answer");
    lab_expect(outside, "answer");
    lab_apply(lab_replacement(&record, &held));
    lab_expect_kept_out(outside, LAB_EXTERNAL, 7000, inside);
    lab_apply(lab_replacement(&held, &record));
    lab_expect_admitted(outside, LAB_EXTERNAL, 7000, inside);
    close(inside);
    close(outside);
}

static void test_cut_flows_ends_outbound_flows_and_no_others(void **state)
{
    (void) state;
    LAB_NEED_ROOT();
    /* Few and many removals take different ways. */
    for (uint16_t n = 1; n <= 64; n = (uint16_t) (n * 64)) {
        struct change changes[64];
        struct mapping_record other = lab_record(1000, UDP, LAN1, 5500, 7500);
        int inside[64], other_inside = lab_udp(LAB_LAN1, LAN1, 5500);
        int plain = lab_udp(LAB_LAN2, LAN2, 5501), outside = lab_udp(LAB_WAN1, WAN1, 4000);
        struct endpoint source, plain_source;

        for (uint16_t i = 0; i < n; i++) {
            struct mapping_record record =
                lab_record(1U + i, UDP, LAN1, (uint16_t) (5000 + i), (uint16_t) (7000 + i));
            changes[i] = lab_addition(&record);
            inside[i] = lab_udp(LAB_LAN1, LAN1, (uint16_t) (5000 + i));
        }
        lab_apply(lab_addition(&other));
        assert_int_equal(nat_apply(lab_nat, changes, n, 0), 0);
        plain_source = lab_source_seen(plain, WAN1, outside);
        source = lab_source_seen(other_inside, WAN1, outside);
        assert_true(lab_endpoint_is(&source, LAB_EXTERNAL, 7500));
        for (uint16_t i = 0; i < n; i++) {
            source = lab_source_seen(inside[i], WAN1, outside);
            assert_true(lab_endpoint_is(&source, LAB_EXTERNAL, (uint16_t) (7000 + i)));
            changes[i] = lab_removal(&changes[i].after);
        }
        assert_int_equal(nat_apply(lab_nat, changes, n, 0), 0);
        source = lab_source_seen(inside[0], WAN1, outside);
        assert_true(lab_endpoint_is(&source, LAB_EXTERNAL, 7000)); /* not cut yet */
        assert_int_equal(nat_cut_flows(lab_nat, changes, n), 0);
        for (uint16_t i = 0; i < n; i++) {
            source = lab_source_seen(inside[i], WAN1, outside);
            assert_true(source.port >= 32768);
            close(inside[i]);
        }
        lab_run("nft flush chain inet holdfast postrouting");
        source = lab_source_seen(other_inside, WAN1, outside);
        assert_true(lab_endpoint_is(&source, LAB_EXTERNAL, 7500));
        source = lab_source_seen(plain, WAN1, outside);
        assert_true(endpoint_equal(&source, &plain_source));
        const struct mapping_record *records[] = {&lab_fence};
        lab_reconcile(records, 1);
        lab_forget_flows();
        close(other_inside);
        close(plain);
        close(outside);
    }
}

static void test_cut_flows_ends_inbound_tcp(void **state)
{
    (void) state;
    LAB_NEED_ROOT();
    struct mapping_record record = lab_record(1, TCP, LAN1, 5000, 7000);
    struct change change = lab_removal(&record);
    int inside = lab_tcp_listen(LAB_LAN1, LAN1, 5000), outside, accepted;
    struct pollfd poll_entry = {.events = POLLIN};
    struct endpoint source;
    char octet = 'x';

    lab_apply(lab_addition(&record));
    outside = lab_tcp_connect(LAB_WAN1, WAN1, 4000, LAB_EXTERNAL, 7000, LAB_DEADLINE_MS);
    assert_true(outside >= 0);
    accepted = lab_tcp_accept(inside, &source);
    assert_int_equal(nat_apply(lab_nat, &change, 1, 0), 0);
    assert_int_equal(nat_cut_flows(lab_nat, &change, 1), 0);
    assert_int_equal(send(outside, &octet, 1, MSG_NOSIGNAL), 1);
    lab_pass_fence(LAB_WAN1);
    poll_entry.fd = accepted;
    assert_int_equal(poll(&poll_entry, 1, 0), 0);
    close(outside);
    close(accepted);
    close(inside);
}

static void test_apply_failing_changes_nothing(void **state)
{
    (void) state;
    LAB_NEED_ROOT();
    for (size_t i = 0; i < LAB_FEATURES_COUNT; i++) {
        struct mapping_record kept = lab_record(1, UDP, LAN1, 5000, 7000), renewed = kept;
        struct mapping_record removed = lab_record(2, UDP, LAN1, 5001, 7001);
        struct mapping_record added = lab_record(3, UDP, LAN1, 5002, 7002);
        struct mapping_record clashing = lab_record(4, UDP, LAN1, 5003, 7003);
        struct change changes[] = {lab_addition(&kept), lab_addition(&removed), {0}, {0}};
        char *before, *after;

        nft_nat_force_features(lab_nat, &lab_features[i]);
        assert_int_equal(nat_apply(lab_nat, changes, 2, 0), 0);
        lab_run("nft add element inet holdfast map4 "
                "'{ udp . 203.0.113.1 . 7003 : 192.168.8.2 . 1 }'");
        before = lab_dump_table();
        renewed.expires_ns = 7200 * NS_PER_S;
        changes[0] = lab_replacement(&kept, &renewed);
        changes[1] = lab_removal(&removed);
        changes[2] = lab_addition(&added);
        changes[3] = lab_addition(&clashing);
        assert_int_equal(nat_apply(lab_nat, changes, 4, 0), -EEXIST);
        after = lab_dump_table();
        assert_string_equal(before, after);
        free(before);
        free(after);
        const struct mapping_record *records[] = {&lab_fence};
        lab_reconcile(records, 1);
    }
}

static void test_apply_to_a_full_map_is_enospc(void **state)
{
    (void) state;
    LAB_NEED_ROOT();
    struct nat_settings settings = lab_settings();
    struct mapping_record records[4];
    struct change changes[4];

    settings.size_hint = 3;
    assert_int_equal(nat_reconcile(lab_nat, &settings, NULL, 0, 0), 0);
    for (uint16_t i = 0; i < 4; i++) {
        records[i] = lab_record(1U + i, UDP, LAN1, (uint16_t) (5000 + i), (uint16_t) (7000 + i));
        changes[i] = lab_addition(&records[i]);
    }
    assert_int_equal(nat_apply(lab_nat, changes, 4, 0), -ENOSPC);
    assert_int_equal(lab_count_elements("map4"), 0);
    assert_int_equal(nat_apply(lab_nat, changes, 3, 0), 0);
    /* A full map can still be renewed and turned over. */
    for (size_t i = 0; i < LAB_FEATURES_COUNT; i++) {
        nft_nat_force_features(lab_nat, &lab_features[i]);
        changes[0] = lab_replacement(&records[0], &records[0]);
        assert_int_equal(nat_apply(lab_nat, changes, 1, 0), 0);
        changes[0] = lab_removal(&records[0]);
        changes[1] = lab_addition(&records[3]);
        assert_int_equal(nat_apply(lab_nat, changes, 2, 0), 0);
        changes[0] = lab_removal(&records[3]);
        changes[1] = lab_addition(&records[0]);
        assert_int_equal(nat_apply(lab_nat, changes, 2, 0), 0);
    }
}

static void test_apply_takes_the_net_effect_of_its_changes(void **state)
{
    (void) state;
    LAB_NEED_ROOT();
    struct mapping_record record = lab_record(1, UDP, LAN1, 5000, 7000), renewed = record;
    struct mapping_record heir = lab_record(2, UDP, LAN2, 5000, 7000);
    struct change changes[4];

    renewed.expires_ns = 7200 * NS_PER_S;
    changes[0] = lab_addition(&record);
    changes[1] = lab_replacement(&record, &renewed);
    assert_int_equal(nat_apply(lab_nat, changes, 2, 0), 0);
    assert_timeouts(7200);
    changes[0] = lab_removal(&renewed);
    changes[1] = lab_addition(&heir);
    changes[2] = lab_replacement(&heir, &heir);
    changes[3] = lab_removal(&heir);
    assert_int_equal(nat_apply(lab_nat, changes, 4, 0), 0);
    assert_int_equal(lab_count_elements("map4"), 1);
    assert_int_equal(nat_apply(lab_nat, changes + 1, 2, 0), 0);
    assert_string_equal(lab_find_element("map4", KEY_EXTERNAL).data, "192.168.8.2 . 5000");
    changes[0] = lab_addition(&record);
    changes[0].after.id = 3;
    changes[1] = lab_removal(&changes[0].after);
    assert_int_equal(nat_apply(lab_nat, changes, 2, 0), 0);
}

static void test_apply_without_the_table_is_enoent(void **state)
{
    (void) state;
    LAB_NEED_ROOT();
    for (size_t i = 0; i < LAB_FEATURES_COUNT; i++) {
        struct mapping_record record = lab_record(1, UDP, LAN1, 5000, 7000);
        const struct mapping_record *records[] = {&record, &lab_fence};
        struct change change = lab_replacement(&record, &record);

        nft_nat_force_features(lab_nat, &lab_features[i]);
        lab_reconcile(records, 2);
        lab_run("nft delete table inet holdfast");
        assert_int_equal(nat_apply(lab_nat, &change, 1, 0), -ENOENT);
        change = lab_removal(&record);
        assert_int_equal(nat_apply(lab_nat, &change, 1, 0), -ENOENT);
        change = lab_addition(&record);
        assert_int_equal(nat_apply(lab_nat, &change, 1, 0), -ENOENT);
    }
}

static void test_apply_of_what_cannot_be_expressed_is_eopnotsupp(void **state)
{
    (void) state;
    LAB_NEED_ROOT();
    struct mapping_record good = lab_record(1, UDP, LAN1, 5000, 7000);
    struct mapping_record mixed = lab_record(2, UDP, LAN1, 5001, 7001);
    struct mapping_record portless = lab_record(3, 47, LAN1, 5002, 7002);
    struct change changes[] = {lab_addition(&good), {0}};

    mixed.internal_address = lab_address("2001:db8:7::2");
    changes[1] = lab_addition(&mixed);
    assert_int_equal(nat_apply(lab_nat, changes, 2, 0), -EOPNOTSUPP);
    changes[1] = lab_addition(&portless);
    assert_int_equal(nat_apply(lab_nat, changes, 2, 0), -EOPNOTSUPP);
    assert_int_equal(lab_count_elements("map4"), 1);
}

static void test_reconcile_restores_after_a_flush(void **state)
{
    (void) state;
    LAB_NEED_ROOT();
    struct mapping_record record = lab_record(1, UDP, LAN1, 5000, 7000);
    const struct mapping_record *records[] = {&record, &lab_fence};
    int inside = lab_udp(LAB_LAN1, LAN1, 5000), outside = lab_udp(LAB_WAN1, WAN1, 4000);
    int plain = lab_udp(LAB_LAN2, LAN2, 5001);
    struct endpoint source, plain_source;

    lab_reconcile(records, 2);
    lab_expect_admitted(outside, LAB_EXTERNAL, 7000, inside);
    plain_source = lab_source_seen(plain, WAN1, outside);
    lab_run("nft flush ruleset");
    lab_reconcile(records, 2);
    lab_expect_admitted(outside, LAB_EXTERNAL, 7000, inside);
    source = lab_source_seen(inside, WAN1, outside);
    assert_true(lab_endpoint_is(&source, LAB_EXTERNAL, 7000));
    source = lab_source_seen(plain, WAN1, outside);
    assert_true(endpoint_equal(&source, &plain_source));
    close(inside);
    close(outside);
    close(plain);
}

/*
 * Flows that began while there were no rules would otherwise stay untranslated for as long as they
 * go on.
 */
static void test_reconcile_frees_flows_that_began_without_rules(void **state)
{
    (void) state;
    LAB_NEED_ROOT();
    struct mapping_record record = lab_record(1, UDP, LAN1, 5000, 7000);
    const struct mapping_record *records[] = {&record, &lab_fence};
    int inside = lab_udp(LAB_LAN1, LAN1, 5000), outside = lab_udp(LAB_WAN1, WAN1, 4000);
    int plain = lab_udp(LAB_LAN2, LAN2, 5001);
    struct endpoint source;

    lab_run("nft flush ruleset");
    lab_send(outside, LAB_EXTERNAL, 7000, "lost");
    lab_send(plain, WAN1, 4000, "untranslated");
    source = lab_expect(outside, "untranslated");
    assert_true(lab_endpoint_is(&source, LAN2, 5001));
    lab_reconcile(records, 2);
    lab_expect_admitted(outside, LAB_EXTERNAL, 7000, inside);
    source = lab_source_seen(plain, WAN1, outside);
    assert_true(lab_endpoint_is(&source, LAB_EXTERNAL, source.port));
    close(inside);
    close(outside);
    close(plain);
}

static void test_reconcile_replaces_whatever_is_there(void **state)
{
    (void) state;
    LAB_NEED_ROOT();
    struct mapping_record record = lab_record(1, UDP, LAN1, 5000, 7000);
    struct mapping_record stale = lab_record(2, UDP, LAN1, 5001, 7001), held = stale;
    const struct mapping_record *records[] = {&record, &lab_fence, &held};
    char *expected, *found;

    held.id = 3;
    held.state = MAPPING_STATE_HELD;
    lab_reconcile(records, 3);
    expected = lab_dump_table();
    lab_apply(lab_addition(&stale));
    lab_run("nft flush chain inet holdfast forward && nft add set inet holdfast strange "
            "'{ type mark; }' && nft add chain inet holdfast other '{ type filter hook input "
            "priority 0; }' && nft add element inet holdfast map4 "
            "'{ tcp . 203.0.113.2 . 1 : 192.168.7.2 . 1 }'");
    lab_reconcile(records, 3);
    found = lab_dump_table();
    assert_int_equal(lab_count_elements("map4"), 2);
    assert_int_equal(strlen(found), strlen(expected));
    assert_null(strstr(found, "strange"));
    free(expected);
    free(found);
    lab_run("nft delete table inet holdfast && nft add table inet holdfast && nft add map inet "
            "holdfast map4 '{ type mark : mark; }'");
    lab_reconcile(records, 3);
    assert_int_equal(lab_count_elements("map4"), 2);
}

static void test_reconcile_follows_settings(void **state)
{
    (void) state;
    LAB_NEED_ROOT();
    struct nat_settings settings = lab_settings();
    int inside = lab_udp(LAB_LAN2, LAN2, 1234), outside = lab_udp(LAB_WAN1, WAN1, 4000);
    struct endpoint source;

    settings.masquerade_address = lab_address(LAB_EXTERNAL2);
    settings.masquerade_port_first = 50000;
    settings.masquerade_port_last = 50010;
    assert_int_equal(nat_reconcile(lab_nat, &settings, NULL, 0, 0), 0);
    source = lab_source_seen(inside, WAN1, outside);
    assert_true(source.port >= 50000 && source.port <= 50010);
    assert_true(lab_endpoint_is(&source, LAB_EXTERNAL2, source.port));
    settings.masquerade = false;
    settings.n_external_addresses = 0;
    settings.masquerade_address = IP_ADDRESS_ANY_IPV4;
    assert_int_equal(nat_reconcile(lab_nat, &settings, NULL, 0, 0), 0);
    settings.masquerade = true; /* there is no address yet */
    assert_int_equal(nat_reconcile(lab_nat, &settings, NULL, 0, 0), 0);
    settings.masquerade_port_first = 60000;
    assert_int_equal(nat_reconcile(lab_nat, &settings, NULL, 0, 0), -EINVAL);
    close(inside);
    close(outside);
}

/* Replacing the chains could let a packet slip between the old and the new ones. */
static void test_reconcile_keeps_the_table_unless_it_is_strange(void **state)
{
    (void) state;
    LAB_NEED_ROOT();
    struct mapping_record record = lab_record(1, UDP, LAN1, 5000, 7000);
    const struct mapping_record *records[] = {&record, &lab_fence};
    long long handle = lab_table_handle();

    lab_reconcile(records, 2);
    assert_int_equal(lab_table_handle(), handle);
    lab_run("nft flush chain inet holdfast prerouting && nft flush map inet holdfast map4");
    lab_reconcile(records, 2);
    assert_int_equal(lab_table_handle(), handle);
    assert_timeouts(3600);
    lab_run("nft add chain inet holdfast strange");
    lab_reconcile(records, 2);
    assert_int_not_equal(lab_table_handle(), handle);
    assert_timeouts(3600);
}

static bool has_news(int fd)
{
    struct pollfd poll_entry = {.fd = fd, .events = POLLIN};

    return poll(&poll_entry, 1, 0) == 1;
}

static void test_watch_tells_of_others_changes_only(void **state)
{
    (void) state;
    LAB_NEED_ROOT();
    struct mapping_record record = lab_record(1, UDP, LAN1, 5000, 7000);
    const struct mapping_record *records[] = {&record, &lab_fence};
    static const char *const foreign[] = {
        "nft flush ruleset",
        "nft delete element inet holdfast map4 '{ udp . 203.0.113.1 . 7000 }'",
        "nft flush chain inet holdfast forward",
        "nft add rule inet holdfast forward drop",
    };
    int fd;

    assert_int_equal(nat_watch(lab_nat, &fd), 0);
    lab_apply(lab_addition(&record));
    lab_apply(lab_replacement(&record, &record));
    lab_reconcile(records, 2);
    assert_false(has_news(fd));
    lab_run("nft add table inet others && nft delete table inet others");
    assert_false(nat_was_touched(lab_nat));
    for (size_t i = 0; i < N_ELEMENTS(foreign); i++) {
        lab_run("%s", foreign[i]);
        assert_true(has_news(fd));
        assert_true(nat_was_touched(lab_nat));
        assert_false(nat_was_touched(lab_nat));
        lab_reconcile(records, 2);
        assert_false(has_news(fd));
    }
}

#define ECHO_PORT 5600
#define N_LOAD_RECORDS 2000

/* Echoes for ever; ended by a signal. */
static pid_t start_echo(int fd)
{
    pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid != 0)
        return pid;
    for (;;) {
        struct sockaddr_storage from;
        socklen_t size = sizeof(from);
        char octets[64];
        ssize_t n = recvfrom(fd, octets, sizeof(octets), 0, (struct sockaddr *) &from, &size);
        if (n > 0)
            (void) sendto(fd, octets, (size_t) n, 0, (struct sockaddr *) &from, size);
    }
}

/*
 * New flows one after the other until told to stop; writes how many were made and how many got no
 * answer.
 */
static void make_flows(int stop_fd, int result_fd)
{
    struct pollfd stop = {.fd = stop_fd, .events = POLLIN};
    uint32_t counts[2] = {0, 0};

    while (poll(&stop, 1, 0) == 0) {
        int fd = lab_udp(LAB_WAN1, WAN1, 0);
        struct endpoint source;
        char text[16];
        lab_send(fd, LAB_EXTERNAL, 7600, "load");
        counts[0]++;
        if (!lab_receive(fd, 1000, text, sizeof(text), &source))
            counts[1]++;
        close(fd);
    }
    _exit(write(result_fd, counts, sizeof(counts)) == sizeof(counts) ? 0 : 1);
}

static void test_reconcile_under_load_loses_no_new_flow(void **state)
{
    (void) state;
    LAB_NEED_ROOT();
    static struct mapping_record records[N_LOAD_RECORDS];
    static const struct mapping_record *pointers[N_LOAD_RECORDS];
    int echo_fd = lab_udp(LAB_LAN1, LAN1, ECHO_PORT), stop_pipe[2], result_pipe[2], status;
    uint32_t counts[2] = {0, 0};
    pid_t echo, load;

    for (uint16_t i = 0; i < N_LOAD_RECORDS; i++) {
        records[i] =
            lab_record(1U + i, UDP, LAN1, (uint16_t) (ECHO_PORT + i), (uint16_t) (7600 + i));
        pointers[i] = &records[i];
    }
    lab_reconcile(pointers, N_LOAD_RECORDS);
    assert_int_equal(pipe2(stop_pipe, O_CLOEXEC), 0);
    assert_int_equal(pipe2(result_pipe, O_CLOEXEC), 0);
    echo = start_echo(echo_fd);
    load = fork();
    assert_true(load >= 0);
    if (load == 0)
        make_flows(stop_pipe[0], result_pipe[1]);
    for (int i = 0; i < 30; i++)
        lab_reconcile(pointers, N_LOAD_RECORDS);
    assert_int_equal(write(stop_pipe[1], "x", 1), 1);
    assert_int_equal(read(result_pipe[0], counts, sizeof(counts)), sizeof(counts));
    assert_int_equal(waitpid(load, &status, 0), load);
    kill(echo, SIGKILL);
    assert_int_equal(waitpid(echo, NULL, 0), echo);
    print_message("%u new flows during 30 reconciliations, %u lost\n", counts[0], counts[1]);
    assert_true(counts[0] > 30);
    assert_int_equal(counts[1], 0);
    close(echo_fd);
    close(stop_pipe[0]);
    close(stop_pipe[1]);
    close(result_pipe[0]);
    close(result_pipe[1]);
}

static void test_remove_all_leaves_nothing(void **state)
{
    (void) state;
    LAB_NEED_ROOT();
    struct mapping_record record = lab_record(1, UDP, LAN1, 5000, 7000);
    struct change change = lab_addition(&record);

    assert_int_equal(nat_remove_all(lab_nat), 0);
    lab_run("! nft list ruleset | grep -q .");
    assert_int_equal(nat_remove_all(lab_nat), 0);
    assert_int_equal(nat_apply(lab_nat, &change, 1, 0), -ENOENT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        LAB_TEST(test_renewal_moves_the_timeout),
        LAB_TEST(test_renewal_with_an_equal_timeout_restarts_it),
        LAB_TEST(test_renewal_survives_foreign_removal),
        LAB_TEST(test_filter_change_survives_foreign_removal),
        LAB_TEST(test_removal_stops_inbound_flows_at_once),
        LAB_TEST(test_cut_flows_ends_outbound_flows_and_no_others),
        LAB_TEST(test_cut_flows_ends_inbound_tcp),
        LAB_TEST(test_apply_failing_changes_nothing),
        LAB_TEST(test_apply_to_a_full_map_is_enospc),
        LAB_TEST(test_apply_takes_the_net_effect_of_its_changes),
        LAB_TEST(test_apply_without_the_table_is_enoent),
        LAB_TEST(test_apply_of_what_cannot_be_expressed_is_eopnotsupp),
        LAB_TEST(test_reconcile_restores_after_a_flush),
        LAB_TEST(test_reconcile_frees_flows_that_began_without_rules),
        LAB_TEST(test_reconcile_replaces_whatever_is_there),
        LAB_TEST(test_reconcile_follows_settings),
        LAB_TEST(test_reconcile_keeps_the_table_unless_it_is_strange),
        LAB_TEST(test_watch_tells_of_others_changes_only),
        LAB_TEST(test_reconcile_under_load_loses_no_new_flow),
        LAB_TEST(test_remove_all_leaves_nothing),
    };

    return cmocka_run_group_tests(tests, lab_setup_world, NULL);
}
