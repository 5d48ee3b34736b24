/*
 * The shape, in nft(8)'s words (X stands for the scopes peer, port, protocol, all in this order):
 *
 *   prerouting, output   dnat ip to KEY map @map4_X, and label the flow
 *   postrouting          hairpin flows; mapped hosts' own flows: snat ip to KEY map @rev4_X;
 *                        masquerade
 *   forward              labelled flows pass only while their mapping lives and its filter
 *                        permits; IPv6 from outside needs a mapping
 *   input                datagrams for nobody leave no flow behind
 *
 * Rules name interfaces, never their index, so an interface may go and come back. Priorities are a
 * little before the usual ones: on the same tuple our mappings win over other programs'
 * masquerading. Everything in it is about flows that match our sets; other people's flows pass with
 * policy accept.
 *
 * Why labelled flows are looked up on every packet: an established flow does not ask the NAT rules
 * again. So the ruleset itself stops it when its element's time is up, even if the daemon is dead.
 *
 * Hairpinning is recognised by addresses: with br_netfilter, postrouting does not see the bridge as
 * input interface.
 */

#include "nat/nft/nft_ruleset.h"

#include <endian.h>
#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_conntrack_common.h>
#include <linux/netfilter/nf_conntrack_tuple_common.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter_ipv4.h>
#include <stdlib.h>
#include <string.h>

#include <libnftnl/chain.h>
#include <libnftnl/common.h>
#include <libnftnl/table.h>

#include "nat/nft/nft_declare.h"
#include "nat/nft/nft_rule.h"
#include "nat/nft/nft_sets.h"

#define OBJECT_SIZE_MAX 2048
/* NFT_TABLE_F_OWNER, which older headers do not name. */
#define FLAG_OWNER 2U

#define SET_OUTSIDE "outside"
#define SET_EXTERNAL4 "external4"
#define SET_INTERNAL4 "internal4"
#define SET_INTERNAL6 "internal6"
#define SET_ID_HAIRPIN 10
#define SET_ID_POSTROUTING 11

/* Most specific first: a mapping of one port wins over one of the whole protocol. */
static const enum nft_scope scopes[] = {
    NFT_SCOPE_PEER,
    NFT_SCOPE_PORT,
    NFT_SCOPE_PROTOCOL,
    NFT_SCOPE_ALL,
};

/* Chain names by family and scope; NULL where there are no filters. */
static const struct {
    const char *open;   /* flows from the remote side; by scope of the mapping */
    const char *answer; /* their answers */
    const char *admit[NFT_SCOPE_COUNT];
    const char *filter[NFT_SCOPE_COUNT];
} chains[NFT_FAMILY_COUNT] = {
    [NFT_FAMILY_IPV4] = {.open = "open4",
                         .answer = "answer4",
                         .admit = {[NFT_SCOPE_PORT] = "open4_port",
                                   [NFT_SCOPE_PROTOCOL] = "open4_proto",
                                   [NFT_SCOPE_ALL] = "open4_all"},
                         .filter = {[NFT_SCOPE_PORT] = "filter4_port",
                                    [NFT_SCOPE_PROTOCOL] = "filter4_proto",
                                    [NFT_SCOPE_ALL] = "filter4_all"}},
    [NFT_FAMILY_IPV6] = {.open = "open6",
                         .answer = "answer6",
                         .admit = {[NFT_SCOPE_PORT] = "open6_port",
                                   [NFT_SCOPE_PROTOCOL] = "open6_proto",
                                   [NFT_SCOPE_ALL] = "open6_all"},
                         .filter = {[NFT_SCOPE_PORT] = "filter6_port",
                                    [NFT_SCOPE_PROTOCOL] = "filter6_proto",
                                    [NFT_SCOPE_ALL] = "filter6_all"}},
};

/* The address dynamic flows get; NULL when there is none. */
static const struct ip_address *masquerade_address(const struct nat_settings *settings)
{
    if (ip_address_is_ipv4(&settings->masquerade_address) &&
        !ip_address_is_any(&settings->masquerade_address))
        return &settings->masquerade_address;
    for (size_t i = 0; i < settings->n_external_addresses; i++)
        if (ip_address_is_ipv4(&settings->external_addresses[i]))
            return &settings->external_addresses[i];
    return NULL;
}

