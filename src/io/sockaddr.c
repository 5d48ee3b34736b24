/* The one place where the 16 octet form of base/address.h meets the kernel's two families. */

#include "io/sockaddr.h"

#include <netinet/in.h>
#include <string.h>

int sockaddr_family(const struct ip_address *address)
{
    return ip_address_is_ipv4(address) ? AF_INET : AF_INET6;
}

static socklen_t fill_ipv6(const struct endpoint *endpoint, uint32_t interface_index,
                           struct sockaddr_storage *ret_sockaddr)
{
    struct sockaddr_in6 *ipv6 = (struct sockaddr_in6 *) ret_sockaddr;
    ipv6->sin6_family = AF_INET6;
    ipv6->sin6_port = htons(endpoint->port);
    memcpy(&ipv6->sin6_addr, endpoint->address.octets, sizeof(ipv6->sin6_addr));
    if (ip_address_is_link_local(&endpoint->address) || ip_address_is_multicast(&endpoint->address))
        ipv6->sin6_scope_id = interface_index;
    return sizeof(*ipv6);
}

socklen_t sockaddr_from_endpoint(const struct endpoint *endpoint, uint32_t interface_index,
                                 struct sockaddr_storage *ret_sockaddr)
{
    memset(ret_sockaddr, 0, sizeof(*ret_sockaddr));
    if (sockaddr_family(&endpoint->address) == AF_INET6)
        return fill_ipv6(endpoint, interface_index, ret_sockaddr);
    struct sockaddr_in *ipv4 = (struct sockaddr_in *) ret_sockaddr;
    ipv4->sin_family = AF_INET;
    ipv4->sin_port = htons(endpoint->port);
    ipv4->sin_addr.s_addr = htonl(ip_address_to_ipv4(&endpoint->address));
    return sizeof(*ipv4);
}

struct endpoint sockaddr_to_endpoint(const struct sockaddr_storage *sockaddr)
{
    struct endpoint endpoint = {0};
    if (sockaddr->ss_family == AF_INET) {
        const struct sockaddr_in *ipv4 = (const struct sockaddr_in *) sockaddr;
        endpoint.address = ip_address_from_ipv4(ntohl(ipv4->sin_addr.s_addr));
        endpoint.port = ntohs(ipv4->sin_port);
        return endpoint;
    }
    const struct sockaddr_in6 *ipv6 = (const struct sockaddr_in6 *) sockaddr;
    memcpy(endpoint.address.octets, &ipv6->sin6_addr, sizeof(endpoint.address.octets));
    endpoint.port = ntohs(ipv6->sin6_port);
    return endpoint;
}
