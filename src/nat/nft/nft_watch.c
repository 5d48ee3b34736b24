/*
 * The kernel tells every change of every table to everybody who listens. Our own, which are nearly
 * all, are dropped by a socket filter before they are queued: it looks at the first message's port
 * id, and a packet holds messages of one transaction only. Elements that expire make no news.
 */

#include <netinet/in.h> /* before any of linux/, whose definitions then give way */

#include "nat/nft/nft_watch.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <libmnl/libmnl.h>

#include "nat/nft/nft_sets.h"

struct nft_watch {
    struct mnl_socket *socket;
    uint32_t own_port_id;
};

static int drop_own_news(int fd, uint32_t own_port_id)
{
    /* Loads are in network order, the port id is not. */
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct nlmsghdr, nlmsg_pid)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, htonl(own_port_id), 0, 1),
        BPF_STMT(BPF_RET | BPF_K, 0),
        BPF_STMT(BPF_RET | BPF_K, UINT32_MAX),
    };
    struct sock_fprog program = {.len = N_ELEMENTS(code), .filter = code};

    if (setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program)) < 0)
        return -errno;
    return 0;
}

/* The filter before the subscription, so that nothing of ours slips in. */
static int subscribe(struct nft_watch *watch)
{
    int group = NFNLGRP_NFTABLES;
    int error;

    watch->socket = mnl_socket_open2(NETLINK_NETFILTER, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (!watch->socket)
        return -errno;
    if (mnl_socket_bind(watch->socket, 0, MNL_SOCKET_AUTOPID) < 0)
        return -errno;
    error = drop_own_news(mnl_socket_get_fd(watch->socket), watch->own_port_id);
    if (error < 0)
        return error;
    if (mnl_socket_setsockopt(watch->socket, NETLINK_ADD_MEMBERSHIP, &group, sizeof(group)) < 0)
        return -errno;
    return 0;
}

int nft_watch_open(uint32_t own_port_id, struct nft_watch **ret_watch)
{
    struct nft_watch *watch = calloc(1, sizeof(*watch));
    int error;

    if (!watch)
        return -ENOMEM;
    watch->own_port_id = own_port_id;
    error = subscribe(watch);
    if (error < 0) {
        nft_watch_close(watch);
        return error;
    }
    *ret_watch = watch;
    return 0;
}

void nft_watch_close(struct nft_watch *watch)
{
    if (!watch)
        return;
    if (watch->socket)
        mnl_socket_close(watch->socket);
    free(watch);
}

int nft_watch_fd(const struct nft_watch *watch)
{
    return mnl_socket_get_fd(watch->socket);
}

/*
 * The table's name is attribute 1 of every kind of message that has one (NFTA_TABLE_NAME,
 * NFTA_CHAIN_TABLE, ...).
 */
static int find_table(const struct nlattr *attribute, void *ret_is_ours)
{
    if (mnl_attr_get_type(attribute) == NFTA_TABLE_NAME &&
        mnl_attr_validate(attribute, MNL_TYPE_NUL_STRING) >= 0 &&
        strcmp(mnl_attr_get_str(attribute), NFT_TABLE) == 0)
        *(bool *) ret_is_ours = true;
    return MNL_CB_OK;
}

static bool is_about_us(const struct nft_watch *watch, const struct nlmsghdr *header)
{
    const struct nfgenmsg *message = mnl_nlmsg_get_payload(header);
    uint16_t type = header->nlmsg_type & 0xff;
    bool is_ours = false;

    if (header->nlmsg_type >> 8 != NFNL_SUBSYS_NFTABLES ||
        header->nlmsg_pid == watch->own_port_id || type == NFT_MSG_NEWGEN ||
        type == NFT_MSG_TRACE || message->nfgen_family != NFPROTO_INET)
        return false;
    (void) mnl_attr_parse(header, sizeof(*message), find_table, &is_ours);
    return is_ours;
}

bool nft_watch_read(struct nft_watch *watch)
{
    char buffer[16384] __attribute__((aligned(8)));
    bool is_touched = false;

    for (;;) {
        ssize_t size = recv(nft_watch_fd(watch), buffer, sizeof(buffer), 0);
        int n_left = (int) size;
        if (size < 0 && errno == EINTR)
            continue;
        if (size < 0 && errno == ENOBUFS) {
            is_touched = true;
            continue;
        }
        if (size < 0)
            return is_touched;
        for (const struct nlmsghdr *header = (const void *) buffer; mnl_nlmsg_ok(header, n_left);
             header = mnl_nlmsg_next(header, &n_left))
            if (is_about_us(watch, header))
                is_touched = true;
    }
}
