/*
 * Connection tracking has a hash of its flows by either direction's tuple, and a GET of one tuple is
 * a look-up in it. The kernel answers such a request before the send returns, so its answer is read
 * without waiting.
 */

#include "nat/nft/nft_flow.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>

#include <libmnl/libmnl.h>

#include "nat/nft/nft_tuple.h"

/* After netinet/in.h, whose definitions then win. */
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>

struct nft_flow_finder {
    struct mnl_socket *socket;
    uint32_t sequence;
};

struct directions {
    struct nft_tuple original, reply;
};

int nft_flow_finder_open(struct nft_flow_finder **ret_finder)
{
    struct nft_flow_finder *finder = calloc(1, sizeof(*finder));
    int error = 0;

    if (!finder)
        return -ENOMEM;
    finder->socket = mnl_socket_open2(NETLINK_NETFILTER, SOCK_CLOEXEC);
    if (!finder->socket || mnl_socket_bind(finder->socket, 0, MNL_SOCKET_AUTOPID) < 0)
        error = -errno;
    if (error < 0) {
        nft_flow_finder_close(finder);
        return error;
    }
    *ret_finder = finder;
    return 0;
}

void nft_flow_finder_close(struct nft_flow_finder *finder)
{
    if (!finder)
        return;
    if (finder->socket)
        mnl_socket_close(finder->socket);
    free(finder);
}

static int read_directions(const struct nlattr *attribute, void *context)
{
    struct directions *directions = context;

    switch (mnl_attr_get_type(attribute)) {
    case CTA_TUPLE_ORIG:
        return mnl_attr_parse_nested(attribute, nft_tuple_read, &directions->original);
    case CTA_TUPLE_REPLY:
        return mnl_attr_parse_nested(attribute, nft_tuple_read, &directions->reply);
    }
    return MNL_CB_OK;
}

static int read_entry(const struct nlmsghdr *header, void *ret_directions)
{
    if (mnl_attr_parse(header, sizeof(struct nfgenmsg), read_directions, ret_directions) <
        MNL_CB_STOP)
        return MNL_CB_ERROR;
    return MNL_CB_STOP;
}

static int ask(struct nft_flow_finder *finder, const struct nft_tuple *tuple)
{
    uint8_t buffer[256] __attribute__((aligned(8)));
    bool is_ipv4 = ip_address_is_ipv4(&tuple->source.address);
    struct nlmsghdr *request =
        nft_tuple_put_header(buffer, IPCTNL_MSG_CT_GET, 0, is_ipv4 ? AF_INET : AF_INET6);

    request->nlmsg_seq = ++finder->sequence;
    nft_tuple_put(request, CTA_TUPLE_ORIG, tuple);
    return mnl_socket_sendto(finder->socket, request, request->nlmsg_len) < 0 ? -errno : 0;
}

/* Anything left over from a request that went wrong has another sequence number. */
static int read_answer(const struct nft_flow_finder *finder, struct directions *ret_directions)
{
    uint8_t buffer[8192] __attribute__((aligned(8)));

    for (;;) {
        ssize_t size =
            recv(mnl_socket_get_fd(finder->socket), buffer, sizeof(buffer), MSG_DONTWAIT);
        const struct nlmsghdr *header = (const void *) buffer;
        if (size < 0 && errno == EINTR)
            continue;
        if (size < 0)
            return errno == EAGAIN ? -EIO : -errno;
        if (!mnl_nlmsg_ok(header, (int) size) || header->nlmsg_seq != finder->sequence)
            continue;
        if (mnl_cb_run(buffer, (size_t) size, finder->sequence, 0, read_entry, ret_directions) < 0)
            return -errno;
        return 0;
    }
}

/* Seen from one direction, the answers go to the external endpoint; seen from the other, so do the
 * questions. */
static int pick_external(const struct directions *directions, const struct nft_tuple *asked,
                         struct endpoint *ret_external)
{
    if (endpoint_equal(&directions->original.source, &asked->source))
        *ret_external = directions->reply.destination;
    else if (endpoint_equal(&directions->reply.source, &asked->source))
        *ret_external = directions->original.destination;
    else
        return -ENOENT;
    return 0;
}

int nft_flow_find(struct nft_flow_finder *finder, uint8_t protocol, const struct endpoint *internal,
                  const struct endpoint *remote, struct endpoint *ret_external)
{
    const struct nft_tuple tuple = {
        .source = *internal, .destination = *remote, .protocol = protocol};
    struct directions directions = {0};
    int error = ask(finder, &tuple);

    if (error == 0)
        error = read_answer(finder, &directions);
    return error < 0 ? error : pick_external(&directions, &tuple, ret_external);
}
