/*
 * MAP (RFC 6887 s11): create, renew, delete. The order of the checks is the RFC's; whatever ends in an error leaves the
 * table untouched.
 */

#include "server/operation.h"

/*
 * RFC 6887 s15.1. Deleting what is not there succeeds, so that a repeated delete does; static and outbound mappings are not MAP's to delete.
 */
/*
 * [R-6887-15-8] [R-6887-15.1-1] [R-6887-15.1-2] [R-6887-15.1-3] [R-6887-15.1-5]
 * [R-6887-15.1-7] [R-6887-15.1-8] [R-6887-15.1-10] [R-6887-15.1-12]
 */
static void delete_mapping(const struct operation *operation)
{
    if (!operation->existing) {
        struct claim claim = operation_claim(operation);
        if (claim_has_sibling(operation->server, &claim)) /* [R-6887-15.1-12] */
            operation_refuse(operation, PCP_RESULT_NOT_AUTHORIZED);
        else
            operation_answer_deleted(operation, operation->pending);
        return;
    }
    if (operation->existing->record.kind == MAPPING_KIND_STATIC)
        operation_refuse(operation, PCP_RESULT_NOT_AUTHORIZED);
    else if (!operation_is_authorized(operation))
        operation_refuse_nonce(operation);
    else if (maintenance_end_mapping(operation->server, operation->existing, operation->now_ns) < 0)
        operation_refuse(operation, PCP_RESULT_NO_RESOURCES);
    else
        operation_answer_deleted(operation, true);
}

/* RFC 6887 s11.3: told to whoever asks, whatever the nonce; nothing is remembered of the request. */
/* [R-6887-11.3-8] [R-6887-11.3-12] [R-6887-11.3-13] */
static void answer_static(const struct operation *operation)
{
    const struct server *server = operation->server;
    const struct mapping_record *record = &operation->existing->record;
    if (operation->prefer_failure && !operation_suggests(operation, record))
        operation_refuse(operation, PCP_RESULT_CANNOT_PROVIDE_EXTERNAL);
    else if (ip_address_is_ipv4(&record->external_address) &&
             !external_space_is_active(&server->table.external, &record->external_address))
        operation_refuse(operation, PCP_RESULT_NETWORK_FAILURE);
    else
        operation_answer(operation, record, PCP_LIFETIME_INFINITE, operation->pending);
}

/*
 * [R-6887-7.3-5] [R-6887-7.4-3] [R-6887-7.4-5] [R-6887-11.3-11] [R-6887-11.3-14]
 * [R-6887-11.3-15]
 */
static void renew_mapping(const struct operation *operation)
{
    struct server *server = operation->server;
    const struct mapping_record *existing = &operation->existing->record;
    struct mapping_record record = *existing;
    if (operation->prefer_failure && !operation_suggests(operation, existing)) {
        operation_refuse(operation, PCP_RESULT_CANNOT_PROVIDE_EXTERNAL);
        return;
    }
    if (ip_address_is_ipv4(&record.external_address) &&
        !external_space_is_active(&server->table.external, &record.external_address)) {
        operation_refuse(operation, PCP_RESULT_NETWORK_FAILURE);
        return;
    }
    const struct mapping_filters *filters;
    enum pcp_result result =
        filters_after(existing->filters, operation->request, &operation->internal_address,
                      server->settings.filters_per_mapping, &filters);
    if (result != PCP_RESULT_SUCCESS) {
        operation_refuse(operation, result);
        return;
    }
    uint32_t lifetime_s = claim_lifetime_s(server, operation->request->lifetime_s);
    operation_fill(operation, &record, lifetime_s);
    record.filters = filters;
    if (operation_is_repetition(operation, &record, lifetime_s))
        operation_repeat(operation);
    else
        operation_put(operation, operation->existing, &record, lifetime_s);
    mapping_filters_unref(filters);
}

/*
 * Its own external endpoint, held back since the mapping ended: what it gets unless it suggests another one that is there to be had.
 */
