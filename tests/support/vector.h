#pragma once

/* Datagrams with known octets, from the table that tests/support/vectors/generate makes out of wire.json. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct vector {
    const char *name;
    const char *group;
    const char *source; /* address of the sender, as text */
    bool is_request;
    size_t size_bytes;
    const char *hex;
};

extern const struct vector vectors[];
extern const size_t n_vectors;

/* Aborts when there is none of that name. */
const struct vector *vector_find(const char *name);
/* The octets in heap memory of exactly their size, so that a sanitizer sees the first octet read past the end. free(3) it. */
uint8_t *vector_octets(const struct vector *vector);
/* A heap copy of `size_bytes` octets, as above. */
uint8_t *vector_copy(const uint8_t *octets, size_t size_bytes);
bool vector_is_in_group(const struct vector *vector, const char *group);
