#pragma once

/*
 * What an environment must be before this process maps it, and the names inside it. LMDB believes
 * the pages it maps, so a truncated or damaged file can kill whoever reads it with SIGBUS, SIGSEGV
 * or abort(): a child process reads all of it first.
 */

#include <stdint.h>

#include "base/util.h"

#define LMDB_DATA_FILE "data.mdb"
#define LMDB_LOCK_FILE "lock.mdb"
/* An environment in the making; renamed to LMDB_DATA_FILE when it is complete. */
#define LMDB_NEW_FILE "new.mdb"

#define LMDB_N_DATABASES 4
#define LMDB_META_DATABASE "meta"
#define LMDB_MAPPINGS_DATABASE "mappings"
#define LMDB_CLOCK_DATABASE "clock"
#define LMDB_EPOCHS_DATABASE "epochs"

/* In the meta database: what this is, and the format of the other databases as decimal text. */
#define LMDB_MAGIC_KEY "magic"
#define LMDB_MAGIC "holdfast mapping store"
#define LMDB_FORMAT_KEY "format"
#define LMDB_FORMAT 1

#define LMDB_WHY_SIZE 256

/*
 * 0, or as lmdb_store_open() with the reason in `ret_why`. `directory_fd` and `directory` are the
 * same directory, which holds LMDB_DATA_FILE; nothing is written to it.
 */
MUST_CHECK int lmdb_check(int directory_fd, const char *directory, char *ret_why);

/* Writes one line, cut to LMDB_WHY_SIZE. Returns `error`, for use in a return statement. */
int lmdb_explain(char *ret_why, int error, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* -errno for a return code of LMDB's. */
int lmdb_errno(int code);
