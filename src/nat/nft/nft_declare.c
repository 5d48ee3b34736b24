/*
 * Besides what the kernel needs, a set's declaration carries what nft(8) needs to print it: type
 * numbers and byte order (src/datatype.h there). They have no other effect.
 *
 * Maps of mappings get a size: a table that grows while it is filled pauses for tens of
 * milliseconds. Where they are large, expired elements are swept once a minute instead of once a
 * second, as each sweep visits every element and the daemon removes expired mappings itself. Small
 * maps keep the default, since nft 1.0.6 cannot read the interval of a map back.
 */

#include "nat/nft/nft_declare.h"

#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <stdlib.h>
#include <string.h>

#include <libnftnl/set.h>
#include <libnftnl/udata.h>

#define SET_SIZE_MAX 2048
#define LARGE_MAP 32768
#define SWEEP_INTERVAL_MS 60000

/* nft(8)'s type numbers. */
#define TYPE_IPV4_ADDRESS 7
#define TYPE_IPV6_ADDRESS 8
#define TYPE_PROTOCOL 12
#define TYPE_PORT 13
#define TYPE_INTERFACE_NAME 41
#define TYPE_BITS 6
#define BYTE_ORDER_HOST 1
#define BYTE_ORDER_NETWORK 2

struct declaration {
    const char *name;
    uint32_t id;
    uint32_t flags;
    uint32_t key_type, key_size;
    uint32_t data_type, data_size;
    uint32_t key_byte_order;
    uint32_t n_elements_max;
    uint8_t field_sizes[NFT_FIELDS_MAX]; /* for concatenations with ranges */
    size_t n_fields;
};

static void set_optional(struct nftnl_set *set, const struct declaration *declaration)
{
    if (declaration->data_size > 0) {
        nftnl_set_set_u32(set, NFTNL_SET_DATA_TYPE, declaration->data_type);
        nftnl_set_set_u32(set, NFTNL_SET_DATA_LEN, declaration->data_size);
    }
    if (declaration->n_elements_max > 0)
        nftnl_set_set_u32(set, NFTNL_SET_DESC_SIZE, declaration->n_elements_max);
    if (declaration->n_elements_max > LARGE_MAP && (declaration->flags & NFT_SET_TIMEOUT))
        nftnl_set_set_u32(set, NFTNL_SET_GC_INTERVAL, SWEEP_INTERVAL_MS);
    if (declaration->flags & NFT_SET_CONCAT)
        nftnl_set_set_data(set, NFTNL_SET_DESC_CONCAT, declaration->field_sizes,
                           (uint32_t) declaration->n_fields);
}

static void set_byte_order(struct nftnl_set *set, uint32_t byte_order)
{
    struct nftnl_udata_buf *userdata = nftnl_udata_buf_alloc(NFT_USERDATA_MAXLEN);

    if (!userdata)
        return; /* only for nft(8)'s eyes */
    if (nftnl_udata_put_u32(userdata, NFTNL_UDATA_SET_KEYBYTEORDER, byte_order))
        nftnl_set_set_data(set, NFTNL_SET_USERDATA, nftnl_udata_buf_data(userdata),
                           nftnl_udata_buf_len(userdata));
    nftnl_udata_buf_free(userdata);
}

/* The set may have been there before. */
static void put_emptying(struct nft_batch *batch, const char *name)
{
    struct nlmsghdr *header = nft_batch_open_message(batch, NFT_MSG_DELSETELEM, 0, SET_SIZE_MAX);

    if (!header)
        return;
    mnl_attr_put_strz(header, NFTA_SET_ELEM_LIST_TABLE, NFT_TABLE);
    mnl_attr_put_strz(header, NFTA_SET_ELEM_LIST_SET, name);
    nft_batch_close_message(batch, header);
}

static void put_declaration(struct nft_batch *batch, const struct declaration *declaration)
{
    struct nftnl_set *set = nftnl_set_alloc();
    struct nlmsghdr *header;

    if (!set) {
        batch->failed = true;
        return;
    }
    nftnl_set_set_str(set, NFTNL_SET_TABLE, NFT_TABLE);
    nftnl_set_set_str(set, NFTNL_SET_NAME, declaration->name);
    nftnl_set_set_u32(set, NFTNL_SET_ID, declaration->id);
    nftnl_set_set_u32(set, NFTNL_SET_FLAGS, declaration->flags);
    nftnl_set_set_u32(set, NFTNL_SET_KEY_TYPE, declaration->key_type);
    nftnl_set_set_u32(set, NFTNL_SET_KEY_LEN, declaration->key_size);
    set_optional(set, declaration);
    set_byte_order(set, declaration->key_byte_order);
    header = nft_batch_open_message(batch, NFT_MSG_NEWSET, NLM_F_CREATE, SET_SIZE_MAX);
    if (header) {
        nftnl_set_nlmsg_build_payload(header, set);
        nft_batch_close_message(batch, header);
    }
    nftnl_set_free(set);
    if (!(declaration->flags & NFT_SET_ANONYMOUS))
        put_emptying(batch, declaration->name);
}

