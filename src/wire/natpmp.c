/*
 * NAT-PMP (RFC 6886 s3). Three forms of response, told apart by opcode and result: external address, mapping, and the eight
 * octets that refuse a version or an opcode.
 */

#include "wire/natpmp.h"

#include <errno.h>

#include "base/reader.h"
#include "base/writer.h"

#define NATPMP_VERSION 0
#define RESPONSE_BIT 0x80
#define ADDRESS_REQUEST_SIZE 2
#define MAP_REQUEST_SIZE 12

enum response_form {
    RESPONSE_FORM_REFUSAL,
    RESPONSE_FORM_ADDRESS,
    RESPONSE_FORM_MAPPING,
};

static bool is_known_opcode(uint8_t opcode)
{
    return opcode <= NATPMP_OPCODE_MAP_TCP;
}

static enum response_form form_of(uint8_t opcode, uint16_t result)
{
    if (result == NATPMP_RESULT_UNSUPP_VERSION || result == NATPMP_RESULT_UNSUPP_OPCODE ||
        !is_known_opcode(opcode))
        return RESPONSE_FORM_REFUSAL;
    return opcode == NATPMP_OPCODE_ADDRESS ? RESPONSE_FORM_ADDRESS : RESPONSE_FORM_MAPPING;
}

const char *natpmp_result_name(uint16_t result)
{
    static const char *const names[] = {
        [NATPMP_RESULT_SUCCESS] = "SUCCESS",
        [NATPMP_RESULT_UNSUPP_VERSION] = "UNSUPP_VERSION",
        [NATPMP_RESULT_NOT_AUTHORIZED] = "NOT_AUTHORIZED",
        [NATPMP_RESULT_NETWORK_FAILURE] = "NETWORK_FAILURE",
        [NATPMP_RESULT_OUT_OF_RESOURCES] = "OUT_OF_RESOURCES",
        [NATPMP_RESULT_UNSUPP_OPCODE] = "UNSUPP_OPCODE",
    };

    return result < N_ELEMENTS(names) ? names[result] : "UNKNOWN";
}

/* [R-6886-3.3-1] [R-6886-3.5-2] */
enum natpmp_verdict natpmp_request_decode(const void *data, size_t size_bytes,
                                          struct natpmp_request *ret_request,
                                          enum natpmp_result *ret_result)
{
    struct reader reader = reader_init(data, size_bytes);
    struct natpmp_request request = {0};

    *ret_request = request;
    *ret_result = NATPMP_RESULT_SUCCESS;
    reader_skip(&reader, 1);
    request.opcode = reader_u8(&reader);
    if (reader_failed(&reader) || request.opcode & RESPONSE_BIT)
        return NATPMP_VERDICT_DROP;
    ret_request->opcode = request.opcode;
    if (!is_known_opcode(request.opcode)) {
        *ret_result = NATPMP_RESULT_UNSUPP_OPCODE;
        return NATPMP_VERDICT_ANSWER;
    }
    if (request.opcode == NATPMP_OPCODE_ADDRESS)
        return NATPMP_VERDICT_ACCEPT;

    reader_skip(&reader, 2);
    request.internal_port = reader_u16(&reader);
    request.external_port = reader_u16(&reader);
    request.lifetime_s = reader_u32(&reader);
    if (reader_failed(&reader))
        return NATPMP_VERDICT_DROP;
    *ret_request = request;
    return NATPMP_VERDICT_ACCEPT;
}

int natpmp_request_encode(const struct natpmp_request *request, void *ret_data, size_t size_bytes)
{
    struct writer writer = writer_init(ret_data, size_bytes);

    if (!is_known_opcode(request->opcode))
        return -EINVAL;
    writer_u8(&writer, NATPMP_VERSION);
    writer_u8(&writer, request->opcode);
    if (request->opcode != NATPMP_OPCODE_ADDRESS) {
        writer_zeros(&writer, 2);
        writer_u16(&writer, request->internal_port);
        writer_u16(&writer, request->external_port);
        writer_u32(&writer, request->lifetime_s);
    }
    return writer_failed(&writer) ? -ENOSPC : (int) writer_position(&writer);
}

/* [R-6886-3.3-2] */
int natpmp_response_encode(const struct natpmp_response *response, void *ret_data,
                           size_t size_bytes)
{
    struct writer writer = writer_init(ret_data, size_bytes);

    writer_u8(&writer, NATPMP_VERSION);
    writer_u8(&writer, response->opcode | RESPONSE_BIT);
    writer_u16(&writer, response->result);
    writer_u32(&writer, response->epoch_s);
    switch (form_of(response->opcode, response->result)) {
    case RESPONSE_FORM_REFUSAL:
        break;
    case RESPONSE_FORM_ADDRESS:
        writer_u32(&writer, response->external_address);
        break;
    case RESPONSE_FORM_MAPPING:
        writer_u16(&writer, response->internal_port);
        writer_u16(&writer, response->external_port);
        writer_u32(&writer, response->lifetime_s);
        break;
    }
    return writer_failed(&writer) ? -ENOSPC : (int) writer_position(&writer);
}

/* Erratum 3618: the refusal of a version is sent with opcode octet 128, and by older servers with 0. */
static bool is_response_opcode(uint8_t octet, uint16_t result)
{
    return octet & RESPONSE_BIT || (octet == 0 && result == NATPMP_RESULT_UNSUPP_VERSION);
}

int natpmp_response_decode(const void *data, size_t size_bytes,
                           struct natpmp_response *ret_response)
{
    struct reader reader = reader_init(data, size_bytes);
    struct natpmp_response response = {0};

    uint8_t version = reader_u8(&reader);
    uint8_t octet = reader_u8(&reader);
    response.opcode = (uint8_t) (octet & ~RESPONSE_BIT);
    response.result = reader_u16(&reader);
    response.epoch_s = reader_u32(&reader);
    switch (form_of(response.opcode, response.result)) {
    case RESPONSE_FORM_REFUSAL:
        break;
    case RESPONSE_FORM_ADDRESS:
        response.external_address = reader_u32(&reader);
        break;
    case RESPONSE_FORM_MAPPING:
        response.internal_port = reader_u16(&reader);
        response.external_port = reader_u16(&reader);
        response.lifetime_s = reader_u32(&reader);
        break;
    }
    if (reader_failed(&reader) || version != NATPMP_VERSION ||
        !is_response_opcode(octet, response.result))
        return -EBADMSG;
    *ret_response = response;
    return 0;
}
