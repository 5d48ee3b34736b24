#pragma once

/* One direction of a flow, as connection tracking tells it and is asked for it over netlink. */

#include <netinet/in.h> /* before any of linux/, whose definitions then give way */
#include <stdint.h>

#include <libmnl/libmnl.h>

#include "base/address.h"

struct nft_tuple {
    struct endpoint source, destination;
    uint8_t protocol;
};

/* Begins a request of ctnetlink's at `at`; `type` is an IPCTNL_MSG_CT_ number. */
struct nlmsghdr *nft_tuple_put_header(void *at, uint16_t type, uint16_t flags, uint8_t family);
/* `attribute` is CTA_TUPLE_ORIG or CTA_TUPLE_REPLY. */
void nft_tuple_put(struct nlmsghdr *header, uint16_t attribute, const struct nft_tuple *tuple);
/* For mnl_attr_parse_nested() on such an attribute; `ret_tuple` begins as zeros. */
int nft_tuple_read(const struct nlattr *attribute, void *ret_tuple);
