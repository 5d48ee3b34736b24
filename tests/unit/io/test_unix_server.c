/* A server and its clients in one process, on a socket in a directory of the test's own. */

#include "io/unix_server.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/time.h"
#include "base/util.h"
#include "run_until.h"

struct fixture {
    struct loop *loop;
    struct unix_server *server;
    struct unix_server_handler handler;
    char directory[64];
    char path[108];
    uid_t uid;
    pid_t pid;
    bool refuses;
    bool is_silent; /* echoes nothing */
    struct unix_client *last;
    int n_connected, n_messages, n_closed, n_writable;
    int n_wanted;
    size_t last_size;
    char last_text[64];
};

/* The server's clock, by so much ahead of the real one. */
static uint64_t clock_offset_ns;

uint64_t __real_loop_now_ns(void);
uint64_t __wrap_loop_now_ns(void);

uint64_t __wrap_loop_now_ns(void)
{
    return __real_loop_now_ns() + clock_offset_ns;
}

static bool note_connected(void *context, struct unix_client *client, uid_t uid, gid_t gid,
                           pid_t pid)
{
    struct fixture *fixture = context;
    (void) gid;
    fixture->uid = uid;
    fixture->pid = pid;
    fixture->last = client;
    fixture->n_connected++;
    unix_client_set_context(client, fixture);
    return !fixture->refuses;
}

/* "close" and "stop" do that; anything else is echoed. */
static void note_message(void *context, struct unix_client *client, const char *text,
                         size_t size_bytes)
{
    struct fixture *fixture = context;
    assert_ptr_equal(unix_client_context(client), fixture);
    assert_int_equal(text[size_bytes], '\0');
    assert_int_equal(strlen(text), size_bytes);
    fixture->n_messages++;
    fixture->last_size = size_bytes;
    snprintf(fixture->last_text, sizeof(fixture->last_text), "%.60s", text);
    if (fixture->is_silent)
        return;
    assert_int_equal(unix_client_send(client, text, size_bytes), 0);
    if (strcmp(text, "close") == 0)
        unix_client_close(client);
    if (strcmp(text, "stop") == 0) {
        unix_server_close(fixture->server);
        fixture->server = NULL;
    }
}

static void note_closed(void *context, struct unix_client *client)
{
    struct fixture *fixture = context;
    (void) client;
    fixture->n_closed++;
}

static void note_writable(void *context, struct unix_client *client)
{
    struct fixture *fixture = context;
    assert_true(unix_client_backlog(client) < UNIX_SERVER_BACKLOG_BYTES / 2);
    fixture->n_writable++;
}

static int set_up(void **state)
{
    struct fixture *fixture = calloc(1, sizeof(*fixture));
    if (!fixture || loop_new(&fixture->loop) < 0)
        return -1;
    strcpy(fixture->directory, "/tmp/holdfast-test-XXXXXX");
    if (!mkdtemp(fixture->directory))
        return -1;
    snprintf(fixture->path, sizeof(fixture->path), "%s/run/control", fixture->directory);
    fixture->handler = (struct unix_server_handler){note_connected, note_message, note_closed,
                                                    note_writable, fixture};
    *state = fixture;
    return unix_server_open(fixture->loop, fixture->path, 0660, &fixture->handler,
                            &fixture->server);
}

static int tear_down(void **state)
{
    struct fixture *fixture = *state;
    char parent[128];
    unix_server_close(fixture->server);
    loop_free(fixture->loop);
    snprintf(parent, sizeof(parent), "%s/run", fixture->directory);
    int error = rmdir(parent) < 0 || rmdir(fixture->directory) < 0;
    free(fixture);
    return error;
}

static int connect_client(const struct fixture *fixture)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    strcpy(name.sun_path, fixture->path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(fd, (struct sockaddr *) &name, sizeof(name)), 0);
    struct timeval limit = {.tv_sec = 5};
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)), 0);
    return fd;
}

static bool has_messages(void *context)
{
    struct fixture *fixture = context;
    return fixture->n_messages >= fixture->n_wanted;
}

static bool has_closed(void *context)
{
    struct fixture *fixture = context;
    return fixture->n_closed >= fixture->n_wanted;
}

static bool has_connected(void *context)
{
    struct fixture *fixture = context;
    return fixture->n_connected >= fixture->n_wanted;
}

static bool is_flushed(void *context)
{
    struct fixture *fixture = context;
    return unix_client_backlog(fixture->last) == 0;
}

static bool is_unserved(void *context)
{
    const int *fd = context;
    char octet;
    return recv(*fd, &octet, 1, MSG_DONTWAIT | MSG_PEEK) == 0;
}

static void wait_for(struct fixture *fixture, bool (*condition)(void *context), int n_wanted)
{
    fixture->n_wanted = n_wanted;
    run_until(fixture->loop, condition, fixture);
}

