/* What clients are told unasked: announcements to all, announcements to some, Mapping Updates. */

#include "fixture.h"

#define OTHER_EXTERNAL 0xcb007101 /* 203.0.113.1 */
#define N_ANNOUNCEMENTS 10

static void set_external(struct engine *engine, uint32_t address)
{
    engine_set_external(engine, &address, 1);
}

/* The state in which an operator finds it: everything from the start is over. */
static void wait_for_silence(struct engine *engine)
{
    struct server_announcement announcement;
    engine_run_ms(engine, 300000);
    server_take_announcement(engine->server, engine->now_ns, &announcement);
    engine_forget(engine);
    assert_true(server_next_deadline_ns(engine->server) > engine->now_ns + 1000 * NS_PER_S);
}

static uint32_t epoch_in(const uint8_t *octets)
{
    return (uint32_t) octets[0] << 24 | (uint32_t) octets[1] << 16 | (uint32_t) octets[2] << 8 |
           octets[3];
}

/* Counts those to this port, with their times. */
static size_t notices_to(const struct engine *engine, uint32_t host, uint16_t port,
                         uint64_t *ret_at_ns)
{
    size_t n = 0;
    struct ip_address address = ip_address_from_ipv4(host);
    assert_true(engine->n_notices <= ENGINE_NOTICES_MAX);
    for (size_t i = 0; i < engine->n_notices; i++) {
        const struct engine_answer *notice = &engine->notices[i];
        if (notice->to.port != port || !ip_address_equal(&notice->to.address, &address))
            continue;
        ret_at_ns[n++] = notice->at_ns;
    }
    return n;
}

static void assert_schedule(const uint64_t *at_ns, size_t n, uint64_t begin_ns)
{
    uint64_t gap_ns = 250 * NS_PER_MS;
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(at_ns[i], begin_ns);
        begin_ns += gap_ns;
        gap_ns *= 2;
    }
}

static void clear(struct engine *engine, uint32_t host)
{
    struct ip_prefix prefix = {ip_address_from_ipv4(host), 128};
    uint64_t tick;
    assert_true(server_clear(engine->server, engine->now_ns, SERVER_CLEAR_SUBSCRIBER, &prefix, 0,
                             &tick) > 0);
}

/* Takes announcements as they become due. */
static size_t run_announcements(struct engine *engine, uint64_t *ret_at_ns, size_t n_max,
                                struct server_announcement *ret_last)
{
    size_t n = 0;
    for (;;) {
        engine_settle(engine);
        engine_collect(engine);
        if (server_take_announcement(engine->server, engine->now_ns, ret_last)) {
            if (ret_last->pcp_size_bytes > 0)
                assert_int_equal(epoch_in(ret_last->pcp + 8), engine_epoch_s(engine, HOST_B));
            ret_at_ns[n++] = engine->now_ns;
        }
        uint64_t next_ns = server_next_deadline_ns(engine->server);
        assert_true(next_ns > engine->now_ns);
        if (next_ns == TIME_NEVER || n == n_max)
            return n;
        engine->now_ns = next_ns;
    }
}

/* [R-6887-14.1.3-1] [R-6887-14.1.3-3] [R-6887-14.1.3-4] */
static void test_announce_schedule(void **state)
{
    struct engine *engine = *state;
    struct server_announcement announcement;
    uint64_t at_ns[20];

    engine_sleep_s(engine, 100);
    server_announce(engine->server, engine->now_ns);
    uint64_t begin_ns = engine->now_ns;
    assert_int_equal(run_announcements(engine, at_ns, 20, &announcement), N_ANNOUNCEMENTS);
    assert_schedule(at_ns, N_ANNOUNCEMENTS, begin_ns);
    const uint8_t head[] = {PCP_VERSION, 0x80, 0, PCP_RESULT_SUCCESS, 0, 0, 0, 0};
    assert_int_equal(announcement.pcp_size_bytes, PCP_HEADER_SIZE);
    assert_memory_equal(announcement.pcp, head, sizeof(head));
    assert_int_equal(epoch_in(announcement.pcp + 8), 100 + 127); /* 127.75 s after the first */
    assert_int_equal(announcement.natpmp_size_bytes, 0);
}

