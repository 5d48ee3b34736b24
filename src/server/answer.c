/* Answers: success responses from fields, error responses from the request's octets, now or with the current tick. */

#include <string.h>

#include "server/internal.h"

/* [R-6887-7.4-2] */
uint32_t error_lifetime_s(enum pcp_result result)
{
    return pcp_result_is_long(result) ? ERROR_LIFETIME_LONG_S : ERROR_LIFETIME_SHORT_S;
}

bool subscriber_is_pending(const struct server *server, const struct ip_address *address)
{
    /* The store has what the table has not: were we to die now, it would come back. */
    if (server->debt.n_items > 0)
        return true;
    const struct subscriber *subscriber = mapping_table_find_subscriber(&server->table, address);
    return subscriber && subscriber->last_change_tick > server->committed_number;
}

/* An answer for which there is no memory is not given: the client asks again. */
void answer_octets(struct server *server, const struct datagram *request, const void *response,
                   int size, uint8_t result, bool held)
{
    int r = size;
    if (r >= 0 && held) {
        struct reply_batch *batch = &server->deciding->replies;
        r = reply_batch_append(batch, request, response, (size_t) size, result, true);
        if (r == 0)
            batch->replies[batch->n_replies - 1].epoch_zero_ns =
                epoch_zero_of(server, &request->source.address);
    }
    if (r >= 0 && !held)
        r = release_reply(server, request, response, (size_t) size, result);
    if (r < 0)
        server->counters.n_dropped++;
}

/* [R-6887-7.2-5] */
void answer_error(struct server *server, uint64_t now_ns, const struct datagram *request,
                  enum pcp_result result, uint32_t lifetime_s, bool held)
{
    uint8_t response[PCP_SIZE_MAX];
    int size = pcp_response_encode_error(request->data, request->size_bytes, result, lifetime_s,
                                         server_epoch_s(server, now_ns, &request->source.address),
                                         response, sizeof(response));
    answer_octets(server, request, response, size, (uint8_t) result, held);
}

/* [R-6887-7.2-5] */
void answer_success(struct server *server, uint64_t now_ns, const struct datagram *request,
                    struct pcp_response *response, bool held)
{
    uint8_t octets[PCP_SIZE_MAX];
    response->result = PCP_RESULT_SUCCESS;
    response->epoch_s = server_epoch_s(server, now_ns, &request->source.address);
    int size = pcp_response_encode(response, octets, sizeof(octets));
    answer_octets(server, request, octets, size, PCP_RESULT_SUCCESS, held);
}
