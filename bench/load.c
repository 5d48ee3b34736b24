/*
 * Every source address has a socket of its own, as if it were a host. Numbers are dealt to the sources in runs of
 * NUMBERS_IN_A_ROW, so that a batch of requests mostly leaves with one system call. An answer is matched by the socket it
 * came to and its internal port; what it says is compared with what was asked, and with what was answered before.
 */

#include "bench/load.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/time.h"
#include "base/writer.h"
#include "io/sockaddr.h"
#include "wire/request.h"
#include "wire/response.h"

#define NUMBERS_IN_A_ROW 8
#define BATCH_MAX 64
#define PORT_FIRST 1024
#define SUGGESTED_FIRST 2000
#define SUGGESTED_PORTS 30000
#define PATIENCE_MS 10000
#define LIFETIME_CREATE_S 3600
#define LIFETIME_RENEW_S 7200
#define NONCE_LABEL UINT64_C(0x62656e6368206e72)
#define COMPLAINT_SIZE 200

struct source {
    int fd;
    struct ip_address address;
};

struct exchange {
    uint64_t sent_ns;
    bool is_waiting;
    struct endpoint external; /* as answered last; port 0: no mapping that we know of */
};

struct load {
    struct load_settings settings;
    enum load_operation operation;
    int epoll_fd;
    struct source *sources;
    struct exchange *exchanges; /* of the mappings first, first + 1 ... */
    uint64_t *latencies_ns;     /* in the order of the answers */
    uint32_t n_sent, n_answered;
    struct pcp_request request;
    struct pcp_response response;
    struct mmsghdr messages[BATCH_MAX];
    struct iovec vectors[BATCH_MAX];
    uint8_t octets[BATCH_MAX][PCP_SIZE_MAX];
    char complaint[COMPLAINT_SIZE];
};

static const char *const operation_names[LOAD_OPERATIONS] = {
    [LOAD_CREATE] = "create",
    [LOAD_RENEW] = "renew",
    [LOAD_DELETE] = "delete",
    [LOAD_ECHO] = "echo",
};

const char *load_operation_name(enum load_operation operation)
{
    return operation_names[operation];
}

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t) now.tv_sec * NS_PER_S + (uint64_t) now.tv_nsec;
}

/* ---- numbers */

static uint32_t source_of(const struct load *load, uint32_t number)
{
    return number / NUMBERS_IN_A_ROW % load->settings.n_sources;
}

static uint64_t internal_port_of(const struct load_settings *settings, uint32_t number)
{
    uint32_t round = number / NUMBERS_IN_A_ROW / settings->n_sources;
    return (uint64_t) PORT_FIRST + (uint64_t) round * NUMBERS_IN_A_ROW + number % NUMBERS_IN_A_ROW;
}

/* The reverse; may give any number for a port that was never asked for. */
static uint32_t number_of(const struct load *load, uint32_t source, uint16_t internal_port)
{
    uint32_t offset = (uint32_t) internal_port - PORT_FIRST;
    return (offset / NUMBERS_IN_A_ROW * load->settings.n_sources + source) * NUMBERS_IN_A_ROW +
           offset % NUMBERS_IN_A_ROW;
}

static void write_nonce(uint32_t number, uint8_t *ret_nonce)
{
    struct writer writer = writer_init(ret_nonce, PCP_NONCE_SIZE);
    writer_u64(&writer, NONCE_LABEL);
    writer_u32(&writer, number);
}

static struct ip_address address_after(const struct ip_address *first, uint32_t n)
{
    struct ip_address address = *first;
    for (size_t i = sizeof(address.octets); i > 0 && n > 0; i--) {
        n += address.octets[i - 1];
        address.octets[i - 1] = (uint8_t) n;
        n >>= 8;
    }
    return address;
}

/* ---- sending */

static uint32_t lifetime_s(enum load_operation operation)
{
    switch (operation) {
    case LOAD_CREATE:
    case LOAD_ECHO:
        return LIFETIME_CREATE_S;
    case LOAD_RENEW:
        return LIFETIME_RENEW_S;
    case LOAD_DELETE:
        break;
    }
    return 0;
}

/*
 * An external port that no other of the numbers near by suggests: how a server looks for a free one is not what is measured. A renewal
 * suggests what was assigned (RFC 6887 s11.2.1); a deletion nothing (s15).
 */
static struct endpoint suggestion(const struct load *load, uint32_t number)
{
    const struct exchange *exchange = &load->exchanges[number - load->settings.first];
    struct endpoint suggested = {
        .address = ip_address_is_ipv4(&load->settings.server.address) ? IP_ADDRESS_ANY_IPV4
                                                                      : IP_ADDRESS_ANY_IPV6,
    };
    if (load->operation == LOAD_RENEW && exchange->external.port != 0)
        return exchange->external;
    if (load->operation != LOAD_DELETE)
        suggested.port = (uint16_t) (SUGGESTED_FIRST + number % SUGGESTED_PORTS);
    return suggested;
}

