/*
 * Plain descriptors under uv_poll rather than uv_pipe: the mode is set before anybody can connect, and what a client may
 * cost is counted here.
 *
 * A client closes in one place, close_client(), reached from a poll callback or from unix_server_close() only. Everything
 * else marks it and lets the callback see the mark, so no function of the interface calls `closed` under its caller's feet. The
 * memory lasts until libuv has let go of the handle, which is after every callback now on the stack.
 *
 * The list of clients is in the order of their last activity, so that whom to close for a newcomer is found at its head.
 */

#include "io/unix_server.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <uv.h>

#include "base/list.h"
#include "base/time.h"
#include "io/loop_handle.h"

#define INPUT_FIRST_BYTES 4096
#define OUTPUT_FIRST_BYTES 4096
#define OUTPUT_KEPT_BYTES 65536 /* a larger empty buffer is given back */
#define ACCEPTS_PER_TURN 16
#define CONNECTIONS_PENDING 64

struct unix_server {
    uv_poll_t poll;
    int fd;
    int spare_fd; /* given up for a moment to accept and close when descriptors run out */
    struct unix_server_handler handler;
    struct list_link clients; /* idle longest first */
    size_t n_clients;
    struct sockaddr_un name;
};

struct unix_client {
    struct list_link link;
    uv_poll_t poll;
    int fd;
    struct unix_server *server;
    void *context;

    char *input;
    size_t n_input, input_size_bytes;

    char *output;
    size_t output_start, output_end, output_size_bytes;

    uint64_t active_ns; /* it sent, or took, something */
    int interest;       /* UV_READABLE | UV_WRITABLE, as told to libuv */
    bool is_waiting;    /* sent a message and was sent none since */
    bool is_ending;     /* reads no more, closes when the output has left */
    bool is_overrun;    /* wrote or was written too much: closes at once */
    bool is_above_half; /* `writable` is owed */
    bool is_closed;
};

static void poll_client(uv_poll_t *poll, int status, int events);

static void free_client(uv_handle_t *handle)
{
    struct unix_client *client = handle->data;
    free(client->input);
    free(client->output);
    free(client);
}

static void drop_client(struct unix_client *client)
{
    client->is_closed = true;
    list_remove(&client->link);
    client->server->n_clients--;
    uv_close((uv_handle_t *) &client->poll, free_client);
    close(client->fd);
}

static void note_activity(struct unix_client *client)
{
    client->active_ns = loop_now_ns();
    list_remove(&client->link);
    list_append(&client->server->clients, &client->link);
}

static void close_client(struct unix_client *client)
{
    if (client->is_closed)
        return;
    struct unix_server_handler handler = client->server->handler;
    drop_client(client);
    handler.closed(handler.context, client);
}

size_t unix_client_backlog(const struct unix_client *client)
{
    return client->output_end - client->output_start;
}

static void update_interest(struct unix_client *client)
{
    if (client->is_closed)
        return;
    int interest = client->is_ending ? 0 : UV_READABLE;
    /* A client that is ending is closed from its callback, so it must get one. */
    if (unix_client_backlog(client) > 0 || client->is_above_half || client->is_ending)
        interest |= UV_WRITABLE;
    if (interest == client->interest)
        return;
    client->interest = interest;
    uv_poll_start(&client->poll, interest, poll_client);
}

/* Shutting down makes the descriptor readable, so the callback comes soon. */
static void overrun_client(struct unix_client *client)
{
    client->is_overrun = true;
    shutdown(client->fd, SHUT_RDWR);
}

/* Room for `size_bytes` more behind output_end. */
static int reserve_output(struct unix_client *client, size_t size_bytes)
{
    size_t backlog = unix_client_backlog(client);
    if (client->output_start > 0 && client->output_start >= backlog) {
        memmove(client->output, client->output + client->output_start, backlog);
        client->output_start = 0;
        client->output_end = backlog;
    }
    size_t needed = client->output_end + size_bytes;
    if (needed <= client->output_size_bytes)
        return 0;
    size_t grown = client->output_size_bytes ? client->output_size_bytes : OUTPUT_FIRST_BYTES;
    while (grown < needed)
        grown *= 2;
    char *output = realloc(client->output, grown);
    if (!output)
        return -ENOMEM;
    client->output = output;
    client->output_size_bytes = grown;
    return 0;
}

int unix_client_send(struct unix_client *client, const char *text, size_t size_bytes)
{
    size_t backlog = unix_client_backlog(client);
    if (client->is_closed || client->is_overrun)
        return -ENOBUFS;
    if (size_bytes >= UNIX_SERVER_BACKLOG_BYTES - backlog) {
        overrun_client(client);
        return -ENOBUFS;
    }
    if (reserve_output(client, size_bytes + 1) < 0)
        return -ENOMEM;
    memcpy(client->output + client->output_end, text, size_bytes);
    client->output[client->output_end + size_bytes] = '\0';
    client->output_end += size_bytes + 1;
    client->is_waiting = false;
    if (unix_client_backlog(client) >= UNIX_SERVER_BACKLOG_BYTES / 2)
        client->is_above_half = true;
    update_interest(client);
    return 0;
}