static void test_announce_restarted_by_a_reset(void **state)
{
    struct engine *engine = *state;
    struct server_announcement announcement;
    uint64_t at_ns[20];

    server_announce(engine->server, engine->now_ns);
    assert_int_equal(run_announcements(engine, at_ns, 5, &announcement), 5);
    engine->now_ns += 500 * NS_PER_MS;
    server_reset_epoch(engine->server, engine->now_ns);
    uint64_t begin_ns = engine->now_ns;
    assert_int_equal(run_announcements(engine, at_ns, 20, &announcement), N_ANNOUNCEMENTS);
    assert_schedule(at_ns, N_ANNOUNCEMENTS, begin_ns);
    assert_int_equal(epoch_in(announcement.pcp + 8), 127);
}

/* [R-6886-3.2.1-1] [R-6886-3.2.1-2] [R-6886-3.2.1-3] [R-6886-3.7-1] */
static void test_announce_natpmp(void **state)
{
    struct engine *engine = *state;
    struct server_settings settings = engine_settings();
    struct server_announcement announcement;
    uint64_t at_ns[20];

    settings.natpmp = true;
    restart_with(engine, &settings);
    uint64_t begin_ns = engine->now_ns;
    assert_int_equal(run_announcements(engine, at_ns, 20, &announcement), N_ANNOUNCEMENTS);
    assert_schedule(at_ns, N_ANNOUNCEMENTS, begin_ns);
    engine_sleep_s(engine, 100);
    set_external(engine, OTHER_EXTERNAL);
    begin_ns = engine->now_ns;
    assert_int_equal(run_announcements(engine, at_ns, 20, &announcement), N_ANNOUNCEMENTS);
    assert_schedule(at_ns, N_ANNOUNCEMENTS, begin_ns);
    const uint8_t octets[] = {0, 0x80, 0, 0, 0, 0, 0, 127, 203, 0, 113, 1};
    assert_int_equal(announcement.natpmp_size_bytes, sizeof(octets));
    assert_memory_equal(announcement.natpmp, octets, sizeof(octets));
    /* PCP's clients lost nothing. */
    assert_int_equal(announcement.pcp_size_bytes, 0);
    server_reset_epoch(engine->server, engine->now_ns);
    assert_int_equal(run_announcements(engine, at_ns, 20, &announcement), N_ANNOUNCEMENTS);
    assert_int_equal(announcement.pcp_size_bytes, PCP_HEADER_SIZE);
    assert_int_equal(announcement.natpmp_size_bytes, 12);
}

/* A common Epoch told to all would be a reset, and the next answer another, to those who have their own. */
static void test_announce_with_own_epochs(void **state)
{
    struct engine *engine = *state;
    struct server_announcement announcement;

    engine_create(engine, HOST_A, 80, 1, 3600);
    engine_sleep_s(engine, 1000);
    clear(engine, HOST_A);
    wait_for_silence(engine);
    server_announce(engine->server, engine->now_ns);
    engine_settle(engine);
    assert_true(server_take_announcement(engine->server, engine->now_ns, &announcement));
    assert_int_equal(announcement.pcp_size_bytes, 0);
    wait_for_silence(engine);
    server_reset_epoch(engine->server, engine->now_ns);
    engine_settle(engine);
    assert_true(server_take_announcement(engine->server, engine->now_ns, &announcement));
    assert_int_equal(announcement.pcp_size_bytes, PCP_HEADER_SIZE);
}