static void fill_request(struct load *load, uint32_t number)
{
    load->request = (struct pcp_request){
        .opcode = PCP_OPCODE_MAP,
        .lifetime_s = lifetime_s(load->operation),
        .client_address = load->sources[source_of(load, number)].address,
        .mapping =
            {
                .protocol = IPPROTO_UDP,
                .internal_port = (uint16_t) internal_port_of(&load->settings, number),
                .external = suggestion(load, number),
            },
    };
    write_nonce(number, load->request.mapping.nonce);
}

/* How many of the next requests leave by the same socket within the window. */
static uint32_t count_batch(const struct load *load)
{
    uint32_t n_under_way = load->n_sent - load->n_answered;
    uint32_t n_max = load->settings.window - n_under_way, n = 0;
    if (n_max > load->settings.count - load->n_sent)
        n_max = load->settings.count - load->n_sent;
    if (n_max > BATCH_MAX)
        n_max = BATCH_MAX;
    uint32_t number = load->settings.first + load->n_sent;
    while (n < n_max && source_of(load, number + n) == source_of(load, number))
        n++;
    return n;
}

static int encode_batch(struct load *load, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        fill_request(load, load->settings.first + load->n_sent + i);
        int size = pcp_request_encode(&load->request, load->octets[i], PCP_SIZE_MAX);
        if (size < 0)
            return size;
        load->vectors[i].iov_len = (size_t) size;
    }
    return 0;
}

/* The number sent, which is less than `n` when the socket is full, or -errno. */
static int send_batch(struct load *load, uint32_t n)
{
    const struct source *source =
        &load->sources[source_of(load, load->settings.first + load->n_sent)];
    struct exchange *exchanges = load->exchanges + load->n_sent;
    int error = encode_batch(load, n);
    if (error < 0)
        return error;
    uint64_t sent_ns = now_ns();
    int n_sent = sendmmsg(source->fd, load->messages, n, 0);
    if (n_sent < 0)
        return errno == EAGAIN ? 0 : -errno;
    for (int i = 0; i < n_sent; i++) {
        exchanges[i].sent_ns = sent_ns;
        exchanges[i].is_waiting = true;
    }
    load->n_sent += (uint32_t) n_sent;
    return n_sent;
}

static int fill_window(struct load *load)
{
    uint32_t n = count_batch(load);
    while (n > 0) {
        int n_sent = send_batch(load, n);
        if (n_sent <= 0)
            return n_sent;
        n = count_batch(load);
    }
    return 0;
}

/* ---- receiving */

/* What is wrong with the answer to `exchange`, whose request is in load->request; NULL when nothing is. */
static const char *judge_mapping(const struct load *load, const struct exchange *exchange)
{
    const struct pcp_response *response = &load->response;
    const struct pcp_mapping_fields *mapping = &response->mapping;
    if (response->version != PCP_VERSION || response->opcode != PCP_OPCODE_MAP)
        return "not an answer to MAP";
    if (response->result != PCP_RESULT_SUCCESS)
        return pcp_result_name(response->result);
    if (memcmp(mapping->nonce, load->request.mapping.nonce, PCP_NONCE_SIZE) != 0)
        return "another nonce";
    if (mapping->protocol != load->request.mapping.protocol)
        return "another protocol";
    if (load->operation == LOAD_DELETE)
        return response->lifetime_s == 0 ? NULL : "deleted, but with a lifetime";
    if (response->lifetime_s == 0 || response->lifetime_s > load->request.lifetime_s)
        return "a lifetime that was not asked for";
    if (mapping->external.port == 0 || ip_address_is_any(&mapping->external.address))
        return "no external endpoint";
    if (exchange->external.port != 0 && !endpoint_equal(&exchange->external, &mapping->external))
        return "another external endpoint than before";
    return NULL;
}

static bool is_echo(const struct load *load, const uint8_t *octets, size_t size_bytes)
{
    uint8_t expected[PCP_SIZE_MAX];
    int size = pcp_request_encode(&load->request, expected, sizeof(expected));
    return size > 0 && (size_t) size == size_bytes && memcmp(expected, octets, size_bytes) == 0;
}

