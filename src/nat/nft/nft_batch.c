/*
 * The kernel reads the whole of a sendmsg before it returns, so all its answers are waiting then
 * and are read without blocking. Only the last message asks for an acknowledgement; errors come
 * unasked.
 *
 * A transaction does not name the ruleset generation it was built for. It holds for every
 * generation, as it never depends on what was read before; so other programs' commits cannot make
 * it stale, and there is nothing to retry.
 *
 * Elements are written by hand: with libnftnl each needs an allocation and twice the time.
 */

#include "nat/nft/nft_batch.h"

#include <endian.h>
#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <libnftnl/common.h>

#define FIRST_ALLOCATION 65536
/* The list's length field has 16 bits; an element needs less than 256 octets. */
#define LIST_SIZE_MAX 48000
#define ELEMENT_SIZE_MAX 512
#define HEADER_SIZE_MAX 512
/* Larger buffers, as a reconcile makes them, are not kept. */
#define KEPT_ALLOCATION_MAX (4 * 1024 * 1024)

void nft_batch_init(struct nft_batch *batch, const char *table)
{
    *batch = (struct nft_batch){.table = table};
}

void nft_batch_deinit(struct nft_batch *batch)
{
    free(batch->data);
    nft_batch_init(batch, batch->table);
}

static bool reserve(struct nft_batch *batch, size_t n_bytes)
{
    size_t n_needed = batch->size_bytes + n_bytes;
    size_t n_allocated = batch->n_allocated ? batch->n_allocated : FIRST_ALLOCATION;
    uint8_t *data;

    if (batch->failed)
        return false;
    if (n_needed <= batch->n_allocated)
        return true;
    while (n_allocated < n_needed)
        n_allocated *= 2;
    data = realloc(batch->data, n_allocated);
    if (!data) {
        batch->failed = true;
        return false;
    }
    batch->data = data;
    batch->n_allocated = n_allocated;
    return true;
}

static char *tail(const struct nft_batch *batch)
{
    return (char *) batch->data + batch->size_bytes;
}

void nft_batch_begin(struct nft_batch *batch)
{
    batch->size_bytes = 0;
    batch->sequence = 0;
    batch->failed = false;
    batch->list.set = NULL;
    if (reserve(batch, HEADER_SIZE_MAX))
        nft_batch_close_message(batch, nftnl_batch_begin(tail(batch), batch->sequence));
}

struct nlmsghdr *nft_batch_open_message(struct nft_batch *batch, uint16_t message_type,
                                        uint16_t flags, size_t room_bytes)
{
    if (!reserve(batch, room_bytes))
        return NULL;
    return nftnl_nlmsg_build_hdr(tail(batch), message_type, NFPROTO_INET, flags, ++batch->sequence);
}

void nft_batch_close_message(struct nft_batch *batch, const struct nlmsghdr *header)
{
    batch->last_offset = batch->size_bytes;
    batch->size_bytes += NLMSG_ALIGN(header->nlmsg_len);
}

static struct nlmsghdr *list_header(const struct nft_batch *batch)
{
    return (struct nlmsghdr *) (void *) tail(batch);
}

static void start_list_message(struct nft_batch *batch)
{
    struct nft_list *list = &batch->list;
    struct nlmsghdr *header;
    struct nlattr *nest;
    uint16_t flags = list->message_type == NFT_MSG_NEWSETELEM ? NLM_F_CREATE : 0;

    header = nft_batch_open_message(batch, list->message_type, flags,
                                    HEADER_SIZE_MAX + ELEMENT_SIZE_MAX);
    if (!header)
        return;
    mnl_attr_put_strz(header, NFTA_SET_ELEM_LIST_TABLE, batch->table);
    mnl_attr_put_strz(header, NFTA_SET_ELEM_LIST_SET, list->set);
    if (list->set_id)
        mnl_attr_put_u32(header, NFTA_SET_ELEM_LIST_SET_ID, htobe32(list->set_id));
    nest = mnl_attr_nest_start(header, NFTA_SET_ELEM_LIST_ELEMENTS);
    list->nest_offset = (size_t) ((uint8_t *) nest - (uint8_t *) header);
}

static void finish_list_message(struct nft_batch *batch)
{
    struct nlmsghdr *header = list_header(batch);

    mnl_attr_nest_end(header, (struct nlattr *) (void *) (tail(batch) + batch->list.nest_offset));
    nft_batch_close_message(batch, header);
    batch->list.nest_offset = 0;
}

void nft_batch_open_list(struct nft_batch *batch, uint16_t message_type, const char *set,
                         uint32_t set_id)
{
    batch->list = (struct nft_list){.set = set, .set_id = set_id, .message_type = message_type};
}

static void put_value(struct nlmsghdr *header, uint16_t attribute, const void *value, size_t size)
{
    struct nlattr *nest = mnl_attr_nest_start(header, attribute);

    mnl_attr_put(header, NFTA_DATA_VALUE, size, value);
    mnl_attr_nest_end(header, nest);
}

/*
 * The kernel restarts an existing element's clock only if told the remaining time; a timeout that
 * equals the present one would otherwise count as no change.
 */
static void put_timeout(struct nlmsghdr *header, uint64_t timeout_ms)
{
    mnl_attr_put_u64(header, NFTA_SET_ELEM_TIMEOUT, htobe64(timeout_ms));
    mnl_attr_put_u64(header, NFTA_SET_ELEM_EXPIRATION, htobe64(timeout_ms));
}

