#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "mapping/external.h"

static const struct port_range ordinary = {1024, 9999};

static struct ip_address address_of(uint32_t number)
{
    return ip_address_from_ipv4(0xc6336400 + number);
}

static int setup(void **state)
{
    struct external_space *space = calloc(1, sizeof(*space));
    if (!space)
        return -1;
    external_space_init(space, &ordinary, 1);
    *state = space;
    return 0;
}

static int teardown(void **state)
{
    external_space_deinit(*state);
    free(*state);
    return 0;
}

static void activate(struct external_space *space, uint32_t first, size_t n)
{
    struct ip_address addresses[EXTERNAL_ADDRESSES_MAX];
    for (size_t i = 0; i < n; i++)
        addresses[i] = address_of(first + (uint32_t) i);
    assert_int_equal(external_space_set_active(space, addresses, n), 0);
}

static bool is_free(struct external_space *space, uint32_t number, uint8_t protocol, uint16_t port)
{
    struct ip_address address = address_of(number);
    return external_space_is_free(space, &address, protocol, port);
}

static int reserve(struct external_space *space, uint32_t number, uint16_t port)
{
    struct ip_address address = address_of(number);
    return external_space_reserve(space, &address, IPPROTO_UDP, port);
}

static void release(struct external_space *space, uint32_t number, uint16_t port)
{
    struct ip_address address = address_of(number);
    external_space_release(space, &address, IPPROTO_UDP, port);
}

static bool is_active(struct external_space *space, uint32_t number)
{
    struct ip_address address = address_of(number);
    return external_space_is_active(space, &address);
}

/* [R-6887-11.3-18] */
static void test_external_space_is_free_never_gives_pcp_ports_in_udp(void **state)
{
    struct external_space *space = *state;

    activate(space, 1, 1);
    assert_false(is_free(space, 1, IPPROTO_UDP, 5350));
    assert_false(is_free(space, 1, IPPROTO_UDP, 5351));
    assert_true(is_free(space, 1, IPPROTO_TCP, 5350));
    assert_true(is_free(space, 1, IPPROTO_TCP, 5351));
    assert_true(is_free(space, 1, IPPROTO_UDP, 5349));
    assert_false(is_free(space, 1, IPPROTO_UDP, 1023));
    assert_false(is_free(space, 1, IPPROTO_ESP, 5000));
    assert_false(is_free(space, 2, IPPROTO_UDP, 5000));
}

static void test_external_space_init_never_allows_port_0(void **state)
{
    (void) state;
    struct external_space *space = calloc(1, sizeof(*space));
    struct port_range all = {0, 65535};

    external_space_init(space, &all, 1);
    assert_false(external_space_is_allowed(space, IPPROTO_TCP, 0));
    assert_true(external_space_is_allowed(space, IPPROTO_TCP, 1));
    assert_true(external_space_is_allowed(space, IPPROTO_TCP, 65535));
    external_space_deinit(space);
    free(space);
}

static void test_external_space_reserve_twice(void **state)
{
    struct external_space *space = *state;

    activate(space, 1, 1);
    assert_int_equal(reserve(space, 1, 5000), 0);
    assert_false(is_free(space, 1, IPPROTO_UDP, 5000));
    assert_true(is_free(space, 1, IPPROTO_TCP, 5000));
    assert_int_equal(reserve(space, 1, 5000), -EADDRINUSE);
    release(space, 1, 5000);
    assert_true(is_free(space, 1, IPPROTO_UDP, 5000));
}

/* Restored mappings: before any address is known, and on ports no longer in the configuration. */
static void test_external_space_reserve_inactive_address_and_outside_port(void **state)
{
    struct external_space *space = *state;

    assert_int_equal(reserve(space, 1, 5000), 0);
    assert_int_equal(reserve(space, 1, 80), 0);
    assert_false(is_active(space, 1));
    activate(space, 1, 1);
    assert_true(is_active(space, 1));
    assert_false(is_free(space, 1, IPPROTO_UDP, 5000));
    release(space, 1, 80);
    assert_false(is_free(space, 1, IPPROTO_UDP, 80));
    release(space, 1, 5000);
    assert_true(is_free(space, 1, IPPROTO_UDP, 5000));
}

