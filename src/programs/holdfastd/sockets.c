/*
 * The sockets clients are heard and answered on: UDP 5351 of both families, datagrams from inside interfaces only, and the
 * announcements that go out on every one of those by multicast (RFC 6887 s14.1.1).
 */

#include <errno.h>
#include <string.h>

#include "base/time.h"
#include "programs/holdfastd/daemon.h"
#include "wire/pcp.h"

#define SOCKET_BUFFER_BYTES ((size_t) 4 << 20)
/* Datagrams taken per wake-up before the loop turns and the tick is sealed. */
#define RECEIVE_ROUNDS 4
/* Addresses of one interface that announcements are sent from: clients know us by any of them, as their default router by
 * the link-local one. */
#define ANNOUNCED_ADDRESSES_MAX 8

#define MULTICAST_IPV4 0xe0000001 /* 224.0.0.1 */

static const struct ip_address multicast_ipv6 = {{[0] = 0xff, [1] = 0x02, [15] = 0x01}};

/* RFC 6887 s8.2: requests are taken from the interfaces where clients live, and from nowhere else. */
/* [R-6887-8.2-2] [R-6887-8.2-3] [R-6886-3.3-9] */
static bool came_from_inside(const struct daemon *daemon, const struct datagram *datagram)
{
    for (size_t i = 0; i < daemon->settings.server.n_inside_interfaces; i++)
        if (daemon->inside_indexes[i] != 0 &&
            daemon->inside_indexes[i] == datagram->interface_index)
            return true;
    return false;
}

void sockets_find_interfaces(struct daemon *daemon)
{
    for (size_t i = 0; i < daemon->settings.server.n_inside_interfaces; i++) {
        const char *name = daemon->settings.server.inside_interfaces[i];
        uint32_t index = machine_interface_index(name);
        bool is_news =
            !daemon->has_looked_inside || (index == 0) != (daemon->inside_indexes[i] == 0);
        if (is_news && index == 0)
            log_event(LOG_LEVEL_WARNING,
                      "an inside interface does not exist: nobody there is heard", "interface",
                      name, NULL);
        else if (is_news && daemon->has_looked_inside)
            log_event(LOG_LEVEL_NOTICE, "an inside interface is there", "interface", name, NULL);
        daemon->inside_indexes[i] = index;
    }
    daemon->has_looked_inside = true;
}

static void receive_from(struct daemon *daemon, struct datagram_socket *socket)
{
    struct datagram datagrams[DATAGRAM_BATCH_MAX];
    uint64_t now_ns = daemon_now_ns(daemon);
    for (int round = 0; round < RECEIVE_ROUNDS; round++) {
        int n = datagram_socket_receive(socket, datagrams, DATAGRAM_BATCH_MAX);
        for (int i = 0; i < n; i++)
            if (!datagrams[i].is_to_many && came_from_inside(daemon, &datagrams[i]))
                server_receive(daemon->server, now_ns, &datagrams[i]);
        if (n < DATAGRAM_BATCH_MAX)
            return;
    }
}

static void ipv4_ready(void *context)
{
    struct daemon *daemon = context;
    receive_from(daemon, daemon->sockets[SOCKET_IPV4]);
}

static void ipv6_ready(void *context)
{
    struct daemon *daemon = context;
    receive_from(daemon, daemon->sockets[SOCKET_IPV6]);
}

static struct datagram_socket *socket_for(const struct daemon *daemon,
                                          const struct ip_address *destination)
{
    return daemon->sockets[ip_address_is_ipv4(destination) ? SOCKET_IPV4 : SOCKET_IPV6];
}

void sockets_send_outbox(struct daemon *daemon)
{
    const struct datagram *datagrams;
    size_t n = server_outbox(daemon->server, &datagrams);
    /* Runs of one family leave together. */
    for (size_t first = 0, last; first < n; first = last) {
        struct datagram_socket *socket = socket_for(daemon, &datagrams[first].destination.address);
        last = first + 1;
        while (last < n && socket_for(daemon, &datagrams[last].destination.address) == socket)
            last++;
        if (socket)
            (void) datagram_socket_send(socket, datagrams + first, last - first);
    }
    server_outbox_clear(daemon->server);
}

