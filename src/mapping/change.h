#pragma once

/*
 * A change set is what one tick decided: each change a mapping as it was and as it shall be. Store and kernel carry it
 * out before any answer leaves; if either refuses, walking it backwards puts the table back.
 */

#include <stdbool.h>
#include <stddef.h>

#include "mapping/record.h"

struct change {
    bool had_before; /* false: the mapping is new */
    bool has_after;  /* false: the mapping is gone altogether */
    struct mapping_record before, after;
};

/* A growing array; each change holds references on its filter lists. */
struct change_set {
    struct change *items;
    size_t n_items;
    size_t n_allocated;
};

void change_set_init(struct change_set *set);
void change_set_deinit(struct change_set *set);
/* Either side may be NULL, not both. 0 or -ENOMEM. */
int change_set_append(struct change_set *set, const struct mapping_record *before,
                      const struct mapping_record *after) __attribute__((warn_unused_result));
/* Empties it, keeps the room. */
void change_set_clear(struct change_set *set);
/*
 * The set that takes back `set`: reversed, before and after exchanged. Appends to `ret_inverse`. 0 or -ENOMEM.
 */
int change_set_append_inverse(struct change_set *ret_inverse, const struct change_set *set)
    __attribute__((warn_unused_result));