int nft_ruleset_check(const struct nat_settings *settings)
{
    if (settings->masquerade_port_first > settings->masquerade_port_last)
        return -EINVAL;
    return 0;
}

/* Without `table_flags` a table that is there stays as it is. */
static void put_table_message(struct nft_batch *batch, uint16_t type, uint16_t flags,
                              const char *name, const uint32_t *table_flags)
{
    struct nlmsghdr *header = nft_batch_open_message(batch, type, flags, OBJECT_SIZE_MAX);

    if (!header)
        return;
    mnl_attr_put_strz(header, NFTA_TABLE_NAME, name);
    if (table_flags)
        mnl_attr_put_u32(header, NFTA_TABLE_FLAGS, htobe32(*table_flags));
    nft_batch_close_message(batch, header);
}

void nft_ruleset_put_empty_table(struct nft_batch *batch, const char *table)
{
    /* Said even when it is there already: somebody may have put it to sleep. */
    static const uint32_t no_flags = 0;

    put_table_message(batch, NFT_MSG_NEWTABLE, NLM_F_CREATE, table, &no_flags);
}

void nft_ruleset_put_removal(struct nft_batch *batch, const char *table)
{
    put_table_message(batch, NFT_MSG_NEWTABLE, NLM_F_CREATE, table, NULL);
    put_table_message(batch, NFT_MSG_DELTABLE, 0, table, NULL);
}

/* Of all chains. Anonymous sets go with them. */
static void put_removal_of_rules(struct nft_batch *batch)
{
    struct nlmsghdr *header = nft_batch_open_message(batch, NFT_MSG_DELRULE, 0, OBJECT_SIZE_MAX);

    if (!header)
        return;
    mnl_attr_put_strz(header, NFTA_RULE_TABLE, NFT_TABLE);
    nft_batch_close_message(batch, header);
}

void nft_ruleset_put_table(struct nft_batch *batch, const struct nat_settings *settings,
                           uint32_t n_mappings_max, bool is_made_anew)
{
    if (is_made_anew)
        nft_ruleset_put_removal(batch, NFT_TABLE);
    nft_ruleset_put_empty_table(batch, NFT_TABLE);
    put_removal_of_rules(batch);
    nft_declare_interfaces(batch, SET_OUTSIDE, settings);
    nft_declare_external(batch, SET_EXTERNAL4, settings);
    nft_declare_prefixes(batch, SET_INTERNAL4, NFT_FAMILY_IPV4, settings);
    nft_declare_prefixes(batch, SET_INTERNAL6, NFT_FAMILY_IPV6, settings);
    nft_declare_mappings(batch, n_mappings_max);
}

static void put_chain(struct nft_batch *batch, const char *name, const char *type, uint32_t hook,
                      int32_t priority)
{
    struct nftnl_chain *chain = nftnl_chain_alloc();
    struct nlmsghdr *header;

    if (!chain) {
        batch->failed = true;
        return;
    }
    nftnl_chain_set_str(chain, NFTNL_CHAIN_TABLE, batch->table);
    nftnl_chain_set_str(chain, NFTNL_CHAIN_NAME, name);
    if (type) {
        nftnl_chain_set_str(chain, NFTNL_CHAIN_TYPE, type);
        nftnl_chain_set_u32(chain, NFTNL_CHAIN_HOOKNUM, hook);
        nftnl_chain_set_s32(chain, NFTNL_CHAIN_PRIO, priority);
        nftnl_chain_set_u32(chain, NFTNL_CHAIN_POLICY, NF_ACCEPT);
    }
    header = nft_batch_open_message(batch, NFT_MSG_NEWCHAIN, NLM_F_CREATE, OBJECT_SIZE_MAX);
    if (header) {
        nftnl_chain_nlmsg_build_payload(header, chain);
        nft_batch_close_message(batch, header);
    }
    nftnl_chain_free(chain);
}

static void put_decision(struct nft_batch *batch, const char *chain, int verdict,
                         const char *target)
{
    struct nft_rule rule;

    nft_rule_begin(&rule, chain);
    nft_rule_decide(&rule, verdict, target);
    nft_rule_end(&rule, batch);
}

/*
 * Where new flows to a mapped external endpoint are turned inside. From the gateway itself as well.
 */
