#pragma once

/*
 * The external side: the addresses mappings may live on, each with its port pools. An address that went away stays as
 * long as mappings are still recorded on it, but gives out nothing new.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/address.h"
#include "base/random.h"
#include "base/util.h"
#include "mapping/port_pool.h"

#define EXTERNAL_ADDRESSES_MAX 128
#define EXTERNAL_PROTOCOLS 5 /* TCP, UDP, SCTP, DCCP, UDP-Lite */

struct external_address {
    struct ip_address address;
    bool active;
    uint32_t n_reserved;                         /* ports taken, all protocols */
    uint32_t n_mappings;                         /* on it, live or held */
    uint32_t n_mappings_of[256];                 /* of them, by protocol */
    struct port_pool *pools[EXTERNAL_PROTOCOLS]; /* made when first used */
};

struct external_space {
    struct port_set allowed[EXTERNAL_PROTOCOLS];
    struct external_address addresses[EXTERNAL_ADDRESSES_MAX];
    size_t n_addresses;
};

/* True for the protocols whose headers carry ports where the data path looks for them. */
bool external_protocol_has_ports(uint8_t protocol);

/* `ranges` may be given out, UDP 5350 and 5351 excepted always (RFC 6887 s11.3). */
void external_space_init(struct external_space *space, const struct port_range *ranges,
                         size_t n_ranges);
void external_space_deinit(struct external_space *space);
/* Other port ranges from now on; ports taken outside them stay taken. */
MUST_CHECK int external_space_set_ranges(struct external_space *space,
                                         const struct port_range *ranges, size_t n_ranges);
/* These addresses are active from now on, all others not. 0, or -ENOSPC when there are too many, with nothing changed. */
MUST_CHECK int external_space_set_active(struct external_space *space,
                                         const struct ip_address *addresses, size_t n_addresses);
bool external_space_is_active(const struct external_space *space, const struct ip_address *address);
/* The first of the list that made them active, or NULL. */
const struct ip_address *external_space_first_active(const struct external_space *space);

bool external_space_is_allowed(const struct external_space *space, uint8_t protocol, uint16_t port);
/*
 * Takes (address, protocol, port); works for inactive addresses and ports outside the ranges too, so that stored mappings can
 * be restored. 0; -EADDRINUSE when taken; -ENOMEM; -ENOSPC.
 */
MUST_CHECK int external_space_reserve(struct external_space *space,
                                      const struct ip_address *address, uint8_t protocol,
                                      uint16_t port);
/* One mapping more or less (`change` 1 or -1) is on the address, whether it takes a port or not. -ENOSPC when there are too many addresses. */
MUST_CHECK int external_space_count(struct external_space *space, const struct ip_address *address,
                                    uint8_t protocol, int change);
/* How many mappings of `protocol` (0: of all protocols) are on the address, live or held. */
uint32_t external_space_n_mappings(const struct external_space *space,
                                   const struct ip_address *address, uint8_t protocol);
/* A port taken before it was allowed is now allowed: marks it as taken in the pool too. */
void external_space_adopt(struct external_space *space, const struct ip_address *address,
                          uint8_t protocol, uint16_t port);
void external_space_release(struct external_space *space, const struct ip_address *address,
                            uint8_t protocol, uint16_t port);
/* True when the address is active and the port allowed and free. */
bool external_space_is_free(struct external_space *space, const struct ip_address *address,
                            uint8_t protocol, uint16_t port);
/* A random free port on an active address, of the parity of `like` if there is one. 0; -EADDRNOTAVAIL when exhausted; -ENOMEM. */
MUST_CHECK int external_space_pick(struct external_space *space, const struct ip_address *address,
                                   uint8_t protocol, uint16_t like, struct random_source *random,
                                   uint16_t *ret_port);
