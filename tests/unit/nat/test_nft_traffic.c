/* The packet path with real packets: what IPv4 mappings of one port do to flows. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/time.h"
#include "base/util.h"
#include "nft_lab.h"

/*
 * Through this mapping a datagram always gets in; what was sent before it and has not arrived will
 * not arrive.
 */

static void test_apply_lets_udp_in_and_answers_out(void **state)
{
    (void) state;
    LAB_NEED_ROOT();
    struct mapping_record record = lab_record(1, UDP, LAN1, 5000, 7000);
    int inside = lab_udp(LAB_LAN1, LAN1, 5000), outside = lab_udp(LAB_WAN1, WAN1, 4000);
    struct endpoint source;

    lab_expect_kept_out(outside, LAB_EXTERNAL, 7000, inside);
    lab_apply(lab_addition(&record));
    lab_send(outside, LAB_EXTERNAL, 7000, "question");
    source = lab_expect(inside, "question");
    assert_true(lab_endpoint_is(&source, WAN1, 4000));
    lab_send(inside, WAN1, 4000, "answer");
    source = lab_expect(outside, "answer");
    assert_true(lab_endpoint_is(&source, LAB_EXTERNAL, 7000));
    close(inside);
    close(outside);
}

static void test_apply_lets_tcp_in(void **state)
{
    (void) state;
    LAB_NEED_ROOT();
    struct mapping_record record = lab_record(1, TCP, LAN1, 5000, 7000);
    int inside = lab_tcp_listen(LAB_LAN1, LAN1, 5000), outside, accepted;
    char octet = 'x';
    struct endpoint source;

    lab_apply(lab_addition(&record));
    outside = lab_tcp_connect(LAB_WAN1, WAN1, 4000, LAB_EXTERNAL, 7000, LAB_DEADLINE_MS);
    assert_true(outside >= 0);
    accepted = lab_tcp_accept(inside, &source);
    assert_true(lab_endpoint_is(&source, WAN1, 4000));
    assert_int_equal(send(accepted, &octet, 1, 0), 1);
    assert_int_equal(recv(outside, &octet, 1, 0), 1);
    close(outside);
    close(accepted);
    close(inside);
}

static void test_apply_keeps_external_addresses_apart(void **state)
{
    (void) state;
    LAB_NEED_ROOT();
    struct mapping_record first = lab_record(1, UDP, LAN1, 5000, 7000);
    struct mapping_record second = lab_record(2, UDP, LAN2, 5000, 7000);
    int inside1 = lab_udp(LAB_LAN1, LAN1, 5000), inside2 = lab_udp(LAB_LAN2, LAN2, 5000);
    int outside = lab_udp(LAB_WAN1, WAN1, 4000);
    struct endpoint source;

    second.external_address = lab_address(LAB_EXTERNAL2);
    struct change changes[] = {lab_addition(&first), lab_addition(&second)};
    assert_int_equal(nat_apply(lab_nat, changes, 2, 0), 0);
    lab_send(outside, LAB_EXTERNAL2, 7000, "second");
    lab_expect(inside2, "second");
    lab_send(outside, LAB_EXTERNAL, 7000, "first");
    lab_expect(inside1, "first");
    assert_true(lab_is_quiet(inside2));
    lab_send(inside2, WAN2, 9, "x");
    lab_send(inside2, WAN1, 4000, "own");
    source = lab_expect(outside, "own");
    assert_true(lab_endpoint_is(&source, LAB_EXTERNAL2, 7000));
    close(inside1);
    close(inside2);
    close(outside);
}

static void test_apply_makes_outbound_flows_leave_from_the_mapping(void **state)
{
    (void) state;
    LAB_NEED_ROOT();
    struct mapping_record record = lab_record(1, UDP, LAN1, 5001, 7001);
    int inside = lab_udp(LAB_LAN1, LAN1, 5001);
    int outside1 = lab_udp(LAB_WAN1, WAN1, 4001), outside2 = lab_udp(LAB_WAN2, WAN2, 4001);
    struct endpoint source;

    lab_apply(lab_addition(&record));
    lab_send(inside, WAN1, 4001, "one");
    source = lab_expect(outside1, "one");
    assert_true(lab_endpoint_is(&source, LAB_EXTERNAL, 7001));
    lab_send(inside, WAN2, 4001, "two");
    source = lab_expect(outside2, "two");
    assert_true(lab_endpoint_is(&source, LAB_EXTERNAL, 7001));
    close(inside);
    close(outside1);
    close(outside2);
}