/* -EBADMSG when it is not PCP. An echo is a request: the same fields at the same places. */
static int read_internal_port(struct load *load, const struct source *source, const uint8_t *octets,
                              size_t size_bytes)
{
    static const struct pcp_capabilities capabilities = {.map = true};
    enum pcp_result result;
    if (load->operation != LOAD_ECHO) {
        int error = pcp_response_decode(octets, size_bytes, &load->response);
        return error < 0 ? error : load->response.mapping.internal_port;
    }
    if (pcp_request_decode(octets, size_bytes, &source->address, &capabilities, &load->request,
                           &result) != PCP_VERDICT_ACCEPT)
        return -EBADMSG;
    return load->request.mapping.internal_port;
}

static int complain(struct load *load, const struct source *source, int port, const char *what)
{
    char address[IP_ADDRESS_TEXT_SIZE];
    snprintf(load->complaint, sizeof(load->complaint), "%s: answer to %s port %d: %s",
             load_operation_name(load->operation), ip_address_format(&source->address, address),
             port, what);
    return -EBADMSG;
}

/* 0 or -EBADMSG. */
static int take_answer(struct load *load, uint32_t source_index, const uint8_t *octets,
                       size_t size_bytes, uint64_t received_ns)
{
    const struct source *source = &load->sources[source_index];
    int port = read_internal_port(load, source, octets, size_bytes);
    if (port < 0)
        return complain(load, source, 0, "not PCP");
    uint32_t number = number_of(load, source_index, (uint16_t) port);
    uint32_t index = number - load->settings.first;
    if (port < PORT_FIRST || index >= load->n_sent || !load->exchanges[index].is_waiting)
        return complain(load, source, port, "nothing was asked, or it was answered before");
    struct exchange *exchange = &load->exchanges[index];
    fill_request(load, number);
    const char *fault = NULL;
    if (load->operation != LOAD_ECHO)
        fault = judge_mapping(load, exchange);
    else if (!is_echo(load, octets, size_bytes))
        fault = "other octets";
    if (fault)
        return complain(load, source, port, fault);
    exchange->is_waiting = false;
    if (load->operation == LOAD_CREATE || load->operation == LOAD_RENEW)
        exchange->external = load->response.mapping.external;
    else
        exchange->external = (struct endpoint){0};
    load->latencies_ns[load->n_answered++] = received_ns - exchange->sent_ns;
    return 0;
}

static void prepare_batch(struct load *load)
{
    for (size_t i = 0; i < BATCH_MAX; i++) {
        load->vectors[i] = (struct iovec){load->octets[i], PCP_SIZE_MAX};
        load->messages[i].msg_hdr = (struct msghdr){.msg_iov = &load->vectors[i], .msg_iovlen = 1};
    }
}

static int receive_batch(struct load *load, uint32_t source_index)
{
    prepare_batch(load);
    int n = recvmmsg(load->sources[source_index].fd, load->messages, BATCH_MAX, MSG_DONTWAIT, NULL);
    if (n < 0)
        return errno == EAGAIN ? 0 : -errno;
    uint64_t received_ns = now_ns();
    for (int i = 0; i < n; i++) {
        int error = take_answer(load, source_index, load->octets[i], load->messages[i].msg_len,
                                received_ns);
        if (error < 0)
            return error;
    }
    return 0;
}

static int receive_answers(struct load *load)
{
    struct epoll_event events[BATCH_MAX];
    int n = epoll_wait(load->epoll_fd, events, BATCH_MAX, PATIENCE_MS);
    if (n < 0)
        return errno == EINTR ? 0 : -errno;
    if (n == 0) {
        snprintf(load->complaint, sizeof(load->complaint), "%s: %u of %u without answer for %u s",
                 load_operation_name(load->operation), load->n_sent - load->n_answered,
                 load->settings.count, PATIENCE_MS / 1000);
        return -ETIMEDOUT;
    }
    for (int i = 0; i < n; i++) {
        int error = receive_batch(load, events[i].data.u32);
        if (error < 0)
            return error;
    }
    return 0;
}

/* ---- a run */