static void put_element(struct nlmsghdr *header, const struct nft_element *element, bool is_new)
{
    struct nlattr *nest = mnl_attr_nest_start(header, NFTA_LIST_ELEM);

    if (element->is_interval_end)
        mnl_attr_put_u32(header, NFTA_SET_ELEM_FLAGS, htobe32(NFT_SET_ELEM_INTERVAL_END));
    put_value(header, NFTA_SET_ELEM_KEY, element->key, element->key_size);
    if (element->is_range)
        put_value(header, NFTA_SET_ELEM_KEY_END, element->key_end, element->key_size);
    if (is_new && element->data_size > 0)
        put_value(header, NFTA_SET_ELEM_DATA, element->data, element->data_size);
    if (is_new && element->timeout_ms > 0)
        put_timeout(header, element->timeout_ms);
    mnl_attr_nest_end(header, nest);
}

void nft_batch_put_element(struct nft_batch *batch, const struct nft_element *element)
{
    bool is_new = batch->list.message_type == NFT_MSG_NEWSETELEM;

    if (batch->failed)
        return;
    if (batch->list.nest_offset == 0)
        start_list_message(batch);
    if (batch->failed || !reserve(batch, list_header(batch)->nlmsg_len + ELEMENT_SIZE_MAX))
        return;
    put_element(list_header(batch), element, is_new);
    if (batch->is_singly || list_header(batch)->nlmsg_len > LIST_SIZE_MAX)
        finish_list_message(batch);
}

void nft_batch_close_list(struct nft_batch *batch)
{
    if (!batch->failed && batch->list.nest_offset > 0)
        finish_list_message(batch);
    batch->list.set = NULL;
}

void nft_batch_put_nothing(struct nft_batch *batch, const char *set)
{
    struct nft_list open = batch->list;

    nft_batch_open_list(batch, NFT_MSG_NEWSETELEM, set, 0);
    start_list_message(batch);
    if (!batch->failed)
        finish_list_message(batch);
    batch->list = open;
}

/* The socket refuses messages larger than its send buffer, so that grows with the message. */
static int send_all(const struct nft_batch *batch, struct mnl_socket *socket)
{
    int buffer_size = (int) batch->size_bytes + 65536;
    ssize_t n_sent;

    if (batch->size_bytes > INT32_MAX / 2 - 65536)
        return -EMSGSIZE;
    if (batch->size_bytes > 65536)
        (void) setsockopt(mnl_socket_get_fd(socket), SOL_SOCKET, SO_SNDBUFFORCE, &buffer_size,
                          sizeof(buffer_size));
    do
        n_sent = mnl_socket_sendto(socket, batch->data, batch->size_bytes);
    while (n_sent < 0 && errno == EINTR);
    return n_sent < 0 ? -errno : 0;
}

/* What the answers say together. */
struct verdict {
    bool is_complete;
    int error;
};

static void read_answers(const void *data, size_t size, const struct nft_error_handler *errors,
                         struct verdict *verdict)
{
    int n_left = (int) size;

    for (const struct nlmsghdr *header = data; mnl_nlmsg_ok(header, n_left);
         header = mnl_nlmsg_next(header, &n_left)) {
        const struct nlmsgerr *answer = mnl_nlmsg_get_payload(header);
        if (header->nlmsg_type != NLMSG_ERROR)
            continue;
        verdict->is_complete = true;
        if (answer->error == 0)
            continue;
        if (verdict->error == 0)
            verdict->error = answer->error;
        if (errors)
            errors->failed(errors->context, header->nlmsg_seq, answer->error);
    }
}

/* A full map answers ENFILE, which elsewhere means something else. */
static int clean_error(const struct verdict *verdict)
{
    if (!verdict->is_complete)
        return -EIO;
    return verdict->error == -ENFILE ? -ENOSPC : verdict->error;
}

static int receive_verdict(struct mnl_socket *socket, const struct nft_error_handler *errors)
{
    uint8_t buffer[8192] __attribute__((aligned(8)));
    struct verdict verdict = {0};

    for (;;) {
        ssize_t size = recv(mnl_socket_get_fd(socket), buffer, sizeof(buffer), MSG_DONTWAIT);
        if (size >= 0)
            read_answers(buffer, (size_t) size, errors, &verdict);
        else if (errno == EAGAIN)
            return clean_error(&verdict);
        else if (errno != EINTR && errno != ENOBUFS)
            return -errno;
    }
}

int nft_batch_send(struct nft_batch *batch, struct mnl_socket *socket,
                   const struct nft_error_handler *errors)
{
    struct nlmsghdr *last;
    int error;

    if (!reserve(batch, HEADER_SIZE_MAX))
        return -ENOMEM;
    last = (struct nlmsghdr *) (void *) (batch->data + batch->last_offset);
    last->nlmsg_flags |= NLM_F_ACK;
    nft_batch_close_message(batch, nftnl_batch_end(tail(batch), ++batch->sequence));
    error = send_all(batch, socket);
    if (batch->n_allocated > KEPT_ALLOCATION_MAX)
        nft_batch_deinit(batch);
    return error < 0 ? error : receive_verdict(socket, errors);
}
