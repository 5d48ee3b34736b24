#pragma once

/*
 * A control server in a child process: takes one connection, reads one call, compares it with what
 * is expected, sends prepared octets and closes. Its exit status tells whether the call was the
 * expected one.
 */

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

struct fake_daemon {
    char directory[32];
    char path[48];
    pid_t pid;
};

/* What it does with its one client. */
struct fake_script {
    const char *expected_call; /* NULL: any */
    const char *answer;        /* octets to send */
    size_t size_bytes;
    size_t piece_bytes; /* per send(2); 0: all at once */
    bool is_silent;     /* then waits for the client to close, instead of closing */
};

static inline bool fake_read_call(int fd, const char *expected)
{
    char call[4096];
    size_t length = 0;
    while (length < sizeof(call)) {
        ssize_t n = recv(fd, call + length, sizeof(call) - length, 0);
        if (n <= 0)
            return false;
        length += (size_t) n;
        if (call[length - 1] == '\0')
            break;
    }
    if (!expected || strcmp(call, expected) == 0)
        return true;
    fprintf(stderr, "unexpected call %s\n", call);
    return false;
}

static inline bool fake_send(int fd, const struct fake_script *script)
{
    size_t piece_bytes = script->piece_bytes ? script->piece_bytes : script->size_bytes;
    for (size_t n_sent = 0; n_sent < script->size_bytes;) {
        size_t left = script->size_bytes - n_sent;
        ssize_t n = send(fd, script->answer + n_sent, left < piece_bytes ? left : piece_bytes,
                         MSG_NOSIGNAL);
        if (n <= 0)
            return false;
        n_sent += (size_t) n;
    }
    return true;
}

static inline int fake_serve(int listener, const struct fake_script *script)
{
    int fd = accept(listener, NULL, NULL);
    if (fd < 0 || !fake_read_call(fd, script->expected_call))
        return 1;
    fake_send(fd, script);
    char octet;
    if (script->is_silent)
        (void) !recv(fd, &octet, 1, 0);
    close(fd);
    return 0;
}

static inline int fake_listen(struct fake_daemon *daemon)
{
    strcpy(daemon->directory, "/tmp/holdfast-test-XXXXXX");
    assert_non_null(mkdtemp(daemon->directory));
    snprintf(daemon->path, sizeof(daemon->path), "%s/control", daemon->directory);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    strcpy(address.sun_path, daemon->path);
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(listener, (struct sockaddr *) &address, sizeof(address)), 0);
    assert_int_equal(listen(listener, 1), 0);
    return listener;
}

static inline void fake_daemon_start(struct fake_daemon *daemon, const struct fake_script *script)
{
    int listener = fake_listen(daemon);
    daemon->pid = fork();
    assert_true(daemon->pid >= 0);
    if (daemon->pid == 0) {
        alarm(20); /* should nobody come */
        _exit(fake_serve(listener, script));
    }
    close(listener);
}

static inline void fake_daemon_stop(struct fake_daemon *daemon)
{
    int status = -1;
    assert_int_equal(waitpid(daemon->pid, &status, 0), daemon->pid);
    unlink(daemon->path);
    rmdir(daemon->directory);
    assert_int_equal(status, 0);
}
