#pragma once

/* What MAP and PEER have in common: a request about one mapping, gathered once, and the ways to answer it. */

#include "server/claim.h"
#include "server/internal.h"

struct operation {
    struct server *server;
    uint64_t now_ns;
    const struct datagram *datagram;
    const struct pcp_request *request;
    struct ip_address internal_address; /* the sender's, or THIRD_PARTY's */
    bool third_party;
    bool prefer_failure;
    struct mapping_key key;
    struct mapping *existing; /* live, or NULL */
    bool pending;             /* something of this subscriber is not committed yet */
};

/*
 * Gathers, and checks who may ask for whom. SUCCESS, or what the request is to be refused with (the operation is filled in all the same).
 */
enum pcp_result operation_begin(struct operation *operation, struct server *server, uint64_t now_ns,
                                const struct datagram *datagram, const struct pcp_request *request);

/* The configuration lets `source` name `target` in THIRD_PARTY (RFC 6887 s13.1). */
bool operation_may_name(const struct server *server, const struct ip_address *source,
                        const struct ip_address *target);

void operation_refuse(const struct operation *operation, enum pcp_result result);
/* NOT_AUTHORIZED for what is left of the existing mapping's lifetime (RFC 6887 s11.3). */
void operation_refuse_nonce(const struct operation *operation);
/* Success with the external endpoint and remaining lifetime of `record`. */
void operation_answer(const struct operation *operation, const struct mapping_record *record,
                      uint32_t lifetime_s, bool held);
/* Success with lifetime 0, the suggestion copied (RFC 6887 s15.1). */
void operation_answer_deleted(const struct operation *operation, bool held);

/* The request may manage the existing mapping: same nonce, or none yet, or the policy adopts it. */
bool operation_is_authorized(const struct operation *operation);
bool operation_suggests(const struct operation *operation, const struct mapping_record *record);
/* What the request claims, with its suggestion. */
struct claim operation_claim(const struct operation *operation);
/* True when the external endpoint is the one suggested as far as one is. */
bool operation_accepts(const struct operation *operation, const struct mapping_record *record);
/* A mapping yet to be made: with the id of `held`, whose place it takes, or a new one (NULL). */
struct mapping_record operation_new_record(const struct operation *operation,
                                           enum mapping_kind kind, const struct mapping *held,
                                           const struct endpoint *external);
/* Expiry, client and nonce as the request says. */
void operation_fill(const struct operation *operation, struct mapping_record *record,
                    uint32_t lifetime_s);
/*
 * A request that asks for what was granted moments ago is a retransmission, and gets the same answer without a commit. "Moments" is 10 s, the
 * first three transmissions of RFC 6887 s8.1.1, and less for short lifetimes.
 */
bool operation_is_repetition(const struct operation *operation, const struct mapping_record *wanted,
                             uint32_t lifetime_s);
/* From the table, without a commit. */
void operation_repeat(const struct operation *operation);
/* `record` takes the place of `before` (NULL: is new), and the answer follows when it is committed. */
void operation_put(const struct operation *operation, struct mapping *before,
                   const struct mapping_record *record, uint32_t lifetime_s);
