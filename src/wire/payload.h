#pragma once

/* What follows the common header, laid out alike in requests and responses: the opcode's fields and the options. */

#include <stddef.h>
#include <stdint.h>

#include "base/reader.h"
#include "base/util.h"
#include "base/writer.h"
#include "wire/option.h"
#include "wire/request.h"

/* Octets that the fields of `opcode` take, or -EINVAL for an opcode we do not know. */
MUST_CHECK int pcp_payload_size(uint8_t opcode);
/* Reads just the fields; all zero for an opcode without any. */
void pcp_payload_read(struct reader *reader, uint8_t opcode, struct pcp_mapping_fields *ret_fields);
/* Fields and options. */
void pcp_payload_write(struct writer *writer, uint8_t opcode,
                       const struct pcp_mapping_fields *fields, const struct pcp_option *options,
                       size_t n_options);
