#pragma once

/*
 * The directory of a store: made, locked, looked over, moved aside. The lock is flock(2) on the
 * directory itself, so that nothing is created in a directory that turns out to be somebody else's;
 * the kernel drops it when its holder dies.
 */

#include <stdbool.h>

#include "base/util.h"

/*
 * Opens `directory`, made with mode 0700 when missing and `may_create`, and locks it. Returns the
 * descriptor, or -errno with the reason in `ret_why`; -EBUSY when another process has the lock.
 */
MUST_CHECK int lmdb_directory_open(const char *directory, bool may_create, char *ret_why);

/*
 * 1 when there is a data file, 0 when there is none and nothing else that is not ours, -errno with
 * the reason; -ENOTEMPTY when there is no data file but files of somebody else.
 */
MUST_CHECK int lmdb_directory_has_data(int directory_fd, const char *directory, char *ret_why);

/*
 * Gives LMDB's lock file its blocks. LMDB only extends and maps it, and on a full file system dies
 * of SIGBUS when it writes to it. Not to be called while this process has the environment open: it
 * would lose LMDB's locks on that file. 0 or -errno.
 */
MUST_CHECK int lmdb_directory_reserve_lock_file(int directory_fd);

/* Moves data and lock file into a new sibling directory; as lmdb_store_move_aside(). */
MUST_CHECK int lmdb_directory_move_aside(int directory_fd, const char *directory, char *ret_where);
