#pragma once

/*
 * A packet path that only remembers what it was told: for unit tests and the simulator. As with the
 * kernel, apply returns -ENOENT until the first reconcile, and -EEXIST when the external endpoint
 * belongs to another mapping (PEER mappings share one when their remote endpoints differ).
 */

#include <stdbool.h>

#include "nat/nat.h"

/* NULL when out of memory. */
struct nat *memory_nat_new(void);
/* The next `n` apply or reconcile calls return `error` and change nothing. */
void memory_nat_fail_next(struct nat *nat, unsigned int n, int error);
/* As a foreign flush would: everything is gone, and apply returns -ENOENT until a reconcile. */
void memory_nat_flush(struct nat *nat);
/* What find_flow is to find from now on; `external` NULL: nothing. 0 or -ENOMEM. */
MUST_CHECK int memory_nat_set_flow(struct nat *nat, uint8_t protocol,
                                   const struct endpoint *internal, const struct endpoint *remote,
                                   const struct endpoint *external);
size_t memory_nat_count(const struct nat *nat);
/* True when exactly this live mapping (id, endpoints, protocol, filters) is installed. */
bool memory_nat_contains(const struct nat *nat, const struct mapping_record *record);
/*
 * Service time at which the element would vanish by itself; 0 when it is not there, TIME_NEVER for
 * static ones.
 */
uint64_t memory_nat_timeout_ns(const struct nat *nat, uint64_t id);
