/*
 * Version numbers say little about distributions' kernels, so each feature is tried: an element
 * with one timeout is added again with another and read back; an element that is not there is
 * destroyed.
 */

#include "nat/nft/nft_features.h"

#include <netinet/in.h> /* before any of linux/, whose definitions then give way */

#include <endian.h>
#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>

#include <libnftnl/common.h>

#include "nat/nft/nft_batch.h"
#include "nat/nft/nft_ruleset.h"

#define PROBE_TABLE "holdfast_probe"
#define PROBE_SET "probe"
#define FIRST_TIMEOUT_MS 60000
#define SECOND_TIMEOUT_MS 3600000

static const struct nft_element present = {.key = {1}, .key_size = 4};
static const struct nft_element missing = {.key = {2}, .key_size = 4};

static void put_set(struct nft_batch *batch)
{
    struct nlmsghdr *header = nft_batch_open_message(batch, NFT_MSG_NEWSET, NLM_F_CREATE, 512);

    if (!header)
        return;
    mnl_attr_put_strz(header, NFTA_SET_TABLE, PROBE_TABLE);
    mnl_attr_put_strz(header, NFTA_SET_NAME, PROBE_SET);
    mnl_attr_put_u32(header, NFTA_SET_FLAGS, htobe32(NFT_SET_TIMEOUT));
    mnl_attr_put_u32(header, NFTA_SET_KEY_LEN, htobe32(present.key_size));
    mnl_attr_put_u32(header, NFTA_SET_ID, htobe32(1));
    nft_batch_close_message(batch, header);
}

static void put_element(struct nft_batch *batch, uint16_t type, struct nft_element element,
                        uint64_t timeout_ms)
{
    element.timeout_ms = timeout_ms;
    nft_batch_open_list(batch, type, PROBE_SET, 0);
    nft_batch_put_element(batch, &element);
    nft_batch_close_list(batch);
}

static int make_table(struct mnl_socket *socket, struct nft_batch *batch)
{
    nft_batch_begin(batch);
    nft_ruleset_put_removal(batch, PROBE_TABLE);
    nft_ruleset_put_empty_table(batch, PROBE_TABLE);
    put_set(batch);
    put_element(batch, NFT_MSG_NEWSETELEM, present, FIRST_TIMEOUT_MS);
    return nft_batch_send(batch, socket, NULL);
}

static int remove_table(struct mnl_socket *socket, struct nft_batch *batch)
{
    nft_batch_begin(batch);
    nft_ruleset_put_removal(batch, PROBE_TABLE);
    return nft_batch_send(batch, socket, NULL);
}

static bool try_destroy(struct mnl_socket *socket, struct nft_batch *batch)
{
    nft_batch_begin(batch);
    put_element(batch, NFT_FEATURES_DESTROY_ELEMENT, missing, 0);
    return nft_batch_send(batch, socket, NULL) == 0;
}

static bool try_sockets(struct mnl_socket *socket, struct nft_batch *batch)
{
    nft_batch_begin(batch);
    nft_ruleset_put_socket_rule(batch);
    return nft_batch_send(batch, socket, NULL) == 0;
}

static int find_timeout(const struct nlattr *attribute, void *ret_timeout_ms)
{
    if (mnl_attr_get_type(attribute) == NFTA_SET_ELEM_TIMEOUT)
        *(uint64_t *) ret_timeout_ms = be64toh(mnl_attr_get_u64(attribute));
    return MNL_CB_OK;
}

static int find_element(const struct nlattr *attribute, void *ret_timeout_ms)
{
    return mnl_attr_parse_nested(attribute, find_timeout, ret_timeout_ms);
}

static int find_list(const struct nlattr *attribute, void *ret_timeout_ms)
{
    if (mnl_attr_get_type(attribute) != NFTA_SET_ELEM_LIST_ELEMENTS)
        return MNL_CB_OK;
    return mnl_attr_parse_nested(attribute, find_element, ret_timeout_ms);
}

static int read_message(const struct nlmsghdr *header, void *ret_timeout_ms)
{
    return mnl_attr_parse(header, sizeof(struct nfgenmsg), find_list, ret_timeout_ms);
}

/* Timeout of the only element, 0 when it cannot be read. */
static uint64_t read_timeout(struct mnl_socket *socket)
{
    char buffer[8192] __attribute__((aligned(8)));
    struct nlmsghdr *header;
    uint64_t timeout_ms = 0;
    int state = MNL_CB_OK;

    header = nftnl_nlmsg_build_hdr(buffer, NFT_MSG_GETSETELEM, NFPROTO_INET, NLM_F_DUMP, 1);
    mnl_attr_put_strz(header, NFTA_SET_ELEM_LIST_TABLE, PROBE_TABLE);
    mnl_attr_put_strz(header, NFTA_SET_ELEM_LIST_SET, PROBE_SET);
    if (mnl_socket_sendto(socket, header, header->nlmsg_len) < 0)
        return 0;
    while (state > MNL_CB_STOP) {
        ssize_t size = mnl_socket_recvfrom(socket, buffer, sizeof(buffer));
        if (size < 0)
            return 0;
        state = mnl_cb_run(buffer, (size_t) size, 1, 0, read_message, &timeout_ms);
    }
    return timeout_ms;
}

static bool try_update(struct mnl_socket *socket, struct nft_batch *batch)
{
    nft_batch_begin(batch);
    put_element(batch, NFT_MSG_NEWSETELEM, present, SECOND_TIMEOUT_MS);
    return nft_batch_send(batch, socket, NULL) == 0 && read_timeout(socket) == SECOND_TIMEOUT_MS;
}

int nft_features_probe(struct mnl_socket *socket, struct nft_features *ret_features)
{
    struct nft_features features;
    struct nft_batch batch;
    int error;

    nft_batch_init(&batch, PROBE_TABLE);
    error = make_table(socket, &batch);
    if (error == 0) {
        features.can_update = try_update(socket, &batch);
        features.can_destroy = try_destroy(socket, &batch);
        features.can_see_sockets = try_sockets(socket, &batch);
        error = remove_table(socket, &batch);
    }
    nft_batch_deinit(&batch);
    if (error == 0)
        *ret_features = features;
    return error;
}
