#pragma once

/*
 * A claim is what a request, of whichever protocol, or the configuration wants mapped: an internal endpoint, and perhaps a
 * suggestion. Here the external endpoint is found for it, and here the limits are.
 */

#include "server/internal.h"

struct claim {
    struct ip_address internal_address;
    struct endpoint suggested; /* port 0, address any: no preference */
    uint16_t internal_port;    /* 0: all ports */
    uint8_t protocol;          /* 0: all protocols */
    bool exact;                /* what is suggested or nothing: PREFER_FAILURE, PEER */
    bool is_peer;
    /* The same port of the other of TCP and UDP must be the claimant's to have (RFC 6886 s3.3). */
    bool with_companion;
};

/* USER_EX_QUOTA, NO_RESOURCES or SUCCESS for one mapping more. */
enum pcp_result claim_check_limits(const struct server *server,
                                   const struct ip_address *internal_address);
/*
 * The external endpoint (RFC 6887 s11.3). SUCCESS fills it in; CANNOT_PROVIDE_EXTERNAL for an exact claim; NETWORK_FAILURE without external address;
 * UNSUPP_PROTOCOL when all
 * ports or protocols cannot be had in their entirety; NO_RESOURCES.
 */
enum pcp_result claim_external(struct server *server, const struct claim *claim,
                               struct endpoint *ret_external);
/* A live mapping of the same internal endpoint whose external endpoint the claim can share (RFC 6887 s11.3, s12.3); NULL. */
const struct mapping *claim_find_sibling(const struct server *server, const struct claim *claim);
/* True when the internal endpoint has a live mapping of whatever kind. */
bool claim_has_sibling(const struct server *server, const struct claim *claim);
/* The held mapping with this key and nonce (NULL: without nonce) if the claim may have its external endpoint back; NULL. */
struct mapping *claim_find_held(const struct server *server, const struct claim *claim,
                                const struct mapping_key *key, const uint8_t *nonce);
/* True when the address is of a subscriber that may have mappings here. */
bool claim_is_permitted(const struct server *server, const struct ip_address *internal_address);
/* Its ports can be mapped one by one: the protocol has them where the data path looks, and the data path follows it. */
bool claim_has_ports(const struct server *server, uint8_t protocol);
/* Lifetime granted for the lifetime asked. */
uint32_t claim_lifetime_s(const struct server *server, uint32_t requested_s);
