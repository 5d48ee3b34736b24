/*
 * Expressions by hand, in the order and with the registers that nft(8) itself produces, checked
 * against what it prints back.
 *
 * The label: flows that a mapping let in carry conntrack label bit 77. It says "ours" in rules that
 * must not touch other people's flows, and other firewalls on the machine can accept by it (`ct
 * label 77 accept`). A label and not a mark: marks steer routing and are written whole by many
 * programs; labels are 128 independent bits that hardly anybody uses.
 */

#include "nat/nft/nft_rule.h"

#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_conntrack_common.h>
#include <linux/netfilter/nf_nat.h>
#include <linux/netfilter/nf_tables.h>
#include <stdlib.h>
#include <string.h>

#include <libnftnl/common.h>
#include <libnftnl/expr.h>

#define RULE_SIZE_MAX 8192
#define NO_REGISTER UINT32_MAX
/* Behind the data of any lookup. */
#define LABEL_WORD 4

static uint32_t register_at(uint32_t word)
{
    return NFT_REG32_00 + word;
}

void nft_rule_begin(struct nft_rule *rule, const char *chain)
{
    *rule = (struct nft_rule){.rule = nftnl_rule_alloc()};
    if (!rule->rule || nftnl_rule_set_str(rule->rule, NFTNL_RULE_CHAIN, chain) < 0)
        rule->failed = true;
}

void nft_rule_end(struct nft_rule *rule, struct nft_batch *batch)
{
    struct nlmsghdr *header = NULL;

    if (rule->failed || nftnl_rule_set_str(rule->rule, NFTNL_RULE_TABLE, batch->table) < 0)
        batch->failed = true;
    else
        header = nft_batch_open_message(batch, NFT_MSG_NEWRULE, NLM_F_CREATE | NLM_F_APPEND,
                                        RULE_SIZE_MAX);
    if (header) {
        nftnl_rule_nlmsg_build_payload(header, rule->rule);
        nft_batch_close_message(batch, header);
    }
    nftnl_rule_free(rule->rule);
}

/* The new expression belongs to the rule. NULL when out of memory. */
static struct nftnl_expr *add(struct nft_rule *rule, const char *name)
{
    struct nftnl_expr *expression = rule->failed ? NULL : nftnl_expr_alloc(name);

    if (!expression)
        rule->failed = true;
    else
        nftnl_rule_add_expr(rule->rule, expression);
    return expression;
}

static void load_meta(struct nft_rule *rule, uint32_t key, uint32_t word)
{
    struct nftnl_expr *expression = add(rule, "meta");

    if (!expression)
        return;
    nftnl_expr_set_u32(expression, NFTNL_EXPR_META_KEY, key);
    nftnl_expr_set_u32(expression, NFTNL_EXPR_META_DREG, register_at(word));
}

static void load_payload(struct nft_rule *rule, uint32_t base, uint32_t offset, size_t size,
                         uint32_t word)
{
    struct nftnl_expr *expression = add(rule, "payload");

    if (!expression)
        return;
    nftnl_expr_set_u32(expression, NFTNL_EXPR_PAYLOAD_BASE, base);
    nftnl_expr_set_u32(expression, NFTNL_EXPR_PAYLOAD_OFFSET, offset);
    nftnl_expr_set_u32(expression, NFTNL_EXPR_PAYLOAD_LEN, (uint32_t) size);
    nftnl_expr_set_u32(expression, NFTNL_EXPR_PAYLOAD_DREG, register_at(word));
}

static void load_ct(struct nft_rule *rule, uint32_t key)
{
    struct nftnl_expr *expression = add(rule, "ct");

    if (!expression)
        return;
    nftnl_expr_set_u32(expression, NFTNL_EXPR_CT_KEY, key);
    nftnl_expr_set_u32(expression, NFTNL_EXPR_CT_DREG, register_at(0));
}

