#pragma once

/*
 * The time of the last commit, outside of the store: in a file beside the control socket, which a boot begins without. A
 * store that is copied back from an earlier moment of the same boot cannot be told from one that is whole by itself; it
 * is told by this.
 */

#include <stdint.h>

#include "base/util.h"
#include "store/store.h"

struct witness {
    int fd; /* -1: none */
    uint8_t boot_id[STORE_BOOT_ID_SIZE];
};

#define WITNESS_NONE ((struct witness){.fd = -1})

/*
 * The file is made if it is missing, and the folder it is in. `*ret_committed_ns` is the service time of the last commit that
 * was noted during this boot, 0 when there was none. 0 or -errno.
 */
MUST_CHECK int witness_open(const char *control_socket, const uint8_t boot_id[STORE_BOOT_ID_SIZE],
                            struct witness *ret_witness, uint64_t *ret_committed_ns);
void witness_close(struct witness *witness);
/* After each commit, by whichever thread made it. Does nothing on WITNESS_NONE. */
void witness_note(const struct witness *witness, uint64_t committed_ns);
