/*
 * Success responses are built from fields; error responses from the octets of the request, so that a client finds in them
 * what it sent however little of it we understood (RFC 6887 s8.2). A client reads both the same way.
 */

#include "wire/response.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "wire/payload.h"

#define NATPMP_VERSION 0
/* Version, opcode, reserved, result: what an UNSUPP_VERSION answer must have. */
#define RESPONSE_PREAMBLE_SIZE 4
/* The reserved field of a response, in the place of the last 96 bits of the client address (RFC 6887 s7.2). */
#define RESERVED_OFFSET 12
#define RESERVED_SIZE 12

/* [R-6887-7.2-1] [R-6887-7.2-2] [R-6887-7.2-3] [R-6887-7.2-4] [R-6887-9-1] */
static void write_header(struct writer *writer, uint8_t opcode, uint8_t result, uint32_t lifetime_s,
                         uint32_t epoch_s)
{
    writer_u8(writer, PCP_VERSION);
    writer_u8(writer, opcode | PCP_RESPONSE_BIT);
    writer_u8(writer, 0);
    writer_u8(writer, result);
    writer_u32(writer, lifetime_s);
    writer_u32(writer, epoch_s);
}

/* [R-6887-7-1] [R-6887-7.2-6] [R-6887-8.2-6] */
int pcp_response_encode(const struct pcp_response *response, void *ret_data, size_t size_bytes)
{
    if (pcp_payload_size(response->opcode) < 0)
        return -EINVAL;

    struct writer writer =
        writer_init(ret_data, size_bytes < PCP_SIZE_MAX ? size_bytes : PCP_SIZE_MAX);
    write_header(&writer, response->opcode, response->result, response->lifetime_s,
                 response->epoch_s);
    writer_zeros(&writer, RESERVED_SIZE);
    pcp_payload_write(&writer, response->opcode, &response->mapping, response->options,
                      response->n_options);
    return writer_failed(&writer) ? -ENOSPC : (int) writer_position(&writer);
}

/* Whether `result` says that the request could not be parsed. */
/* [R-6887-7.2-6] [R-6887-7.2-7] */
static bool is_parse_error(enum pcp_result result)
{
    return result == PCP_RESULT_UNSUPP_VERSION || result == PCP_RESULT_MALFORMED_REQUEST ||
           result == PCP_RESULT_UNSUPP_OPCODE || result == PCP_RESULT_MALFORMED_OPTION;
}

/* [R-6887-7-1] [R-6887-7.3-6] [R-6887-8.2-5] */
int pcp_response_encode_error(const void *request, size_t request_size_bytes,
                              enum pcp_result result, uint32_t lifetime_s, uint32_t epoch_s,
                              void *ret_data, size_t size_bytes)
{
    const uint8_t *octets = request;
    size_t n_copied = request_size_bytes < PCP_SIZE_MAX ? request_size_bytes : PCP_SIZE_MAX;
    size_t n_total = n_copied < PCP_HEADER_SIZE ? PCP_HEADER_SIZE : (n_copied + 3) / 4 * 4;

    assert(request_size_bytes >= 2 && result != PCP_RESULT_SUCCESS);

    struct writer writer = writer_init(ret_data, size_bytes);
    write_header(&writer, octets[1], (uint8_t) result, lifetime_s, epoch_s);
    if (!is_parse_error(result))
        writer_zeros(&writer, RESERVED_SIZE);
    if (n_copied > writer_position(&writer))
        writer_bytes(&writer, octets + writer_position(&writer),
                     n_copied - writer_position(&writer));
    writer_zeros(&writer, n_total - writer_position(&writer));
    return writer_failed(&writer) ? -ENOSPC : (int) n_total;
}

/* Known options with sound data are kept; a client must not reject a response for any other (RFC 6887 s7.3). */
static void read_option(struct pcp_option_frame *frame, struct pcp_response *response)
{
    const struct pcp_option_descriptor *descriptor = pcp_option_find(frame->code);

    if (!descriptor || frame->size_bytes < descriptor->size_min_bytes ||
        frame->size_bytes > descriptor->size_max_bytes)
        return;

    assert(response->n_options < PCP_OPTIONS_MAX);
    struct pcp_option *option = &response->options[response->n_options];
    option->code = frame->code;
    if (descriptor->decode(&frame->body, option) && !reader_failed(&frame->body))
        response->n_options++;
}

static int read_payload(struct reader *reader, struct pcp_response *response)
{
    /* The payload of an opcode we do not know cannot be told from its options. */
    if (pcp_payload_size(response->opcode) < 0)
        return 0;

    pcp_payload_read(reader, response->opcode, &response->mapping);
    while (reader_remaining(reader) > 0) {
        struct pcp_option_frame frame = pcp_option_read_frame(reader);
        if (!reader_failed(reader))
            read_option(&frame, response);
    }
    return reader_failed(reader) ? -EBADMSG : 0;
}

/* RFC 6887 s9 and RFC 6886 s3.5: NAT-PMP has a result of 16 bits and servers that leave the response bit clear (erratum 3618). */
static bool is_unsupp_version(uint8_t version, bool is_response, uint8_t reserved, uint8_t result)
{
    if (result != PCP_RESULT_UNSUPP_VERSION)
        return false;
    return version == NATPMP_VERSION ? reserved == 0 : is_response;
}

static bool is_length_valid(size_t size_bytes)
{
    return size_bytes >= PCP_HEADER_SIZE && size_bytes <= PCP_SIZE_MAX && size_bytes % 4 == 0;
}

static int read_response(struct reader *reader, struct pcp_response *response)
{
    size_t size_bytes = reader_remaining(reader);
    bool is_response;

    response->version = reader_u8(reader);
    response->opcode = reader_u8(reader);
    is_response = response->opcode & PCP_RESPONSE_BIT;
    response->opcode &= (uint8_t) ~PCP_RESPONSE_BIT;
    uint8_t reserved = reader_u8(reader);
    response->result = reader_u8(reader);
    if (size_bytes < RESPONSE_PREAMBLE_SIZE)
        return -EBADMSG;
    if (is_unsupp_version(response->version, is_response, reserved, response->result)) {
        if (response->version != NATPMP_VERSION && is_length_valid(size_bytes)) {
            response->lifetime_s = reader_u32(reader);
            response->epoch_s = reader_u32(reader);
        }
        return 0;
    }
    if (!is_response || response->version != PCP_VERSION || !is_length_valid(size_bytes))
        return -EBADMSG;

    response->lifetime_s = reader_u32(reader);
    response->epoch_s = reader_u32(reader);
    reader_skip(reader, RESERVED_SIZE);
    return read_payload(reader, response);
}

int pcp_response_decode(const void *data, size_t size_bytes, struct pcp_response *ret_response)
{
    struct reader reader = reader_init(data, size_bytes);

    memset(ret_response, 0, offsetof(struct pcp_response, options));
    return read_response(&reader, ret_response);
}
