/* Commits: nothing is told before it is kept, and what is not kept is taken back and said so. */

#include "fixture.h"

/* The allocator can be told to fail: at the n-th call from now, and from then on when `fails_on` is set. */
static unsigned int fail_at;
static bool fails_on;

static bool fails_now(void)
{
    if (fail_at == 0)
        return false;
    if (fail_at > 1) {
        fail_at--;
        return false;
    }
    fail_at = fails_on;
    return true;
}

void *__real_malloc(size_t size_bytes);
void *__real_calloc(size_t n, size_t size_bytes);
void *__real_reallocarray(void *old, size_t n, size_t size_bytes);
void *__wrap_malloc(size_t size_bytes);
void *__wrap_calloc(size_t n, size_t size_bytes);
void *__wrap_reallocarray(void *old, size_t n, size_t size_bytes);

void *__wrap_malloc(size_t size_bytes)
{
    return fails_now() ? NULL : __real_malloc(size_bytes);
}

void *__wrap_calloc(size_t n, size_t size_bytes)
{
    return fails_now() ? NULL : __real_calloc(n, size_bytes);
}

void *__wrap_reallocarray(void *old, size_t n, size_t size_bytes)
{
    return fails_now() ? NULL : __real_reallocarray(old, n, size_bytes);
}

/* The one new answer, or the test fails. */
static const struct pcp_response *take_one(struct engine *engine)
{
    assert_int_equal(engine_collect(engine), 1);
    return engine_answer(engine, 0);
}

static void send_map(struct engine *engine, uint32_t host, uint16_t internal_port, uint32_t nonce,
                     uint32_t lifetime_s)
{
    engine_map(engine, host, internal_port, nonce, lifetime_s);
    engine_send(engine, host);
}

static void test_create_is_answered_after_its_commit(void **state)
{
    struct engine *engine = *state;

    send_map(engine, HOST_A, 80, 1, 3600);
    assert_int_equal(engine_collect(engine), 0);
    assert_true(engine_seal(engine));
    assert_int_equal(engine_collect(engine), 0);
    engine_finish(engine, ENGINE_COMMITS);
    assert_result(take_one(engine), PCP_RESULT_SUCCESS);
    assert_false(server_wants_commit(engine->server, engine->now_ns));
}

static void test_one_commit_for_all_of_a_tick(void **state)
{
    struct engine *engine = *state;
    unsigned int n_commits = memory_store_n_commits(engine->store);

    for (uint32_t i = 0; i < 50; i++)
        send_map(engine, HOST_A + i, 80, 1, 3600);
    engine_settle(engine);
    assert_int_equal(engine_collect(engine), 50);
    assert_int_equal(memory_store_n_commits(engine->store), n_commits + 1);
    assert_consistent(engine);
}

/* Answers that tell of what is still in flight wait for it, whatever kind of answer. */
static void test_answers_about_uncommitted_state_wait(void **state)
{
    struct engine *engine = *state;

    send_map(engine, HOST_A, 80, 1, 3600);
    assert_true(engine_seal(engine));
    send_map(engine, HOST_A, 80, 1, 3600); /* retransmission */
    send_map(engine, HOST_A, 80, 2, 3600); /* NOT_AUTHORIZED */
    send_map(engine, HOST_A, 99, 1, 0);    /* deletes nothing */
    assert_int_equal(engine_collect(engine), 0);
    /* Somebody else need not wait. */
    send_map(engine, HOST_B, 99, 1, 0);
    assert_int_equal(engine_collect(engine), 1);

    engine_finish(engine, ENGINE_COMMITS);
    assert_result(take_one(engine), PCP_RESULT_SUCCESS);
    unsigned int n_commits = memory_store_n_commits(engine->store);
    engine_settle(engine);
    assert_int_equal(engine_collect(engine), 3);
    assert_result(engine_answer(engine, 0), PCP_RESULT_SUCCESS);
    assert_result(engine_answer(engine, 1), PCP_RESULT_NOT_AUTHORIZED);
    assert_result(engine_answer(engine, 2), PCP_RESULT_SUCCESS);
    assert_int_equal(memory_store_n_commits(engine->store), n_commits);
}