/* [R-6887-14-1] [R-6887-14-2] To the port it asks from and to the one it listens on, with its own Epoch. */
static void test_clear_is_told(void **state)
{
    struct engine *engine = *state;
    uint64_t at_ns[ENGINE_NOTICES_MAX];

    engine_create(engine, HOST_A, 80, 1, 36000);
    engine_create(engine, HOST_A, 81, 1, 36000);
    engine_create(engine, HOST_B, 80, 1, 36000);
    wait_for_silence(engine);
    clear(engine, HOST_A);
    uint64_t begin_ns = engine->now_ns;
    /* Not before it is so. */
    server_advance(engine->server, engine->now_ns);
    assert_true(engine_seal(engine));
    server_advance(engine->server, engine->now_ns);
    engine_collect(engine);
    assert_int_equal(engine->n_notices, 0);
    engine_finish(engine, ENGINE_COMMITS);
    engine_run_ms(engine, 200000);
    assert_int_equal(engine->n_notices, 2 * N_ANNOUNCEMENTS);
    assert_int_equal(notices_to(engine, HOST_A, 40000, at_ns), N_ANNOUNCEMENTS);
    assert_schedule(at_ns, N_ANNOUNCEMENTS, begin_ns);
    assert_int_equal(notices_to(engine, HOST_A, PCP_CLIENT_PORT, at_ns), N_ANNOUNCEMENTS);
    assert_schedule(at_ns, N_ANNOUNCEMENTS, begin_ns);
    for (size_t i = 0; i < engine->n_notices; i++) {
        uint64_t age_ns = engine->notices[i].at_ns - begin_ns;
        assert_int_equal(engine_notice(engine, i)->opcode, PCP_OPCODE_ANNOUNCE);
        assert_int_equal(engine->response.result, PCP_RESULT_SUCCESS);
        assert_int_equal(engine->response.epoch_s, age_ns / NS_PER_S);
    }
}

/* Many mappings from many ports of one host: each port, and the common one once. */
static void test_clear_is_told_once_to_each_port(void **state)
{
    struct engine *engine = *state;
    uint64_t at_ns[ENGINE_NOTICES_MAX];

    for (uint16_t i = 0; i < 8; i++) {
        engine->client_port = 50000 + i % 4;
        engine_create(engine, HOST_A, 80 + i, 1, 3600);
    }
    clear(engine, HOST_A);
    engine_settle(engine);
    engine_collect(engine);
    assert_int_equal(engine->n_notices, 5);
    assert_int_equal(notices_to(engine, HOST_A, PCP_CLIENT_PORT, at_ns), 1);
}

static void test_clear_is_told_to_natpmp_clients(void **state)
{
    struct engine *engine = *state;
    struct server_settings settings = engine_settings();
    struct natpmp_request request = {NATPMP_OPCODE_MAP_UDP, 80, 0, 36000};

    settings.natpmp = true;
    restart_with(engine, &settings);
    engine_ask_natpmp(engine, HOST_A, &request);
    wait_for_silence(engine);
    clear(engine, HOST_A);
    engine_settle(engine);
    engine_collect(engine);
    assert_int_equal(engine->n_notices, 1);
    const uint8_t octets[] = {0, 0x80, 0, 0, 0, 0, 0, 0, 198, 51, 100, 1};
    assert_int_equal(engine->notices[0].to.port, PCP_CLIENT_PORT);
    assert_int_equal(engine->notices[0].size_bytes, sizeof(octets));
    assert_memory_equal(engine->notices[0].data, octets, sizeof(octets));
}

/* Where the Updates went, and when. */
static size_t updates(struct engine *engine, uint64_t *ret_at_ns)
{
    size_t n = 0;
    for (size_t i = 0; i < engine->n_notices; i++) {
        const struct pcp_response *response = engine_notice(engine, i);
        if (response->opcode != PCP_OPCODE_ANNOUNCE)
            ret_at_ns[n++] = engine->notices[i].at_ns;
    }
    return n;
}

static const struct pcp_response *update(struct engine *engine, size_t index)
{
    for (size_t i = 0; i < engine->n_notices; i++) {
        const struct pcp_response *response = engine_notice(engine, i);
        if (response->opcode != PCP_OPCODE_ANNOUNCE && index-- == 0)
            return response;
    }
    fail_msg("no such Mapping Update");
    return NULL;
}

