#pragma once

/* Endpoints to socket addresses and back, for io and for programs with sockets of their own. */

#include <stdint.h>
#include <sys/socket.h>

#include "base/address.h"

/* AF_INET for the mapped IPv4 form, else AF_INET6. */
int sockaddr_family(const struct ip_address *address);
/*
 * `interface_index` becomes the scope of addresses that need one (link-local, multicast); 0: none. Returns the length used of
 * `ret_sockaddr`.
 */
socklen_t sockaddr_from_endpoint(const struct endpoint *endpoint, uint32_t interface_index,
                                 struct sockaddr_storage *ret_sockaddr);
/* AF_INET or AF_INET6 only. */
struct endpoint sockaddr_to_endpoint(const struct sockaddr_storage *sockaddr);
