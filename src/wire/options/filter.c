/*
 * FILTER (RFC 6887 s13.3, erratum 3891): who may send to a mapping. The prefix length counts bits of the 128, so an
 * IPv4-mapped address takes 97 to 128, and 96 is accepted as "any IPv4 address"; 0 removes all filters, whatever stands in
 * the other fields. What carries no meaning (bits behind the prefix, the address and port of a removal) is kept as it came,
 * since a response carries the option unchanged; who compares filters clears it first.
 */

#include "wire/options/options.h"

#define FILTER_SIZE 20
#define PREFIX_LENGTH_MAX 128
#define PREFIX_LENGTH_MIN_IPV4 96

/* [R-6887-13.3-4] */
static bool is_valid_length(const struct ip_address *address, uint8_t length)
{
    if (length == 0)
        return true;
    if (length > PREFIX_LENGTH_MAX)
        return false;
    return !ip_address_is_ipv4(address) || length >= PREFIX_LENGTH_MIN_IPV4;
}

/* [R-6887-13.3-1] */
static bool decode(struct reader *body, struct pcp_option *ret_option)
{
    reader_skip(body, 1);
    uint8_t length = reader_u8(body);
    uint16_t remote_port = reader_u16(body);
    struct ip_address address;
    reader_bytes(body, address.octets, sizeof(address.octets));
    if (!is_valid_length(&address, length))
        return false;

    ret_option->filter = (struct pcp_filter){
        .remote = {.address = address, .length = length},
        .remote_port = remote_port,
    };
    return true;
}

/* [R-6887-13.3-2] */
static void encode(const struct pcp_option *option, struct writer *body)
{
    const struct pcp_filter *filter = &option->filter;

    writer_u8(body, 0);
    writer_u8(body, filter->remote.length);
    writer_u16(body, filter->remote_port);
    writer_bytes(body, filter->remote.address.octets, sizeof(filter->remote.address.octets));
}

const struct pcp_option_descriptor pcp_option_filter = {
    .code = PCP_OPTION_FILTER,
    .name = "FILTER",
    .size_min_bytes = FILTER_SIZE,
    .size_max_bytes = FILTER_SIZE,
    .valid_in_map = true,
    .repeatable = true,
    .decode = decode,
    .encode = encode,
};
