/*
 * The catalogue of sets. The internal key of a scope is the beginning of every key of that scope,
 * so layouts are put together from it.
 */

#include "nat/nft/nft_sets.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>

static const char *const names[NFT_FAMILY_COUNT][NFT_SCOPE_COUNT][NFT_ROLE_COUNT] =
    {
        [NFT_FAMILY_IPV4] =
            {
                [NFT_SCOPE_PORT] = {"map4", "rev4", "live4", "filt4_on", "filt4_any", "filt4_port"},
                [NFT_SCOPE_PEER] = {"map4_peer", "rev4_peer", "live4_peer"},
                [NFT_SCOPE_PROTOCOL] = {"map4_proto", "rev4_proto", "live4_proto", "filt4_proto_on",
                                        "filt4_proto_any", "filt4_proto_port"},
                [NFT_SCOPE_ALL] = {"map4_all", "rev4_all", "live4_all", "filt4_all_on",
                                   "filt4_all_any", "filt4_all_port"},
            },
        [NFT_FAMILY_IPV6] =
            {
                [NFT_SCOPE_PORT] = {NULL, NULL, "live6", "filt6_on", "filt6_any", "filt6_port"},
                [NFT_SCOPE_PEER] = {NULL, NULL, "live6_peer"},
                [NFT_SCOPE_PROTOCOL] = {NULL, NULL, "live6_proto", "filt6_proto_on",
                                        "filt6_proto_any", "filt6_proto_port"},
                [NFT_SCOPE_ALL] = {NULL, NULL, "live6_all", "filt6_all_on", "filt6_all_any",
                                   "filt6_all_port"},
            },
};

const char *nft_set_name(enum nft_family family, enum nft_scope scope, enum nft_role role)
{
    return names[family][scope][role];
}

static void add_key_field(struct nft_set_layout *layout, enum nft_field field)
{
    layout->key[layout->n_key_fields++] = field;
}

static void add_internal_key(struct nft_set_layout *layout, enum nft_scope scope)
{
    if (scope != NFT_SCOPE_ALL)
        add_key_field(layout, NFT_FIELD_PROTOCOL);
    add_key_field(layout, NFT_FIELD_ADDRESS);
    if (scope == NFT_SCOPE_PORT || scope == NFT_SCOPE_PEER)
        add_key_field(layout, NFT_FIELD_PORT);
    if (scope == NFT_SCOPE_PEER) {
        add_key_field(layout, NFT_FIELD_ADDRESS);
        add_key_field(layout, NFT_FIELD_PORT);
    }
}

static void add_data(struct nft_set_layout *layout, enum nft_scope scope)
{
    layout->data[layout->n_data_fields++] = NFT_FIELD_ADDRESS;
    if (scope == NFT_SCOPE_PORT || scope == NFT_SCOPE_PEER)
        layout->data[layout->n_data_fields++] = NFT_FIELD_PORT;
}

struct nft_set_layout nft_set_layout(enum nft_scope scope, enum nft_role role)
{
    struct nft_set_layout layout = {0};

    add_internal_key(&layout, scope);
    if (role == NFT_ROLE_INBOUND || role == NFT_ROLE_OUTBOUND)
        add_data(&layout, scope);
    if (role == NFT_ROLE_FILTER_PREFIX || role == NFT_ROLE_FILTER_PORT)
        add_key_field(&layout, NFT_FIELD_ADDRESS);
    if (role == NFT_ROLE_FILTER_PORT)
        add_key_field(&layout, NFT_FIELD_PORT);
    return layout;
}

size_t nft_field_size(enum nft_field field, enum nft_family family)
{
    switch (field) {
    case NFT_FIELD_PROTOCOL:
        return 1;
    case NFT_FIELD_ADDRESS:
        return family == NFT_FAMILY_IPV4 ? 4 : 16;
    case NFT_FIELD_PORT:
        return 2;
    }
    return 0;
}

/* Those whose ports are where `th dport` looks. */
static bool has_ports(uint8_t protocol)
{
    return protocol == IPPROTO_TCP || protocol == IPPROTO_UDP || protocol == IPPROTO_SCTP ||
           protocol == IPPROTO_DCCP || protocol == IPPROTO_UDPLITE;
}

/*
 * IPv4 is translated, IPv6 only let through; anything else (NAT64, NPTv6) is another packet path's
 * work.
 */
static int classify_family(const struct mapping_record *record, enum nft_family *ret_family)
{
    bool is_ipv4 = ip_address_is_ipv4(&record->internal_address);

    if (is_ipv4 != ip_address_is_ipv4(&record->external_address))
        return -EOPNOTSUPP;
    if (!is_ipv4 && (record->internal_port != record->external_port ||
                     !ip_address_equal(&record->internal_address, &record->external_address)))
        return -EOPNOTSUPP;
    if (record->kind == MAPPING_KIND_PEER && is_ipv4 != ip_address_is_ipv4(&record->remote_address))
        return -EOPNOTSUPP;
    *ret_family = is_ipv4 ? NFT_FAMILY_IPV4 : NFT_FAMILY_IPV6;
    return 0;
}

/* Ports are all or one each; one needs a protocol that has them. */
static int classify_endpoint(const struct mapping_record *record, enum nft_scope *ret_scope)
{
    bool has_port = record->internal_port != 0;

    if (has_port != (record->external_port != 0))
        return -EOPNOTSUPP;
    if (record->kind == MAPPING_KIND_PEER) {
        if (!has_port || record->remote_port == 0 || !has_ports(record->protocol) ||
            record->filters)
            return -EOPNOTSUPP;
        *ret_scope = NFT_SCOPE_PEER;
    } else if (has_port) {
        if (!has_ports(record->protocol))
            return -EOPNOTSUPP;
        *ret_scope = NFT_SCOPE_PORT;
    } else {
        *ret_scope = record->protocol == 0 ? NFT_SCOPE_ALL : NFT_SCOPE_PROTOCOL;
    }
    return 0;
}

int nft_sets_classify(const struct mapping_record *record, enum nft_family *ret_family,
                      enum nft_scope *ret_scope)
{
    enum nft_family family;
    enum nft_scope scope;
    int error = classify_family(record, &family);

    if (error == 0)
        error = classify_endpoint(record, &scope);
    if (error < 0)
        return error;
    *ret_family = family;
    *ret_scope = scope;
    return 0;
}
