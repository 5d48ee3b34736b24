/* See nft_lab.h. */

#include "nft_lab.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define FENCE_PORT 9999

struct nat *lab_nat;
struct mapping_record lab_fence;

const struct nft_features lab_features[LAB_FEATURES_COUNT] = {
    {.can_update = true, .can_destroy = true, .can_see_sockets = true},
    {.can_update = false, .can_destroy = true, .can_see_sockets = true},
    {.can_update = false, .can_destroy = false, .can_see_sockets = false},
};

int lab_setup_world(void **state)
{
    (void) state;
    if (!lab_is_possible())
        return 0;
    lab_build();
    /* Raw packets in tests have no checksums. */
    lab_run("echo 0 > /proc/sys/net/netfilter/nf_conntrack_checksum");
    return 0;
}

int lab_setup(void **state)
{
    const struct mapping_record *records[] = {&lab_fence};

    (void) state;
    if (!lab_is_possible())
        return 0;
    lab_forget_flows();
    assert_int_equal(nft_nat_open(&lab_nat), 0);
    lab_fence = lab_record(9999, UDP, LAN1, FENCE_PORT, FENCE_PORT);
    lab_reconcile(records, 1);
    return 0;
}

int lab_teardown(void **state)
{
    (void) state;
    if (!lab_is_possible())
        return 0;
    lab_enter(LAB_GATEWAY);
    assert_int_equal(nat_remove_all(lab_nat), 0);
    nat_close(lab_nat);
    lab_nat = NULL;
    return 0;
}

void lab_reconcile(const struct mapping_record *const *records, size_t n_records)
{
    struct nat_settings settings = lab_settings();

    assert_int_equal(nat_reconcile(lab_nat, &settings, records, n_records, 0), 0);
}

void lab_apply(struct change change)
{
    assert_int_equal(nat_apply(lab_nat, &change, 1, 0), 0);
}

struct mapping_filter lab_filter(const char *prefix, uint16_t port)
{
    struct mapping_filter filter = {.remote_port = port};

    assert_int_equal(ip_prefix_parse(prefix, &filter.remote), 0);
    return filter;
}

/* By its own address, of either family. */
static bool is_at_wan2(int fd)
{
    struct sockaddr_storage own;
    socklen_t size = sizeof(own);

    assert_int_equal(getsockname(fd, (struct sockaddr *) &own, &size), 0);
    if (own.ss_family == AF_INET) {
        const struct sockaddr_in *address = (const struct sockaddr_in *) &own;
        return ntohl(address->sin_addr.s_addr) == 0xc6336502;
    }
    const struct sockaddr_in6 *address = (const struct sockaddr_in6 *) &own;
    return address->sin6_addr.s6_addr[5] == 0xf2;
}

void lab_pass_fence(enum lab_host host)
{
    int inside = lab_udp(LAB_LAN1, LAN1, FENCE_PORT);
    int outside = lab_udp(host, host == LAB_WAN2 ? WAN2 : WAN1, 0);

    lab_send(outside, LAB_EXTERNAL, FENCE_PORT, "fence");
    lab_expect(inside, "fence");
    close(outside);
    close(inside);
}

void lab_expect_admitted(int sender, const char *address, uint16_t port, int receiver)
{
    lab_send(sender, address, port, "in");
    lab_expect(receiver, "in");
}

void lab_expect_kept_out(int sender, const char *address, uint16_t port, int receiver)
{
    lab_send(sender, address, port, "in");
    lab_pass_fence(is_at_wan2(sender) ? LAB_WAN2 : LAB_WAN1);
    assert_true(lab_is_quiet(receiver));
}

struct endpoint lab_source_seen(int inside, const char *address, int outside)
{
    lab_send(inside, address, 4000, "who am I");
    return lab_expect(outside, "who am I");
}

uint64_t lab_now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t) now.tv_sec * 1000 + (uint64_t) now.tv_nsec / 1000000;
}
