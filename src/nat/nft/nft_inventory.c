/* Two short dumps. Somebody's commit in between makes the kernel say so, and we ask again. */

#include <netinet/in.h> /* before any of linux/, whose definitions then give way */

#include "nat/nft/nft_inventory.h"

#include <endian.h>
#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <stdbool.h>
#include <string.h>

#include <libnftnl/common.h>

#include "nat/nft/nft_ruleset.h"
#include "nat/nft/nft_sets.h"

#define ATTEMPTS_MAX 10

/* One dump. The attributes' numbers differ between chains and sets. */
struct dump {
    uint16_t request;
    uint16_t table_attribute, name_attribute, flags_attribute; /* flags: 0 for none */
    uint16_t description_attribute;                            /* 0: none */
    uint32_t map_size;
    bool (*is_known)(const char *name);
    enum nft_inventory result;
};

/* What one message of a dump says. */
struct object {
    const struct dump *dump;
    const char *table, *name;
    uint32_t flags;
    uint32_t size;
};

static int read_description(const struct nlattr *attribute, void *ret_size)
{
    if (mnl_attr_get_type(attribute) == NFTA_SET_DESC_SIZE)
        *(uint32_t *) ret_size = be32toh(mnl_attr_get_u32(attribute));
    return MNL_CB_OK;
}

static int read_attribute(const struct nlattr *attribute, void *context)
{
    struct object *object = context;
    uint16_t type = mnl_attr_get_type(attribute);

    if (type == object->dump->table_attribute)
        object->table = mnl_attr_get_str(attribute);
    else if (type == object->dump->name_attribute)
        object->name = mnl_attr_get_str(attribute);
    else if (type == object->dump->flags_attribute && type != 0)
        object->flags = be32toh(mnl_attr_get_u32(attribute));
    else if (type == object->dump->description_attribute && type != 0)
        return mnl_attr_parse_nested(attribute, read_description, &object->size);
    return MNL_CB_OK;
}

/* All maps with a size have the same one. */
static bool has_wrong_size(const struct object *object)
{
    return (object->flags & NFT_SET_MAP) && object->size != object->dump->map_size &&
           strcmp(object->name, nft_set_name(NFT_FAMILY_IPV4, NFT_SCOPE_PORT, NFT_ROLE_INBOUND)) ==
               0;
}

static int read_object(const struct nlmsghdr *header, void *context)
{
    struct dump *dump = context;
    const struct nfgenmsg *message = mnl_nlmsg_get_payload(header);
    struct object object = {.dump = dump, .table = "", .name = ""};

    if (mnl_attr_parse(header, sizeof(*message), read_attribute, &object) < 0)
        return MNL_CB_ERROR;
    /* Anonymous sets come and go with their rules. */
    if (message->nfgen_family != NFPROTO_INET || strcmp(object.table, NFT_TABLE) != 0 ||
        (object.flags & NFT_SET_ANONYMOUS))
        return MNL_CB_OK;
    if (!dump->is_known(object.name) || has_wrong_size(&object))
        dump->result = NFT_INVENTORY_STRANGE;
    else if (dump->result == NFT_INVENTORY_EMPTY)
        dump->result = NFT_INVENTORY_OURS;
    return MNL_CB_OK;
}

static int run_dump(struct mnl_socket *socket, struct dump *dump)
{
    char buffer[16384] __attribute__((aligned(8)));
    struct nlmsghdr *header =
        nftnl_nlmsg_build_hdr(buffer, dump->request, NFPROTO_INET, NLM_F_DUMP, 1);
    bool is_interrupted = false;
    int state = MNL_CB_OK;

    if (mnl_socket_sendto(socket, header, header->nlmsg_len) < 0)
        return -errno;
    while (state > MNL_CB_STOP) {
        ssize_t size = mnl_socket_recvfrom(socket, buffer, sizeof(buffer));
        if (size < 0)
            return -errno;
        state = mnl_cb_run(buffer, (size_t) size, 1, 0, read_object, dump);
        /* The rest of an interrupted dump has still to be read. */
        if (state < 0 && errno != EINTR)
            return -errno;
        if (state < 0) {
            is_interrupted = true;
            state = MNL_CB_OK;
        }
    }
    return is_interrupted ? -EINTR : 0;
}

static int run_dumps(struct mnl_socket *socket, uint32_t map_size,
                     enum nft_inventory *ret_inventory)
{
    struct dump dumps[] = {
        {.request = NFT_MSG_GETCHAIN,
         .table_attribute = NFTA_CHAIN_TABLE,
         .name_attribute = NFTA_CHAIN_NAME,
         .is_known = nft_ruleset_knows_chain},
        {.request = NFT_MSG_GETSET,
         .table_attribute = NFTA_SET_TABLE,
         .name_attribute = NFTA_SET_NAME,
         .flags_attribute = NFTA_SET_FLAGS,
         .description_attribute = NFTA_SET_DESC,
         .map_size = map_size,
         .is_known = nft_ruleset_knows_set},
    };
    enum nft_inventory worst = NFT_INVENTORY_EMPTY;

    for (size_t i = 0; i < N_ELEMENTS(dumps); i++) {
        int error = run_dump(socket, &dumps[i]);
        if (error < 0)
            return error;
        if (dumps[i].result > worst)
            worst = dumps[i].result;
    }
    *ret_inventory = worst;
    return 0;
}

int nft_inventory_take(struct mnl_socket *socket, uint32_t map_size,
                       enum nft_inventory *ret_inventory)
{
    int error = -EINTR;

    for (int attempt = 0; attempt < ATTEMPTS_MAX && error == -EINTR; attempt++)
        error = run_dumps(socket, map_size, ret_inventory);
    return error;
}
