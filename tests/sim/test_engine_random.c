/*
 * The server engine under random requests, faults, crashes and operators, against an oracle that believes only the answers
 * it was sent. After every step it asks (ARCHITECTURE.md, invariants 1, 2, 3 and 5):
 *
 *  1. does anybody share an external endpoint?
 *  2. is every mapping that was promised where it was promised, in table, store and kernel? If not, has its owner's Epoch
 *     restarted since?
 *  3. has an Epoch changed that had no reason to?
 *  5. is anything overdue, over quota, or left behind in store or kernel; was any request not answered?
 *
 * HOLDFAST_SIM_SEED=n replays one seed; HOLDFAST_SIM_SEEDS=n changes how many are run. All times are whole seconds.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/time.h"
#include "engine.h"

#if defined(__SANITIZE_ADDRESS__)
#define IS_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define IS_SANITIZED 1
#endif
#endif
#ifdef IS_SANITIZED
#define N_SEEDS 200
#else
#define N_SEEDS 2000
#endif
#define N_STEPS 200

#define N_HOSTS 4
#define N_PORTS 4
#define N_PROTOCOLS 2
#define N_NONCES 2
#define N_SLOTS (N_HOSTS * N_PORTS * N_PROTOCOLS)
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
    struct question outstanding[OUTSTANDING_MAX];
    size_t n_outstanding;
    /* Per host: where its Epoch is, where it last was when everything was written, whether it may be restarted. */
    uint64_t zero_ns[N_HOSTS], stable_zero_ns[N_HOSTS];
    bool may_reset, has_crashed;
    uint8_t last[PCP_SIZE_MAX];
    size_t last_size_bytes;
    uint32_t last_host;
    uint16_t last_port;
};

static struct {
    uint64_t seed;
    unsigned int step;
    bool running;
} now_running;

static uint64_t below(struct sim *sim, uint64_t bound)
{
    return random_below(&sim->random, bound);
}

static uint64_t zero_of(const struct sim *sim, uint32_t host)
{
    return sim->engine.now_ns - engine_epoch_s(&sim->engine, host) * NS_PER_S;
}

static size_t slot_of(const struct ip_address *address, uint16_t internal_port, uint8_t protocol)
{
    uint32_t host = ip_address_to_ipv4(address) - ENGINE_HOST_A;
    uint32_t port = internal_port - 2000u;
    if (host >= N_HOSTS || port >= N_PORTS || (protocol != IPPROTO_UDP && protocol != IPPROTO_TCP))
        return NO_SLOT;
    return (host * N_PORTS + port) * N_PROTOCOLS + (protocol == IPPROTO_TCP);
}

static uint32_t host_of_slot(size_t slot)
{
    return ENGINE_HOST_A + (uint32_t) (slot / (N_PORTS * N_PROTOCOLS));
}

static size_t nonce_of(const uint8_t *nonce)
{
    struct pcp_mapping_fields fields;
    for (uint32_t i = 0; i < N_NONCES; i++) {
        memset(fields.nonce, 0x5a, sizeof(fields.nonce));
        memcpy(fields.nonce, &i, sizeof(i));
        if (memcmp(fields.nonce, nonce, sizeof(fields.nonce)) == 0)
            return i;
    }
    return N_NONCES;
}

static void withdraw(struct sim *sim, size_t slot, size_t nonce)
{
    sim->disclaimers[slot][nonce].withdrawn_by = sim->number;
    if (sim->promises[slot].made && sim->promises[slot].nonce == nonce)
        sim->promises[slot].made = false;
}

static void want(struct sim *sim, const struct question *question)
{
    struct disclaimer *disclaimer = &sim->disclaimers[question->slot][question->nonce];
    struct promise *promise = &sim->promises[question->slot];
    const struct server_settings *settings = &sim->engine.settings;
    uint64_t lifetime_s = question->lifetime_s;
    if (lifetime_s < settings->lifetime_min_s)
        lifetime_s = settings->lifetime_min_s;
    if (lifetime_s > settings->lifetime_max_s)
        lifetime_s = settings->lifetime_max_s;
    uint64_t until_ns = question->asked_ns + lifetime_s * NS_PER_S;
    if (until_ns < disclaimer->cap_ns)
        disclaimer->cap_ns = until_ns;
    disclaimer->capped_by = question->number;
    disclaimer->wanted_by = question->number;
    disclaimer->is_gone = false;
    if (promise->made && promise->nonce == question->nonce && until_ns < promise->until_ns)
        promise->until_ns = until_ns;
}