static void test_answers_about_an_uncommitted_delete_wait(void **state)
{
    struct engine *engine = *state;

    engine_create(engine, HOST_A, 80, 1, 3600);
    send_map(engine, HOST_A, 80, 1, 0);
    assert_true(engine_seal(engine));
    send_map(engine, HOST_A, 80, 1, 0); /* the delete again: there is nothing any more */
    assert_int_equal(engine_collect(engine), 0);
    engine_finish(engine, ENGINE_STORE_FAILS);
    assert_int_equal(engine_collect(engine), 2);
    assert_result(engine_answer(engine, 0), PCP_RESULT_NO_RESOURCES);
    assert_result(engine_answer(engine, 1), PCP_RESULT_NO_RESOURCES);
    assert_int_equal(engine_n_live(engine), 1);
    assert_int_equal(engine_n_held(engine), 0);
    engine_settle(engine);
    assert_consistent(engine);
}

/* [R-6887-7.4-4] */
static void test_store_fails_for_a_create(void **state)
{
    struct engine *engine = *state;

    engine_sleep_s(engine, 50);
    send_map(engine, HOST_A, 80, 1, 3600);
    assert_true(engine_seal(engine));
    engine_finish(engine, ENGINE_STORE_FAILS);
    const struct pcp_response *response = take_one(engine);
    assert_result(response, PCP_RESULT_NO_RESOURCES);
    assert_int_equal(response->lifetime_s, 30);
    assert_int_equal(response->epoch_s, 50);
    assert_int_equal(engine_n_live(engine) + engine_n_held(engine), 0);
    assert_int_equal(memory_nat_count(engine->nat), 0);
    assert_int_equal(memory_store_count(engine->store), 0);
    assert_int_equal(server_counters(engine->server)->n_commits_failed, 1);
    assert_int_equal(server_counters(engine->server)->results[PCP_RESULT_NO_RESOURCES], 1);

    engine_create(engine, HOST_A, 80, 1, 3600);
    assert_consistent(engine);
}

static void test_store_fails_for_a_renewal(void **state)
{
    struct engine *engine = *state;
    struct mapping_record before, after;

    engine_create(engine, HOST_A, 80, 1, 3600);
    assert_true(engine_find(engine, HOST_A, 80, &before));
    engine_sleep_s(engine, 100);
    send_map(engine, HOST_A, 80, 1, 7200);
    assert_true(engine_seal(engine));
    engine_finish(engine, ENGINE_STORE_FAILS);
    assert_result(take_one(engine), PCP_RESULT_NO_RESOURCES);
    assert_true(engine_find(engine, HOST_A, 80, &after));
    assert_true(mapping_record_equal(&before, &after));
    assert_consistent(engine);
}

/* [R-6887-7.3-6] */
static void test_error_answer_carries_the_request(void **state)
{
    struct engine *engine = *state;

    engine_map(engine, HOST_A, 80, 1, 3600)->mapping.external.port = 5000;
    engine_add_filter(engine, 0x01020304, 128, 443);
    engine_send(engine, HOST_A);
    assert_true(engine_seal(engine));
    engine_finish(engine, ENGINE_STORE_FAILS);
    const struct pcp_response *response = take_one(engine);
    assert_int_equal(response->mapping.external.port, 5000);
    assert_int_equal(response->mapping.internal_port, 80);
    assert_int_equal(response->n_options, 1);
    assert_int_equal(response->options[0].filter.remote_port, 443);
    assert_memory_equal(response->mapping.nonce, engine->request.mapping.nonce, PCP_NONCE_SIZE);
}

