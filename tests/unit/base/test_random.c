#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/random.h"

static void test_random_seeded_repeats(void **state)
{
    struct random_source a = random_seeded(42), b = random_seeded(42), c = random_seeded(43);
    bool differs = false;

    (void) state;
    for (int i = 0; i < 100; i++) {
        uint64_t value = random_u64(&a);

        assert_int_equal(random_u64(&b), value);
        differs = differs || random_u64(&c) != value;
    }
    assert_true(differs);
}

/*
 * The authors' generator, started by their splitmix64 from seed 0: first outputs as their C code
 * prints them.
 */
static void test_random_seeded_known_values(void **state)
{
    static const uint64_t expected[] = {UINT64_C(0x99ec5f36cb75f2b4), UINT64_C(0xbf6e1f784956452a),
                                        UINT64_C(0x1a5f849d4933e6e0)};
    struct random_source random = random_seeded(0);

    (void) state;
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(random_u64(&random), expected[i]);
}

static void test_random_fill_odd_sizes(void **state)
{
    (void) state;
    for (size_t size_bytes = 0; size_bytes < 40; size_bytes++) {
        struct random_source random = random_seeded(size_bytes);
        uint8_t data[64];

        memset(data, 0xa5, sizeof(data));
        random_fill(&random, data, size_bytes);
        for (size_t i = size_bytes; i < sizeof(data); i++)
            assert_int_equal(data[i], 0xa5);
    }
}

static void test_random_below_is_uniform(void **state)
{
    struct random_source random = random_seeded(3);
    unsigned int counts[7] = {0};

    (void) state;
    for (int i = 0; i < 70000; i++) {
        uint64_t value = random_below(&random, 7);

        assert_true(value < 7);
        counts[value]++;
    }
    for (int i = 0; i < 7; i++)
        assert_in_range(counts[i], 9500, 10500);
}

/*
 * With a bound of 3 * 2^62 taking the remainder alone would put half of all values into the first
 * third.
 */
static void test_random_below_has_no_modulo_bias(void **state)
{
    struct random_source random = random_seeded(4);
    unsigned int n_first_third = 0;

    (void) state;
    for (int i = 0; i < 30000; i++)
        if (random_below(&random, UINT64_C(3) << 62) < UINT64_C(1) << 62)
            n_first_third++;
    assert_in_range(n_first_third, 9500, 10500);
}

static void test_random_below_one(void **state)
{
    struct random_source random = random_seeded(5);

    (void) state;
    assert_int_equal(random_below(&random, 1), 0);
}

static void test_random_system_fills_all_and_differs(void **state)
{
    struct random_source random = random_system();
    uint8_t a[1000] = {0}, b[1000] = {0};
    unsigned int n_zero = 0;

    (void) state;
    random_fill(&random, a, sizeof(a));
    for (size_t i = 0; i < sizeof(b); i += 10)
        random_fill(&random, b + i, 10);
    for (size_t i = 0; i < sizeof(a); i++)
        n_zero += (a[i] == 0 ? 1U : 0U) + (b[i] == 0 ? 1U : 0U);
    assert_true(n_zero < 40);
    assert_memory_not_equal(a, b, sizeof(a));
    assert_true(random_u64(&random) != random_u64(&random));
}

static void test_random_system_after_fork(void **state)
{
    struct random_source random = random_system();
    uint64_t mine, theirs;
    int pipe_fds[2], status;
    pid_t child;

    (void) state;
    (void) random_u64(&random);
    assert_int_equal(pipe(pipe_fds), 0);
    child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        theirs = random_u64(&random);
        _exit(write(pipe_fds[1], &theirs, sizeof(theirs)) == sizeof(theirs) ? 0 : 1);
    }
    mine = random_u64(&random);
    assert_int_equal(read(pipe_fds[0], &theirs, sizeof(theirs)), sizeof(theirs));
    assert_true(mine != theirs);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    close(pipe_fds[0]);
    close(pipe_fds[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_seeded_repeats),
        cmocka_unit_test(test_random_seeded_known_values),
        cmocka_unit_test(test_random_fill_odd_sizes),
        cmocka_unit_test(test_random_below_is_uniform),
        cmocka_unit_test(test_random_below_has_no_modulo_bias),
        cmocka_unit_test(test_random_below_one),
        cmocka_unit_test(test_random_system_fills_all_and_differs),
        cmocka_unit_test(test_random_system_after_fork),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
