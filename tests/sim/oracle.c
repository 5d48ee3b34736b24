/*
 * The oracle reads each request as a server would, and each answer as its client. After every step it asks (ARCHITECTURE.md,
 * invariants 1, 2, 3 and 5):
 *
 *  1. does anybody share an external endpoint?
 *  2. is every mapping that was promised where it was promised, in table, store and kernel? If not, has its owner's Epoch
 *     restarted since?
 *  3. has an Epoch changed that had no reason to?
 *  5. is anything overdue, over quota, or left behind in store or kernel; was any request not answered?
 */

#include "oracle.h"

#include <netinet/in.h>
#include <string.h>

struct ip_address oracle_address(uint32_t host)
{
    if (host < N_HOSTS_IPV4)
        return ip_address_from_ipv4(ENGINE_HOST_A + host);
    return (struct ip_address){{0x20, 0x01, 0x0d, 0xb8, [15] = (uint8_t) host}};
}

struct ip_address oracle_remote(uint32_t host, size_t remote)
{
    if (host < N_HOSTS_IPV4)
        return ip_address_from_ipv4(0x08080808 + (uint32_t) remote);
    return (struct ip_address){{0x20, 0x01, 0x0d, 0xb9, [15] = (uint8_t) remote}};
}

static uint32_t host_of(const struct ip_address *address)
{
    uint32_t host = 0;
    struct ip_address other = oracle_address(0);
    while (host < N_HOSTS && !ip_address_equal(&other, address))
        other = oracle_address(++host);
    return host;
}

static uint64_t zero_of(const struct sim *sim, uint32_t host)
{
    struct ip_address address = oracle_address(host);
    return sim->engine.now_ns - engine_epoch_of(&sim->engine, &address) * NS_PER_S;
}

uint16_t oracle_port(size_t index)
{
    return index == N_PORTS - 1 ? 0 : (uint16_t) (2000 + index);
}

const uint8_t oracle_protocols[N_PROTOCOLS] = {IPPROTO_UDP, IPPROTO_TCP, 0};

/* `remote` NULL: MAP. */
static size_t slot_of(const struct ip_address *internal, uint16_t internal_port, uint8_t protocol,
                      const struct endpoint *remote)
{
    uint32_t host = host_of(internal);
    size_t port = 0, which = 0, kind = 0;
    while (port < N_PORTS && oracle_port(port) != internal_port)
        port++;
    while (which < N_PROTOCOLS && oracle_protocols[which] != protocol)
        which++;
    for (; remote && kind < N_KINDS; kind++) {
        struct ip_address address = oracle_remote(host, kind);
        if (kind > 0 && remote->port == 443 && ip_address_equal(&address, &remote->address))
            break;
    }
    if (host == N_HOSTS || port == N_PORTS || which == N_PROTOCOLS || kind == N_KINDS)
        return NO_SLOT;
    return ((host * N_PORTS + port) * N_PROTOCOLS + which) * N_KINDS + kind;
}

static uint32_t host_of_slot(size_t slot)
{
    return (uint32_t) (slot / (N_PORTS * N_PROTOCOLS * N_KINDS));
}

static size_t slot_of_record(const struct mapping_record *record)
{
    struct endpoint remote = {record->remote_address, record->remote_port};
    return slot_of(&record->internal_address, record->internal_port, record->protocol,
                   record->kind == MAPPING_KIND_PEER ? &remote : NULL);
}

static size_t nonce_of(const uint8_t *nonce)
{
    struct pcp_mapping_fields fields;
    for (uint32_t i = 0; i < NO_NONCE; i++) {
        memset(fields.nonce, 0x5a, sizeof(fields.nonce));
        memcpy(fields.nonce, &i, sizeof(i));
        if (memcmp(fields.nonce, nonce, sizeof(fields.nonce)) == 0)
            return i;
    }
    return N_NONCES;
}

