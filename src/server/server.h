#pragma once

/*
 * The server engine: RFC 6887's server without any I/O. It is given datagrams and service time; it gives back changes to be
 * made durable, and answers that may leave only afterwards.
 *
 *     server_receive(), server_advance(), ...      decide; changes and held answers gather in the current tick
 *     server_seal()                                hands the tick out to be committed: store first, then kernel
 *     (meanwhile the next tick is being decided)
 *     server_complete()                            releases the answers, or takes everything back and answers with errors
 *     server_outbox(), server_outbox_clear()       what may be sent now
 *
 * One tick at a time is out for commit. Not thread safe; the changes handed out by server_seal() may be read by another thread
 * until server_complete().
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/address.h"
#include "base/datagram.h"
#include "base/random.h"
#include "base/util.h"
#include "mapping/change.h"
#include "mapping/port_pool.h"
#include "mapping/record.h"
#include "store/store.h"

#define SERVER_PORT_RANGES_MAX 64
#define SERVER_PREFIXES_MAX 64
#define SERVER_RESULTS 32
#define SERVER_THIRD_PARTIES_MAX 32
#define SERVER_STATICS_MAX 256

/* `source` may name addresses of `target` in THIRD_PARTY. */
struct server_third_party {
    struct ip_prefix source, target;
};

/* A mapping of the configuration: no nonce, no end. */
struct server_static {
    struct endpoint internal; /* port 0: all ports */
    struct endpoint external; /* address any: the first external one */
    uint8_t protocol;
};

enum server_nonce_policy {
    SERVER_NONCE_STRICT,          /* RFC 6887 s11.3: another nonce is NOT_AUTHORIZED */
    SERVER_NONCE_ADOPT_SAME_HOST, /* a request from the internal address itself takes its mapping over */
};

/*
 * Flows that exist without us, from conntrack: where the internal endpoint appears outside. 0; -ENOENT when there is no such flow; -errno. Must
 * answer at once.
 */
struct server_flow_source {
    int (*find)(struct server_flow_source *source, uint8_t protocol,
                const struct endpoint *internal, const struct endpoint *remote,
                struct endpoint *ret_external);
};

struct server_settings {
    struct port_range external_ports[SERVER_PORT_RANGES_MAX];
    size_t n_external_ports;
    struct ip_prefix internal_prefixes[SERVER_PREFIXES_MAX]; /* who may have mappings */
    size_t n_internal_prefixes;
    uint32_t lifetime_min_s, lifetime_max_s;
    /*
     * Who is one subscriber, with one quota and one Epoch: all internal addresses alike in so many bits (of 128) of IPv4 and of IPv6. 0 is 128: each
     * address.
     */
    uint8_t subscriber_length_ipv4, subscriber_length_ipv6;
    uint32_t mappings_per_subscriber;
    uint32_t mappings_total;
    uint32_t filters_per_mapping;
    uint32_t
        recycle_delay_s; /* how long the external port of a gone mapping is held back (RFC 6887 s15) */
    bool prefer_failure;
    bool peer;   /* offer PEER */
    bool natpmp; /* answer NAT-PMP (RFC 6886) */
    bool dccp;   /* the data path follows DCCP, as Linux did until 6.15 */
    bool
        whole_ports; /* offer mappings of all ports of a protocol, and of all protocols, on IPv4 too */
    /* Who may make mappings for whom with THIRD_PARTY (RFC 6887 s13.1). */
    struct server_third_party third_parties[SERVER_THIRD_PARTIES_MAX];
    size_t n_third_parties;
    struct server_static statics[SERVER_STATICS_MAX];
    size_t n_statics;
    enum server_nonce_policy nonce_policy;
    /* Requests per second and source address, and how many at once; 0: no limit. */
    uint32_t rate_per_s, rate_burst;
    /* Finds flows of the hosts behind us, for PEER; may be NULL. */
    struct server_flow_source *flows;
};

enum server_outcome {
    SERVER_OUTCOME_DONE,          /* in the store and in the kernel */
    SERVER_OUTCOME_STORE_FAILED,  /* the store refused: it is as before, the kernel was not asked */
    SERVER_OUTCOME_KERNEL_FULL,   /* the store has it, the kernel had no room and is as before */
    SERVER_OUTCOME_KERNEL_FAILED, /* the store has it, the kernel refused and is as before */
};

/* A sealed tick. Everything in it belongs to the server and stays until server_complete(). */
struct server_commit {
    uint64_t tick;
    /* For the store; its clock points to `clock`. */
    struct store_commit store;
    /* epoch_zero_ns and next_id are filled in; the caller adds the samples of the clocks. */
    struct store_clock clock;
    /* For the kernel. */
    const struct change *changes;
    size_t n_changes;
};

struct server_counters {
    uint64_t n_requests;              /* datagrams given to server_receive() */
    uint64_t n_dropped;               /* of them, not answered */
    uint64_t n_responses;             /* answers released */
    uint64_t results[SERVER_RESULTS]; /* of them, by result code */
    uint64_t n_repeated;              /* answered from the table without a commit */
    uint64_t n_adopted;               /* mappings taken over with another nonce (nonce policy) */
    uint64_t n_limited;               /* datagrams dropped by the rate limit */
    uint64_t n_commits, n_commits_failed;
    uint64_t n_overloads; /* datagrams dropped because a tick was full */
};

struct server;