static void mask(struct nft_rule *rule, const void *bits, size_t size)
{
    static const uint8_t zeros[NFT_LABEL_SIZE];
    struct nftnl_expr *expression = add(rule, "bitwise");

    if (!expression)
        return;
    nftnl_expr_set_u32(expression, NFTNL_EXPR_BITWISE_SREG, register_at(0));
    nftnl_expr_set_u32(expression, NFTNL_EXPR_BITWISE_DREG, register_at(0));
    nftnl_expr_set_u32(expression, NFTNL_EXPR_BITWISE_OP, NFT_BITWISE_BOOL);
    nftnl_expr_set_u32(expression, NFTNL_EXPR_BITWISE_LEN, (uint32_t) size);
    nftnl_expr_set(expression, NFTNL_EXPR_BITWISE_MASK, bits, (uint32_t) size);
    nftnl_expr_set(expression, NFTNL_EXPR_BITWISE_XOR, zeros, (uint32_t) size);
}

static void compare(struct nft_rule *rule, uint32_t operator, const void * value, size_t size)
{
    struct nftnl_expr *expression = add(rule, "cmp");

    if (!expression)
        return;
    nftnl_expr_set_u32(expression, NFTNL_EXPR_CMP_SREG, register_at(0));
    nftnl_expr_set_u32(expression, NFTNL_EXPR_CMP_OP, operator);
    nftnl_expr_set(expression, NFTNL_EXPR_CMP_DATA, value, (uint32_t) size);
}

static void compare_octet(struct nft_rule *rule, uint32_t operator, uint8_t value)
{
    compare(rule, operator, & value, sizeof(value));
}

static void look_up(struct nft_rule *rule, const char *set, uint32_t set_id, bool is_map,
                    bool is_negated)
{
    struct nftnl_expr *expression = add(rule, "lookup");

    if (!expression)
        return;
    nftnl_expr_set_u32(expression, NFTNL_EXPR_LOOKUP_SREG, register_at(0));
    nftnl_expr_set_str(expression, NFTNL_EXPR_LOOKUP_SET, set);
    if (set_id)
        nftnl_expr_set_u32(expression, NFTNL_EXPR_LOOKUP_SET_ID, set_id);
    if (is_map)
        nftnl_expr_set_u32(expression, NFTNL_EXPR_LOOKUP_DREG, register_at(0));
    if (is_negated)
        nftnl_expr_set_u32(expression, NFTNL_EXPR_LOOKUP_FLAGS, NFT_LOOKUP_F_INV);
}

static void load_immediate(struct nft_rule *rule, uint32_t word, const void *value, size_t size)
{
    struct nftnl_expr *expression = add(rule, "immediate");

    if (!expression)
        return;
    nftnl_expr_set_u32(expression, NFTNL_EXPR_IMM_DREG, register_at(word));
    nftnl_expr_set(expression, NFTNL_EXPR_IMM_DATA, value, (uint32_t) size);
}

void nft_rule_match_family(struct nft_rule *rule, enum nft_family family)
{
    load_meta(rule, NFT_META_NFPROTO, 0);
    compare_octet(rule, NFT_CMP_EQ, family == NFT_FAMILY_IPV4 ? NFPROTO_IPV4 : NFPROTO_IPV6);
}

void nft_rule_match_meta_in_set(struct nft_rule *rule, uint32_t meta_key, const char *set,
                                uint32_t set_id, bool is_negated)
{
    load_meta(rule, meta_key, 0);
    look_up(rule, set, set_id, false, is_negated);
}

static void load_address(struct nft_rule *rule, enum nft_family family, enum nft_end end,
                         uint32_t word)
{
    static const uint32_t offsets[NFT_FAMILY_COUNT][2] = {
        [NFT_FAMILY_IPV4] = {[NFT_END_SOURCE] = 12, [NFT_END_DESTINATION] = 16},
        [NFT_FAMILY_IPV6] = {[NFT_END_SOURCE] = 8, [NFT_END_DESTINATION] = 24},
    };

    load_payload(rule, NFT_PAYLOAD_NETWORK_HEADER, offsets[family][end],
                 nft_field_size(NFT_FIELD_ADDRESS, family), word);
}

static void load_port(struct nft_rule *rule, enum nft_end end, uint32_t word)
{
    load_payload(rule, NFT_PAYLOAD_TRANSPORT_HEADER, end == NFT_END_SOURCE ? 0 : 2, 2, word);
}

void nft_rule_match_address_in_set(struct nft_rule *rule, enum nft_family family, enum nft_end end,
                                   const char *set)
{
    load_address(rule, family, end, 0);
    look_up(rule, set, 0, false, false);
}

