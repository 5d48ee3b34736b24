#pragma once

/* Binary heap of deadlines; objects embed a deadline, which knows its own place so that it can be moved in O(log n). */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DEADLINE_UNSCHEDULED SIZE_MAX

struct deadline {
    uint64_t at_ns;
    size_t position; /* DEADLINE_UNSCHEDULED when not in the heap */
};

struct deadline_heap {
    struct deadline **items;
    size_t n_items;
    size_t n_allocated;
};

void deadline_heap_init(struct deadline_heap *heap);
void deadline_heap_deinit(struct deadline_heap *heap);
void deadline_init(struct deadline *deadline);
/* Room for `n_items` without allocation later. 0 or -ENOMEM. */
int deadline_heap_reserve(struct deadline_heap *heap, size_t n_items)
    __attribute__((warn_unused_result));
/* Schedules or moves. Moving never fails; scheduling anew can: 0 or -ENOMEM. */
int deadline_heap_set(struct deadline_heap *heap, struct deadline *deadline, uint64_t at_ns)
    __attribute__((warn_unused_result));
/* Does nothing when it is not scheduled. */
void deadline_heap_remove(struct deadline_heap *heap, struct deadline *deadline);
/* The earliest, or NULL. It stays in the heap. */
struct deadline *deadline_heap_first(const struct deadline_heap *heap);
/* Its time, or TIME_NEVER. */
uint64_t deadline_heap_next_ns(const struct deadline_heap *heap);
