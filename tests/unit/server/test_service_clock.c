#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "base/time.h"
#include "server/service_clock.h"

static const struct store_clock stored = {
    .boot_id = "boot 1",
    .boottime_ns = 1000 * NS_PER_S,
    .wall_ns = 1000000 * NS_PER_S,
    .service_ns = 90000 * NS_PER_S,
};

static struct service_clock_sample sample(const char *boot_id, uint64_t boottime_s, uint64_t wall_s)
{
    struct service_clock_sample now = {.boottime_ns = boottime_s * NS_PER_S,
                                       .wall_ns = wall_s * NS_PER_S};
    memcpy(now.boot_id, boot_id, strlen(boot_id));
    return now;
}

/* Service time at the moment of the start, in seconds; the verdict is checked. */
static uint64_t begin(const struct service_clock_sample *now, enum service_clock_start expected)
{
    struct service_clock clock;
    assert_int_equal(service_clock_begin(&stored, now, &clock), expected);
    assert_int_equal(clock.boottime_ns, now->boottime_ns);
    return service_clock_now_ns(&clock, now->boottime_ns) / NS_PER_S;
}

static void test_begin_new_state(void **state)
{
    (void) state;
    struct service_clock_sample now = sample("boot 9", 50, 60);
    struct service_clock clock;

    assert_int_equal(service_clock_begin(NULL, &now, &clock), SERVICE_CLOCK_NEW_STATE);
    assert_false(service_clock_went_on(SERVICE_CLOCK_NEW_STATE));
    assert_int_equal(service_clock_now_ns(&clock, 50 * NS_PER_S), 86400 * NS_PER_S);
}

/* The wall clock does not matter on the same boot, however it was stepped. */
static void test_begin_same_boot(void **state)
{
    (void) state;
    struct service_clock_sample now = sample("boot 1", 1000, 5);

    assert_int_equal(begin(&now, SERVICE_CLOCK_SAME_BOOT), 90000);
    now = sample("boot 1", 1300, 5);
    assert_int_equal(begin(&now, SERVICE_CLOCK_SAME_BOOT), 90300);
    assert_true(service_clock_went_on(SERVICE_CLOCK_SAME_BOOT));
}

static void test_begin_boottime_backwards(void **state)
{
    (void) state;
    struct service_clock_sample now = sample("boot 1", 999, 1000500);

    assert_int_equal(begin(&now, SERVICE_CLOCK_BOOTTIME_BACKWARDS), 90000);
    assert_false(service_clock_went_on(SERVICE_CLOCK_BOOTTIME_BACKWARDS));
}

static void test_begin_new_boot(void **state)
{
    (void) state;
    struct service_clock_sample now = sample("boot 2", 20, 1000060);

    assert_int_equal(begin(&now, SERVICE_CLOCK_NEW_BOOT), 90060);
    now = sample("boot 2", 20, 1000000);
    assert_int_equal(begin(&now, SERVICE_CLOCK_NEW_BOOT), 90000);
    assert_true(service_clock_went_on(SERVICE_CLOCK_NEW_BOOT));
}

static void test_begin_new_boot_with_wall_backwards(void **state)
{
    (void) state;
    struct service_clock_sample now = sample("boot 2", 20, 1000000);

    now.wall_ns--;
    assert_int_equal(begin(&now, SERVICE_CLOCK_WALL_BACKWARDS), 90000);
    assert_false(service_clock_went_on(SERVICE_CLOCK_WALL_BACKWARDS));
}

static void test_begin_new_boot_with_wall_implausible(void **state)
{
    (void) state;
    struct service_clock_sample now = sample("boot 2", 20, 1000000 + SERVICE_CLOCK_AWAY_MAX_S);

    assert_int_equal(begin(&now, SERVICE_CLOCK_NEW_BOOT), 90000 + SERVICE_CLOCK_AWAY_MAX_S);
    now.wall_ns++;
    assert_int_equal(begin(&now, SERVICE_CLOCK_WALL_IMPLAUSIBLE), 90000);
    assert_false(service_clock_went_on(SERVICE_CLOCK_WALL_IMPLAUSIBLE));
}

static void test_conversions(void **state)
{
    (void) state;
    struct service_clock clock = {.service_ns = 500, .boottime_ns = 20};

    assert_int_equal(service_clock_now_ns(&clock, 25), 505);
    assert_int_equal(service_clock_to_boottime_ns(&clock, 505), 25);
    assert_int_equal(service_clock_to_boottime_ns(&clock, 500), 20);
    assert_int_equal(service_clock_to_boottime_ns(&clock, 3), 20);
    assert_int_equal(service_clock_to_boottime_ns(&clock, TIME_NEVER), TIME_NEVER);
}

static void test_start_describe_is_distinct(void **state)
{
    (void) state;
    for (int i = SERVICE_CLOCK_NEW_STATE; i <= SERVICE_CLOCK_WALL_IMPLAUSIBLE; i++)
        for (int j = SERVICE_CLOCK_NEW_STATE; j < i; j++)
            assert_string_not_equal(service_clock_start_describe((enum service_clock_start) i),
                                    service_clock_start_describe((enum service_clock_start) j));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_begin_new_state),
        cmocka_unit_test(test_begin_same_boot),
        cmocka_unit_test(test_begin_boottime_backwards),
        cmocka_unit_test(test_begin_new_boot),
        cmocka_unit_test(test_begin_new_boot_with_wall_backwards),
        cmocka_unit_test(test_begin_new_boot_with_wall_implausible),
        cmocka_unit_test(test_conversions),
        cmocka_unit_test(test_start_describe_is_distinct),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
