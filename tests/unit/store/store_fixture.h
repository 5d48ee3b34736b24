#pragma once

/*
 * What the store's tests share: made-up records, what a load delivered, directories to throw away.
 */

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mapping/change.h"
#include "store/store.h"

/*
 * Every field depends on `id`; another `version` is another lifetime. Ids that are multiples of 7
 * have filters.
 */
struct mapping_record fixture_record(uint64_t id, uint64_t version);
void fixture_record_deinit(struct mapping_record *record);

/* Adds, updates and removes, as changes a table could have made. */
void fixture_add(struct change_set *set, uint64_t id);
void fixture_update(struct change_set *set, uint64_t id, uint64_t version, uint64_t new_version);
void fixture_remove(struct change_set *set, uint64_t id, uint64_t version);

struct store_clock fixture_clock(uint64_t next_id);
/* Commits `set` with fixture_clock(next_id) and empties it. */
int fixture_commit(struct store *store, struct change_set *set, uint64_t next_id);

/* Everything a load delivered, copied. */
struct fixture_content {
    struct store_clock clock;
    size_t n_clocks;
    struct mapping_record *records;
    size_t n_records;
    struct store_epoch *epochs;
    size_t n_epochs;
};

/* What store_load() returned; `ret_content` is to be deinitialised in any case. */
int fixture_load(struct store *store, struct fixture_content *ret_content);
void fixture_content_deinit(struct fixture_content *content);
bool fixture_content_equal(const struct fixture_content *a, const struct fixture_content *b);

/*
 * A history of numbered batches whose outcome depends on the number alone, for tests in which a
 * process that is killed tells how far it got. Batch b adds BATCH_SIZE mappings, updates one of
 * batch b-1, removes half of batch b-3.
 */
#define FIXTURE_BATCH_SIZE 10
int fixture_commit_batch(struct store *store, uint64_t batch);
/*
 * The number of batches in `content`, found in its clock, after checking that it is exactly their
 * outcome.
 */
uint64_t fixture_check_batches(const struct fixture_content *content);

/*
 * A new directory below $TMPDIR or /tmp; `ret_path` has PATH_MAX octets. Fails the test when there
 * is none.
 */
void fixture_make_directory(char *ret_path);
/* "<directory>/<name>", in a buffer of the caller's of PATH_MAX octets. */
const char *fixture_path(char *ret_path, const char *directory, const char *name);
void fixture_remove_tree(const char *path);

void fixture_read_file(const char *path, uint8_t **ret_data, size_t *ret_size_bytes);
void fixture_write_file(const char *path, const void *data, size_t size_bytes);

/* $HOLDFAST_TEST_SEED, or a random one; printed so that a failure can be replayed. */
uint64_t fixture_seed(void);
