/*
 * A default route counts when it is up, leads over a gateway and does not reject. One out of a point-to-point interface has no
 * gateway to ask.
 */

#include "programs/holdfast/gateway.h"

#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <net/route.h>
#include <stdbool.h>
#include <string.h>

#define LINE_SIZE 512

static bool is_usable(unsigned flags)
{
    return (flags & (RTF_UP | RTF_GATEWAY | RTF_REJECT)) == (RTF_UP | RTF_GATEWAY);
}

/* NOLINTBEGIN(cert-err34-c): the kernel prints these lines, its numbers fit, and the count of fields is checked. */

/* The addresses are numbers printed as they lie in memory, in network order. */
static bool read_ipv4_line(const char *line, struct gateway *gateway, unsigned *ret_metric)
{
    uint32_t destination, next_hop, mask;
    unsigned flags;
    if (sscanf(line, "%15s %" SCNx32 " %" SCNx32 " %x %*d %*u %u %" SCNx32, gateway->interface,
               &destination, &next_hop, &flags, ret_metric, &mask) != 6 ||
        destination != 0 || mask != 0 || next_hop == 0 || !is_usable(flags))
        return false;
    gateway->address = ip_address_from_ipv4(ntohl(next_hop));
    return true;
}

static bool read_ipv6_address(const char *digits, struct ip_address *ret_address)
{
    for (size_t i = 0; i < sizeof(ret_address->octets); i++) {
        if (sscanf(digits + 2 * i, "%2" SCNx8, &ret_address->octets[i]) != 1)
            return false;
    }
    return true;
}

static bool read_ipv6_line(const char *line, struct gateway *gateway, unsigned *ret_metric)
{
    char destination[33], next_hop[33];
    unsigned length, flags;
    if (sscanf(line, "%32s %x %*32s %*x %32s %x %*x %*x %x %15s", destination, &length, next_hop,
               ret_metric, &flags, gateway->interface) != 6 ||
        length != 0 || strlen(next_hop) != 32 || !is_usable(flags))
        return false;
    return read_ipv6_address(next_hop, &gateway->address) && !ip_address_is_any(&gateway->address);
}

/* NOLINTEND(cert-err34-c) */

static bool read_routes(FILE *routes, bool (*read_line)(const char *, struct gateway *, unsigned *),
                        struct gateway *ret_gateway)
{
    char line[LINE_SIZE];
    bool is_found = false;
    unsigned best_metric = 0;
    while (fgets(line, sizeof(line), routes)) {
        struct gateway gateway;
        unsigned metric;
        if (!read_line(line, &gateway, &metric) || (is_found && metric >= best_metric))
            continue;
        is_found = true;
        best_metric = metric;
        *ret_gateway = gateway;
    }
    return is_found;
}

int gateway_read(FILE *ipv4_routes, FILE *ipv6_routes, struct gateway *ret_gateway)
{
    if (ipv4_routes && read_routes(ipv4_routes, read_ipv4_line, ret_gateway))
        return 0;
    if (ipv6_routes && read_routes(ipv6_routes, read_ipv6_line, ret_gateway))
        return 0;
    return -ENOENT;
}

int gateway_find(struct gateway *ret_gateway)
{
    FILE *ipv4_routes = fopen("/proc/net/route", "re");
    FILE *ipv6_routes = fopen("/proc/net/ipv6_route", "re");
    int error = gateway_read(ipv4_routes, ipv6_routes, ret_gateway);
    if (ipv4_routes)
        fclose(ipv4_routes);
    if (ipv6_routes)
        fclose(ipv6_routes);
    return error;
}
