/* See nat_lab.h. Everything that goes wrong in here ends the test. */

#include "nat_lab.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <libmnl/libmnl.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static int namespaces[LAB_HOST_COUNT];

static const struct {
    const char *device; /* the gateway's end; the host's is eth0 */
    const char *network4, *network6;
} links[] = {
    [LAB_LAN1] = {"lan1", "192.168.7", "2001:db8:7:"},
    [LAB_LAN2] = {"lan2", "192.168.8", "2001:db8:8:"},
    [LAB_WAN1] = {"wan1", "198.51.100", "2001:db8:f1:"},
    [LAB_WAN2] = {"wan2", "198.51.101", "2001:db8:f2:"},
};

bool lab_is_possible(void)
{
    return geteuid() == 0;
}

void lab_enter(enum lab_host host)
{
    assert_int_equal(setns(namespaces[host], CLONE_NEWNET), 0);
}

static void run(const char *command)
{
    int status = system(command);

    if (status != 0)
        print_error("%s: status %d\n", command, status);
    assert_int_equal(status, 0);
}

void lab_run(const char *format, ...)
{
    char command[1024];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(command, sizeof(command), format, arguments);
    va_end(arguments);
    lab_enter(LAB_GATEWAY);
    run(command);
}

static void make_namespace(enum lab_host host)
{
    assert_int_equal(unshare(CLONE_NEWNET), 0);
    namespaces[host] = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    assert_true(namespaces[host] >= 0);
    run("ip link set lo up");
}

static void connect_host(enum lab_host host)
{
    const char *net4 = links[host].network4, *net6 = links[host].network6;
    char command[1024];

    lab_run("ip link add %s type veth peer name eth0 netns /proc/%d/fd/%d", links[host].device,
            (int) getpid(), namespaces[host]);
    lab_run("ip addr add %s.1/24 dev %s && ip -6 addr add %s:1/64 dev %s nodad && "
            "ip link set %s up",
            net4, links[host].device, net6, links[host].device, links[host].device);
    lab_enter(host);
    snprintf(command, sizeof(command),
             "ip addr add %s.2/24 dev eth0 && ip -6 addr add %s:2/64 dev eth0 nodad && "
             "ip link set eth0 up && ip route add default via %s.1 && "
             "ip -6 route add default via %s:1",
             net4, net6, net4, net6);
    run(command);
}

void lab_build(void)
{
    for (enum lab_host host = 0; host < LAB_HOST_COUNT; host++)
        make_namespace(host);
    for (enum lab_host host = LAB_LAN1; host <= LAB_WAN2; host++)
        connect_host(host);
    lab_run("ip addr add " LAB_EXTERNAL "/32 dev wan1 && ip addr add " LAB_EXTERNAL2
            "/32 dev wan1");
    lab_run("echo 1 > /proc/sys/net/ipv4/ip_forward && "
            "echo 1 > /proc/sys/net/ipv6/conf/all/forwarding");
}

void lab_forget_flows(void)
{
    char buffer[256] __attribute__((aligned(8)));
    struct mnl_socket *socket;
    struct nlmsghdr *header = mnl_nlmsg_put_header(buffer);
    struct nfgenmsg *message;

    lab_enter(LAB_GATEWAY);
    socket = mnl_socket_open(NETLINK_NETFILTER);
    assert_non_null(socket);
    header->nlmsg_type = NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_DELETE;
    header->nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK;
    message = mnl_nlmsg_put_extra_header(header, sizeof(*message));
    message->nfgen_family = AF_UNSPEC;
    assert_true(mnl_socket_sendto(socket, header, header->nlmsg_len) > 0);
    assert_true(mnl_socket_recvfrom(socket, buffer, sizeof(buffer)) > 0);
    mnl_socket_close(socket);
}

struct ip_address lab_address(const char *text)
{
    struct ip_address address;

    assert_int_equal(ip_address_parse(text, &address), 0);
    return address;
}

struct endpoint lab_endpoint(const char *address, uint16_t port)
{
    return (struct endpoint){.address = lab_address(address), .port = port};
}

struct nat_settings lab_settings(void)
{
    struct nat_settings settings = {
        .outside_interfaces = {"wan1", "wan2"},
        .n_outside_interfaces = 2,
        .external_addresses = {lab_address(LAB_EXTERNAL), lab_address(LAB_EXTERNAL2)},
        .n_external_addresses = 2,
        .n_internal_prefixes = 4,
        .masquerade = true,
        .masquerade_port_first = 32768,
        .masquerade_port_last = 65535,
        .size_hint = 4096,
    };