/* [R-6887-14.2-1] [R-6887-14.2-2] [R-6887-14.2-6] [R-6887-14.2-7] [R-6887-14.2-10] */
static void test_update(void **state)
{
    struct engine *engine = *state;
    uint64_t at_ns[ENGINE_NOTICES_MAX];

    engine->client_port = 51000;
    struct pcp_request request = *engine_map(engine, HOST_A, 5000, 1, 3600);
    engine_ask(engine, HOST_A);
    engine_sleep_s(engine, 1000);
    set_external(engine, OTHER_EXTERNAL);
    uint64_t begin_ns = engine->now_ns;
    /* Not before the commit. */
    server_advance(engine->server, engine->now_ns);
    engine_collect(engine);
    assert_int_equal(engine->n_notices, 0);
    engine_run_ms(engine, 10000);
    assert_int_equal(updates(engine, at_ns), 3);
    assert_schedule(at_ns, 3, begin_ns);
    for (size_t i = 0; i < 3; i++) {
        const struct pcp_response *response = update(engine, i);
        assert_result(response, PCP_RESULT_SUCCESS);
        assert_int_equal(response->opcode, PCP_OPCODE_MAP);
        assert_int_equal(response->epoch_s, 0);
        assert_int_equal(response->lifetime_s, 2600);
        assert_int_equal(response->n_options, 0);
        assert_int_equal(response->mapping.internal_port, 5000);
        assert_int_equal(response->mapping.protocol, IPPROTO_UDP);
        assert_int_equal(response->mapping.external.port, 5000);
        assert_int_equal(ip_address_to_ipv4(&response->mapping.external.address), OTHER_EXTERNAL);
        assert_memory_equal(response->mapping.nonce, request.mapping.nonce, PCP_NONCE_SIZE);
    }
    assert_int_equal(notices_to(engine, HOST_A, 51000, at_ns), 3 + 6);
}

/* [R-6887-14.2-6] The Epoch and the lifetime are those of the moment. */
static void test_update_of_the_moment(void **state)
{
    struct engine *engine = *state;

    engine_create(engine, HOST_A, 5000, 1, 3600);
    set_external(engine, OTHER_EXTERNAL);
    engine_settle(engine);
    engine_collect(engine);
    engine_sleep_s(engine, 7);
    engine_settle(engine);
    engine_collect(engine);
    assert_int_equal(update(engine, 1)->epoch_s, 7);
    assert_int_equal(update(engine, 1)->lifetime_s, 3593);
}

/* [R-6887-14.2-8] */
static void test_update_ends_with_a_renewal(void **state)
{
    struct engine *engine = *state;
    uint64_t at_ns[ENGINE_NOTICES_MAX];

    for (int i = 0; i < 2; i++) {
        engine_create(engine, HOST_A, 5000, 1, 3600);
        set_external(engine, i ? ENGINE_EXTERNAL : OTHER_EXTERNAL);
        engine_run_ms(engine, 100);
        assert_int_equal(updates(engine, at_ns), 1);
        if (i == 0)
            engine_create(engine, HOST_A, 5000, 1, 3700);
        else
            engine_delete(engine, HOST_A, 5000, 1);
        engine_run_ms(engine, 10000);
        assert_int_equal(updates(engine, at_ns), 1);
        engine_forget(engine);
    }
}

/* The same when what the client says is what it said moments ago. */
static void test_update_ends_with_a_repetition(void **state)
{
    struct engine *engine = *state;
    uint64_t at_ns[ENGINE_NOTICES_MAX];

    engine_create(engine, HOST_A, 5000, 1, 3600);
    set_external(engine, OTHER_EXTERNAL);
    engine_run_ms(engine, 100);
    engine_create(engine, HOST_A, 5000, 1, 3600);
    assert_int_equal(server_counters(engine->server)->n_repeated, 1);
    engine_run_ms(engine, 10000);
    assert_int_equal(updates(engine, at_ns), 1);
}