static void match_bits(struct nft_rule *rule, uint32_t ct_key, uint32_t bits, uint32_t operator)
{
    static const uint32_t zero;

    load_ct(rule, ct_key);
    mask(rule, &bits, sizeof(bits));
    compare(rule, operator, & zero, sizeof(zero));
}

void nft_rule_match_state(struct nft_rule *rule, uint32_t state)
{
    match_bits(rule, NFT_CT_STATE, state, NFT_CMP_NEQ);
}

void nft_rule_match_not_translated(struct nft_rule *rule)
{
    match_bits(rule, NFT_CT_STATUS, IPS_DST_NAT, NFT_CMP_EQ);
}

void nft_rule_match_direction(struct nft_rule *rule, uint8_t direction)
{
    load_ct(rule, NFT_CT_DIRECTION);
    compare_octet(rule, NFT_CMP_EQ, direction);
}

/* As the kernel's set_bit() lays it out. */
void nft_rule_label(uint8_t ret_label[NFT_LABEL_SIZE])
{
    const size_t n_bits = 8 * sizeof(unsigned long);
    unsigned long words[NFT_LABEL_SIZE / sizeof(unsigned long)] = {0};

    words[NFT_LABEL_BIT / n_bits] |= 1UL << (NFT_LABEL_BIT % n_bits);
    memcpy(ret_label, words, NFT_LABEL_SIZE);
}

void nft_rule_match_label(struct nft_rule *rule)
{
    static const uint8_t zeros[NFT_LABEL_SIZE];
    uint8_t label[NFT_LABEL_SIZE];

    nft_rule_label(label);
    load_ct(rule, NFT_CT_LABELS);
    mask(rule, label, sizeof(label));
    compare(rule, NFT_CMP_NEQ, zeros, sizeof(zeros));
}

void nft_rule_match_protocol(struct nft_rule *rule, uint8_t protocol)
{
    load_meta(rule, NFT_META_L4PROTO, 0);
    compare_octet(rule, NFT_CMP_EQ, protocol);
}

/* Loading a socket's property already ends the rule when there is none; both values will do. */
void nft_rule_match_socket(struct nft_rule *rule)
{
    struct nftnl_expr *expression = add(rule, "socket");

    if (!expression)
        return;
    nftnl_expr_set_u32(expression, NFTNL_EXPR_SOCKET_KEY, NFT_SOCKET_TRANSPARENT);
    nftnl_expr_set_u32(expression, NFTNL_EXPR_SOCKET_DREG, register_at(0));
    compare_octet(rule, NFT_CMP_GTE, 0);
    compare_octet(rule, NFT_CMP_LTE, 1);
}

/*
 * Types 1 to 4: destination unreachable, packet too big, time exceeded, parameter problem (RFC 4890
 * s4.3.1).
 */
void nft_rule_match_icmpv6_errors(struct nft_rule *rule)
{
    nft_rule_match_protocol(rule, IPPROTO_ICMPV6);
    load_payload(rule, NFT_PAYLOAD_TRANSPORT_HEADER, 0, 1, 0);
    compare_octet(rule, NFT_CMP_GTE, 1);
    compare_octet(rule, NFT_CMP_LTE, 4);
}

static enum nft_end opposite(enum nft_end end)
{
    return end == NFT_END_SOURCE ? NFT_END_DESTINATION : NFT_END_SOURCE;
}

/* The first address and port of a key are the mapping's own, the second the remote's. */
static void load_key(struct nft_rule *rule, enum nft_family family,
                     const struct nft_set_layout *layout, enum nft_end end)
{
    size_t n_seen[3] = {0};
    uint32_t word = 0;

    for (size_t i = 0; i < layout->n_key_fields; i++) {
        enum nft_field field = layout->key[i];
        enum nft_end field_end = n_seen[field]++ == 0 ? end : opposite(end);
        switch (field) {
        case NFT_FIELD_PROTOCOL:
            load_meta(rule, NFT_META_L4PROTO, word);
            break;
        case NFT_FIELD_ADDRESS:
            load_address(rule, family, field_end, word);
            break;
        case NFT_FIELD_PORT:
            load_port(rule, n_seen[NFT_FIELD_ADDRESS] > 1 ? opposite(end) : end, word);
            break;
        }
        word += (uint32_t) (nft_field_size(field, family) + 3) / 4;
    }
}

