/*
 * The program itself, against a small server of the test's on loopback: what it sends, prints and returns. The program's path is
 * the first argument.
 */

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/util.h"
#include "wire/request.h"
#include "wire/response.h"

#define WORDS_MAX 32
#define PATIENCE_MS 20000
#define NONCE "0102030405060708090a0b0c"
#define SKIPPED_STATUS 77

static const char *program_path;

struct scene {
    /* Writes the answer to `request` and returns its size; 0: silence. */
    size_t (*answer)(struct scene *scene, const uint8_t *request, size_t size_bytes,
                     uint8_t *ret_octets);
    const char *stdout_path; /* NULL: into `out` */
    bool is_isolated;        /* without any route */
    int fd;
    int n_requests;
    struct pcp_request request; /* the last one */
    int status;
    char out[2048], err[1024];
};

static size_t grant(struct scene *scene, const uint8_t *request, size_t size_bytes,
                    uint8_t *ret_octets)
{
    (void) request;
    (void) size_bytes;
    struct pcp_response response = {
        .opcode = scene->request.opcode,
        .lifetime_s = scene->request.lifetime_s ? 600 : 0,
        .epoch_s = 4242,
        .mapping = scene->request.mapping,
    };
    assert_int_equal(endpoint_parse("203.0.113.1:9090", 0, &response.mapping.external), 0);
    int size = pcp_response_encode(&response, ret_octets, PCP_SIZE_MAX);
    return size > 0 ? (size_t) size : 0;
}

static size_t grant_at_second_try(struct scene *scene, const uint8_t *request, size_t size_bytes,
                                  uint8_t *ret_octets)
{
    return scene->n_requests < 2 ? 0 : grant(scene, request, size_bytes, ret_octets);
}

static size_t refuse(struct scene *scene, const uint8_t *request, size_t size_bytes,
                     uint8_t *ret_octets)
{
    (void) scene;
    int size = pcp_response_encode_error(request, size_bytes, PCP_RESULT_USER_EX_QUOTA, 30, 7,
                                         ret_octets, PCP_SIZE_MAX);
    return size > 0 ? (size_t) size : 0;
}

static size_t refuse_another_nonce(struct scene *scene, const uint8_t *request, size_t size_bytes,
                                   uint8_t *ret_octets)
{
    (void) scene;
    int size = pcp_response_encode_error(request, size_bytes, PCP_RESULT_NOT_AUTHORIZED, 30, 7,
                                         ret_octets, PCP_SIZE_MAX);
    return size > 0 ? (size_t) size : 0;
}

static size_t answer_natpmp(struct scene *scene, const uint8_t *request, size_t size_bytes,
                            uint8_t *ret_octets)
{
    (void) scene;
    (void) request;
    (void) size_bytes;
    memcpy(ret_octets, "\0\x80\0\1\0\0\0\x09", 8);
    return 8;
}

static size_t answer_with_other_nonce(struct scene *scene, const uint8_t *request,
                                      size_t size_bytes, uint8_t *ret_octets)
{
    size_t size = grant(scene, request, size_bytes, ret_octets);
    ret_octets[PCP_HEADER_SIZE] ^= 1;
    return size;
}

static int open_server(char *ret_text, size_t size_bytes)
{
    struct sockaddr_in name = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(name);
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *) &name, size), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *) &name, &size), 0);
    snprintf(ret_text, size_bytes, "127.0.0.1:%u", ntohs(name.sin_port));
    return fd;
}

static void serve(struct scene *scene)
{
    uint8_t octets[2048], answer[PCP_SIZE_MAX];
    struct sockaddr_in peer;
    socklen_t size = sizeof(peer);
    ssize_t n = recvfrom(scene->fd, octets, sizeof(octets), 0, (struct sockaddr *) &peer, &size);
    if (n < 0)
        return;
    static const struct pcp_capabilities capabilities = {true, true, true, true, true, true};
    struct ip_address source = ip_address_from_ipv4(ntohl(peer.sin_addr.s_addr));
    enum pcp_result result;
    assert_int_equal(
        pcp_request_decode(octets, (size_t) n, &source, &capabilities, &scene->request, &result),
        PCP_VERDICT_ACCEPT);
    scene->n_requests++;
    size_t n_answer = scene->answer ? scene->answer(scene, octets, (size_t) n, answer) : 0;
    if (n_answer > 0)
        sendto(scene->fd, answer, n_answer, 0, (struct sockaddr *) &peer, size);
}

