/*
 * MAP (RFC 6887 s11): create, renew, delete. The order of the checks is the RFC's; whatever ends in an error leaves the
 * table untouched.
 */

#include <string.h>

#include "base/time.h"
#include "server/internal.h"

/* What a MAP request is about, gathered once. */
struct map {
    struct server *server;
    uint64_t now_ns;
    const struct datagram *datagram;
    const struct pcp_request *request;
    struct ip_address internal_address;
    struct mapping_key key;
    struct mapping *existing; /* live, or NULL */
    bool pending;             /* something of this subscriber is not committed yet */
    bool prefer_failure;
};

static void refuse(const struct map *map, enum pcp_result result)
{
    answer_error(map->server, map->now_ns, map->datagram, result, error_lifetime_s(result),
                 map->pending);
}

static bool has_option(const struct pcp_request *request, uint8_t code)
{
    for (size_t i = 0; i < request->n_options; i++)
        if (request->options[i].code == code)
            return true;
    return false;
}

static void answer_granted(const struct map *map, const struct mapping_record *record,
                           uint32_t lifetime_s, bool held)
{
    struct pcp_response response;
    response.opcode = PCP_OPCODE_MAP;
    response.lifetime_s = lifetime_s;
    response.mapping = map->request->mapping;
    response.mapping.external =
        (struct endpoint){.address = record->external_address, .port = record->external_port};
    response.n_options = map->request->n_options;
    memcpy(response.options, map->request->options,
           response.n_options * sizeof(response.options[0]));
    answer_success(map->server, map->now_ns, map->datagram, &response, held);
}

static void answer_deleted(const struct map *map, bool held)
{
    struct pcp_response response;
    response.opcode = PCP_OPCODE_MAP;
    response.lifetime_s = 0;
    response.mapping = map->request->mapping;
    response.n_options = map->request->n_options;
    memcpy(response.options, map->request->options,
           response.n_options * sizeof(response.options[0]));
    answer_success(map->server, map->now_ns, map->datagram, &response, held);
}

static bool nonce_matches(const struct map *map)
{
    const struct mapping_record *record = &map->existing->record;
    return !record->has_nonce ||
           memcmp(record->nonce, map->request->mapping.nonce, MAPPING_NONCE_SIZE) == 0;
}

static void refuse_nonce(const struct map *map)
{
    answer_error(map->server, map->now_ns, map->datagram, PCP_RESULT_NOT_AUTHORIZED,
                 remaining_s(&map->existing->record, map->now_ns), map->pending);
}

/* RFC 6887 s15.1. Deleting what is not there succeeds, so that a repeated delete does. */
static void delete_mapping(const struct map *map)
{
    if (!map->existing) {
        answer_deleted(map, map->pending);
        return;
    }
    if (map->existing->record.kind == MAPPING_KIND_STATIC) {
        refuse(map, PCP_RESULT_NOT_AUTHORIZED);
        return;
    }
    if (!nonce_matches(map)) {
        refuse_nonce(map);
        return;
    }
    if (maintenance_end_mapping(map->server, map->existing, map->now_ns) < 0) {
        refuse(map, PCP_RESULT_NO_RESOURCES);
        return;
    }
    answer_deleted(map, true);
}

static uint32_t granted_s(const struct map *map)
{
    const struct server_settings *settings = &map->server->settings;
    uint32_t lifetime_s = map->request->lifetime_s;
    if (lifetime_s < settings->lifetime_min_s)
        return settings->lifetime_min_s;
    return lifetime_s > settings->lifetime_max_s ? settings->lifetime_max_s : lifetime_s;
}

/*
 * A request that asks for what was granted moments ago is a retransmission, and gets the same answer without a commit. "Moments" is 10 s, the
 * first three transmissions of RFC 6887 s8.1.1, and less for short lifetimes.
 */
static bool is_repetition(const struct mapping_record *existing,
                          const struct mapping_record *wanted, uint32_t lifetime_s)
{
    struct mapping_record same = *wanted;
    same.expires_ns = existing->expires_ns;
    if (!mapping_record_equal(existing, &same) || existing->expires_ns > wanted->expires_ns)
        return false;
    uint64_t window_s = lifetime_s / 16 < 10 ? lifetime_s / 16 : 10;
    return wanted->expires_ns - existing->expires_ns <= window_s * NS_PER_S;
}

static void fill_from_request(const struct map *map, struct mapping_record *record,
                              uint32_t lifetime_s)
{
    record->expires_ns = map->now_ns + lifetime_s * NS_PER_S;
    record->client_address = map->datagram->source.address;
    record->client_port = map->datagram->source.port;
    record->has_nonce = true;
    record->prefer_failure = map->prefer_failure;
    memcpy(record->nonce, map->request->mapping.nonce, MAPPING_NONCE_SIZE);
}