static void test_hairpin_shows_external_sources(void **state)
{
    (void) state;
    LAB_NEED_ROOT();
    struct mapping_record server = lab_record(1, UDP, LAN1, 5002, 7002);
    struct mapping_record client = lab_record(2, UDP, LAN2, 5003, 7003);
    int inside = lab_udp(LAB_LAN1, LAN1, 5002);
    int mapped = lab_udp(LAB_LAN2, LAN2, 5003), plain = lab_udp(LAB_LAN2, LAN2, 1234);
    struct change changes[] = {lab_addition(&server), lab_addition(&client)};
    struct endpoint source;

    assert_int_equal(nat_apply(lab_nat, changes, 2, 0), 0);
    lab_send(plain, LAB_EXTERNAL, 7002, "plain");
    source = lab_expect(inside, "plain");
    assert_true(source.port >= 32768);
    assert_true(lab_endpoint_is(&source, LAB_EXTERNAL, source.port));
    lab_send(inside, LAB_EXTERNAL, source.port, "answer");
    source = lab_expect(plain, "answer");
    assert_true(lab_endpoint_is(&source, LAB_EXTERNAL, 7002));
    lab_send(mapped, LAB_EXTERNAL, 7002, "mapped");
    source = lab_expect(inside, "mapped");
    assert_true(lab_endpoint_is(&source, LAB_EXTERNAL, 7003));
    close(inside);
    close(mapped);
    close(plain);
}

static void test_gateway_reaches_mappings_itself(void **state)
{
    (void) state;
    LAB_NEED_ROOT();
    struct mapping_record record = lab_record(1, UDP, LAN1, 5000, 7000);
    int inside = lab_udp(LAB_LAN1, LAN1, 5000);
    int own = lab_udp(LAB_GATEWAY, LAB_EXTERNAL, 6000), outside = lab_udp(LAB_WAN1, WAN1, 4000);
    struct endpoint source;

    lab_apply(lab_addition(&record));
    lab_send(own, LAB_EXTERNAL, 7000, "from the gateway");
    lab_expect(inside, "from the gateway");
    lab_send(own, WAN1, 4000, "untouched");
    source = lab_expect(outside, "untouched");
    assert_true(lab_endpoint_is(&source, LAB_EXTERNAL, 6000));
    close(inside);
    close(own);
    close(outside);
}

static void test_masquerade_takes_ports_from_its_range(void **state)
{
    (void) state;
    LAB_NEED_ROOT();
    int inside = lab_udp(LAB_LAN2, LAN2, 1234), outside = lab_udp(LAB_WAN1, WAN1, 4000);
    int listener = lab_tcp_listen(LAB_WAN1, WAN1, 4000), stream;
    struct endpoint source;

    lab_send(inside, WAN1, 4000, "out");
    source = lab_expect(outside, "out");
    assert_true(source.port >= 32768);
    assert_true(lab_endpoint_is(&source, LAB_EXTERNAL, source.port));
    stream = lab_tcp_connect(LAB_LAN2, LAN2, 1235, WAN1, 4000, LAB_DEADLINE_MS);
    assert_true(stream >= 0);
    close(lab_tcp_accept(listener, &source));
    assert_true(source.port >= 32768);
    assert_true(lab_endpoint_is(&source, LAB_EXTERNAL, source.port));
    close(stream);
    close(listener);
    close(inside);
    close(outside);
}

static uint16_t checksum(const uint8_t *data, size_t size)
{
    uint32_t sum = 0;

    for (size_t i = 0; i < size; i += 2)
        sum += (uint32_t) data[i] << 8 | data[i + 1];
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t) ~sum;
}

