/*
 * An array that grows by doubling. Every record in it holds a reference on its filter list, so a
 * change stays whole after the table has moved on.
 */

#include "mapping/change.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#define N_ALLOCATED_MIN 16

void change_set_init(struct change_set *set)
{
    *set = (struct change_set){0};
}

void change_set_deinit(struct change_set *set)
{
    change_set_clear(set);
    free(set->items);
    change_set_init(set);
}

static int reserve(struct change_set *set, size_t n_items)
{
    size_t n_wanted = set->n_allocated ? set->n_allocated : N_ALLOCATED_MIN;
    struct change *items;

    if (n_items <= set->n_allocated)
        return 0;
    while (n_wanted < n_items)
        n_wanted *= 2;
    items = reallocarray(set->items, n_wanted, sizeof(*items));
    if (!items)
        return -ENOMEM;
    set->items = items;
    set->n_allocated = n_wanted;
    return 0;
}

/* There is room. */
static void push(struct change_set *set, const struct mapping_record *before,
                 const struct mapping_record *after)
{
    struct change *change = &set->items[set->n_items++];

    *change = (struct change){.had_before = before, .has_after = after};
    if (before) {
        change->before = *before;
        mapping_filters_ref(before->filters);
    }
    if (after) {
        change->after = *after;
        mapping_filters_ref(after->filters);
    }
}

int change_set_append(struct change_set *set, const struct mapping_record *before,
                      const struct mapping_record *after)
{
    int r;

    assert(before || after);
    r = reserve(set, set->n_items + 1);
    if (r < 0)
        return r;
    push(set, before, after);
    return 0;
}

void change_set_clear(struct change_set *set)
{
    for (size_t i = 0; i < set->n_items; i++) {
        mapping_filters_unref(set->items[i].before.filters);
        mapping_filters_unref(set->items[i].after.filters);
    }
    set->n_items = 0;
}

int change_set_append_inverse(struct change_set *ret_inverse, const struct change_set *set)
{
    int r;

    assert(ret_inverse != set);
    r = reserve(ret_inverse, ret_inverse->n_items + set->n_items);
    if (r < 0)
        return r;
    for (size_t i = set->n_items; i-- > 0;) {
        const struct change *change = &set->items[i];

        push(ret_inverse, change->has_after ? &change->after : NULL,
             change->had_before ? &change->before : NULL);
    }
    return 0;
}
