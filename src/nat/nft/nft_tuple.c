/* Attributes in network order to endpoints and back. What has no ports keeps port 0. */

#include "nat/nft/nft_tuple.h"

#include <arpa/inet.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <string.h>

struct nlmsghdr *nft_tuple_put_header(void *at, uint16_t type, uint16_t flags, uint8_t family)
{
    struct nlmsghdr *header = mnl_nlmsg_put_header(at);
    struct nfgenmsg *message;

    header->nlmsg_type = (uint16_t) (NFNL_SUBSYS_CTNETLINK << 8 | type);
    header->nlmsg_flags = (uint16_t) (NLM_F_REQUEST | flags);
    message = mnl_nlmsg_put_extra_header(header, sizeof(*message));
    message->nfgen_family = family;
    message->version = NFNETLINK_V0;
    return header;
}

static void put_addresses(struct nlmsghdr *header, const struct nft_tuple *tuple)
{
    const uint8_t *source = tuple->source.address.octets;
    const uint8_t *destination = tuple->destination.address.octets;

    if (ip_address_is_ipv4(&tuple->source.address)) {
        mnl_attr_put(header, CTA_IP_V4_SRC, 4, source + 12);
        mnl_attr_put(header, CTA_IP_V4_DST, 4, destination + 12);
    } else {
        mnl_attr_put(header, CTA_IP_V6_SRC, 16, source);
        mnl_attr_put(header, CTA_IP_V6_DST, 16, destination);
    }
}

void nft_tuple_put(struct nlmsghdr *header, uint16_t attribute, const struct nft_tuple *tuple)
{
    struct nlattr *nest = mnl_attr_nest_start(header, attribute), *part;

    part = mnl_attr_nest_start(header, CTA_TUPLE_IP);
    put_addresses(header, tuple);
    mnl_attr_nest_end(header, part);
    part = mnl_attr_nest_start(header, CTA_TUPLE_PROTO);
    mnl_attr_put_u8(header, CTA_PROTO_NUM, tuple->protocol);
    mnl_attr_put_u16(header, CTA_PROTO_SRC_PORT, htons(tuple->source.port));
    mnl_attr_put_u16(header, CTA_PROTO_DST_PORT, htons(tuple->destination.port));
    mnl_attr_nest_end(header, part);
    mnl_attr_nest_end(header, nest);
}

static int read_addresses(const struct nlattr *attribute, void *context)
{
    struct nft_tuple *tuple = context;
    const void *payload = mnl_attr_get_payload(attribute);
    uint16_t size = mnl_attr_get_payload_len(attribute);

    switch (mnl_attr_get_type(attribute)) {
    case CTA_IP_V4_SRC:
        if (size == 4)
            tuple->source.address = ip_address_from_ipv4(ntohl(mnl_attr_get_u32(attribute)));
        break;
    case CTA_IP_V4_DST:
        if (size == 4)
            tuple->destination.address = ip_address_from_ipv4(ntohl(mnl_attr_get_u32(attribute)));
        break;
    case CTA_IP_V6_SRC:
        if (size == 16)
            memcpy(tuple->source.address.octets, payload, 16);
        break;
    case CTA_IP_V6_DST:
        if (size == 16)
            memcpy(tuple->destination.address.octets, payload, 16);
        break;
    }
    return MNL_CB_OK;
}

static int read_protocol(const struct nlattr *attribute, void *context)
{
    struct nft_tuple *tuple = context;

    switch (mnl_attr_get_type(attribute)) {
    case CTA_PROTO_NUM:
        tuple->protocol = mnl_attr_get_u8(attribute);
        break;
    case CTA_PROTO_SRC_PORT:
        tuple->source.port = ntohs(mnl_attr_get_u16(attribute));
        break;
    case CTA_PROTO_DST_PORT:
        tuple->destination.port = ntohs(mnl_attr_get_u16(attribute));
        break;
    }
    return MNL_CB_OK;
}

int nft_tuple_read(const struct nlattr *attribute, void *ret_tuple)
{
    switch (mnl_attr_get_type(attribute)) {
    case CTA_TUPLE_IP:
        return mnl_attr_parse_nested(attribute, read_addresses, ret_tuple);
    case CTA_TUPLE_PROTO:
        return mnl_attr_parse_nested(attribute, read_protocol, ret_tuple);
    }
    return MNL_CB_OK;
}
