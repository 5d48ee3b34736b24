/*
 * NAT-PMP (RFC 6886) on the same table, quota and Epoch. Its mappings have no nonce: whoever sends from the internal address
 * may manage them, by PCP too, which then gives them one. It may read but not shorten or delete what has a nonce.
 *
 * RFC 6886 s3.3: the same port of the other of TCP and UDP is nobody else's while a mapping lives (claim.c).
 */

#include <netinet/in.h>
#include <string.h>

#include "server/claim.h"
#include "server/internal.h"
#include "wire/natpmp.h"

struct natpmp {
    struct server *server;
    uint64_t now_ns;
    const struct datagram *datagram;
    const struct natpmp_request *request;
};

/* The counters speak PCP. */
static uint8_t counted_as(uint16_t result)
{
    switch (result) {
    case NATPMP_RESULT_NETWORK_FAILURE:
        return PCP_RESULT_NETWORK_FAILURE;
    case NATPMP_RESULT_OUT_OF_RESOURCES:
        return PCP_RESULT_NO_RESOURCES;
    case NATPMP_RESULT_UNSUPP_OPCODE:
        return PCP_RESULT_UNSUPP_OPCODE;
    default:
        return (uint8_t) result; /* 0 to 2 mean the same in both */
    }
}

/* [R-6886-3.2-3] */
static void send_response(const struct natpmp *natpmp, struct natpmp_response *response, bool held)
{
    uint8_t octets[NATPMP_RESPONSE_SIZE_MAX];
    response->epoch_s =
        server_epoch_s(natpmp->server, natpmp->now_ns, &natpmp->datagram->source.address);
    int size = natpmp_response_encode(response, octets, sizeof(octets));
    answer_octets(natpmp->server, natpmp->datagram, octets, size, counted_as(response->result),
                  held);
}

/* [R-6886-3.4-5] [R-6886-3.5-4] */
static void refuse(const struct natpmp *natpmp, enum natpmp_result result)
{
    struct natpmp_response response = {
        .opcode = natpmp->request->opcode,
        .result = (uint16_t) result,
        .internal_port = natpmp->request->internal_port,
    };
    send_response(natpmp, &response,
                  subscriber_is_pending(natpmp->server, &natpmp->datagram->source.address));
}

static void answer_mapped(const struct natpmp *natpmp, const struct mapping_record *record,
                          bool held)
{
    struct natpmp_response response = {
        .opcode = natpmp->request->opcode,
        .internal_port = record->internal_port,
        .external_port = record->external_port,
        .lifetime_s = remaining_s(record, natpmp->now_ns),
    };
    /* What PCP or the configuration mapped lives longer, but that was not asked for (RFC 6886 s3.3). */
    if (response.lifetime_s > natpmp->request->lifetime_s)
        response.lifetime_s = natpmp->request->lifetime_s;
    send_response(natpmp, &response, held);
}

/* [R-6886-3.4-3] */
static void answer_deleted(const struct natpmp *natpmp, bool held)
{
    struct natpmp_response response = {
        .opcode = natpmp->request->opcode,
        .internal_port = natpmp->request->internal_port,
    };
    send_response(natpmp, &response, held);
}

static enum natpmp_result result_of(enum pcp_result result)
{
    if (result == PCP_RESULT_NETWORK_FAILURE)
        return NATPMP_RESULT_NETWORK_FAILURE;
    return NATPMP_RESULT_OUT_OF_RESOURCES;
}

/* [R-6886-3.3-3] */
static uint8_t protocol_of(const struct natpmp *natpmp)
{
    return natpmp->request->opcode == NATPMP_OPCODE_MAP_TCP ? IPPROTO_TCP : IPPROTO_UDP;
}

/* [R-6886-3.4-6] */
static bool is_ours_to_end(const struct mapping_record *record)
{
    return record->kind == MAPPING_KIND_MAP && !record->has_nonce;
}

static struct mapping *find_mapping(const struct natpmp *natpmp, uint16_t internal_port)
{
    struct mapping_key key = {
        .internal_address = natpmp->datagram->source.address,
        .internal_port = internal_port,
        .protocol = protocol_of(natpmp),
        .external_is_ipv4 = true,
    };
    return mapping_table_find(&natpmp->server->table, &key);
}

/* [R-6886-3.4-2] [R-6886-3.4-4] */
static void delete_one(const struct natpmp *natpmp)
{
    struct mapping *mapping = find_mapping(natpmp, natpmp->request->internal_port);
    if (mapping && !is_ours_to_end(&mapping->record))
        refuse(natpmp, NATPMP_RESULT_NOT_AUTHORIZED);
    else if (mapping && maintenance_end_mapping(natpmp->server, mapping, natpmp->now_ns) < 0)
        refuse(natpmp, NATPMP_RESULT_OUT_OF_RESOURCES);
    else
        answer_deleted(natpmp, true);
}

