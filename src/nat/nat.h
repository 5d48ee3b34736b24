#pragma once

/*
 * The packet path behind one small interface: it makes live mappings true in the kernel. It is told changes, never asked
 * in the request path (reading a kernel table back is quadratic); the kernel is a cache of the table. One thread at a time,
 * but for find_flow and was_touched: one other thread may call these beside the rest.
 *
 * Only records in MAPPING_STATE_LIVE have anything in the kernel: a change from live to held is a removal, held to live
 * an addition. Kernel timeouts are the remaining lifetime plus a grace, so a dead daemon leaks nothing for ever; where a
 * renewal moves the end, the element's timeout moves too.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/address.h"
#include "base/util.h"
#include "mapping/change.h"
#include "mapping/record.h"

#define NAT_INTERFACES_MAX 16
#define NAT_EXTERNAL_ADDRESSES_MAX 64
#define NAT_PREFIXES_MAX 64

/* What does not change with every mapping. The lists are value copies; names are IFNAMSIZ (16) octets. */
struct nat_settings {
    char outside_interfaces[NAT_INTERFACES_MAX][16];
    size_t n_outside_interfaces;
    /* Addresses mappings live on. Families may be mixed; IPv6 mappings keep their address. */
    struct ip_address external_addresses[NAT_EXTERNAL_ADDRESSES_MAX];
    size_t n_external_addresses;
    /* Where internal hosts live: hairpin and masquerade apply to them, IPv6 pinholes protect them. */
    struct ip_prefix internal_prefixes[NAT_PREFIXES_MAX];
    size_t n_internal_prefixes;
    /* Ordinary outbound NAT for internal prefixes, from a port range disjoint from the mappings'. */
    bool masquerade;
    uint16_t masquerade_port_first, masquerade_port_last;
    struct ip_address masquerade_address; /* IPv4; any: the first external address */
    /* Added to every kernel timeout. */
    uint32_t grace_s;
    /* Upper bound of elements per map. */
    uint32_t size_hint;
};

struct nat;

struct nat_operations {
    /*
     * Carries out all changes in one transaction. `now_ns` is service time, to turn expiry into a timeout. 0, or -errno with
     * the kernel as it was: -ENOSPC (a map is full), -EEXIST (somebody else's element is in the way), -ENOENT (our table is
     * gone: reconcile), -EPERM, ...
     */
    int (*apply)(struct nat *nat, const struct change *changes, size_t n_changes, uint64_t now_ns);
    /*
     * Ends the flows in conntrack that belonged to mappings which `changes` end or move. What the internal host of a PEER
     * mapping sent stays when that merely ends: it is an ordinary flow again (RFC 6887 s12.3). After apply; failure is not
     * fatal, as the ruleset itself stops flows whose mapping is gone. 0 or -errno.
     */
    int (*cut_flows)(struct nat *nat, const struct change *changes, size_t n_changes);
    /*
     * Makes the kernel equal to `records` (live ones) and to `settings` in one atomic transaction, creating what is missing
     * and removing what is stale, without cutting running traffic. Also how settings are changed. 0 or -errno.
     */
    int (*reconcile)(struct nat *nat, const struct nat_settings *settings,
                     const struct mapping_record *const *records, size_t n_records,
                     uint64_t now_ns);
    /* Removes everything of ours from the kernel: `holdfastd --remove-rules`, never at an ordinary stop. 0 or -errno. */
    int (*remove_all)(struct nat *nat);
    /*
     * Where the flow of `internal` with `remote` appears outside, by a look-up in constant time. 0; -ENOENT when there is no
     * such flow; -errno.
     */
    int (*find_flow)(struct nat *nat, uint8_t protocol, const struct endpoint *internal,
                     const struct endpoint *remote, struct endpoint *ret_external);
    /*
     * Begins to watch for other programs that change what is ours; the descriptor, which stays the nat's, becomes readable
     * then. 0 or -errno.
     */
    int (*watch)(struct nat *nat, int *ret_fd);
    /* Reads the news. True when the kernel is no longer what we made it, or may not be: reconcile. */
    bool (*was_touched)(struct nat *nat);
    void (*close)(struct nat *nat);
};

struct nat {
    const struct nat_operations *operations;
};

static inline MUST_CHECK int nat_apply(struct nat *nat, const struct change *changes,
                                       size_t n_changes, uint64_t now_ns)
{
    return nat->operations->apply(nat, changes, n_changes, now_ns);
}

static inline MUST_CHECK int nat_cut_flows(struct nat *nat, const struct change *changes,
                                           size_t n_changes)
{
    return nat->operations->cut_flows(nat, changes, n_changes);
}

static inline MUST_CHECK int nat_reconcile(struct nat *nat, const struct nat_settings *settings,
                                           const struct mapping_record *const *records,
                                           size_t n_records, uint64_t now_ns)
{
    return nat->operations->reconcile(nat, settings, records, n_records, now_ns);
}

static inline MUST_CHECK int nat_remove_all(struct nat *nat)
{
    return nat->operations->remove_all(nat);
}

static inline MUST_CHECK int nat_find_flow(struct nat *nat, uint8_t protocol,
                                           const struct endpoint *internal,
                                           const struct endpoint *remote,
                                           struct endpoint *ret_external)
{
    return nat->operations->find_flow(nat, protocol, internal, remote, ret_external);
}

static inline MUST_CHECK int nat_watch(struct nat *nat, int *ret_fd)
{
    return nat->operations->watch(nat, ret_fd);
}

static inline bool nat_was_touched(struct nat *nat)
{
    return nat->operations->was_touched(nat);
}

/* Accepts NULL. */
static inline void nat_close(struct nat *nat)
{
    if (nat)
        nat->operations->close(nat);
}