/* [R-6887-14.2-9] [R-6887-14.2-5] */
static void test_update_with_filters(void **state)
{
    struct engine *engine = *state;

    engine_map(engine, HOST_A, 5000, 1, 3600);
    engine_add_filter(engine, 0x08080800, 120, 53);
    engine_add_filter(engine, 0x09090909, 128, 0);
    assert_result(engine_ask(engine, HOST_A), PCP_RESULT_SUCCESS);
    set_external(engine, OTHER_EXTERNAL);
    engine_settle(engine);
    engine_collect(engine);
    const struct pcp_response *response = update(engine, 0);
    assert_int_equal(response->n_options, 2);
    assert_int_equal(response->options[0].code, PCP_OPTION_FILTER);
    assert_int_equal(response->options[0].filter.remote_port, 53);
    assert_int_equal(response->options[0].filter.remote.length, 120);
    assert_int_equal(response->options[1].filter.remote.length, 128);
    assert_consistent(engine);
}

/* [R-6887-14.2-4] */
static void test_update_of_prefer_failure(void **state)
{
    struct engine *engine = *state;
    const uint32_t two[] = {OTHER_EXTERNAL, ENGINE_EXTERNAL};
    uint64_t at_ns[ENGINE_NOTICES_MAX];

    engine_set_external(engine, two, 2);
    for (uint32_t i = 0; i < 2; i++) {
        engine_map(engine, HOST_A + i, 80, 1, 3600)->mapping.external =
            (struct endpoint){ip_address_from_ipv4(two[i]), 5000};
        engine_add_option(engine, &(struct pcp_option){.code = PCP_OPTION_PREFER_FAILURE});
        assert_result(engine_ask(engine, HOST_A + i), PCP_RESULT_SUCCESS);
    }
    engine_set_external(engine, two, 1);
    engine_run_ms(engine, 10000);
    assert_int_equal(updates(engine, at_ns), 3);
    const struct pcp_response *response = update(engine, 2);
    assert_result(response, PCP_RESULT_CANNOT_PROVIDE_EXTERNAL);
    assert_true(response->lifetime_s >= 30);
    assert_int_equal(engine_n_live(engine), 1);
    assert_consistent(engine);
}

/* Taken back, it is there again: nobody is told that it is not. */
static void test_update_of_prefer_failure_after_a_failed_commit(void **state)
{
    struct engine *engine = *state;
    const uint32_t two[] = {OTHER_EXTERNAL, ENGINE_EXTERNAL};
    uint64_t at_ns[ENGINE_NOTICES_MAX];

    engine_set_external(engine, two, 2);
    engine_map(engine, HOST_A, 80, 1, 3600)->mapping.external =
        (struct endpoint){ip_address_from_ipv4(OTHER_EXTERNAL), 5000};
    assert_result(engine_ask(engine, HOST_A), PCP_RESULT_SUCCESS);
    engine_map(engine, HOST_B, 80, 1, 3600)->mapping.external =
        (struct endpoint){ip_address_from_ipv4(ENGINE_EXTERNAL), 5000};
    engine_add_option(engine, &(struct pcp_option){.code = PCP_OPTION_PREFER_FAILURE});
    assert_result(engine_ask(engine, HOST_B), PCP_RESULT_SUCCESS);
    engine_set_external(engine, two, 1);
    assert_true(engine_seal(engine));
    engine_finish(engine, ENGINE_STORE_FAILS);
    engine_set_external(engine, two, 2);
    engine_run_ms(engine, 10000);
    assert_int_equal(updates(engine, at_ns), 0);
    assert_int_equal(engine_n_live(engine), 2);
}

/* Nothing is told of what was deleted meanwhile. */
static void test_update_of_a_deleted_prefer_failure(void **state)
{
    struct engine *engine = *state;
    uint64_t at_ns[ENGINE_NOTICES_MAX];

    engine_map(engine, HOST_A, 80, 1, 3600)->mapping.external.port = 5000;
    engine_add_option(engine, &(struct pcp_option){.code = PCP_OPTION_PREFER_FAILURE});
    assert_result(engine_ask(engine, HOST_A), PCP_RESULT_SUCCESS);
    set_external(engine, OTHER_EXTERNAL);
    engine_run_ms(engine, 100);
    engine_delete(engine, HOST_A, 80, 1);
    engine_run_ms(engine, 10000);
    assert_int_equal(updates(engine, at_ns), 1);
}