/* RFC 6886 s3.4: port 0 ends all of the client's mappings of the protocol; what cannot be ended makes an error, the rest ends. */
/* [R-6886-3.4-8] [R-6886-3.4-9] [R-6886-3.4-10] */
static void delete_all(const struct natpmp *natpmp)
{
    struct server *server = natpmp->server;
    struct subscriber *subscriber =
        mapping_table_find_subscriber(&server->table, &natpmp->datagram->source.address);
    enum natpmp_result result = NATPMP_RESULT_SUCCESS;
    if (subscriber) {
        struct list_link *link = subscriber->mappings.next;
        while (link != &subscriber->mappings) {
            struct mapping *mapping = CONTAINER_OF(link, struct mapping, of_subscriber);
            link = link->next;
            if (mapping->record.protocol != protocol_of(natpmp) ||
                mapping->record.kind == MAPPING_KIND_PEER ||
                !ip_address_equal(&mapping->record.internal_address,
                                  &natpmp->datagram->source.address))
                continue;
            if (!is_ours_to_end(&mapping->record))
                result = NATPMP_RESULT_NOT_AUTHORIZED;
            else if (maintenance_end_mapping(server, mapping, natpmp->now_ns) < 0)
                result = NATPMP_RESULT_OUT_OF_RESOURCES;
        }
    }
    if (result == NATPMP_RESULT_SUCCESS)
        answer_deleted(natpmp, true);
    else
        refuse(natpmp, result);
}

static void put(const struct natpmp *natpmp, struct mapping *before,
                const struct mapping_record *record)
{
    if (tick_put(natpmp->server, before, record, NULL) < 0)
        refuse(natpmp, NATPMP_RESULT_OUT_OF_RESOURCES);
    else
        answer_mapped(natpmp, record, true);
}

/* Not more than asked for (RFC 6886 s3.3), nor than configured. */
/* [R-6886-3.3-10] */
static uint64_t expiry_ns(const struct natpmp *natpmp)
{
    uint32_t lifetime_s = natpmp->request->lifetime_s;
    if (lifetime_s > natpmp->server->settings.lifetime_max_s)
        lifetime_s = natpmp->server->settings.lifetime_max_s;
    return natpmp->now_ns + lifetime_s * NS_PER_S;
}

static void renew(const struct natpmp *natpmp, struct mapping *mapping)
{
    const struct mapping_record *existing = &mapping->record;
    bool pending = subscriber_is_pending(natpmp->server, &existing->internal_address);
    struct mapping_record record = *existing;
    record.expires_ns = expiry_ns(natpmp);
    record.client_address = natpmp->datagram->source.address;
    record.client_port = natpmp->datagram->source.port;
    /* A retransmission: its predecessor came within RFC 6886 s3.1's first doublings, or less for short lifetimes. */
    uint64_t window_ns = natpmp->request->lifetime_s * NS_PER_S / 16;
    if (window_ns > NS_PER_S)
        window_ns = NS_PER_S;
    bool is_recent = record.expires_ns >= existing->expires_ns &&
                     record.expires_ns - existing->expires_ns <= window_ns &&
                     record.client_port == existing->client_port;
    /* What has a nonce is its owner's to renew: it is only read here. */
    if (!external_space_is_active(&natpmp->server->table.external, &existing->external_address))
        refuse(natpmp, NATPMP_RESULT_NETWORK_FAILURE);
    else if (!is_ours_to_end(existing) && existing->expires_ns <= natpmp->now_ns)
        refuse(natpmp,
               NATPMP_RESULT_OUT_OF_RESOURCES); /* over, but its end could not be committed yet */
    else if (!is_ours_to_end(existing) || is_recent)
        answer_mapped(natpmp, existing, pending);
    else
        put(natpmp, mapping, &record);
}

/* [R-6886-3.3-4] [R-6886-3.3-7] [R-6886-3.3-8] */
static void create(const struct natpmp *natpmp)
{
    struct server *server = natpmp->server;
    struct claim claim = {
        .internal_address = natpmp->datagram->source.address,
        .internal_port = natpmp->request->internal_port,
        .protocol = protocol_of(natpmp),
        .suggested = {.port = natpmp->request->external_port},
        .with_companion = true,
    };
    struct mapping_key key = {
        .internal_address = claim.internal_address,
        .internal_port = claim.internal_port,
        .protocol = claim.protocol,
        .external_is_ipv4 = true,
    };
    struct mapping *held = claim_find_held(server, &claim, &key, NULL);
    const struct mapping *source = claim_find_sibling(server, &claim);
    if (!source)
        source = held;
    struct endpoint external = {0};
    enum pcp_result result = claim_check_limits(server, &claim.internal_address);
    if (result == PCP_RESULT_SUCCESS && source)
        external = (struct endpoint){source->record.external_address, source->record.external_port};
    else if (result == PCP_RESULT_SUCCESS)
        result = claim_external(server, &claim, &external);
    if (result != PCP_RESULT_SUCCESS) {
        refuse(natpmp, result_of(result));
        return;
    }
    struct mapping_record record = {
        .id = held ? held->record.id : server->next_id++,
        .kind = MAPPING_KIND_MAP,
        .state = MAPPING_STATE_LIVE,
        .created_ns = natpmp->now_ns,
        .expires_ns = expiry_ns(natpmp),
        .internal_address = claim.internal_address,
        .internal_port = claim.internal_port,
        .protocol = claim.protocol,
        .external_address = external.address,
        .external_port = external.port,
        .client_address = natpmp->datagram->source.address,
        .client_port = natpmp->datagram->source.port,
    };
    put(natpmp, held, &record);
}

