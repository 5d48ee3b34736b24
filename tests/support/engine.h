#pragma once

/*
 * The server engine with everything outside it replaced: memory store, memory packet path, virtual time, seeded random
 * numbers. A test decides when a commit happens and how it ends, and may let the daemon die at any of its steps.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "nat/memory/memory_nat.h"
#include "server/server.h"
#include "store/memory/memory_store.h"
#include "wire/natpmp.h"
#include "wire/request.h"
#include "wire/response.h"

#define ENGINE_ANSWERS_MAX 64
#define ENGINE_NOTICES_MAX 128
#define ENGINE_START_NS (UINT64_C(86400) * 1000000000)
#define ENGINE_EXTERNAL 0xc6336401 /* 198.51.100.1 */
#define ENGINE_HOST_A 0x0a000005   /* 10.0.0.5 */
#define ENGINE_HOST_B 0x0a000006

struct engine_answer {
    struct endpoint to;
    uint8_t data[PCP_SIZE_MAX];
    size_t size_bytes;
    uint64_t at_ns; /* when it was collected */
};

struct engine {
    struct server_settings settings;
    struct random_source random;
    struct store *store;
    struct nat *nat;
    struct server *server;
    uint64_t now_ns;
    struct ip_address external[8];
    size_t n_external;

    bool in_flight;
    struct server_commit commit;
    bool
        store_owed; /* the kernel refused what the store had taken, and the store was not told yet */

    struct engine_answer answers[ENGINE_ANSWERS_MAX];
    size_t
        n_answers; /* taken by the last engine_collect(); those beyond the array are counted only */
    /* What nobody asked for, since the last engine_forget(). */
    struct engine_answer notices[ENGINE_NOTICES_MAX];
    size_t n_notices; /* those beyond the array are counted only */
    struct pcp_request request;
    struct pcp_response response;
    struct natpmp_response natpmp;
    uint16_t client_port; /* requests come from it; 0: 40000 */
};

/* How a commit ends. */
enum engine_end {
    ENGINE_COMMITS,
    ENGINE_STORE_FAILS,
    ENGINE_KERNEL_FULL,
    ENGINE_KERNEL_FAILS,
};

/* Where the daemon dies while a commit is in flight; without one all are the same. */
enum engine_crash {
    ENGINE_CRASH_BEFORE_STORE,
    ENGINE_CRASH_AFTER_STORE,
    ENGINE_CRASH_AFTER_KERNEL,
};

struct server_settings engine_settings(void);
/* One external address, ENGINE_EXTERNAL. */
void engine_start(struct engine *engine, const struct server_settings *settings, uint64_t seed);
void engine_stop(struct engine *engine);
/* Kills the server and starts another one on the same store and kernel. */
void engine_crash(struct engine *engine, enum engine_crash how);

void engine_sleep_s(struct engine *engine, uint64_t seconds);
/* IPv4 in host order; the server is told. */
void engine_set_external(struct engine *engine, const uint32_t *addresses, size_t n_addresses);

/* Hands out the current tick. False when there is nothing to commit. */
bool engine_seal(struct engine *engine);
/* Ends the tick that is out. */
void engine_finish(struct engine *engine, enum engine_end end);
/* Everything due is done and committed, until the engine wants nothing more at this moment. */
void engine_settle(struct engine *engine);
/* Takes the outbox into `answers`, and behind `notices` what answers no request. Returns the number of answers. */
size_t engine_collect(struct engine *engine);
/* Decodes one answer into engine->response. */
const struct pcp_response *engine_answer(struct engine *engine, size_t index);
/* The same with one notice. */
const struct pcp_response *engine_notice(struct engine *engine, size_t index);
void engine_forget(struct engine *engine);
/* Time goes on for so long, with everything done at the moment it is due; the outbox is collected. Fails when the engine spins. */
void engine_run_ms(struct engine *engine, uint64_t milliseconds);

/*
 * A MAP request in engine->request: UDP, no suggestion, nonce made of `nonce`. Change it, then engine_send() it from
 * `host`. Returns it.
 */
struct pcp_request *engine_map(struct engine *engine, uint32_t host, uint16_t internal_port,
                               uint32_t nonce, uint32_t lifetime_s);
/* The same for any address. */
struct pcp_request *engine_map_of(struct engine *engine, const struct ip_address *address,
                                  uint16_t internal_port, uint32_t nonce, uint32_t lifetime_s);
/* And a PEER request: UDP, no suggestion. */
struct pcp_request *engine_peer_of(struct engine *engine, const struct ip_address *address,
                                   uint16_t internal_port, const struct endpoint *remote,
                                   uint32_t nonce, uint32_t lifetime_s);
void engine_add_option(struct engine *engine, const struct pcp_option *option);
/* IPv4 FILTER; `length` of 128. */
void engine_add_filter(struct engine *engine, uint32_t address, uint8_t length, uint16_t port);
void engine_send(struct engine *engine, uint32_t host);
void engine_send_octets(struct engine *engine, uint32_t host, const void *data, size_t size_bytes);
void engine_send_octets_of(struct engine *engine, const struct ip_address *address,
                           const void *data, size_t size_bytes);
void engine_send_of(struct engine *engine, const struct ip_address *address);
const struct pcp_response *engine_ask_of(struct engine *engine, const struct ip_address *address);
/* A NAT-PMP request, and the one answer decoded. */
void engine_send_natpmp(struct engine *engine, uint32_t host, const struct natpmp_request *request);
const struct natpmp_response *engine_ask_natpmp(struct engine *engine, uint32_t host,
                                                const struct natpmp_request *request);
const struct natpmp_response *engine_natpmp_answer(struct engine *engine, size_t index);
/* Sends engine->request, settles, and gives the one answer. */
const struct pcp_response *engine_ask(struct engine *engine, uint32_t host);
/* Shorthands for a MAP that must succeed. */
uint16_t engine_create(struct engine *engine, uint32_t host, uint16_t internal_port, uint32_t nonce,
                       uint32_t lifetime_s);
void engine_delete(struct engine *engine, uint32_t host, uint16_t internal_port, uint32_t nonce);

size_t engine_n_live(const struct engine *engine);
size_t engine_n_held(const struct engine *engine);
uint32_t engine_epoch_s(const struct engine *engine, uint32_t host);
uint32_t engine_epoch_of(const struct engine *engine, const struct ip_address *address);
/* A live mapping of this kind, internal endpoint and protocol; false when there is none. */
bool engine_find_of(const struct engine *engine, enum mapping_kind kind,
                    const struct endpoint *internal, uint8_t protocol,
                    struct mapping_record *ret_record);
/* The live UDP mapping of this internal endpoint; false when there is none. */
bool engine_find(const struct engine *engine, uint32_t host, uint16_t internal_port,
                 struct mapping_record *ret_record);
/* Store, table and kernel compared, to be called without a commit in flight: NULL, or what differs. */
const char *engine_inconsistency(const struct engine *engine);
