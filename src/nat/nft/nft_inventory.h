#pragma once

/*
 * What is in the kernel under our table's name: chains and sets by name, nothing of what they hold.
 */

#include <stdint.h>

#include <libmnl/libmnl.h>

#include "base/util.h"

enum nft_inventory {
    NFT_INVENTORY_EMPTY,   /* no such table, or nothing in it */
    NFT_INVENTORY_OURS,    /* only chains and sets of names we use; some may be missing */
    NFT_INVENTORY_STRANGE, /* others as well, or maps of another size */
};

/*
 * `map_size`: what the maps' should be, as older kernels do not complain of a difference. 0 or
 * -errno.
 */
MUST_CHECK int nft_inventory_take(struct mnl_socket *socket, uint32_t map_size,
                                  enum nft_inventory *ret_inventory);
