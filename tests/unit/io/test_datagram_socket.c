/* Real sockets on loopback, which has 127.0.0.0/8 to play different hosts with. */

#include "io/datagram_socket.h"

#include <errno.h>
#include <net/if.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

static struct endpoint endpoint(const char *text)
{
    struct endpoint parsed;
    assert_int_equal(endpoint_parse(text, 0, &parsed), 0);
    return parsed;
}

static struct datagram_socket *open_socket(const char *local, struct endpoint *ret_local)
{
    struct datagram_socket *socket;
    struct endpoint wanted = endpoint(local);
    assert_int_equal(datagram_socket_open(&wanted, false, 1 << 20, &socket), 0);
    assert_int_equal(datagram_socket_local(socket, ret_local), 0);
    assert_int_not_equal(ret_local->port, 0);
    return socket;
}

/* As many as there are, after the first has come. */
static int receive(struct datagram_socket *socket, struct datagram *ret_datagrams, size_t n)
{
    struct pollfd readable = {datagram_socket_fd(socket), POLLIN, 0};
    assert_int_equal(poll(&readable, 1, 5000), 1);
    return datagram_socket_receive(socket, ret_datagrams, n);
}

static void assert_endpoint(const struct endpoint *actual, const char *address, uint16_t port)
{
    struct endpoint expected = endpoint(address);
    expected.port = port;
    assert_true(endpoint_equal(actual, &expected));
}

/* Client asks 'there' at a socket bound to all addresses; the answer must come from 'there'. */
static void check_round_trip(const char *any, const char *client_text, const char *there)
{
    struct endpoint server_local, client_local;
    struct datagram_socket *server = open_socket(any, &server_local);
    struct datagram_socket *client = open_socket(client_text, &client_local);
    uint8_t octets[4] = {1, 2, 3, 4};
    struct datagram query = {.destination = endpoint(there), .data = octets, .size_bytes = 4};
    query.destination.port = server_local.port;
    assert_int_equal(datagram_socket_send(client, &query, 1), 1);

    struct datagram received;
    assert_int_equal(receive(server, &received, 1), 1);
    assert_true(endpoint_equal(&received.source, &client_local));
    assert_endpoint(&received.destination, there, server_local.port);
    assert_int_equal(received.interface_index, if_nametoindex("lo"));
    assert_false(received.is_to_many);
    assert_int_equal(received.size_bytes, 4);
    assert_memory_equal(received.data, octets, 4);

    struct datagram answer = {
        .source = received.destination,
        .destination = received.source,
        .interface_index = received.interface_index,
        .data = received.data,
        .size_bytes = 2,
    };
    assert_int_equal(datagram_socket_send(server, &answer, 1), 1);
    assert_int_equal(receive(client, &received, 1), 1);
    assert_endpoint(&received.source, there, server_local.port);
    assert_int_equal(received.size_bytes, 2);
    datagram_socket_close(server);
    datagram_socket_close(client);
}

static void test_datagram_socket_send_ipv4_answers_from_where_it_was_asked(void **state)
{
    (void) state;
    check_round_trip("0.0.0.0", "127.0.0.7", "127.0.0.9");
}

static void test_datagram_socket_send_ipv6_answers_from_where_it_was_asked(void **state)
{
    (void) state;
    check_round_trip("::", "::1", "::1");
}

static void test_datagram_socket_open_both_families_share_a_port(void **state)
{
    (void) state;
    struct endpoint ipv6_local;
    struct datagram_socket *ipv6 = open_socket("::", &ipv6_local);
    struct endpoint ipv4_local = endpoint("0.0.0.0");
    ipv4_local.port = ipv6_local.port;
    struct datagram_socket *ipv4;
    assert_int_equal(datagram_socket_open(&ipv4_local, false, 0, &ipv4), 0);
    datagram_socket_close(ipv4);
    datagram_socket_close(ipv6);
}

static void test_datagram_socket_open_taken_port_fails_unless_reused(void **state)
{
    (void) state;
    struct endpoint local;
    struct datagram_socket *first, *second;
    struct endpoint wanted = endpoint("127.0.0.1");
    assert_int_equal(datagram_socket_open(&wanted, true, 0, &first), 0);
    assert_int_equal(datagram_socket_local(first, &local), 0);
    assert_int_equal(datagram_socket_open(&local, false, 0, &second), -EADDRINUSE);
    assert_int_equal(datagram_socket_open(&local, true, 0, &second), 0);
    datagram_socket_close(first);
    datagram_socket_close(second);
}

