/*
 * PREFER_FAILURE (RFC 6887 s13.2): the suggested external address and port, or nothing. It has no data; what it demands of
 * the request that carries it is judged in request.c.
 */

#include "wire/options/options.h"

static bool decode(struct reader *body, struct pcp_option *ret_option)
{
    (void) ret_option;
    return reader_remaining(body) == 0;
}

static void encode(const struct pcp_option *option, struct writer *body)
{
    (void) option;
    (void) body;
}

const struct pcp_option_descriptor pcp_option_prefer_failure = {
    .code = PCP_OPTION_PREFER_FAILURE,
    .name = "PREFER_FAILURE",
    .valid_in_map = true,
    .decode = decode,
    .encode = encode,
};
