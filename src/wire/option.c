/*
 * The table of the options we know and the frame they all share (RFC 6887 s7.3): code, a reserved octet, the length of the
 * data without padding, the data, and padding to a multiple of four.
 */

#include "wire/option.h"

#include <assert.h>

#include "wire/options/options.h"

#define OPTION_HEADER_SIZE 4

static const struct pcp_option_descriptor *const descriptors[] = {
    &pcp_option_third_party,
    &pcp_option_prefer_failure,
    &pcp_option_filter,
};

static size_t padding(size_t size_bytes)
{
    return (4 - size_bytes % 4) % 4;
}

const struct pcp_option_descriptor *pcp_option_find(uint8_t code)
{
    for (size_t i = 0; i < N_ELEMENTS(descriptors); i++) {
        if (descriptors[i]->code == code)
            return descriptors[i];
    }
    return NULL;
}

/* [R-6887-7.3-1] [R-6887-7.3-3] */
struct pcp_option_frame pcp_option_read_frame(struct reader *reader)
{
    struct pcp_option_frame frame;

    frame.code = reader_u8(reader);
    reader_skip(reader, 1);
    frame.size_bytes = reader_u16(reader);
    frame.body = reader_sub(reader, frame.size_bytes);
    reader_skip(reader, padding(frame.size_bytes));
    return frame;
}

/* [R-6887-7.3-2] [R-6887-7.3-3] */
void pcp_option_write(const struct pcp_option *option, struct writer *writer)
{
    const struct pcp_option_descriptor *descriptor = pcp_option_find(option->code);
    uint16_t size_bytes = descriptor ? descriptor->size_max_bytes : option->unknown.size_bytes;

    /* A length that varies with the contents has to be measured first; none of ours does. */
    assert(!descriptor || descriptor->size_min_bytes == descriptor->size_max_bytes);

    writer_u8(writer, option->code);
    writer_u8(writer, 0);
    writer_u16(writer, size_bytes);
    if (descriptor)
        descriptor->encode(option, writer);
    else
        writer_bytes(writer, option->unknown.data, size_bytes);
    writer_zeros(writer, padding(size_bytes));
}