void nft_rule_look_up(struct nft_rule *rule, enum nft_family family, enum nft_scope scope,
                      enum nft_role role, enum nft_end end)
{
    struct nft_set_layout layout = nft_set_layout(scope, role);

    load_key(rule, family, &layout, end);
    look_up(rule, nft_set_name(family, scope, role), 0, layout.n_data_fields > 0, false);
}

void nft_rule_set_label(struct nft_rule *rule)
{
    uint8_t label[NFT_LABEL_SIZE];
    struct nftnl_expr *expression;

    nft_rule_label(label);
    load_immediate(rule, LABEL_WORD, label, sizeof(label));
    expression = add(rule, "ct");
    if (!expression)
        return;
    nftnl_expr_set_u32(expression, NFTNL_EXPR_CT_KEY, NFT_CT_LABELS);
    nftnl_expr_set_u32(expression, NFTNL_EXPR_CT_SREG, register_at(LABEL_WORD));
}

/* Address in the first word, ports in `port_first` and `port_last` where they are wanted. */
static void translate(struct nft_rule *rule, uint32_t nat_type, uint32_t port_first,
                      uint32_t port_last)
{
    struct nftnl_expr *expression = add(rule, "nat");

    if (!expression)
        return;
    nftnl_expr_set_u32(expression, NFTNL_EXPR_NAT_TYPE, nat_type);
    nftnl_expr_set_u32(expression, NFTNL_EXPR_NAT_FAMILY, NFPROTO_IPV4);
    nftnl_expr_set_u32(expression, NFTNL_EXPR_NAT_REG_ADDR_MIN, register_at(0));
    if (port_first != NO_REGISTER)
        nftnl_expr_set_u32(expression, NFTNL_EXPR_NAT_REG_PROTO_MIN, register_at(port_first));
    if (port_last != NO_REGISTER) {
        nftnl_expr_set_u32(expression, NFTNL_EXPR_NAT_REG_PROTO_MAX, register_at(port_last));
        nftnl_expr_set_u32(expression, NFTNL_EXPR_NAT_FLAGS, NF_NAT_RANGE_PROTO_SPECIFIED);
    }
}

void nft_rule_translate(struct nft_rule *rule, uint32_t nat_type, enum nft_scope scope)
{
    bool has_port = scope == NFT_SCOPE_PORT || scope == NFT_SCOPE_PEER;

    translate(rule, nat_type, has_port ? 1 : NO_REGISTER, NO_REGISTER);
}

void nft_rule_masquerade(struct nft_rule *rule, const struct ip_address *address,
                         uint16_t port_first, uint16_t port_last)
{
    uint16_t first = htons(port_first), last = htons(port_last);

    load_immediate(rule, 0, &address->octets[12], 4);
    if (port_last == 0) {
        translate(rule, NFT_NAT_SNAT, NO_REGISTER, NO_REGISTER);
        return;
    }
    load_immediate(rule, 4, &first, sizeof(first));
    load_immediate(rule, 8, &last, sizeof(last));
    translate(rule, NFT_NAT_SNAT, 4, 8);
}

void nft_rule_reject(struct nft_rule *rule)
{
    struct nftnl_expr *expression = add(rule, "reject");

    if (!expression)
        return;
    nftnl_expr_set_u32(expression, NFTNL_EXPR_REJECT_TYPE, NFT_REJECT_ICMPX_UNREACH);
    nftnl_expr_set_u8(expression, NFTNL_EXPR_REJECT_CODE, NFT_REJECT_ICMPX_PORT_UNREACH);
}

void nft_rule_decide(struct nft_rule *rule, int verdict, const char *chain)
{
    struct nftnl_expr *expression = add(rule, "immediate");

    if (!expression)
        return;
    nftnl_expr_set_u32(expression, NFTNL_EXPR_IMM_DREG, NFT_REG_VERDICT);
    nftnl_expr_set_u32(expression, NFTNL_EXPR_IMM_VERDICT, (uint32_t) verdict);
    if (chain)
        nftnl_expr_set_str(expression, NFTNL_EXPR_IMM_CHAIN, chain);
}
