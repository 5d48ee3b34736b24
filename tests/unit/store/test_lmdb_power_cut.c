/*
 * Power cuts. The store lies on an ext4 image whose journal is committed by nobody but the store's
 * own syncs (commit=300). While a child commits batches, it is stopped at a random instruction and
 * the image is copied as the disk would be found: whatever was written but not synced is not in it.
 * The copy must open and hold all that was reported before. Skipped (exit status 77) where loop
 * mounts are not to be had.
 */

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/random.h"
#include "base/time.h"
#include "store/lmdb/lmdb_store.h"
#include "store_fixture.h"

#define MAP_SIZE (8 << 20)
#define IMAGE_SIZE "24M"
#define N_CUTS 12
#define N_FIRST_CUTS 6

static char top[PATH_MAX], image[PATH_MAX], copy[PATH_MAX], live[PATH_MAX], found[PATH_MAX];

/* What the tools print is in the way unless they fail. */
static int run(const char *const *arguments)
{
    int status;
    pid_t child = fork();

    if (child == 0) {
        execvp(arguments[0], (char *const *) (uintptr_t) arguments);
        _exit(127);
    }
    if (child < 0 || waitpid(child, &status, 0) != child || !WIFEXITED(status))
        return -1;
    return WEXITSTATUS(status);
}

#define RUN(...) run((const char *const[]){__VA_ARGS__, NULL})

static int make_and_mount_image(void)
{
    int fd = open(image, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    if (fd < 0)
        return -1;
    close(fd);
    if (RUN("mkfs.ext4", "-q", "-F", image, IMAGE_SIZE) != 0)
        return -1;
    return RUN("mount", "-o", "loop,commit=300", image, live);
}

struct life {
    pid_t child;
    int fd;
    uint64_t n_told;
};

static void commit_for_ever(int fd, uint64_t batch)
{
    char directory[PATH_MAX], why[256];
    struct store *store;

    /* No failed assertion leaves a child behind. */
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    fixture_path(directory, live, "state");
    if (lmdb_store_open(directory, MAP_SIZE, &store, why) < 0)
        _exit(1);
    for (;; batch++)
        if (fixture_commit_batch(store, batch) < 0 ||
            write(fd, &batch, sizeof(batch)) != sizeof(batch))
            _exit(1);
}

static void start(struct life *life, uint64_t n_batches)
{
    int pipe_fds[2];

    assert_int_equal(pipe2(pipe_fds, O_CLOEXEC), 0);
    life->n_told = n_batches;
    life->fd = pipe_fds[0];
    life->child = fork();
    assert_true(life->child >= 0);
    if (life->child == 0)
        commit_for_ever(pipe_fds[1], n_batches);
    close(pipe_fds[1]);
}

static void hear(struct life *life)
{
    uint64_t told;

    assert_int_equal(read(life->fd, &told, sizeof(told)), sizeof(told));
    assert_int_equal(told, life->n_told);
    life->n_told++;
}

static void hear_all(struct life *life)
{
    int flags = fcntl(life->fd, F_GETFL);
    uint64_t told;

    assert_int_equal(fcntl(life->fd, F_SETFL, flags | O_NONBLOCK), 0);
    while (read(life->fd, &told, sizeof(told)) == sizeof(told))
        life->n_told++;
    assert_int_equal(fcntl(life->fd, F_SETFL, flags), 0);
}

static void stop(const struct life *life)
{
    int status;

    assert_int_equal(kill(life->child, SIGSTOP), 0);
    assert_int_equal(waitpid(life->child, &status, WUNTRACED), life->child);
    assert_true(WIFSTOPPED(status));
}

static void end(const struct life *life)
{
    int status;

    kill(life->child, SIGKILL);
    assert_int_equal(waitpid(life->child, &status, 0), life->child);
    close(life->fd);
}

/* How many batches the disk holds as it lies there. */
static uint64_t count_on_copy(void)
{
    char directory[PATH_MAX], why[256];
    struct fixture_content content;
    struct store *store;
    uint64_t n_batches;

    assert_int_equal(RUN("cp", "--sparse=always", image, copy), 0);
    assert_int_equal(RUN("mount", "-o", "loop", copy, found), 0);
    fixture_path(directory, found, "state");
    if (lmdb_store_open(directory, MAP_SIZE, &store, why) < 0)
        fail_msg("%s", why);
    assert_int_equal(fixture_load(store, &content), 0);
    n_batches = fixture_check_batches(&content);
    fixture_content_deinit(&content);
    /* And it goes on from there. */
    assert_int_equal(fixture_commit_batch(store, n_batches), 0);
    store_close(store);
    assert_int_equal(umount(found), 0);
    return n_batches;
}

static void test_lmdb_store_commit_power_cut_at_random(void **state)
{
    struct random_source random = random_seeded(fixture_seed());
    struct life life;

    (void) state;
    start(&life, 0);
    for (int i = 0; i < N_CUTS; i++) {
        struct timespec wait = {0, (long) random_below(&random, 20 * NS_PER_MS)};
        uint64_t n_found;

        hear(&life);
        nanosleep(&wait, NULL);
        stop(&life);
        hear_all(&life);
        n_found = count_on_copy();
        /* The one more: committed, but stopped before it could tell. */
        assert_true(n_found == life.n_told || n_found == life.n_told + 1);
        assert_int_equal(kill(life.child, SIGCONT), 0);
    }
    end(&life);
}

/* Right after the first commit ever: the names of directory and file must be there as well. */
static void test_lmdb_store_commit_first_then_power_cut(void **state)
{
    (void) state;
    for (int i = 0; i < N_FIRST_CUTS; i++) {
        char directory[PATH_MAX];
        struct life life;
        uint64_t n_found;

        start(&life, 0);
        hear(&life);
        stop(&life);
        hear_all(&life);
        n_found = count_on_copy();
        assert_true(n_found == life.n_told || n_found == life.n_told + 1);
        end(&life);
        fixture_remove_tree(fixture_path(directory, live, "state"));
        sync();
    }
}

static int set_up(void **state)
{
    (void) state;
    return make_and_mount_image();
}

static int tear_down(void **state)
{
    (void) state;
    umount2(found, MNT_DETACH);
    return umount2(live, MNT_DETACH);
}

static void remove_leftovers(void)
{
    remove(image);
    remove(copy);
    rmdir(live);
    rmdir(found);
    rmdir(top);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_lmdb_store_commit_power_cut_at_random, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_lmdb_store_commit_first_then_power_cut, set_up,
                                        tear_down),
    };
    int n_failed;

    if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0) {
        printf("skipped: no mount namespace: %s\n", strerror(errno));
        return 77;
    }
    fixture_make_directory(top);
    fixture_path(image, top, "disk.img");
    fixture_path(copy, top, "copy.img");
    if (mkdir(fixture_path(live, top, "live"), 0700) < 0 ||
        mkdir(fixture_path(found, top, "found"), 0700) < 0 || make_and_mount_image() != 0) {
        printf("skipped: ext4 images cannot be made and mounted here\n");
        remove_leftovers();
        return 77;
    }
    umount(live);
    n_failed = cmocka_run_group_tests(tests, NULL, NULL);
    remove_leftovers();
    return n_failed;
}
