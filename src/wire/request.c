/*
 * A request is judged in stages that follow RFC 6887 s8.2, each of which ends in a verdict: is it a request at all, has it
 * a length and an opcode, is the sender who it says, do the options fit into each other, then each option in the order
 * received, and last the rules between the fields. The first stage that objects decides, so the order of the stages is
 * the order of the errors.
 */

#include "wire/request.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "wire/payload.h"

/* Version and opcode: all that is read before the version is known. */
#define PREAMBLE_SIZE 2

/* [R-6887-8.2-4] */
static bool offers_opcode(const struct pcp_capabilities *capabilities, uint8_t opcode)
{
    switch (opcode) {
    case PCP_OPCODE_ANNOUNCE:
        return capabilities->announce;
    case PCP_OPCODE_MAP:
        return capabilities->map;
    case PCP_OPCODE_PEER:
        return capabilities->peer;
    default:
        return false;
    }
}

static bool offers_option(const struct pcp_capabilities *capabilities, uint8_t code)
{
    switch (code) {
    case PCP_OPTION_THIRD_PARTY:
        return capabilities->third_party;
    case PCP_OPTION_PREFER_FAILURE:
        return capabilities->prefer_failure;
    case PCP_OPTION_FILTER:
        return capabilities->filter;
    default:
        return false;
    }
}

/* [R-6887-13-1] */
static bool is_valid_in(const struct pcp_option_descriptor *descriptor, uint8_t opcode)
{
    switch (opcode) {
    case PCP_OPCODE_ANNOUNCE:
        return descriptor->valid_in_announce;
    case PCP_OPCODE_MAP:
        return descriptor->valid_in_map;
    case PCP_OPCODE_PEER:
        return descriptor->valid_in_peer;
    default:
        return false;
    }
}

/* RFC 6887 s8.2: every header and every length inside the message, before any option is looked at. */
/* [R-6887-7.3-10] */
static bool is_option_structure_sound(struct reader reader)
{
    while (reader_remaining(&reader) > 0)
        (void) pcp_option_read_frame(&reader);
    return !reader_failed(&reader);
}

static bool holds_option(const struct pcp_request *request, uint8_t code)
{
    for (size_t i = 0; i < request->n_options; i++) {
        if (request->options[i].code == code)
            return true;
    }
    return false;
}

/* The rules of single options that need the request: RFC 6887 s13.1, s13.2, s13.3. */
/* [R-6887-11.3-9] [R-6887-13.1-2] [R-6887-13.2-3] [R-6887-13.3-7] */
static enum pcp_result check_option(const struct pcp_request *request,
                                    const struct pcp_option *option,
                                    const struct ip_address *source)
{
    switch (option->code) {
    case PCP_OPTION_THIRD_PARTY:
        if (ip_address_equal(&option->third_party, source))
            return PCP_RESULT_MALFORMED_REQUEST;
        return PCP_RESULT_SUCCESS;
    case PCP_OPTION_PREFER_FAILURE:
        if (request->lifetime_s == 0 || request->mapping.external.port == 0)
            return PCP_RESULT_MALFORMED_OPTION;
        return PCP_RESULT_SUCCESS;
    case PCP_OPTION_FILTER:
        return request->lifetime_s > 0 ? PCP_RESULT_SUCCESS : PCP_RESULT_MALFORMED_OPTION;
    default:
        return PCP_RESULT_SUCCESS;
    }
}

/* One known option: whether it may stand here, its data, and what it demands of the request. */
/* [R-6887-7.3-7] [R-6887-7.3-8] [R-6887-7.3-12] */
static enum pcp_result read_known_option(struct pcp_option_frame *frame,
                                         const struct pcp_option_descriptor *descriptor,
                                         const struct ip_address *source,
                                         struct pcp_request *request)
{
    if (!is_valid_in(descriptor, request->opcode))
        return PCP_RESULT_MALFORMED_OPTION;
    if (frame->size_bytes < descriptor->size_min_bytes ||
        frame->size_bytes > descriptor->size_max_bytes)
        return PCP_RESULT_MALFORMED_OPTION;
    if (!descriptor->repeatable && holds_option(request, frame->code))
        return PCP_RESULT_MALFORMED_OPTION;

    assert(request->n_options < PCP_OPTIONS_MAX);
    struct pcp_option *option = &request->options[request->n_options];
    option->code = frame->code;
    if (!descriptor->decode(&frame->body, option) || reader_failed(&frame->body))
        return PCP_RESULT_MALFORMED_OPTION;

    enum pcp_result result = check_option(request, option, source);
    if (result == PCP_RESULT_SUCCESS)
        request->n_options++;
    return result;
}

/* [R-6887-7.3-11] [R-6887-7.3-13] [R-6887-7.3-14] [R-6887-12.1-5] [R-6887-13.1-3] */
static enum pcp_result read_option(struct pcp_option_frame *frame,
                                   const struct pcp_capabilities *capabilities,
                                   const struct ip_address *source, struct pcp_request *request)
{
    const struct pcp_option_descriptor *descriptor = pcp_option_find(frame->code);

    /* RFC 6887 s12.1 fixes this answer without asking whether the server offers the option. */
    if (frame->code == PCP_OPTION_PREFER_FAILURE && request->opcode == PCP_OPCODE_PEER)
        return PCP_RESULT_MALFORMED_REQUEST;
    if (descriptor && offers_option(capabilities, frame->code))
        return read_known_option(frame, descriptor, source, request);
    return frame->code < PCP_OPTION_FIRST_OPTIONAL ? PCP_RESULT_UNSUPP_OPTION : PCP_RESULT_SUCCESS;
}