/* [R-6887-11-4] */
static void put_inbound(struct nft_batch *batch, const char *chain)
{
    for (size_t i = 0; i < N_ELEMENTS(scopes); i++) {
        struct nft_rule rule;
        nft_rule_begin(&rule, chain);
        nft_rule_match_family(&rule, NFT_FAMILY_IPV4);
        nft_rule_look_up(&rule, NFT_FAMILY_IPV4, scopes[i], NFT_ROLE_INBOUND, NFT_END_DESTINATION);
        nft_rule_set_label(&rule);
        nft_rule_translate(&rule, NFT_NAT_DNAT, scopes[i]);
        nft_rule_end(&rule, batch);
    }
}

/*
 * A mapped host's own flows leave from its external endpoint: to the world one host is one
 * endpoint.
 */
/* [R-6887-11-5] [R-6886-3.9-1] */
static void put_outbound(struct nft_batch *batch, const char *chain)
{
    for (size_t i = 0; i < N_ELEMENTS(scopes); i++) {
        struct nft_rule rule;
        nft_rule_begin(&rule, chain);
        nft_rule_match_family(&rule, NFT_FAMILY_IPV4);
        nft_rule_look_up(&rule, NFT_FAMILY_IPV4, scopes[i], NFT_ROLE_OUTBOUND, NFT_END_SOURCE);
        nft_rule_translate(&rule, NFT_NAT_SNAT, scopes[i]);
        nft_rule_end(&rule, batch);
    }
}

/*
 * The ports to choose from are not the mappings', or a dynamic flow could take a mapped endpoint's
 * place.
 */
static void put_masquerade_ports(struct nft_batch *batch, const char *chain,
                                 const struct nat_settings *settings, uint32_t ported_set_id)
{
    struct nft_rule rule;

    nft_rule_begin(&rule, chain);
    nft_rule_match_family(&rule, NFT_FAMILY_IPV4);
    nft_rule_match_address_in_set(&rule, NFT_FAMILY_IPV4, NFT_END_SOURCE, SET_INTERNAL4);
    nft_rule_match_meta_in_set(&rule, NFT_META_L4PROTO, NFT_ANONYMOUS_SET, ported_set_id, false);
    nft_rule_masquerade(&rule, masquerade_address(settings), settings->masquerade_port_first,
                        settings->masquerade_port_last);
    nft_rule_end(&rule, batch);
}

static void put_masquerade(struct nft_batch *batch, const char *chain,
                           const struct nat_settings *settings, uint32_t ported_set_id)
{
    struct nft_rule rule;

    if (settings->masquerade_port_last > 0) {
        nft_declare_ported(batch, ported_set_id);
        put_masquerade_ports(batch, chain, settings, ported_set_id);
    }
    nft_rule_begin(&rule, chain);
    nft_rule_match_family(&rule, NFT_FAMILY_IPV4);
    nft_rule_match_address_in_set(&rule, NFT_FAMILY_IPV4, NFT_END_SOURCE, SET_INTERNAL4);
    nft_rule_masquerade(&rule, masquerade_address(settings), 0, 0);
    nft_rule_end(&rule, batch);
}

/*
 * Between two internal hosts by way of a mapping: the source must be translated too, or the answers
 * would go past us (RFC 6888 s3, REQ-1; RFC 4787 s6).
 */
static void put_hairpin(struct nft_batch *batch, const struct nat_settings *settings)
{
    struct nft_rule rule;

    put_outbound(batch, "hairpin");
    put_masquerade(batch, "hairpin", settings, SET_ID_HAIRPIN);
    nft_rule_begin(&rule, "postrouting");
    nft_rule_match_family(&rule, NFT_FAMILY_IPV4);
    nft_rule_match_label(&rule);
    nft_rule_match_address_in_set(&rule, NFT_FAMILY_IPV4, NFT_END_SOURCE, SET_INTERNAL4);
    nft_rule_match_address_in_set(&rule, NFT_FAMILY_IPV4, NFT_END_DESTINATION, SET_INTERNAL4);
    nft_rule_decide(&rule, NFT_GOTO, "hairpin");
    nft_rule_end(&rule, batch);
}

