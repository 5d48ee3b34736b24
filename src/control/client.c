/*
 * A call at a time, so what is buffered never holds more than one reply and the beginning of the
 * next.
 */

#include "control/client.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "base/time.h"

#define BUFFER_SIZE_FIRST ((size_t) 16 * 1024)

static int fail(struct control_client *client, int error, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static int fail(struct control_client *client, int error, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(client->error, sizeof(client->error), format, arguments);
    va_end(arguments);
    return error;
}

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t) now.tv_sec * NS_PER_S + (uint64_t) now.tv_nsec;
}

static const char *advise(int error)
{
    switch (error) {
    case ENOENT:
    case ECONNREFUSED:
        return " (is holdfastd running?)";
    case EACCES:
        return " (root and the group of the socket may)";
    default:
        return "";
    }
}

/* connect(2) on a Unix socket waits while the backlog is full, for the time of SO_SNDTIMEO. */
static int connect_socket(struct control_client *client, const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof(address.sun_path))
        return -ENAMETOOLONG;
    strcpy(address.sun_path, path);
    client->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (client->fd < 0)
        return -errno;
    struct timeval timeout = {.tv_sec = client->timeout_ms / 1000,
                              .tv_usec = (suseconds_t) (client->timeout_ms % 1000) * 1000};
    if (setsockopt(client->fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout)) < 0)
        return -errno;
    while (connect(client->fd, (struct sockaddr *) &address, sizeof(address)) < 0) {
        if (errno == EINTR)
            continue;
        return errno == EAGAIN ? -ETIMEDOUT : -errno;
    }
    return 0;
}

int control_client_open(struct control_client *ret_client, const char *path,
                        unsigned int timeout_ms)
{
    *ret_client = (struct control_client){.fd = -1, .timeout_ms = timeout_ms};
    int result = connect_socket(ret_client, path);
    if (result < 0)
        return fail(ret_client, result, "cannot connect to %.120s: %s%s", path, strerror(-result),
                    advise(-result));
    return 0;
}

void control_client_close(struct control_client *client)
{
    if (client->fd >= 0)
        close(client->fd);
    free(client->buffer);
    *client = (struct control_client){.fd = -1};
}

/* 0, -ETIMEDOUT or -errno. */
static int wait_for(const struct control_client *client, short events, uint64_t deadline_ns)
{
    for (;;) {
        uint64_t now = now_ns();
        if (now >= deadline_ns)
            return -ETIMEDOUT;
        struct pollfd wanted = {.fd = client->fd, .events = events};
        int n = poll(&wanted, 1, (int) ((deadline_ns - now + NS_PER_MS - 1) / NS_PER_MS));
        if (n > 0)
            return 0;
        if (n < 0 && errno != EINTR)
            return -errno;
    }
}

static int explain(struct control_client *client, int error, const char *step)
{
    if (error == -ETIMEDOUT)
        return fail(client, error, "holdfastd did not %s within %u ms", step, client->timeout_ms);
    if (error == -EPIPE || error == -ECONNRESET)
        return fail(client, -ECONNRESET, "holdfastd closed the connection without an answer");
    return fail(client, error, "the control socket failed: %s", strerror(-error));
}

static int send_all(struct control_client *client, const char *data, size_t size_bytes)
{
    uint64_t deadline_ns = now_ns() + client->timeout_ms * NS_PER_MS;
    for (size_t n_sent = 0; n_sent < size_bytes;) {
        ssize_t n =
            send(client->fd, data + n_sent, size_bytes - n_sent, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n >= 0) {
            n_sent += (size_t) n;
            continue;
        }
        if (errno == EINTR)
            continue;
        int result = errno == EAGAIN ? wait_for(client, POLLOUT, deadline_ns) : -errno;
        if (result < 0)
            return explain(client, result, "take the call");
    }
    return 0;
}

int control_client_call(struct control_client *client, const char *method, json_t *parameters,
                        bool more)
{
    char *text = control_call_format(method, parameters, more);
    if (!text)
        return fail(client, -ENOMEM, "out of memory");
    int result = send_all(client, text, strlen(text) + 1);
    free(text);
    return result;
}

static int grow(struct control_client *client)
{
    if (client->n_buffered < client->n_allocated)
        return 0;
    if (client->n_allocated > CONTROL_REPLY_SIZE_MAX)
        return fail(client, -EBADMSG, "holdfastd sent a reply of more than %zu octets",
                    CONTROL_REPLY_SIZE_MAX);
    size_t wanted = client->n_allocated == 0 ? BUFFER_SIZE_FIRST : 2 * client->n_allocated;
    if (wanted > CONTROL_REPLY_SIZE_MAX)
        wanted = CONTROL_REPLY_SIZE_MAX + 1;
    char *buffer = realloc(client->buffer, wanted);
    if (!buffer)
        return fail(client, -ENOMEM, "out of memory");
    client->buffer = buffer;
    client->n_allocated = wanted;
    return 0;
}

/* Adds what has come to the buffer, waiting for at least one octet. */
static int receive_some(struct control_client *client, uint64_t deadline_ns)
{
    int result = grow(client);
    if (result < 0)
        return result;
    for (;;) {
        ssize_t n = recv(client->fd, client->buffer + client->n_buffered,
                         client->n_allocated - client->n_buffered, MSG_DONTWAIT);
        if (n > 0) {
            client->n_buffered += (size_t) n;
            return 0;
        }
        if (n < 0 && errno == EINTR)
            continue;
        result = n == 0 ? -ECONNRESET : errno == EAGAIN ? 0 : -errno;
        if (result == 0)
            result = wait_for(client, POLLIN, deadline_ns);
        if (result < 0)
            return explain(client, result, "answer");
    }
}

static void consume(struct control_client *client, size_t size_bytes)
{
    client->n_buffered -= size_bytes;
    memmove(client->buffer, client->buffer + size_bytes, client->n_buffered);
}

int control_client_receive(struct control_client *client, struct control_reply *ret_reply)
{
    uint64_t deadline_ns = now_ns() + client->timeout_ms * NS_PER_MS;
    size_t n_searched = 0;
    const char *end = NULL;
    while (!end) {
        if (client->n_buffered > n_searched)
            end = memchr(client->buffer + n_searched, '\0', client->n_buffered - n_searched);
        if (end)
            break;
        n_searched = client->n_buffered;
        int result = receive_some(client, deadline_ns);
        if (result < 0)
            return result;
    }
    size_t length = (size_t) (end - client->buffer);
    int result = control_reply_parse(client->buffer, length, ret_reply);
    consume(client, length + 1);
    if (result == -ENOMEM)
        return fail(client, result, "out of memory");
    if (result < 0)
        return fail(client, result, "holdfastd sent something that is not a reply");
    return 0;
}
