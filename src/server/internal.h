#pragma once

/* What the files of server/ share. */

#include "base/time.h"
#include "mapping/table.h"
#include "server/rate.h"
#include "server/server.h"
#include "server/tell.h"
#include "wire/request.h"
#include "wire/response.h"

/* Bounds of one tick: what arrives beyond them is dropped, as RFC 6887 s8.2 allows an overloaded server. */
#define TICK_CHANGES_MAX 16384
#define TICK_REPLIES_MAX 16384
/* Error lifetimes of RFC 6887 s7.4. */
#define ERROR_LIFETIME_SHORT_S 30
#define ERROR_LIFETIME_LONG_S 1800
/* How often Epochs that nobody needs any more are looked for. */
#define FORGET_INTERVAL_NS (60 * NS_PER_S)
/* Pause after a failed commit before what nobody waits for (expiries, debts) is tried again. */
#define COMMIT_RETRY_NS NS_PER_S

/* Room kept for a request, so that the error that may take its place fits: NAT-PMP's is longer than its request. */
#define REQUEST_ROOM(size_bytes) ((size_bytes) < 16 ? 16 : (size_bytes))

/* An answer; octets are offsets into the batch's arena. The request is kept with held ones, should it become an error. */
struct reply {
    struct endpoint from, to;
    uint32_t interface_index;
    uint8_t result;
    uint64_t epoch_zero_ns; /* service time at which the Epoch it tells was 0; of held ones */
    size_t response_offset, response_size_bytes;
    size_t request_offset, request_size_bytes;
};

struct reply_batch {
    struct reply *replies;
    size_t n_replies, n_replies_allocated;
    uint8_t *octets;
    size_t size_bytes, allocated_bytes;
};

struct tick {
    struct change_set changes;
    struct store_epoch *epochs;
    size_t n_epochs, n_epochs_allocated;
    bool stamp;       /* the clock record is worth a commit even without changes */
    bool has_statics; /* some changes are not the store's */
    struct reply_batch replies;
};

struct server {
    struct server_settings settings;
    struct pcp_capabilities capabilities;
    struct random_source *random;
    struct mapping_table table;
    uint64_t epoch_zero_ns;
    struct list_link own_epochs; /* subscribers with an Epoch later than that */
    size_t n_own_epochs;
    uint64_t forget_not_before_ns;
    uint64_t next_id;

    struct tick ticks[2];
    struct tick *deciding, *committing;
    bool in_flight;
    uint64_t tick_number;      /* of `deciding` */
    uint64_t committed_number; /* the last one that is through, one way or the other */
    /* Records the store has but the table has not, since the kernel refused: first thing in the next commit. */
    struct change_set debt;
    struct change_set store_changes; /* debt and changes in one array */
    uint64_t retry_not_before_ns;
    /* Mappings may stand on external addresses that are gone since then; moved as soon as there is one to move to. */
    bool stranded;
    uint64_t stranded_since_ns;
    /* What the settings demand may not be done yet: forbidden mappings ended, static ones made. */
    bool unsettled;
    /* Service time at which the earliest possible common Epoch was 0, from restored Epochs of prefixes that are none now. */
    uint64_t epoch_floor_ns;

    struct announcer announcer;
    struct hash_index notices;
    struct deadline_heap notice_deadlines;
    struct rate_limit rate;

    struct reply_batch outbox;
    struct datagram *outbox_datagrams;
    size_t n_outbox_allocated;

    struct server_counters counters;
};

/* server.c */
void server_take_settings(struct server *server, const struct server_settings *settings);
/* Service time at which the Epoch was 0 that `client` is told. */
uint64_t epoch_zero_of(const struct server *server, const struct ip_address *client);
uint32_t epoch_since(uint64_t epoch_zero_ns, uint64_t now_ns);

/* tick.c */
void tick_init(struct tick *tick);
void tick_deinit(struct tick *tick);
void reply_batch_deinit(struct reply_batch *batch);
bool tick_has_room(const struct server *server);
/* Something for store or kernel. */
bool tick_has_changes(const struct tick *tick);
/*
 * Carries a change out in the table and records it for the commit. `before` NULL: a new mapping; `after` NULL: it goes. 0 or -errno with nothing
 * changed. *ret_mapping may be NULL.
 */
MUST_CHECK int tick_put(struct server *server, struct mapping *before,
                        const struct mapping_record *after, struct mapping **ret_mapping);
/* Appends to `batch`. `request` NULL: not kept. */
MUST_CHECK int reply_batch_append(struct reply_batch *batch, const struct datagram *request,
                                  const void *response, size_t size_bytes, uint8_t result,
                                  bool keep_request);