static uint64_t first_asked_ns(const struct sim *sim, uint16_t port)
{
    for (size_t i = 0; i < sim->n_outstanding; i++)
        if (sim->outstanding[i].port == port)
            return sim->outstanding[i].asked_ns;
    return sim->engine.now_ns;
}

/* The oracle reads the request as a server would and notes what it could do. */
static void ask(struct sim *sim, uint32_t host, uint16_t port, const uint8_t *data,
                size_t size_bytes)
{
    const struct pcp_capabilities capabilities = {
        .map = true, .announce = true, .prefer_failure = true, .filter = true};
    struct pcp_request *request = &sim->engine.request;
    struct ip_address source = ip_address_from_ipv4(host);
    enum pcp_result result;
    sim->number++;
    enum pcp_verdict verdict =
        pcp_request_decode(data, size_bytes, &source, &capabilities, request, &result);
    if (verdict != PCP_VERDICT_DROP) {
        assert_true(sim->n_outstanding < OUTSTANDING_MAX);
        uint64_t asked_ns = first_asked_ns(sim, port);
        struct question *question = &sim->outstanding[sim->n_outstanding++];
        *question = (struct question){.number = sim->number,
                                      .port = port,
                                      .slot = NO_SLOT,
                                      .nonce = N_NONCES,
                                      .host = host,
                                      .asked_ns = asked_ns,
                                      .zero_ns = zero_of(sim, host)};
        if (verdict == PCP_VERDICT_ACCEPT && request->opcode == PCP_OPCODE_MAP) {
            question->lifetime_s = request->lifetime_s;
            question->nonce = nonce_of(request->mapping.nonce);
            if (question->nonce < N_NONCES)
                question->slot =
                    slot_of(&source, request->mapping.internal_port, request->mapping.protocol);
        }
        if (question->slot != NO_SLOT && question->lifetime_s == 0)
            withdraw(sim, question->slot, question->nonce);
        else if (question->slot != NO_SLOT)
            want(sim, question);
    }
    struct datagram datagram = {
        .source = {source, port},
        .data = (uint8_t *) data,
        .size_bytes = size_bytes,
    };
    server_receive(sim->engine.server, sim->engine.now_ns, &datagram);
}

static void add_random_filter(struct sim *sim)
{
    uint32_t remote = 0x08080800 + (uint32_t) below(sim, 4);
    uint8_t length = below(sim, 4) ? 128 : 0;
    engine_add_filter(&sim->engine, remote, length, 0);
}

static void build_request(struct sim *sim, uint32_t host)
{
    static const uint32_t lifetimes_s[] = {0, 0, 1, 120, 300, 3600, 100000};
    struct engine *engine = &sim->engine;
    /* One random number per statement: in which order arguments are evaluated is the compiler's choice. */
    uint16_t internal_port = (uint16_t) (2000 + below(sim, N_PORTS));
    uint32_t nonce = below(sim, 5) == 0;
    uint32_t lifetime_s = lifetimes_s[below(sim, N_ELEMENTS(lifetimes_s))];
    struct pcp_request *request = engine_map(engine, host, internal_port, nonce, lifetime_s);
    if (below(sim, 2))
        request->mapping.protocol = IPPROTO_TCP;
    if (below(sim, 2))
        request->mapping.external.port =
            (uint16_t) (PORT_FIRST + below(sim, PORT_LAST - PORT_FIRST + 1));
    if (below(sim, 3) == 0)
        request->mapping.external.address =
            ip_address_from_ipv4(ADDRESS_FIRST + (uint32_t) below(sim, N_ADDRESSES));
    bool is_delete = request->lifetime_s == 0 && below(sim, 10);
    if (!is_delete && below(sim, 6) == 0)
        engine_add_option(engine, &(struct pcp_option){.code = PCP_OPTION_PREFER_FAILURE});
    while (!is_delete && below(sim, 4) == 0)
        add_random_filter(sim);
}

