/* See the header. What holdfastd does around the engine is done here in the same order, in one thread and one go. */

#include "engine.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "base/time.h"

struct server_settings engine_settings(void)
{
    struct server_settings settings = {
        .external_ports = {{1024, 32767}},
        .n_external_ports = 1,
        .internal_prefixes = {{ip_address_from_ipv4(0x0a000000), 104}},
        .n_internal_prefixes = 1,
        .lifetime_min_s = 120,
        .lifetime_max_s = 86400,
        .mappings_per_subscriber = 16,
        .mappings_total = 1000,
        .filters_per_mapping = 4,
        .recycle_delay_s = 120,
        .prefer_failure = true,
    };
    return settings;
}

struct load {
    struct engine *engine;
    struct store_clock clock;
};

static int load_clock(void *context, const struct store_clock *clock)
{
    struct load *load = context;
    load->clock = *clock;
    return 0;
}

static int load_mapping(void *context, const struct mapping_record *record)
{
    struct load *load = context;
    return server_restore_mapping(load->engine->server, record);
}

static int load_epoch(void *context, const struct store_epoch *epoch)
{
    struct load *load = context;
    return server_restore_epoch(load->engine->server, epoch);
}

struct live_list {
    const struct mapping_record **items;
    size_t n_items;
};

static int collect_live(void *context, const struct mapping_record *record)
{
    struct live_list *list = context;
    if (record->state == MAPPING_STATE_LIVE)
        list->items[list->n_items++] = record;
    return 0;
}

static void reconcile(struct engine *engine)
{
    struct nat_settings settings = {.grace_s = 30};
    size_t n_live, n_held, n_subscribers;
    server_count(engine->server, &n_live, &n_held, &n_subscribers);
    struct live_list list = {.items = calloc(n_live + 1, sizeof(struct mapping_record *))};
    assert_non_null(list.items);
    server_for_each_mapping(engine->server, collect_live, &list);
    assert_int_equal(
        nat_reconcile(engine->nat, &settings, list.items, list.n_items, engine->now_ns), 0);
    free(list.items);
}

static void start_server(struct engine *engine)
{
    struct load load = {.engine = engine, .clock = {.epoch_zero_ns = engine->now_ns, .next_id = 1}};
    const struct store_load_handler handler = {
        .clock = load_clock, .mapping = load_mapping, .epoch = load_epoch, .context = &load};
    engine->server = server_new(&engine->settings, &engine->random);
    assert_non_null(engine->server);
    int r = store_load(engine->store, &handler);
    assert_true(r == 0 || r == -ENODATA);
    server_start(engine->server, load.clock.epoch_zero_ns, load.clock.next_id);
    assert_int_equal(server_set_external_addresses(engine->server, engine->now_ns, engine->external,
                                                   engine->n_external),
                     0);
    server_stamp_clock(engine->server);
    assert_true(engine_seal(engine));
    assert_int_equal(store_commit(engine->store, &engine->commit.store), 0);
    server_complete(engine->server, engine->now_ns, SERVER_OUTCOME_DONE);
    engine->in_flight = false;
    engine->store_owed = false;
    reconcile(engine);
}

void engine_start(struct engine *engine, const struct server_settings *settings, uint64_t seed)
{
    memset(engine, 0, offsetof(struct engine, answers));
    engine->n_answers = engine->n_notices = 0;
    engine->client_port = 0;
    engine->settings = *settings;
    engine->random = random_seeded(seed);
    engine->now_ns = ENGINE_START_NS;
    engine->store = memory_store_new();
    engine->nat = memory_nat_new();
    assert_true(engine->store && engine->nat);
    engine->external[0] = ip_address_from_ipv4(ENGINE_EXTERNAL);
    engine->n_external = 1;
    start_server(engine);
}

void engine_stop(struct engine *engine)
{
    server_free(engine->server);
    nat_close(engine->nat);
    store_close(engine->store);
}