static void test_masquerade_covers_protocols_without_ports(void **state)
{
    (void) state;
    LAB_NEED_ROOT();
    uint8_t request[8] = {8, 0, 0, 0, 0x12, 0x34, 0, 1}, answer[256] = {0};
    struct sockaddr_in to = {.sin_family = AF_INET};
    struct pollfd poll_entry = {.events = POLLIN};
    uint16_t sum = checksum(request, sizeof(request));
    int fd;

    request[2] = (uint8_t) (sum >> 8);
    request[3] = (uint8_t) sum;
    lab_enter(LAB_LAN1);
    fd = socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_ICMP);
    assert_true(fd >= 0);
    inet_pton(AF_INET, WAN1, &to.sin_addr);
    assert_int_equal(sendto(fd, request, sizeof(request), 0, (struct sockaddr *) &to, sizeof(to)),
                     sizeof(request));
    poll_entry.fd = fd;
    assert_int_equal(poll(&poll_entry, 1, LAB_DEADLINE_MS), 1);
    /*
     * An echo reply behind the IP header. The outside host knows no way to 192.168.7.2, so it saw
     * another source.
     */
    assert_true(recv(fd, answer, sizeof(answer), 0) >= 28);
    assert_int_equal(answer[20], 0);
    close(fd);
    lab_enter(LAB_GATEWAY);
}

/* [R-6887-11-3] */
static void test_icmp_errors_of_let_in_flows_pass(void **state)
{
    (void) state;
    LAB_NEED_ROOT();
    struct mapping_record record = lab_record(1, UDP, LAN1, 5005, 7005);
    int outside = lab_udp(LAB_WAN1, WAN1, 4000);
    struct pollfd poll_entry = {.fd = outside, .events = POLLIN};
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(7005)};
    char octet = 'x';

    lab_apply(lab_addition(&record));
    inet_pton(AF_INET, LAB_EXTERNAL, &to.sin_addr);
    assert_int_equal(connect(outside, (struct sockaddr *) &to, sizeof(to)), 0);
    assert_int_equal(send(outside, &octet, 1, 0), 1);
    /* Nobody listens inside: "port unreachable" comes back through the translation. */
    assert_int_equal(poll(&poll_entry, 1, LAB_DEADLINE_MS), 1);
    assert_int_equal(recv(outside, &octet, 1, 0), -1);
    assert_int_equal(errno, ECONNREFUSED);
    close(outside);
}

/* [R-6887-13.3-3] */
static void test_filter_admits_only_whom_it_names(void **state)
{
    (void) state;
    LAB_NEED_ROOT();
    struct mapping_filter filters[] = {lab_filter("198.51.100.0/24", 0)};
    struct mapping_record record = lab_record(1, UDP, LAN1, 5000, 7000);
    int inside = lab_udp(LAB_LAN1, LAN1, 5000);
    int good = lab_udp(LAB_WAN1, WAN1, 4000), bad = lab_udp(LAB_WAN2, WAN2, 4000);

    record.filters = mapping_filters_new(filters, 1);
    lab_apply(lab_addition(&record));
    lab_expect_admitted(good, LAB_EXTERNAL, 7000, inside);
    lab_expect_kept_out(bad, LAB_EXTERNAL, 7000, inside);
    lab_apply(lab_removal(&record));
    assert_int_equal(lab_count_elements("filt4_on"), 0);
    assert_int_equal(lab_count_elements("filt4_any"), 0);
    mapping_filters_unref(record.filters);
    close(inside);
    close(good);
    close(bad);
}

/* [R-6887-13.3-3] */
static void test_filter_by_remote_port(void **state)
{
    (void) state;
    LAB_NEED_ROOT();
    /* 0.0.0.0/0 is length 96: any address, but one port. */
    struct mapping_filter filters[] = {lab_filter("0.0.0.0/0", 4444), lab_filter(WAN2, 0)};
    struct mapping_record record = lab_record(1, UDP, LAN1, 5000, 7000);
    int inside = lab_udp(LAB_LAN1, LAN1, 5000);
    int good = lab_udp(LAB_WAN1, WAN1, 4444), bad = lab_udp(LAB_WAN1, WAN1, 4445);
    int any_port = lab_udp(LAB_WAN2, WAN2, 4446);

    record.filters = mapping_filters_new(filters, 2);
    lab_apply(lab_addition(&record));
    lab_expect_admitted(good, LAB_EXTERNAL, 7000, inside);
    lab_expect_kept_out(bad, LAB_EXTERNAL, 7000, inside);
    lab_expect_admitted(any_port, LAB_EXTERNAL, 7000, inside);
    mapping_filters_unref(record.filters);
    close(inside);
    close(good);
    close(bad);
    close(any_port);
}

