/* Shared by map.c and peer.c; see the header. */

#include "server/operation.h"

#include <string.h>

static const struct pcp_option *find_option(const struct pcp_request *request, uint8_t code)
{
    for (size_t i = 0; i < request->n_options; i++)
        if (request->options[i].code == code)
            return &request->options[i];
    return NULL;
}

/* The decoder has let THIRD_PARTY pass only for sources that may name somebody; whom is judged here. */
bool operation_may_name(const struct server *server, const struct ip_address *source,
                        const struct ip_address *target)
{
    for (size_t i = 0; i < server->settings.n_third_parties; i++) {
        const struct server_third_party *rule = &server->settings.third_parties[i];
        if (ip_prefix_contains(&rule->source, source) && ip_prefix_contains(&rule->target, target))
            return true;
    }
    return false;
}

/*
 * IPv4 is translated to IPv4, IPv6 is not translated. A suggested address of :: is read as "no preference" on both: some clients leave the field
 * zero, and there is no other family they could get (docs/decisions/0007-external-family.md).
 */
static bool family_can_be_provided(const struct operation *operation)
{
    const struct ip_address *suggested = &operation->request->mapping.external.address;
    struct ip_address any = IP_ADDRESS_ANY_IPV6;
    return ip_address_equal(suggested, &any) ||
           ip_address_is_ipv4(suggested) == ip_address_is_ipv4(&operation->internal_address);
}

static enum pcp_result check_parties(struct operation *operation,
                                     const struct pcp_option *third_party)
{
    const struct server *server = operation->server;
    if (third_party && !operation_may_name(server, &operation->datagram->source.address,
                                           &operation->internal_address))
        return PCP_RESULT_UNSUPP_OPTION;
    /* [R-6887-15.1-5] What a delete suggests is ignored. */
    if (!claim_is_permitted(server, &operation->internal_address) ||
        (operation->request->lifetime_s > 0 && !family_can_be_provided(operation)))
        return PCP_RESULT_NOT_AUTHORIZED;
    return PCP_RESULT_SUCCESS;
}

enum pcp_result operation_begin(struct operation *operation, struct server *server, uint64_t now_ns,
                                const struct datagram *datagram, const struct pcp_request *request)
{
    const struct pcp_option *third_party = find_option(request, PCP_OPTION_THIRD_PARTY);
    *operation = (struct operation){
        .server = server,
        .now_ns = now_ns,
        .datagram = datagram,
        .request = request,
        .internal_address = third_party ? third_party->third_party : datagram->source.address,
        .third_party = third_party != NULL,
        .prefer_failure = find_option(request, PCP_OPTION_PREFER_FAILURE) != NULL,
    };
    bool is_peer = request->opcode == PCP_OPCODE_PEER;
    operation->key = (struct mapping_key){
        .internal_address = operation->internal_address,
        .internal_port = request->mapping.internal_port,
        .protocol = request->mapping.protocol,
        .is_peer = is_peer,
        .external_is_ipv4 = ip_address_is_ipv4(&operation->internal_address),
    };
    if (is_peer) {
        operation->key.remote_address = request->mapping.remote.address;
        operation->key.remote_port = request->mapping.remote.port;
    }
    operation->pending = subscriber_is_pending(server, &operation->internal_address);
    enum pcp_result result = check_parties(operation, third_party);
    if (result == PCP_RESULT_SUCCESS)
        operation->existing = mapping_table_find(&server->table, &operation->key);
    return result;
}

void operation_refuse(const struct operation *operation, enum pcp_result result)
{
    answer_error(operation->server, operation->now_ns, operation->datagram, result,
                 error_lifetime_s(result), operation->pending);
}

/* [R-6887-11.3-7] [R-6887-12.3-3] */
void operation_refuse_nonce(const struct operation *operation)
{
    answer_error(operation->server, operation->now_ns, operation->datagram,
                 PCP_RESULT_NOT_AUTHORIZED,
                 remaining_s(&operation->existing->record, operation->now_ns), operation->pending);
}

static void answer(const struct operation *operation, const struct endpoint *external,
                   uint32_t lifetime_s, bool held)
{
    struct pcp_response response;
    response.opcode = operation->request->opcode;
    response.lifetime_s = lifetime_s;
    response.mapping = operation->request->mapping;
    response.mapping.external = *external;
    response.n_options = operation->request->n_options;
    memcpy(response.options, operation->request->options,
           response.n_options * sizeof(response.options[0]));
    answer_success(operation->server, operation->now_ns, operation->datagram, &response, held);
}