void engine_crash(struct engine *engine, enum engine_crash how)
{
    if (engine->in_flight && how != ENGINE_CRASH_BEFORE_STORE)
        assert_int_equal(store_commit(engine->store, &engine->commit.store), 0);
    if (engine->in_flight && how == ENGINE_CRASH_AFTER_KERNEL)
        assert_int_equal(nat_apply(engine->nat, engine->commit.changes, engine->commit.n_changes,
                                   engine->now_ns),
                         0);
    server_free(engine->server);
    engine->in_flight = false;
    start_server(engine);
}

void engine_sleep_s(struct engine *engine, uint64_t seconds)
{
    engine->now_ns += seconds * NS_PER_S;
}

void engine_set_external(struct engine *engine, const uint32_t *addresses, size_t n_addresses)
{
    assert_true(n_addresses <= sizeof(engine->external) / sizeof(engine->external[0]));
    for (size_t i = 0; i < n_addresses; i++)
        engine->external[i] = ip_address_from_ipv4(addresses[i]);
    engine->n_external = n_addresses;
    assert_int_equal(server_set_external_addresses(engine->server, engine->now_ns, engine->external,
                                                   engine->n_external),
                     0);
}

bool engine_seal(struct engine *engine)
{
    assert_false(engine->in_flight);
    engine->in_flight = server_seal(engine->server, engine->now_ns, &engine->commit);
    if (!engine->in_flight)
        return false;
    engine->commit.clock.service_ns = engine->now_ns;
    engine->commit.store.clock = &engine->commit.clock;
    return true;
}

static enum server_outcome carry_out(struct engine *engine, enum engine_end end)
{
    const struct server_commit *commit = &engine->commit;
    memory_store_fail_next(engine->store, end == ENGINE_STORE_FAILS, -EIO);
    if (store_commit(engine->store, &commit->store) < 0)
        return SERVER_OUTCOME_STORE_FAILED;
    engine->store_owed = false;
    if (commit->n_changes == 0)
        return SERVER_OUTCOME_DONE;
    int error = end == ENGINE_KERNEL_FULL ? -ENOSPC : -EPERM;
    memory_nat_fail_next(engine->nat, end == ENGINE_KERNEL_FULL || end == ENGINE_KERNEL_FAILS,
                         error);
    int r = nat_apply(engine->nat, commit->changes, commit->n_changes, engine->now_ns);
    if (r == 0)
        return SERVER_OUTCOME_DONE;
    assert_int_equal(r, error);
    engine->store_owed = true;
    return r == -ENOSPC ? SERVER_OUTCOME_KERNEL_FULL : SERVER_OUTCOME_KERNEL_FAILED;
}

void engine_finish(struct engine *engine, enum engine_end end)
{
    assert_true(engine->in_flight);
    enum server_outcome outcome = carry_out(engine, end);
    engine->in_flight = false;
    server_complete(engine->server, engine->now_ns, outcome);
}

void engine_settle(struct engine *engine)
{
    if (engine->in_flight)
        engine_finish(engine, ENGINE_COMMITS);
    server_advance(engine->server, engine->now_ns);
    unsigned int n_turns = 0;
    while (server_wants_commit(engine->server, engine->now_ns)) {
        if (engine_seal(engine))
            engine_finish(engine, ENGINE_COMMITS);
        server_advance(engine->server, engine->now_ns);
        assert_true(++n_turns < 100);
    }
}

void engine_run_ms(struct engine *engine, uint64_t milliseconds)
{
    uint64_t until_ns = engine->now_ns + milliseconds * NS_PER_MS;
    for (;;) {
        engine_settle(engine);
        engine_collect(engine);
        uint64_t at_ns = server_next_deadline_ns(engine->server);
        if (at_ns <= engine->now_ns)
            fail_msg("settled, but something is said to be due");
        if (at_ns > until_ns)
            break;
        engine->now_ns = at_ns;
    }
    engine->now_ns = until_ns;
}

void engine_forget(struct engine *engine)
{
    engine->n_notices = 0;
}

