#pragma once

/*
 * One rule of the ruleset as a list of expressions, as nft(8) would compile them; so `nft list
 * ruleset` shows them in its language. Registers are counted in words of 4 octets. Out of memory is
 * remembered by the batch.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <libnftnl/rule.h>

#include "nat/nft/nft_batch.h"
#include "nat/nft/nft_sets.h"

struct nft_rule {
    struct nftnl_rule *rule;
    bool failed;
};

/* Seen from the internal host: which end of the packet is its own. */
enum nft_end {
    NFT_END_DESTINATION,
    NFT_END_SOURCE,
};

void nft_rule_begin(struct nft_rule *rule, const char *chain);
/* Appends the rule to its chain in `batch` and frees it. */
void nft_rule_end(struct nft_rule *rule, struct nft_batch *batch);

/* Conditions: the rule goes on only when they hold. */
void nft_rule_match_family(struct nft_rule *rule, enum nft_family family);
void nft_rule_match_meta_in_set(struct nft_rule *rule, uint32_t meta_key, const char *set,
                                uint32_t set_id, bool is_negated);
void nft_rule_match_address_in_set(struct nft_rule *rule, enum nft_family family, enum nft_end end,
                                   const char *set);
/* `state` is a mask of NF_CT_STATE bits. */
void nft_rule_match_state(struct nft_rule *rule, uint32_t state);
void nft_rule_match_not_translated(struct nft_rule *rule);
void nft_rule_match_direction(struct nft_rule *rule, uint8_t direction);
void nft_rule_match_label(struct nft_rule *rule);
void nft_rule_match_icmpv6_errors(struct nft_rule *rule);
void nft_rule_match_protocol(struct nft_rule *rule, uint8_t protocol);
/* Some socket of this machine waits for the packet. */
void nft_rule_match_socket(struct nft_rule *rule);

/*
 * Loads the key of a set of this scope and role from the packet and looks it up; of a map, the data
 * are then in the first words. The external key of NFT_ROLE_INBOUND is taken from the same end.
 */
void nft_rule_look_up(struct nft_rule *rule, enum nft_family family, enum nft_scope scope,
                      enum nft_role role, enum nft_end end);

/* Statements. */
void nft_rule_set_label(struct nft_rule *rule);
/*
 * Translates to the looked-up address, and port when the scope has one. `nat_type` is NFT_NAT_DNAT
 * or NFT_NAT_SNAT.
 */
void nft_rule_translate(struct nft_rule *rule, uint32_t nat_type, enum nft_scope scope);
/* Source NAT to an address, and to a port range unless `port_last` is 0. */
void nft_rule_masquerade(struct nft_rule *rule, const struct ip_address *address,
                         uint16_t port_first, uint16_t port_last);
/* Answers as a host without a socket does: "port unreachable". */
void nft_rule_reject(struct nft_rule *rule);
/* `verdict` is NF_ACCEPT, NF_DROP, NFT_RETURN or NFT_GOTO; `chain` only with the last. */
void nft_rule_decide(struct nft_rule *rule, int verdict, const char *chain);

/* The conntrack label of flows let in by a mapping, in the layout of CTA_LABELS. */
#define NFT_LABEL_BIT 77
#define NFT_LABEL_SIZE 16
void nft_rule_label(uint8_t ret_label[NFT_LABEL_SIZE]);
