/*
 * A child commits numbered batches and tells of each over a pipe once the commit has returned; it
 * is killed at a random moment. The store then holds exactly the batches told of, and at most the
 * one in flight, whole or not at all.
 */

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/random.h"
#include "base/time.h"
#include "store/lmdb/lmdb_store.h"
#include "store_fixture.h"

#define MAP_SIZE (256 << 20)
#define N_KILLS 100
#define LIFE_MAX_NS (40 * NS_PER_MS)
/* Every so many kills the store is thrown away, so that its creation is killed as well. */
#define FRESH_EVERY 20

static char top[PATH_MAX], directory[PATH_MAX];

static int set_up(void **state)
{
    (void) state;
    fixture_make_directory(top);
    fixture_path(directory, top, "state");
    return 0;
}

static int tear_down(void **state)
{
    (void) state;
    fixture_remove_tree(top);
    return 0;
}

static void commit_until_killed(int fd, uint64_t batch)
{
    struct store *store;
    char why[256];

    /* No failed assertion leaves a child behind. */
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (lmdb_store_open(directory, MAP_SIZE, &store, why) < 0)
        _exit(1);
    for (;; batch++)
        if (fixture_commit_batch(store, batch) < 0 ||
            write(fd, &batch, sizeof(batch)) != sizeof(batch))
            _exit(1);
}

/* How many batches are promised after one life. */
static uint64_t run_one_life(uint64_t n_batches, uint64_t life_ns)
{
    struct timespec life = {0, (long) life_ns};
    int pipe_fds[2], status;
    uint64_t told;
    pid_t child;

    assert_int_equal(pipe(pipe_fds), 0);
    child = fork();
    assert_true(child >= 0);
    if (child == 0)
        commit_until_killed(pipe_fds[1], n_batches);
    close(pipe_fds[1]);
    nanosleep(&life, NULL);
    kill(child, SIGKILL);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    while (read(pipe_fds[0], &told, sizeof(told)) == sizeof(told)) {
        assert_int_equal(told, n_batches);
        n_batches++;
    }
    close(pipe_fds[0]);
    return n_batches;
}

static uint64_t count_batches(void)
{
    struct fixture_content content;
    struct store *store;
    uint64_t n_batches;
    char why[256];
    int r;

    if (lmdb_store_open(directory, MAP_SIZE, &store, why) < 0)
        fail_msg("%s", why);
    r = fixture_load(store, &content);
    assert_true(r == 0 || r == -ENODATA);
    n_batches = r == 0 ? fixture_check_batches(&content) : 0;
    fixture_content_deinit(&content);
    store_close(store);
    return n_batches;
}

static void test_lmdb_store_commit_killed_at_random(void **state)
{
    struct random_source random = random_seeded(fixture_seed());
    uint64_t n_promised = 0, n_unpromised = 0, n_all = 0;

    (void) state;
    for (int i = 0; i < N_KILLS; i++) {
        uint64_t n_found;

        n_promised = run_one_life(n_promised, random_below(&random, LIFE_MAX_NS));
        n_found = count_batches();
        assert_true(n_found == n_promised || n_found == n_promised + 1);
        n_unpromised += n_found - n_promised;
        n_promised = n_found;
        if (i % FRESH_EVERY == FRESH_EVERY - 1) {
            n_all += n_promised;
            n_promised = 0;
            fixture_remove_tree(directory);
        }
    }
    /* Or the children never lived long enough to commit anything. */
    assert_true(n_all > N_KILLS);
    print_message("%llu batches, %llu kills hit between commit and report\n",
                  (unsigned long long) n_all, (unsigned long long) n_unpromised);
}

/* Short lives on a fresh directory each: creation itself is what gets killed. */
static void test_lmdb_store_open_new_killed_at_random(void **state)
{
    struct random_source random = random_seeded(fixture_seed());

    (void) state;
    for (int i = 0; i < N_KILLS; i++) {
        uint64_t n_promised = run_one_life(0, random_below(&random, 3 * NS_PER_MS));
        uint64_t n_found = count_batches();

        assert_true(n_found == n_promised || n_found == n_promised + 1);
        fixture_remove_tree(directory);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_lmdb_store_commit_killed_at_random, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_lmdb_store_open_new_killed_at_random, set_up,
                                        tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