static void receive_map(const struct natpmp *natpmp)
{
    if (natpmp->request->lifetime_s == 0 && natpmp->request->internal_port == 0) {
        delete_all(natpmp);
        return;
    }
    if (natpmp->request->lifetime_s == 0) {
        delete_one(natpmp);
        return;
    }
    if (natpmp->request->internal_port == 0) {
        refuse(natpmp, NATPMP_RESULT_NOT_AUTHORIZED);
        return;
    }
    struct mapping *existing = find_mapping(natpmp, natpmp->request->internal_port);
    if (existing)
        renew(natpmp, existing);
    else
        create(natpmp);
}

/* [R-6886-3.2-1] [R-6886-3.2-2] */
static void receive_address(const struct natpmp *natpmp)
{
    const struct ip_address *address = external_space_first_active(&natpmp->server->table.external);
    struct natpmp_response response = {.opcode = NATPMP_OPCODE_ADDRESS};
    if (address)
        response.external_address = ip_address_to_ipv4(address);
    else
        response.result = NATPMP_RESULT_NETWORK_FAILURE;
    send_response(natpmp, &response, false);
}

/* RFC 6886 s3.5: the whole request goes back, marked as a response with result 5. */
/* [R-6886-3.5-3] */
static void refuse_opcode(struct server *server, uint64_t now_ns, const struct datagram *datagram)
{
    uint8_t octets[PCP_SIZE_MAX] = {0};
    size_t size_bytes =
        datagram->size_bytes < sizeof(octets) ? datagram->size_bytes : sizeof(octets);
    memcpy(octets, datagram->data, size_bytes);
    struct natpmp_response response = {
        .opcode = octets[1],
        .result = NATPMP_RESULT_UNSUPP_OPCODE,
        .epoch_s = server_epoch_s(server, now_ns, &datagram->source.address),
    };
    int head = natpmp_response_encode(&response, octets, sizeof(octets));
    int size = head > (int) size_bytes ? head : (int) size_bytes;
    answer_octets(server, datagram, octets, head < 0 ? head : size, PCP_RESULT_UNSUPP_OPCODE,
                  false);
}

/* The tick failed: the answer that told of it becomes this error. Octets written or -errno. */
int natpmp_encode_failure(const void *request, size_t size_bytes, enum pcp_result result,
                          void *ret_data, size_t ret_size_bytes)
{
    struct natpmp_request decoded;
    enum natpmp_result ignored;
    if (natpmp_request_decode(request, size_bytes, &decoded, &ignored) != NATPMP_VERDICT_ACCEPT)
        return -1;
    struct natpmp_response response = {
        .opcode = decoded.opcode,
        .result = (uint16_t) result_of(result),
        .internal_port = decoded.internal_port,
    };
    return natpmp_response_encode(&response, ret_data, ret_size_bytes);
}

void natpmp_receive(struct server *server, uint64_t now_ns, const struct datagram *datagram)
{
    struct natpmp_request request;
    struct natpmp natpmp = {
        .server = server, .now_ns = now_ns, .datagram = datagram, .request = &request};
    enum natpmp_result result = NATPMP_RESULT_SUCCESS;

    /* IPv4 only, and not to the address it has outside (RFC 6886 s3.3). */
    enum natpmp_verdict verdict = NATPMP_VERDICT_DROP;
    if (ip_address_is_ipv4(&datagram->source.address) &&
        !external_space_is_active(&server->table.external, &datagram->destination.address))
        verdict = natpmp_request_decode(datagram->data, datagram->size_bytes, &request, &result);
    switch (verdict) {
    case NATPMP_VERDICT_DROP:
        server->counters.n_dropped++;
        return;
    case NATPMP_VERDICT_ANSWER:
        refuse_opcode(server, now_ns, datagram);
        return;
    case NATPMP_VERDICT_ACCEPT:
        break;
    }
    if (!claim_is_permitted(server, &datagram->source.address))
        refuse(&natpmp, NATPMP_RESULT_NOT_AUTHORIZED);
    else if (request.opcode == NATPMP_OPCODE_ADDRESS)
        receive_address(&natpmp);
    else
        receive_map(&natpmp);
}
