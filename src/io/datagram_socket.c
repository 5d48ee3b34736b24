/*
 * Batches both ways: one system call moves up to DATAGRAM_BATCH_MAX datagrams. The packet info control message tells the
 * destination address and the interface of each, and is given back when answering, so that a host with many addresses
 * answers from the one it was asked at.
 */

#include "io/datagram_socket.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "io/sockaddr.h"

struct slot {
    struct sockaddr_storage peer;
    struct iovec octets;
    _Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(struct in6_pktinfo))];
};

struct datagram_socket {
    int fd;
    int family;
    uint16_t local_port;
    struct slot slots[DATAGRAM_BATCH_MAX];
    struct mmsghdr messages[DATAGRAM_BATCH_MAX];
    uint8_t received[DATAGRAM_BATCH_MAX][DATAGRAM_SIZE_MAX];
};

static int set_option(int fd, int level, int name, int value)
{
    return setsockopt(fd, level, name, &value, sizeof(value)) < 0 ? -errno : 0;
}

static int set_family_options(const struct datagram_socket *socket)
{
    if (socket->family == AF_INET)
        return set_option(socket->fd, IPPROTO_IP, IP_PKTINFO, 1);
    int error = set_option(socket->fd, IPPROTO_IPV6, IPV6_V6ONLY, 1);
    return error < 0 ? error : set_option(socket->fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, 1);
}

/* FORCE passes net.core.rmem_max and needs CAP_NET_ADMIN; without it as much as is allowed. */
static void raise_buffers(int fd, size_t buffer_bytes)
{
    /* The kernel doubles the value. */
    int size = buffer_bytes > INT_MAX / 2 ? INT_MAX / 2 : (int) buffer_bytes;
    if (size == 0)
        return;
    if (set_option(fd, SOL_SOCKET, SO_RCVBUFFORCE, size) < 0)
        (void) set_option(fd, SOL_SOCKET, SO_RCVBUF, size);
    if (set_option(fd, SOL_SOCKET, SO_SNDBUFFORCE, size) < 0)
        (void) set_option(fd, SOL_SOCKET, SO_SNDBUF, size);
}

static int read_local(int fd, struct endpoint *ret_local)
{
    struct sockaddr_storage name;
    socklen_t size = sizeof(name);
    if (getsockname(fd, (struct sockaddr *) &name, &size) < 0)
        return -errno;
    *ret_local = sockaddr_to_endpoint(&name);
    return 0;
}

static int set_up(struct datagram_socket *socket, const struct endpoint *local, bool reuse,
                  size_t buffer_bytes)
{
    int error = set_family_options(socket);
    if (error == 0 && reuse)
        error = set_option(socket->fd, SOL_SOCKET, SO_REUSEADDR, 1);
    if (error < 0)
        return error;
    raise_buffers(socket->fd, buffer_bytes);
    struct sockaddr_storage name;
    socklen_t size = sockaddr_from_endpoint(local, 0, &name);
    if (bind(socket->fd, (const struct sockaddr *) &name, size) < 0)
        return -errno;
    struct endpoint bound;
    error = read_local(socket->fd, &bound);
    if (error < 0)
        return error;
    socket->local_port = bound.port;
    return 0;
}