static _Noreturn void become_program(const struct scene *scene, char **words, int out, int err)
{
    if (scene->is_isolated && unshare(CLONE_NEWNET) < 0 &&
        unshare(CLONE_NEWUSER | CLONE_NEWNET) < 0)
        _exit(SKIPPED_STATUS);
    if (scene->stdout_path)
        out = open(scene->stdout_path, O_WRONLY);
    dup2(out, STDOUT_FILENO);
    dup2(err, STDERR_FILENO);
    execv(program_path, words);
    _exit(126);
}

/* Appends what is there; false at the end. */
static bool collect(int fd, char *text, size_t size_bytes)
{
    size_t length = strlen(text);
    ssize_t n = read(fd, text + length, size_bytes - 1 - length);
    if (n > 0)
        text[length + (size_t) n] = '\0';
    return n > 0;
}

/* Until the program has closed both of its outputs. */
static void attend(struct scene *scene, pid_t child, int out, int err)
{
    struct pollfd fds[] = {{scene->fd, POLLIN, 0}, {out, POLLIN, 0}, {err, POLLIN, 0}};
    while (fds[1].fd >= 0 || fds[2].fd >= 0) {
        if (poll(fds, 3, PATIENCE_MS) <= 0) {
            kill(child, SIGKILL);
            fail_msg("the program hangs");
        }
        if (fds[0].revents)
            serve(scene);
        if (fds[1].revents && !collect(out, scene->out, sizeof(scene->out)))
            fds[1].fd = -1;
        if (fds[2].revents && !collect(err, scene->err, sizeof(scene->err)))
            fds[2].fd = -1;
    }
}

/* `line`: words parted by spaces; "SERVER" stands for the scene's. */
static void play(struct scene *scene, const char *line)
{
    char server[32], copy[512], *words[WORDS_MAX] = {(char *) program_path};
    int out[2], err[2], status, n_words = 1;
    scene->fd = open_server(server, sizeof(server));
    snprintf(copy, sizeof(copy), "%s", line);
    for (char *word = strtok(copy, " "); word; word = strtok(NULL, " "))
        words[n_words++] = strcmp(word, "SERVER") == 0 ? server : word;
    assert_int_equal(pipe2(out, O_CLOEXEC), 0);
    assert_int_equal(pipe2(err, O_CLOEXEC), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0)
        become_program(scene, words, out[1], err[1]);
    close(out[1]);
    close(err[1]);
    attend(scene, child, out[0], err[0]);
    assert_int_equal(waitpid(child, &status, 0), child);
    close(out[0]);
    close(err[0]);
    close(scene->fd);
    assert_true(WIFEXITED(status));
    scene->status = WEXITSTATUS(status);
}

static void assert_contains(const char *text, const char *part)
{
    if (!strstr(text, part))
        fail_msg("\"%s\" is not in: %s", part, text);
}

static size_t count_lines(const char *text)
{
    size_t n_lines = 0;
    for (; *text; text++)
        n_lines += *text == '\n';
    return n_lines;
}