static void take_datagram(struct engine *engine, const struct datagram *datagram,
                          struct engine_answer *list, size_t n_max, size_t *n)
{
    if (*n < n_max) {
        struct engine_answer *answer = &list[*n];
        assert_true(datagram->size_bytes <= sizeof(answer->data));
        answer->to = datagram->destination;
        answer->at_ns = engine->now_ns;
        answer->size_bytes = datagram->size_bytes;
        memcpy(answer->data, datagram->data, answer->size_bytes);
    }
    ++*n;
}

/* Requests come to port 5351 here, so what does not come from there answers none. */
size_t engine_collect(struct engine *engine)
{
    const struct datagram *datagrams = NULL;
    size_t n = server_outbox(engine->server, &datagrams);
    engine->n_answers = 0;
    for (size_t i = 0; i < n; i++) {
        if (datagrams[i].source.port == PCP_SERVER_PORT)
            take_datagram(engine, &datagrams[i], engine->answers, ENGINE_ANSWERS_MAX,
                          &engine->n_answers);
        else
            take_datagram(engine, &datagrams[i], engine->notices, ENGINE_NOTICES_MAX,
                          &engine->n_notices);
    }
    server_outbox_clear(engine->server);
    return engine->n_answers;
}

const struct pcp_response *engine_answer(struct engine *engine, size_t index)
{
    assert_true(index < engine->n_answers && index < ENGINE_ANSWERS_MAX);
    const struct engine_answer *answer = &engine->answers[index];
    assert_int_equal(pcp_response_decode(answer->data, answer->size_bytes, &engine->response), 0);
    return &engine->response;
}

const struct pcp_response *engine_notice(struct engine *engine, size_t index)
{
    assert_true(index < engine->n_notices && index < ENGINE_NOTICES_MAX);
    const struct engine_answer *notice = &engine->notices[index];
    assert_int_equal(pcp_response_decode(notice->data, notice->size_bytes, &engine->response), 0);
    return &engine->response;
}

struct pcp_request *engine_map(struct engine *engine, uint32_t host, uint16_t internal_port,
                               uint32_t nonce, uint32_t lifetime_s)
{
    struct ip_address address = ip_address_from_ipv4(host);
    return engine_map_of(engine, &address, internal_port, nonce, lifetime_s);
}

struct pcp_request *engine_peer_of(struct engine *engine, const struct ip_address *address,
                                   uint16_t internal_port, const struct endpoint *remote,
                                   uint32_t nonce, uint32_t lifetime_s)
{
    struct pcp_request *request = engine_map_of(engine, address, internal_port, nonce, lifetime_s);
    request->opcode = PCP_OPCODE_PEER;
    request->mapping.remote = *remote;
    return request;
}

struct pcp_request *engine_map_of(struct engine *engine, const struct ip_address *address,
                                  uint16_t internal_port, uint32_t nonce, uint32_t lifetime_s)
{
    struct pcp_request *request = &engine->request;
    memset(request, 0, offsetof(struct pcp_request, options));
    request->opcode = PCP_OPCODE_MAP;
    request->lifetime_s = lifetime_s;
    request->client_address = *address;
    memset(request->mapping.nonce, 0x5a, sizeof(request->mapping.nonce));
    memcpy(request->mapping.nonce, &nonce, sizeof(nonce));
    request->mapping.protocol = IPPROTO_UDP;
    request->mapping.internal_port = internal_port;
    request->mapping.external.address =
        ip_address_is_ipv4(address) ? IP_ADDRESS_ANY_IPV4 : IP_ADDRESS_ANY_IPV6;
    return request;
}

void engine_add_option(struct engine *engine, const struct pcp_option *option)
{
    assert_true(engine->request.n_options < PCP_OPTIONS_MAX);
    engine->request.options[engine->request.n_options++] = *option;
}

void engine_add_filter(struct engine *engine, uint32_t address, uint8_t length, uint16_t port)
{
    struct pcp_option option = {
        .code = PCP_OPTION_FILTER,
        .filter = {.remote = {ip_address_from_ipv4(address), length}, .remote_port = port},
    };
    engine_add_option(engine, &option);
}