    assert_int_equal(ip_prefix_parse("192.168.7.0/24", &settings.internal_prefixes[0]), 0);
    assert_int_equal(ip_prefix_parse("192.168.8.0/24", &settings.internal_prefixes[1]), 0);
    assert_int_equal(ip_prefix_parse("2001:db8:7::/64", &settings.internal_prefixes[2]), 0);
    assert_int_equal(ip_prefix_parse("2001:db8:8::/64", &settings.internal_prefixes[3]), 0);
    return settings;
}

struct mapping_record lab_record(uint64_t id, uint8_t protocol, const char *internal,
                                 uint16_t internal_port, uint16_t external_port)
{
    struct mapping_record record = {
        .id = id,
        .expires_ns = 3600 * NS_PER_S,
        .internal_address = lab_address(internal),
        .external_address = lab_address(strchr(internal, ':') ? internal : LAB_EXTERNAL),
        .internal_port = internal_port,
        .external_port = external_port,
        .protocol = protocol,
        .kind = MAPPING_KIND_MAP,
        .state = MAPPING_STATE_LIVE,
    };

    record.client_address = record.internal_address;
    return record;
}

struct change lab_addition(const struct mapping_record *after)
{
    return (struct change){.has_after = true, .after = *after};
}

struct change lab_removal(const struct mapping_record *before)
{
    return (struct change){.had_before = true, .before = *before};
}

struct change lab_replacement(const struct mapping_record *before,
                              const struct mapping_record *after)
{
    return (struct change){
        .had_before = true, .has_after = true, .before = *before, .after = *after};
}

static socklen_t to_sockaddr(const struct endpoint *endpoint, struct sockaddr_storage *ret_address)
{
    memset(ret_address, 0, sizeof(*ret_address));
    if (ip_address_is_ipv4(&endpoint->address)) {
        struct sockaddr_in *address = (struct sockaddr_in *) ret_address;
        address->sin_family = AF_INET;
        address->sin_port = htons(endpoint->port);
        memcpy(&address->sin_addr, endpoint->address.octets + 12, 4);
        return sizeof(*address);
    }
    struct sockaddr_in6 *address = (struct sockaddr_in6 *) ret_address;
    address->sin6_family = AF_INET6;
    address->sin6_port = htons(endpoint->port);
    memcpy(&address->sin6_addr, endpoint->address.octets, 16);
    return sizeof(*address);
}

static struct endpoint from_sockaddr(const struct sockaddr_storage *from)
{
    struct endpoint endpoint = {0};

    if (from->ss_family == AF_INET) {
        const struct sockaddr_in *address = (const struct sockaddr_in *) from;
        endpoint.address = ip_address_from_ipv4(ntohl(address->sin_addr.s_addr));
        endpoint.port = ntohs(address->sin_port);
    } else {
        const struct sockaddr_in6 *address = (const struct sockaddr_in6 *) from;
        memcpy(endpoint.address.octets, &address->sin6_addr, 16);
        endpoint.port = ntohs(address->sin6_port);
    }
    return endpoint;
}

static int make_socket(enum lab_host host, const char *address, uint16_t port, int type)
{
    struct endpoint endpoint = lab_endpoint(address, port);
    struct sockaddr_storage own;
    socklen_t size = to_sockaddr(&endpoint, &own);
    int one = 1, fd;

    lab_enter(host);
    fd = socket(own.ss_family, type | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)), 0);
    assert_int_equal(bind(fd, (struct sockaddr *) &own, size), 0);
    lab_enter(LAB_GATEWAY);
    return fd;
}

int lab_udp(enum lab_host host, const char *address, uint16_t port)
{
    return make_socket(host, address, port, SOCK_DGRAM);
}

void lab_send(int fd, const char *address, uint16_t port, const char *text)
{
    struct endpoint endpoint = lab_endpoint(address, port);
    struct sockaddr_storage to;
    socklen_t size = to_sockaddr(&endpoint, &to);

    assert_int_equal(sendto(fd, text, strlen(text), 0, (struct sockaddr *) &to, size),
                     strlen(text));
}

bool lab_receive(int fd, int deadline_ms, char *ret_text, size_t size_bytes,
                 struct endpoint *ret_source)
{
    struct pollfd poll_entry = {.fd = fd, .events = POLLIN};
    struct sockaddr_storage from = {0};
    socklen_t size = sizeof(from);
    ssize_t n;

    if (poll(&poll_entry, 1, deadline_ms) <= 0)
        return false;
    n = recvfrom(fd, ret_text, size_bytes - 1, 0, (struct sockaddr *) &from, &size);
    if (n < 0)
        return false;
    ret_text[n] = '\0';
    *ret_source = from_sockaddr(&from);
    return true;
}

