#pragma once

/* Intrusive doubly linked ring. An initialised head or a removed link points to itself. */

#include <stdbool.h>

struct list_link {
    struct list_link *next, *previous;
};

static inline void list_init(struct list_link *link)
{
    link->next = link->previous = link;
}

static inline bool list_is_empty(const struct list_link *head)
{
    return head->next == head;
}

static inline void list_append(struct list_link *head, struct list_link *link)
{
    link->previous = head->previous;
    link->next = head;
    head->previous->next = link;
    head->previous = link;
}

static inline void list_remove(struct list_link *link)
{
    /* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): cannot follow links that lie inside of what is freed */
    link->previous->next = link->next;
    link->next->previous = link->previous;
    list_init(link);
}