static uint32_t field_type(enum nft_field field, enum nft_family family)
{
    switch (field) {
    case NFT_FIELD_PROTOCOL:
        return TYPE_PROTOCOL;
    case NFT_FIELD_ADDRESS:
        return family == NFT_FAMILY_IPV4 ? TYPE_IPV4_ADDRESS : TYPE_IPV6_ADDRESS;
    case NFT_FIELD_PORT:
        return TYPE_PORT;
    }
    return 0;
}

/* A concatenation's type is the types of its fields, the first in the highest bits. */
static void describe_fields(const enum nft_field *fields, size_t n_fields, enum nft_family family,
                            uint32_t *ret_type, uint32_t *ret_size)
{
    uint32_t type = 0, size = 0;

    for (size_t i = 0; i < n_fields; i++) {
        type = type << TYPE_BITS | field_type(fields[i], family);
        size += ((uint32_t) nft_field_size(fields[i], family) + 3) / 4 * 4;
    }
    *ret_type = type;
    *ret_size = size;
}

static uint32_t role_flags(enum nft_role role)
{
    switch (role) {
    case NFT_ROLE_INBOUND:
    case NFT_ROLE_OUTBOUND:
        return NFT_SET_MAP | NFT_SET_TIMEOUT;
    case NFT_ROLE_LIVE:
    case NFT_ROLE_FILTERED:
        return NFT_SET_TIMEOUT;
    case NFT_ROLE_FILTER_PREFIX:
    case NFT_ROLE_FILTER_PORT:
        return NFT_SET_INTERVAL | NFT_SET_CONCAT;
    }
    return 0;
}

/* Classes that come in masses; there is hardly one of the others per internal host. */
static bool has_size(enum nft_scope scope, enum nft_role role)
{
    return (scope == NFT_SCOPE_PORT || scope == NFT_SCOPE_PEER) && role <= NFT_ROLE_LIVE;
}

static void declare_mapping_set(struct nft_batch *batch, enum nft_family family,
                                enum nft_scope scope, enum nft_role role, uint32_t n_mappings_max)
{
    struct nft_set_layout layout = nft_set_layout(scope, role);
    struct declaration declaration = {
        .name = nft_set_name(family, scope, role),
        .id = 1000U + 100U * family + 10U * scope + role,
        .flags = role_flags(role),
        .key_byte_order = BYTE_ORDER_NETWORK,
        .n_elements_max = has_size(scope, role) ? n_mappings_max : 0,
        .n_fields = layout.n_key_fields,
    };

    describe_fields(layout.key, layout.n_key_fields, family, &declaration.key_type,
                    &declaration.key_size);
    describe_fields(layout.data, layout.n_data_fields, family, &declaration.data_type,
                    &declaration.data_size);
    for (size_t i = 0; i < layout.n_key_fields; i++)
        declaration.field_sizes[i] = (uint8_t) nft_field_size(layout.key[i], family);
    put_declaration(batch, &declaration);
}

void nft_declare_mappings(struct nft_batch *batch, uint32_t n_mappings_max)
{
    for (enum nft_family family = 0; family < NFT_FAMILY_COUNT; family++)
        for (enum nft_scope scope = 0; scope < NFT_SCOPE_COUNT; scope++)
            for (enum nft_role role = 0; role < NFT_ROLE_COUNT; role++)
                if (nft_set_name(family, scope, role))
                    declare_mapping_set(batch, family, scope, role, n_mappings_max);
}

void nft_declare_interfaces(struct nft_batch *batch, const char *set,
                            const struct nat_settings *settings)
{
    struct declaration declaration = {
        .name = set,
        .id = 1,
        .key_type = TYPE_INTERFACE_NAME,
        .key_size = sizeof(settings->outside_interfaces[0]),
        .key_byte_order = BYTE_ORDER_HOST,
    };

    put_declaration(batch, &declaration);
    nft_batch_open_list(batch, NFT_MSG_NEWSETELEM, set, 0);
    for (size_t i = 0; i < settings->n_outside_interfaces; i++) {
        const char *name = settings->outside_interfaces[i];
        struct nft_element element = {.key_size = sizeof(settings->outside_interfaces[i])};
        /* Zeros behind the name, as the whole field is compared. */
        memcpy(element.key, name, strnlen(name, element.key_size - 1U));
        nft_batch_put_element(batch, &element);
    }
    nft_batch_close_list(batch);
}

static void put_address(struct nft_batch *batch, const uint8_t address[16], size_t size,
                        bool is_end)
{
    struct nft_element element = {.key_size = (uint8_t) size, .is_interval_end = is_end};

    memcpy(element.key, address + 16 - size, size);
    nft_batch_put_element(batch, &element);
}

