#pragma once

/*
 * The maps and sets that hold mappings: one group per family and per scope of mapping, each with
 * the same roles. Their names, keys and sizes are here; the rules that look into them are
 * nft_ruleset.c's, the elements nft_elements.c's.
 */

#include <stddef.h>
#include <stdint.h>

#include "base/util.h"
#include "nat/nat.h"

#define NFT_TABLE "holdfast"

enum nft_family {
    NFT_FAMILY_IPV4,
    NFT_FAMILY_IPV6,
};
#define NFT_FAMILY_COUNT 2

/* What a mapping's internal side consists of, and thereby the key of its elements. */
enum nft_scope {
    NFT_SCOPE_PORT,     /* protocol, address, port */
    NFT_SCOPE_PEER,     /* protocol, address, port, remote address, remote port */
    NFT_SCOPE_PROTOCOL, /* protocol, address: all ports, or a protocol without ports */
    NFT_SCOPE_ALL,      /* address: all protocols */
};
#define NFT_SCOPE_COUNT 4

enum nft_role {
    NFT_ROLE_INBOUND,       /* map: external to internal endpoint; IPv4 only */
    NFT_ROLE_OUTBOUND,      /* map: internal to external endpoint; IPv4 only */
    NFT_ROLE_LIVE,          /* set: internal endpoints with a mapping */
    NFT_ROLE_FILTERED,      /* set: internal endpoints with filters */
    NFT_ROLE_FILTER_PREFIX, /* set: internal endpoint and permitted remote prefix */
    NFT_ROLE_FILTER_PORT,   /* the same with a remote port */
};
#define NFT_ROLE_COUNT 6

enum nft_field {
    NFT_FIELD_PROTOCOL,
    NFT_FIELD_ADDRESS,
    NFT_FIELD_PORT,
};
#define NFT_FIELDS_MAX 5

struct nft_set_layout {
    enum nft_field key[NFT_FIELDS_MAX];
    size_t n_key_fields;
    enum nft_field data[2];
    size_t n_data_fields; /* 0: a set */
};

/* NULL when there is no such set. */
const char *nft_set_name(enum nft_family family, enum nft_scope scope, enum nft_role role);
struct nft_set_layout nft_set_layout(enum nft_scope scope, enum nft_role role);
/* Octets the field carries; in a key it takes the next multiple of 4. */
size_t nft_field_size(enum nft_field field, enum nft_family family);

/* 0, or -EOPNOTSUPP for a mapping that this packet path cannot express. */
MUST_CHECK int nft_sets_classify(const struct mapping_record *record, enum nft_family *ret_family,
                                 enum nft_scope *ret_scope);