/* Into the outbox at once. */
MUST_CHECK int release_reply(struct server *server, const struct datagram *request,
                             const void *response, size_t size_bytes, uint8_t result);
/* When a debt to the store is to be tried again, TIME_NEVER when there is none. */
uint64_t tick_retry_ns(const struct server *server);
/* Gives the subscriber an Epoch of its own, for which it is kept. NULL when out of memory. */
struct subscriber *set_own_epoch(struct server *server, const struct ip_address *address,
                                 uint64_t epoch_zero_ns);
/* It has none of its own any more, with this tick; the subscriber may be gone afterwards. 0 or -ENOMEM. */
MUST_CHECK int tick_forget_subscriber_epoch(struct server *server, struct subscriber *subscriber);
/* The subscriber's Epoch restarts at `now_ns`, with this tick. 0 or -ENOMEM. */
MUST_CHECK int tick_reset_subscriber_epoch(struct server *server, const struct ip_address *address,
                                           uint64_t now_ns);

/*
 * Other prefixes are one subscriber from now on, with the changes of both ticks counted to them. No subscriber may have an Epoch of its own. 0, or
 * -ENOMEM with nothing changed.
 */
MUST_CHECK int tick_set_subscriber_lengths(struct server *server, uint8_t length_ipv4,
                                           uint8_t length_ipv6);

/* answer.c */
uint32_t error_lifetime_s(enum pcp_result result);
/* `held`: the answer leaves with the current tick. */
void answer_error(struct server *server, uint64_t now_ns, const struct datagram *request,
                  enum pcp_result result, uint32_t lifetime_s, bool held);
void answer_success(struct server *server, uint64_t now_ns, const struct datagram *request,
                    struct pcp_response *response, bool held);
/* Octets of any protocol; `size` < 0 (an encoder's failure) or no memory: no answer, and the client asks again. */
void answer_octets(struct server *server, const struct datagram *request, const void *response,
                   int size, uint8_t result, bool held);
/* True while something of the subscriber is decided but not committed, or may be in the store although it was taken back. */
bool subscriber_is_pending(const struct server *server, const struct ip_address *address);

/* map.c, peer.c, natpmp.c: one request each */
void map_receive(struct server *server, uint64_t now_ns, const struct datagram *datagram,
                 const struct pcp_request *request);
void peer_receive(struct server *server, uint64_t now_ns, const struct datagram *datagram,
                  const struct pcp_request *request);
void natpmp_receive(struct server *server, uint64_t now_ns, const struct datagram *datagram);
/* The tick failed: what the answer to `request` becomes, its Epoch left zero. Octets written or negative. */
MUST_CHECK int natpmp_encode_failure(const void *request, size_t size_bytes, enum pcp_result result,
                                     void *ret_data, size_t ret_size_bytes);

/* filters.c */
/*
 * The filter list after the request's FILTER options, in their order (RFC 6887 s13.3). *ret_filters carries a reference of the caller's (NULL: no
 * filters). SUCCESS, MALFORMED_OPTION (family), EXCESSIVE_REMOTE_PEERS or NO_RESOURCES.
 */
enum pcp_result filters_after(const struct mapping_filters *existing,
                              const struct pcp_request *request,
                              const struct ip_address *internal_address, uint32_t n_max,
                              const struct mapping_filters **ret_filters);

/* statics.c */
/*
 * Takes away what the configuration no longer has and makes what it has. 0; -ENOMEM; -EADDRINUSE when one cannot have its endpoint because another one
 * has it, with all others made.
 */
MUST_CHECK int statics_make(struct server *server, uint64_t now_ns);

/* maintenance.c */
/* The subscriber's Epoch restarts, and with it that of the third party who manages the mapping; they are told. 0 or -ENOMEM. */
MUST_CHECK int maintenance_reset_epoch_of(struct server *server,
                                          const struct mapping_record *record, uint64_t now_ns);
/* True when taking the change back leaves something that the settings do not permit, or not all that they demand. */
bool maintenance_is_unsettled(const struct server *server, const struct change *change);
/* Ends a mapping: live to held, or out altogether when nothing is held back or the hold is over. */
MUST_CHECK int maintenance_end_mapping(struct server *server, struct mapping *mapping,
                                       uint64_t now_ns);
/* Remaining lifetime in whole seconds, rounded up; PCP_LIFETIME_INFINITE for static ones. */
uint32_t remaining_s(const struct mapping_record *record, uint64_t now_ns);