static void flip_bit(struct sim *sim)
{
    size_t octet = (size_t) below(sim, sim->last_size_bytes);
    sim->last[octet] ^= (uint8_t) (1 << below(sim, 8));
}

static void step_request(struct sim *sim, bool mutate)
{
    sim->last_host = ENGINE_HOST_A + (uint32_t) below(sim, N_HOSTS);
    build_request(sim, sim->last_host);
    int size = pcp_request_encode(&sim->engine.request, sim->last, sizeof(sim->last));
    assert_true(size > 0);
    sim->last_size_bytes = (size_t) size;
    if (mutate && below(sim, 4) == 0)
        sim->last_size_bytes = (size_t) below(sim, sim->last_size_bytes);
    for (uint64_t n = mutate ? 1 + below(sim, 3) : 0; n > 0 && sim->last_size_bytes > 0; n--)
        flip_bit(sim);
    sim->last_port = (uint16_t) (10000 + sim->number);
    ask(sim, sim->last_host, sim->last_port, sim->last, sim->last_size_bytes);
}

static void step_retransmission(struct sim *sim)
{
    if (sim->last_size_bytes > 0)
        ask(sim, sim->last_host, sim->last_port, sim->last, sim->last_size_bytes);
}

static void step_commit(struct sim *sim)
{
    struct engine *engine = &sim->engine;
    if (!engine->in_flight) {
        engine_seal(engine);
        return;
    }
    static const enum engine_end ends[] = {ENGINE_COMMITS,     ENGINE_COMMITS,
                                           ENGINE_COMMITS,     ENGINE_STORE_FAILS,
                                           ENGINE_KERNEL_FULL, ENGINE_KERNEL_FAILS};
    engine_finish(engine, ends[below(sim, N_ELEMENTS(ends))]);
}

static void step_sleep(struct sim *sim)
{
    static const uint64_t bounds_s[] = {3, 3, 12, 12, 150, 150, 5000};
    engine_sleep_s(&sim->engine, below(sim, bounds_s[below(sim, N_ELEMENTS(bounds_s))]));
}

static void step_crash(struct sim *sim)
{
    struct engine *engine = &sim->engine;
    engine_sleep_s(engine, 1 + below(sim, 20));
    engine_crash(engine, (enum engine_crash) below(sim, 3));
    sim->n_outstanding = 0;
    sim->may_reset = sim->has_crashed = true;
}

static void step_external(struct sim *sim)
{
    uint32_t addresses[N_ADDRESSES];
    size_t n = 0;
    for (uint32_t i = 0; i < N_ADDRESSES; i++)
        if (below(sim, 2))
            addresses[n++] = ADDRESS_FIRST + i;
    engine_sleep_s(&sim->engine, 1);
    sim->may_reset = true;
    engine_set_external(&sim->engine, addresses, n);
}

static int find_any_live(void *context, const struct mapping_record *record)
{
    struct mapping_record *found = context;
    if (record->state == MAPPING_STATE_LIVE)
        *found = *record;
    return record->state == MAPPING_STATE_LIVE;
}

static void step_clear(struct sim *sim)
{
    struct engine *engine = &sim->engine;
    enum server_clear_scope scope = (enum server_clear_scope) below(sim, 3);
    uint32_t host = ENGINE_HOST_A + (uint32_t) below(sim, N_HOSTS);
    struct ip_prefix prefix = {ip_address_from_ipv4(host), 128};
    struct mapping_record target = {0};
    uint64_t tick;
    engine_sleep_s(engine, 1);
    server_for_each_mapping(engine->server, find_any_live, &target);
    sim->number++;
    sim->may_reset = true;
    assert_true(server_clear(engine->server, engine->now_ns, scope, &prefix, target.id, &tick) >=
                0);
}

static void step_settings(struct sim *sim)
{
    struct server_settings *settings = &sim->engine.settings;
    uint16_t shift = (uint16_t) (below(sim, 3) * 10);
    settings->external_ports[0] =
        (struct port_range){(uint16_t) (PORT_FIRST + shift), (uint16_t) (PORT_LAST - 20 + shift)};
    settings->recycle_delay_s = below(sim, 4) ? 120 : 0;
    assert_int_equal(server_set_settings(sim->engine.server, settings), 0);
}