static void test_holdfast_map_granted(void **state)
{
    (void) state;
    struct scene scene = {.answer = grant};
    play(&scene, "map tcp 8080 --external-port 9090 --lifetime 500 --server SERVER");
    assert_int_equal(scene.status, 0);
    assert_string_equal(scene.err, "");
    assert_int_equal(count_lines(scene.out), 2);
    assert_contains(scene.out, "TCP 127.0.0.1:8080");
    assert_contains(scene.out, "203.0.113.1:9090");
    assert_contains(scene.out, "600 s");
    const struct pcp_mapping_fields *asked = &scene.request.mapping;
    char nonce[25];
    for (size_t i = 0; i < sizeof(asked->nonce); i++)
        snprintf(nonce + 2 * i, 3, "%02x", asked->nonce[i]);
    assert_contains(scene.out, nonce);
    assert_int_equal(scene.request.opcode, PCP_OPCODE_MAP);
    assert_int_equal(scene.request.lifetime_s, 500);
    assert_int_equal(asked->protocol, 6);
    assert_int_equal(asked->internal_port, 8080);
    assert_int_equal(asked->external.port, 9090);
    assert_true(ip_address_is_ipv4(&asked->external.address));
    assert_true(ip_address_is_any(&asked->external.address));
    assert_int_equal(scene.request.n_options, 0);
}

static void test_holdfast_map_nonces_differ(void **state)
{
    (void) state;
    struct scene first = {.answer = grant}, second = {.answer = grant};
    play(&first, "map tcp 80 --server SERVER");
    play(&second, "map tcp 80 --server SERVER");
    assert_memory_not_equal(first.request.mapping.nonce, second.request.mapping.nonce,
                            PCP_NONCE_SIZE);
}

static void test_holdfast_map_options_are_sent(void **state)
{
    (void) state;
    struct scene scene = {.answer = grant};
    play(&scene, "map udp 53 --external-port 9090 --external-address 203.0.113.1 --prefer-failure "
                 "--filter ::/0 --filter 198.51.100.0/24,443 --nonce " NONCE
                 " --internal-address 127.0.0.5 --server SERVER");
    assert_int_equal(scene.status, 0);
    assert_contains(scene.out, "UDP 127.0.0.5:53");
    assert_contains(scene.out, NONCE);
    const struct pcp_request *request = &scene.request;
    struct ip_address external;
    assert_int_equal(ip_address_parse("203.0.113.1", &external), 0);
    assert_true(ip_address_equal(&request->mapping.external.address, &external));
    assert_int_equal(request->n_options, 3);
    assert_int_equal(request->options[0].code, PCP_OPTION_PREFER_FAILURE);
    assert_int_equal(request->options[1].code, PCP_OPTION_FILTER);
    assert_int_equal(request->options[1].filter.remote.length, 0);
    assert_int_equal(request->options[2].code, PCP_OPTION_FILTER);
    assert_int_equal(request->options[2].filter.remote.length, 120);
    assert_int_equal(request->options[2].filter.remote_port, 443);
}

static void test_holdfast_map_json(void **state)
{
    (void) state;
    struct scene scene = {.answer = grant};
    play(&scene, "map tcp 8080 --json --nonce " NONCE " --server SERVER");
    assert_int_equal(scene.status, 0);
    assert_int_equal(count_lines(scene.out), 1);
    static const char *const parts[] = {
        "\"result\": 0",
        "\"result_name\": \"SUCCESS\"",
        "\"protocol\": \"TCP\"",
        "\"internal\": {\"address\": \"127.0.0.1\", \"port\": 8080}",
        "\"external\": {\"address\": \"203.0.113.1\", \"port\": 9090}",
        "\"lifetime_s\": 600",
        "\"epoch_s\": 4242",
        "\"nonce\": \"" NONCE "\"",
        "\"server\": \"127.0.0.1:",
    };
    for (size_t i = 0; i < N_ELEMENTS(parts); i++)
        assert_contains(scene.out, parts[i]);
}

static void test_holdfast_map_retransmits(void **state)
{
    (void) state;
    struct scene scene = {.answer = grant_at_second_try};
    play(&scene, "map tcp 80 --server SERVER");
    assert_int_equal(scene.status, 0);
    assert_int_equal(scene.n_requests, 2);
}