struct endpoint lab_expect(int fd, const char *text)
{
    struct endpoint source = {0};
    char received[256] = "";

    assert_true(lab_receive(fd, LAB_DEADLINE_MS, received, sizeof(received), &source));
    assert_string_equal(received, text);
    return source;
}

bool lab_is_quiet(int fd)
{
    struct pollfd poll_entry = {.fd = fd, .events = POLLIN};

    return poll(&poll_entry, 1, 0) == 0;
}

int lab_raw(enum lab_host host, int family, int protocol)
{
    int fd;

    lab_enter(host);
    fd = socket(family, SOCK_RAW | SOCK_CLOEXEC, protocol);
    assert_true(fd >= 0);
    lab_enter(LAB_GATEWAY);
    return fd;
}

void lab_send_raw(int fd, const char *address, const void *data, size_t size_bytes)
{
    struct endpoint endpoint = lab_endpoint(address, 0);
    struct sockaddr_storage to;
    socklen_t size = to_sockaddr(&endpoint, &to);

    assert_int_equal(sendto(fd, data, size_bytes, 0, (struct sockaddr *) &to, size), size_bytes);
}

bool lab_receive_raw(int fd, int deadline_ms, uint8_t *ret_data, size_t size_bytes,
                     struct ip_address *ret_source)
{
    uint8_t packet[2048] = {0};
    struct pollfd poll_entry = {.fd = fd, .events = POLLIN};
    struct sockaddr_storage from = {0};
    socklen_t from_size = sizeof(from);
    size_t header_size;
    ssize_t size;

    if (poll(&poll_entry, 1, deadline_ms) <= 0)
        return false;
    size = recvfrom(fd, packet, sizeof(packet), 0, (struct sockaddr *) &from, &from_size);
    assert_true(size > 0);
    header_size = from.ss_family == AF_INET ? (size_t) (packet[0] & 15) * 4 : 0;
    memcpy(ret_data, packet + header_size, size_bytes);
    *ret_source = from_sockaddr(&from).address;
    return true;
}

int lab_tcp_listen(enum lab_host host, const char *address, uint16_t port)
{
    int fd = make_socket(host, address, port, SOCK_STREAM);

    assert_int_equal(listen(fd, 16), 0);
    return fd;
}

int lab_tcp_connect(enum lab_host host, const char *source, uint16_t source_port,
                    const char *address, uint16_t port, int deadline_ms)
{
    struct endpoint endpoint = lab_endpoint(address, port);
    int fd = make_socket(host, source, source_port, SOCK_STREAM | SOCK_NONBLOCK);
    struct pollfd poll_entry = {.fd = fd, .events = POLLOUT};
    struct sockaddr_storage to;
    socklen_t size = to_sockaddr(&endpoint, &to), error_size = sizeof(int);
    int error = 0;

    if (connect(fd, (struct sockaddr *) &to, size) < 0) {
        assert_int_equal(errno, EINPROGRESS);
        if (poll(&poll_entry, 1, deadline_ms) <= 0 ||
            getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &error_size) < 0 || error != 0) {
            close(fd);
            return -1;
        }
    }
    assert_int_equal(fcntl(fd, F_SETFL, 0), 0);
    return fd;
}

int lab_tcp_accept(int fd, struct endpoint *ret_source)
{
    struct pollfd poll_entry = {.fd = fd, .events = POLLIN};
    struct sockaddr_storage from;
    socklen_t size = sizeof(from);
    int accepted;

    assert_int_equal(poll(&poll_entry, 1, LAB_DEADLINE_MS), 1);
    accepted = accept4(fd, (struct sockaddr *) &from, &size, SOCK_CLOEXEC);
    assert_true(accepted >= 0);
    *ret_source = from_sockaddr(&from);
    return accepted;
}

bool lab_endpoint_is(const struct endpoint *endpoint, const char *address, uint16_t port)
{
    struct endpoint expected = lab_endpoint(address, port);
    char text[ENDPOINT_TEXT_SIZE];

    if (endpoint_equal(endpoint, &expected))
        return true;
    print_error("%s instead of %s port %u\n", endpoint_format(endpoint, text), address, port);
    return false;
}

/* The answer of nft -j, an object. */
static json_t *ask_nft(const char *question)
{
    char command[256];
    json_error_t error;
    json_t *answer;
    FILE *pipe;

    lab_enter(LAB_GATEWAY);
    snprintf(command, sizeof(command), "nft -j -n %s", question);
    pipe = popen(command, "r");
    assert_non_null(pipe);
    answer = json_loadf(pipe, 0, &error);
    if (!answer)
        print_error("%s: %s\n", command, error.text);
    assert_int_equal(pclose(pipe), 0);
    assert_non_null(answer);
    return answer;
}

