#pragma once

/*
 * The fixed part of the table: chains, rules and the sets that hold settings and mappings, without
 * the mappings.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/util.h"
#include "nat/nat.h"
#include "nat/nft/nft_batch.h"

/*
 * 0, or -EINVAL when the port range is upside down. That there is no IPv4 address to masquerade to
 * is no fault: there may be one later, and IPv6 does not wait for it.
 */
MUST_CHECK int nft_ruleset_check(const struct nat_settings *settings);
/*
 * Makes the table and its sets where they are missing, and empties them of rules and elements where
 * they are not. With `is_made_anew` a table that is there is removed first. `n_mappings_max` sizes
 * the maps; 0: no bound.
 */
void nft_ruleset_put_table(struct nft_batch *batch, const struct nat_settings *settings,
                           uint32_t n_mappings_max, bool is_made_anew);
/* Whether a chain or set of that name belongs to our table. */
bool nft_ruleset_knows_chain(const char *name);
bool nft_ruleset_knows_set(const char *name);
/*
 * Chains and rules. After the sets. `can_see_sockets`: this kernel can match and reject by sockets.
 */
void nft_ruleset_put_rules(struct nft_batch *batch, const struct nat_settings *settings,
                           bool can_see_sockets);
/* A chain with one rule of that kind, to see whether the kernel takes it. */
void nft_ruleset_put_socket_rule(struct nft_batch *batch);
/* Removes the table; not an error when there is none. */
void nft_ruleset_put_removal(struct nft_batch *batch, const char *table);
/* Adds a table, nothing when it is there. */
void nft_ruleset_put_empty_table(struct nft_batch *batch, const char *table);
/*
 * The batch's table as one that nobody else can change and that ends with the socket it is sent by
 * (Linux 5.12), whose chain has the kernel go on translating established flows.
 */
void nft_ruleset_put_guard(struct nft_batch *batch);