static void test_filter_for_everybody_admits_everybody(void **state)
{
    (void) state;
    LAB_NEED_ROOT();
    struct mapping_filter filters[] = {lab_filter("0.0.0.0/0", 0)};
    struct mapping_record record = lab_record(1, UDP, LAN1, 5000, 7000);
    int inside = lab_udp(LAB_LAN1, LAN1, 5000), outside = lab_udp(LAB_WAN2, WAN2, 4000);

    record.filters = mapping_filters_new(filters, 1);
    lab_apply(lab_addition(&record));
    lab_expect_admitted(outside, LAB_EXTERNAL, 7000, inside);
    mapping_filters_unref(record.filters);
    close(inside);
    close(outside);
}

/* [R-6887-13.3-5] */
static void test_filters_that_overlap_are_accepted(void **state)
{
    (void) state;
    LAB_NEED_ROOT();
    struct mapping_filter filters[] = {
        lab_filter("198.51.100.0/28", 0), lab_filter("198.51.0.0/16", 0),
        lab_filter("198.51.100.0/24", 0), lab_filter("198.51.100.0/24", 0),
        lab_filter("198.51.100.2", 80),   lab_filter("10.0.0.0/8", 80),
        lab_filter("10.1.0.0/16", 80),    lab_filter("10.1.0.0/16", 81),
        lab_filter("2001:db8::/32", 0),
    };
    struct mapping_record record = lab_record(1, UDP, LAN1, 5000, 7000);
    int inside = lab_udp(LAB_LAN1, LAN1, 5000), outside = lab_udp(LAB_WAN2, WAN2, 4000);

    record.filters = mapping_filters_new(filters, N_ELEMENTS(filters));
    lab_apply(lab_addition(&record));
    lab_expect_admitted(outside, LAB_EXTERNAL, 7000, inside);
    assert_int_equal(lab_count_elements("filt4_any"), 1);
    assert_int_equal(lab_count_elements("filt4_port"), 2);
    assert_true(lab_find_element("filt4_any", "17 . 192.168.7.2 . 5000 . 198.51.0.0/16").is_there);
    mapping_filters_unref(record.filters);
    close(inside);
    close(outside);
}

static void test_filters_change_with_a_renewal(void **state)
{
    (void) state;
    LAB_NEED_ROOT();
    struct mapping_filter first[] = {lab_filter("198.51.100.0/24", 0), lab_filter("10.0.0.0/8", 1)};
    struct mapping_filter second[] = {lab_filter("198.51.101.0/24", 0),
                                      lab_filter("10.0.0.0/8", 1)};
    struct mapping_record before = lab_record(1, UDP, LAN1, 5000, 7000), after = before,
                          open = before;
    int inside = lab_udp(LAB_LAN1, LAN1, 5000);
    int outside1 = lab_udp(LAB_WAN1, WAN1, 4000), outside2 = lab_udp(LAB_WAN2, WAN2, 4000);

    before.filters = mapping_filters_new(first, 2);
    after.filters = mapping_filters_new(second, 2);
    for (size_t i = 0; i < LAB_FEATURES_COUNT; i++) {
        nft_nat_force_features(lab_nat, &lab_features[i]);
        lab_apply(lab_addition(&before));
        lab_expect_admitted(outside1, LAB_EXTERNAL, 7000, inside);
        lab_expect_kept_out(outside2, LAB_EXTERNAL, 7000, inside);
        lab_apply(lab_replacement(&before, &after));
        /* Also the flow that had been let in. */
        lab_expect_kept_out(outside1, LAB_EXTERNAL, 7000, inside);
        lab_expect_admitted(outside2, LAB_EXTERNAL, 7000, inside);
        lab_apply(lab_replacement(&after, &open));
        lab_expect_admitted(outside1, LAB_EXTERNAL, 7000, inside);
        assert_int_equal(lab_count_elements("filt4_on"), 0);
        assert_int_equal(lab_count_elements("filt4_any"), 0);
        assert_int_equal(lab_count_elements("filt4_port"), 0);
        lab_apply(lab_replacement(&open, &before));
        lab_expect_kept_out(outside2, LAB_EXTERNAL, 7000, inside);
        lab_apply(lab_removal(&before));
        lab_forget_flows();
    }
    mapping_filters_unref(before.filters);
    mapping_filters_unref(after.filters);
    close(inside);
    close(outside1);
    close(outside2);
}