static void step_reset_epoch(struct sim *sim)
{
    engine_sleep_s(&sim->engine, 1);
    sim->may_reset = true;
    server_reset_epoch(sim->engine.server, sim->engine.now_ns);
}

static void step(struct sim *sim)
{
    uint64_t what = below(sim, 100);
    if (what < 45)
        step_request(sim, false);
    else if (what < 50)
        step_request(sim, true);
    else if (what < 55)
        step_retransmission(sim);
    else if (what < 75)
        step_commit(sim);
    else if (what < 80)
        engine_settle(&sim->engine);
    else if (what < 92)
        step_sleep(sim);
    else if (what < 94)
        step_crash(sim);
    else if (what < 96)
        step_external(sim);
    else if (what < 98)
        step_clear(sim);
    else if (what < 99)
        step_settings(sim);
    else if (below(sim, 4) == 0)
        step_reset_epoch(sim);
    server_advance(sim->engine.server, sim->engine.now_ns);
}

static void take_promise(struct sim *sim, const struct question *question,
                         const struct pcp_response *response)
{
    struct disclaimer *disclaimer = &sim->disclaimers[question->slot][question->nonce];
    if (question->number < disclaimer->withdrawn_by)
        return;
    uint64_t until_ns = question->asked_ns + (response->lifetime_s - 1) * NS_PER_S;
    if (question->number < disclaimer->capped_by && disclaimer->cap_ns < until_ns)
        until_ns = disclaimer->cap_ns;
    if (question->number >= disclaimer->capped_by)
        disclaimer->cap_ns = UINT64_MAX;
    sim->promises[question->slot] = (struct promise){
        .made = true,
        .nonce = question->nonce,
        .external = response->mapping.external,
        .until_ns = until_ns,
        .zero_ns = question->zero_ns,
    };
}

/*
 * The question of an answer. Of a retransmission it may be answered sooner than of what it repeats, so the one that fits best is
 * taken.
 */
static struct question take_question(struct sim *sim, uint16_t port, uint64_t zero_ns)
{
    size_t found = sim->n_outstanding;
    for (size_t i = sim->n_outstanding; i-- > 0;)
        if (sim->outstanding[i].port == port &&
            (found == sim->n_outstanding || sim->outstanding[i].zero_ns == zero_ns ||
             sim->outstanding[found].zero_ns != zero_ns))
            found = i;
    if (found == sim->n_outstanding)
        fail_msg("an answer to no request");
    struct question question = sim->outstanding[found];
    memmove(&sim->outstanding[found], &sim->outstanding[found + 1],
            (--sim->n_outstanding - found) * sizeof(sim->outstanding[0]));
    return question;
}

static void check_answer(struct sim *sim, size_t index)
{
    const struct engine_answer *answer = &sim->engine.answers[index];
    uint8_t result = answer->data[3];
    struct reader header = reader_init(answer->data, answer->size_bytes);
    reader_skip(&header, 8);
    uint64_t zero_ns = sim->engine.now_ns - reader_u32(&header) * NS_PER_S;
    struct question question = take_question(sim, answer->to.port, zero_ns);
    if (zero_ns != question.zero_ns &&
        (result == PCP_RESULT_SUCCESS || zero_ns != zero_of(sim, question.host)))
        fail_msg("an answer tells an Epoch that is not its client's");
    if (result != PCP_RESULT_SUCCESS || question.slot == NO_SLOT)
        return;
    struct disclaimer *disclaimer = &sim->disclaimers[question.slot][question.nonce];
    if (question.lifetime_s == 0)
        disclaimer->is_gone = disclaimer->wanted_by < question.number;
    else
        take_promise(sim, &question, engine_answer(&sim->engine, index));
}

struct scan {
    struct sim *sim;
    const struct mapping_record *live[N_SLOTS];
    bool taken[N_ADDRESSES][5][PORT_LAST - PORT_FIRST + 1];
    unsigned int n_live[N_HOSTS], n_held[N_HOSTS];
};

/* Mutated requests reach the less usual protocols too. */
static size_t index_of_protocol(uint8_t protocol)
{
    static const uint8_t protocols[] = {IPPROTO_UDP, IPPROTO_TCP, IPPROTO_SCTP, IPPROTO_DCCP,
                                        IPPROTO_UDPLITE};
    size_t i = 0;
    while (i < N_ELEMENTS(protocols) && protocols[i] != protocol)
        i++;
    assert_true(i < N_ELEMENTS(protocols));
    return i;
}