static void send_octets(int fd, const char *text, size_t size_bytes)
{
    assert_int_equal(send(fd, text, size_bytes, MSG_NOSIGNAL), (ssize_t) size_bytes);
}

/* 0 at the end of the connection, reset or not. */
static ssize_t receive_octets(int fd, char *ret_text, size_t size_bytes)
{
    ssize_t n = recv(fd, ret_text, size_bytes, 0);
    return n < 0 && errno == ECONNRESET ? 0 : n;
}

static void test_unix_server_open_gives_the_file_its_mode(void **state)
{
    struct fixture *fixture = *state;
    struct stat file;
    assert_int_equal(stat(fixture->path, &file), 0);
    assert_true(S_ISSOCK(file.st_mode));
    assert_int_equal(file.st_mode & 07777, 0660);
}

static void test_unix_server_open_tells_live_from_stale(void **state)
{
    struct fixture *fixture = *state;
    struct unix_server *second = NULL;
    assert_int_equal(
        unix_server_open(fixture->loop, fixture->path, 0600, &fixture->handler, &second),
        -EADDRINUSE);
    char stale_path[128];
    snprintf(stale_path, sizeof(stale_path), "%s/stale", fixture->directory);
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    strcpy(name.sun_path, stale_path);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(bind(fd, (struct sockaddr *) &name, sizeof(name)), 0);
    close(fd);
    assert_int_equal(unix_server_open(fixture->loop, stale_path, 0600, &fixture->handler, &second),
                     0);
    unix_server_close(second);
    assert_int_equal(access(stale_path, F_OK), -1);
}

static void test_unix_server_open_leaves_other_files_alone(void **state)
{
    struct fixture *fixture = *state;
    struct unix_server *second;
    char path[128];
    snprintf(path, sizeof(path), "%s/file", fixture->directory);
    close(open(path, O_CREAT | O_WRONLY, 0600));
    assert_int_equal(unix_server_open(fixture->loop, path, 0600, &fixture->handler, &second),
                     -EADDRINUSE);
    assert_int_equal(unlink(path), 0);
    char longer[256];
    memset(longer, 'x', sizeof(longer));
    longer[0] = '/';
    longer[255] = '\0';
    assert_int_equal(unix_server_open(fixture->loop, longer, 0600, &fixture->handler, &second),
                     -ENAMETOOLONG);
}

static void test_unix_server_message_is_echoed_and_peer_known(void **state)
{
    struct fixture *fixture = *state;
    int fd = connect_client(fixture);
    send_octets(fd, "hello", 6);
    wait_for(fixture, has_messages, 1);
    run_until(fixture->loop, is_flushed, fixture);
    char text[16];
    assert_int_equal(receive_octets(fd, text, sizeof(text)), 6);
    assert_string_equal(text, "hello");
    assert_int_equal(fixture->uid, getuid());
    assert_int_equal(fixture->pid, getpid());
    close(fd);
    wait_for(fixture, has_closed, 1);
}

static void test_unix_server_messages_cut_anywhere_are_whole(void **state)
{
    struct fixture *fixture = *state;
    int fd = connect_client(fixture);
    send_octets(fd, "one\0two\0th", 10);
    wait_for(fixture, has_messages, 2);
    assert_string_equal(fixture->last_text, "two");
    send_octets(fd, "ree\0", 4);
    wait_for(fixture, has_messages, 3);
    assert_string_equal(fixture->last_text, "three");
    send_octets(fd, "", 1);
    wait_for(fixture, has_messages, 4);
    assert_int_equal(fixture->last_size, 0);
    close(fd);
}

static void test_unix_server_message_of_the_greatest_size(void **state)
{
    struct fixture *fixture = *state;
    static char text[UNIX_SERVER_MESSAGE_MAX];
    memset(text, 'm', sizeof(text) - 1);
    int fd = connect_client(fixture);
    send_octets(fd, text, sizeof(text));
    wait_for(fixture, has_messages, 1);
    assert_int_equal(fixture->last_size, UNIX_SERVER_MESSAGE_MAX - 1);
    close(fd);
}

static void test_unix_server_message_too_long_closes(void **state)
{
    struct fixture *fixture = *state;
    static char text[UNIX_SERVER_MESSAGE_MAX + 1];
    memset(text, 'm', sizeof(text));
    int fd = connect_client(fixture);
    send_octets(fd, text, sizeof(text));
    wait_for(fixture, has_closed, 1);
    assert_int_equal(fixture->n_messages, 0);
    assert_int_equal(receive_octets(fd, text, 1), 0);
    close(fd);
}