static void append_value(const json_t *value, char *text, size_t size)
{
    size_t length = strlen(text);

    if (length > 0)
        length += (size_t) snprintf(text + length, size - length, " . ");
    if (json_is_string(value))
        snprintf(text + length, size - length, "%s", json_string_value(value));
    else if (json_is_integer(value))
        snprintf(text + length, size - length, "%lld", (long long) json_integer_value(value));
    else if (json_is_object(value)) {
        const json_t *prefix = json_object_get(value, "prefix");
        assert_non_null(prefix);
        snprintf(text + length, size - length, "%s/%lld",
                 json_string_value(json_object_get(prefix, "addr")),
                 (long long) json_integer_value(json_object_get(prefix, "len")));
    }
}

static void join_values(const json_t *value, char *ret_text, size_t size)
{
    const json_t *fields = json_object_get(value, "concat");
    size_t i;
    json_t *field;

    ret_text[0] = '\0';
    if (!fields) {
        append_value(value, ret_text, size);
        return;
    }
    json_array_foreach(fields, i, field) append_value(field, ret_text, size);
}

/* The set's elements, borrowed from `answer`; NULL when it has none. */
static const json_t *elements_of(const json_t *answer)
{
    const json_t *objects = json_object_get(answer, "nftables");
    size_t i;
    json_t *object;

    json_array_foreach(objects, i, object)
    {
        const json_t *set = json_object_get(object, "set");
        if (!set)
            set = json_object_get(object, "map");
        if (set)
            return json_object_get(set, "elem");
    }
    return NULL;
}

static json_t *ask_set(const char *set)
{
    char question[128];
    bool is_map = strncmp(set, "map", 3) == 0 || strncmp(set, "rev", 3) == 0;

    snprintf(question, sizeof(question), "list %s inet holdfast %s", is_map ? "map" : "set", set);
    return ask_nft(question);
}

/*
 * An element is a value, an object with one and its timeout, or in maps a pair of that and the
 * data.
 */
static struct lab_element read_element(const json_t *item, char *ret_key, size_t key_size)
{
    struct lab_element element = {.is_there = true};
    const json_t *left = item, *details;

    if (json_is_array(item)) {
        left = json_array_get(item, 0);
        join_values(json_array_get(item, 1), element.data, sizeof(element.data));
    }
    details = json_object_get(left, "elem");
    if (details) {
        element.timeout_s = (uint64_t) json_integer_value(json_object_get(details, "timeout"));
        left = json_object_get(details, "val");
    }
    join_values(left, ret_key, key_size);
    return element;
}

struct lab_element lab_find_element(const char *set, const char *key)
{
    struct lab_element found = {0};
    json_t *answer = ask_set(set), *item;
    const json_t *items = elements_of(answer);
    size_t i;

    json_array_foreach(items, i, item)
    {
        char item_key[256];
        struct lab_element element = read_element(item, item_key, sizeof(item_key));
        if (strcmp(item_key, key) == 0)
            found = element;
    }
    json_decref(answer);
    return found;
}

size_t lab_count_elements(const char *set)
{
    json_t *answer = ask_set(set);
    size_t n = json_array_size(elements_of(answer));

    json_decref(answer);
    return n;
}

long long lab_table_handle(void)
{
    json_t *answer = ask_nft("list table inet holdfast"), *object;
    long long handle = -1;
    size_t i;

    json_array_foreach(json_object_get(answer, "nftables"), i, object)
    {
        const json_t *table = json_object_get(object, "table");
        if (table)
            handle = (long long) json_integer_value(json_object_get(table, "handle"));
    }
    json_decref(answer);
    return handle;
}

/* And the numbers that the kernel gives. */
static void forget_expiry(json_t *value)
{
    const char *name;
    size_t i;
    json_t *part;

    if (json_is_object(value)) {
        json_object_del(value, "expires");
        json_object_del(value, "handle");
        json_object_foreach(value, name, part) forget_expiry(part);
    }
    json_array_foreach(value, i, part) forget_expiry(part);
}

char *lab_dump_table(void)
{
    json_t *answer = ask_nft("list table inet holdfast");
    char *text;

    forget_expiry(answer);
    text = json_dumps(answer, JSON_SORT_KEYS);
    json_decref(answer);
    assert_non_null(text);
    return text;
}