static void test_kernel_fails_and_the_store_is_put_back(void **state)
{
    struct engine *engine = *state;
    const uint8_t results[] = {PCP_RESULT_NO_RESOURCES, PCP_RESULT_NETWORK_FAILURE};

    engine_create(engine, HOST_B, 80, 1, 3600);
    for (int i = 0; i < 2; i++) {
        send_map(engine, HOST_A, 80, 1, 3600);
        assert_true(engine_seal(engine));
        engine_finish(engine, i == 0 ? ENGINE_KERNEL_FULL : ENGINE_KERNEL_FAILS);
        assert_result(take_one(engine), results[i]);
        assert_int_equal(engine_n_live(engine), 1);
        assert_int_equal(memory_nat_count(engine->nat), 1);
        /* Not at once, nobody waits for it; but without anybody asking. */
        assert_int_equal(memory_store_count(engine->store), 2);
        assert_false(server_wants_commit(engine->server, engine->now_ns));
        assert_int_equal(server_next_deadline_ns(engine->server), engine->now_ns + NS_PER_S);
        engine_sleep_s(engine, 1);
        engine_settle(engine);
        assert_int_equal(memory_store_count(engine->store), 1);
        assert_consistent(engine);
    }
    engine_create(engine, HOST_A, 80, 1, 3600);
    assert_consistent(engine);
}

/* What the store has too much goes with the commit of whatever comes next. */
static void test_kernel_fails_and_the_next_request_puts_the_store_back(void **state)
{
    struct engine *engine = *state;

    engine_create(engine, HOST_A, 80, 1, 3600);
    send_map(engine, HOST_A, 80, 1, 0);
    send_map(engine, HOST_A, 81, 1, 3600);
    assert_true(engine_seal(engine));
    engine_finish(engine, ENGINE_KERNEL_FAILS);
    assert_int_equal(engine_collect(engine), 2);
    engine_create(engine, HOST_B, 80, 1, 3600);
    assert_int_equal(engine_n_live(engine), 2);
    assert_false(engine->store_owed);
    assert_consistent(engine);
    engine_crash(engine, ENGINE_CRASH_BEFORE_STORE);
    assert_int_equal(engine_n_live(engine), 2);
    assert_consistent(engine);
}

/* Failures in a row, in every order: when it is over, store, table and kernel agree and nothing answered is missing. */
/* [R-6887-7.3-5] */
static void test_failures_in_a_row(void **state)
{
    struct engine *engine = *state;

    for (enum engine_end first = ENGINE_STORE_FAILS; first <= ENGINE_KERNEL_FAILS; first++) {
        for (enum engine_end second = ENGINE_STORE_FAILS; second <= ENGINE_KERNEL_FAILS; second++) {
            engine_create(engine, HOST_A, 80, 1, 3600);
            send_map(engine, HOST_A, 80, 1, 0);
            assert_true(engine_seal(engine));
            engine_finish(engine, first);
            send_map(engine, HOST_A, 80, 1, 7200);
            send_map(engine, HOST_A, 81, 1, 3600);
            assert_true(engine_seal(engine));
            engine_finish(engine, second);
            assert_int_equal(engine_n_live(engine), 1);
            engine_collect(engine);
            engine_sleep_s(engine, 1);
            engine_settle(engine);
            assert_int_equal(engine_n_live(engine), 1);
            assert_consistent(engine);
            engine_delete(engine, HOST_A, 80, 1);
        }
    }
}

/* The store has what was refused when the daemon dies: it comes back as a mapping nobody was promised, and all agree. */
static void test_kernel_fails_and_the_daemon_dies(void **state)
{
    struct engine *engine = *state;

    engine_create(engine, HOST_B, 80, 1, 3600);
    send_map(engine, HOST_A, 80, 1, 3600);
    assert_true(engine_seal(engine));
    engine_finish(engine, ENGINE_KERNEL_FAILS);
    send_map(engine, HOST_A, 81, 1, 3600);
    assert_true(engine_seal(engine));
    engine_finish(engine, ENGINE_STORE_FAILS);
    engine_collect(engine);
    engine_crash(engine, ENGINE_CRASH_BEFORE_STORE);
    assert_consistent(engine);
    struct mapping_record record;
    assert_true(engine_find(engine, HOST_B, 80, &record));
    assert_false(engine_find(engine, HOST_A, 81, &record));
    assert_true(engine_find(engine, HOST_A, 80, &record));
    assert_int_equal(engine_create(engine, HOST_A, 80, 1, 3600), record.external_port);
}