static void test_unix_server_connected_refused_is_closed_without_callback(void **state)
{
    struct fixture *fixture = *state;
    fixture->refuses = true;
    int fd = connect_client(fixture);
    wait_for(fixture, has_connected, 1);
    char octet;
    assert_int_equal(receive_octets(fd, &octet, 1), 0);
    assert_int_equal(fixture->n_closed, 0);
    close(fd);
}

/* As many as there may be, each already known to the server. */
static void connect_all(struct fixture *fixture, int *ret_fds)
{
    for (int i = 0; i < UNIX_SERVER_CLIENTS_MAX; i++) {
        ret_fds[i] = connect_client(fixture);
        wait_for(fixture, has_connected, i + 1);
    }
}

static void close_all(const int *fds)
{
    for (int i = 0; i < UNIX_SERVER_CLIENTS_MAX; i++)
        close(fds[i]);
}

static bool is_open(int fd)
{
    char octet;
    return recv(fd, &octet, 1, MSG_DONTWAIT | MSG_PEEK) != 0;
}

static void test_unix_server_newcomer_takes_the_place_of_the_idlest(void **state)
{
    struct fixture *fixture = *state;
    int fds[UNIX_SERVER_CLIENTS_MAX];
    connect_all(fixture, fds);
    send_octets(fds[0], "hello", 6);
    wait_for(fixture, has_messages, 1);
    run_until(fixture->loop, is_flushed, fixture);
    int newcomer = connect_client(fixture);
    wait_for(fixture, has_connected, UNIX_SERVER_CLIENTS_MAX + 1);
    assert_int_equal(fixture->n_closed, 1);
    assert_false(is_open(fds[1]));
    assert_true(is_open(fds[0]));
    assert_true(is_open(fds[2]));
    send_octets(newcomer, "hello", 6);
    wait_for(fixture, has_messages, 2);
    close(newcomer);
    close_all(fds);
}

static void test_unix_server_newcomer_spares_who_waits(void **state)
{
    struct fixture *fixture = *state;
    static char text[UNIX_SERVER_BACKLOG_BYTES / 2];
    memset(text, 't', sizeof(text));
    int fds[UNIX_SERVER_CLIENTS_MAX];
    fixture->is_silent = true;
    connect_all(fixture, fds);
    assert_int_equal(unix_client_send(fixture->last, text, sizeof(text)), 0);
    for (int i = 0; i < UNIX_SERVER_CLIENTS_MAX - 1; i++) {
        send_octets(fds[i], "silence", 8);
        wait_for(fixture, has_messages, i + 1);
    }
    int refused = connect_client(fixture);
    char octet;
    run_until(fixture->loop, is_unserved, &refused);
    assert_int_equal(receive_octets(refused, &octet, 1), 0);
    assert_int_equal(fixture->n_closed, 0);
    /* After a while nobody waits any more whom it would be a pity to lose. */
    clock_offset_ns = UNIX_SERVER_PATIENCE_S * NS_PER_S;
    int newcomer = connect_client(fixture);
    wait_for(fixture, has_connected, UNIX_SERVER_CLIENTS_MAX + 1);
    assert_int_equal(fixture->n_closed, 1);
    clock_offset_ns = 0;
    close(refused);
    close(newcomer);
    close_all(fds);
}

struct refusal {
    int fd;
    struct rlimit before;
    bool is_limited;
};

/* The limit falls only once the loop runs, as run_until() needs descriptors itself. */
static bool is_refused(void *context)
{
    struct refusal *refusal = context;
    char octet;
    if (!refusal->is_limited) {
        int lowest_free = dup(0);
        close(lowest_free);
        struct rlimit none_free = {(rlim_t) lowest_free, refusal->before.rlim_max};
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &none_free), 0);
        refusal->is_limited = true;
    }
    return recv(refusal->fd, &octet, 1, MSG_DONTWAIT) == 0;
}

static void test_unix_server_out_of_descriptors_refuses(void **state)
{
    struct fixture *fixture = *state;
    struct refusal refusal = {.fd = connect_client(fixture)};
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &refusal.before), 0);
    run_until(fixture->loop, is_refused, &refusal);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &refusal.before), 0);
    assert_int_equal(fixture->n_connected, 0);
    close(refusal.fd);
}

static void test_unix_client_close_after_the_answer_has_left(void **state)
{
    struct fixture *fixture = *state;
    int fd = connect_client(fixture);
    send_octets(fd, "close\0more\0", 11);
    wait_for(fixture, has_closed, 1);
    char text[16];
    assert_int_equal(receive_octets(fd, text, sizeof(text)), 6);
    assert_string_equal(text, "close");
    assert_int_equal(receive_octets(fd, text, sizeof(text)), 0);
    assert_int_equal(fixture->n_messages, 1);
    close(fd);
}

