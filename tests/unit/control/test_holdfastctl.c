/*
 * The program itself against a fake daemon: what it asks, prints and exits with. argv[1] is the
 * program.
 */

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/util.h"
#include "fake_daemon.h"

static const char *program;

#define OUTPUT_SIZE 8192
#define WORDS_MAX 8

struct run {
    int status;
    char out[OUTPUT_SIZE], err[OUTPUT_SIZE];
};

static void read_back(int fd, char *ret_text)
{
    ssize_t n = pread(fd, ret_text, OUTPUT_SIZE - 1, 0);
    assert_true(n >= 0);
    ret_text[n] = '\0';
    close(fd);
}

/* Becomes the program; `words` are split at spaces. */
static void become(const char *socket_path, const char *words, int out, int err)
{
    static char copy[256];
    const char *arguments[WORDS_MAX + 2] = {program};
    size_t n_arguments = 1;
    snprintf(copy, sizeof(copy), "%s", words);
    for (char *rest = copy, *word; (word = strsep(&rest, " ")) != NULL && n_arguments <= WORDS_MAX;)
        arguments[n_arguments++] = word;
    setenv("HOLDFAST_CONTROL", socket_path, 1);
    dup2(out, STDOUT_FILENO);
    dup2(err, STDERR_FILENO);
    execv(program, (char **) (uintptr_t) arguments);
    _exit(99);
}

static int open_temporary(void)
{
    char path[] = "/tmp/holdfast-test-XXXXXX";
    int fd = mkostemp(path, O_CLOEXEC);
    assert_true(fd >= 0);
    unlink(path);
    return fd;
}

static void run_program(const char *socket_path, const char *words, int out, struct run *ret_run)
{
    int err = open_temporary(), status;
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0)
        become(socket_path, words, out, err);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    ret_run->status = WEXITSTATUS(status);
    read_back(err, ret_run->err);
}

static void check_run(const char *socket_path, const char *words, int status, const char *out,
                      const char *err)
{
    struct run run;
    int out_fd = open_temporary();
    run_program(socket_path, words, out_fd, &run);
    read_back(out_fd, run.out);
    assert_string_equal(run.err, err);
    assert_string_equal(run.out, out);
    assert_int_equal(run.status, status);
}

/* `answer` is one or more messages, with the NUL of the last one as the string's own. */
#define ANSWER(text) .answer = (text), .size_bytes = sizeof(text)

static void check_talk(struct fake_script script, const char *words, int status, const char *out,
                       const char *err)
{
    struct fake_daemon daemon;
    fake_daemon_start(&daemon, &script);
    check_run(daemon.path, words, status, out, err);
    fake_daemon_stop(&daemon);
}

#define CALL(method, parameters)                                                                   \
    "{\"method\":\"io.holdfast.Control." method "\",\"parameters\":" parameters

static void test_holdfastctl_list_merges_replies(void **state)
{
    (void) state;
    const struct fake_script script = {
        .expected_call = CALL("List", "{\"id\":7}") ",\"more\":true}",
        ANSWER("{\"parameters\": {\"mappings\": [{\"id\": 1}, {\"id\": 2}]}, \"continues\": true}\0"
               "{\"parameters\": {\"mappings\": []}, \"continues\": true}\0"
               "{\"parameters\": {\"mappings\": [{\"id\": 3}]}}"),
    };
    check_talk(script, "list --id 7 --json", 0,
               "{\"mappings\": [\n{\"id\": 1},\n{\"id\": 2},\n{\"id\": 3}\n]}\n", "");
    check_talk(script, "list --id 7", 0,
               "ID  KIND  PROTOCOL  INTERNAL  EXTERNAL  REMOTE  LIFETIME  FILTERS  CLIENT\n"
               " 1  ?     ?         ?         ?         ?              ?        0  ?\n"
               " 2  ?     ?         ?         ?         ?              ?        0  ?\n"
               " 3  ?     ?         ?         ?         ?              ?        0  ?\n",
               "");
}

static void test_holdfastctl_list_empty(void **state)
{
    (void) state;
    const struct fake_script script = {ANSWER("{\"parameters\": {\"mappings\": []}}")};
    check_talk(script, "list --json", 0, "{\"mappings\": []}\n", "");
    check_talk(script, "list", 0, "no mappings\n", "");
}

static void test_holdfastctl_list_broken_off(void **state)
{
    (void) state;
    const struct fake_script closed = {
        ANSWER("{\"parameters\": {\"mappings\": []}, \"continues\": true}")};
    check_talk(closed, "list", 3, "",
               "holdfastctl: holdfastd closed the connection without an answer\n");
    const struct fake_script strange = {ANSWER("{\"parameters\": {}}")};
    check_talk(strange, "list", 1, "", "holdfastctl: holdfastd sent a list without mappings\n");
}

