/* Flows that run on while somebody flushes the ruleset (docs/decisions/0006-flush-guard.md). */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/util.h"
#include "nft_lab.h"

/* Linux 5.12. */
static bool kernel_can_guard(void)
{
    struct utsname system;
    char *rest;
    long major, minor;

    assert_int_equal(uname(&system), 0);
    major = strtol(system.release, &rest, 10);
    minor = *rest == '.' ? strtol(rest + 1, NULL, 10) : 0;
    return major > 5 || (major == 5 && minor >= 12);
}

#define NEED_GUARD()                                                                               \
    do {                                                                                           \
        LAB_NEED_ROOT();                                                                           \
        if (!kernel_can_guard())                                                                   \
            skip();                                                                                \
    } while (0)

static long count_tables(const char *pattern)
{
    char command[128], line[16] = "";
    FILE *stream;

    lab_enter(LAB_GATEWAY);
    snprintf(command, sizeof(command), "nft list tables | grep -c '%s'", pattern);
    stream = popen(command, "r");
    assert_non_null(stream);
    assert_non_null(fgets(line, sizeof(line), stream));
    pclose(stream);
    return strtol(line, NULL, 10);
}

static void expect_octet(int from, int to)
{
    struct timeval deadline = {.tv_sec = LAB_DEADLINE_MS / 1000};
    char octet = 'x';

    assert_int_equal(setsockopt(to, SOL_SOCKET, SO_RCVTIMEO, &deadline, sizeof(deadline)), 0);
    assert_int_equal(send(from, &octet, 1, MSG_NOSIGNAL), 1);
    assert_int_equal(recv(to, &octet, 1, 0), 1);
}

/* Both ways, inbound and outbound, before anything is repaired. */
static void test_established_flows_survive_a_flush(void **state)
{
    (void) state;
    NEED_GUARD();
    struct mapping_record record = lab_record(1, TCP, LAN1, 5000, 7000);
    const struct mapping_record *records[] = {&record, &lab_fence};
    int listener = lab_tcp_listen(LAB_LAN1, LAN1, 5000);
    int outside_listener = lab_tcp_listen(LAB_WAN1, WAN1, 4500);
    int client, server, inside, outside;
    struct endpoint source;

    lab_apply(lab_addition(&record));
    client = lab_tcp_connect(LAB_WAN1, WAN1, 4000, LAB_EXTERNAL, 7000, LAB_DEADLINE_MS);
    assert_true(client >= 0);
    server = lab_tcp_accept(listener, &source);
    inside = lab_tcp_connect(LAB_LAN2, LAN2, 5001, WAN1, 4500, LAB_DEADLINE_MS);
    assert_true(inside >= 0);
    outside = lab_tcp_accept(outside_listener, &source);
    for (int i = 0; i < 3; i++) {
        lab_run("nft flush ruleset");
        assert_int_equal(count_tables("inet holdfast$"), 0);
        expect_octet(client, server);
        expect_octet(server, client);
        expect_octet(outside, inside);
        expect_octet(inside, outside);
        lab_enter(LAB_GATEWAY);
        lab_reconcile(records, 2);
        expect_octet(client, server);
        expect_octet(outside, inside);
    }
    close(client);
    close(server);
    close(inside);
    close(outside);
    close(listener);
    close(outside_listener);
}

/* Alone it must not stay: nobody would ever remove it. */
static void test_guard_ends_with_its_owner(void **state)
{
    (void) state;
    NEED_GUARD();

    assert_int_equal(count_tables("inet holdfast_guard"), 1);
    nat_close(lab_nat);
    assert_int_equal(count_tables("inet holdfast_guard"), 0);
    assert_int_equal(count_tables("inet holdfast$"), 1);
    lab_pass_fence(LAB_WAN1);
    lab_enter(LAB_GATEWAY);
    assert_int_equal(nft_nat_open(&lab_nat), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        LAB_TEST(test_established_flows_survive_a_flush),
        LAB_TEST(test_guard_ends_with_its_owner),
    };

    return cmocka_run_group_tests(tests, lab_setup_world, NULL);
}
