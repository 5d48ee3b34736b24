#pragma once

/*
 * The store in memory: for holdfastd --volatile, unit tests and the simulator. It can be told to fail, and what it holds
 * outlives the engine that wrote it, so that a test can "restart" on it.
 */

#include <stdbool.h>

#include "store/store.h"

/* NULL when out of memory. */
struct store *memory_store_new(void);
/* The next `n` commits return `error` (-ENOSPC, -EIO ...) and change nothing. */
void memory_store_fail_next(struct store *store, unsigned int n, int error);
size_t memory_store_count(const struct store *store);
bool memory_store_contains(const struct store *store, uint64_t id);
unsigned int memory_store_n_commits(const struct store *store);