static int scan_record(void *context, const struct mapping_record *record)
{
    struct scan *scan = context;
    uint32_t address = ip_address_to_ipv4(&record->external_address) - ADDRESS_FIRST;
    uint32_t host = ip_address_to_ipv4(&record->internal_address) - ENGINE_HOST_A;
    if (address >= N_ADDRESSES || host >= N_HOSTS || record->external_port < PORT_FIRST ||
        record->external_port > PORT_LAST)
        fail_msg("a mapping where none can be");
    bool *taken = &scan->taken[address][index_of_protocol(record->protocol)]
                              [record->external_port - PORT_FIRST];
    if (*taken)
        fail_msg("two mappings share an external endpoint");
    *taken = true;
    size_t slot = slot_of(&record->internal_address, record->internal_port, record->protocol);
    if (record->state != MAPPING_STATE_LIVE) {
        scan->n_held[host]++;
        return 0;
    }
    scan->n_live[host]++;
    if (slot == NO_SLOT)
        return 0;
    if (scan->live[slot])
        fail_msg("two live mappings of one internal endpoint");
    scan->live[slot] = record;
    return 0;
}

static bool is_kept(const struct sim *sim, const struct promise *promise,
                    const struct mapping_record *record)
{
    return record && nonce_of(record->nonce) == promise->nonce &&
           record->external_port == promise->external.port &&
           ip_address_equal(&record->external_address, &promise->external.address) &&
           memory_store_contains(sim->engine.store, record->id) &&
           memory_nat_timeout_ns(sim->engine.nat, record->id) >= promise->until_ns;
}

static void check_promises(struct sim *sim, const struct scan *scan)
{
    for (size_t slot = 0; slot < N_SLOTS; slot++) {
        struct promise *promise = &sim->promises[slot];
        if (!promise->made)
            continue;
        if (promise->until_ns <= sim->engine.now_ns)
            promise->made = false;
        else if (!is_kept(sim, promise, scan->live[slot])) {
            if (zero_of(sim, host_of_slot(slot)) <= promise->zero_ns)
                fail_msg("a promised mapping is gone, and its owner's Epoch goes on");
            promise->made = false;
        }
    }
}

/* What was deleted stays so until somebody wants it again. */
static void check_deleted(const struct sim *sim, const struct scan *scan)
{
    for (size_t slot = 0; slot < N_SLOTS; slot++) {
        const struct mapping_record *record = scan->live[slot];
        size_t nonce = record ? nonce_of(record->nonce) : N_NONCES;
        if (nonce < N_NONCES && sim->disclaimers[slot][nonce].is_gone)
            fail_msg("a mapping is there whose delete was answered");
    }
}

static void check_epochs(struct sim *sim)
{
    for (uint32_t host = 0; host < N_HOSTS; host++) {
        uint64_t zero_ns = zero_of(sim, ENGINE_HOST_A + host);
        bool is_new = zero_ns == sim->engine.now_ns && sim->may_reset;
        bool is_older = sim->has_crashed && zero_ns >= sim->stable_zero_ns[host] &&
                        zero_ns <= sim->zero_ns[host];
        if (zero_ns != sim->zero_ns[host] && !is_new && !is_older)
            fail_msg("an Epoch changed without reason");
        sim->zero_ns[host] = zero_ns;
    }
    sim->has_crashed = false;
}

static int check_overdue(void *context, const struct mapping_record *record)
{
    const struct sim *sim = context;
    bool is_active = sim->engine.n_external == 0;
    for (size_t i = 0; i < sim->engine.n_external; i++)
        is_active |= ip_address_equal(&sim->engine.external[i], &record->external_address);
    if (record->expires_ns <= sim->engine.now_ns)
        fail_msg("a mapping outlived its lifetime");
    if (!is_active)
        fail_msg("a mapping was left on an address that is gone");
    return 0;
}