static void test_external_space_set_active_forgets_what_nobody_uses(void **state)
{
    struct external_space *space = *state;

    activate(space, 1, 3);
    assert_int_equal(reserve(space, 2, 5000), 0);
    activate(space, 9, 1);
    assert_int_equal(space->n_addresses, 2);
    assert_false(is_active(space, 2));
    assert_true(is_active(space, 9));
    assert_false(is_free(space, 2, IPPROTO_UDP, 6000));
    release(space, 2, 5000);
    activate(space, 9, 1);
    assert_int_equal(space->n_addresses, 1);
}

static void test_external_space_set_active_same_address_twice(void **state)
{
    struct external_space *space = *state;
    struct ip_address twice[2] = {address_of(1), address_of(1)};

    assert_int_equal(external_space_set_active(space, twice, 2), 0);
    assert_int_equal(space->n_addresses, 1);
}

static void test_external_space_set_active_too_many(void **state)
{
    struct external_space *space = *state;
    struct ip_address many[EXTERNAL_ADDRESSES_MAX];

    for (uint32_t i = 0; i < EXTERNAL_ADDRESSES_MAX; i++)
        many[i] = address_of(i);
    activate(space, 200, 1);
    assert_int_equal(external_space_set_active(space, many, EXTERNAL_ADDRESSES_MAX), -ENOSPC);
    assert_true(is_active(space, 200));
    assert_false(is_active(space, 0));
}

/* No room because of addresses still in use: the active ones stay active. */
static void test_external_space_set_active_full_of_used_ones(void **state)
{
    struct external_space *space = *state;
    struct ip_address many[EXTERNAL_ADDRESSES_MAX / 2];

    activate(space, 100, 1);
    for (uint32_t i = 0; i < EXTERNAL_ADDRESSES_MAX / 2 + 10; i++)
        assert_int_equal(reserve(space, i, 5000), 0);
    for (uint32_t i = 0; i < EXTERNAL_ADDRESSES_MAX / 2; i++)
        many[i] = address_of(150 + i);
    assert_int_equal(external_space_set_active(space, many, EXTERNAL_ADDRESSES_MAX / 2), -ENOSPC);
    assert_true(is_active(space, 100));
    assert_false(is_active(space, 150));
    assert_int_equal(reserve(space, 3, 5000), -EADDRINUSE);
    /* As many as there is room for can be had. */
    activate(space, 150, EXTERNAL_ADDRESSES_MAX / 2 - 10);
    assert_false(is_active(space, 100));
    assert_true(is_active(space, 150 + EXTERNAL_ADDRESSES_MAX / 2 - 11));
}

static void test_external_space_pick_until_exhausted(void **state)
{
    struct external_space *space = *state;
    struct random_source random = random_seeded(3);
    struct port_range few = {5349, 5352};
    struct ip_address address = address_of(1), other = address_of(2);
    uint16_t port;

    assert_int_equal(external_space_set_ranges(space, &few, 1), 0);
    activate(space, 1, 1);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(external_space_pick(space, &address, IPPROTO_UDP, 0, &random, &port), 0);
        assert_int_equal(port, i == 0 ? 5352 : 5349);
        assert_int_equal(reserve(space, 1, port), 0);
    }
    assert_int_equal(external_space_pick(space, &address, IPPROTO_UDP, 0, &random, &port),
                     -EADDRNOTAVAIL);
    assert_int_equal(external_space_pick(space, &address, IPPROTO_TCP, 0, &random, &port), 0);
    assert_int_equal(external_space_pick(space, &other, IPPROTO_TCP, 0, &random, &port),
                     -EADDRNOTAVAIL);
    assert_int_equal(external_space_pick(space, &address, IPPROTO_ICMP, 0, &random, &port),
                     -EADDRNOTAVAIL);
}