static int compare_latencies(const void *a, const void *b)
{
    const uint64_t *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

static int compare_endpoints(const void *a, const void *b)
{
    const struct endpoint *x = a, *y = b;
    int order = ip_address_compare(&x->address, &y->address);
    return order != 0 ? order : (x->port > y->port) - (x->port < y->port);
}

/* Two mappings on one external endpoint are a fault that no single answer shows. 0, -EBADMSG or -ENOMEM. */
static int check_distinct(struct load *load)
{
    uint32_t n = load->settings.count;
    int error = 0;
    struct endpoint *sorted = calloc(n, sizeof(*sorted));
    if (!sorted)
        return -ENOMEM;
    for (uint32_t i = 0; i < n; i++)
        sorted[i] = load->exchanges[i].external;
    qsort(sorted, n, sizeof(*sorted), compare_endpoints);
    for (uint32_t i = 1; i < n && error == 0; i++) {
        char text[ENDPOINT_TEXT_SIZE];
        if (!endpoint_equal(&sorted[i - 1], &sorted[i]))
            continue;
        snprintf(load->complaint, sizeof(load->complaint), "%s: %s was given twice",
                 load_operation_name(load->operation), endpoint_format(&sorted[i], text));
        error = -EBADMSG;
    }
    free(sorted);
    return error;
}

static int exchange_all(struct load *load)
{
    while (load->n_answered < load->settings.count) {
        int error = fill_window(load);
        if (error == 0)
            error = receive_answers(load);
        if (error < 0)
            return error;
    }
    return 0;
}

int load_run(struct load *load, enum load_operation operation, struct load_result *ret_result)
{
    uint32_t n = load->settings.count;
    load->operation = operation;
    load->n_sent = load->n_answered = 0;
    prepare_batch(load);
    uint64_t start_ns = now_ns();
    int error = exchange_all(load);
    uint64_t duration_ns = now_ns() - start_ns;
    if (error == 0 && (operation == LOAD_CREATE || operation == LOAD_RENEW))
        error = check_distinct(load);
    if (error < 0)
        return error;
    qsort(load->latencies_ns, n, sizeof(*load->latencies_ns), compare_latencies);
    ret_result->rate_per_s = (double) n * (double) NS_PER_S / (double) duration_ns;
    ret_result->p50_ns = load->latencies_ns[(uint64_t) (n - 1) * 50 / 100];
    ret_result->p99_ns = load->latencies_ns[(uint64_t) (n - 1) * 99 / 100];
    return 0;
}

const char *load_complaint(const struct load *load)
{
    return load->complaint;
}

/* ---- open and close */

static int open_source(struct load *load, uint32_t index)
{
    struct source *source = &load->sources[index];
    struct sockaddr_storage name;
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = index};
    source->address = address_after(&load->settings.first_source, index);
    source->fd =
        socket(sockaddr_family(&source->address), SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (source->fd < 0)
        return -errno;
    struct endpoint local = {.address = source->address};
    socklen_t size = sockaddr_from_endpoint(&local, 0, &name);
    if (bind(source->fd, (struct sockaddr *) &name, size) < 0)
        return -errno;
    size = sockaddr_from_endpoint(&load->settings.server, 0, &name);
    if (connect(source->fd, (struct sockaddr *) &name, size) < 0 ||
        epoll_ctl(load->epoll_fd, EPOLL_CTL_ADD, source->fd, &event) < 0)
        return -errno;
    return 0;
}

static int open_sources(struct load *load)
{
    uint32_t n = load->settings.n_sources;
    load->sources = calloc(n, sizeof(*load->sources));
    load->exchanges = calloc(load->settings.count, sizeof(*load->exchanges));
    load->latencies_ns = calloc(load->settings.count, sizeof(*load->latencies_ns));
    if (!load->sources || !load->exchanges || !load->latencies_ns)
        return -ENOMEM;
    for (uint32_t i = 0; i < n; i++)
        load->sources[i].fd = -1;
    load->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (load->epoll_fd < 0)
        return -errno;
    for (uint32_t i = 0; i < n; i++) {
        int error = open_source(load, i);
        if (error < 0)
            return error;
    }
    return 0;
}

static bool is_within_bounds(const struct load_settings *settings)
{
    if (settings->n_sources == 0 || settings->n_sources > LOAD_SOURCES_MAX ||
        settings->window == 0 || settings->window > LOAD_WINDOW_MAX || settings->count == 0 ||
        settings->first > UINT32_MAX - settings->count)
        return false;
    uint32_t last = settings->first + settings->count - 1;
    return internal_port_of(settings, last) <= UINT16_MAX - NUMBERS_IN_A_ROW;
}

int load_open(const struct load_settings *settings, struct load **ret_load)
{
    if (!is_within_bounds(settings))
        return -EINVAL;
    struct load *load = calloc(1, sizeof(*load));
    if (!load)
        return -ENOMEM;
    load->settings = *settings;
    load->epoll_fd = -1;
    int error = open_sources(load);
    if (error < 0) {
        load_close(load);
        return error;
    }
    *ret_load = load;
    return 0;
}

void load_close(struct load *load)
{
    for (uint32_t i = 0; load->sources && i < load->settings.n_sources; i++) {
        if (load->sources[i].fd >= 0)
            close(load->sources[i].fd);
    }
    if (load->epoll_fd >= 0)
        close(load->epoll_fd);
    free(load->sources);
    free(load->exchanges);
    free(load->latencies_ns);
    free(load);
}
