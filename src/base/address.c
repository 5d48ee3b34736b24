/*
 * Addresses in text and in octets. The text forms of single addresses are libc's (inet_pton,
 * inet_ntop), which accept no scope identifier, no octal and no shorthand; ports and prefix lengths
 * are plain decimal. A dotted quad and its mapped form ::ffff:a.b.c.d are one address (RFC 6887 s5)
 * and printed as the dotted quad.
 */

#include "base/address.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#define IPV4_PREFIX_OFFSET 96
#define ADDRESS_BITS 128

static const uint8_t mapped_lead[12] = {[10] = 0xff, [11] = 0xff};

struct ip_address ip_address_from_ipv4(uint32_t ipv4)
{
    struct ip_address address = IP_ADDRESS_ANY_IPV4;

    address.octets[12] = (uint8_t) (ipv4 >> 24);
    address.octets[13] = (uint8_t) (ipv4 >> 16);
    address.octets[14] = (uint8_t) (ipv4 >> 8);
    address.octets[15] = (uint8_t) ipv4;
    return address;
}

uint32_t ip_address_to_ipv4(const struct ip_address *address)
{
    return (uint32_t) address->octets[12] << 24 | (uint32_t) address->octets[13] << 16 |
           (uint32_t) address->octets[14] << 8 | address->octets[15];
}

/* [R-6887-5-1] */
bool ip_address_is_ipv4(const struct ip_address *address)
{
    return memcmp(address->octets, mapped_lead, sizeof(mapped_lead)) == 0;
}

/* [R-6887-5-2] [R-6887-5-3] */
bool ip_address_is_any(const struct ip_address *address)
{
    return ip_address_equal(address, &IP_ADDRESS_ANY_IPV6) ||
           ip_address_equal(address, &IP_ADDRESS_ANY_IPV4);
}

bool ip_address_is_multicast(const struct ip_address *address)
{
    if (ip_address_is_ipv4(address))
        return (address->octets[12] & 0xf0) == 0xe0;
    return address->octets[0] == 0xff;
}

bool ip_address_is_loopback(const struct ip_address *address)
{
    static const struct ip_address loopback_ipv6 = {{[15] = 1}};

    if (ip_address_is_ipv4(address))
        return address->octets[12] == 127;
    return ip_address_equal(address, &loopback_ipv6);
}

bool ip_address_is_link_local(const struct ip_address *address)
{
    if (ip_address_is_ipv4(address))
        return address->octets[12] == 169 && address->octets[13] == 254;
    return address->octets[0] == 0xfe && (address->octets[1] & 0xc0) == 0x80;
}

bool ip_address_equal(const struct ip_address *a, const struct ip_address *b)
{
    return memcmp(a->octets, b->octets, sizeof(a->octets)) == 0;
}

int ip_address_compare(const struct ip_address *a, const struct ip_address *b)
{
    return memcmp(a->octets, b->octets, sizeof(a->octets));
}

const char *ip_address_format(const struct ip_address *address, char *ret_text)
{
    if (ip_address_is_ipv4(address))
        return inet_ntop(AF_INET, address->octets + 12, ret_text, IP_ADDRESS_TEXT_SIZE);
    return inet_ntop(AF_INET6, address->octets, ret_text, IP_ADDRESS_TEXT_SIZE);
}

int ip_address_parse(const char *text, struct ip_address *ret_address)
{
    struct ip_address address = IP_ADDRESS_ANY_IPV4;

    if (inet_pton(AF_INET, text, address.octets + 12) != 1 &&
        inet_pton(AF_INET6, text, address.octets) != 1)
        return -EINVAL;

    *ret_address = address;
    return 0;
}

bool endpoint_equal(const struct endpoint *a, const struct endpoint *b)
{
    return a->port == b->port && ip_address_equal(&a->address, &b->address);
}

const char *endpoint_format(const struct endpoint *endpoint, char *ret_text)
{
    char address[IP_ADDRESS_TEXT_SIZE];

    ip_address_format(&endpoint->address, address);
    snprintf(ret_text, ENDPOINT_TEXT_SIZE,
             ip_address_is_ipv4(&endpoint->address) ? "%s:%u" : "[%s]:%u", address,
             (unsigned int) endpoint->port);
    return ret_text;
}

/* Digits only, the whole text, at most `max`. */
static int parse_decimal(const char *text, uint32_t max, uint32_t *ret_value)
{
    uint32_t value = 0;

    if (*text == '\0')
        return -EINVAL;
    for (; *text; text++) {
        if (*text < '0' || *text > '9')
            return -EINVAL;
        value = value * 10 + (uint32_t) (*text - '0');
        if (value > max)
            return -EINVAL;
    }
    *ret_value = value;
    return 0;
}

