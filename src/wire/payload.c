/*
 * The fields of MAP (RFC 6887 s11.1) and PEER (s12.1). PEER's begin with MAP's, and a response's differ from a request's in
 * meaning only (suggested or assigned external endpoint), so one reader and one writer serve all four.
 */

#include "wire/payload.h"

#include <errno.h>
#include <string.h>

int pcp_payload_size(uint8_t opcode)
{
    switch (opcode) {
    case PCP_OPCODE_ANNOUNCE:
        return 0;
    case PCP_OPCODE_MAP:
        return PCP_MAP_SIZE;
    case PCP_OPCODE_PEER:
        return PCP_PEER_SIZE;
    default:
        return -EINVAL;
    }
}

/* [R-6887-11.1-1] [R-6887-12.1-2] */
void pcp_payload_read(struct reader *reader, uint8_t opcode, struct pcp_mapping_fields *ret_fields)
{
    memset(ret_fields, 0, sizeof(*ret_fields));
    if (opcode != PCP_OPCODE_MAP && opcode != PCP_OPCODE_PEER)
        return;

    reader_bytes(reader, ret_fields->nonce, sizeof(ret_fields->nonce));
    ret_fields->protocol = reader_u8(reader);
    reader_skip(reader, 3);
    ret_fields->internal_port = reader_u16(reader);
    ret_fields->external.port = reader_u16(reader);
    reader_bytes(reader, ret_fields->external.address.octets, 16);
    if (opcode == PCP_OPCODE_MAP)
        return;

    ret_fields->remote.port = reader_u16(reader);
    reader_skip(reader, 2);
    reader_bytes(reader, ret_fields->remote.address.octets, 16);
}

/* [R-6887-11.1-2] [R-6887-12.1-3] */
static void write_fields(struct writer *writer, uint8_t opcode,
                         const struct pcp_mapping_fields *fields)
{
    if (opcode != PCP_OPCODE_MAP && opcode != PCP_OPCODE_PEER)
        return;

    writer_bytes(writer, fields->nonce, sizeof(fields->nonce));
    writer_u8(writer, fields->protocol);
    writer_zeros(writer, 3);
    writer_u16(writer, fields->internal_port);
    writer_u16(writer, fields->external.port);
    writer_bytes(writer, fields->external.address.octets, 16);
    if (opcode == PCP_OPCODE_MAP)
        return;

    writer_u16(writer, fields->remote.port);
    writer_zeros(writer, 2);
    writer_bytes(writer, fields->remote.address.octets, 16);
}

void pcp_payload_write(struct writer *writer, uint8_t opcode,
                       const struct pcp_mapping_fields *fields, const struct pcp_option *options,
                       size_t n_options)
{
    write_fields(writer, opcode, fields);
    for (size_t i = 0; i < n_options; i++)
        pcp_option_write(&options[i], writer);
}