static bool suggestion_is(const struct map *map, const struct mapping_record *record)
{
    const struct endpoint *suggested = &map->request->mapping.external;
    return suggested->port == record->external_port &&
           (ip_address_is_any(&suggested->address) ||
            ip_address_equal(&suggested->address, &record->external_address));
}

static void put_and_answer(const struct map *map, struct mapping *before,
                           const struct mapping_record *record, uint32_t lifetime_s)
{
    if (tick_put(map->server, before, record, NULL) < 0) {
        refuse(map, PCP_RESULT_NO_RESOURCES);
        return;
    }
    answer_granted(map, record, lifetime_s, true);
}

static void renew_mapping(const struct map *map)
{
    struct server *server = map->server;
    struct mapping_record record = map->existing->record;
    if (map->prefer_failure && !suggestion_is(map, &record)) {
        refuse(map, PCP_RESULT_CANNOT_PROVIDE_EXTERNAL);
        return;
    }
    if (!external_space_is_active(&server->table.external, &record.external_address)) {
        refuse(map, PCP_RESULT_NETWORK_FAILURE);
        return;
    }
    const struct mapping_filters *filters;
    enum pcp_result result =
        filters_after(map->existing->record.filters, map->request, &map->internal_address,
                      server->settings.filters_per_mapping, &filters);
    if (result != PCP_RESULT_SUCCESS) {
        refuse(map, result);
        return;
    }
    uint32_t lifetime_s = granted_s(map);
    fill_from_request(map, &record, lifetime_s);
    record.filters = filters;
    if (is_repetition(&map->existing->record, &record, lifetime_s)) {
        server->counters.n_repeated++;
        answer_granted(map, &map->existing->record,
                       remaining_s(&map->existing->record, map->now_ns), map->pending);
    } else {
        put_and_answer(map, map->existing, &record, lifetime_s);
    }
    mapping_filters_unref(filters);
}

/* The external address a new mapping goes to: the one suggested if it is ours, else the one this host has already, else the first. */
static const struct ip_address *choose_address(const struct map *map)
{
    const struct external_space *external = &map->server->table.external;
    const struct ip_address *suggested = &map->request->mapping.external.address;
    if (external_space_is_active(external, suggested))
        return suggested;
    const struct subscriber *subscriber =
        mapping_table_find_subscriber(&map->server->table, &map->internal_address);
    if (subscriber && !list_is_empty(&subscriber->mappings)) {
        const struct mapping *first =
            CONTAINER_OF(subscriber->mappings.next, struct mapping, of_subscriber);
        if (external_space_is_active(external, &first->record.external_address))
            return &first->record.external_address;
    }
    return external_space_first_active(external);
}

/* The external endpoint for a new mapping (RFC 6887 s11.3). SUCCESS fills it in. */
static enum pcp_result choose_external(const struct map *map, struct mapping_record *record)
{
    struct mapping_table *table = &map->server->table;
    const struct pcp_mapping_fields *wanted = &map->request->mapping;
    const struct ip_address *address = choose_address(map);
    if (!address)
        return PCP_RESULT_NETWORK_FAILURE;
    record->external_address = *address;

    bool address_is_exact = ip_address_is_any(&wanted->external.address) ||
                            ip_address_equal(&wanted->external.address, address);
    if (wanted->external.port != 0 && address_is_exact &&
        mapping_table_external_is_free(table, address, wanted->protocol, wanted->external.port)) {
        record->external_port = wanted->external.port;
        return PCP_RESULT_SUCCESS;
    }
    if (map->prefer_failure)
        return PCP_RESULT_CANNOT_PROVIDE_EXTERNAL;
    if (wanted->external.port != 0 &&
        mapping_table_external_is_free(table, address, wanted->protocol, wanted->external.port)) {
        record->external_port = wanted->external.port;
        return PCP_RESULT_SUCCESS;
    }
    if (mapping_table_external_is_free(table, address, wanted->protocol, wanted->internal_port)) {
        record->external_port = wanted->internal_port;
        return PCP_RESULT_SUCCESS;
    }
    struct endpoint external;
    if (external_space_pick_anywhere(&table->external, address, wanted->protocol,
                                     wanted->internal_port, map->server->random, &external) < 0)
        return PCP_RESULT_NO_RESOURCES;
    record->external_address = external.address;
    record->external_port = external.port;
    return PCP_RESULT_SUCCESS;
}

/*
 * Its own external endpoint, held back since the mapping ended: what it gets unless it suggests another one that is there to be had.
 */