/* [R-6887-15-12] */
static struct mapping *find_held(const struct operation *operation, const struct claim *claim)
{
    struct mapping_table *table = &operation->server->table;
    const struct pcp_mapping_fields *wanted = &operation->request->mapping;
    struct mapping *held =
        claim_find_held(operation->server, claim, &operation->key, wanted->nonce);
    if (!held)
        return NULL;
    const struct mapping_record *record = &held->record;
    if (wanted->external.port == 0 || operation_suggests(operation, record))
        return held;
    if (operation->prefer_failure)
        return NULL;
    const struct ip_address *address = ip_address_is_any(&wanted->external.address)
                                           ? &record->external_address
                                           : &wanted->external.address;
    return mapping_table_external_is_free(table, address, wanted->protocol, wanted->external.port)
               ? NULL
               : held;
}

/* The external endpoint of another mapping of the same internal endpoint (RFC 6887 s11.3), of the held one, or a new one. */
/* [R-6887-11.3-16] [R-6887-11.3-24] */
static enum pcp_result find_external(const struct operation *operation, const struct claim *claim,
                                     const struct mapping *held, struct endpoint *ret_external)
{
    const struct mapping *source = claim_find_sibling(operation->server, claim);
    if (!source)
        source = held;
    if (!source)
        return claim_external(operation->server, claim, ret_external);
    if (operation->prefer_failure && !operation_suggests(operation, &source->record))
        return PCP_RESULT_CANNOT_PROVIDE_EXTERNAL;
    *ret_external = (struct endpoint){.address = source->record.external_address,
                                      .port = source->record.external_port};
    return PCP_RESULT_SUCCESS;
}

/* [R-6887-7.3-5] [R-6887-11.3-21] */
static void create_mapping(const struct operation *operation)
{
    struct server *server = operation->server;
    struct claim claim = operation_claim(operation);
    struct mapping *held = find_held(operation, &claim);
    struct endpoint external = {0};
    const struct mapping_filters *filters = NULL;
    enum pcp_result result = claim_check_limits(server, &operation->internal_address);
    if (result == PCP_RESULT_SUCCESS)
        result = find_external(operation, &claim, held, &external);
    if (result == PCP_RESULT_SUCCESS)
        result = filters_after(NULL, operation->request, &operation->internal_address,
                               server->settings.filters_per_mapping, &filters);
    if (result != PCP_RESULT_SUCCESS) {
        operation_refuse(operation, result);
        return;
    }
    struct mapping_record record =
        operation_new_record(operation, MAPPING_KIND_MAP, held, &external);
    record.filters = filters;
    uint32_t lifetime_s = claim_lifetime_s(server, operation->request->lifetime_s);
    operation_fill(operation, &record, lifetime_s);
    operation_put(operation, held, &record, lifetime_s);
    mapping_filters_unref(filters);
}

/*
 * Ports can be mapped one by one where the protocol has them where the data path looks; a protocol as a whole, and all protocols, where nothing is
 * shared: on IPv6, and on an external IPv4 address that the configuration gives away.
 */
/* [R-6887-11.3-3] [R-6887-11.3-4] [R-6887-11.3-5] */
static bool protocol_is_supported(const struct operation *operation)
{
    uint8_t protocol = operation->key.protocol;
    if (operation->key.internal_port != 0)
        return claim_has_ports(operation->server, protocol);
    return !ip_address_is_ipv4(&operation->internal_address) ||
           operation->server->settings.whole_ports;
}

/* [R-6887-11.3-1] */
void map_receive(struct server *server, uint64_t now_ns, const struct datagram *datagram,
                 const struct pcp_request *request)
{
    struct operation operation;
    enum pcp_result result = operation_begin(&operation, server, now_ns, datagram, request);
    /* A delete of what could never be made is a delete of what is not there. */
    if (result == PCP_RESULT_SUCCESS && request->lifetime_s > 0 &&
        !protocol_is_supported(&operation))
        result = PCP_RESULT_UNSUPP_PROTOCOL;

    if (result != PCP_RESULT_SUCCESS)
        operation_refuse(&operation, result);
    else if (request->lifetime_s == 0)
        delete_mapping(&operation);
    else if (!operation.existing)
        create_mapping(&operation);
    else if (operation.existing->record.kind == MAPPING_KIND_STATIC)
        answer_static(&operation);
    else if (!operation_is_authorized(&operation))
        operation_refuse_nonce(&operation);
    else
        renew_mapping(&operation);
}
