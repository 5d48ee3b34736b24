/* FILTER through whole requests (RFC 6887 s13.3, erratum 3891). */

#include "fixture.h"

#define REMOTE 0x08080800

static const struct mapping_filters *filters_of(const struct engine *engine)
{
    struct mapping_record record;
    assert_true(engine_find(engine, HOST_A, 80, &record));
    return record.filters;
}

/* A MAP with `n` filters for remotes first, first + 1, ... */
static const struct pcp_response *ask_with(struct engine *engine, uint32_t first, uint32_t n,
                                           bool clear_first)
{
    engine_map(engine, HOST_A, 80, 1, 3600);
    if (clear_first)
        engine_add_filter(engine, 0, 0, 0);
    for (uint32_t i = 0; i < n; i++)
        engine_add_filter(engine, REMOTE + first + i, 128, 443);
    return engine_ask(engine, HOST_A);
}

/* [R-6887-13.3-11] */
static void test_filters_after_create(void **state)
{
    struct engine *engine = *state;

    const struct pcp_response *response = ask_with(engine, 1, 2, false);
    assert_result(response, PCP_RESULT_SUCCESS);
    assert_int_equal(response->n_options, 2);
    assert_int_equal(response->options[0].filter.remote_port, 443);
    const struct mapping_filters *filters = filters_of(engine);
    assert_int_equal(filters->n_filters, 2);
    assert_int_equal(ip_address_to_ipv4(&filters->items[1].remote.address), REMOTE + 2);
    assert_consistent(engine);
}

/* [R-6887-7.3-4] [R-6887-13.3-6] [R-6887-13.3-9] */
static void test_filters_after_renewals(void **state)
{
    struct engine *engine = *state;

    ask_with(engine, 1, 2, false);
    assert_result(ask_with(engine, 0, 0, false), PCP_RESULT_SUCCESS); /* none: they stay */
    assert_int_equal(filters_of(engine)->n_filters, 2);
    assert_result(ask_with(engine, 1, 3, false), PCP_RESULT_SUCCESS); /* two known, one new */
    assert_int_equal(filters_of(engine)->n_filters, 3);
    assert_result(ask_with(engine, 9, 1, true), PCP_RESULT_SUCCESS);
    assert_int_equal(filters_of(engine)->n_filters, 1);
    assert_int_equal(ip_address_to_ipv4(&filters_of(engine)->items[0].remote.address), REMOTE + 9);
    assert_result(ask_with(engine, 0, 0, true), PCP_RESULT_SUCCESS);
    assert_null(filters_of(engine));
    assert_consistent(engine);
    engine_crash(engine, ENGINE_CRASH_BEFORE_STORE);
    assert_null(filters_of(engine));
}

/* [R-6887-13.3-10] */
static void test_filters_after_too_many(void **state)
{
    struct engine *engine = *state;
    struct mapping_record before, after;

    assert_result(ask_with(engine, 1, 4, false), PCP_RESULT_SUCCESS);
    assert_true(engine_find(engine, HOST_A, 80, &before));
    engine_sleep_s(engine, 100);
    assert_result(ask_with(engine, 5, 1, false), PCP_RESULT_EXCESSIVE_REMOTE_PEERS);
    assert_int_equal(engine->response.lifetime_s, 1800);
    assert_true(engine_find(engine, HOST_A, 80, &after));
    assert_true(mapping_record_equal(&before, &after));
    /* Cleared first there is room, but only for as many. */
    assert_result(ask_with(engine, 5, 5, true), PCP_RESULT_EXCESSIVE_REMOTE_PEERS);
    assert_result(ask_with(engine, 5, 4, true), PCP_RESULT_SUCCESS);
}

/* [R-6887-7.4-6] Nor of a renewal without any, when the limit is lower than what there is. */
static void test_filters_after_a_lower_limit(void **state)
{
    struct engine *engine = *state;
    struct server_settings settings = engine->settings;

    engine_map(engine, HOST_A, 80, 1, 3600);
    for (uint32_t i = 0; i < 3; i++)
        engine_add_filter(engine, 0x08080800 + i, 128, 0);
    assert_result(engine_ask(engine, HOST_A), PCP_RESULT_SUCCESS);
    settings.filters_per_mapping = 1;
    assert_int_equal(server_set_settings(engine->server, engine->now_ns, &settings), 0);
    engine_sleep_s(engine, 100);
    engine_map(engine, HOST_A, 80, 1, 3600);
    assert_result(engine_ask(engine, HOST_A), PCP_RESULT_SUCCESS);
    engine_map(engine, HOST_A, 80, 1, 3600);
    engine_add_filter(engine, 0x09090909, 128, 0);
    assert_result(engine_ask(engine, HOST_A), PCP_RESULT_EXCESSIVE_REMOTE_PEERS);
}

