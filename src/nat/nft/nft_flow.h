#pragma once

/* Finds a single flow in connection tracking, by its ends. */

#include <stdint.h>

#include "base/address.h"
#include "base/util.h"

struct nft_flow_finder;

/* With a netlink socket of its own, so that it may be used beside everything else. 0 or -errno. */
MUST_CHECK int nft_flow_finder_open(struct nft_flow_finder **ret_finder);
/* Accepts NULL. */
void nft_flow_finder_close(struct nft_flow_finder *finder);
/*
 * The external endpoint of the flow between them, whoever began it. Of a protocol with ports. 0;
 * -ENOENT when there is none; -errno.
 */
MUST_CHECK int nft_flow_find(struct nft_flow_finder *finder, uint8_t protocol,
                             const struct endpoint *internal, const struct endpoint *remote,
                             struct endpoint *ret_external);
