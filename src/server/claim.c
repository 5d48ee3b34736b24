/*
 * Where a mapping goes. IPv6 is not translated: the external endpoint is the internal one. On IPv4 the suggestion wins if it
 * is there to be had, then the internal port number, then a random port of the same parity.
 *
 * A mapping of all ports takes an external address as a whole (RFC 6887 s11.3: in its entirety or not at all), so it is
 * granted only where nobody else has anything, and nobody else gets anything there afterwards.
 */

#include "server/claim.h"

#include <netinet/in.h>

/* Random ports tried when a port must suit two protocols. */
#define COMPANION_TRIES 64

/* An IPv6 link-local address is one only together with its interface, and no packet from outside can reach it. */
/* [R-6887-18.1-1] */
bool claim_is_permitted(const struct server *server, const struct ip_address *internal_address)
{
    if (!ip_address_is_ipv4(internal_address) && ip_address_is_link_local(internal_address))
        return false;
    for (size_t i = 0; i < server->settings.n_internal_prefixes; i++)
        if (ip_prefix_contains(&server->settings.internal_prefixes[i], internal_address))
            return true;
    return false;
}

bool claim_has_ports(const struct server *server, uint8_t protocol)
{
    return external_protocol_has_ports(protocol) &&
           (protocol != IPPROTO_DCCP || server->settings.dccp);
}

/* [R-6887-12.3-4] [R-6887-15-1] [R-6887-15-9] [R-6887-18.1-2] */
uint32_t claim_lifetime_s(const struct server *server, uint32_t requested_s)
{
    if (requested_s < server->settings.lifetime_min_s)
        return server->settings.lifetime_min_s;
    return requested_s > server->settings.lifetime_max_s ? server->settings.lifetime_max_s
                                                         : requested_s;
}

/* [R-6887-7.4-4] [R-6887-11.3-22] [R-6887-11.3-23] [R-6887-17.2-1] */
enum pcp_result claim_check_limits(const struct server *server,
                                   const struct ip_address *internal_address)
{
    const struct subscriber *subscriber =
        mapping_table_find_subscriber(&server->table, internal_address);
    if (subscriber && subscriber->n_live >= server->settings.mappings_per_subscriber)
        return PCP_RESULT_USER_EX_QUOTA;
    return server->table.n_live >= server->settings.mappings_total ? PCP_RESULT_NO_RESOURCES
                                                                   : PCP_RESULT_SUCCESS;
}

static bool is_of_another(const struct mapping *mapping, const struct claim *claim)
{
    return mapping &&
           !ip_address_equal(&mapping->record.internal_address, &claim->internal_address);
}

/* Somebody else has all of it. */
static bool address_is_taken_whole(const struct server *server, const struct claim *claim,
                                   const struct ip_address *address)
{
    const struct mapping_table *table = &server->table;
    return is_of_another(mapping_table_find_external(table, address, claim->protocol, 0), claim) ||
           is_of_another(mapping_table_find_external(table, address, 0, 0), claim);
}

static uint8_t companion_of(uint8_t protocol)
{
    return protocol == IPPROTO_TCP ? IPPROTO_UDP : IPPROTO_TCP;
}

/*
 * [R-6886-3.3-5] [R-6886-3.3-6] A NAT-PMP mapping keeps its companion to itself; other mappings are only in the way of one that wants it.
 */
static bool companion_suits(const struct server *server, const struct claim *claim,
                            const struct ip_address *address, uint16_t port)
{
    if (claim->protocol != IPPROTO_TCP && claim->protocol != IPPROTO_UDP)
        return true;
    const struct mapping *companion =
        mapping_table_find_external(&server->table, address, companion_of(claim->protocol), port);
    /* All that share the endpoint are of one host. */
    if (!is_of_another(companion, claim))
        return true;
    if (claim->with_companion)
        return false;
    for (; companion; companion = mapping_table_next_external(companion))
        if (!companion->record.has_nonce && companion->record.kind == MAPPING_KIND_MAP)
            return false;
    return true;
}

static bool port_is_free(struct server *server, const struct claim *claim,
                         const struct ip_address *address, uint16_t port)
{
    return port != 0 &&
           mapping_table_external_is_free(&server->table, address, claim->protocol, port) &&
           companion_suits(server, claim, address, port);
}

static bool address_suits(const struct claim *claim, const struct ip_address *address)
{
    return ip_address_is_any(&claim->suggested.address) ||
           ip_address_equal(&claim->suggested.address, address);
}