static void test_datagram_socket_open_raises_buffers(void **state)
{
    (void) state;
    struct endpoint local;
    struct datagram_socket *socket = open_socket("127.0.0.1", &local);
    int size = 0;
    socklen_t length = sizeof(size);
    assert_int_equal(getsockopt(datagram_socket_fd(socket), SOL_SOCKET, SO_RCVBUF, &size, &length),
                     0);
    /* Without CAP_NET_ADMIN the kernel stops at net.core.rmem_max, 212992 by default. */
    assert_true(size >= 212992);
    datagram_socket_close(socket);
}

static void test_datagram_socket_receive_nothing_there(void **state)
{
    (void) state;
    struct endpoint local;
    struct datagram_socket *socket = open_socket("127.0.0.1", &local);
    struct datagram received;
    assert_int_equal(datagram_socket_receive(socket, &received, 1), 0);
    datagram_socket_close(socket);
}

static void test_datagram_socket_receive_too_long_is_cut(void **state)
{
    (void) state;
    struct endpoint local;
    struct datagram_socket *socket = open_socket("127.0.0.1", &local);
    uint8_t octets[DATAGRAM_SIZE_MAX + 100];
    memset(octets, 7, sizeof(octets));
    struct datagram sent = {.destination = local, .data = octets, .size_bytes = sizeof(octets)};
    assert_int_equal(datagram_socket_send(socket, &sent, 1), 1);
    struct datagram received;
    assert_int_equal(receive(socket, &received, 1), 1);
    assert_int_equal(received.size_bytes, DATAGRAM_SIZE_MAX);
    datagram_socket_close(socket);
}

static void test_datagram_socket_send_more_than_one_batch(void **state)
{
    (void) state;
    enum { N_SENT = 2 * DATAGRAM_BATCH_MAX + 5 };
    struct endpoint local;
    struct datagram_socket *socket = open_socket("127.0.0.1", &local);
    uint8_t octets[N_SENT];
    struct datagram sent[N_SENT];
    for (size_t i = 0; i < N_SENT; i++) {
        octets[i] = (uint8_t) i;
        sent[i] = (struct datagram){.destination = local, .data = &octets[i], .size_bytes = 1};
    }
    assert_int_equal(datagram_socket_send(socket, sent, N_SENT), N_SENT);
    struct datagram received[N_SENT];
    size_t n_received = 0;
    const int expected[3] = {DATAGRAM_BATCH_MAX, DATAGRAM_BATCH_MAX, 5};
    for (int i = 0; i < 3; i++) {
        assert_int_equal(receive(socket, received, N_SENT), expected[i]);
        for (int k = 0; k < expected[i]; k++)
            assert_int_equal(received[k].data[0], (uint8_t) n_received++);
    }
    datagram_socket_close(socket);
}

static void test_datagram_socket_send_passes_over_refused_ones(void **state)
{
    (void) state;
    struct endpoint local;
    struct datagram_socket *socket = open_socket("127.0.0.1", &local);
    uint8_t octets[3] = {1, 2, 3};
    struct datagram sent[6];
    for (size_t i = 0; i < 6; i++)
        sent[i] = (struct datagram){.destination = local, .data = &octets[i / 2], .size_bytes = 1};
    sent[0].source = endpoint("192.0.2.1"); /* not ours */
    sent[2].destination = endpoint("[::1]:9");
    sent[4].source = endpoint("::1");
    assert_int_equal(datagram_socket_send(socket, sent, 6), 3);
    struct datagram received[4];
    assert_int_equal(receive(socket, received, 4), 3);
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(received[i].data[0], i + 1);
    datagram_socket_close(socket);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_datagram_socket_send_ipv4_answers_from_where_it_was_asked),
        cmocka_unit_test(test_datagram_socket_send_ipv6_answers_from_where_it_was_asked),
        cmocka_unit_test(test_datagram_socket_open_both_families_share_a_port),
        cmocka_unit_test(test_datagram_socket_open_taken_port_fails_unless_reused),
        cmocka_unit_test(test_datagram_socket_open_raises_buffers),
        cmocka_unit_test(test_datagram_socket_receive_nothing_there),
        cmocka_unit_test(test_datagram_socket_receive_too_long_is_cut),
        cmocka_unit_test(test_datagram_socket_send_more_than_one_batch),
        cmocka_unit_test(test_datagram_socket_send_passes_over_refused_ones),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
