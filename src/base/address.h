#pragma once

/*
 * IP addresses, prefixes and endpoints as PCP carries them: 16 octets, IPv4 in its mapped form ::ffff:a.b.c.d
 * (RFC 6887 s5). One type serves both families, so nothing above needs a family switch to copy, compare or hash.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ip_address {
    uint8_t octets[16];
};

/* `length` counts bits of the 128: an IPv4 /24 has length 120. */
struct ip_prefix {
    struct ip_address address;
    uint8_t length;
};

/* `port` is in host order, here and everywhere outside wire/ and nat/nft. */
struct endpoint {
    struct ip_address address;
    uint16_t port;
};

#define IP_ADDRESS_TEXT_SIZE 46
#define IP_PREFIX_TEXT_SIZE (IP_ADDRESS_TEXT_SIZE + 4)
#define ENDPOINT_TEXT_SIZE (IP_ADDRESS_TEXT_SIZE + 8)

#define IP_ADDRESS_ANY_IPV6 ((struct ip_address){{0}})
#define IP_ADDRESS_ANY_IPV4 ((struct ip_address){{[10] = 0xff, [11] = 0xff}})

/* `ipv4` in host order: 10.77.0.1 is 0x0a4d0001. */
struct ip_address ip_address_from_ipv4(uint32_t ipv4);
uint32_t ip_address_to_ipv4(const struct ip_address *address);

/* All 96 leading bits are compared, as RFC 6887 s5 requires. */
bool ip_address_is_ipv4(const struct ip_address *address);
/* True for :: and for ::ffff:0.0.0.0. */
bool ip_address_is_any(const struct ip_address *address);
bool ip_address_is_multicast(const struct ip_address *address);
bool ip_address_is_loopback(const struct ip_address *address);
bool ip_address_is_link_local(const struct ip_address *address);
bool ip_address_equal(const struct ip_address *a, const struct ip_address *b);
/* Order of the octets, as memcmp(3). */
int ip_address_compare(const struct ip_address *a, const struct ip_address *b);

/* Writes "10.77.0.1" or "fd77::2"; `ret_text` has IP_ADDRESS_TEXT_SIZE octets. Returns ret_text. */
const char *ip_address_format(const struct ip_address *address, char *ret_text);
/* 0, or -EINVAL when `text` is neither an IPv4 nor an IPv6 address. */
int ip_address_parse(const char *text, struct ip_address *ret_address)
    __attribute__((warn_unused_result));

bool endpoint_equal(const struct endpoint *a, const struct endpoint *b);
/* "10.77.0.1:5351" or "[fd77::1]:5351"; `ret_text` has ENDPOINT_TEXT_SIZE octets. Returns ret_text. */
const char *endpoint_format(const struct endpoint *endpoint, char *ret_text);
/* Reads either form; a bare address gets `default_port`. 0 or -EINVAL. */
int endpoint_parse(const char *text, uint16_t default_port, struct endpoint *ret_endpoint)
    __attribute__((warn_unused_result));

/* "10.77.0.0/24", "fd77::/64", or a bare address for a full-length prefix. -EINVAL for bad text, or for bits set behind the prefix. */
int ip_prefix_parse(const char *text, struct ip_prefix *ret_prefix)
    __attribute__((warn_unused_result));
/* IPv4 prefixes are printed with their IPv4 length. Returns ret_text (IP_PREFIX_TEXT_SIZE octets). */
const char *ip_prefix_format(const struct ip_prefix *prefix, char *ret_text);
bool ip_prefix_contains(const struct ip_prefix *prefix, const struct ip_address *address);
bool ip_prefix_equal(const struct ip_prefix *a, const struct ip_prefix *b);
/* `address` with all bits behind `length` (of 128) cleared. */
struct ip_address ip_address_mask(const struct ip_address *address, uint8_t length);
