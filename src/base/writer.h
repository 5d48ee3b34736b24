#pragma once

/* Mirror of reader.h: a cursor over a fixed buffer; a write that does not fit sets a sticky failure and writes nothing. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct writer {
    uint8_t *data;
    size_t size_bytes;
    size_t position;
    bool failed;
};

struct writer writer_init(void *data, size_t size_bytes);
void writer_u8(struct writer *writer, uint8_t value);
void writer_u16(struct writer *writer, uint16_t value); /* host order in, network order out */
void writer_u32(struct writer *writer, uint32_t value);
void writer_u64(struct writer *writer, uint64_t value);
void writer_bytes(struct writer *writer, const void *data, size_t size_bytes);
void writer_zeros(struct writer *writer, size_t size_bytes);
size_t writer_position(const struct writer *writer);
bool writer_failed(const struct writer *writer);
