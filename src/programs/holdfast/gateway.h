#pragma once

/* The default route's gateway: where a PCP server is when nobody says otherwise (RFC 6887 s8.1). */

#include <net/if.h>
#include <stdio.h>

#include "base/address.h"
#include "base/util.h"

struct gateway {
    struct ip_address address;
    char interface[IF_NAMESIZE];
};

/* Reads the kernel's tables (/proc/net/route, /proc/net/ipv6_route). 0 or -ENOENT. */
MUST_CHECK int gateway_find(struct gateway *ret_gateway);
/* The same from open files, either of which may be NULL. The lowest metric wins, IPv4 before IPv6. */
MUST_CHECK int gateway_read(FILE *ipv4_routes, FILE *ipv6_routes, struct gateway *ret_gateway);