static size_t nonce_of_record(const struct mapping_record *record)
{
    return record->has_nonce ? nonce_of(record->nonce) : NO_NONCE;
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
    if (!question->is_natpmp && lifetime_s < settings->lifetime_min_s)
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

/* PCP takes over what has no nonce, and what has another one if that is the policy. */
static void take_over(struct sim *sim, const struct question *question)
{
    bool adopts = sim->engine.settings.nonce_policy == SERVER_NONCE_ADOPT_SAME_HOST;
    for (size_t nonce = 0; nonce < N_NONCES; nonce++)
        if (nonce != question->nonce && !question->is_natpmp && (nonce == NO_NONCE || adopts)) {
            withdraw(sim, question->slot, nonce);
            sim->disclaimers[question->slot][nonce].is_gone = false;
        }
    struct promise *promise = &sim->promises[question->slot];
    if (promise->made && promise->host != question->host)
        promise->made = false;
    sim->managers[question->slot] = question->host;
}

static uint64_t first_asked_ns(const struct sim *sim, uint16_t port)
{
    for (size_t i = 0; i < sim->n_outstanding; i++)
        if (sim->outstanding[i].port == port)
            return sim->outstanding[i].asked_ns;
    return sim->engine.now_ns;
}

static void note_pcp(struct question *question, const struct pcp_request *request)
{
    struct ip_address internal = oracle_address(question->host);
    for (size_t i = 0; i < request->n_options; i++)
        if (request->options[i].code == PCP_OPTION_THIRD_PARTY)
            internal = request->options[i].third_party;
    question->lifetime_s = request->lifetime_s;
    question->nonce = nonce_of(request->mapping.nonce);
    if (request->opcode != PCP_OPCODE_ANNOUNCE)
        question->slot =
            slot_of(&internal, request->mapping.internal_port, request->mapping.protocol,
                    request->opcode == PCP_OPCODE_PEER ? &request->mapping.remote : NULL);
}

static void note_natpmp(struct sim *sim, struct question *question,
                        const struct natpmp_request *request)
{
    if (request->opcode == NATPMP_OPCODE_ADDRESS)
        return;
    struct ip_address internal = oracle_address(question->host);
    uint8_t protocol = request->opcode == NATPMP_OPCODE_MAP_TCP ? IPPROTO_TCP : IPPROTO_UDP;
    question->nonce = NO_NONCE;
    question->lifetime_s = request->lifetime_s;
    if (request->internal_port != 0)
        question->slot = slot_of(&internal, request->internal_port, protocol, NULL);
    for (size_t i = 0; request->internal_port == 0 && i < N_PORTS; i++)
        withdraw(sim, slot_of(&internal, oracle_port(i), protocol, NULL), NO_NONCE);
}

/* The oracle reads the request as a server would and notes what it could do. */
static bool note(struct sim *sim, struct question *question, const uint8_t *data, size_t size_bytes)
{
    const struct server_settings *settings = &sim->engine.settings;
    const struct pcp_capabilities capabilities = {
        .map = true,
        .peer = settings->peer,
        .announce = true,
        .third_party = question->host == MANAGER,
        .prefer_failure = true,
        .filter = true,
    };
    struct ip_address source = oracle_address(question->host);
    if (settings->natpmp && size_bytes > 0 && data[0] == 0) {
        struct natpmp_request request;
        enum natpmp_result result;
        enum natpmp_verdict verdict =
            ip_address_is_ipv4(&source) ? natpmp_request_decode(data, size_bytes, &request, &result)
                                        : NATPMP_VERDICT_DROP;
        question->is_natpmp = true;
        if (verdict == NATPMP_VERDICT_ACCEPT)
            note_natpmp(sim, question, &request);
        return verdict != NATPMP_VERDICT_DROP;
    }
    enum pcp_result result;
    enum pcp_verdict verdict =
        pcp_request_decode(data, size_bytes, &source, &capabilities, &sim->engine.request, &result);
    if (verdict == PCP_VERDICT_ACCEPT)
        note_pcp(question, &sim->engine.request);
    return verdict != PCP_VERDICT_DROP;
}

void oracle_ask(struct sim *sim, uint32_t host, uint16_t port, const uint8_t *data,
                size_t size_bytes)
{
    struct question question = {
        .number = ++sim->number,
        .port = port,
        .slot = NO_SLOT,
        .nonce = N_NONCES,
        .host = host,
        .asked_ns = first_asked_ns(sim, port),
        .zero_ns = zero_of(sim, host),
    };
    if (note(sim, &question, data, size_bytes)) {
        assert_true(sim->n_outstanding < OUTSTANDING_MAX);
        if (question.slot != NO_SLOT)
            take_over(sim, &question);
        if (question.nonce == N_NONCES)
            question.slot = NO_SLOT; /* a mutation's: nobody is interested */
        sim->outstanding[sim->n_outstanding++] = question;
        if (question.slot != NO_SLOT) {
            if (question.lifetime_s == 0)
                withdraw(sim, question.slot, question.nonce);
            else
                want(sim, &question);
        }
    }
    struct datagram datagram = {
        .source = {oracle_address(host), port},
        .destination = {.port = PCP_SERVER_PORT},
        .data = (uint8_t *) data,
        .size_bytes = size_bytes,
    };
    server_receive(sim->engine.server, sim->engine.now_ns, &datagram);
}

static void take_promise(struct sim *sim, const struct question *question,
                         const struct endpoint *external, uint32_t lifetime_s)
{
    struct disclaimer *disclaimer = &sim->disclaimers[question->slot][question->nonce];
    if (question->number < disclaimer->withdrawn_by)
        return;
    /* Nothing is remembered of who asks for a static mapping: only its own host learns of its end. */
    if (lifetime_s == PCP_LIFETIME_INFINITE && question->host != host_of_slot(question->slot))
        return;
    if (question->host != sim->managers[question->slot])
        return;
    uint64_t until_ns = question->asked_ns + (lifetime_s - 1) * NS_PER_S;
    if (question->number < disclaimer->capped_by && disclaimer->cap_ns < until_ns)
        until_ns = disclaimer->cap_ns;
    if (question->number >= disclaimer->capped_by)
        disclaimer->cap_ns = UINT64_MAX;
    sim->promises[question->slot] = (struct promise){
        .made = true,
        .nonce = question->nonce,
        .is_static = lifetime_s == PCP_LIFETIME_INFINITE,
        .host = question->host,
        .external = *external,
        .until_ns = until_ns,
        .zero_ns = question->zero_ns,
    };
}

/*
 * The question of an answer. Of a retransmission it may be answered sooner than of what it repeats, so the one that fits best is
 * taken.
 */
static struct question take_question(struct sim *sim, uint16_t port, bool is_natpmp,
                                     uint64_t zero_ns)
{
    size_t found = sim->n_outstanding;
    for (size_t i = sim->n_outstanding; i-- > 0;)
        if (sim->outstanding[i].port == port && sim->outstanding[i].is_natpmp == is_natpmp &&
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

/* NAT-PMP does not say the address: whichever the mapping is on. */
static void take_natpmp_promise(struct sim *sim, const struct question *question, size_t index)
{
    const struct natpmp_response *response = engine_natpmp_answer(&sim->engine, index);
    struct endpoint external = {.port = response->external_port};
    take_promise(sim, question, &external, response->lifetime_s);
}

static void check_answer(struct sim *sim, size_t index)
{
    const struct engine_answer *answer = &sim->engine.answers[index];
    bool is_natpmp = answer->data[0] == 0;
    uint8_t result = answer->data[3];
    struct reader header = reader_init(answer->data, answer->size_bytes);
    reader_skip(&header, is_natpmp ? 4 : 8);
    uint64_t zero_ns = sim->engine.now_ns - reader_u32(&header) * NS_PER_S;
    struct question question = take_question(sim, answer->to.port, is_natpmp, zero_ns);
    if (zero_ns != question.zero_ns &&
        (result == PCP_RESULT_SUCCESS || zero_ns != zero_of(sim, question.host)))
        fail_msg("an answer tells an Epoch that is not its client's");
    if (result != PCP_RESULT_SUCCESS || question.slot == NO_SLOT)
        return;
    struct disclaimer *disclaimer = &sim->disclaimers[question.slot][question.nonce];
    if (question.lifetime_s == 0)
        disclaimer->is_gone = disclaimer->wanted_by < question.number;
    else if (is_natpmp)
        take_natpmp_promise(sim, &question, index);
    else {
        const struct pcp_response *response = engine_answer(&sim->engine, index);
        take_promise(sim, &question, &response->mapping.external, response->lifetime_s);
    }
}

#define N_RECORDS_MAX 256

struct scan {
    struct sim *sim;
    const struct mapping_record *live[N_SLOTS];
    const struct mapping_record *all[N_RECORDS_MAX];
    size_t n_all;
    /* By subscriber: each host, or the first of those that are one. */
    unsigned int n_live[N_HOSTS], n_held[N_HOSTS];
};

static bool overlap(const struct mapping_record *a, const struct mapping_record *b)
{
    bool is_whole = a->external_port == 0 || b->external_port == 0;
    return (a->external_port == b->external_port || is_whole) &&
           (a->protocol == b->protocol || (is_whole && (a->protocol == 0 || b->protocol == 0))) &&
           ip_address_equal(&a->external_address, &b->external_address) &&
           !(ip_address_equal(&a->internal_address, &b->internal_address) &&
             (is_whole || a->internal_port == b->internal_port));
}

/* RFC 6886 s3.3: next to a mapping without nonce nobody else has the port of the other protocol. */
static bool is_next_to(const struct mapping_record *a, const struct mapping_record *b)
{
    return a->kind == MAPPING_KIND_MAP && b->kind == MAPPING_KIND_MAP &&
           !(a->has_nonce && b->has_nonce) && a->external_port == b->external_port &&
           a->external_port != 0 && a->protocol != b->protocol &&
           (a->protocol == IPPROTO_TCP || a->protocol == IPPROTO_UDP) &&
           (b->protocol == IPPROTO_TCP || b->protocol == IPPROTO_UDP) &&
           ip_address_equal(&a->external_address, &b->external_address) &&
           !ip_address_equal(&a->internal_address, &b->internal_address);
}

static void check_place(const struct scan *scan, const struct mapping_record *record)
{
    uint32_t address = ip_address_to_ipv4(&record->external_address) - ADDRESS_FIRST;
    bool is_ipv4 = ip_address_is_ipv4(&record->internal_address);
    if (is_ipv4 && (address >= N_ADDRESSES ||
                    (record->external_port != 0 &&
                     (record->external_port < PORT_FIRST || record->external_port > PORT_LAST))))
        fail_msg("a mapping where none can be");
    if (!is_ipv4 && (record->external_port != record->internal_port ||
                     !ip_address_equal(&record->external_address, &record->internal_address)))
        fail_msg("an IPv6 mapping elsewhere");
    for (size_t i = 0; i < scan->n_all; i++) {
        if (overlap(scan->all[i], record))
            fail_msg("two mappings share an external endpoint");
        if (is_next_to(scan->all[i], record))
            fail_msg("a port next to one of NAT-PMP is another's");
    }
}

static uint32_t subscriber_of(const struct sim *sim, uint32_t host)
{
    uint8_t length = host < N_HOSTS_IPV4 ? sim->engine.settings.subscriber_length_ipv4
                                         : sim->engine.settings.subscriber_length_ipv6;
    struct ip_address address = oracle_address(host);
    struct ip_prefix prefix = {ip_address_mask(&address, length ? length : 128),
                               length ? length : 128};
    for (uint32_t i = 0; i < host; i++) {
        address = oracle_address(i);
        if (ip_prefix_contains(&prefix, &address))
            return i;
    }
    return host;
}

static int scan_record(void *context, const struct mapping_record *record)
{
    struct scan *scan = context;
    uint32_t host = host_of(&record->internal_address);
    check_place(scan, record);
    assert_true(scan->n_all < N_RECORDS_MAX);
    scan->all[scan->n_all++] = record;
    if (host == N_HOSTS)
        return 0; /* a mutation named it */
    size_t slot = slot_of_record(record);
    if (record->state != MAPPING_STATE_LIVE) {
        scan->n_held[subscriber_of(scan->sim, host)]++;
        return 0;
    }
    scan->n_live[subscriber_of(scan->sim, host)] += record->kind != MAPPING_KIND_STATIC;
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
    if (!record || record->external_port != promise->external.port)
        return false;
    bool is_static = record->kind == MAPPING_KIND_STATIC;
    return (is_static || promise->nonce == NO_NONCE || nonce_of_record(record) == promise->nonce) &&
           (promise->nonce == NO_NONCE ||
            ip_address_equal(&record->external_address, &promise->external.address)) &&
           (is_static || memory_store_contains(sim->engine.store, record->id)) &&
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
            if (zero_of(sim, promise->host) <= promise->zero_ns)
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
        bool is_static = record && record->kind == MAPPING_KIND_STATIC;
        size_t nonce = record && !is_static ? nonce_of_record(record) : N_NONCES;
        if (nonce < N_NONCES && sim->disclaimers[slot][nonce].is_gone)
            fail_msg("a mapping is there whose delete was answered");
    }
}

static void check_epochs(struct sim *sim)
{
    for (uint32_t host = 0; host < N_HOSTS; host++) {
        uint64_t zero_ns = zero_of(sim, host);
        bool is_new = zero_ns == sim->engine.now_ns && sim->may_reset;
        bool is_older = sim->has_crashed && zero_ns >= sim->stable_zero_ns[host] &&
                        zero_ns <= sim->zero_ns[host];
        /* One of its own is forgotten a lifetime after its subscriber had anything. */
        bool is_forgotten = zero_ns == server_epoch_zero_ns(sim->engine.server) &&
                            sim->engine.now_ns - sim->zero_ns[host] >
                                sim->engine.settings.lifetime_max_s * NS_PER_S;
        if (zero_ns != sim->zero_ns[host] && !is_new && !is_older && !is_forgotten)
            fail_msg("an Epoch changed without reason");
        sim->zero_ns[host] = zero_ns;
    }
    sim->has_crashed = false;
}

static int check_overdue(void *context, const struct mapping_record *record)
{
    const struct sim *sim = context;
    bool is_active = sim->engine.n_external == 0 || !ip_address_is_ipv4(&record->external_address);
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

void oracle_check(struct sim *sim)
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
        if (!sim->lengths_changed && (scan.n_live[host] > QUOTA || scan.n_held[host] > QUOTA))
            fail_msg("over quota");
    check_promises(sim, &scan);
    check_deleted(sim, &scan);
    if (!engine->in_flight && !server_wants_commit(engine->server, engine->now_ns))
        check_at_rest(sim);
}