static void test_holdfast_map_refused(void **state)
{
    (void) state;
    struct scene scene = {.answer = refuse};
    play(&scene, "map tcp 80 --server SERVER");
    assert_int_equal(scene.status, 1);
    assert_string_equal(scene.out, "");
    assert_int_equal(count_lines(scene.err), 1);
    assert_contains(scene.err, "USER_EX_QUOTA (10)");
    assert_contains(scene.err, "30 s");
}

/* Who renews with a new nonce learns what is missing; who gave one does not need to. */
static void test_holdfast_map_refused_without_nonce(void **state)
{
    (void) state;
    struct scene without = {.answer = refuse_another_nonce},
                 with = {.answer = refuse_another_nonce};
    play(&without, "map tcp 80 --server SERVER");
    assert_int_equal(without.status, 1);
    assert_int_equal(count_lines(without.err), 1);
    assert_contains(without.err, "to renew a mapping give its --nonce");
    play(&with, "map tcp 80 --nonce " NONCE " --server SERVER");
    assert_int_equal(with.status, 1);
    assert_null(strstr(with.err, "to renew"));
}

static void test_holdfast_map_prints_protocols_by_name(void **state)
{
    (void) state;
    struct scene words = {.answer = grant}, json = {.answer = grant};
    play(&words, "map sctp 80 --server SERVER");
    assert_contains(words.out, "SCTP 127.0.0.1:80");
    assert_int_equal(words.request.mapping.protocol, 132);
    play(&json, "map 33 80 --json --server SERVER");
    assert_contains(json.out, "\"protocol\": \"DCCP\"");
}

static void test_holdfast_map_refused_json(void **state)
{
    (void) state;
    struct scene scene = {.answer = refuse};
    play(&scene, "map tcp 80 --json --server SERVER");
    assert_int_equal(scene.status, 1);
    assert_contains(scene.out, "\"result\": 10");
    assert_contains(scene.out, "\"external\": null");
    assert_contains(scene.out, "\"lifetime_s\": 30");
    assert_int_equal(count_lines(scene.err), 1);
}

static void test_holdfast_map_natpmp_server(void **state)
{
    (void) state;
    struct scene scene = {.answer = answer_natpmp};
    play(&scene, "map tcp 80 --server SERVER");
    assert_int_equal(scene.status, 1);
    assert_string_equal(scene.out, "");
    assert_int_equal(count_lines(scene.err), 1);
    assert_contains(scene.err, "NAT-PMP");
}

static void test_holdfast_map_unanswered(void **state)
{
    (void) state;
    struct scene scene = {.answer = NULL};
    play(&scene, "map tcp 80 --timeout 1 --server SERVER");
    assert_int_equal(scene.status, 3);
    assert_int_equal(scene.n_requests, 1);
    assert_int_equal(count_lines(scene.err), 1);
    assert_contains(scene.err, "no answer");
}

static void test_holdfast_map_answer_to_another_is_no_answer(void **state)
{
    (void) state;
    struct scene scene = {.answer = answer_with_other_nonce};
    play(&scene, "map tcp 80 --timeout 1 --server SERVER");
    assert_int_equal(scene.status, 3);
    assert_string_equal(scene.out, "");
}

static void test_holdfast_unmap_done(void **state)
{
    (void) state;
    struct scene scene = {.answer = grant};
    play(&scene, "unmap tcp 8080 --nonce " NONCE " --server SERVER");
    assert_int_equal(scene.status, 0);
    assert_contains(scene.out, "127.0.0.1:8080");
    assert_int_equal(scene.request.lifetime_s, 0);
    assert_int_equal(scene.request.mapping.external.port, 0);
    assert_int_equal(scene.request.mapping.nonce[11], 12);
}

static void test_holdfast_announce_prints_the_epoch(void **state)
{
    (void) state;
    struct scene scene = {.answer = grant};
    play(&scene, "announce --server SERVER");
    assert_int_equal(scene.status, 0);
    assert_int_equal(scene.request.opcode, PCP_OPCODE_ANNOUNCE);
    assert_contains(scene.out, "4242");

    struct scene json = {.answer = grant};
    play(&json, "announce --json --server SERVER");
    assert_int_equal(json.status, 0);
    assert_contains(json.out, "\"epoch_s\": 4242");
    assert_null(strstr(json.out, "nonce"));
}

