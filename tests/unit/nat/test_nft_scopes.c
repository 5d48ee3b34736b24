/*
 * The packet path with real packets: IPv6 mappings, mappings of whole protocols and addresses, PEER
 * mappings, and protocols besides TCP and UDP.
 */

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

#define GRE 47
#define ICMPV6 58
#define SCTP 132
#define UDPLITE 136

static void remove_and_cut(const struct mapping_record *record)
{
    struct change change = lab_removal(record);

    assert_int_equal(nat_apply(lab_nat, &change, 1, 0), 0);
    assert_int_equal(nat_cut_flows(lab_nat, &change, 1), 0);
}

static void test_ipv6_is_closed_by_default(void **state)
{
    (void) state;
    LAB_NEED_ROOT();
    int inside = lab_udp(LAB_LAN1, LAN1_6, 5000), outside = lab_udp(LAB_WAN1, WAN1_6, 4000);
    int neighbour = lab_udp(LAB_LAN2, LAN2_6, 4000), own = lab_udp(LAB_GATEWAY, GATEWAY_6, 6000);

    lab_expect_kept_out(outside, LAN1_6, 5000, inside);
    lab_expect_admitted(neighbour, LAN1_6, 5000, inside);
    lab_expect_admitted(outside, GATEWAY_6, 6000, own);
    /* What begins inside gets its answers. */
    lab_send(inside, WAN1_6, 4000, "out");
    lab_expect(outside, "out");
    lab_expect_admitted(outside, LAN1_6, 5000, inside);
    close(inside);
    close(outside);
    close(neighbour);
    close(own);
}

static void test_ipv6_without_internal_prefix_is_left_alone(void **state)
{
    (void) state;
    LAB_NEED_ROOT();
    struct nat_settings settings = lab_settings();
    int inside = lab_udp(LAB_LAN1, LAN1_6, 5000), outside = lab_udp(LAB_WAN1, WAN1_6, 4000);

    settings.n_internal_prefixes = 2; /* the IPv4 ones */
    assert_int_equal(nat_reconcile(lab_nat, &settings, NULL, 0, 0), 0);
    lab_expect_admitted(outside, LAN1_6, 5000, inside);
    close(inside);
    close(outside);
}

static void test_ipv6_mapping_opens_one_port(void **state)
{
    (void) state;
    LAB_NEED_ROOT();
    struct mapping_record udp = lab_record(1, UDP, LAN1_6, 5000, 5000);
    struct mapping_record tcp = lab_record(2, TCP, LAN1_6, 5000, 5000);
    int inside = lab_udp(LAB_LAN1, LAN1_6, 5000), outside = lab_udp(LAB_WAN1, WAN1_6, 4000);
    int other = lab_udp(LAB_LAN1, LAN1_6, 5001), stream;
    int listener = lab_tcp_listen(LAB_LAN1, LAN1_6, 5000);
    struct change changes[] = {lab_addition(&udp), lab_addition(&tcp)};
    struct endpoint source;

    assert_int_equal(nat_apply(lab_nat, changes, 2, 0), 0);
    lab_expect_admitted(outside, LAN1_6, 5000, inside);
    lab_send(inside, WAN1_6, 4000, "answer");
    source = lab_expect(outside, "answer");
    assert_true(lab_endpoint_is(&source, LAN1_6, 5000));
    lab_expect_kept_out(outside, LAN1_6, 5001, other);
    stream = lab_tcp_connect(LAB_WAN1, WAN1_6, 4001, LAN1_6, 5000, LAB_DEADLINE_MS);
    assert_true(stream >= 0);
    close(lab_tcp_accept(listener, &source));
    close(stream);
    lab_apply(lab_removal(&udp));
    lab_expect_kept_out(outside, LAN1_6, 5000, inside);
    close(inside);
    close(outside);
    close(other);
    close(listener);
}

