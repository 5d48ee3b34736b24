/*
 * THIRD_PARTY (RFC 6887 s13.1): the internal address of a mapping that is not the sender's own. Any address is well formed
 * here; that it differs from the sender's is judged where the sender is known, in request.c.
 */

#include "wire/options/options.h"

static bool decode(struct reader *body, struct pcp_option *ret_option)
{
    reader_bytes(body, ret_option->third_party.octets, sizeof(ret_option->third_party.octets));
    return true;
}

static void encode(const struct pcp_option *option, struct writer *body)
{
    writer_bytes(body, option->third_party.octets, sizeof(option->third_party.octets));
}

const struct pcp_option_descriptor pcp_option_third_party = {
    .code = PCP_OPTION_THIRD_PARTY,
    .name = "THIRD_PARTY",
    .size_min_bytes = 16,
    .size_max_bytes = 16,
    .valid_in_map = true,
    .valid_in_peer = true,
    .decode = decode,
    .encode = encode,
};