static void test_external_space_set_ranges_keeps_what_is_taken(void **state)
{
    struct external_space *space = *state;
    struct port_range low = {1024, 4999}, high = {5000, 9999};

    activate(space, 1, 1);
    assert_int_equal(reserve(space, 1, 5000), 0);
    assert_int_equal(reserve(space, 1, 3000), 0);
    assert_int_equal(external_space_set_ranges(space, &low, 1), 0);
    assert_false(is_free(space, 1, IPPROTO_UDP, 3000));
    assert_false(is_free(space, 1, IPPROTO_UDP, 5001));
    assert_true(is_free(space, 1, IPPROTO_UDP, 3001));
    release(space, 1, 5000);
    assert_int_equal(external_space_set_ranges(space, &high, 1), 0);
    assert_true(is_free(space, 1, IPPROTO_UDP, 5000));
    release(space, 1, 3000);
    assert_int_equal(external_space_set_ranges(space, &ordinary, 1), 0);
    assert_true(is_free(space, 1, IPPROTO_UDP, 3000));
}

/* Taken while it was not allowed, allowed later: the owner tells the pool. */
static void test_external_space_adopt_after_the_set_grew(void **state)
{
    struct external_space *space = *state;
    struct port_range all = {1, 65535};
    struct ip_address address = address_of(1);

    activate(space, 1, 1);
    assert_int_equal(reserve(space, 1, 80), 0);
    assert_int_equal(external_space_set_ranges(space, &all, 1), 0);
    external_space_adopt(space, &address, IPPROTO_UDP, 80);
    assert_false(is_free(space, 1, IPPROTO_UDP, 80));
    release(space, 1, 80);
    assert_true(is_free(space, 1, IPPROTO_UDP, 80));
    assert_int_equal(space->addresses[0].n_reserved, 0);
}

/* The order is that of the list, not that in which they were first used. */
static void test_external_space_set_active_sorts(void **state)
{
    struct external_space *space = *state;
    struct ip_address one = address_of(1), two = address_of(2), three = address_of(3);
    const struct ip_address up[] = {one, two, one}, down[] = {three, two, one};

    assert_int_equal(reserve(space, 2, 5000), 0);
    assert_int_equal(external_space_set_active(space, up, 3), 0);
    assert_true(ip_address_equal(external_space_first_active(space), &one));
    assert_int_equal(external_space_set_active(space, down, 3), 0);
    assert_true(ip_address_equal(external_space_first_active(space), &three));
    for (size_t i = 0; i < 3; i++)
        assert_true(ip_address_equal(&space->addresses[i].address, &down[i]));
    assert_false(is_free(space, 2, IPPROTO_UDP, 5000));
    assert_true(is_free(space, 1, IPPROTO_UDP, 5000));
}

static void test_external_space_first_active_without_any(void **state)
{
    struct external_space *space = *state;

    assert_null(external_space_first_active(space));
    assert_int_equal(reserve(space, 1, 5000), 0);
    assert_null(external_space_first_active(space));
    activate(space, 7, 2);
    struct ip_address seven = address_of(7);
    assert_true(ip_address_equal(external_space_first_active(space), &seven));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_external_space_is_free_never_gives_pcp_ports_in_udp,
                                        setup, teardown),
        cmocka_unit_test(test_external_space_init_never_allows_port_0),
        cmocka_unit_test_setup_teardown(test_external_space_reserve_twice, setup, teardown),
        cmocka_unit_test_setup_teardown(
            test_external_space_reserve_inactive_address_and_outside_port, setup, teardown),
        cmocka_unit_test_setup_teardown(test_external_space_set_active_forgets_what_nobody_uses,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(test_external_space_set_active_same_address_twice, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_external_space_set_active_too_many, setup, teardown),
        cmocka_unit_test_setup_teardown(test_external_space_set_active_full_of_used_ones, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_external_space_pick_until_exhausted, setup, teardown),
        cmocka_unit_test_setup_teardown(test_external_space_set_ranges_keeps_what_is_taken, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_external_space_adopt_after_the_set_grew, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_external_space_set_active_sorts, setup, teardown),
        cmocka_unit_test_setup_teardown(test_external_space_first_active_without_any, setup,
                                        teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