static void put_postrouting(struct nft_batch *batch, const struct nat_settings *settings)
{
    struct nft_rule rule;

    if (masquerade_address(settings))
        put_hairpin(batch, settings);
    nft_rule_begin(&rule, "postrouting");
    nft_rule_match_meta_in_set(&rule, NFT_META_OIFNAME, SET_OUTSIDE, 0, true);
    nft_rule_decide(&rule, NFT_RETURN, NULL);
    nft_rule_end(&rule, batch);
    put_outbound(batch, "postrouting");
    /* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): takes "no address" above for "no settings" */
    if (settings->masquerade && masquerade_address(settings))
        put_masquerade(batch, "postrouting", settings, SET_ID_POSTROUTING);
}

/*
 * `chain`: look the mapping up in each scope, most specific first, and decide as the callers say;
 * else drop.
 */
static void put_live_check(struct nft_batch *batch, enum nft_family family, enum nft_end end,
                           const char *chain)
{
    for (size_t i = 0; i < N_ELEMENTS(scopes); i++) {
        const char *target = end == NFT_END_DESTINATION ? chains[family].admit[scopes[i]] : NULL;
        struct nft_rule rule;
        nft_rule_begin(&rule, chain);
        nft_rule_match_family(&rule, family);
        nft_rule_look_up(&rule, family, scopes[i], NFT_ROLE_LIVE, end);
        nft_rule_decide(&rule, target ? NFT_GOTO : NF_ACCEPT, target);
        nft_rule_end(&rule, batch);
    }
    put_decision(batch, chain, NF_DROP, NULL);
}

static void put_filter_check(struct nft_batch *batch, enum nft_family family, enum nft_scope scope,
                             enum nft_role role, const char *chain, int verdict, const char *target)
{
    struct nft_rule rule;

    nft_rule_begin(&rule, chain);
    nft_rule_match_family(&rule, family);
    nft_rule_look_up(&rule, family, scope, role, NFT_END_DESTINATION);
    nft_rule_decide(&rule, verdict, target);
    nft_rule_end(&rule, batch);
}

/* FILTER (RFC 6887 s13.3): without filters everybody may come in, with filters those they name. */
/* [R-6887-13.3-3] */
static void put_filters(struct nft_batch *batch, enum nft_family family, enum nft_scope scope)
{
    const char *admit = chains[family].admit[scope], *filter = chains[family].filter[scope];

    put_filter_check(batch, family, scope, NFT_ROLE_FILTERED, admit, NFT_GOTO, filter);
    put_decision(batch, admit, NF_ACCEPT, NULL);
    put_filter_check(batch, family, scope, NFT_ROLE_FILTER_PREFIX, filter, NF_ACCEPT, NULL);
    put_filter_check(batch, family, scope, NFT_ROLE_FILTER_PORT, filter, NF_ACCEPT, NULL);
    put_decision(batch, filter, NF_DROP, NULL);
}

static void put_labelled(struct nft_batch *batch, enum nft_family family, uint8_t direction,
                         const char *target)
{
    struct nft_rule rule;

    nft_rule_begin(&rule, "forward");
    nft_rule_match_label(&rule);
    nft_rule_match_direction(&rule, direction);
    nft_rule_match_family(&rule, family);
    nft_rule_decide(&rule, NFT_GOTO, target);
    nft_rule_end(&rule, batch);
}

static void put_state_acceptance(struct nft_batch *batch, const char *chain, uint32_t state)
{
    struct nft_rule rule;

    nft_rule_begin(&rule, chain);
    nft_rule_match_state(&rule, state);
    nft_rule_decide(&rule, NF_ACCEPT, NULL);
    nft_rule_end(&rule, batch);
}

/*
 * New flows from outside to internal IPv6 hosts need a mapping (RFC 6887 s1.1 calls that a
 * firewall's pinhole). The label is set before the mapping is looked up: a flow that is dropped
 * then is never confirmed, and its label goes with it.
 */
