#pragma once

/* The store on LMDB: one environment in a directory of its own, keyed by mapping id so that new mappings append. */

#include "base/util.h"
#include "store/store.h"

/*
 * Opens or creates the environment in `directory` (created with mode 0700 when missing; its parent must exist).
 * `map_size_bytes` bounds the file.
 *
 * On failure returns -errno and, in `ret_why` (>= 256 octets), one line for the operator that names the path:
 *   -EUCLEAN   damaged, truncated, or not ours: refused, never overwritten
 *   -ENOTEMPTY no store, but files of somebody else: moving a store aside would not help
 *   -ENOTSUP   written by a later version
 *   -EBUSY     another process has it open
 */
MUST_CHECK int lmdb_store_open(const char *directory, size_t map_size_bytes,
                               struct store **ret_store, char *ret_why);

/*
 * Moves the files of `directory` aside into "<directory>.aside-<n>" (first free n), for holdfastd --new-state. 0 also when
 * there was nothing to move; -EBUSY while another process has the store open. `ret_where` (PATH_MAX octets) is set to the new
 * place, or to "" when nothing was moved.
 */
MUST_CHECK int lmdb_store_move_aside(const char *directory, char *ret_where);
