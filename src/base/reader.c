/*
 * Every read goes through take(), the one place that looks at the bounds: it hands out a pointer to octets that are there,
 * or marks the reader as failed. A failed reader has nothing left, so a later, smaller read cannot succeed by accident and
 * give a decoder octets from the wrong offset.
 */

#include "base/reader.h"

#include <string.h>

/* The next `size_bytes` octets, or NULL. */
static const uint8_t *take(struct reader *reader, size_t size_bytes)
{
    if (size_bytes > reader_remaining(reader)) {
        reader->failed = true;
        reader->position = reader->size_bytes;
    }
    if (reader->failed)
        return NULL;

    const uint8_t *octets = reader->data + reader->position;
    reader->position += size_bytes;
    return octets;
}

static uint64_t take_number(struct reader *reader, size_t size_bytes)
{
    const uint8_t *octets = take(reader, size_bytes);
    uint64_t value = 0;
    if (!octets)
        return 0;
    for (size_t i = 0; i < size_bytes; i++)
        value = value << 8 | octets[i];
    return value;
}

struct reader reader_init(const void *data, size_t size_bytes)
{
    /* Without data there is nothing to point at; a constant keeps the arithmetic on `data` defined. */
    static const uint8_t nothing[1];

    return (struct reader){
        .data = size_bytes > 0 ? data : nothing,
        .size_bytes = size_bytes,
    };
}

uint8_t reader_u8(struct reader *reader)
{
    return (uint8_t) take_number(reader, 1);
}

uint16_t reader_u16(struct reader *reader)
{
    return (uint16_t) take_number(reader, 2);
}

uint32_t reader_u32(struct reader *reader)
{
    return (uint32_t) take_number(reader, 4);
}

uint64_t reader_u64(struct reader *reader)
{
    return take_number(reader, 8);
}

void reader_bytes(struct reader *reader, void *ret_data, size_t size_bytes)
{
    const uint8_t *octets = take(reader, size_bytes);
    if (size_bytes == 0)
        return;
    if (octets)
        memcpy(ret_data, octets, size_bytes);
    else
        memset(ret_data, 0, size_bytes);
}

void reader_skip(struct reader *reader, size_t size_bytes)
{
    (void) take(reader, size_bytes);
}

struct reader reader_sub(struct reader *reader, size_t size_bytes)
{
    const uint8_t *octets = take(reader, size_bytes);
    struct reader sub = reader_init(octets, octets ? size_bytes : 0);
    sub.failed = reader->failed;
    return sub;
}

size_t reader_remaining(const struct reader *reader)
{
    return reader->size_bytes - reader->position;
}

bool reader_failed(const struct reader *reader)
{
    return reader->failed;
}
