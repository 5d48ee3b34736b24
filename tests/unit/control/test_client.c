#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "control/client.h"
#include "fake_daemon.h"

#define TIMEOUT_MS 10000

static void open_and_call(struct control_client *client, const struct fake_daemon *daemon,
                          unsigned int timeout_ms)
{
    assert_int_equal(control_client_open(client, daemon->path, timeout_ms), 0);
    assert_int_equal(control_client_call(client, "a.B", json_pack("{s:i}", "id", 7), true), 0);
}

/* Expects the first reply to fail like this. */
static void check_failure(const struct fake_script *script, unsigned int timeout_ms, int expected,
                          const char *error)
{
    struct fake_daemon daemon;
    struct control_client client;
    struct control_reply reply;
    fake_daemon_start(&daemon, script);
    open_and_call(&client, &daemon, timeout_ms);
    assert_int_equal(control_client_receive(&client, &reply), expected);
    assert_string_equal(client.error, error);
    control_client_close(&client);
    fake_daemon_stop(&daemon);
}

static void check_replies(size_t piece_bytes)
{
    static const char answer[] = "{\"parameters\": {\"n\": 1}, \"continues\": true}\0"
                                 "{\"parameters\": {\"n\": 2}, \"continues\": true}\0"
                                 "{\"error\": \"x.Y\"}";
    const struct fake_script script = {
        .expected_call = "{\"method\":\"a.B\",\"parameters\":{\"id\":7},\"more\":true}",
        .answer = answer,
        .size_bytes = sizeof(answer),
        .piece_bytes = piece_bytes,
    };
    struct fake_daemon daemon;
    struct control_client client;
    struct control_reply reply;
    fake_daemon_start(&daemon, &script);
    open_and_call(&client, &daemon, TIMEOUT_MS);
    for (int n = 1; n <= 2; n++) {
        assert_int_equal(control_client_receive(&client, &reply), 0);
        assert_true(reply.continues);
        assert_int_equal(json_integer_value(json_object_get(reply.parameters, "n")), n);
        control_reply_deinit(&reply);
    }
    assert_int_equal(control_client_receive(&client, &reply), 0);
    assert_string_equal(reply.error, "x.Y");
    control_reply_deinit(&reply);
    assert_int_equal(control_client_receive(&client, &reply), -ECONNRESET);
    control_client_close(&client);
    fake_daemon_stop(&daemon);
}

static void test_control_client_receive_in_pieces(void **state)
{
    (void) state;
    check_replies(0);
    check_replies(1);
    check_replies(50);
}

static void test_control_client_receive_large_reply(void **state)
{
    (void) state;
    char *answer = malloc(CONTROL_REPLY_SIZE_MAX + 1);
    memset(answer, ' ', CONTROL_REPLY_SIZE_MAX);
    memcpy(answer, "{}", 2);
    answer[CONTROL_REPLY_SIZE_MAX] = '\0';
    const struct fake_script script = {.answer = answer, .size_bytes = CONTROL_REPLY_SIZE_MAX + 1};
    struct fake_daemon daemon;
    struct control_client client;
    struct control_reply reply;
    fake_daemon_start(&daemon, &script);
    open_and_call(&client, &daemon, TIMEOUT_MS);
    assert_int_equal(control_client_receive(&client, &reply), 0);
    control_reply_deinit(&reply);
    control_client_close(&client);
    fake_daemon_stop(&daemon);
    free(answer);
}

static void test_control_client_receive_too_large_reply(void **state)
{
    (void) state;
    char *answer = malloc(CONTROL_REPLY_SIZE_MAX + 2);
    memset(answer, ' ', CONTROL_REPLY_SIZE_MAX + 2);
    const struct fake_script script = {.answer = answer, .size_bytes = CONTROL_REPLY_SIZE_MAX + 2};
    check_failure(&script, TIMEOUT_MS, -EBADMSG,
                  "holdfastd sent a reply of more than 4194304 octets");
    free(answer);
}

static void test_control_client_receive_failures(void **state)
{
    (void) state;
    const struct fake_script closing = {.answer = "", .size_bytes = 0};
    check_failure(&closing, TIMEOUT_MS, -ECONNRESET,
                  "holdfastd closed the connection without an answer");
    const struct fake_script partial = {.answer = "{}", .size_bytes = 2};
    check_failure(&partial, TIMEOUT_MS, -ECONNRESET,
                  "holdfastd closed the connection without an answer");
    const struct fake_script nonsense = {.answer = "hello", .size_bytes = 6};
    check_failure(&nonsense, TIMEOUT_MS, -EBADMSG, "holdfastd sent something that is not a reply");
    const struct fake_script silent = {.answer = "{}", .size_bytes = 2, .is_silent = true};
    check_failure(&silent, 20, -ETIMEDOUT, "holdfastd did not answer within 20 ms");
}

static void check_open_failure(const char *path, int expected, const char *error)
{
    struct control_client client;
    assert_int_equal(control_client_open(&client, path, 100), expected);
    assert_string_equal(client.error, error);
    control_client_close(&client);
}

static void test_control_client_open_failures(void **state)
{
    (void) state;
    check_open_failure("/nonexistent/control", -ENOENT,
                       "cannot connect to /nonexistent/control: No such file or directory (is "
                       "holdfastd running?)");
    check_open_failure("/dev/null", -ECONNREFUSED,
                       "cannot connect to /dev/null: Connection refused (is holdfastd running?)");
    char path[200];
    memset(path, 'x', sizeof(path));
    path[108] = '\0';
    struct control_client client;
    assert_int_equal(control_client_open(&client, path, 100), -ENAMETOOLONG);
    control_client_close(&client);
}

/* Nobody accepts and the backlog is full: connecting has to give up. */
static void test_control_client_open_times_out(void **state)
{
    (void) state;
    struct fake_daemon daemon;
    struct control_client waiting[2], client;
    int listener = fake_listen(&daemon);
    for (size_t i = 0; i < 2; i++)
        assert_int_equal(control_client_open(&waiting[i], daemon.path, 1000), 0);
    assert_int_equal(control_client_open(&client, daemon.path, 20), -ETIMEDOUT);
    control_client_close(&client);
    for (size_t i = 0; i < 2; i++)
        control_client_close(&waiting[i]);
    close(listener);
    unlink(daemon.path);
    rmdir(daemon.directory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_control_client_receive_in_pieces),
        cmocka_unit_test(test_control_client_receive_large_reply),
        cmocka_unit_test(test_control_client_receive_too_large_reply),
        cmocka_unit_test(test_control_client_receive_failures),
        cmocka_unit_test(test_control_client_open_failures),
        cmocka_unit_test(test_control_client_open_times_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
