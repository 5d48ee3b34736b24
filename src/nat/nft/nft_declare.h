#pragma once

/*
 * Messages that make sets: those for mappings come empty, those for settings with their elements.
 */

#include <stdbool.h>
#include <stdint.h>

#include "nat/nat.h"
#include "nat/nft/nft_batch.h"
#include "nat/nft/nft_sets.h"

/* The kernel makes a name of its own of it; rules refer to the set by its id. */
#define NFT_ANONYMOUS_SET "__set%d"

/*
 * All sets of the catalogue. `n_mappings_max` bounds those with one element per mapping; 0: no
 * bound.
 */
void nft_declare_mappings(struct nft_batch *batch, uint32_t n_mappings_max);
/* The outside interfaces by name. */
void nft_declare_interfaces(struct nft_batch *batch, const char *set,
                            const struct nat_settings *settings);
/* The external IPv4 addresses. */
void nft_declare_external(struct nft_batch *batch, const char *set,
                          const struct nat_settings *settings);
/* The internal prefixes of one family. */
void nft_declare_prefixes(struct nft_batch *batch, const char *set, enum nft_family family,
                          const struct nat_settings *settings);
/* Constant set of the protocols that have ports, for the rule that follows. */
void nft_declare_ported(struct nft_batch *batch, uint32_t set_id);