static void put_ipv6_default(struct nft_batch *batch)
{
    struct nft_rule rule;

    put_state_acceptance(batch, "in6", NF_CT_STATE_BIT(IP_CT_ESTABLISHED));
    nft_rule_begin(&rule, "in6");
    nft_rule_match_icmpv6_errors(&rule);
    nft_rule_decide(&rule, NF_ACCEPT, NULL);
    nft_rule_end(&rule, batch);
    nft_rule_begin(&rule, "in6");
    nft_rule_set_label(&rule);
    nft_rule_decide(&rule, NFT_GOTO, chains[NFT_FAMILY_IPV6].open);
    nft_rule_end(&rule, batch);

    nft_rule_begin(&rule, "forward");
    nft_rule_match_meta_in_set(&rule, NFT_META_IIFNAME, SET_OUTSIDE, 0, false);
    nft_rule_match_family(&rule, NFT_FAMILY_IPV6);
    nft_rule_match_address_in_set(&rule, NFT_FAMILY_IPV6, NFT_END_DESTINATION, SET_INTERNAL6);
    nft_rule_decide(&rule, NFT_GOTO, "in6");
    nft_rule_end(&rule, batch);
}

/*
 * Behind masquerading nobody outside may address internal hosts directly, past mappings and
 * filters.
 */
static void put_ipv4_default(struct nft_batch *batch)
{
    struct nft_rule rule;

    nft_rule_begin(&rule, "forward");
    nft_rule_match_meta_in_set(&rule, NFT_META_IIFNAME, SET_OUTSIDE, 0, false);
    nft_rule_match_family(&rule, NFT_FAMILY_IPV4);
    nft_rule_match_address_in_set(&rule, NFT_FAMILY_IPV4, NFT_END_DESTINATION, SET_INTERNAL4);
    nft_rule_match_state(&rule, NF_CT_STATE_BIT(IP_CT_NEW));
    nft_rule_match_not_translated(&rule);
    nft_rule_decide(&rule, NF_DROP, NULL);
    nft_rule_end(&rule, batch);
}

void nft_ruleset_put_socket_rule(struct nft_batch *batch)
{
    struct nft_rule rule;

    put_chain(batch, "unserved", NULL, 0, 0);
    nft_rule_begin(&rule, "unserved");
    nft_rule_match_socket(&rule);
    nft_rule_decide(&rule, NF_ACCEPT, NULL);
    nft_rule_end(&rule, batch);
    nft_rule_begin(&rule, "unserved");
    nft_rule_reject(&rule);
    nft_rule_end(&rule, batch);
}

/*
 * A datagram to an external port without a mapping ends at the gateway, is answered "port
 * unreachable", and leaves an untranslated flow behind. If its sender went on, that flow would
 * outlast the making of a mapping for the port, which would then be of no use to this sender. So
 * where no socket waits, the same answer is given before the flow is confirmed, and after everybody
 * else's rules.
 */
static void put_input(struct nft_batch *batch)
{
    struct nft_rule rule;

    nft_ruleset_put_socket_rule(batch);
    put_chain(batch, "input", "filter", NF_INET_LOCAL_IN, NF_IP_PRI_CONNTRACK_HELPER);
    nft_rule_begin(&rule, "input");
    nft_rule_match_family(&rule, NFT_FAMILY_IPV4);
    nft_rule_match_address_in_set(&rule, NFT_FAMILY_IPV4, NFT_END_DESTINATION, SET_EXTERNAL4);
    nft_rule_match_protocol(&rule, IPPROTO_UDP);
    nft_rule_match_state(&rule, NF_CT_STATE_BIT(IP_CT_NEW));
    nft_rule_decide(&rule, NFT_GOTO, "unserved");
    nft_rule_end(&rule, batch);
}

static bool has_internal_ipv6(const struct nat_settings *settings)
{
    for (size_t i = 0; i < settings->n_internal_prefixes; i++)
        if (!ip_address_is_ipv4(&settings->internal_prefixes[i].address))
            return true;
    return false;
}

/* [R-6887-11-3] */
static void put_forward(struct nft_batch *batch, const struct nat_settings *settings)
{
    /* An ICMP error has its flow's label but not its ports. */
    put_state_acceptance(batch, "forward", NF_CT_STATE_BIT(IP_CT_RELATED));
    for (enum nft_family family = 0; family < NFT_FAMILY_COUNT; family++) {
        put_labelled(batch, family, IP_CT_DIR_ORIGINAL, chains[family].open);
        put_labelled(batch, family, IP_CT_DIR_REPLY, chains[family].answer);
    }
    if (has_internal_ipv6(settings))
        put_ipv6_default(batch);
    if (settings->masquerade)
        put_ipv4_default(batch);
}

