/*
 * udp_echo: sends back every datagram it gets, in batches. What pcp_load measures against it is what the sockets, the
 * network and the load generator cost by themselves: no server on this machine can answer sooner.
 */

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "base/address.h"
#include "io/sockaddr.h"

#define BATCH_MAX 64
#define SIZE_MAX_BYTES 1500

static struct mmsghdr messages[BATCH_MAX];
static struct iovec vectors[BATCH_MAX];
static struct sockaddr_storage peers[BATCH_MAX];
static char octets[BATCH_MAX][SIZE_MAX_BYTES];

static void prepare_batch(void)
{
    for (size_t i = 0; i < BATCH_MAX; i++) {
        vectors[i] = (struct iovec){octets[i], SIZE_MAX_BYTES};
        messages[i].msg_hdr = (struct msghdr){
            .msg_name = &peers[i],
            .msg_namelen = sizeof(peers[i]),
            .msg_iov = &vectors[i],
            .msg_iovlen = 1,
        };
    }
}

/* 0 or -errno. */
static int echo_batch(int fd)
{
    prepare_batch();
    int n = recvmmsg(fd, messages, BATCH_MAX, MSG_WAITFORONE, NULL);
    if (n < 0)
        return errno == EINTR ? 0 : -errno;
    for (int i = 0; i < n; i++)
        vectors[i].iov_len = messages[i].msg_len;
    for (int n_sent = 0; n_sent < n;) {
        int n_more = sendmmsg(fd, messages + n_sent, (unsigned) (n - n_sent), 0);
        if (n_more < 0)
            return -errno;
        n_sent += n_more;
    }
    return 0;
}

static int listen_at(const struct endpoint *local)
{
    struct sockaddr_storage name;
    socklen_t size = sockaddr_from_endpoint(local, 0, &name);
    int fd = socket(sockaddr_family(&local->address), SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    return bind(fd, (struct sockaddr *) &name, size) < 0 ? -errno : fd;
}

int main(int argc, char **argv)
{
    struct endpoint local;
    if (argc != 2 || endpoint_parse(argv[1], 0, &local) < 0 || local.port == 0) {
        fputs("usage: udp_echo ADDRESS:PORT   says \"ready\" and answers until it is ended\n",
              stderr);
        return 2;
    }
    int fd = listen_at(&local), error = fd;
    if (fd >= 0) {
        puts("ready");
        fflush(stdout);
        do
            error = echo_batch(fd);
        while (error == 0);
    }
    fprintf(stderr, "udp_echo: %s\n", strerror(-error));
    return 1;
}