/* Nothing decided and not committed. */
static void check_at_rest(struct sim *sim)
{
    struct engine *engine = &sim->engine;
    const char *fault = engine_inconsistency(engine);
    if (fault)
        fail_msg("%s", fault);
    if (sim->n_outstanding > 0)
        fail_msg("a request was not answered");
    if (server_next_deadline_ns(engine->server) <= engine->now_ns)
        fail_msg("at rest, but something is said to be due");
    if (engine->store_owed || server_next_deadline_ns(engine->server) <= engine->now_ns + NS_PER_S)
        return;
    /* At rest altogether: no retry is waiting. */
    server_for_each_mapping(engine->server, check_overdue, sim);
    memcpy(sim->stable_zero_ns, sim->zero_ns, sizeof(sim->zero_ns));
    sim->may_reset = false;
}

static void check(struct sim *sim)
{
    static struct scan scan;
    struct engine *engine = &sim->engine;
    memset(&scan, 0, sizeof(scan));
    scan.sim = sim;
    size_t n = engine_collect(engine);
    assert_true(n <= ENGINE_ANSWERS_MAX);
    for (size_t i = 0; i < n; i++)
        check_answer(sim, i);
    check_epochs(sim);
    server_for_each_mapping(engine->server, scan_record, &scan);
    for (size_t host = 0; host < N_HOSTS; host++)
        if (scan.n_live[host] > QUOTA || scan.n_held[host] > QUOTA)
            fail_msg("over quota");
    check_promises(sim, &scan);
    check_deleted(sim, &scan);
    if (!engine->in_flight && !server_wants_commit(engine->server, engine->now_ns))
        check_at_rest(sim);
}

static void run(uint64_t seed)
{
    static struct sim sim;
    struct server_settings settings = engine_settings();
    settings.external_ports[0] = (struct port_range){PORT_FIRST, PORT_LAST - 20};
    settings.mappings_per_subscriber = QUOTA;
    memset(&sim, 0, sizeof(sim));
    sim.random = random_seeded(seed);
    now_running.seed = seed;
    now_running.running = true;
    engine_start(&sim.engine, &settings, seed + 1);
    for (size_t slot = 0; slot < N_SLOTS; slot++)
        for (size_t nonce = 0; nonce < N_NONCES; nonce++)
            sim.disclaimers[slot][nonce].cap_ns = UINT64_MAX;
    for (size_t host = 0; host < N_HOSTS; host++)
        sim.zero_ns[host] = sim.stable_zero_ns[host] = sim.engine.now_ns;
    for (now_running.step = 0; now_running.step < N_STEPS; now_running.step++) {
        step(&sim);
        check(&sim);
    }
    /* Invariant 5: with nobody asking, everything is gone in the end. */
    engine_settle(&sim.engine);
    check(&sim);
    for (int i = 0; i < 3; i++) {
        engine_sleep_s(&sim.engine, 100000);
        engine_settle(&sim.engine);
        check(&sim);
    }
    assert_int_equal(engine_n_live(&sim.engine) + engine_n_held(&sim.engine), 0);
    assert_int_equal(memory_store_count(sim.engine.store), 0);
    assert_int_equal(memory_nat_count(sim.engine.nat), 0);
    engine_stop(&sim.engine);
    now_running.running = false;
}

static void print_seed(void)
{
    char text[128];
    int size =
        snprintf(text, sizeof(text), "failed at step %u: replay with HOLDFAST_SIM_SEED=%llu\n",
                 now_running.step, (unsigned long long) now_running.seed);
    if (write(STDERR_FILENO, text, (size_t) size) < 0)
        return;
}

static void on_abort(int signal_number)
{
    print_seed();
    signal(signal_number, SIG_DFL);
    raise(signal_number);
}

static int teardown(void **state)
{
    (void) state;
    if (now_running.running)
        print_seed();
    return 0;
}

static void test_random_seeds_keep_the_invariants(void **state)
{
    (void) state;
    const char *one = getenv("HOLDFAST_SIM_SEED"), *many = getenv("HOLDFAST_SIM_SEEDS");
    uint64_t first = one ? strtoull(one, NULL, 10) : 0;
    uint64_t n = one ? 1 : many ? strtoull(many, NULL, 10) : N_SEEDS;
    for (uint64_t seed = first; seed < first + n; seed++)
        run(seed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_random_seeds_keep_the_invariants, teardown),
    };

    signal(SIGABRT, on_abort);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
