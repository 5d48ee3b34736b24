/* In a network namespace of the test's own, where addresses can be given and taken without harm. */

#include "io/machine.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/ipv6.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "run_until.h"

static bool has_namespace;

static int enter_namespace(void **state)
{
    (void) state;
    has_namespace = unshare(CLONE_NEWNET) == 0 || unshare(CLONE_NEWUSER | CLONE_NEWNET) == 0;
    return 0;
}

static void require_namespace(void)
{
    if (!has_namespace)
        skip();
}

static void set_link(bool is_up)
{
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    struct ifreq request = {.ifr_name = "lo"};
    request.ifr_flags = is_up ? IFF_UP : 0;
    assert_int_equal(ioctl(fd, SIOCSIFFLAGS, &request), 0);
    close(fd);
}

static void add_ipv4(const char *label, uint32_t address)
{
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    struct ifreq request = {0};
    struct sockaddr_in *name = (struct sockaddr_in *) &request.ifr_addr;
    strcpy(request.ifr_name, label);
    name->sin_family = AF_INET;
    name->sin_addr.s_addr = htonl(address);
    assert_int_equal(ioctl(fd, SIOCSIFADDR, &request), 0);
    close(fd);
}

static void add_ipv6(const char *text)
{
    int fd = socket(AF_INET6, SOCK_DGRAM, 0);
    struct ip_address address;
    assert_int_equal(ip_address_parse(text, &address), 0);
    struct in6_ifreq request = {.ifr6_prefixlen = 64, .ifr6_ifindex = (int) if_nametoindex("lo")};
    memcpy(&request.ifr6_addr, address.octets, 16);
    assert_int_equal(ioctl(fd, SIOCSIFADDR, &request), 0);
    close(fd);
}

static bool is_listed(const struct ip_address *addresses, int n_addresses, const char *text)
{
    struct ip_address wanted;
    assert_int_equal(ip_address_parse(text, &wanted), 0);
    for (int i = 0; i < n_addresses; i++) {
        if (ip_address_equal(&addresses[i], &wanted))
            return true;
    }
    return false;
}

struct counter {
    int n_changed;
    int n_wanted;
};

static void count_change(void *context)
{
    ((struct counter *) context)->n_changed++;
}

static bool has_counted(void *context)
{
    struct counter *counter = context;
    return counter->n_changed >= counter->n_wanted;
}

static bool has_all_addresses(void *context)
{
    (void) context;
    struct ip_address addresses[8];
    return machine_interface_addresses("lo", MACHINE_SCOPE_ALL, addresses, 8) == 6;
}

/* IPv6 addresses are tentative for a moment even on loopback; the end of that is reported. */
static void wait_for_all_addresses(void)
{
    struct loop *loop;
    struct machine_watch *watch;
    struct counter counter = {0};
    assert_int_equal(loop_new(&loop), 0);
    assert_int_equal(machine_watch_new(loop, count_change, &counter, &watch), 0);
    run_until(loop, has_all_addresses, NULL);
    machine_watch_free(watch);
    loop_free(loop);
}

static void test_machine_interface_addresses_lists_usable_ones(void **state)
{
    (void) state;
    require_namespace();
    set_link(true);
    add_ipv4("lo:1", 0xcb007105);
    add_ipv4("lo:2", 0xa9fe0303);
    add_ipv6("fd77::5");
    add_ipv6("fe80::5");
    struct ip_address addresses[8];
    wait_for_all_addresses();
    int n = machine_interface_addresses("lo", MACHINE_SCOPE_ROUTED, addresses, 8);
    assert_int_equal(n, 4);
    assert_true(is_listed(addresses, n, "127.0.0.1"));
    assert_true(is_listed(addresses, n, "203.0.113.5"));
    assert_true(is_listed(addresses, n, "::1"));
    assert_true(is_listed(addresses, n, "fd77::5"));
    assert_int_equal(machine_interface_addresses("lo", MACHINE_SCOPE_ROUTED, addresses, 2), 2);
    n = machine_interface_addresses("lo", MACHINE_SCOPE_ALL, addresses, 8);
    assert_int_equal(n, 6);
    assert_true(is_listed(addresses, n, "169.254.3.3"));
    assert_true(is_listed(addresses, n, "fe80::5"));
    set_link(false);
}

static void test_machine_interface_addresses_of_unknown_interface(void **state)
{
    (void) state;
    struct ip_address address;
    assert_int_equal(machine_interface_addresses("nosuch0", MACHINE_SCOPE_ROUTED, &address, 1),
                     -ENODEV);
    assert_int_equal(machine_interface_index("nosuch0"), 0);
    assert_int_equal(machine_interface_index("lo"), if_nametoindex("lo"));
}

