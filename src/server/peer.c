/*
 * PEER (RFC 6887 s12): an outbound mapping of one internal endpoint towards one remote peer. It learns or fixes the
 * external endpoint of a flow and keeps it for a stated lifetime; it never shortens one.
 *
 * A flow that exists already is what it is. Else all mappings of an internal endpoint have the same external endpoint here
 * (endpoint-independent mapping), so a PEER takes that of a MAP or an earlier PEER; else what is suggested, or any.
 */

#include <string.h>

#include "server/operation.h"

/* What the device would not let out either (RFC 6887 s12.3). */
/* [R-6887-12.3-2] */
static bool remote_is_valid(const struct operation *operation)
{
    const struct ip_address *remote = &operation->request->mapping.remote.address;
    struct ip_address broadcast = ip_address_from_ipv4(UINT32_MAX);
    return !ip_address_is_any(remote) && !ip_address_is_loopback(remote) &&
           !ip_address_is_multicast(remote) && !ip_address_is_link_local(remote) &&
           !ip_address_equal(remote, &broadcast) &&
           ip_address_is_ipv4(remote) == ip_address_is_ipv4(&operation->internal_address);
}

/* Where a flow that exists without us appears outside, on an address of ours. */
/* [R-6887-12.3-5] */
static bool find_flow(const struct operation *operation, struct endpoint *ret_external)
{
    struct server_flow_source *flows = operation->server->settings.flows;
    struct endpoint internal = {.address = operation->internal_address,
                                .port = operation->key.internal_port};
    if (!flows || !ip_address_is_ipv4(&operation->internal_address))
        return false;
    struct endpoint external;
    if (flows->find(flows, operation->key.protocol, &internal, &operation->request->mapping.remote,
                    &external) < 0)
        return false;
    if (external.port == 0 ||
        !external_space_is_active(&operation->server->table.external, &external.address))
        return false;
    *ret_external = external;
    return true;
}

/* Nobody else has the external endpoint, nor all of its address. */
static bool flow_can_be_managed(const struct operation *operation, const struct endpoint *external)
{
    const struct mapping_table *table = &operation->server->table;
    const uint8_t protocol = operation->key.protocol;
    const struct mapping *others[] = {
        mapping_table_find_external(table, &external->address, protocol, 0),
        mapping_table_find_external(table, &external->address, 0, 0),
        mapping_table_find_external(table, &external->address, protocol, external->port),
    };
    for (size_t i = 0; i < N_ELEMENTS(others); i++) {
        const struct mapping_record *other = others[i] ? &others[i]->record : NULL;
        if (other &&
            (!ip_address_equal(&other->internal_address, &operation->internal_address) ||
             (other->external_port != 0 && other->internal_port != operation->key.internal_port)))
            return false;
    }
    return true;
}

/*
 * [R-6887-12.3-5] A flow that runs already keeps its external endpoint, whatever is suggested: nothing else would be true. What is not a flow yet
 * gets what is suggested or nothing [R-6887-12.1-4].
 */
static enum pcp_result find_external(const struct operation *operation, const struct claim *claim,
                                     const struct mapping *held, struct endpoint *ret_external)
{
    struct endpoint external;
    if (find_flow(operation, &external)) {
        if (!flow_can_be_managed(operation, &external))
            return PCP_RESULT_CANNOT_PROVIDE_EXTERNAL;
        *ret_external = external;
        return PCP_RESULT_SUCCESS;
    }
    const struct mapping *source = claim_find_sibling(operation->server, claim);
    if (!source && held && operation_accepts(operation, &held->record))
        source = held;
    if (!source)
        return claim_external(operation->server, claim, ret_external);
    if (!operation_accepts(operation, &source->record))
        return PCP_RESULT_CANNOT_PROVIDE_EXTERNAL;
    *ret_external = (struct endpoint){.address = source->record.external_address,
                                      .port = source->record.external_port};
    return PCP_RESULT_SUCCESS;
}

/* [R-6887-12.3-6] [R-6887-12.3-7] */
static void create_mapping(const struct operation *operation)
{
    struct server *server = operation->server;
    struct claim claim = operation_claim(operation);
    claim.exact = claim.suggested.port != 0 || !ip_address_is_any(&claim.suggested.address);
    struct mapping *held =
        claim_find_held(server, &claim, &operation->key, operation->request->mapping.nonce);
    struct endpoint external;
    enum pcp_result result = claim_check_limits(server, &operation->internal_address);
    if (result == PCP_RESULT_SUCCESS)
        result = find_external(operation, &claim, held, &external);
    if (result != PCP_RESULT_SUCCESS) {
        operation_refuse(operation, result);
        return;
    }
    struct mapping_record record =
        operation_new_record(operation, MAPPING_KIND_PEER, held, &external);
    uint32_t lifetime_s = claim_lifetime_s(server, operation->request->lifetime_s);
    operation_fill(operation, &record, lifetime_s);
    operation_put(operation, held, &record, lifetime_s);
}

/* RFC 6887 s15: the lifetime of an outbound mapping is never reduced by a request. */
/* [R-6887-15-16] */
static void renew_mapping(const struct operation *operation)
{
    const struct mapping_record *existing = &operation->existing->record;
    if (ip_address_is_ipv4(&existing->external_address) &&
        !external_space_is_active(&operation->server->table.external,
                                  &existing->external_address)) {
        operation_refuse(operation, PCP_RESULT_NETWORK_FAILURE);
        return;
    }
    struct mapping_record record = *existing;
    uint32_t lifetime_s = claim_lifetime_s(operation->server, operation->request->lifetime_s);
    operation_fill(operation, &record, lifetime_s);
    if (record.expires_ns < existing->expires_ns)
        record.expires_ns = existing->expires_ns;
    lifetime_s = remaining_s(&record, operation->now_ns);
    if (operation_is_repetition(operation, &record, lifetime_s))
        operation_repeat(operation);
    else
        operation_put(operation, operation->existing, &record, lifetime_s);
}

/* What PEER made PEER may unmake: the flow is an ordinary one again. Nothing there is no error, as for MAP. */
/* [R-6887-12.1-9] */
static void delete_mapping(const struct operation *operation)
{
    if (operation->existing &&
        maintenance_end_mapping(operation->server, operation->existing, operation->now_ns) < 0)
        operation_refuse(operation, PCP_RESULT_NO_RESOURCES);
    else
        operation_answer_deleted(operation, operation->pending || operation->existing);
}

/* [R-6887-12.3-1] [R-6887-12.3-3] */
void peer_receive(struct server *server, uint64_t now_ns, const struct datagram *datagram,
                  const struct pcp_request *request)
{
    struct operation operation;
    enum pcp_result result = operation_begin(&operation, server, now_ns, datagram, request);
    if (result == PCP_RESULT_SUCCESS && !remote_is_valid(&operation))
        result = PCP_RESULT_MALFORMED_REQUEST;
    if (result == PCP_RESULT_SUCCESS && !claim_has_ports(server, operation.key.protocol))
        result = PCP_RESULT_UNSUPP_PROTOCOL;

    if (result != PCP_RESULT_SUCCESS)
        operation_refuse(&operation, result);
    else if (operation.existing && !operation_is_authorized(&operation))
        operation_refuse_nonce(&operation);
    else if (request->lifetime_s == 0)
        delete_mapping(&operation);
    else if (operation.existing)
        renew_mapping(&operation);
    else
        create_mapping(&operation);
}