static void test_ipv6_renewal_and_expiry(void **state)
{
    (void) state;
    LAB_NEED_ROOT();
    static const struct nft_features old = {.can_update = false};
    struct mapping_record record = lab_record(1, UDP, LAN1_6, 5000, 5000), renewed = record;
    int inside = lab_udp(LAB_LAN1, LAN1_6, 5000), outside = lab_udp(LAB_WAN1, WAN1_6, 4000);
    struct endpoint source;
    char text[16];
    int n_received = 0;

    lab_apply(lab_addition(&record));
    renewed.expires_ns = 7200 * NS_PER_S;
    lab_apply(lab_replacement(&record, &renewed));
    assert_int_equal(lab_find_element("live6", "17 . 2001:db8:7::2 . 5000").timeout_s, 7200);
    nft_nat_force_features(lab_nat, &old);
    renewed.expires_ns = NS_PER_S;
    lab_apply(lab_replacement(&record, &renewed));
    do {
        lab_send(outside, LAN1_6, 5000, "on");
        assert_true(n_received++ < 100);
    } while (lab_receive(inside, 100, text, sizeof(text), &source) && poll(NULL, 0, 50) == 0);
    assert_true(n_received > 1);
    /* Not only for new flows. */
    lab_send(inside, WAN1_6, 4000, "answer");
    lab_pass_fence(LAB_WAN1);
    assert_true(lab_is_quiet(outside));
    close(inside);
    close(outside);
}

static void test_ipv6_filters(void **state)
{
    (void) state;
    LAB_NEED_ROOT();
    struct mapping_filter filters[] = {lab_filter("2001:db8:f1::/64", 0),
                                       lab_filter("2001:db8:f1::2", 0), lab_filter("::/0", 4444),
                                       lab_filter("198.51.101.0/24", 0)};
    struct mapping_record record = lab_record(1, UDP, LAN1_6, 5000, 5000), open = record;
    int inside = lab_udp(LAB_LAN1, LAN1_6, 5000), outside1 = lab_udp(LAB_WAN1, WAN1_6, 4000);
    int outside2 = lab_udp(LAB_WAN2, WAN2_6, 4000), port = lab_udp(LAB_WAN2, WAN2_6, 4444);

    record.filters = mapping_filters_new(filters, N_ELEMENTS(filters));
    lab_apply(lab_addition(&record));
    assert_int_equal(lab_count_elements("filt6_any"), 1);
    assert_int_equal(lab_count_elements("filt6_port"), 1);
    lab_expect_admitted(outside1, LAN1_6, 5000, inside);
    lab_expect_kept_out(outside2, LAN1_6, 5000, inside);
    lab_expect_admitted(port, LAN1_6, 5000, inside);
    lab_apply(lab_replacement(&record, &open));
    lab_expect_admitted(outside2, LAN1_6, 5000, inside);
    lab_apply(lab_removal(&open));
    assert_int_equal(lab_count_elements("filt6_any"), 0);
    assert_int_equal(lab_count_elements("filt6_port"), 0);
    mapping_filters_unref(record.filters);
    close(inside);
    close(outside1);
    close(outside2);
    close(port);
}

/* An error about a flow from inside, and one about a flow that a mapping let in. */
static void test_ipv6_errors_pass(void **state)
{
    (void) state;
    LAB_NEED_ROOT();
    struct mapping_record record = lab_record(1, UDP, LAN1_6, 5000, 5000);
    struct sockaddr_in6 to = {.sin6_family = AF_INET6, .sin6_port = htons(5000)};
    const char *const addresses[2][2] = {{LAN1_6, WAN1_6}, {WAN1_6, LAN1_6}};

    lab_apply(lab_addition(&record));
    for (size_t i = 0; i < 2; i++) {
        int fd = lab_udp(i == 0 ? LAB_LAN1 : LAB_WAN1, addresses[i][0], 4000);
        struct pollfd poll_entry = {.fd = fd, .events = POLLIN};
        char octet = 'x';
        inet_pton(AF_INET6, addresses[i][1], &to.sin6_addr);
        assert_int_equal(connect(fd, (struct sockaddr *) &to, sizeof(to)), 0);
        assert_int_equal(send(fd, &octet, 1, 0), 1);
        assert_int_equal(poll(&poll_entry, 1, LAB_DEADLINE_MS), 1);
        assert_int_equal(recv(fd, &octet, 1, 0), -1);
        assert_int_equal(errno, ECONNREFUSED);
        close(fd);
    }
}

static bool is_answered(int fd, const char *address)
{
    const uint8_t request[8] = {128, 0, 0, 0, 0x12, 0x34, 0, 1};
    uint8_t answer[8];
    struct ip_address source;

    lab_send_raw(fd, address, request, sizeof(request));
    lab_pass_fence(LAB_WAN1);
    while (lab_receive_raw(fd, 200, answer, sizeof(answer), &source))
        if (answer[0] == 129)
            return true;
    return false;
}