static void test_holdfastctl_status_json(void **state)
{
    (void) state;
    const struct fake_script script = {
        .expected_call = CALL("Status", "{}") "}",
        ANSWER("{\"parameters\": {\"version\": \"0.1.0\"}}"),
    };
    check_talk(script, "--json status", 0, "{\n  \"version\": \"0.1.0\"\n}\n", "");
}

static void test_holdfastctl_clear_counts(void **state)
{
    (void) state;
    const struct fake_script one = {
        .expected_call = CALL("Clear", "{\"id\":5}") "}",
        ANSWER("{\"parameters\": {\"cleared\": 1}}"),
    };
    check_talk(one, "clear --id 5", 0, "1 mapping cleared\n", "");
    const struct fake_script none = {
        .expected_call = CALL("Clear", "{\"all\":true}") "}",
        ANSWER("{\"parameters\": {\"cleared\": 0}}"),
    };
    check_talk(none, "clear --all", 0, "0 mappings cleared\n", "");
}

static void test_holdfastctl_reload_refused(void **state)
{
    (void) state;
    const struct fake_script script = {
        .expected_call = CALL("Reload", "{}") "}",
        ANSWER("{\"error\": \"io.holdfast.Control.Failed\", \"parameters\": {\"reason\": "
               "\"a:1: x\\na:2: y\"}}"),
    };
    check_talk(script, "reload", 1, "", "holdfastctl: a:1: x\nholdfastctl: a:2: y\n");
    const struct fake_script done = {ANSWER("{}")};
    check_talk(done, "reload", 0, "", "");
}

static void test_holdfastctl_log_level_denied(void **state)
{
    (void) state;
    const struct fake_script script = {
        .expected_call = CALL("SetLogLevel", "{\"level\":\"debug\"}") "}",
        ANSWER("{\"error\": \"org.varlink.service.PermissionDenied\"}"),
    };
    check_talk(script, "log-level debug", 1, "",
               "holdfastctl: permission denied: that is for root and the daemon's user\n");
}

static void test_holdfastctl_nonsense_from_daemon(void **state)
{
    (void) state;
    const struct fake_script script = {ANSWER("hello")};
    check_talk(script, "status", 1, "",
               "holdfastctl: holdfastd sent something that is not a reply\n");
}

static void test_holdfastctl_no_daemon(void **state)
{
    (void) state;
    check_run("/nonexistent/control", "status", 3, "",
              "holdfastctl: cannot connect to /nonexistent/control: No such file or directory (is "
              "holdfastd running?)\n");
    check_run("/nonexistent/a", "status --socket /nonexistent/b", 3, "",
              "holdfastctl: cannot connect to /nonexistent/b: No such file or directory (is "
              "holdfastd running?)\n");
}

static void test_holdfastctl_wrong_usage(void **state)
{
    (void) state;
    check_run("/nonexistent/control", "status --all", 2, "",
              "holdfastctl: status does not take --all (see holdfastctl --help)\n");
}

static void test_holdfastctl_version(void **state)
{
    (void) state;
    check_run("", "--version", 0, "holdfastctl " HOLDFAST_VERSION "\n", "");
}

static void test_holdfastctl_help(void **state)
{
    (void) state;
    struct run run;
    int out = open_temporary();
    run_program("", "--help", out, &run);
    read_back(out, run.out);
    assert_int_equal(run.status, 0);
    static const char *const words[] = {"status",          "list",
                                        "clear",           "reload",
                                        "log-level",       "--socket",
                                        "--json",          "--subscriber",
                                        "--protocol",      "--id",
                                        "--all",           "--version",
                                        "--internal-port", "$HOLDFAST_CONTROL",
                                        "exit status"};
    for (size_t i = 0; i < N_ELEMENTS(words); i++)
        assert_non_null(strstr(run.out, words[i]));
}

static void test_holdfastctl_full_device(void **state)
{
    (void) state;
    struct run run;
    int out = open("/dev/full", O_WRONLY | O_CLOEXEC);
    assert_true(out >= 0);
    run_program("", "--version", out, &run);
    close(out);
    assert_int_equal(run.status, 1);
    assert_string_equal(run.err, "holdfastctl: cannot write the answer: No space left on device\n");
}

int main(int argc, char **argv)
{
    if (argc != 2)
        return 2;
    program = argv[1];
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_holdfastctl_list_merges_replies),
        cmocka_unit_test(test_holdfastctl_list_empty),
        cmocka_unit_test(test_holdfastctl_list_broken_off),
        cmocka_unit_test(test_holdfastctl_status_json),
        cmocka_unit_test(test_holdfastctl_clear_counts),
        cmocka_unit_test(test_holdfastctl_reload_refused),
        cmocka_unit_test(test_holdfastctl_log_level_denied),
        cmocka_unit_test(test_holdfastctl_nonsense_from_daemon),
        cmocka_unit_test(test_holdfastctl_no_daemon),
        cmocka_unit_test(test_holdfastctl_wrong_usage),
        cmocka_unit_test(test_holdfastctl_version),
        cmocka_unit_test(test_holdfastctl_help),
        cmocka_unit_test(test_holdfastctl_full_device),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