static void put_family_chains(struct nft_batch *batch, enum nft_family family)
{
    put_chain(batch, chains[family].open, NULL, 0, 0);
    put_chain(batch, chains[family].answer, NULL, 0, 0);
    for (enum nft_scope scope = 0; scope < NFT_SCOPE_COUNT; scope++) {
        if (!chains[family].admit[scope])
            continue;
        put_chain(batch, chains[family].admit[scope], NULL, 0, 0);
        put_chain(batch, chains[family].filter[scope], NULL, 0, 0);
    }
}

static void put_chains(struct nft_batch *batch)
{
    put_chain(batch, "hairpin", NULL, 0, 0);
    put_chain(batch, "in6", NULL, 0, 0);
    for (enum nft_family family = 0; family < NFT_FAMILY_COUNT; family++)
        put_family_chains(batch, family);
    put_chain(batch, "prerouting", "nat", NF_INET_PRE_ROUTING, NF_IP_PRI_NAT_DST - 5);
    put_chain(batch, "output", "nat", NF_INET_LOCAL_OUT, NF_IP_PRI_NAT_DST - 5);
    put_chain(batch, "postrouting", "nat", NF_INET_POST_ROUTING, NF_IP_PRI_NAT_SRC - 5);
    put_chain(batch, "forward", "filter", NF_INET_FORWARD, NF_IP_PRI_FILTER - 5);
}

static void put_family_rules(struct nft_batch *batch, enum nft_family family)
{
    put_live_check(batch, family, NFT_END_DESTINATION, chains[family].open);
    put_live_check(batch, family, NFT_END_SOURCE, chains[family].answer);
    for (enum nft_scope scope = 0; scope < NFT_SCOPE_COUNT; scope++)
        if (chains[family].admit[scope])
            put_filters(batch, family, scope);
}

/* The chain has the kernel translate, its rule has it track what is to be translated. */
void nft_ruleset_put_guard(struct nft_batch *batch)
{
    static const uint32_t flags = FLAG_OWNER;

    put_table_message(batch, NFT_MSG_NEWTABLE, NLM_F_CREATE, batch->table, &flags);
    put_chain(batch, "guard", "nat", NF_INET_PRE_ROUTING, NF_IP_PRI_NAT_DST);
    put_state_acceptance(batch, "guard", NF_CT_STATE_BIT(IP_CT_ESTABLISHED));
}

void nft_ruleset_put_rules(struct nft_batch *batch, const struct nat_settings *settings,
                           bool can_see_sockets)
{
    put_chains(batch);
    for (enum nft_family family = 0; family < NFT_FAMILY_COUNT; family++)
        put_family_rules(batch, family);
    put_inbound(batch, "prerouting");
    put_inbound(batch, "output");
    put_postrouting(batch, settings);
    put_forward(batch, settings);
    if (can_see_sockets)
        put_input(batch);
}

static bool is_among(const char *name, const char *const *names, size_t n_names)
{
    for (size_t i = 0; i < n_names; i++)
        if (names[i] && strcmp(names[i], name) == 0)
            return true;
    return false;
}

bool nft_ruleset_knows_chain(const char *name)
{
    static const char *const others[] = {"prerouting", "output",  "postrouting", "forward",
                                         "input",      "hairpin", "in6",         "unserved"};

    for (enum nft_family family = 0; family < NFT_FAMILY_COUNT; family++)
        if (is_among(name, &chains[family].open, 1) || is_among(name, &chains[family].answer, 1) ||
            is_among(name, chains[family].admit, NFT_SCOPE_COUNT) ||
            is_among(name, chains[family].filter, NFT_SCOPE_COUNT))
            return true;
    return is_among(name, others, N_ELEMENTS(others));
}

bool nft_ruleset_knows_set(const char *name)
{
    static const char *const others[] = {SET_OUTSIDE, SET_EXTERNAL4, SET_INTERNAL4, SET_INTERNAL6};

    for (enum nft_family family = 0; family < NFT_FAMILY_COUNT; family++)
        for (enum nft_scope scope = 0; scope < NFT_SCOPE_COUNT; scope++)
            for (enum nft_role role = 0; role < NFT_ROLE_COUNT; role++) {
                const char *own = nft_set_name(family, scope, role);
                if (is_among(name, &own, 1))
                    return true;
            }
    return is_among(name, others, N_ELEMENTS(others));
}
