/*
 * The server engine under random requests of both protocols, faults, crashes, operators and other settings, against an
 * oracle that believes only the answers it was sent (oracle.c).
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

#include "oracle.h"

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

static struct {
    uint64_t seed;
    unsigned int step;
    bool running;
} now_running;

static uint64_t below(struct sim *sim, uint64_t bound)
{
    return random_below(&sim->random, bound);
}
static void add_random_filter(struct sim *sim)
{
    uint32_t remote = 0x08080800 + (uint32_t) below(sim, 4);
    uint8_t length = below(sim, 4) ? 128 : 0;
    engine_add_filter(&sim->engine, remote, length, 0);
}

static const uint32_t lifetimes_s[] = {0, 0, 1, 120, 300, 3600, 100000};

static void choose_suggestion(struct sim *sim, struct pcp_request *request)
{
    if (below(sim, 2))
        request->mapping.external.port =
            (uint16_t) (PORT_FIRST + below(sim, PORT_LAST - PORT_FIRST + 1));
    if (below(sim, 3) == 0)
        request->mapping.external.address =
            ip_address_from_ipv4(ADDRESS_FIRST + (uint32_t) below(sim, N_ADDRESSES));
}

static void choose_options(struct sim *sim, uint32_t host)
{
    struct engine *engine = &sim->engine;
    const struct pcp_request *request = &engine->request;
    if (host == MANAGER && below(sim, 2)) {
        struct ip_address internal = oracle_address((uint32_t) below(sim, N_HOSTS));
        struct pcp_option option = {.code = PCP_OPTION_THIRD_PARTY, .third_party = internal};
        engine_add_option(engine, &option);
    }
    bool is_delete = request->lifetime_s == 0 && below(sim, 10);
    if (is_delete || request->opcode == PCP_OPCODE_PEER)
        return;
    if (below(sim, 6) == 0)
        engine_add_option(engine, &(struct pcp_option){.code = PCP_OPTION_PREFER_FAILURE});
    while (host < N_HOSTS_IPV4 && below(sim, 4) == 0)
        add_random_filter(sim);
}

static size_t build_pcp(struct sim *sim, uint32_t host, uint8_t *ret_data)
{
    struct engine *engine = &sim->engine;
    struct ip_address address = oracle_address(host);
    /* One random number per statement: in which order arguments are evaluated is the compiler's choice. */
    uint16_t internal_port = oracle_port((size_t) below(sim, N_PORTS));
    uint32_t nonce = below(sim, 5) == 0;
    uint32_t lifetime_s = lifetimes_s[below(sim, N_ELEMENTS(lifetimes_s))];
    uint8_t protocol = oracle_protocols[below(sim, 2)];
    size_t remote = (size_t) below(sim, 6);
    struct pcp_request *request = engine_map_of(engine, &address, internal_port, nonce, lifetime_s);
    request->mapping.protocol = protocol;
    if (internal_port == 0 && below(sim, 2))
        request->mapping.protocol = 0;
    if (remote == 1 || remote == 2) {
        request->opcode = PCP_OPCODE_PEER;
        request->mapping.remote = (struct endpoint){oracle_remote(host, remote), 443};
    }
    if (host < N_HOSTS_IPV4)
        choose_suggestion(sim, request);
    choose_options(sim, host);
    int size = pcp_request_encode(request, ret_data, PCP_SIZE_MAX);
    assert_true(size > 0);
    return (size_t) size;
}

static size_t build_natpmp(struct sim *sim, uint8_t *ret_data)
{
    struct natpmp_request request = {.opcode = (uint8_t) below(sim, 3)};
    request.internal_port = oracle_port((size_t) below(sim, N_PORTS));
    request.external_port = (uint16_t) (PORT_FIRST + below(sim, PORT_LAST - PORT_FIRST + 1));
    request.lifetime_s = lifetimes_s[below(sim, N_ELEMENTS(lifetimes_s))];
    int size = natpmp_request_encode(&request, ret_data, 16);
    assert_true(size > 0);
    return (size_t) size;
}

static void flip_bit(struct sim *sim)
{
    size_t octet = (size_t) below(sim, sim->last_size_bytes);
    sim->last[octet] ^= (uint8_t) (1 << below(sim, 8));
}

static void step_request(struct sim *sim, bool mutate)
{
    sim->last_host = (uint32_t) below(sim, N_HOSTS);
    bool is_natpmp = sim->last_host < N_HOSTS_IPV4 && below(sim, 4) == 0;
    sim->last_size_bytes =
        is_natpmp ? build_natpmp(sim, sim->last) : build_pcp(sim, sim->last_host, sim->last);
    if (mutate && below(sim, 4) == 0)
        sim->last_size_bytes = (size_t) below(sim, sim->last_size_bytes);
    for (uint64_t n = mutate ? 1 + below(sim, 3) : 0; n > 0 && sim->last_size_bytes > 0; n--)
        flip_bit(sim);
    sim->last_port = (uint16_t) (10000 + sim->number);
    oracle_ask(sim, sim->last_host, sim->last_port, sim->last, sim->last_size_bytes);
}