/* Sends until nothing arrives any more. True when that happens within the deadline. */
static bool stops_within(int sender, const char *address, uint16_t port, int receiver,
                         uint64_t deadline_ms)
{
    uint64_t end_ms = lab_now_ms() + deadline_ms;
    struct endpoint source;
    char text[16];

    while (lab_now_ms() < end_ms) {
        lab_send(sender, address, port, "on");
        if (!lab_receive(receiver, 200, text, sizeof(text), &source))
            return true;
    }
    return false;
}

static void test_timeout_stops_flows_without_the_daemon(void **state)
{
    (void) state;
    LAB_NEED_ROOT();
    struct mapping_record record = lab_record(1, UDP, LAN1, 5000, 7000);
    struct mapping_record other = lab_record(2, UDP, LAN1, 5001, 7001);
    const struct mapping_record *records[] = {&record, &other, &lab_fence};
    int inside = lab_udp(LAB_LAN1, LAN1, 5000), outside = lab_udp(LAB_WAN1, WAN1, 4000);
    int other_inside = lab_udp(LAB_LAN1, LAN1, 5001);
    uint64_t begin_ms;

    record.expires_ns = 2 * NS_PER_S;
    begin_ms = lab_now_ms();
    lab_reconcile(records, 3);
    nat_close(lab_nat); /* the daemon is dead from here on */
    lab_nat = NULL;
    lab_expect_admitted(outside, LAB_EXTERNAL, 7000, inside);
    lab_expect_admitted(outside, LAB_EXTERNAL, 7001, other_inside);
    lab_send(inside, WAN1, 4000, "answer");
    lab_expect(outside, "answer");
    assert_true(stops_within(outside, LAB_EXTERNAL, 7000, inside, 5000));
    assert_true(lab_now_ms() - begin_ms >= 1900);
    lab_send(inside, WAN1, 4000, "answer");
    lab_expect_admitted(outside, LAB_EXTERNAL, 7001, other_inside);
    assert_true(lab_is_quiet(outside));
    assert_int_equal(nft_nat_open(&lab_nat), 0);
    close(inside);
    close(outside);
    close(other_inside);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        LAB_TEST(test_apply_lets_udp_in_and_answers_out),
        LAB_TEST(test_apply_lets_tcp_in),
        LAB_TEST(test_apply_keeps_external_addresses_apart),
        LAB_TEST(test_apply_makes_outbound_flows_leave_from_the_mapping),
        LAB_TEST(test_hairpin_shows_external_sources),
        LAB_TEST(test_gateway_reaches_mappings_itself),
        LAB_TEST(test_masquerade_takes_ports_from_its_range),
        LAB_TEST(test_masquerade_covers_protocols_without_ports),
        LAB_TEST(test_icmp_errors_of_let_in_flows_pass),
        LAB_TEST(test_filter_admits_only_whom_it_names),
        LAB_TEST(test_filter_by_remote_port),
        LAB_TEST(test_filter_for_everybody_admits_everybody),
        LAB_TEST(test_filters_that_overlap_are_accepted),
        LAB_TEST(test_filters_change_with_a_renewal),
        LAB_TEST(test_timeout_stops_flows_without_the_daemon),
    };

    return cmocka_run_group_tests(tests, lab_setup_world, NULL);
}