/* `settings` is copied; `random` must outlive the server. NULL when out of memory. */
struct server *server_new(const struct server_settings *settings, struct random_source *random);
/* Accepts NULL. */
void server_free(struct server *server);

/*
 * Start: first restore what the store has, in any order, then server_start(), then server_set_external_addresses().
 * server_restore_mapping(): 0; -EINVAL for a record that cannot be; -EEXIST, -EADDRINUSE when it contradicts another; -ENOMEM.
 */
MUST_CHECK int server_restore_mapping(struct server *server, const struct mapping_record *record);
MUST_CHECK int server_restore_epoch(struct server *server, const struct store_epoch *epoch);
/* `epoch_zero_ns` is the service time at which the Epoch was 0: the stored one when state is intact, else now. */
void server_start(struct server *server, uint64_t epoch_zero_ns, uint64_t next_id);

/* One datagram from a permitted inside interface. */
void server_receive(struct server *server, uint64_t now_ns, const struct datagram *datagram);
/* Carries out what is due. */
void server_advance(struct server *server, uint64_t now_ns);
/* Service time at which server_advance() wants to be called, TIME_NEVER when never. */
uint64_t server_next_deadline_ns(const struct server *server);

/*
 * The external addresses from now on, the first of them being the one that static mappings without an address are on and that NAT-PMP tells.
 * Mappings on an address that is gone move to one that is there, with their port when it is free; their subscribers' Epochs restart (RFC 6887
 * s8.5). With no address at all everything stays as it is and requests are answered NETWORK_FAILURE.
 * 0; -ENOSPC (too many addresses) with nothing changed; -ENOMEM: what could not be moved yet, as what a failed commit put back, is moved by
 * server_advance().
 */
MUST_CHECK int server_set_external_addresses(struct server *server, uint64_t now_ns,
                                             const struct ip_address *addresses,
                                             size_t n_addresses);
/*
 * Other settings from now on. Mappings they do not permit any more end, and their subscribers' Epochs restart; static mappings become those of the
 * settings. When other prefixes are one subscriber and any has an Epoch of its own, everybody's Epoch restarts.
 * 0; -EADDRINUSE when a static mapping cannot have its external endpoint because another static one has it, with everything else carried out;
 * -ENOMEM: what is left over is carried out by server_advance().
 */
MUST_CHECK int server_set_settings(struct server *server, uint64_t now_ns,
                                   const struct server_settings *settings);
enum server_clear_scope { SERVER_CLEAR_ALL, SERVER_CLEAR_SUBSCRIBER, SERVER_CLEAR_ID };
/*
 * The operator removes mappings; the subscribers concerned get an Epoch from zero (draft-boucadair-pcp-failure s3.2), all others see theirs
 * go on. Returns how many; *ret_tick is the tick that carries it out. It may be 0, and then there is nothing to wait for. -ENOMEM.
 */
MUST_CHECK int server_clear(struct server *server, uint64_t now_ns, enum server_clear_scope scope,
                            const struct ip_prefix *subscriber, uint64_t id, uint64_t *ret_tick);
/* State was lost or is in doubt: everybody's Epoch restarts. Carried out with the next tick. */
void server_reset_epoch(struct server *server, uint64_t now_ns);
/* Has the clock record written with the next tick, even if nothing else is. */
void server_stamp_clock(struct server *server);

/*
 * An announcement to everybody (RFC 6887 s14.1), to be sent by multicast on every inside interface: PCP's and, where offered, NAT-PMP's.
 */
struct server_announcement {
    uint8_t pcp[24], natpmp[12];
    size_t pcp_size_bytes, natpmp_size_bytes; /* 0: none */
};
/* True when one is due now. The schedule runs by server_advance(). */
bool server_take_announcement(struct server *server, uint64_t now_ns,
                              struct server_announcement *ret_announcement);
/*
 * Begins the schedule of announcements: we are new here. Where subscribers have Epochs of their own only NAT-PMP's are made: a common Epoch told to
 * all would read as a loss to them.
 */
void server_announce(struct server *server, uint64_t now_ns);

/* True when server_seal() would hand out a tick. */
bool server_wants_commit(const struct server *server, uint64_t now_ns);
/*
 * Closes the current tick and hands it out. False when there is nothing to commit or a tick is still out. Answers of a tick without
 * changes are released at once.
 */
bool server_seal(struct server *server, uint64_t now_ns, struct server_commit *ret_commit);
/* What became of it. */
void server_complete(struct server *server, uint64_t now_ns, enum server_outcome outcome);

/* Answers that may leave. The array and its octets stay until the next call of any other function. */
size_t server_outbox(struct server *server, const struct datagram **ret_datagrams);
void server_outbox_clear(struct server *server);

/* Epoch as `client` is told it, in seconds. */
uint32_t server_epoch_s(const struct server *server, uint64_t now_ns,
                        const struct ip_address *client);
/* How many subscribers have an Epoch of their own, restarted later than everybody's. */
size_t server_n_own_epochs(const struct server *server);
/* Service time at which the common Epoch was 0. */
uint64_t server_epoch_zero_ns(const struct server *server);
const struct server_counters *server_counters(const struct server *server);
void server_count(const struct server *server, size_t *ret_n_live, size_t *ret_n_held,
                  size_t *ret_n_subscribers);
/* Every mapping, live and held; the callback must not call the server. Non-zero stops and is returned. */
int server_for_each_mapping(const struct server *server,
                            int (*visit)(void *context, const struct mapping_record *record),
                            void *context);
