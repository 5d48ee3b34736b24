/* Access to the generated table of known datagrams. */

#include "vector.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint8_t *allocate(size_t size_bytes)
{
    uint8_t *octets = malloc(size_bytes > 0 ? size_bytes : 1);
    if (!octets)
        abort();
    return octets;
}

static uint8_t nibble(char digit)
{
    return (uint8_t) (digit <= '9' ? digit - '0' : digit - 'a' + 10);
}

const struct vector *vector_find(const char *name)
{
    for (size_t i = 0; i < n_vectors; i++) {
        if (strcmp(vectors[i].name, name) == 0)
            return &vectors[i];
    }
    fprintf(stderr, "no vector \"%s\"\n", name);
    abort();
}

uint8_t *vector_octets(const struct vector *vector)
{
    uint8_t *octets = allocate(vector->size_bytes);
    for (size_t i = 0; i < vector->size_bytes; i++)
        octets[i] = (uint8_t) (nibble(vector->hex[2 * i]) << 4 | nibble(vector->hex[2 * i + 1]));
    return octets;
}

uint8_t *vector_copy(const uint8_t *octets, size_t size_bytes)
{
    uint8_t *copy = allocate(size_bytes);
    if (size_bytes > 0)
        memcpy(copy, octets, size_bytes);
    return copy;
}

bool vector_is_in_group(const struct vector *vector, const char *group)
{
    return strcmp(vector->group, group) == 0;
}