/* A delete of what was never granted is answered at once, but not while the store could still bring it back. */
static void test_delete_waits_for_what_the_store_has_too_much(void **state)
{
    struct engine *engine = *state;
    struct mapping_record record;

    send_map(engine, HOST_A, 80, 1, 3600);
    assert_true(engine_seal(engine));
    engine_finish(engine, ENGINE_KERNEL_FAILS);
    assert_result(take_one(engine), PCP_RESULT_NETWORK_FAILURE);
    send_map(engine, HOST_A, 80, 1, 0);
    assert_int_equal(engine_collect(engine), 0);
    engine_settle(engine);
    assert_result(take_one(engine), PCP_RESULT_SUCCESS);
    engine_crash(engine, ENGINE_CRASH_BEFORE_STORE);
    assert_false(engine_find(engine, HOST_A, 80, &record));
    assert_consistent(engine);
}

static void test_failure_takes_the_tick_on_top_back(void **state)
{
    struct engine *engine = *state;

    for (enum engine_end end = ENGINE_STORE_FAILS; end <= ENGINE_KERNEL_FAILS; end++) {
        send_map(engine, HOST_A, 80, 1, 3600);
        assert_true(engine_seal(engine));
        send_map(engine, HOST_A, 80, 1, 7200); /* renews what is not there yet */
        send_map(engine, HOST_A, 80, 1, 0);    /* and deletes it */
        send_map(engine, HOST_B, 80, 1, 3600);
        engine_finish(engine, end);
        assert_int_equal(engine_collect(engine), 4);
        for (size_t i = 0; i < 4; i++)
            assert_int_not_equal(engine_answer(engine, i)->result, PCP_RESULT_SUCCESS);
        assert_int_equal(engine_n_live(engine) + engine_n_held(engine), 0);
        engine_sleep_s(engine, 1);
        engine_settle(engine);
        assert_int_equal(memory_store_count(engine->store), 0);
        assert_consistent(engine);
    }
}

/* A port that changes hands within two ticks goes back to whom it belonged. */
static void test_failure_gives_a_port_back_to_its_owner(void **state)
{
    struct engine *engine = *state;
    struct server_settings settings = engine_settings();

    settings.recycle_delay_s = 0;
    restart_with(engine, &settings);
    engine_map(engine, HOST_A, 80, 1, 3600)->mapping.external.port = 5000;
    assert_int_equal(engine_ask(engine, HOST_A)->mapping.external.port, 5000);
    send_map(engine, HOST_A, 80, 1, 0);
    assert_true(engine_seal(engine));
    engine_map(engine, HOST_B, 80, 1, 3600)->mapping.external.port = 5000;
    engine_send(engine, HOST_B);
    engine_finish(engine, ENGINE_KERNEL_FAILS);
    assert_int_equal(engine_collect(engine), 2);
    engine_map(engine, HOST_B, 80, 1, 3600)->mapping.external.port = 5000;
    assert_int_not_equal(engine_ask(engine, HOST_B)->mapping.external.port, 5000);
    struct mapping_record record;
    assert_true(engine_find(engine, HOST_A, 80, &record));
    assert_int_equal(record.external_port, 5000);
    assert_consistent(engine);
}