static void step_retransmission(struct sim *sim)
{
    if (sim->last_size_bytes > 0)
        oracle_ask(sim, sim->last_host, sim->last_port, sim->last, sim->last_size_bytes);
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
    /* Where static mappings were is not stored: over a crash nobody is told that one moved. */
    for (size_t slot = 0; slot < N_SLOTS; slot++)
        sim->promises[slot].made &= !sim->promises[slot].is_static;
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
    struct ip_prefix prefix = {oracle_address((uint32_t) below(sim, N_HOSTS)), 128};
    struct mapping_record target = {0};
    uint64_t tick;
    engine_sleep_s(engine, 1);
    server_for_each_mapping(engine->server, find_any_live, &target);
    sim->number++;
    sim->may_reset = true;
    assert_true(server_clear(engine->server, engine->now_ns, scope, &prefix, target.id, &tick) >=
                0);
}

static void choose_statics(struct sim *sim, struct server_settings *settings)
{
    settings->n_statics = (size_t) below(sim, 3);
    for (size_t i = 0; i < settings->n_statics; i++) {
        struct server_static *item = &settings->statics[i];
        uint32_t host = (uint32_t) below(sim, N_HOSTS);
        item->internal =
            (struct endpoint){oracle_address(host), oracle_port((size_t) below(sim, N_PORTS))};
        item->protocol = oracle_protocols[below(sim, 2)];
        item->external = (struct endpoint){.port = item->internal.port};
        if (host < N_HOSTS_IPV4 && item->internal.port != 0)
            item->external.port = (uint16_t) (PORT_FIRST + below(sim, 5));
        if (host < N_HOSTS_IPV4 && below(sim, 2))
            item->external.address =
                ip_address_from_ipv4(ADDRESS_FIRST + (uint32_t) below(sim, N_ADDRESSES));
    }
}

static void step_settings(struct sim *sim)
{
    struct server_settings *settings = &sim->engine.settings;
    uint16_t shift = (uint16_t) (below(sim, 3) * 10);
    settings->external_ports[0] =
        (struct port_range){(uint16_t) (PORT_FIRST + shift), (uint16_t) (PORT_LAST - 20 + shift)};
    settings->recycle_delay_s = below(sim, 4) ? 120 : 0;
    settings->natpmp = below(sim, 4);
    settings->peer = below(sim, 4);
    settings->whole_ports = below(sim, 2);
    settings->nonce_policy = below(sim, 4) ? SERVER_NONCE_STRICT : SERVER_NONCE_ADOPT_SAME_HOST;
    settings->internal_prefixes[0].length = below(sim, 4) ? 104 : 127;
    if (below(sim, 3) == 0) {
        settings->subscriber_length_ipv4 = below(sim, 2) ? 128 : 126;
        settings->subscriber_length_ipv6 = below(sim, 2) ? 128 : 64;
        sim->lengths_changed = true;
    }
    choose_statics(sim, settings);
    engine_sleep_s(&sim->engine, 1);
    sim->may_reset = true;
    int r = server_set_settings(sim->engine.server, sim->engine.now_ns, settings);
    assert_true(r == 0 || r == -EADDRINUSE); /* two static ones for the same place */
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
static void run(uint64_t seed)
{
    static struct sim sim;
    struct server_settings settings = engine_settings();
    settings.external_ports[0] = (struct port_range){PORT_FIRST, PORT_LAST - 20};
    settings.mappings_per_subscriber = QUOTA;
    settings.natpmp = settings.peer = settings.whole_ports = true;
    settings.internal_prefixes[1] = (struct ip_prefix){{{0x20, 0x01, 0x0d, 0xb8}}, 32};
    settings.n_internal_prefixes = 2;
    settings.third_parties[0] =
        (struct server_third_party){.source = {oracle_address(MANAGER), 128},
                                    .target = {ip_address_from_ipv4(0x0a000000), 104}};
    settings.n_third_parties = 1;
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
        oracle_check(&sim);
    }
    /* Invariant 5: with nobody asking, everything is gone in the end. */
    engine_settle(&sim.engine);
    oracle_check(&sim);
    sim.engine.settings.n_statics = 0;
    engine_sleep_s(&sim.engine, 1);
    sim.may_reset = true;
    assert_int_equal(
        server_set_settings(sim.engine.server, sim.engine.now_ns, &sim.engine.settings), 0);
    engine_settle(&sim.engine);
    oracle_check(&sim);
    for (int i = 0; i < 3; i++) {
        engine_sleep_s(&sim.engine, 100000);
        engine_settle(&sim.engine);
        oracle_check(&sim);
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

/* [R-6887-15.1-5] */
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