static struct mapping *find_held(const struct map *map)
{
    struct mapping_table *table = &map->server->table;
    struct mapping *held = mapping_table_find_held(table, &map->key, map->request->mapping.nonce);
    if (!held || !external_space_is_active(&table->external, &held->record.external_address))
        return NULL;
    const struct endpoint *suggested = &map->request->mapping.external;
    if (suggested->port == 0 || suggestion_is(map, &held->record))
        return held;
    if (map->prefer_failure)
        return NULL;
    const struct ip_address *address = ip_address_is_any(&suggested->address)
                                           ? &held->record.external_address
                                           : &suggested->address;
    bool other_is_free = mapping_table_external_is_free(
        table, address, map->request->mapping.protocol, suggested->port);
    return other_is_free ? NULL : held;
}

static enum pcp_result check_limits(const struct map *map)
{
    const struct server *server = map->server;
    const struct subscriber *subscriber =
        mapping_table_find_subscriber(&server->table, &map->internal_address);
    if (subscriber && subscriber->n_live >= server->settings.mappings_per_subscriber)
        return PCP_RESULT_USER_EX_QUOTA;
    if (server->table.n_live >= server->settings.mappings_total)
        return PCP_RESULT_NO_RESOURCES;
    return PCP_RESULT_SUCCESS;
}

static void create_mapping(const struct map *map)
{
    struct server *server = map->server;
    const struct pcp_mapping_fields *wanted = &map->request->mapping;
    struct mapping_record record = {
        .kind = MAPPING_KIND_MAP,
        .state = MAPPING_STATE_LIVE,
        .created_ns = map->now_ns,
        .internal_address = map->internal_address,
        .internal_port = wanted->internal_port,
        .protocol = wanted->protocol,
    };
    enum pcp_result result = check_limits(map);
    struct mapping *held = find_held(map);
    if (result == PCP_RESULT_SUCCESS && held) {
        record.id = held->record.id;
        record.external_address = held->record.external_address;
        record.external_port = held->record.external_port;
    } else if (result == PCP_RESULT_SUCCESS) {
        result = choose_external(map, &record);
        record.id = server->next_id;
    }
    const struct mapping_filters *filters = NULL;
    if (result == PCP_RESULT_SUCCESS)
        result = filters_after(NULL, map->request, &map->internal_address,
                               server->settings.filters_per_mapping, &filters);
    if (result != PCP_RESULT_SUCCESS) {
        refuse(map, result);
        return;
    }
    uint32_t lifetime_s = granted_s(map);
    fill_from_request(map, &record, lifetime_s);
    record.filters = filters;
    if (!held)
        server->next_id++;
    put_and_answer(map, held, &record, lifetime_s);
    mapping_filters_unref(filters);
}

static bool is_permitted(const struct server *server, const struct ip_address *address)
{
    for (size_t i = 0; i < server->settings.n_internal_prefixes; i++)
        if (ip_prefix_contains(&server->settings.internal_prefixes[i], address))
            return true;
    return false;
}

/*
 * This device translates IPv4 to IPv4 only. A suggested address of :: is read as "no preference": some clients leave the field zero, and there is
 * no other family they could get (docs/decisions/external-family.md).
 */
static bool family_can_be_provided(const struct map *map)
{
    const struct ip_address *suggested = &map->request->mapping.external.address;
    return ip_address_is_ipv4(&map->internal_address) &&
           (ip_address_is_ipv4(suggested) || ip_address_is_any(suggested));
}

static enum pcp_result check_request(const struct map *map)
{
    if (!is_permitted(map->server, &map->internal_address) || !family_can_be_provided(map))
        return PCP_RESULT_NOT_AUTHORIZED;
    /* A delete of what could never be made is a delete of what is not there. */
    if (map->request->lifetime_s == 0)
        return PCP_RESULT_SUCCESS;
    if (!external_protocol_has_ports(map->request->mapping.protocol) ||
        map->request->mapping.internal_port == 0)
        return PCP_RESULT_UNSUPP_PROTOCOL;
    return PCP_RESULT_SUCCESS;
}

void map_receive(struct server *server, uint64_t now_ns, const struct datagram *datagram,
                 const struct pcp_request *request)
{
    struct map map = {
        .server = server,
        .now_ns = now_ns,
        .datagram = datagram,
        .request = request,
        .internal_address = datagram->source.address,
        .prefer_failure = has_option(request, PCP_OPTION_PREFER_FAILURE),
    };
    map.key = (struct mapping_key){
        .internal_address = map.internal_address,
        .internal_port = request->mapping.internal_port,
        .protocol = request->mapping.protocol,
        .external_is_ipv4 = true,
    };
    map.pending = subscriber_is_pending(server, &map.internal_address);

    enum pcp_result result = check_request(&map);
    if (result != PCP_RESULT_SUCCESS) {
        refuse(&map, result);
        return;
    }
    map.existing = mapping_table_find(&server->table, &map.key);
    if (request->lifetime_s == 0)
        delete_mapping(&map);
    else if (!map.existing)
        create_mapping(&map);
    else if (!nonce_matches(&map))
        refuse_nonce(&map);
    else
        renew_mapping(&map);
}
