/*
 * Retransmission after RFC 6887 s8.1.1: each interval is twice the last one as it was, capped, and then drawn anew from a tenth
 * below to a tenth above, so that hosts which lost power together do not come back together for long.
 */

#include "client/oneshot.h"

#include <string.h>

#include "base/time.h"

#define INTERVAL_FIRST_NS (3 * NS_PER_S)  /* IRT */
#define INTERVAL_MAX_NS (1024 * NS_PER_S) /* MRT */
/* A power of two, so that random_below() never draws twice. */
#define RANDOM_STEPS (UINT64_C(1) << 20)

int oneshot_init(struct oneshot *oneshot, const struct pcp_request *request,
                 const struct endpoint *server, struct random_source *random, uint64_t now_ns,
                 uint64_t duration_ns)
{
    struct oneshot begun = {
        .server = *server,
        .client_address = request->client_address,
        .opcode = request->opcode,
        .asked = request->mapping,
        .random = random,
        .next_ns = now_ns,
        .give_up_ns = duration_ns < TIME_NEVER - now_ns ? now_ns + duration_ns : TIME_NEVER,
    };
    int size = pcp_request_encode(request, begun.request, sizeof(begun.request));
    if (size < 0)
        return size;
    begun.request_size_bytes = (size_t) size;
    for (size_t i = 0; i < request->n_options; i++) {
        if (request->options[i].code == PCP_OPTION_PREFER_FAILURE)
            begun.prefers_failure = true;
    }
    *oneshot = begun;
    return 0;
}

/* (1 + RAND) * nominal, RAND in [-0.1, +0.1]. */
static uint64_t randomise(struct random_source *random, uint64_t nominal_ns)
{
    uint64_t drawn = random_below(random, RANDOM_STEPS);
    return nominal_ns - nominal_ns / 10 + nominal_ns / 5 * drawn / RANDOM_STEPS;
}

static uint64_t next_interval(struct oneshot *oneshot)
{
    uint64_t nominal_ns = oneshot->interval_ns ? 2 * oneshot->interval_ns : INTERVAL_FIRST_NS;
    if (nominal_ns > INTERVAL_MAX_NS)
        nominal_ns = INTERVAL_MAX_NS;
    return randomise(oneshot->random, nominal_ns);
}

enum oneshot_step oneshot_advance(struct oneshot *oneshot, uint64_t now_ns)
{
    if (now_ns >= oneshot->give_up_ns)
        return ONESHOT_STEP_GIVE_UP;
    if (now_ns < oneshot->next_ns)
        return ONESHOT_STEP_WAIT;
    oneshot->interval_ns = next_interval(oneshot);
    oneshot->next_ns = now_ns + oneshot->interval_ns;
    return ONESHOT_STEP_SEND;
}

uint64_t oneshot_next_ns(const struct oneshot *oneshot)
{
    return oneshot->next_ns < oneshot->give_up_ns ? oneshot->next_ns : oneshot->give_up_ns;
}

static bool is_from_server(const struct oneshot *oneshot, const struct datagram *datagram)
{
    const struct ip_address *destination = &datagram->destination.address;
    return endpoint_equal(&datagram->source, &oneshot->server) &&
           (ip_address_is_any(destination) ||
            ip_address_equal(destination, &oneshot->client_address));
}

/*
 * A success that does not give what PREFER_FAILURE insisted on is news of an older mapping, not our answer (RFC 6887 s13.2). An
 * address of all zeros was no wish for one, but its family was.
 */
static bool is_what_was_insisted_on(const struct oneshot *oneshot,
                                    const struct pcp_response *response)
{
    const struct endpoint *wanted = &oneshot->asked.external;
    const struct endpoint *given = &response->mapping.external;
    if (!oneshot->prefers_failure || response->result != PCP_RESULT_SUCCESS)
        return true;
    if (given->port != wanted->port)
        return false;
    if (ip_address_is_any(&wanted->address))
        return ip_address_is_ipv4(&given->address) == ip_address_is_ipv4(&wanted->address);
    return ip_address_equal(&given->address, &wanted->address);
}

static bool is_about_our_mapping(const struct oneshot *oneshot, const struct pcp_response *response)
{
    const struct pcp_mapping_fields *asked = &oneshot->asked;
    const struct pcp_mapping_fields *got = &response->mapping;
    return memcmp(got->nonce, asked->nonce, sizeof(got->nonce)) == 0 &&
           got->protocol == asked->protocol && got->internal_port == asked->internal_port &&
           (oneshot->opcode != PCP_OPCODE_PEER || endpoint_equal(&got->remote, &asked->remote)) &&
           is_what_was_insisted_on(oneshot, response);
}

enum oneshot_verdict oneshot_receive(const struct oneshot *oneshot, const struct datagram *datagram,
                                     struct pcp_response *ret_response)
{
    struct pcp_response response;
    if (!is_from_server(oneshot, datagram) ||
        pcp_response_decode(datagram->data, datagram->size_bytes, &response) < 0)
        return ONESHOT_VERDICT_IGNORED;
    /* Such an answer need not carry anything behind its first four octets (RFC 6887 s9). */
    bool is_version_refused = response.result == PCP_RESULT_UNSUPP_VERSION;
    if (!is_version_refused &&
        (response.opcode != oneshot->opcode ||
         (oneshot->opcode != PCP_OPCODE_ANNOUNCE && !is_about_our_mapping(oneshot, &response))))
        return ONESHOT_VERDICT_IGNORED;
    *ret_response = response;
    return is_version_refused && response.version == 0 ? ONESHOT_VERDICT_NATPMP
                                                       : ONESHOT_VERDICT_ANSWERED;
}
