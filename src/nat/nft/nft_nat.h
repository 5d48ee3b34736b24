#pragma once

/*
 * The packet path in nftables: a table "inet holdfast" of our own, one map element per mapping,
 * programmed over netlink with libmnl and libnftnl, as is connection tracking. Nothing here runs a
 * shell or nft(8).
 */

#include "base/util.h"
#include "nat/nat.h"

/*
 * Until the first reconcile, apply is -ENOENT. Flows that a mapping let in carry conntrack label
 * bit 77: other firewalls on the machine that drop by default can accept by it (`ct label 77
 * accept`).
 *
 * Opens the netlink sockets and finds out what this kernel can do. 0 or -errno (-EPERM without
 * CAP_NET_ADMIN).
 */
MUST_CHECK int nft_nat_open(struct nat **ret_nat);