static void test_holdfast_wrong_usage(void **state)
{
    (void) state;
    struct scene scene = {.answer = grant};
    play(&scene, "map tcp 99999 --server SERVER");
    assert_int_equal(scene.status, 2);
    assert_int_equal(scene.n_requests, 0);
    assert_string_equal(scene.out, "");
    assert_int_equal(count_lines(scene.err), 1);
}

static void test_holdfast_help_and_version(void **state)
{
    (void) state;
    struct scene help = {.answer = NULL}, version = {.answer = NULL};
    play(&help, "--help");
    assert_int_equal(help.status, 0);
    assert_contains(help.out, "usage: holdfast map");
    play(&version, "--version");
    assert_int_equal(version.status, 0);
    assert_string_equal(version.out, "holdfast " HOLDFAST_VERSION "\n");
}

static void test_holdfast_no_server_to_be_found(void **state)
{
    (void) state;
    struct scene scene = {.is_isolated = true};
    play(&scene, "map tcp 80");
    if (scene.status == SKIPPED_STATUS)
        skip();
    assert_int_equal(scene.status, 4);
    assert_contains(scene.err, "--server");
}

static void test_holdfast_no_route_to_the_server(void **state)
{
    (void) state;
    struct scene scene = {.is_isolated = true};
    play(&scene, "map tcp 80 --server 198.51.100.1");
    if (scene.status == SKIPPED_STATUS)
        skip();
    assert_int_equal(scene.status, 4);
    assert_contains(scene.err, "198.51.100.1:5351");
}

static void test_holdfast_internal_address_not_ours(void **state)
{
    (void) state;
    struct scene scene = {.answer = grant};
    play(&scene, "map tcp 80 --internal-address 192.0.2.77 --server SERVER");
    assert_int_equal(scene.status, 4);
    assert_int_equal(scene.n_requests, 0);
    assert_contains(scene.err, "--internal-address 192.0.2.77 is not an address of this host");
}

static void test_holdfast_answer_that_cannot_be_written(void **state)
{
    (void) state;
    struct scene scene = {.answer = grant, .stdout_path = "/dev/full"};
    play(&scene, "map tcp 80 --server SERVER");
    assert_int_equal(scene.status, 5);
    assert_contains(scene.err, "could not be written");
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: %s PROGRAM\n", argv[0]);
        return 2;
    }
    program_path = argv[1];
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_holdfast_map_granted),
        cmocka_unit_test(test_holdfast_map_nonces_differ),
        cmocka_unit_test(test_holdfast_map_options_are_sent),
        cmocka_unit_test(test_holdfast_map_json),
        cmocka_unit_test(test_holdfast_map_retransmits),
        cmocka_unit_test(test_holdfast_map_refused),
        cmocka_unit_test(test_holdfast_map_refused_without_nonce),
        cmocka_unit_test(test_holdfast_map_prints_protocols_by_name),
        cmocka_unit_test(test_holdfast_map_refused_json),
        cmocka_unit_test(test_holdfast_map_natpmp_server),
        cmocka_unit_test(test_holdfast_map_unanswered),
        cmocka_unit_test(test_holdfast_map_answer_to_another_is_no_answer),
        cmocka_unit_test(test_holdfast_unmap_done),
        cmocka_unit_test(test_holdfast_announce_prints_the_epoch),
        cmocka_unit_test(test_holdfast_wrong_usage),
        cmocka_unit_test(test_holdfast_help_and_version),
        cmocka_unit_test(test_holdfast_no_server_to_be_found),
        cmocka_unit_test(test_holdfast_no_route_to_the_server),
        cmocka_unit_test(test_holdfast_internal_address_not_ours),
        cmocka_unit_test(test_holdfast_answer_that_cannot_be_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