/* [R-6887-13.3-10] */
static void test_filters_after_too_many_in_a_create(void **state)
{
    struct engine *engine = *state;

    assert_result(ask_with(engine, 1, 5, false), PCP_RESULT_EXCESSIVE_REMOTE_PEERS);
    assert_int_equal(engine_n_live(engine), 0);
    assert_result(ask_with(engine, 1, 4, false), PCP_RESULT_SUCCESS);
}

static void test_filters_after_duplicates(void **state)
{
    struct engine *engine = *state;

    engine_map(engine, HOST_A, 80, 1, 3600);
    for (uint32_t i = 0; i < 30; i++)
        engine_add_filter(engine, REMOTE + i, 120, 443); /* the same /24, whatever is behind it */
    assert_result(engine_ask(engine, HOST_A), PCP_RESULT_SUCCESS);
    assert_int_equal(filters_of(engine)->n_filters, 1);
    engine_map(engine, HOST_A, 80, 1, 3600);
    engine_add_filter(engine, REMOTE, 120, 444);
    engine_add_filter(engine, REMOTE, 121, 443);
    assert_result(engine_ask(engine, HOST_A), PCP_RESULT_SUCCESS);
    assert_int_equal(filters_of(engine)->n_filters, 3);
}

/* [R-6887-13.3-8] */
static void test_filters_after_wrong_family(void **state)
{
    struct engine *engine = *state;
    struct pcp_option option = {
        .code = PCP_OPTION_FILTER,
        .filter = {.remote = {{{0x20, 1, 0x0d, 0xb8}}, 32}},
    };

    engine_map(engine, HOST_A, 80, 1, 3600);
    engine_add_filter(engine, REMOTE, 128, 0);
    engine_add_option(engine, &option);
    assert_result(engine_ask(engine, HOST_A), PCP_RESULT_MALFORMED_OPTION);
    assert_int_equal(engine_n_live(engine), 0);
}

/* Whoever gets a held port back does not get the old filters, nor does anybody keep a mapping open that was to be filtered. */
static void test_filters_after_revival(void **state)
{
    struct engine *engine = *state;

    uint16_t port = ask_with(engine, 1, 2, false)->mapping.external.port;
    engine_delete(engine, HOST_A, 80, 1);
    assert_int_equal(ask_with(engine, 7, 1, false)->mapping.external.port, port);
    assert_int_equal(filters_of(engine)->n_filters, 1);
    assert_consistent(engine);
}

/* A failed commit puts the old list back. */
static void test_filters_after_failed_commit(void **state)
{
    struct engine *engine = *state;

    ask_with(engine, 1, 2, false);
    for (enum engine_end end = ENGINE_STORE_FAILS; end <= ENGINE_KERNEL_FAILS; end++) {
        engine_map(engine, HOST_A, 80, 1, 3600);
        engine_add_filter(engine, 0, 0, 0);
        engine_send(engine, HOST_A);
        assert_true(engine_seal(engine));
        assert_null(filters_of(engine));
        engine_finish(engine, end);
        assert_int_equal(filters_of(engine)->n_filters, 2);
        engine_sleep_s(engine, 2);
        engine_settle(engine);
        assert_consistent(engine);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ENGINE_TEST(test_filters_after_create),
        ENGINE_TEST(test_filters_after_renewals),
        ENGINE_TEST(test_filters_after_too_many),
        ENGINE_TEST(test_filters_after_a_lower_limit),
        ENGINE_TEST(test_filters_after_too_many_in_a_create),
        ENGINE_TEST(test_filters_after_duplicates),
        ENGINE_TEST(test_filters_after_wrong_family),
        ENGINE_TEST(test_filters_after_revival),
        ENGINE_TEST(test_filters_after_failed_commit),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