/* The next live mapping of the claim's internal endpoint after `link`; NULL. A subscriber may be more than one address. */
static const struct mapping *next_sibling(const struct subscriber *subscriber,
                                          const struct list_link *link, const struct claim *claim)
{
    for (link = link->next; link != &subscriber->mappings; link = link->next) {
        const struct mapping *mapping = CONTAINER_OF(link, const struct mapping, of_subscriber);
        if (mapping->record.protocol == claim->protocol &&
            mapping->record.internal_port == claim->internal_port &&
            ip_address_equal(&mapping->record.internal_address, &claim->internal_address))
            return mapping;
    }
    return NULL;
}

bool claim_has_sibling(const struct server *server, const struct claim *claim)
{
    const struct subscriber *subscriber =
        mapping_table_find_subscriber(&server->table, &claim->internal_address);
    return subscriber && next_sibling(subscriber, &subscriber->mappings, claim);
}

/* PEER may stand on the port a flow happened to have; MAP only where the configuration lets it. */
static bool place_suits(const struct server *server, const struct claim *claim,
                        const struct mapping_record *record)
{
    const struct external_space *external = &server->table.external;
    if (!ip_address_is_ipv4(&record->external_address))
        return true;
    if (!external_space_is_active(external, &record->external_address))
        return false;
    if (record->external_port == 0 || record->kind == MAPPING_KIND_STATIC)
        return true;
    return (claim->is_peer ||
            external_space_is_allowed(external, record->protocol, record->external_port)) &&
           companion_suits(server, claim, &record->external_address, record->external_port);
}

const struct mapping *claim_find_sibling(const struct server *server, const struct claim *claim)
{
    const struct subscriber *subscriber =
        mapping_table_find_subscriber(&server->table, &claim->internal_address);
    const struct mapping *sibling = NULL;
    if (subscriber)
        sibling = next_sibling(subscriber, &subscriber->mappings, claim);
    while (sibling && !place_suits(server, claim, &sibling->record))
        sibling = next_sibling(subscriber, &sibling->of_subscriber, claim);
    return sibling;
}

struct mapping *claim_find_held(const struct server *server, const struct claim *claim,
                                const struct mapping_key *key, const uint8_t *nonce)
{
    struct mapping *held = mapping_table_find_held(&server->table, key, nonce);
    return held && place_suits(server, claim, &held->record) ? held : NULL;
}

static bool address_is_usable(const struct server *server, const struct claim *claim,
                              const struct ip_address *address)
{
    return external_space_is_active(&server->table.external, address) &&
           !address_is_taken_whole(server, claim, address);
}

/* Where this host has other mappings already; NULL. */
static const struct ip_address *own_address(const struct server *server, const struct claim *claim)
{
    const struct subscriber *subscriber =
        mapping_table_find_subscriber(&server->table, &claim->internal_address);
    if (!subscriber)
        return NULL;
    const struct list_link *head = &subscriber->mappings;
    for (const struct list_link *link = head->next; link != head; link = link->next) {
        const struct mapping_record *record =
            &CONTAINER_OF(link, const struct mapping, of_subscriber)->record;
        if (ip_address_equal(&record->internal_address, &claim->internal_address) &&
            address_is_usable(server, claim, &record->external_address))
            return &record->external_address;
    }
    return NULL;
}

/* The one suggested if it is ours, else the one this host has already, else the first with anything left to give. NULL: there is none. */
/* [R-6887-10-1] [R-6887-10-2] */
static const struct ip_address *choose_address(const struct server *server,
                                               const struct claim *claim)
{
    const struct external_space *external = &server->table.external;
    if (address_is_usable(server, claim, &claim->suggested.address))
        return &claim->suggested.address;
    if (claim->exact && !ip_address_is_any(&claim->suggested.address))
        return NULL;
    const struct ip_address *own = own_address(server, claim);
    for (size_t i = 0; !own && i < external->n_addresses; i++)
        if (address_is_usable(server, claim, &external->addresses[i].address))
            own = &external->addresses[i].address;
    return own;
}

static bool pick_port_on(struct server *server, const struct claim *claim,
                         const struct ip_address *address, struct endpoint *ret_external)
{
    struct endpoint picked = {.address = *address};
    for (int i = 0; i < COMPANION_TRIES; i++) {
        if (external_space_pick(&server->table.external, address, claim->protocol,
                                claim->internal_port, server->random, &picked.port) < 0)
            return false;
        if (!companion_suits(server, claim, address, picked.port))
            continue;
        *ret_external = picked;
        return true;
    }
    return false;
}

/* On another address when the ports of this one are exhausted. */
static enum pcp_result pick_port(struct server *server, const struct claim *claim,
                                 const struct ip_address *address, struct endpoint *ret_external)
{
    const struct external_space *external = &server->table.external;
    if (pick_port_on(server, claim, address, ret_external))
        return PCP_RESULT_SUCCESS;
    if (claim->exact)
        return PCP_RESULT_CANNOT_PROVIDE_EXTERNAL;
    for (size_t i = 0; i < external->n_addresses; i++) {
        const struct ip_address *other = &external->addresses[i].address;
        if (address_is_usable(server, claim, other) &&
            pick_port_on(server, claim, other, ret_external))
            return PCP_RESULT_SUCCESS;
    }
    return PCP_RESULT_NO_RESOURCES;
}

