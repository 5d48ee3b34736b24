#pragma once

/* Objects of one size from chunks, with a free list: no malloc per object in the steady state. */

#include <stddef.h>

struct slab {
    size_t object_size_bytes;
    size_t n_per_chunk;
    void *free_list;
    void *chunks;
    size_t n_used;
};

void slab_init(struct slab *slab, size_t object_size_bytes);
/* Frees every chunk, with whatever is still allocated. */
void slab_deinit(struct slab *slab);
/* Zeroed object, or NULL when out of memory. */
void *slab_alloc(struct slab *slab);
/* Accepts NULL. */
void slab_free(struct slab *slab, void *object);
