#pragma once

/*
 * A cursor over received octets with a sticky failure: once a read goes past the end every later read yields zero and
 * reader_failed() stays true. So a decoder reads straight through and tests once.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct reader {
    const uint8_t *data;
    size_t size_bytes;
    size_t position;
    bool failed;
};

struct reader reader_init(const void *data, size_t size_bytes);
uint8_t reader_u8(struct reader *reader);
uint16_t reader_u16(struct reader *reader); /* network order on the wire, host order returned */
uint32_t reader_u32(struct reader *reader);
uint64_t reader_u64(struct reader *reader);
/* Zero-fills `ret_data` on failure. */
void reader_bytes(struct reader *reader, void *ret_data, size_t size_bytes);
void reader_skip(struct reader *reader, size_t size_bytes);
/* A reader over the next `size_bytes` octets that cannot see past them; the outer one moves behind them. */
struct reader reader_sub(struct reader *reader, size_t size_bytes);
size_t reader_remaining(const struct reader *reader);
bool reader_failed(const struct reader *reader);