/* [R-6887-7.3-14] [R-6887-11.3-2] [R-6887-12.3-8] */
void operation_answer(const struct operation *operation, const struct mapping_record *record,
                      uint32_t lifetime_s, bool held)
{
    struct endpoint external = {.address = record->external_address, .port = record->external_port};
    answer(operation, &external, lifetime_s, held);
}

/* [R-6887-15.1-6] [R-6887-15.1-9] */
void operation_answer_deleted(const struct operation *operation, bool held)
{
    answer(operation, &operation->request->mapping.external, 0, held);
}

/* [R-6887-11.3-7] */
bool operation_is_authorized(const struct operation *operation)
{
    const struct mapping_record *record = &operation->existing->record;
    if (!record->has_nonce ||
        memcmp(record->nonce, operation->request->mapping.nonce, MAPPING_NONCE_SIZE) == 0)
        return true;
    if (operation->server->settings.nonce_policy != SERVER_NONCE_ADOPT_SAME_HOST ||
        operation->third_party)
        return false;
    operation->server->counters.n_adopted++;
    return true;
}

bool operation_suggests(const struct operation *operation, const struct mapping_record *record)
{
    const struct endpoint *suggested = &operation->request->mapping.external;
    return suggested->port == record->external_port &&
           (ip_address_is_any(&suggested->address) ||
            ip_address_equal(&suggested->address, &record->external_address));
}

bool operation_accepts(const struct operation *operation, const struct mapping_record *record)
{
    return operation->request->mapping.external.port == 0
               ? ip_address_is_any(&operation->request->mapping.external.address) ||
                     ip_address_equal(&operation->request->mapping.external.address,
                                      &record->external_address)
               : operation_suggests(operation, record);
}

struct claim operation_claim(const struct operation *operation)
{
    return (struct claim){
        .internal_address = operation->internal_address,
        .internal_port = operation->key.internal_port,
        .protocol = operation->key.protocol,
        .suggested = operation->request->mapping.external,
        .exact = operation->prefer_failure,
        .is_peer = operation->key.is_peer,
    };
}

struct mapping_record operation_new_record(const struct operation *operation,
                                           enum mapping_kind kind, const struct mapping *held,
                                           const struct endpoint *external)
{
    return (struct mapping_record){
        .id = held ? held->record.id : operation->server->next_id++,
        .kind = (uint8_t) kind,
        .state = MAPPING_STATE_LIVE,
        .created_ns = operation->now_ns,
        .internal_address = operation->internal_address,
        .internal_port = operation->key.internal_port,
        .protocol = operation->key.protocol,
        .external_address = external->address,
        .external_port = external->port,
        .remote_address = operation->key.remote_address,
        .remote_port = operation->key.remote_port,
    };
}

void operation_fill(const struct operation *operation, struct mapping_record *record,
                    uint32_t lifetime_s)
{
    record->expires_ns = operation->now_ns + lifetime_s * NS_PER_S;
    record->client_address = operation->datagram->source.address;
    record->client_port = operation->datagram->source.port;
    record->has_nonce = true;
    record->third_party = operation->third_party;
    record->prefer_failure = operation->prefer_failure;
    memcpy(record->nonce, operation->request->mapping.nonce, MAPPING_NONCE_SIZE);
}

/* [R-6887-8-2] */
bool operation_is_repetition(const struct operation *operation, const struct mapping_record *wanted,
                             uint32_t lifetime_s)
{
    const struct mapping_record *existing = &operation->existing->record;
    struct mapping_record same = *wanted;
    same.expires_ns = existing->expires_ns;
    if (!mapping_record_equal(existing, &same) || existing->expires_ns > wanted->expires_ns)
        return false;
    uint64_t window_s = lifetime_s / 16 < 10 ? lifetime_s / 16 : 10;
    return wanted->expires_ns - existing->expires_ns <= window_s * NS_PER_S;
}

/* [R-6887-14.2-8] Whoever repeats learns what is so now. */
void operation_repeat(const struct operation *operation)
{
    const struct mapping_record *existing = &operation->existing->record;
    operation->server->counters.n_repeated++;
    tell_cancel(operation->server, existing->id);
    operation_answer(operation, existing, remaining_s(existing, operation->now_ns),
                     operation->pending);
}

void operation_put(const struct operation *operation, struct mapping *before,
                   const struct mapping_record *record, uint32_t lifetime_s)
{
    if (tick_put(operation->server, before, record, NULL) < 0) {
        operation_refuse(operation, PCP_RESULT_NO_RESOURCES);
        return;
    }
    tell_cancel(operation->server, record->id);
    operation_answer(operation, record, lifetime_s, true);
}
