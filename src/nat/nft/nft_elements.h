#pragma once

/* From mappings to set elements. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/util.h"
#include "nat/nat.h"
#include "nat/nft/nft_batch.h"
#include "nat/nft/nft_sets.h"

/* What is to happen to one mapping's elements. Pointers are borrowed. */
struct nft_step {
    uint64_t id;                                 /* of the mapping */
    const struct mapping_record *before, *after; /* NULL: not in the kernel */
    enum nft_family family[2];                   /* of before and after */
    enum nft_scope scope[2];
    bool is_renewal;     /* the endpoints stay; only the time or the filters change */
    uint64_t timeout_ms; /* of after; 0: never */
};

/* How to go about it on this kernel. */
struct nft_element_writer {
    struct nft_batch *batch;
    bool can_update;      /* adding an element again moves its timeout */
    uint16_t delete_type; /* NFT_MSG_DELSETELEM or one that does not mind missing elements */
    /*
     * Deletions are numbered as they are written; those set here, found missing before, become
     * messages that do nothing, so that the numbering stays. NULL: none.
     */
    const uint8_t *is_missing;
    size_t n_deletions;
};

/* Fills in what follows from the records; 0, or -EOPNOTSUPP. */
MUST_CHECK int nft_elements_prepare(struct nft_step *step, uint64_t now_ns, uint32_t grace_s);
/* The same elements, but for timeouts and filters. */
bool nft_elements_have_same_endpoints(const struct mapping_record *a,
                                      const struct mapping_record *b);
/* All deletions, then all additions, so that an endpoint can pass from one mapping to another. */
void nft_elements_put(struct nft_element_writer *writer, const struct nft_step *steps,
                      size_t n_steps);
