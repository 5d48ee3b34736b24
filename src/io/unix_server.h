#pragma once

/*
 * A Unix stream socket serving NUL-terminated messages. Who connects is known by SO_PEERCRED; a client that sends too much
 * without a NUL, or does not read what it asked for, is closed: nothing it does costs more than the stated bounds.
 */

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/util.h"
#include "io/loop.h"

#define UNIX_SERVER_MESSAGE_MAX 65536
/*
 * When so many are connected, a newcomer takes the place of the one that has been idle longest, busy ones excepted: those
 * that wait for an answer or have not taken theirs yet, and did something in the last UNIX_SERVER_PATIENCE_S.
 */
#define UNIX_SERVER_CLIENTS_MAX 64
#define UNIX_SERVER_PATIENCE_S 10
#define UNIX_SERVER_BACKLOG_BYTES (1024 * 1024) /* unsent octets after which a client is closed */

struct unix_server;
struct unix_client;

struct unix_server_handler {
    /* Return false to refuse: `closed` is then not called. `pid` may be 0 when unknown. */
    bool (*connected)(void *context, struct unix_client *client, uid_t uid, gid_t gid, pid_t pid);
    /* One message without its NUL, which is there behind it all the same. */
    void (*message)(void *context, struct unix_client *client, const char *text, size_t size_bytes);
    void (*closed)(void *context, struct unix_client *client);
    /* The backlog went below half its bound: a long reply may go on. May be NULL. */
    void (*writable)(void *context, struct unix_client *client);
    void *context;
};

/*
 * Listens on `path`, replacing a socket nobody listens on (-EADDRINUSE when somebody does), with file mode `mode`. The parent directory is created
 * (0755) when missing. 0 or -errno.
 */
MUST_CHECK int unix_server_open(struct loop *loop, const char *path, mode_t mode,
                                const struct unix_server_handler *handler,
                                struct unix_server **ret_server);
/* Closes every client (with the closed callback) and removes the socket file. Accepts NULL. */
void unix_server_close(struct unix_server *server);
/*
 * Queues one message; its NUL is added. 0, -ENOBUFS when the backlog is full (the client is closed at the next turn), -ENOMEM. A reply
 * of many messages pauses while the backlog is above half its bound, until `writable`.
 */
MUST_CHECK int unix_client_send(struct unix_client *client, const char *text, size_t size_bytes);
/* Octets queued and not yet taken by the kernel. */
size_t unix_client_backlog(const struct unix_client *client);
/* Closes after what is queued has left. */
void unix_client_close(struct unix_client *client);
void unix_client_set_context(struct unix_client *client, void *context);
void *unix_client_context(const struct unix_client *client);