static void test_ipv6_echo_needs_a_mapping_of_the_protocol(void **state)
{
    (void) state;
    LAB_NEED_ROOT();
    struct mapping_record protocol = lab_record(1, ICMPV6, LAN1_6, 0, 0);
    struct mapping_record all = lab_record(2, 0, LAN1_6, 0, 0);
    int fd = lab_raw(LAB_WAN1, AF_INET6, ICMPV6);

    assert_false(is_answered(fd, LAN1_6));
    lab_apply(lab_addition(&protocol));
    assert_true(is_answered(fd, LAN1_6));
    assert_false(is_answered(fd, LAN2_6));
    remove_and_cut(&protocol);
    assert_false(is_answered(fd, LAN1_6));
    lab_apply(lab_addition(&all));
    assert_true(is_answered(fd, LAN1_6));
    lab_apply(lab_removal(&all));
    assert_false(is_answered(fd, LAN1_6));
    close(fd);
}

static struct mapping_record peer_record(uint64_t id, const char *internal, uint16_t external_port,
                                         const char *remote)
{
    struct mapping_record record = lab_record(id, UDP, internal, 5000, external_port);

    record.kind = MAPPING_KIND_PEER;
    record.remote_address = lab_address(remote);
    record.remote_port = 4000;
    return record;
}

static void test_ipv6_peer_opens_for_one_remote_endpoint(void **state)
{
    (void) state;
    LAB_NEED_ROOT();
    struct mapping_record record = peer_record(1, LAN1_6, 5000, WAN1_6);
    int inside = lab_udp(LAB_LAN1, LAN1_6, 5000), outside = lab_udp(LAB_WAN1, WAN1_6, 4000);
    int other_port = lab_udp(LAB_WAN1, WAN1_6, 4001), other = lab_udp(LAB_WAN2, WAN2_6, 4000);

    lab_apply(lab_addition(&record));
    lab_expect_admitted(outside, LAN1_6, 5000, inside);
    lab_expect_kept_out(other_port, LAN1_6, 5000, inside);
    lab_expect_kept_out(other, LAN1_6, 5000, inside);
    remove_and_cut(&record);
    lab_expect_kept_out(outside, LAN1_6, 5000, inside);
    close(inside);
    close(outside);
    close(other_port);
    close(other);
}

static void test_peer_fixes_the_endpoint_towards_one_remote(void **state)
{
    (void) state;
    LAB_NEED_ROOT();
    struct mapping_record record = peer_record(1, LAN1, 7100, WAN1);
    int inside = lab_udp(LAB_LAN1, LAN1, 5000), outside = lab_udp(LAB_WAN1, WAN1, 4000);
    int other_port = lab_udp(LAB_WAN1, WAN1, 4001), other = lab_udp(LAB_WAN2, WAN2, 4000);
    struct endpoint source;

    lab_apply(lab_addition(&record));
    source = lab_source_seen(inside, WAN1, outside);
    assert_true(lab_endpoint_is(&source, LAB_EXTERNAL, 7100));
    source = lab_source_seen(inside, WAN2, other);
    assert_true(source.port >= 32768);
    lab_forget_flows();
    lab_expect_admitted(outside, LAB_EXTERNAL, 7100, inside);
    lab_expect_kept_out(other_port, LAB_EXTERNAL, 7100, inside);
    lab_expect_kept_out(other, LAB_EXTERNAL, 7100, inside);
    remove_and_cut(&record);
    lab_expect_kept_out(outside, LAB_EXTERNAL, 7100, inside);
    source = lab_source_seen(inside, WAN1, outside);
    assert_true(source.port >= 32768);
    close(inside);
    close(outside);
    close(other_port);
    close(other);
}

static void test_peer_and_map_share_an_endpoint(void **state)
{
    (void) state;
    LAB_NEED_ROOT();
    struct mapping_filter filter = lab_filter("198.51.101.0/24", 0);
    struct mapping_record map = lab_record(1, UDP, LAN1, 5000, 7000);
    struct mapping_record peer1 = peer_record(2, LAN1, 7000, WAN1);
    struct mapping_record peer2 = peer_record(3, LAN1, 7000, WAN2);
    struct change changes[] = {lab_addition(&map), lab_addition(&peer1), lab_addition(&peer2)};
    int inside = lab_udp(LAB_LAN1, LAN1, 5000), outside = lab_udp(LAB_WAN1, WAN1, 4000);
    int other_port = lab_udp(LAB_WAN1, WAN1, 4001);

    map.filters = mapping_filters_new(&filter, 1);
    changes[0] = lab_addition(&map);
    assert_int_equal(nat_apply(lab_nat, changes, 3, 0), 0);
    /* The peer may answer whatever the MAP's filter says. */
    lab_expect_admitted(outside, LAB_EXTERNAL, 7000, inside);
    lab_expect_kept_out(other_port, LAB_EXTERNAL, 7000, inside);
    lab_apply(lab_removal(&peer1));
    lab_expect_kept_out(outside, LAB_EXTERNAL, 7000, inside);
    mapping_filters_unref(map.filters);
    close(inside);
    close(outside);
    close(other_port);
}

