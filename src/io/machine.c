/*
 * rtnetlink is spoken without a library: one dump request and one multicast subscription are all we need. A report's
 * content is not looked at, as whoever is told reads the present state anyway; that makes overruns harmless.
 */

#include "io/machine.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "base/time.h"

#define BOOT_ID_PATH "/proc/sys/kernel/random/boot_id"
#define NETLINK_BUFFER_BYTES 32768
#define REPORTS_PER_TURN 256
#define DUMP_TRIES 5

/* "01234567-89ab-...": the dashes are passed over. */
static int parse_boot_id(const char *text, uint8_t *ret_boot_id)
{
    uint8_t boot_id[16] = {0};
    size_t n_digits = 0;
    for (const char *c = text; *c && *c != '\n'; c++) {
        static const char digits[] = "0123456789abcdef";
        const char *digit = strchr(digits, *c);
        if (*c == '-')
            continue;
        if (!digit || n_digits == 32)
            return -EBADMSG;
        boot_id[n_digits / 2] = (uint8_t) (boot_id[n_digits / 2] << 4 | (digit - digits));
        n_digits++;
    }
    if (n_digits != 32)
        return -EBADMSG;
    memcpy(ret_boot_id, boot_id, sizeof(boot_id));
    return 0;
}

static int read_boot_id(uint8_t *ret_boot_id)
{
    int fd = open(BOOT_ID_PATH, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    char text[64];
    ssize_t n = read(fd, text, sizeof(text) - 1);
    int error = n < 0 ? -errno : 0;
    close(fd);
    if (error < 0)
        return error;
    text[n] = '\0';
    return parse_boot_id(text, ret_boot_id);
}

uint64_t machine_wall_ns(void)
{
    struct timespec wall;
    clock_gettime(CLOCK_REALTIME, &wall);
    return (uint64_t) wall.tv_sec * NS_PER_S + (uint64_t) wall.tv_nsec;
}

int machine_read_clocks(struct machine_clocks *ret_clocks)
{
    struct machine_clocks clocks;
    int error = read_boot_id(clocks.boot_id);
    if (error < 0)
        return error;
    clocks.boottime_ns = loop_now_ns();
    clocks.wall_ns = machine_wall_ns();
    *ret_clocks = clocks;
    return 0;
}

bool machine_tracks_dccp(void)
{
    return access("/proc/sys/net/netfilter/nf_conntrack_dccp_loose", F_OK) == 0;
}

uint32_t machine_interface_index(const char *name)
{
    return if_nametoindex(name);
}

struct address_list {
    uint32_t interface_index;
    enum machine_scope scope;
    struct ip_address *addresses;
    size_t n_addresses, n_allocated;
    bool is_interrupted; /* the kernel's tables changed during the dump */
};

static int open_netlink(uint32_t groups, int *ret_fd)
{
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    if (fd < 0)
        return -errno;
    struct sockaddr_nl name = {.nl_family = AF_NETLINK, .nl_groups = groups};
    if (bind(fd, (const struct sockaddr *) &name, sizeof(name)) < 0) {
        int error = -errno;
        close(fd);
        return error;
    }
    *ret_fd = fd;
    return 0;
}

static int request_addresses(int fd)
{
    struct {
        struct nlmsghdr header;
        struct ifaddrmsg message;
    } request = {
        .header.nlmsg_len = NLMSG_LENGTH(sizeof(struct ifaddrmsg)),
        .header.nlmsg_type = RTM_GETADDR,
        .header.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP,
        .message.ifa_family = AF_UNSPEC,
    };
    return send(fd, &request, sizeof(request), 0) < 0 ? -errno : 0;
}

static bool convert_address(uint8_t family, const struct rtattr *attribute,
                            struct ip_address *ret_address)
{
    if (family == AF_INET && RTA_PAYLOAD(attribute) == 4) {
        uint32_t ipv4;
        memcpy(&ipv4, RTA_DATA(attribute), sizeof(ipv4));
        *ret_address = ip_address_from_ipv4(ntohl(ipv4));
        return true;
    }
    if (family == AF_INET6 && RTA_PAYLOAD(attribute) == 16) {
        memcpy(ret_address->octets, RTA_DATA(attribute), 16);
        return true;
    }
    return false;
}

static void read_address(const struct nlmsghdr *header, struct address_list *list)
{
    const struct ifaddrmsg *message = NLMSG_DATA(header);
    uint32_t flags = message->ifa_flags;
    struct ip_address address = {0};
    bool is_known = false;
    bool is_local = false;
    size_t size = IFA_PAYLOAD(header);
    for (const struct rtattr *attribute = IFA_RTA(message); RTA_OK(attribute, size);
         attribute = RTA_NEXT(attribute, size)) {
        if (attribute->rta_type == IFA_FLAGS && RTA_PAYLOAD(attribute) == sizeof(flags))
            memcpy(&flags, RTA_DATA(attribute), sizeof(flags));
        /* On point-to-point links IFA_ADDRESS is the peer's and IFA_LOCAL ours. */
        else if (attribute->rta_type == IFA_LOCAL)
            is_known = is_local = convert_address(message->ifa_family, attribute, &address);
        else if (attribute->rta_type == IFA_ADDRESS && !is_local)
            is_known = convert_address(message->ifa_family, attribute, &address);
    }
    if (!is_known || message->ifa_index != list->interface_index ||
        (flags & (IFA_F_TENTATIVE | IFA_F_DADFAILED)))
        return;
    if (list->scope == MACHINE_SCOPE_ROUTED && ip_address_is_link_local(&address))
        return;
    if (list->n_addresses < list->n_allocated)
        list->addresses[list->n_addresses++] = address;
}

/* 1 when the dump goes on, 0 when it is done, -errno. */
static int read_dump_part(int fd, struct address_list *list)
{
    union {
        struct nlmsghdr alignment;
        char octets[NETLINK_BUFFER_BYTES];
    } buffer;
    ssize_t n;
    do {
        n = recv(fd, &buffer, sizeof(buffer), 0);
    } while (n < 0 && errno == EINTR);
    if (n < 0)
        return -errno;
    size_t size = (size_t) n;
    for (struct nlmsghdr *header = &buffer.alignment; NLMSG_OK(header, size);
         header = NLMSG_NEXT(header, size)) {
        if (header->nlmsg_flags & NLM_F_DUMP_INTR)
            list->is_interrupted = true;
        if (header->nlmsg_type == NLMSG_DONE)
            return 0;
        if (header->nlmsg_type == NLMSG_ERROR)
            return ((struct nlmsgerr *) NLMSG_DATA(header))->error;
        if (header->nlmsg_type == RTM_NEWADDR)
            read_address(header, list);
    }
    return 1;
}

static int dump_addresses(int fd, struct address_list *list)
{
    for (int i = 0; i < DUMP_TRIES; i++) {
        list->n_addresses = 0;
        list->is_interrupted = false;
        int result = request_addresses(fd);
        if (result < 0)
            return result;
        while ((result = read_dump_part(fd, list)) > 0)
            continue;
        if (result < 0 || !list->is_interrupted)
            return result;
    }
    return -EAGAIN;
}

int machine_interface_addresses(const char *name, enum machine_scope scope,
                                struct ip_address *ret_addresses, size_t n_addresses)
{
    struct address_list list = {
        .scope = scope,
        .interface_index = machine_interface_index(name),
        .addresses = ret_addresses,
        .n_allocated = n_addresses,
    };
    if (list.interface_index == 0)
        return -ENODEV;
    int fd;
    int error = open_netlink(0, &fd);
    if (error < 0)
        return error;
    error = dump_addresses(fd, &list);
    close(fd);
    return error < 0 ? error : (int) list.n_addresses;
}

struct machine_watch {
    int fd;
    struct loop_watch *watch;
    void (*changed)(void *context);
    void *context;
};

/* Whatever is waiting is taken in one go and reported once. */
static void drain_reports(void *context)
{
    struct machine_watch *watch = context;
    bool has_changed = false;
    for (int i = 0; i < REPORTS_PER_TURN; i++) {
        char octet;
        ssize_t n = recv(watch->fd, &octet, sizeof(octet), MSG_DONTWAIT);
        if (n >= 0 || errno == ENOBUFS)
            has_changed = true;
        else if (errno != EINTR)
            break;
    }
    if (has_changed)
        watch->changed(watch->context);
}

int machine_watch_new(struct loop *loop, void (*changed)(void *context), void *context,
                      struct machine_watch **ret_watch)
{
    struct machine_watch *watch = calloc(1, sizeof(*watch));
    if (!watch)
        return -ENOMEM;
    watch->changed = changed;
    watch->context = context;
    int error = open_netlink(RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR, &watch->fd);
    if (error < 0) {
        free(watch);
        return error;
    }
    error = loop_watch_fd(loop, watch->fd, drain_reports, watch, &watch->watch);
    if (error < 0) {
        close(watch->fd);
        free(watch);
        return error;
    }
    *ret_watch = watch;
    return 0;
}

void machine_watch_free(struct machine_watch *watch)
{
    if (!watch)
        return;
    loop_watch_free(watch->watch);
    close(watch->fd);
    free(watch);
}

/* A path, or an abstract name spelled with a leading '@'. Returns the length, or 0 when it is neither. */
static socklen_t name_supervisor(const char *path, struct sockaddr_un *ret_name)
{
    size_t length = strlen(path);
    if ((path[0] != '/' && path[0] != '@') || length < 2 || length >= sizeof(ret_name->sun_path))
        return 0;
    *ret_name = (struct sockaddr_un){.sun_family = AF_UNIX};
    memcpy(ret_name->sun_path, path, length);
    if (path[0] == '@')
        ret_name->sun_path[0] = '\0';
    return (socklen_t) (offsetof(struct sockaddr_un, sun_path) + length);
}

int machine_notify(const char *state)
{
    const char *path = getenv("NOTIFY_SOCKET");
    if (!path)
        return 0;
    struct sockaddr_un name;
    socklen_t size = name_supervisor(path, &name);
    if (size == 0)
        return -EINVAL;
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    ssize_t n =
        sendto(fd, state, strlen(state), MSG_NOSIGNAL, (const struct sockaddr *) &name, size);
    int error = n < 0 ? -errno : 0;
    close(fd);
    return error;
}
