#pragma once

/* The helper's conscience: whether what the engine asks for is within the policy. */

#include <stdbool.h>
#include <stddef.h>

#include "base/util.h"
#include "mapping/change.h"
#include "nat/nat.h"
#include "privsep/message.h"
#include "privsep/privsep.h"

#define GUARD_SEEN_MAX NAT_EXTERNAL_ADDRESSES_MAX

struct guard {
    struct privsep_policy policy;
    /* What the policy was before the last reload: what that takes away has still to be removed. */
    struct privsep_policy former;
    /* Addresses that the outside interfaces have or had, the latest last. */
    struct ip_address seen[GUARD_SEEN_MAX];
    size_t n_seen;
};

enum guard_verdict {
    GUARD_VERDICT_PERMITTED,
    GUARD_VERDICT_FORBIDDEN,
    /* Forbidden only as this machine does not have the external address, so that nothing can arrive for it. */
    GUARD_VERDICT_NOT_HERE,
};

void guard_init(struct guard *guard, const struct privsep_policy *policy);
/* From now on another policy, after a reload. */
void guard_change_policy(struct guard *guard, const struct privsep_policy *policy);

bool guard_permits_settings(struct guard *guard, const struct nat_settings *settings);
/* Whether the record may have something in the kernel at `now_ns`. Those that are not live have nothing. */
enum guard_verdict guard_judge_record(struct guard *guard, const struct mapping_record *record,
                                      uint64_t now_ns);
/* Whether flows of the record may be ended: it was permitted under this policy or the one before. */
bool guard_permits_cut(const struct guard *guard, const struct mapping_record *record);
bool guard_permits_flow(const struct guard *guard, const struct message_flow *flow);
/* How many changes or records one command may have. */
size_t guard_n_items_max(const struct guard *guard);

/*
 * 0 when nobody but root can have changed the file at this path, by its own permissions or those of the folders above it;
 * -EACCES, -errno.
 */
MUST_CHECK int guard_check_file(const char *path);
