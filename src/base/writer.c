/*
 * Every write goes through reserve(), the one place that looks at the bounds. A number or a run of octets is written whole
 * or not at all, and after the first that did not fit nothing more is written, so the position never covers a gap.
 */

#include "base/writer.h"

#include <string.h>

/* Room for `size_bytes` octets, or NULL. */
static uint8_t *reserve(struct writer *writer, size_t size_bytes)
{
    if (size_bytes > writer->size_bytes - writer->position)
        writer->failed = true;
    if (writer->failed)
        return NULL;

    uint8_t *octets = writer->data + writer->position;
    writer->position += size_bytes;
    return octets;
}

static void put_number(struct writer *writer, uint64_t value, size_t size_bytes)
{
    uint8_t *octets = reserve(writer, size_bytes);
    if (!octets)
        return;
    for (size_t i = size_bytes; i > 0; i--) {
        octets[i - 1] = (uint8_t) (value & 0xff);
        value >>= 8;
    }
}

struct writer writer_init(void *data, size_t size_bytes)
{
    return (struct writer){.data = data, .size_bytes = size_bytes};
}

void writer_u8(struct writer *writer, uint8_t value)
{
    put_number(writer, value, 1);
}

void writer_u16(struct writer *writer, uint16_t value)
{
    put_number(writer, value, 2);
}

/* [R-6887-7-2] */
void writer_u32(struct writer *writer, uint32_t value)
{
    put_number(writer, value, 4);
}

void writer_u64(struct writer *writer, uint64_t value)
{
    put_number(writer, value, 8);
}

void writer_bytes(struct writer *writer, const void *data, size_t size_bytes)
{
    if (size_bytes == 0)
        return;
    uint8_t *octets = reserve(writer, size_bytes);
    if (octets)
        memcpy(octets, data, size_bytes);
}

void writer_zeros(struct writer *writer, size_t size_bytes)
{
    if (size_bytes == 0)
        return;
    uint8_t *octets = reserve(writer, size_bytes);
    if (octets)
        memset(octets, 0, size_bytes);
}

size_t writer_position(const struct writer *writer)
{
    return writer->position;
}

bool writer_failed(const struct writer *writer)
{
    return writer->failed;
}
