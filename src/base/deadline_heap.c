/*
 * A binary min-heap in one array. Every move of an item writes its place back into it, which is
 * what makes moving and removing an arbitrary deadline O(log n). The array only grows, so a
 * scheduled deadline can always be moved.
 */

#include "base/deadline_heap.h"

#include <errno.h>
#include <stdlib.h>

#include "base/time.h"

#define N_ALLOCATED_MIN 16

void deadline_heap_init(struct deadline_heap *heap)
{
    *heap = (struct deadline_heap){0};
}

void deadline_heap_deinit(struct deadline_heap *heap)
{
    free(heap->items);
    deadline_heap_init(heap);
}

void deadline_init(struct deadline *deadline)
{
    *deadline = (struct deadline){.at_ns = TIME_NEVER, .position = DEADLINE_UNSCHEDULED};
}

int deadline_heap_reserve(struct deadline_heap *heap, size_t n_items)
{
    struct deadline **items;

    if (n_items <= heap->n_allocated)
        return 0;
    items = reallocarray(heap->items, n_items, sizeof(*items));
    if (!items)
        return -ENOMEM;
    heap->items = items;
    heap->n_allocated = n_items;
    return 0;
}

static void place(struct deadline_heap *heap, size_t position, struct deadline *deadline)
{
    heap->items[position] = deadline;
    deadline->position = position;
}

static size_t sift_up(struct deadline_heap *heap, size_t position, struct deadline *deadline)
{
    while (position > 0) {
        size_t parent = (position - 1) / 2;

        if (heap->items[parent]->at_ns <= deadline->at_ns)
            break;
        place(heap, position, heap->items[parent]);
        position = parent;
    }
    place(heap, position, deadline);
    return position;
}

static void sift_down(struct deadline_heap *heap, size_t position, struct deadline *deadline)
{
    for (;;) {
        size_t child = position * 2 + 1;

        if (child >= heap->n_items)
            break;
        if (child + 1 < heap->n_items && heap->items[child + 1]->at_ns < heap->items[child]->at_ns)
            child++;
        if (deadline->at_ns <= heap->items[child]->at_ns)
            break;
        place(heap, position, heap->items[child]);
        position = child;
    }
    place(heap, position, deadline);
}

static void settle(struct deadline_heap *heap, size_t position, struct deadline *deadline)
{
    position = sift_up(heap, position, deadline);
    sift_down(heap, position, deadline);
}

int deadline_heap_set(struct deadline_heap *heap, struct deadline *deadline, uint64_t at_ns)
{
    if (deadline->position == DEADLINE_UNSCHEDULED) {
        if (heap->n_items == heap->n_allocated) {
            size_t n_wanted = heap->n_allocated ? heap->n_allocated * 2 : N_ALLOCATED_MIN;
            int r = deadline_heap_reserve(heap, n_wanted);

            if (r < 0)
                return r;
        }
        place(heap, heap->n_items++, deadline);
    }
    deadline->at_ns = at_ns;
    settle(heap, deadline->position, deadline);
    return 0;
}

void deadline_heap_remove(struct deadline_heap *heap, struct deadline *deadline)
{
    size_t position = deadline->position;
    struct deadline *last;

    if (position == DEADLINE_UNSCHEDULED)
        return;
    last = heap->items[--heap->n_items];
    if (last != deadline)
        settle(heap, position, last);
    deadline_init(deadline);
}

struct deadline *deadline_heap_first(const struct deadline_heap *heap)
{
    return heap->n_items > 0 ? heap->items[0] : NULL;
}

uint64_t deadline_heap_next_ns(const struct deadline_heap *heap)
{
    return heap->n_items > 0 ? heap->items[0]->at_ns : TIME_NEVER;
}
