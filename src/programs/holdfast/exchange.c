/*
 * A connected socket: the kernel drops what does not come from the server, chooses the source address that is then put into
 * the request (RFC 6887 s8.1), and tells of ICMP errors. These are hints and no answers, as anybody can send them.
 */

#include "programs/holdfast/exchange.h"

#include <errno.h>
#include <poll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/random.h"
#include "base/time.h"
#include "client/oneshot.h"
#include "io/datagram_socket.h"
#include "io/loop.h"
#include "io/sockaddr.h"

static int connect_socket(int fd, const struct endpoint *server, uint32_t interface_index,
                          const struct ip_address *source)
{
    struct sockaddr_storage name;
    socklen_t size;
    if (!ip_address_is_any(source)) {
        struct endpoint local = {.address = *source};
        size = sockaddr_from_endpoint(&local, interface_index, &name);
        if (bind(fd, (const struct sockaddr *) &name, size) < 0)
            return -errno;
    }
    size = sockaddr_from_endpoint(server, interface_index, &name);
    return connect(fd, (const struct sockaddr *) &name, size) < 0 ? -errno : 0;
}

int exchange_open(const struct endpoint *server, uint32_t interface_index,
                  const struct ip_address *source, struct exchange *ret_exchange)
{
    int fd =
        socket(sockaddr_family(&server->address), SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    int error = connect_socket(fd, server, interface_index, source);
    struct sockaddr_storage name;
    socklen_t size = sizeof(name);
    if (error == 0 && getsockname(fd, (struct sockaddr *) &name, &size) < 0)
        error = -errno;
    if (error < 0) {
        close(fd);
        return error;
    }
    *ret_exchange = (struct exchange){
        .fd = fd,
        .server = *server,
        .client_address = sockaddr_to_endpoint(&name).address,
    };
    return 0;
}

void exchange_close(struct exchange *exchange)
{
    close(exchange->fd);
}

/* 0, or -errno when the host itself will not send. */
static int send_request(struct exchange *exchange, const struct oneshot *oneshot)
{
    /* The first error may be what ICMP said of an earlier datagram; the second is about this one. */
    for (int i = 0; i < 2; i++) {
        if (send(exchange->fd, oneshot->request, oneshot->request_size_bytes, 0) >= 0)
            return 0;
        exchange->error = -errno;
    }
    switch (exchange->error) {
    case -EAGAIN:
    case -ENOBUFS:
    case -ECONNREFUSED:
        return 0; /* may pass: the next transmission will tell */
    default:
        return exchange->error;
    }
}

static void wait_readable(int fd, uint64_t until_ns)
{
    uint64_t now_ns = loop_now_ns();
    uint64_t wait_ns = until_ns > now_ns ? until_ns - now_ns : 0;
    struct timespec limit = {(time_t) (wait_ns / NS_PER_S), (long) (wait_ns % NS_PER_S)};
    struct pollfd readable = {.fd = fd, .events = POLLIN};
    (void) ppoll(&readable, 1, &limit, NULL);
}

/* The first thing waiting that is an answer, if any is. */
static enum oneshot_verdict receive_answers(struct exchange *exchange,
                                            const struct oneshot *oneshot,
                                            struct pcp_response *ret_response)
{
    uint8_t octets[DATAGRAM_SIZE_MAX];
    for (;;) {
        ssize_t n = recv(exchange->fd, octets, sizeof(octets), 0);
        if (n < 0 && errno == EAGAIN)
            return ONESHOT_VERDICT_IGNORED;
        if (n < 0) {
            exchange->error = -errno;
            return ONESHOT_VERDICT_IGNORED;
        }
        struct datagram datagram = {
            .source = exchange->server,
            .destination.address = exchange->client_address,
            .data = octets,
            .size_bytes = (size_t) n,
        };
        enum oneshot_verdict verdict = oneshot_receive(oneshot, &datagram, ret_response);
        if (verdict != ONESHOT_VERDICT_IGNORED)
            return verdict;
    }
}

enum exchange_outcome exchange_run(struct exchange *exchange, const struct pcp_request *request,
                                   uint32_t timeout_s, struct pcp_response *ret_response)
{
    struct random_source random = random_system();
    struct oneshot oneshot;
    exchange->error = oneshot_init(&oneshot, request, &exchange->server, &random, loop_now_ns(),
                                   timeout_s * NS_PER_S);
    if (exchange->error < 0)
        return EXCHANGE_OUTCOME_UNSENT;
    for (;;) {
        switch (oneshot_advance(&oneshot, loop_now_ns())) {
        case ONESHOT_STEP_SEND:
            if (send_request(exchange, &oneshot) < 0)
                return EXCHANGE_OUTCOME_UNSENT;
            break;
        case ONESHOT_STEP_WAIT:
            break;
        case ONESHOT_STEP_GIVE_UP:
            return EXCHANGE_OUTCOME_UNANSWERED;
        }
        wait_readable(exchange->fd, oneshot_next_ns(&oneshot));
        switch (receive_answers(exchange, &oneshot, ret_response)) {
        case ONESHOT_VERDICT_ANSWERED:
            return EXCHANGE_OUTCOME_ANSWERED;
        case ONESHOT_VERDICT_NATPMP:
            return EXCHANGE_OUTCOME_NATPMP;
        case ONESHOT_VERDICT_IGNORED:
            break;
        }
    }
}