/* [R-6887-14.1.3-2] [R-6886-3.2.1-1] */
static void announce_from(struct daemon *daemon, uint32_t interface_index,
                          const struct ip_address *address,
                          struct server_announcement *announcement)
{
    bool is_ipv4 = ip_address_is_ipv4(address);
    struct datagram datagram = {
        .source = {.address = *address, .port = PCP_SERVER_PORT},
        .destination = {.address = is_ipv4 ? ip_address_from_ipv4(MULTICAST_IPV4) : multicast_ipv6,
                        .port = PCP_CLIENT_PORT},
        .interface_index = interface_index,
        .data = announcement->pcp,
        .size_bytes = announcement->pcp_size_bytes,
    };
    struct datagram_socket *socket = socket_for(daemon, address);
    if (!socket)
        return;
    (void) datagram_socket_send(socket, &datagram, 1);
    if (!is_ipv4 || announcement->natpmp_size_bytes == 0)
        return;
    datagram.data = announcement->natpmp;
    datagram.size_bytes = announcement->natpmp_size_bytes;
    (void) datagram_socket_send(socket, &datagram, 1);
}

void sockets_announce(struct daemon *daemon)
{
    struct server_announcement announcement;
    if (!server_take_announcement(daemon->server, daemon_now_ns(daemon), &announcement))
        return;
    for (size_t i = 0; i < daemon->settings.server.n_inside_interfaces; i++) {
        struct ip_address addresses[ANNOUNCED_ADDRESSES_MAX];
        int n = machine_interface_addresses(daemon->settings.server.inside_interfaces[i],
                                            MACHINE_SCOPE_ALL, addresses, ANNOUNCED_ADDRESSES_MAX);
        for (int j = 0; j < n; j++)
            announce_from(daemon, daemon->inside_indexes[i], &addresses[j], &announcement);
    }
}

static int open_one(struct daemon *daemon, enum socket_family family, struct ip_address any)
{
    struct endpoint local = {.address = any, .port = PCP_SERVER_PORT};
    return datagram_socket_open(&local, false, SOCKET_BUFFER_BYTES, &daemon->sockets[family]);
}

int sockets_open(struct daemon *daemon)
{
    int r = open_one(daemon, SOCKET_IPV4, IP_ADDRESS_ANY_IPV4);
    if (r == 0)
        r = open_one(daemon, SOCKET_IPV6, IP_ADDRESS_ANY_IPV6);
    if (r == -EAFNOSUPPORT || r == -EADDRNOTAVAIL) {
        log_message(LOG_LEVEL_NOTICE, "this machine has no IPv6: IPv4 only");
        r = 0;
    }
    if (r < 0)
        log_event(LOG_LEVEL_ERROR,
                  r == -EADDRINUSE ? "UDP port 5351 is taken: another holdfastd, or another PCP or "
                                     "NAT-PMP server, is running"
                                   : "UDP port 5351 cannot be opened",
                  "error", strerror(-r), NULL);
    return r;
}

int sockets_watch(struct daemon *daemon)
{
    int r = loop_watch_fd(daemon->loop, datagram_socket_fd(daemon->sockets[SOCKET_IPV4]),
                          ipv4_ready, daemon, &daemon->socket_watches[SOCKET_IPV4]);
    if (r == 0 && daemon->sockets[SOCKET_IPV6])
        r = loop_watch_fd(daemon->loop, datagram_socket_fd(daemon->sockets[SOCKET_IPV6]),
                          ipv6_ready, daemon, &daemon->socket_watches[SOCKET_IPV6]);
    return r;
}

void sockets_close(struct daemon *daemon)
{
    for (size_t i = 0; i < SOCKET_FAMILIES; i++) {
        loop_watch_free(daemon->socket_watches[i]);
        datagram_socket_close(daemon->sockets[i]);
    }
}