static int parse_address_span(const char *text, size_t size_bytes, struct ip_address *ret_address)
{
    char copy[IP_ADDRESS_TEXT_SIZE];

    if (size_bytes >= sizeof(copy))
        return -EINVAL;
    memcpy(copy, text, size_bytes);
    copy[size_bytes] = '\0';
    return ip_address_parse(copy, ret_address);
}

/* Finds the address part of `text`, and the port part or NULL. */
static int split_endpoint(const char *text, const char **ret_start, const char **ret_end,
                          const char **ret_port)
{
    const char *colon = strchr(text, ':');
    const char *end;

    if (text[0] == '[') {
        end = strchr(text, ']');
        if (!end || !colon || colon > end || (end[1] != '\0' && end[1] != ':'))
            return -EINVAL;
        *ret_start = text + 1;
        *ret_port = end[1] == ':' ? end + 2 : NULL;
    } else {
        bool is_bare = !colon || strchr(colon + 1, ':');

        end = is_bare ? text + strlen(text) : colon;
        *ret_start = text;
        *ret_port = is_bare ? NULL : colon + 1;
    }
    *ret_end = end;
    return 0;
}

int endpoint_parse(const char *text, uint16_t default_port, struct endpoint *ret_endpoint)
{
    const char *start, *end, *port_text;
    struct ip_address address;
    uint32_t port = default_port;
    int r;

    r = split_endpoint(text, &start, &end, &port_text);
    if (r < 0)
        return r;
    r = parse_address_span(start, (size_t) (end - start), &address);
    if (r < 0)
        return r;
    if (port_text) {
        r = parse_decimal(port_text, UINT16_MAX, &port);
        if (r < 0)
            return r;
    }
    *ret_endpoint = (struct endpoint){.address = address, .port = (uint16_t) port};
    return 0;
}

int ip_prefix_parse(const char *text, struct ip_prefix *ret_prefix)
{
    const char *slash = strchr(text, '/');
    size_t address_size = slash ? (size_t) (slash - text) : strlen(text);
    uint32_t offset = memchr(text, ':', address_size) ? 0 : IPV4_PREFIX_OFFSET;
    uint32_t length = ADDRESS_BITS - offset;
    struct ip_address address, masked;
    int r;

    r = parse_address_span(text, address_size, &address);
    if (r < 0)
        return r;
    if (slash) {
        r = parse_decimal(slash + 1, ADDRESS_BITS - offset, &length);
        if (r < 0)
            return r;
    }
    masked = ip_address_mask(&address, (uint8_t) (length + offset));
    if (!ip_address_equal(&masked, &address))
        return -EINVAL;

    *ret_prefix = (struct ip_prefix){.address = address, .length = (uint8_t) (length + offset)};
    return 0;
}

const char *ip_prefix_format(const struct ip_prefix *prefix, char *ret_text)
{
    bool is_ipv4 = prefix->length >= IPV4_PREFIX_OFFSET && ip_address_is_ipv4(&prefix->address);
    const uint8_t *octets = prefix->address.octets + (is_ipv4 ? 12 : 0);
    unsigned int length = prefix->length - (is_ipv4 ? IPV4_PREFIX_OFFSET : 0U);
    char address[IP_ADDRESS_TEXT_SIZE];

    inet_ntop(is_ipv4 ? AF_INET : AF_INET6, octets, address, sizeof(address));
    snprintf(ret_text, IP_PREFIX_TEXT_SIZE, "%s/%u", address, length);
    return ret_text;
}

bool ip_prefix_contains(const struct ip_prefix *prefix, const struct ip_address *address)
{
    struct ip_address masked = ip_address_mask(address, prefix->length);

    return ip_address_equal(&masked, &prefix->address);
}

bool ip_prefix_equal(const struct ip_prefix *a, const struct ip_prefix *b)
{
    return a->length == b->length && ip_address_equal(&a->address, &b->address);
}

struct ip_address ip_address_mask(const struct ip_address *address, uint8_t length)
{
    struct ip_address masked = {{0}};
    size_t n_whole = length / 8;

    assert(length <= ADDRESS_BITS);
    memcpy(masked.octets, address->octets, n_whole);
    if (length % 8)
        masked.octets[n_whole] = (uint8_t) (address->octets[n_whole] & (0xff00 >> (length % 8)));
    return masked;
}
