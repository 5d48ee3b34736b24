/* The kernel's route tables, as text. */

#include "programs/holdfast/gateway.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#define IPV4_HEADER                                                                                \
    "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
#define ZEROS "00000000000000000000000000000000"

/* Either text may be NULL. */
static int read_texts(const char *ipv4, const char *ipv6, struct gateway *ret_gateway)
{
    FILE *ipv4_file = ipv4 ? fmemopen((void *) ipv4, strlen(ipv4), "r") : NULL;
    FILE *ipv6_file = ipv6 ? fmemopen((void *) ipv6, strlen(ipv6), "r") : NULL;
    int error = gateway_read(ipv4_file, ipv6_file, ret_gateway);
    if (ipv4_file)
        fclose(ipv4_file);
    if (ipv6_file)
        fclose(ipv6_file);
    return error;
}

static void assert_gateway(const struct gateway *gateway, const char *address,
                           const char *interface)
{
    char text[IP_ADDRESS_TEXT_SIZE];
    assert_string_equal(ip_address_format(&gateway->address, text), address);
    assert_string_equal(gateway->interface, interface);
}

static const char two_defaults[] =
    IPV4_HEADER "wlan0\t00000000\t0100A8C0\t0003\t0\t0\t600\t00000000\t0\t0\t0\n"
                "eth0\t00000000\t01004D0A\t0003\t0\t0\t100\t00000000\t0\t0\t0\n"
                "eth0\t00004D0A\t00000000\t0001\t0\t0\t100\t00FFFFFF\t0\t0\t0\n";

static const char no_default[] = IPV4_HEADER
    "eth0\t00004D0A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n"
    "ppp0\t00000000\t00000000\t0001\t0\t0\t0\t00000000\t0\t0\t0\n" /* point-to-point */
    "eth0\t00000000\t01004D0A\t0203\t0\t0\t0\t00000000\t0\t0\t0\n" /* rejecting */
    "eth0\t00000000\t01004D0A\t0002\t0\t0\t0\t00000000\t0\t0\t0\n" /* down */
    "eth0\t00000000\t01004D0A\t0003\t0\t0\t0\t00000080\t0\t0\t0\n" /* half of the world */
    "eth0\t00000000\t01004D0A\t0003\n";                            /* cut */

static const char ipv6_default[] =
    "fd770000000000000000000000000000 40 " ZEROS " 00 " ZEROS " 00000100 00000001 00000000 "
    "00000001     eth0\n" ZEROS " 00 " ZEROS " 00 fe80000000000000020000fffe000001 00000400 "
    "00000001 00000000 00000003     eth0\n" ZEROS " 00 " ZEROS " 00 " ZEROS
    " ffffffff 00000001 00000000 00200200       lo\n";

static void test_gateway_read_lowest_metric_wins(void **state)
{
    (void) state;
    struct gateway gateway;
    assert_int_equal(read_texts(two_defaults, ipv6_default, &gateway), 0);
    assert_gateway(&gateway, "10.77.0.1", "eth0");
}

static void test_gateway_read_ipv6_when_there_is_no_ipv4_default(void **state)
{
    (void) state;
    struct gateway gateway;
    assert_int_equal(read_texts(no_default, ipv6_default, &gateway), 0);
    assert_gateway(&gateway, "fe80::200:ff:fe00:1", "eth0");
    assert_int_equal(read_texts(NULL, ipv6_default, &gateway), 0);
    assert_gateway(&gateway, "fe80::200:ff:fe00:1", "eth0");
}

static void test_gateway_read_no_default_at_all(void **state)
{
    (void) state;
    struct gateway gateway;
    assert_int_equal(read_texts(no_default, NULL, &gateway), -ENOENT);
    assert_int_equal(read_texts(NULL, NULL, &gateway), -ENOENT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gateway_read_lowest_metric_wins),
        cmocka_unit_test(test_gateway_read_ipv6_when_there_is_no_ipv4_default),
        cmocka_unit_test(test_gateway_read_no_default_at_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