static struct mapping_record wide_record(uint64_t id, uint8_t protocol)
{
    struct mapping_record record = lab_record(id, protocol, LAN1, 0, 0);

    record.external_address = lab_address(LAB_EXTERNAL2);
    return record;
}

static void test_mapping_of_a_protocol_covers_all_its_ports(void **state)
{
    (void) state;
    LAB_NEED_ROOT();
    struct mapping_filter filters[] = {lab_filter("198.51.101.0/24", 0),
                                       lab_filter("0.0.0.0/0", 4001)};
    struct mapping_record record = wide_record(1, UDP), filtered = record;
    int inside = lab_udp(LAB_LAN1, LAN1, 5000), outside = lab_udp(LAB_WAN1, WAN1, 4000);
    int other_port = lab_udp(LAB_WAN1, WAN1, 4001), other = lab_udp(LAB_WAN2, WAN2, 4000);
    struct endpoint source;

    lab_apply(lab_addition(&record));
    lab_expect_admitted(outside, LAB_EXTERNAL2, 5000, inside);
    lab_forget_flows();
    source = lab_source_seen(inside, WAN1, outside);
    assert_true(lab_endpoint_is(&source, LAB_EXTERNAL2, 5000));
    filtered.filters = mapping_filters_new(filters, 2);
    lab_forget_flows();
    lab_apply(lab_replacement(&record, &filtered));
    lab_expect_kept_out(outside, LAB_EXTERNAL2, 5000, inside);
    lab_expect_admitted(other_port, LAB_EXTERNAL2, 5000, inside);
    lab_expect_admitted(other, LAB_EXTERNAL2, 5000, inside);
    remove_and_cut(&filtered);
    lab_expect_kept_out(other, LAB_EXTERNAL2, 5000, inside);
    source = lab_source_seen(inside, WAN2, other);
    assert_true(lab_endpoint_is(&source, LAB_EXTERNAL, source.port));
    mapping_filters_unref(filtered.filters);
    close(inside);
    close(outside);
    close(other_port);
    close(other);
}

static bool arrives(int sender, const char *address, const void *data, size_t size, int receiver)
{
    uint8_t received[64];
    struct ip_address source, expected = lab_address(WAN1);

    lab_send_raw(sender, address, data, size);
    lab_pass_fence(LAB_WAN1);
    while (lab_receive_raw(receiver, 0, received, size, &source))
        if (ip_address_equal(&source, &expected))
            return true;
    return false;
}

static void test_mapping_of_all_protocols_covers_those_without_ports(void **state)
{
    (void) state;
    LAB_NEED_ROOT();
    const uint8_t gre[8] = {0, 0, 0x08, 0, 1, 2, 3, 4};
    struct mapping_filter filter = lab_filter("198.51.101.0/24", 0);
    struct mapping_record all = wide_record(1, 0), protocol = wide_record(2, GRE), filtered = all;
    int inside = lab_raw(LAB_LAN1, AF_INET, GRE), outside = lab_raw(LAB_WAN1, AF_INET, GRE);
    int datagrams = lab_udp(LAB_LAN1, LAN1, 5000), sender = lab_udp(LAB_WAN2, WAN2, 4000);

    assert_false(arrives(outside, LAB_EXTERNAL2, gre, sizeof(gre), inside));
    lab_forget_flows();
    lab_apply(lab_addition(&protocol));
    assert_true(arrives(outside, LAB_EXTERNAL2, gre, sizeof(gre), inside));
    remove_and_cut(&protocol);
    assert_false(arrives(outside, LAB_EXTERNAL2, gre, sizeof(gre), inside));
    lab_forget_flows();
    lab_apply(lab_addition(&all));
    assert_true(arrives(outside, LAB_EXTERNAL2, gre, sizeof(gre), inside));
    filtered.filters = mapping_filters_new(&filter, 1);
    lab_apply(lab_replacement(&all, &filtered));
    assert_false(arrives(outside, LAB_EXTERNAL2, gre, sizeof(gre), inside));
    lab_expect_admitted(sender, LAB_EXTERNAL2, 5000, datagrams);
    remove_and_cut(&filtered);
    assert_false(arrives(outside, LAB_EXTERNAL2, gre, sizeof(gre), inside));
    mapping_filters_unref(filtered.filters);
    close(inside);
    close(outside);
    close(datagrams);
    close(sender);
}