void engine_send_octets_of(struct engine *engine, const struct ip_address *address,
                           const void *data, size_t size_bytes)
{
    /* A copy of just this size, so that the sanitizer sees a read behind its end. */
    uint8_t *octets = malloc(size_bytes > 0 ? size_bytes : 1);
    assert_non_null(octets);
    memcpy(octets, data, size_bytes);
    struct datagram datagram = {
        .source = {*address, engine->client_port ? engine->client_port : 40000},
        .destination = {ip_address_from_ipv4(0x0a000001), PCP_SERVER_PORT},
        .interface_index = 2,
        .data = octets,
        .size_bytes = size_bytes,
    };
    server_receive(engine->server, engine->now_ns, &datagram);
    free(octets);
}

void engine_send_octets(struct engine *engine, uint32_t host, const void *data, size_t size_bytes)
{
    struct ip_address address = ip_address_from_ipv4(host);
    engine_send_octets_of(engine, &address, data, size_bytes);
}

void engine_send_of(struct engine *engine, const struct ip_address *address)
{
    uint8_t octets[PCP_SIZE_MAX];
    int size = pcp_request_encode(&engine->request, octets, sizeof(octets));
    assert_true(size > 0);
    engine_send_octets_of(engine, address, octets, (size_t) size);
}

void engine_send(struct engine *engine, uint32_t host)
{
    struct ip_address address = ip_address_from_ipv4(host);
    engine_send_of(engine, &address);
}

const struct pcp_response *engine_ask_of(struct engine *engine, const struct ip_address *address)
{
    engine_send_of(engine, address);
    engine_settle(engine);
    assert_int_equal(engine_collect(engine), 1);
    return engine_answer(engine, 0);
}

const struct pcp_response *engine_ask(struct engine *engine, uint32_t host)
{
    struct ip_address address = ip_address_from_ipv4(host);
    return engine_ask_of(engine, &address);
}

void engine_send_natpmp(struct engine *engine, uint32_t host, const struct natpmp_request *request)
{
    uint8_t octets[16];
    int size = natpmp_request_encode(request, octets, sizeof(octets));
    assert_true(size > 0);
    engine_send_octets(engine, host, octets, (size_t) size);
}

const struct natpmp_response *engine_natpmp_answer(struct engine *engine, size_t index)
{
    assert_true(index < engine->n_answers && index < ENGINE_ANSWERS_MAX);
    const struct engine_answer *answer = &engine->answers[index];
    assert_int_equal(natpmp_response_decode(answer->data, answer->size_bytes, &engine->natpmp), 0);
    return &engine->natpmp;
}

const struct natpmp_response *engine_ask_natpmp(struct engine *engine, uint32_t host,
                                                const struct natpmp_request *request)
{
    engine_send_natpmp(engine, host, request);
    engine_settle(engine);
    assert_int_equal(engine_collect(engine), 1);
    return engine_natpmp_answer(engine, 0);
}

uint16_t engine_create(struct engine *engine, uint32_t host, uint16_t internal_port, uint32_t nonce,
                       uint32_t lifetime_s)
{
    engine_map(engine, host, internal_port, nonce, lifetime_s);
    const struct pcp_response *response = engine_ask(engine, host);
    assert_int_equal(response->result, PCP_RESULT_SUCCESS);
    return response->mapping.external.port;
}

void engine_delete(struct engine *engine, uint32_t host, uint16_t internal_port, uint32_t nonce)
{
    engine_map(engine, host, internal_port, nonce, 0);
    const struct pcp_response *response = engine_ask(engine, host);
    assert_int_equal(response->result, PCP_RESULT_SUCCESS);
    assert_int_equal(response->lifetime_s, 0);
}

size_t engine_n_live(const struct engine *engine)
{
    size_t n_live, n_held, n_subscribers;
    server_count(engine->server, &n_live, &n_held, &n_subscribers);
    return n_live;
}