static void release_output(struct unix_client *client)
{
    client->output_start = client->output_end = 0;
    if (client->output_size_bytes <= OUTPUT_KEPT_BYTES)
        return;
    free(client->output);
    client->output = NULL;
    client->output_size_bytes = 0;
}

/* False when the connection is gone. */
static bool flush_output(struct unix_client *client)
{
    while (unix_client_backlog(client) > 0) {
        ssize_t n = send(client->fd, client->output + client->output_start,
                         unix_client_backlog(client), MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno == EAGAIN;
        client->output_start += (size_t) n;
        note_activity(client);
    }
    release_output(client);
    return true;
}

static void serve_output(struct unix_client *client)
{
    if (!flush_output(client)) {
        close_client(client);
        return;
    }
    if (client->is_above_half && unix_client_backlog(client) < UNIX_SERVER_BACKLOG_BYTES / 2) {
        client->is_above_half = false;
        if (client->server->handler.writable)
            client->server->handler.writable(client->server->handler.context, client);
    }
    if (!client->is_closed && client->is_ending && unix_client_backlog(client) == 0)
        close_client(client);
}

/* Hands over every whole message; what is left moves to the front. */
static void deliver_messages(struct unix_client *client)
{
    char *start = client->input;
    char *end = client->input + client->n_input;
    char *nul;
    while (!client->is_closed && !client->is_ending && !client->is_overrun &&
           (nul = memchr(start, '\0', (size_t) (end - start)))) {
        char *text = start;
        start = nul + 1;
        client->is_waiting = true;
        client->server->handler.message(client->server->handler.context, client, text,
                                        (size_t) (nul - text));
    }
    client->n_input = (size_t) (end - start);
    memmove(client->input, start, client->n_input);
}

static int reserve_input(struct unix_client *client)
{
    if (client->n_input < client->input_size_bytes)
        return 0;
    size_t grown = client->input_size_bytes ? client->input_size_bytes * 2 : INPUT_FIRST_BYTES;
    if (grown > UNIX_SERVER_MESSAGE_MAX)
        return -EMSGSIZE;
    char *input = realloc(client->input, grown);
    if (!input)
        return -ENOMEM;
    client->input = input;
    client->input_size_bytes = grown;
    return 0;
}

/* One read per turn, so that one client's flood does not keep the others waiting. */
static void serve_input(struct unix_client *client)
{
    if (client->is_overrun || reserve_input(client) < 0) {
        close_client(client);
        return;
    }
    ssize_t n = recv(client->fd, client->input + client->n_input,
                     client->input_size_bytes - client->n_input, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n < 0) {
        close_client(client);
        return;
    }
    /* The peer may have closed its sending side only: it still gets its answers. */
    if (n == 0)
        client->is_ending = true;
    client->n_input += (size_t) n;
    note_activity(client);
    deliver_messages(client);
}

static void poll_client(uv_poll_t *poll, int status, int events)
{
    struct unix_client *client = poll->data;
    if (status < 0) {
        close_client(client);
        return;
    }
    if ((events & UV_READABLE) && !client->is_ending)
        serve_input(client);
    if (!client->is_closed && client->is_overrun) {
        close_client(client);
        return;
    }
    if (!client->is_closed && (events & UV_WRITABLE))
        serve_output(client);
    update_interest(client);
}

static void add_client(struct unix_server *server, int fd)
{
    struct ucred peer;
    socklen_t size = sizeof(peer);
    struct unix_client *client = calloc(1, sizeof(*client));
    if (!client || getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0 ||
        uv_poll_init(server->poll.loop, &client->poll, fd) < 0) {
        free(client);
        close(fd);
        return;
    }
    client->poll.data = client;
    client->fd = fd;
    client->server = server;
    client->active_ns = loop_now_ns();
    list_append(&server->clients, &client->link);
    server->n_clients++;
    if (!server->handler.connected(server->handler.context, client, peer.uid, peer.gid, peer.pid))
        drop_client(client);
    else
        update_interest(client);
}

/* Out of descriptors: without this the waiting connection would wake the loop for ever. */
static void refuse_with_spare(struct unix_server *server)
{
    if (server->spare_fd < 0)
        return;
    close(server->spare_fd);
    int fd = accept4(server->fd, NULL, NULL, SOCK_CLOEXEC);
    if (fd >= 0)
        close(fd);
    server->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
}

static bool is_busy(const struct unix_client *client, uint64_t now_ns)
{
    return (unix_client_backlog(client) > 0 || client->is_waiting) &&
           now_ns - client->active_ns < UNIX_SERVER_PATIENCE_S * NS_PER_S;
}

/* False when nobody can be closed for a newcomer. */
static bool make_place(struct unix_server *server)
{
    uint64_t now_ns = loop_now_ns();
    for (struct list_link *link = server->clients.next; link != &server->clients;
         link = link->next) {
        struct unix_client *client = CONTAINER_OF(link, struct unix_client, link);
        if (is_busy(client, now_ns))
            continue;
        close_client(client);
        return true;
    }
    return false;
}

static void accept_clients(uv_poll_t *poll, int status, int events)
{
    (void) status;
    (void) events;
    struct unix_server *server = poll->data;
    for (int i = 0; i < ACCEPTS_PER_TURN && !uv_is_closing((uv_handle_t *) poll); i++) {
        int fd = accept4(server->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) {
            if (errno == EMFILE || errno == ENFILE)
                refuse_with_spare(server);
            return;
        }
        if (server->n_clients == UNIX_SERVER_CLIENTS_MAX && !make_place(server))
            close(fd);
        else
            add_client(server, fd);
    }
}

/* 0 when nobody listens on it, having removed what a dead server left. */
static int remove_stale(const struct sockaddr_un *name)
{
    struct stat file;
    if (lstat(name->sun_path, &file) < 0)
        return errno == ENOENT ? 0 : -errno;
    if (!S_ISSOCK(file.st_mode))
        return -EADDRINUSE;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    bool is_stale =
        connect(fd, (const struct sockaddr *) name, sizeof(*name)) < 0 && errno == ECONNREFUSED;
    close(fd);
    if (!is_stale)
        return -EADDRINUSE;
    return unlink(name->sun_path) < 0 && errno != ENOENT ? -errno : 0;
}

static int make_parent(const char *path)
{
    char parent[sizeof(((struct sockaddr_un *) NULL)->sun_path)];
    const char *slash = strrchr(path, '/');
    if (!slash || slash == path)
        return 0;
    size_t length = (size_t) (slash - path);
    memcpy(parent, path, length);
    parent[length] = '\0';
    return mkdir(parent, 0755) < 0 && errno != EEXIST ? -errno : 0;
}

/*
 * The mode of an unbound socket is the one its file is born with (less the umask); chmod() then gives back what the umask took.
 * Before listen() nobody can connect.
 */
static int bind_and_listen(int fd, const struct sockaddr_un *name, mode_t mode)
{
    if (fchmod(fd, mode) < 0 || bind(fd, (const struct sockaddr *) name, sizeof(*name)) < 0)
        return -errno;
    if (chmod(name->sun_path, mode) < 0 || listen(fd, CONNECTIONS_PENDING) < 0) {
        int error = -errno;
        unlink(name->sun_path);
        return error;
    }
    return 0;
}

static int listen_on(const struct sockaddr_un *name, mode_t mode, int *ret_fd)
{
    int error = make_parent(name->sun_path);
    if (error == 0)
        error = remove_stale(name);
    if (error < 0)
        return error;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    error = bind_and_listen(fd, name, mode);
    if (error < 0) {
        close(fd);
        return error;
    }
    *ret_fd = fd;
    return 0;
}

int unix_server_open(struct loop *loop, const char *path, mode_t mode,
                     const struct unix_server_handler *handler, struct unix_server **ret_server)
{
    struct unix_server *server = calloc(1, sizeof(*server));
    if (!server)
        return -ENOMEM;
    int error = -ENAMETOOLONG;
    if (strlen(path) >= sizeof(server->name.sun_path))
        goto fail_memory;
    server->name.sun_family = AF_UNIX;
    strcpy(server->name.sun_path, path);
    server->handler = *handler;
    list_init(&server->clients);
    error = listen_on(&server->name, mode, &server->fd);
    if (error < 0)
        goto fail_memory;
    error = uv_poll_init(loop_uv(loop), &server->poll, server->fd);
    if (error < 0)
        goto fail_socket;
    server->poll.data = server;
    server->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    uv_poll_start(&server->poll, UV_READABLE, accept_clients);
    *ret_server = server;
    return 0;

fail_socket:
    close(server->fd);
    unlink(server->name.sun_path);
fail_memory:
    free(server);
    return error;
}

static void free_server(uv_handle_t *handle)
{
    free(handle->data);
}

void unix_server_close(struct unix_server *server)
{
    if (!server)
        return;
    unlink(server->name.sun_path);
    uv_close((uv_handle_t *) &server->poll, free_server);
    close(server->fd);
    if (server->spare_fd >= 0)
        close(server->spare_fd);
    while (!list_is_empty(&server->clients)) {
        struct unix_client *client = CONTAINER_OF(server->clients.next, struct unix_client, link);
        /* The answer to the call that ended us, if its asker is reading. */
        (void) flush_output(client);
        close_client(client);
    }
}

void unix_client_close(struct unix_client *client)
{
    client->is_ending = true;
    update_interest(client);
}

void unix_client_set_context(struct unix_client *client, void *context)
{
    client->context = context;
}

void *unix_client_context(const struct unix_client *client)
{
    return client->context;
}