/*
 * [R-6887-7.4-3] [R-6887-7.4-5] [R-6887-11.3-17] [R-6887-11.3-19] [R-6887-11.3-20]
 * [R-6887-13.2-2] [R-6886-3.3-7]
 */
static enum pcp_result claim_port(struct server *server, const struct claim *claim,
                                  const struct ip_address *address, struct endpoint *ret_external)
{
    uint16_t port = 0;
    if (port_is_free(server, claim, address, claim->suggested.port))
        port = claim->suggested.port;
    else if (claim->exact && claim->suggested.port != 0)
        return PCP_RESULT_CANNOT_PROVIDE_EXTERNAL;
    else if (port_is_free(server, claim, address, claim->internal_port))
        port = claim->internal_port;
    if (port == 0)
        return pick_port(server, claim, address, ret_external);
    *ret_external = (struct endpoint){.address = *address, .port = port};
    return PCP_RESULT_SUCCESS;
}

static uint32_t count_own(const struct list_link *list, const struct claim *claim,
                          const struct ip_address *address)
{
    uint32_t n = 0;
    for (const struct list_link *link = list->next; link != list; link = link->next) {
        const struct mapping_record *record =
            &CONTAINER_OF(link, const struct mapping, of_subscriber)->record;
        n += ip_address_equal(&record->external_address, address) &&
             ip_address_equal(&record->internal_address, &claim->internal_address) &&
             (claim->protocol == 0 || record->protocol == claim->protocol);
    }
    return n;
}

/* Nobody but the claimant has anything of it, or had until a moment ago. */
static bool address_is_whole(const struct server *server, const struct claim *claim,
                             const struct ip_address *address)
{
    if (!address_is_usable(server, claim, address))
        return false;
    const struct subscriber *subscriber =
        mapping_table_find_subscriber(&server->table, &claim->internal_address);
    uint32_t n_own = 0;
    if (subscriber)
        n_own = count_own(&subscriber->mappings, claim, address) +
                count_own(&subscriber->held, claim, address);
    return external_space_n_mappings(&server->table.external, address, claim->protocol) == n_own;
}

/* [R-6887-11.3-4] [R-6887-11.3-5] */
static enum pcp_result claim_whole(const struct server *server, const struct claim *claim,
                                   struct endpoint *ret_external)
{
    const struct external_space *external = &server->table.external;
    const struct ip_address *found = NULL;
    if (address_is_whole(server, claim, &claim->suggested.address))
        found = &claim->suggested.address;
    for (size_t i = 0; !found && i < external->n_addresses; i++) {
        const struct ip_address *address = &external->addresses[i].address;
        if ((!claim->exact || address_suits(claim, address)) &&
            address_is_whole(server, claim, address))
            found = address;
    }
    if (!found)
        return claim->exact ? PCP_RESULT_CANNOT_PROVIDE_EXTERNAL : PCP_RESULT_UNSUPP_PROTOCOL;
    *ret_external = (struct endpoint){.address = *found};
    return PCP_RESULT_SUCCESS;
}

static enum pcp_result claim_untranslated(const struct claim *claim, struct endpoint *ret_external)
{
    struct endpoint own = {.address = claim->internal_address, .port = claim->internal_port};
    bool port_suits = claim->suggested.port == 0 || claim->suggested.port == own.port;
    if (claim->exact && (!address_suits(claim, &own.address) || !port_suits))
        return PCP_RESULT_CANNOT_PROVIDE_EXTERNAL;
    *ret_external = own;
    return PCP_RESULT_SUCCESS;
}

/* [R-6887-7.4-3] [R-6887-11.3-17] [R-6887-11.3-19] [R-6887-11.3-20] */
enum pcp_result claim_external(struct server *server, const struct claim *claim,
                               struct endpoint *ret_external)
{
    if (!ip_address_is_ipv4(&claim->internal_address))
        return claim_untranslated(claim, ret_external);
    if (!external_space_first_active(&server->table.external))
        return PCP_RESULT_NETWORK_FAILURE;
    if (claim->internal_port == 0)
        return claim_whole(server, claim, ret_external);
    const struct ip_address *address = choose_address(server, claim);
    if (!address)
        return claim->exact ? PCP_RESULT_CANNOT_PROVIDE_EXTERNAL : PCP_RESULT_NO_RESOURCES;
    return claim_port(server, claim, address, ret_external);
}