/* Dead at any step of a commit: what was not answered may be there or not, what was answered is. */
static void test_crash_at_each_step(void **state)
{
    struct engine *engine = *state;
    struct mapping_record record;

    for (enum engine_crash how = ENGINE_CRASH_BEFORE_STORE; how <= ENGINE_CRASH_AFTER_KERNEL;
         how++) {
        uint16_t port = engine_create(engine, HOST_A, 80, 1, 3600);
        send_map(engine, HOST_B, 80, 1, 3600);
        send_map(engine, HOST_A, 81, 2, 3600);
        assert_true(engine_seal(engine));
        send_map(engine, HOST_B, 82, 1, 3600); /* never leaves memory */
        engine_crash(engine, how);
        assert_int_equal(engine_collect(engine), 0);
        assert_consistent(engine);
        assert_true(engine_find(engine, HOST_A, 80, &record));
        assert_int_equal(record.external_port, port);
        assert_false(engine_find(engine, HOST_B, 82, &record));
        assert_int_equal(engine_n_live(engine), how == ENGINE_CRASH_BEFORE_STORE ? 1 : 3);
        /* The client asks again, as it got no answer. */
        engine_create(engine, HOST_B, 80, 1, 3600);
        engine_create(engine, HOST_A, 81, 2, 3600);
        engine_delete(engine, HOST_B, 80, 1);
        engine_delete(engine, HOST_A, 81, 2);
    }
}

/* RFC 6887 s8.5: a slow disk must not look to clients like lost state. */
/* [R-6887-8.5-1] */
static void test_answer_tells_the_epoch_of_when_it_leaves(void **state)
{
    struct engine *engine = *state;

    engine_sleep_s(engine, 100);
    send_map(engine, HOST_A, 80, 1, 3600);
    assert_true(engine_seal(engine));
    engine_sleep_s(engine, 8);
    engine_finish(engine, ENGINE_COMMITS);
    assert_int_equal(take_one(engine)->epoch_s, 108);

    send_map(engine, HOST_A, 81, 1, 3600);
    assert_true(engine_seal(engine));
    engine_sleep_s(engine, 8);
    engine_finish(engine, ENGINE_STORE_FAILS);
    assert_int_equal(take_one(engine)->epoch_s, 116);
}

/*
 * A grant that is lost again before its answer leaves must not come with the Epoch that tells of the loss: the client would take
 * it for newer.
 */
static void test_answer_keeps_to_the_epoch_it_was_decided_under(void **state)
{
    struct engine *engine = *state;
    uint64_t tick;

    engine_sleep_s(engine, 1000);
    send_map(engine, HOST_A, 80, 1, 3600);
    assert_true(engine_seal(engine));
    engine_sleep_s(engine, 1);
    assert_int_equal(server_clear(engine->server, engine->now_ns, SERVER_CLEAR_ALL, NULL, 0, &tick),
                     1);
    engine_sleep_s(engine, 4);
    engine_finish(engine, ENGINE_COMMITS);
    assert_int_equal(take_one(engine)->epoch_s, 1005);
    engine_settle(engine);
    assert_int_equal(engine_epoch_s(engine, HOST_A), 4);
}

/* Whichever allocation fails while a request is decided: an error or no answer, nothing left behind, and the next one works. */
static void test_out_of_memory_while_deciding(void **state)
{
    struct engine *engine = *state;
    struct server_settings settings = engine_settings();
    struct mapping_record record;
    unsigned int n_refused = 0;

    for (unsigned int at = 2; at < 40; at++) { /* the first is the test's own */
        restart_with(engine, &settings);
        engine_map(engine, HOST_A, 80, 1, 3600);
        engine_add_filter(engine, 0x01020304, 128, 0);
        fail_at = at;
        engine_send(engine, HOST_A);
        fail_at = 0;
        engine_settle(engine);
        bool is_granted = false;
        if (engine_collect(engine) > 0) {
            uint8_t result = engine_answer(engine, 0)->result;
            assert_true(result == PCP_RESULT_SUCCESS || result == PCP_RESULT_NO_RESOURCES);
            is_granted = result == PCP_RESULT_SUCCESS;
            n_refused += !is_granted;
        }
        if (is_granted)
            assert_true(engine_find(engine, HOST_A, 80, &record));
        assert_consistent(engine);
        engine_create(engine, HOST_A, 80, 1, 7200);
        assert_consistent(engine);
    }
    assert_true(n_refused >= 5);
}

