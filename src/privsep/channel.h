#pragma once

/* Whole messages over a socket pair of type SOCK_SEQPACKET. */

#include <stddef.h>
#include <sys/types.h>

#include "base/util.h"

#define CHANNEL_MESSAGE_SIZE 32768

/* Two connected ends. 0 or -errno. */
MUST_CHECK int channel_open(int *ret_fds);
/* Waits for room. 0; -EPIPE when the other end is gone; -errno. */
MUST_CHECK int channel_send(int fd, const void *data, size_t size_bytes);
/*
 * Waits for a message. Its size; -EPIPE when the other end is gone; -EMSGSIZE when it is larger than
 * CHANNEL_MESSAGE_SIZE, which is also the room in `ret_data`; -errno.
 */
MUST_CHECK ssize_t channel_receive(int fd, void *ret_data);
