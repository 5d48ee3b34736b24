#pragma once

/*
 * The caller's side of the control socket, for the tools: blocking, each step within a timeout,
 * memory bounded by CONTROL_REPLY_SIZE_MAX. After a failure `error` says in words what went wrong.
 */

#include <stdbool.h>
#include <stddef.h>

#include "base/util.h"
#include "control/message.h"

#define CONTROL_DEFAULT_SOCKET "/run/holdfast/control"

struct control_client {
    int fd;
    unsigned int timeout_ms; /* of each step */
    char *buffer;            /* received and not yet consumed */
    size_t n_buffered;
    size_t n_allocated;
    char error[256];
};

/*
 * Connects to the Unix socket `path`. 0 or -errno: -ENOENT and -ECONNREFUSED when nobody listens
 * there, -EACCES when the caller may not. Always to be followed by control_client_close().
 */
MUST_CHECK int control_client_open(struct control_client *ret_client, const char *path,
                                   unsigned int timeout_ms);
void control_client_close(struct control_client *client);
/*
 * Sends a call and takes over `parameters` (NULL: {}). 0; -ETIMEDOUT; -ECONNRESET when the daemon
 * is gone; -errno.
 */
MUST_CHECK int control_client_call(struct control_client *client, const char *method,
                                   json_t *parameters, bool more);
/*
 * One reply, to be released with control_reply_deinit(). 0, also for a reply that is an error;
 * -ETIMEDOUT; -ECONNRESET when the connection ended before it; -EBADMSG when it is no reply or too
 * large; -errno.
 */
MUST_CHECK int control_client_receive(struct control_client *client,
                                      struct control_reply *ret_reply);
