#pragma once

/*
 * What the owners of mappings believe, from nothing but the answers they were sent, and whether it is so. A run is the engine, its requests that
 * are not answered yet, and these beliefs.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/time.h"
#include "engine.h"

#define N_HOSTS_IPV4 4
#define N_HOSTS 6     /* the others are IPv6's */
#define MANAGER 3     /* may name the other hosts of IPv4 */
#define N_PORTS 4     /* the last one is 0, all ports */
#define N_PROTOCOLS 3 /* UDP, TCP, and 0, all protocols */
#define N_KINDS 3     /* MAP, and PEER to two remotes */
#define N_NONCES 3
#define NO_NONCE 2 /* as NAT-PMP has none */
#define N_SLOTS (N_HOSTS * N_PORTS * N_PROTOCOLS * N_KINDS)
#define QUOTA 6
#define PORT_FIRST 1024
#define PORT_LAST 1083
#define ADDRESS_FIRST 0xc6336401
#define N_ADDRESSES 3
#define OUTSTANDING_MAX 256
#define NO_SLOT SIZE_MAX

/* What an answer promised, at least. */
struct promise {
    bool made;
    size_t nonce;
    bool is_static;
    uint32_t host; /* whom it was made to */
    struct endpoint external;
    uint64_t until_ns;
    uint64_t zero_ns; /* of the Epoch it came with */
};

/* What the owner did since, which answers of earlier requests must not override. */
struct disclaimer {
    uint64_t withdrawn_by; /* number of the last request that may have ended it */
    uint64_t wanted_by;    /* number of the last request that may have made it */
    bool is_gone;          /* a delete was answered and nothing was wanted since */
    uint64_t capped_by;    /* number of the last request that may have shortened it */
    uint64_t cap_ns;
};

struct question {
    uint64_t number;
    bool is_natpmp;
    uint16_t port; /* retransmissions have the same, all others their own */
    size_t slot;
    size_t nonce;
    uint32_t host;
    uint32_t lifetime_s;
    uint64_t asked_ns; /* of a retransmission, when it was asked first */
    uint64_t zero_ns;
};

struct sim {
    struct engine engine;
    struct random_source random;
    uint64_t number;
    struct promise promises[N_SLOTS];
    struct disclaimer disclaimers[N_SLOTS][N_NONCES];
    uint32_t managers[N_SLOTS]; /* who asked last: only it is told of the end */
    struct question outstanding[OUTSTANDING_MAX];
    size_t n_outstanding;
    /* Per host: where its Epoch is, where it last was when everything was written, whether it may be restarted. */
    uint64_t zero_ns[N_HOSTS], stable_zero_ns[N_HOSTS];
    bool may_reset, has_crashed;
    bool lengths_changed; /* quotas were of other subscribers */
    uint8_t last[PCP_SIZE_MAX];
    size_t last_size_bytes;
    uint32_t last_host;
    uint16_t last_port;
};

extern const uint8_t oracle_protocols[N_PROTOCOLS];
struct ip_address oracle_address(uint32_t host);
/* A PEER's; `remote` is 1 or 2. */
struct ip_address oracle_remote(uint32_t host, size_t remote);
uint16_t oracle_port(size_t index);

/* Notes what the request could do, and hands it to the server. */
void oracle_ask(struct sim *sim, uint32_t host, uint16_t port, const uint8_t *data,
                size_t size_bytes);
/* Reads the answers, and compares what was promised with table, store and kernel. Fails the test. */
void oracle_check(struct sim *sim);
