#pragma once

/* What this kernel's nftables can do beyond the least that we need, found out by trying. */

#include <stdbool.h>

#include <libmnl/libmnl.h>

#include "base/util.h"
#include "nat/nat.h"

struct nft_features {
    bool can_update;      /* adding an element again moves its timeout: Linux 6.12 */
    bool can_see_sockets; /* rules may ask for a local socket, and reject: optional modules */
    bool can_destroy;     /* deletions that do not mind a missing element: Linux 6.3 */
};

/* Tries in a table of its own, which it removes again. 0 or -errno. */
MUST_CHECK int nft_features_probe(struct mnl_socket *socket, struct nft_features *ret_features);

/* Linux 6.3's message for that, which older headers do not name. */
#define NFT_FEATURES_DESTROY_ELEMENT 30

/* For tests: makes an open nft_nat do without what it found, as an older kernel would have it. */
void nft_nat_force_features(struct nat *nat, const struct nft_features *features);