size_t engine_n_held(const struct engine *engine)
{
    size_t n_live, n_held, n_subscribers;
    server_count(engine->server, &n_live, &n_held, &n_subscribers);
    return n_held;
}

uint32_t engine_epoch_s(const struct engine *engine, uint32_t host)
{
    struct ip_address address = ip_address_from_ipv4(host);
    return server_epoch_s(engine->server, engine->now_ns, &address);
}

uint32_t engine_epoch_of(const struct engine *engine, const struct ip_address *address)
{
    return server_epoch_s(engine->server, engine->now_ns, address);
}

struct search {
    struct ip_address internal_address;
    uint16_t internal_port;
    uint8_t protocol;
    enum mapping_kind kind; /* 0: any */
    struct mapping_record *found;
};

static int match_internal(void *context, const struct mapping_record *record)
{
    struct search *search = context;
    if (record->state != MAPPING_STATE_LIVE || record->internal_port != search->internal_port ||
        record->protocol != search->protocol ||
        (search->kind != 0 && record->kind != search->kind) ||
        !ip_address_equal(&record->internal_address, &search->internal_address))
        return 0;
    *search->found = *record;
    return 1;
}

bool engine_find(const struct engine *engine, uint32_t host, uint16_t internal_port,
                 struct mapping_record *ret_record)
{
    struct search search = {ip_address_from_ipv4(host), internal_port, IPPROTO_UDP, 0, ret_record};
    return server_for_each_mapping(engine->server, match_internal, &search) == 1;
}

bool engine_find_of(const struct engine *engine, enum mapping_kind kind,
                    const struct endpoint *internal, uint8_t protocol,
                    struct mapping_record *ret_record)
{
    struct search search = {internal->address, internal->port, protocol, kind, ret_record};
    return server_for_each_mapping(engine->server, match_internal, &search) == 1;
}

struct comparison {
    const struct engine *engine;
    const struct mapping_record *wanted;
    size_t n_live, n_static;
    const char *fault;
};

static int match_record(void *context, const struct mapping_record *record)
{
    const struct comparison *comparison = context;
    return mapping_record_equal(record, comparison->wanted);
}

static int compare_stored(void *context, const struct mapping_record *record)
{
    struct comparison *comparison = context;
    comparison->wanted = record;
    if (server_for_each_mapping(comparison->engine->server, match_record, comparison) == 1)
        return 0;
    comparison->fault = "the store has a record that the table has not";
    return 1;
}

static int compare_kernel(void *context, const struct mapping_record *record)
{
    struct comparison *comparison = context;
    if (record->state != MAPPING_STATE_LIVE)
        return 0;
    comparison->n_live++;
    comparison->n_static += record->kind == MAPPING_KIND_STATIC;
    if (memory_nat_contains(comparison->engine->nat, record))
        return 0;
    comparison->fault = "a live mapping is not in the kernel";
    return 1;
}

static int pass_clock(void *context, const struct store_clock *clock)
{
    (void) context;
    (void) clock;
    return 0;
}

static int pass_epoch(void *context, const struct store_epoch *epoch)
{
    (void) context;
    (void) epoch;
    return 0;
}

const char *engine_inconsistency(const struct engine *engine)
{
    struct comparison comparison = {.engine = engine};
    const struct store_load_handler handler = {.clock = pass_clock,
                                               .mapping = compare_stored,
                                               .epoch = pass_epoch,
                                               .context = &comparison};
    server_for_each_mapping(engine->server, compare_kernel, &comparison);
    if (!comparison.fault && memory_nat_count(engine->nat) != comparison.n_live)
        comparison.fault = "the kernel has a mapping that the table has not";
    if (comparison.fault || engine->store_owed)
        return comparison.fault;
    /* The configuration is the store of static mappings. */
    if (memory_store_count(engine->store) !=
        engine_n_live(engine) + engine_n_held(engine) - comparison.n_static)
        return "store and table differ in their number of records";
    if (store_load(engine->store, &handler) != 0 && !comparison.fault)
        return "the store could not be loaded";
    return comparison.fault;
}