static void test_machine_watch_several_reports_make_one_call(void **state)
{
    (void) state;
    require_namespace();
    struct loop *loop;
    struct machine_watch *watch;
    struct counter counter = {0, 1};
    assert_int_equal(loop_new(&loop), 0);
    assert_int_equal(machine_watch_new(loop, count_change, &counter, &watch), 0);
    set_link(true);
    add_ipv4("lo:3", 0xcb007109);
    run_until(loop, has_counted, &counter);
    assert_int_equal(counter.n_changed, 1);
    set_link(false);
    counter.n_wanted = 2;
    run_until(loop, has_counted, &counter);
    machine_watch_free(watch);
    loop_free(loop);
}

static void set_flag(void *context)
{
    *(bool *) context = true;
}

/* Turns the loop until a timer set after the last report has fired before another came. */
static void drain(struct loop *loop, const struct counter *counter)
{
    struct loop_timer *quiet;
    bool is_over = false;
    int n_before;
    assert_int_equal(loop_timer_new(loop, set_flag, &is_over, &quiet), 0);
    do {
        n_before = counter->n_changed;
        is_over = false;
        loop_timer_set(quiet, loop_now_ns() + 5 * NS_PER_MS);
        run_until(loop, run_until_flag, &is_over);
    } while (counter->n_changed != n_before);
    loop_timer_free(quiet);
}

static void test_machine_watch_overrun_counts_and_does_not_deafen(void **state)
{
    (void) state;
    require_namespace();
    struct loop *loop;
    struct machine_watch *watch;
    struct counter counter = {0, 1};
    assert_int_equal(loop_new(&loop), 0);
    assert_int_equal(machine_watch_new(loop, count_change, &counter, &watch), 0);
    /* Some thousand reports: more than any default receive buffer holds. */
    for (int i = 0; i < 600; i++) {
        set_link(true);
        set_link(false);
    }
    run_until(loop, has_counted, &counter);
    drain(loop, &counter);
    set_link(true);
    counter.n_wanted = counter.n_changed + 1;
    run_until(loop, has_counted, &counter);
    set_link(false);
    machine_watch_free(watch);
    loop_free(loop);
}

static void test_machine_read_clocks_matches_the_kernel(void **state)
{
    (void) state;
    struct machine_clocks first, second;
    struct timespec wall;
    assert_int_equal(machine_read_clocks(&first), 0);
    assert_int_equal(machine_read_clocks(&second), 0);
    clock_gettime(CLOCK_REALTIME, &wall);
    assert_memory_equal(first.boot_id, second.boot_id, 16);
    assert_true(second.boottime_ns > first.boottime_ns);
    assert_int_equal(second.wall_ns / NS_PER_S / 60, (uint64_t) wall.tv_sec / 60);

    char text[40] = "", digits[33] = "";
    FILE *file = fopen("/proc/sys/kernel/random/boot_id", "r");
    assert_non_null(file);
    assert_non_null(fgets(text, sizeof(text), file));
    fclose(file);
    size_t n_digits = 0;
    for (char *c = text; *c && *c != '\n'; c++) {
        if (*c != '-' && n_digits < 32)
            digits[n_digits++] = *c;
    }
    for (size_t i = 0; i < 16; i++) {
        char octet[3];
        snprintf(octet, sizeof(octet), "%02x", first.boot_id[i]);
        assert_memory_equal(octet, digits + 2 * i, 2);
    }
}

static void test_machine_notify_reaches_the_supervisor(void **state)
{
    (void) state;
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    int length =
        snprintf(name.sun_path + 1, sizeof(name.sun_path) - 1, "holdfast-test-%d", (int) getpid());
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    socklen_t size = (socklen_t) (offsetof(struct sockaddr_un, sun_path) + 1 + (size_t) length);
    assert_int_equal(bind(fd, (struct sockaddr *) &name, size), 0);
    char path[sizeof(name.sun_path) + 1];
    snprintf(path, sizeof(path), "@%s", name.sun_path + 1);
    setenv("NOTIFY_SOCKET", path, 1);
    assert_int_equal(machine_notify("READY=1"), 0);
    char received[32] = "";
    assert_int_equal(recv(fd, received, sizeof(received) - 1, 0), 7);
    assert_string_equal(received, "READY=1");
    close(fd);
    assert_int_equal(machine_notify("READY=1"), -ECONNREFUSED);
    setenv("NOTIFY_SOCKET", "relative", 1);
    assert_int_equal(machine_notify("READY=1"), -EINVAL);
    unsetenv("NOTIFY_SOCKET");
    assert_int_equal(machine_notify("READY=1"), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_machine_interface_addresses_lists_usable_ones),
        cmocka_unit_test(test_machine_interface_addresses_of_unknown_interface),
        cmocka_unit_test(test_machine_watch_several_reports_make_one_call),
        cmocka_unit_test(test_machine_watch_overrun_counts_and_does_not_deafen),
        cmocka_unit_test(test_machine_read_clocks_matches_the_kernel),
        cmocka_unit_test(test_machine_notify_reaches_the_supervisor),
    };
    return cmocka_run_group_tests(tests, enter_namespace, NULL);
}