/* [R-6887-8-1] */
int datagram_socket_open(const struct endpoint *local, bool reuse, size_t buffer_bytes,
                         struct datagram_socket **ret_socket)
{
    struct datagram_socket *opened = calloc(1, sizeof(*opened));
    if (!opened)
        return -ENOMEM;
    opened->family = sockaddr_family(&local->address);
    opened->fd = socket(opened->family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (opened->fd < 0) {
        int error = -errno;
        free(opened);
        return error;
    }
    int error = set_up(opened, local, reuse, buffer_bytes);
    if (error < 0) {
        datagram_socket_close(opened);
        return error;
    }
    *ret_socket = opened;
    return 0;
}

void datagram_socket_close(struct datagram_socket *socket)
{
    if (!socket)
        return;
    close(socket->fd);
    free(socket);
}

int datagram_socket_fd(const struct datagram_socket *socket)
{
    return socket->fd;
}

int datagram_socket_local(const struct datagram_socket *socket, struct endpoint *ret_local)
{
    return read_local(socket->fd, ret_local);
}

static void prepare_receive(struct datagram_socket *socket, size_t i)
{
    struct slot *slot = &socket->slots[i];
    slot->octets = (struct iovec){socket->received[i], DATAGRAM_SIZE_MAX};
    socket->messages[i].msg_hdr = (struct msghdr){
        .msg_name = &slot->peer,
        .msg_namelen = sizeof(slot->peer),
        .msg_iov = &slot->octets,
        .msg_iovlen = 1,
        .msg_control = slot->control,
        .msg_controllen = sizeof(slot->control),
    };
}

static void read_packet_info(struct msghdr *message, struct datagram *datagram)
{
    for (struct cmsghdr *header = CMSG_FIRSTHDR(message); header;
         header = CMSG_NXTHDR(message, header)) {
        if (header->cmsg_level == IPPROTO_IP && header->cmsg_type == IP_PKTINFO) {
            struct in_pktinfo info;
            memcpy(&info, CMSG_DATA(header), sizeof(info));
            datagram->destination.address = ip_address_from_ipv4(ntohl(info.ipi_addr.s_addr));
            /* Broadcasts and multicasts are received by an address of ours that they do not name. */
            datagram->is_to_many = info.ipi_addr.s_addr != info.ipi_spec_dst.s_addr;
            datagram->interface_index = (uint32_t) info.ipi_ifindex;
        } else if (header->cmsg_level == IPPROTO_IPV6 && header->cmsg_type == IPV6_PKTINFO) {
            struct in6_pktinfo info;
            memcpy(&info, CMSG_DATA(header), sizeof(info));
            memcpy(datagram->destination.address.octets, &info.ipi6_addr,
                   sizeof(datagram->destination.address.octets));
            datagram->is_to_many = ip_address_is_multicast(&datagram->destination.address);
            datagram->interface_index = info.ipi6_ifindex;
        }
    }
}

int datagram_socket_receive(struct datagram_socket *socket, struct datagram *ret_datagrams,
                            size_t n_datagrams)
{
    size_t n_wanted = n_datagrams < DATAGRAM_BATCH_MAX ? n_datagrams : DATAGRAM_BATCH_MAX;
    for (size_t i = 0; i < n_wanted; i++)
        prepare_receive(socket, i);
    int n_received;
    do {
        n_received = recvmmsg(socket->fd, socket->messages, (unsigned) n_wanted, 0, NULL);
    } while (n_received < 0 && errno == EINTR);
    if (n_received < 0)
        return errno == EAGAIN ? 0 : -errno;
    for (size_t i = 0; i < (size_t) n_received; i++) {
        struct datagram *datagram = &ret_datagrams[i];
        *datagram = (struct datagram){
            .source = sockaddr_to_endpoint(&socket->slots[i].peer),
            .destination.port = socket->local_port,
            .data = socket->received[i],
            .size_bytes = socket->messages[i].msg_len,
        };
        read_packet_info(&socket->messages[i].msg_hdr, datagram);
    }
    return n_received;
}

static void write_control(struct msghdr *message, struct slot *slot, int level, int type,
                          const void *info, size_t size_bytes)
{
    message->msg_control = slot->control;
    message->msg_controllen = CMSG_SPACE(size_bytes);
    struct cmsghdr *header = CMSG_FIRSTHDR(message);
    header->cmsg_level = level;
    header->cmsg_type = type;
    header->cmsg_len = CMSG_LEN(size_bytes);
    memcpy(CMSG_DATA(header), info, size_bytes);
}

static void write_packet_info(const struct datagram *datagram, int family, struct msghdr *message,
                              struct slot *slot)
{
    bool has_source = !ip_address_is_any(&datagram->source.address);
    if (!has_source && datagram->interface_index == 0)
        return;
    memset(slot->control, 0, sizeof(slot->control));
    if (family == AF_INET) {
        struct in_pktinfo info = {.ipi_ifindex = (int) datagram->interface_index};
        if (has_source)
            info.ipi_spec_dst.s_addr = htonl(ip_address_to_ipv4(&datagram->source.address));
        write_control(message, slot, IPPROTO_IP, IP_PKTINFO, &info, sizeof(info));
    } else {
        struct in6_pktinfo info = {.ipi6_ifindex = datagram->interface_index};
        if (has_source)
            memcpy(&info.ipi6_addr, datagram->source.address.octets, sizeof(info.ipi6_addr));
        write_control(message, slot, IPPROTO_IPV6, IPV6_PKTINFO, &info, sizeof(info));
    }
}

/* False when the addresses are not of the socket's family. */
static bool prepare_send(struct datagram_socket *socket, const struct datagram *datagram, size_t i)
{
    if (sockaddr_family(&datagram->destination.address) != socket->family)
        return false;
    if (!ip_address_is_any(&datagram->source.address) &&
        sockaddr_family(&datagram->source.address) != socket->family)
        return false;
    struct slot *slot = &socket->slots[i];
    slot->octets = (struct iovec){datagram->data, datagram->size_bytes};
    struct msghdr *message = &socket->messages[i].msg_hdr;
    *message = (struct msghdr){
        .msg_name = &slot->peer,
        .msg_iov = &slot->octets,
        .msg_iovlen = 1,
    };
    message->msg_namelen =
        sockaddr_from_endpoint(&datagram->destination, datagram->interface_index, &slot->peer);
    write_packet_info(datagram, socket->family, message, slot);
    return true;
}

/* sendmmsg() stops before the first datagram refused and reports why only when that one comes first. */
static size_t send_prepared(struct datagram_socket *socket, size_t n_prepared)
{
    size_t n_sent = 0;
    for (size_t i = 0; i < n_prepared;) {
        int n = sendmmsg(socket->fd, &socket->messages[i], (unsigned) (n_prepared - i), 0);
        if (n > 0) {
            i += (size_t) n;
            n_sent += (size_t) n;
        } else if (n < 0 && errno == EINTR) {
            continue;
        } else if (n < 0 && errno == EAGAIN) {
            /* The send buffer is full: so it is for the rest. */
            break;
        } else {
            i++;
        }
    }
    return n_sent;
}

size_t datagram_socket_send(struct datagram_socket *socket, const struct datagram *datagrams,
                            size_t n_datagrams)
{
    size_t n_sent = 0, n_prepared = 0;
    for (size_t i = 0; i < n_datagrams; i++) {
        if (prepare_send(socket, &datagrams[i], n_prepared))
            n_prepared++;
        if (n_prepared == DATAGRAM_BATCH_MAX || i + 1 == n_datagrams) {
            n_sent += send_prepared(socket, n_prepared);
            n_prepared = 0;
        }
    }
    return n_sent;
}