/* [R-6887-7.3-4] [R-6887-14.1.1-5] */
static enum pcp_result read_options(struct reader *reader,
                                    const struct pcp_capabilities *capabilities,
                                    const struct ip_address *source, struct pcp_request *request)
{
    if (!is_option_structure_sound(*reader))
        return PCP_RESULT_MALFORMED_OPTION;

    while (reader_remaining(reader) > 0) {
        struct pcp_option_frame frame = pcp_option_read_frame(reader);
        enum pcp_result result = read_option(&frame, capabilities, source, request);
        if (result != PCP_RESULT_SUCCESS)
            return result;
    }
    return PCP_RESULT_SUCCESS;
}

/* RFC 6887 s11.3: protocol 0 takes no port. s12.1: PEER names a protocol and both ports. */
/* [R-6887-11.1-3] [R-6887-11.3-6] [R-6887-12.1-1] [R-6887-15.1-4] */
static bool are_fields_valid(uint8_t opcode, const struct pcp_mapping_fields *fields)
{
    switch (opcode) {
    case PCP_OPCODE_MAP:
        return fields->protocol != 0 || fields->internal_port == 0;
    case PCP_OPCODE_PEER:
        return fields->protocol != 0 && fields->internal_port != 0 && fields->remote.port != 0;
    default:
        return true;
    }
}

/* Header and everything behind it, of a message that is one of ours and holds a whole header. */
/* [R-6887-7.1-1] [R-6887-7.4-1] [R-6887-8.2-12] [R-6887-8.2-13] [R-6887-14.1.1-3] */
static enum pcp_result read_request(struct reader reader,
                                    const struct pcp_capabilities *capabilities,
                                    const struct ip_address *source, struct pcp_request *request)
{
    size_t size_bytes = reader_remaining(&reader);

    reader_skip(&reader, 4);
    request->lifetime_s = reader_u32(&reader);
    reader_bytes(&reader, request->client_address.octets, sizeof(request->client_address.octets));

    if (size_bytes > PCP_SIZE_MAX || size_bytes % 4 != 0)
        return PCP_RESULT_MALFORMED_REQUEST;
    if (!offers_opcode(capabilities, request->opcode))
        return PCP_RESULT_UNSUPP_OPCODE;

    pcp_payload_read(&reader, request->opcode, &request->mapping);
    if (reader_failed(&reader))
        return PCP_RESULT_MALFORMED_REQUEST;
    if (!ip_address_equal(&request->client_address, source))
        return PCP_RESULT_ADDRESS_MISMATCH;

    enum pcp_result result = read_options(&reader, capabilities, source, request);
    if (result != PCP_RESULT_SUCCESS)
        return result;
    return are_fields_valid(request->opcode, &request->mapping) ? PCP_RESULT_SUCCESS
                                                                : PCP_RESULT_MALFORMED_REQUEST;
}

/*
 * [R-6887-8.2-1] [R-6887-8.2-7] [R-6887-8.2-8] [R-6887-8.2-9] [R-6887-8.2-10]
 * [R-6887-14.1.1-4] [R-6887-A-1] [R-6886-1.1-1]
 */
enum pcp_verdict pcp_request_decode(const void *data, size_t size_bytes,
                                    const struct ip_address *source,
                                    const struct pcp_capabilities *capabilities,
                                    struct pcp_request *ret_request, enum pcp_result *ret_result)
{
    /* The options are 9 kB of which few are ever used: only their count is cleared. */
    memset(ret_request, 0, offsetof(struct pcp_request, options));
    *ret_result = PCP_RESULT_SUCCESS;
    if (size_bytes < PREAMBLE_SIZE)
        return PCP_VERDICT_DROP;

    struct reader reader = reader_init(data, size_bytes);
    struct reader preamble = reader;
    uint8_t version = reader_u8(&preamble);
    ret_request->opcode = reader_u8(&preamble);
    if (ret_request->opcode & PCP_RESPONSE_BIT)
        return PCP_VERDICT_DROP;
    if (version != PCP_VERSION) {
        *ret_result = PCP_RESULT_UNSUPP_VERSION;
        return PCP_VERDICT_ANSWER;
    }
    if (size_bytes < PCP_HEADER_SIZE)
        return PCP_VERDICT_DROP;

    *ret_result = read_request(reader, capabilities, source, ret_request);
    return *ret_result == PCP_RESULT_SUCCESS ? PCP_VERDICT_ACCEPT : PCP_VERDICT_ANSWER;
}

int pcp_request_encode(const struct pcp_request *request, void *ret_data, size_t size_bytes)
{
    if (pcp_payload_size(request->opcode) < 0)
        return -EINVAL;

    struct writer writer =
        writer_init(ret_data, size_bytes < PCP_SIZE_MAX ? size_bytes : PCP_SIZE_MAX);
    writer_u8(&writer, PCP_VERSION);
    writer_u8(&writer, request->opcode);
    writer_zeros(&writer, 2);
    writer_u32(&writer, request->lifetime_s);
    writer_bytes(&writer, request->client_address.octets, sizeof(request->client_address.octets));
    pcp_payload_write(&writer, request->opcode, &request->mapping, request->options,
                      request->n_options);
    return writer_failed(&writer) ? -ENOSPC : (int) writer_position(&writer);
}
