/* Flows that exist without us: where they are outside, and that PEER mappings leave them alone. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/util.h"
#include "nft_lab.h"

static struct mapping_record peer_of(uint8_t protocol, const struct endpoint *external)
{
    struct mapping_record record = lab_record(1, protocol, LAN1, 5000, external->port);

    record.kind = MAPPING_KIND_PEER;
    record.remote_address = lab_address(WAN1);
    record.remote_port = 4000;
    return record;
}

static int find(uint8_t protocol, struct endpoint *ret_external)
{
    struct endpoint internal = lab_endpoint(LAN1, 5000), remote = lab_endpoint(WAN1, 4000);

    return nat_find_flow(lab_nat, protocol, &internal, &remote, ret_external);
}

static void test_find_flow_tells_where_a_datagram_left(void **state)
{
    (void) state;
    LAB_NEED_ROOT();
    int inside = lab_udp(LAB_LAN1, LAN1, 5000), outside = lab_udp(LAB_WAN1, WAN1, 4000);
    struct endpoint seen, found;

    assert_int_equal(find(UDP, &found), -ENOENT);
    seen = lab_source_seen(inside, WAN1, outside);
    assert_true(seen.port >= 32768);
    assert_int_equal(find(UDP, &found), 0);
    assert_true(endpoint_equal(&found, &seen));
    assert_int_equal(find(TCP, &found), -ENOENT);
    lab_forget_flows();
    assert_int_equal(find(UDP, &found), -ENOENT);
    close(inside);
    close(outside);
}

static void test_find_flow_tells_where_a_flow_came_in(void **state)
{
    (void) state;
    LAB_NEED_ROOT();
    struct mapping_record record = lab_record(1, UDP, LAN1, 5000, 7000);
    int inside = lab_udp(LAB_LAN1, LAN1, 5000), outside = lab_udp(LAB_WAN1, WAN1, 4000);
    struct endpoint found;

    lab_apply(lab_addition(&record));
    lab_expect_admitted(outside, LAB_EXTERNAL, 7000, inside);
    assert_int_equal(find(UDP, &found), 0);
    assert_true(lab_endpoint_is(&found, LAB_EXTERNAL, 7000));
    close(inside);
    close(outside);
}

static void test_find_flow_of_ipv6_is_where_it_is(void **state)
{
    (void) state;
    LAB_NEED_ROOT();
    int inside = lab_udp(LAB_LAN1, LAN1_6, 5000), outside = lab_udp(LAB_WAN1, WAN1_6, 4000);
    struct endpoint internal = lab_endpoint(LAN1_6, 5000), remote = lab_endpoint(WAN1_6, 4000);
    struct endpoint found;

    lab_send(inside, WAN1_6, 4000, "out");
    lab_expect(outside, "out");
    assert_int_equal(nat_find_flow(lab_nat, UDP, &internal, &remote, &found), 0);
    assert_true(endpoint_equal(&found, &internal));
    close(inside);
    close(outside);
}

static void expect_octet(int from, int to)
{
    char octet = 'x';

    assert_int_equal(send(from, &octet, 1, MSG_NOSIGNAL), 1);
    assert_int_equal(recv(to, &octet, 1, 0), 1);
}

/* Its first segment after connection tracking has forgotten it leaves from the same endpoint. */
static void test_peer_of_a_connection_keeps_it_and_its_end_leaves_it(void **state)
{
    (void) state;
    LAB_NEED_ROOT();
    int listener = lab_tcp_listen(LAB_WAN1, WAN1, 4000), accepted;
    int inside = lab_tcp_connect(LAB_LAN1, LAN1, 5000, WAN1, 4000, LAB_DEADLINE_MS);
    struct timeval deadline = {.tv_sec = LAB_DEADLINE_MS / 1000};
    struct mapping_record record;
    struct endpoint seen, found;
    struct change removal;

    assert_true(inside >= 0);
    accepted = lab_tcp_accept(listener, &seen);
    assert_int_equal(setsockopt(inside, SOL_SOCKET, SO_RCVTIMEO, &deadline, sizeof(deadline)), 0);
    assert_int_equal(setsockopt(accepted, SOL_SOCKET, SO_RCVTIMEO, &deadline, sizeof(deadline)), 0);
    assert_int_equal(find(TCP, &found), 0);
    assert_true(endpoint_equal(&found, &seen));
    record = peer_of(TCP, &found);
    lab_apply(lab_addition(&record));
    expect_octet(inside, accepted);
    expect_octet(accepted, inside);
    lab_forget_flows();
    expect_octet(inside, accepted);
    expect_octet(accepted, inside);
    removal = lab_removal(&record);
    lab_apply(removal);
    assert_int_equal(nat_cut_flows(lab_nat, &removal, 1), 0);
    expect_octet(inside, accepted);
    expect_octet(accepted, inside);
    close(inside);
    close(accepted);
    close(listener);
}

/* What came in goes with the mapping that let it in; the host's own next datagram is ordinary. */
static void test_peer_that_ends_takes_what_it_let_in(void **state)
{
    (void) state;
    LAB_NEED_ROOT();
    struct endpoint external = {.port = 7100}, seen;
    struct mapping_record record = peer_of(UDP, &external);
    struct change removal = lab_removal(&record);
    int inside = lab_udp(LAB_LAN1, LAN1, 5000), outside = lab_udp(LAB_WAN1, WAN1, 4000);

    lab_apply(lab_addition(&record));
    lab_expect_admitted(outside, LAB_EXTERNAL, 7100, inside);
    lab_apply(removal);
    assert_int_equal(nat_cut_flows(lab_nat, &removal, 1), 0);
    lab_expect_kept_out(outside, LAB_EXTERNAL, 7100, inside);
    seen = lab_source_seen(inside, WAN1, outside);
    assert_true(seen.port >= 32768);
    close(inside);
    close(outside);
}

/* Where it was, nobody answers any more. */
static void test_peer_that_moves_takes_its_flow_along(void **state)
{
    (void) state;
    LAB_NEED_ROOT();
    struct endpoint external = {.port = 7100}, seen;
    struct mapping_record record = peer_of(UDP, &external), moved = record;
    struct change move = lab_replacement(&record, &moved);
    int inside = lab_udp(LAB_LAN1, LAN1, 5000), outside = lab_udp(LAB_WAN1, WAN1, 4000);

    moved.external_address = lab_address(LAB_EXTERNAL2);
    move = lab_replacement(&record, &moved);
    lab_apply(lab_addition(&record));
    seen = lab_source_seen(inside, WAN1, outside);
    assert_true(lab_endpoint_is(&seen, LAB_EXTERNAL, 7100));
    lab_apply(move);
    assert_int_equal(nat_cut_flows(lab_nat, &move, 1), 0);
    seen = lab_source_seen(inside, WAN1, outside);
    assert_true(lab_endpoint_is(&seen, LAB_EXTERNAL2, 7100));
    close(inside);
    close(outside);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        LAB_TEST(test_find_flow_tells_where_a_datagram_left),
        LAB_TEST(test_find_flow_tells_where_a_flow_came_in),
        LAB_TEST(test_find_flow_of_ipv6_is_where_it_is),
        LAB_TEST(test_peer_of_a_connection_keeps_it_and_its_end_leaves_it),
        LAB_TEST(test_peer_that_ends_takes_what_it_let_in),
        LAB_TEST(test_peer_that_moves_takes_its_flow_along),
    };

    return cmocka_run_group_tests(tests, lab_setup_world, NULL);
}
