/*
 * The kernel keeps the boundaries of messages, so there are no lengths to be wrong about. An empty message cannot be told
 * from the end, and there is none.
 */

#include "privsep/channel.h"

#include <assert.h>
#include <errno.h>
#include <sys/socket.h>

int channel_open(int *ret_fds)
{
    return socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ret_fds) < 0 ? -errno : 0;
}

int channel_send(int fd, const void *data, size_t size_bytes)
{
    ssize_t n;
    assert(size_bytes > 0 && size_bytes <= CHANNEL_MESSAGE_SIZE);
    do
        n = send(fd, data, size_bytes, MSG_NOSIGNAL);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return errno == ECONNRESET ? -EPIPE : -errno;
    return 0;
}

ssize_t channel_receive(int fd, void *ret_data)
{
    ssize_t n;
    do
        n = recv(fd, ret_data, CHANNEL_MESSAGE_SIZE, MSG_TRUNC);
    while (n < 0 && errno == EINTR);
    if (n == 0 || (n < 0 && errno == ECONNRESET))
        return -EPIPE;
    if (n > CHANNEL_MESSAGE_SIZE)
        return -EMSGSIZE;
    return n < 0 ? -errno : n;
}