/* To take back a success there must be no need of memory. */
static void test_out_of_memory_while_failing(void **state)
{
    struct engine *engine = *state;

    send_map(engine, HOST_A, 80, 1, 3600);
    send_map(engine, HOST_B, 80, 1, 3600);
    assert_true(engine_seal(engine));
    send_map(engine, HOST_B, 81, 1, 3600);
    fails_on = true;
    fail_at = 1;
    engine_finish(engine, ENGINE_STORE_FAILS);
    fail_at = 0;
    fails_on = false;
    size_t n = engine_collect(engine);
    assert_true(n >= 2);
    for (size_t i = 0; i < n; i++)
        assert_result(engine_answer(engine, i), PCP_RESULT_NO_RESOURCES);
    assert_int_equal(engine_n_live(engine) + engine_n_held(engine), 0);
    engine_create(engine, HOST_A, 80, 1, 3600);
    assert_consistent(engine);
}

static void test_stamp_is_retried_at_intervals(void **state)
{
    struct engine *engine = *state;

    server_stamp_clock(engine->server);
    for (int i = 0; i < 3; i++) {
        assert_true(server_wants_commit(engine->server, engine->now_ns));
        assert_true(engine_seal(engine));
        assert_int_equal(engine->commit.n_changes, 0);
        engine_finish(engine, ENGINE_STORE_FAILS);
        assert_false(server_wants_commit(engine->server, engine->now_ns));
        assert_int_equal(server_next_deadline_ns(engine->server), engine->now_ns + NS_PER_S);
        engine_sleep_s(engine, 1);
    }
    engine_settle(engine);
    assert_int_equal(server_next_deadline_ns(engine->server), TIME_NEVER);
}

static void test_idle_wants_nothing(void **state)
{
    struct engine *engine = *state;

    assert_false(server_wants_commit(engine->server, engine->now_ns));
    assert_false(engine_seal(engine));
    assert_int_equal(server_next_deadline_ns(engine->server), TIME_NEVER);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ENGINE_TEST(test_create_is_answered_after_its_commit),
        ENGINE_TEST(test_one_commit_for_all_of_a_tick),
        ENGINE_TEST(test_answers_about_uncommitted_state_wait),
        ENGINE_TEST(test_answers_about_an_uncommitted_delete_wait),
        ENGINE_TEST(test_store_fails_for_a_create),
        ENGINE_TEST(test_store_fails_for_a_renewal),
        ENGINE_TEST(test_error_answer_carries_the_request),
        ENGINE_TEST(test_kernel_fails_and_the_store_is_put_back),
        ENGINE_TEST(test_kernel_fails_and_the_next_request_puts_the_store_back),
        ENGINE_TEST(test_failures_in_a_row),
        ENGINE_TEST(test_kernel_fails_and_the_daemon_dies),
        ENGINE_TEST(test_delete_waits_for_what_the_store_has_too_much),
        ENGINE_TEST(test_failure_takes_the_tick_on_top_back),
        ENGINE_TEST(test_failure_gives_a_port_back_to_its_owner),
        ENGINE_TEST(test_crash_at_each_step),
        ENGINE_TEST(test_answer_tells_the_epoch_of_when_it_leaves),
        ENGINE_TEST(test_answer_keeps_to_the_epoch_it_was_decided_under),
        ENGINE_TEST(test_out_of_memory_while_deciding),
        ENGINE_TEST(test_out_of_memory_while_failing),
        ENGINE_TEST(test_stamp_is_retried_at_intervals),
        ENGINE_TEST(test_idle_wants_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