void nft_declare_external(struct nft_batch *batch, const char *set,
                          const struct nat_settings *settings)
{
    struct declaration declaration = {
        .name = set,
        .id = 4,
        .key_type = TYPE_IPV4_ADDRESS,
        .key_size = 4,
        .key_byte_order = BYTE_ORDER_NETWORK,
    };

    put_declaration(batch, &declaration);
    nft_batch_open_list(batch, NFT_MSG_NEWSETELEM, set, 0);
    for (size_t i = 0; i < settings->n_external_addresses; i++)
        if (ip_address_is_ipv4(&settings->external_addresses[i]))
            put_address(batch, settings->external_addresses[i].octets, 4, false);
    nft_batch_close_list(batch);
}

/* First and last address; an interval set wants them sorted and apart. */
struct interval {
    uint8_t first[16], last[16];
};

static int compare_intervals(const void *a, const void *b)
{
    return memcmp(a, b, sizeof(struct interval));
}

static struct interval interval_of(const struct ip_prefix *prefix)
{
    struct ip_address first = ip_address_mask(&prefix->address, prefix->length);
    struct interval interval;

    memcpy(interval.first, first.octets, sizeof(interval.first));
    memcpy(interval.last, first.octets, sizeof(interval.last));
    for (unsigned int bit = prefix->length; bit < 128; bit++)
        interval.last[bit / 8] |= (uint8_t) (0x80 >> bit % 8);
    return interval;
}

static size_t collect_intervals(const struct nat_settings *settings, enum nft_family family,
                                struct interval *ret_intervals)
{
    size_t n = 0;

    for (size_t i = 0; i < settings->n_internal_prefixes; i++) {
        const struct ip_prefix *prefix = &settings->internal_prefixes[i];
        if (ip_address_is_ipv4(&prefix->address) == (family == NFT_FAMILY_IPV4))
            ret_intervals[n++] = interval_of(prefix);
    }
    qsort(ret_intervals, n, sizeof(*ret_intervals), compare_intervals);
    return n;
}

/* False when there is none: `address` has the family's last bit pattern. */
static bool next_address(const uint8_t address[16], size_t size, uint8_t ret_next[16])
{
    memcpy(ret_next, address, 16);
    for (size_t i = 16; i-- > 16 - size;)
        if (++ret_next[i] != 0)
            return true;
    return false;
}

static void put_intervals(struct nft_batch *batch, const struct interval *intervals, size_t n,
                          size_t size)
{
    for (size_t i = 0; i < n;) {
        struct interval merged = intervals[i];
        uint8_t behind[16];
        bool is_bounded = next_address(merged.last, size, behind);
        for (i++; i < n && (!is_bounded || memcmp(intervals[i].first, behind, 16) <= 0); i++) {
            if (memcmp(intervals[i].last, merged.last, 16) <= 0)
                continue;
            memcpy(merged.last, intervals[i].last, 16);
            is_bounded = next_address(merged.last, size, behind);
        }
        put_address(batch, merged.first, size, false);
        if (is_bounded)
            put_address(batch, behind, size, true);
    }
}

void nft_declare_prefixes(struct nft_batch *batch, const char *set, enum nft_family family,
                          const struct nat_settings *settings)
{
    struct interval intervals[NAT_PREFIXES_MAX];
    size_t n_intervals = collect_intervals(settings, family, intervals);
    struct declaration declaration = {
        .name = set,
        .id = 2U + family,
        .flags = NFT_SET_INTERVAL,
        .key_type = field_type(NFT_FIELD_ADDRESS, family),
        .key_size = (uint32_t) nft_field_size(NFT_FIELD_ADDRESS, family),
        .key_byte_order = BYTE_ORDER_NETWORK,
    };

    put_declaration(batch, &declaration);
    nft_batch_open_list(batch, NFT_MSG_NEWSETELEM, set, 0);
    put_intervals(batch, intervals, n_intervals, declaration.key_size);
    nft_batch_close_list(batch);
}

void nft_declare_ported(struct nft_batch *batch, uint32_t set_id)
{
    static const uint8_t protocols[] = {IPPROTO_TCP, IPPROTO_UDP, IPPROTO_DCCP, IPPROTO_SCTP,
                                        IPPROTO_UDPLITE};
    struct declaration declaration = {
        .name = NFT_ANONYMOUS_SET,
        .id = set_id,
        .flags = NFT_SET_ANONYMOUS | NFT_SET_CONSTANT,
        .key_type = TYPE_PROTOCOL,
        .key_size = 1,
        .key_byte_order = BYTE_ORDER_NETWORK,
        .n_elements_max = N_ELEMENTS(protocols),
    };

    put_declaration(batch, &declaration);
    nft_batch_open_list(batch, NFT_MSG_NEWSETELEM, NFT_ANONYMOUS_SET, set_id);
    for (size_t i = 0; i < N_ELEMENTS(protocols); i++) {
        struct nft_element element = {.key = {protocols[i]}, .key_size = 1};
        nft_batch_put_element(batch, &element);
    }
    nft_batch_close_list(batch);
}
