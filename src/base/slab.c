/*
 * Chunks are linked through their first word and given back only all at once; a freed object's
 * first word links the free list. Objects are carved out of a fresh chunk in one go, so allocation
 * is one pop and one memset.
 */

#include "base/slab.h"

#include <assert.h>
#include <stdalign.h>
#include <stdlib.h>
#include <string.h>

#define CHUNK_SIZE_BYTES 16384
#define OBJECTS_PER_CHUNK_MIN 8
#define ALIGNMENT alignof(max_align_t)

struct chunk {
    alignas(max_align_t) struct chunk *next;
};

struct free_object {
    struct free_object *next;
};

void slab_init(struct slab *slab, size_t object_size_bytes)
{
    size_t size_bytes = (object_size_bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    size_t n_fitting;

    assert(object_size_bytes > 0);
    n_fitting = (CHUNK_SIZE_BYTES - sizeof(struct chunk)) / size_bytes;
    *slab = (struct slab){
        .object_size_bytes = size_bytes,
        .n_per_chunk = n_fitting > OBJECTS_PER_CHUNK_MIN ? n_fitting : OBJECTS_PER_CHUNK_MIN,
    };
}

void slab_deinit(struct slab *slab)
{
    struct chunk *chunk = slab->chunks;

    while (chunk) {
        struct chunk *next = chunk->next;

        free(chunk);
        chunk = next;
    }
    slab->chunks = NULL;
    slab->free_list = NULL;
    slab->n_used = 0;
}

static void push_free(struct slab *slab, void *object)
{
    struct free_object *item = object;

    item->next = slab->free_list;
    slab->free_list = item;
}

static void add_chunk(struct slab *slab)
{
    struct chunk *chunk = malloc(sizeof(*chunk) + slab->n_per_chunk * slab->object_size_bytes);
    char *objects;

    if (!chunk)
        return;
    chunk->next = slab->chunks;
    slab->chunks = chunk;
    objects = (char *) (chunk + 1);
    for (size_t i = slab->n_per_chunk; i-- > 0;)
        push_free(slab, objects + i * slab->object_size_bytes);
}

void *slab_alloc(struct slab *slab)
{
    struct free_object *object;

    if (!slab->free_list)
        add_chunk(slab);
    object = slab->free_list;
    if (!object)
        return NULL;
    slab->free_list = object->next;
    slab->n_used++;
    return memset(object, 0, slab->object_size_bytes);
}

void slab_free(struct slab *slab, void *object)
{
    if (!object)
        return;
    push_free(slab, object);
    slab->n_used--;
}