static void test_unix_server_half_closed_client_gets_its_answer(void **state)
{
    struct fixture *fixture = *state;
    int fd = connect_client(fixture);
    send_octets(fd, "hello", 6);
    assert_int_equal(shutdown(fd, SHUT_WR), 0);
    wait_for(fixture, has_closed, 1);
    char text[16];
    assert_int_equal(receive_octets(fd, text, sizeof(text)), 6);
    assert_int_equal(receive_octets(fd, text, sizeof(text)), 0);
    close(fd);
}

static void test_unix_server_close_in_a_message_still_answers(void **state)
{
    struct fixture *fixture = *state;
    int first = connect_client(fixture);
    int second = connect_client(fixture);
    wait_for(fixture, has_connected, 2);
    send_octets(first, "stop\0more\0", 10);
    wait_for(fixture, has_closed, 2);
    char text[16];
    assert_int_equal(receive_octets(first, text, sizeof(text)), 5);
    assert_string_equal(text, "stop");
    assert_int_equal(receive_octets(first, text, 1), 0);
    assert_int_equal(receive_octets(second, text, 1), 0);
    assert_int_equal(access(fixture->path, F_OK), -1);
    close(first);
    close(second);
}

/* Queues until just above half of the bound. */
static void fill_above_half(struct fixture *fixture)
{
    static char text[65536];
    memset(text, 't', sizeof(text));
    while (unix_client_backlog(fixture->last) < UNIX_SERVER_BACKLOG_BYTES / 2)
        assert_int_equal(unix_client_send(fixture->last, text, sizeof(text)), 0);
}

struct reading {
    struct fixture *fixture;
    int fd;
    size_t n_read;
};

static bool read_until_writable(void *context)
{
    struct reading *reading = context;
    static char text[65536];
    ssize_t n = recv(reading->fd, text, sizeof(text), MSG_DONTWAIT);
    if (n > 0)
        reading->n_read += (size_t) n;
    return reading->fixture->n_writable == 1;
}

static void test_unix_client_send_much_is_told_when_there_is_room(void **state)
{
    struct fixture *fixture = *state;
    int fd = connect_client(fixture);
    wait_for(fixture, has_connected, 1);
    fill_above_half(fixture);
    size_t n_queued = unix_client_backlog(fixture->last);
    struct reading reading = {fixture, fd, 0};
    run_until(fixture->loop, read_until_writable, &reading);
    assert_true(reading.n_read < n_queued);
    assert_true(unix_client_backlog(fixture->last) < UNIX_SERVER_BACKLOG_BYTES / 2);
    close(fd);
    wait_for(fixture, has_closed, 1);
    assert_int_equal(fixture->n_writable, 1);
}

static void test_unix_client_send_beyond_the_bound_closes(void **state)
{
    struct fixture *fixture = *state;
    static char text[UNIX_SERVER_BACKLOG_BYTES / 8];
    int fd = connect_client(fixture);
    wait_for(fixture, has_connected, 1);
    memset(text, 't', sizeof(text));
    int error = 0;
    int n_sent = 0;
    while ((error = unix_client_send(fixture->last, text, sizeof(text))) == 0)
        n_sent++;
    assert_int_equal(error, -ENOBUFS);
    assert_int_equal(n_sent, 7);
    assert_int_equal(fixture->n_closed, 0);
    assert_int_equal(unix_client_send(fixture->last, "x", 1), -ENOBUFS);
    wait_for(fixture, has_closed, 1);
    close(fd);
}

#define WITH_SERVER(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_SERVER(test_unix_server_open_gives_the_file_its_mode),
        WITH_SERVER(test_unix_server_open_tells_live_from_stale),
        WITH_SERVER(test_unix_server_open_leaves_other_files_alone),
        WITH_SERVER(test_unix_server_message_is_echoed_and_peer_known),
        WITH_SERVER(test_unix_server_messages_cut_anywhere_are_whole),
        WITH_SERVER(test_unix_server_message_of_the_greatest_size),
        WITH_SERVER(test_unix_server_message_too_long_closes),
        WITH_SERVER(test_unix_server_connected_refused_is_closed_without_callback),
        WITH_SERVER(test_unix_server_newcomer_takes_the_place_of_the_idlest),
        WITH_SERVER(test_unix_server_newcomer_spares_who_waits),
        WITH_SERVER(test_unix_server_out_of_descriptors_refuses),
        WITH_SERVER(test_unix_client_close_after_the_answer_has_left),
        WITH_SERVER(test_unix_server_half_closed_client_gets_its_answer),
        WITH_SERVER(test_unix_server_close_in_a_message_still_answers),
        WITH_SERVER(test_unix_client_send_much_is_told_when_there_is_room),
        WITH_SERVER(test_unix_client_send_beyond_the_bound_closes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