/* Ports 4000 to 7000; enough of a packet for connection tracking to begin a flow. */
static const uint8_t sctp_init[32] = {
    [0] = 4000 >> 8, [1] = 4000 & 255, [2] = 7000 >> 8, [3] = 7000 & 255, [12] = 1,
    [15] = 20,       [19] = 1,         [25] = 1,        [27] = 1,         [31] = 1,
};
static const uint8_t udplite[12] = {
    [0] = 4000 >> 8, [1] = 4000 & 255, [2] = 7000 >> 8, [3] = 7000 & 255,
    [5] = 8,         [6] = 1,          [8] = 'x',
};

static void test_mappings_of_other_protocols_with_ports(void **state)
{
    (void) state;
    LAB_NEED_ROOT();
    static const struct {
        uint8_t protocol;
        const uint8_t *packet;
        size_t size;
    } cases[] = {
        {SCTP, sctp_init, sizeof(sctp_init)},
        {UDPLITE, udplite, sizeof(udplite)},
    };

    for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
        struct mapping_record record = lab_record(1 + i, cases[i].protocol, LAN1, 5000, 7000);
        int inside = lab_raw(LAB_LAN1, AF_INET, cases[i].protocol);
        int outside = lab_raw(LAB_WAN1, AF_INET, cases[i].protocol);
        uint8_t received[4];
        struct ip_address source;

        lab_apply(lab_addition(&record));
        lab_send_raw(outside, LAB_EXTERNAL, cases[i].packet, cases[i].size);
        assert_true(lab_receive_raw(inside, LAB_DEADLINE_MS, received, sizeof(received), &source));
        assert_int_equal(received[0] << 8 | received[1], 4000);
        assert_int_equal(received[2] << 8 | received[3], 5000);
        close(inside);
        close(outside);
    }
}

static void test_exact_mappings_win_over_wide_ones(void **state)
{
    (void) state;
    LAB_NEED_ROOT();
    struct mapping_record all = wide_record(1, 0);
    struct mapping_record exact = lab_record(2, UDP, "192.168.8.2", 5000, 5000);
    struct change changes[] = {lab_addition(&all), {0}};
    int wide = lab_udp(LAB_LAN1, LAN1, 5000), narrow = lab_udp(LAB_LAN2, "192.168.8.2", 5000);
    int outside = lab_udp(LAB_WAN1, WAN1, 4000);

    exact.external_address = lab_address(LAB_EXTERNAL2);
    changes[1] = lab_addition(&exact);
    assert_int_equal(nat_apply(lab_nat, changes, 2, 0), 0);
    lab_expect_admitted(outside, LAB_EXTERNAL2, 5000, narrow);
    assert_true(lab_is_quiet(wide));
    close(wide);
    close(narrow);
    close(outside);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        LAB_TEST(test_ipv6_is_closed_by_default),
        LAB_TEST(test_ipv6_without_internal_prefix_is_left_alone),
        LAB_TEST(test_ipv6_mapping_opens_one_port),
        LAB_TEST(test_ipv6_renewal_and_expiry),
        LAB_TEST(test_ipv6_filters),
        LAB_TEST(test_ipv6_errors_pass),
        LAB_TEST(test_ipv6_echo_needs_a_mapping_of_the_protocol),
        LAB_TEST(test_ipv6_peer_opens_for_one_remote_endpoint),
        LAB_TEST(test_peer_fixes_the_endpoint_towards_one_remote),
        LAB_TEST(test_peer_and_map_share_an_endpoint),
        LAB_TEST(test_mapping_of_a_protocol_covers_all_its_ports),
        LAB_TEST(test_mapping_of_all_protocols_covers_those_without_ports),
        LAB_TEST(test_mappings_of_other_protocols_with_ports),
        LAB_TEST(test_exact_mappings_win_over_wide_ones),
    };

    return cmocka_run_group_tests(tests, lab_setup_world, NULL);
}
