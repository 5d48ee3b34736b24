#pragma once

/* Ends flows in connection tracking, over netlink. */

#include <stdbool.h>
#include <stddef.h>

#include "base/util.h"
#include "mapping/record.h"
#include "nat/nat.h"

struct nft_conntrack;

MUST_CHECK int nft_conntrack_open(struct nft_conntrack **ret_conntrack);
/* Accepts NULL. */
void nft_conntrack_close(struct nft_conntrack *conntrack);
/* A mapping that is not what it was. */
struct nft_ended {
    const struct mapping_record *record; /* as it was; borrowed */
    bool is_moved;                       /* it goes on with other endpoints */
};

/*
 * Removes the entries of flows that went through these mappings: let in by them, or sent by their
 * hosts from the mapped external endpoint; but of a PEER mapping that is not moved only the former.
 * 0 or -errno.
 */
MUST_CHECK int nft_conntrack_cut(struct nft_conntrack *conntrack, const struct nft_ended *ended,
                                 size_t n_ended);
/*
 * Removes entries of IPv4 flows that began while there were no rules (before the first reconcile,
 * or after somebody's flush): not translated, never answered, from an internal host or to an
 * external address. Their next packet begins anew, and is translated. 0 or -errno.
 */
MUST_CHECK int nft_conntrack_forget_untranslated(struct nft_conntrack *conntrack,
                                                 const struct nat_settings *settings);