/* What was taken back is not told; what is done instead is. */
static void test_update_after_a_failed_commit(void **state)
{
    struct engine *engine = *state;
    uint64_t at_ns[ENGINE_NOTICES_MAX];

    for (enum engine_end end = ENGINE_STORE_FAILS; end <= ENGINE_KERNEL_FAILS; end++) {
        uint32_t target = end % 2 ? OTHER_EXTERNAL : ENGINE_EXTERNAL;
        engine_create(engine, HOST_A, 5000, 1, 36000);
        wait_for_silence(engine);
        set_external(engine, target);
        assert_true(engine_seal(engine));
        engine_finish(engine, end);
        server_advance(engine->server, engine->now_ns);
        engine_collect(engine);
        assert_int_equal(updates(engine, at_ns), 0);
        engine_run_ms(engine, 10000);
        assert_int_equal(updates(engine, at_ns), 3);
        assert_int_equal(ip_address_to_ipv4(&update(engine, 0)->mapping.external.address), target);
        assert_consistent(engine);
    }
}

/* A second move before the first is told: only where it is now. */
static void test_update_of_two_moves(void **state)
{
    struct engine *engine = *state;
    uint64_t at_ns[ENGINE_NOTICES_MAX];

    engine_create(engine, HOST_A, 5000, 1, 3600);
    set_external(engine, OTHER_EXTERNAL);
    engine_run_ms(engine, 100);
    set_external(engine, ENGINE_EXTERNAL);
    engine_run_ms(engine, 10000);
    assert_int_equal(updates(engine, at_ns), 4);
    for (size_t i = 1; i < 4; i++)
        assert_int_equal(ip_address_to_ipv4(&update(engine, i)->mapping.external.address),
                         ENGINE_EXTERNAL);
}

static void test_update_of_peer(void **state)
{
    struct engine *engine = *state;
    struct server_settings settings = engine_settings();
    struct ip_address host = ip_address_from_ipv4(HOST_A);
    struct endpoint remote = {ip_address_from_ipv4(0x08080808), 443};

    settings.peer = true;
    restart_with(engine, &settings);
    engine_peer_of(engine, &host, 5000, &remote, 1, 3600);
    assert_result(engine_ask(engine, HOST_A), PCP_RESULT_SUCCESS);
    set_external(engine, OTHER_EXTERNAL);
    engine_settle(engine);
    engine_collect(engine);
    assert_int_equal(update(engine, 0)->opcode, PCP_OPCODE_PEER);
    assert_true(endpoint_equal(&update(engine, 0)->mapping.remote, &remote));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ENGINE_TEST(test_announce_schedule),
        ENGINE_TEST(test_announce_restarted_by_a_reset),
        ENGINE_TEST(test_announce_natpmp),
        ENGINE_TEST(test_announce_with_own_epochs),
        ENGINE_TEST(test_clear_is_told),
        ENGINE_TEST(test_clear_is_told_once_to_each_port),
        ENGINE_TEST(test_clear_is_told_to_natpmp_clients),
        ENGINE_TEST(test_update),
        ENGINE_TEST(test_update_of_the_moment),
        ENGINE_TEST(test_update_ends_with_a_renewal),
        ENGINE_TEST(test_update_ends_with_a_repetition),
        ENGINE_TEST(test_update_with_filters),
        ENGINE_TEST(test_update_of_prefer_failure),
        ENGINE_TEST(test_update_of_prefer_failure_after_a_failed_commit),
        ENGINE_TEST(test_update_of_a_deleted_prefer_failure),
        ENGINE_TEST(test_update_after_a_failed_commit),
        ENGINE_TEST(test_update_of_two_moves),
        ENGINE_TEST(test_update_of_peer),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
