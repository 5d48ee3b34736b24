/*
 * A file system that runs full and gets room again: a tmpfs of one mebibyte in a mount namespace of
 * this test's own. Skipped (exit status 77) where such a thing may not be made.
 */

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

#include <cmocka.h>

#include "store/lmdb/lmdb_store.h"
#include "store_fixture.h"

#define MAP_SIZE (64 << 20)

static char top[PATH_MAX], directory[PATH_MAX], filler_path[PATH_MAX];

/* Until not one more octet fits. */
static void fill(void)
{
    static const char octets[4096];
    int fd = open(filler_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);

    assert_true(fd >= 0);
    while (write(fd, octets, sizeof(octets)) > 0)
        continue;
    assert_int_equal(errno, ENOSPC);
    close(fd);
}

static void check_batches(struct store *store, uint64_t n_batches)
{
    struct fixture_content content;

    assert_int_equal(fixture_load(store, &content), 0);
    assert_int_equal(fixture_check_batches(&content), n_batches);
    fixture_content_deinit(&content);
}

static void test_lmdb_store_commit_on_full_file_system(void **state)
{
    uint64_t n_batches = 0;
    struct store *store;
    char why[256];

    (void) state;
    assert_int_equal(lmdb_store_open(directory, MAP_SIZE, &store, why), 0);
    for (int round = 0; round < 5; round++) {
        for (int i = 0; i < 5; i++)
            assert_int_equal(fixture_commit_batch(store, n_batches++), 0);
        fill();
        /* Pages freed before are used up first. */
        while (fixture_commit_batch(store, n_batches) == 0)
            n_batches++;
        assert_int_equal(fixture_commit_batch(store, n_batches), -ENOSPC);
        check_batches(store, n_batches);
        assert_int_equal(unlink(filler_path), 0);
        assert_int_equal(fixture_commit_batch(store, n_batches++), 0);
        check_batches(store, n_batches);
    }
    store_close(store);
    assert_int_equal(lmdb_store_open(directory, MAP_SIZE, &store, why), 0);
    check_batches(store, n_batches);
    store_close(store);
}

static void test_lmdb_store_open_on_full_file_system(void **state)
{
    struct store *store;
    char why[256];

    (void) state;
    fill();
    assert_int_equal(lmdb_store_open(directory, MAP_SIZE, &store, why), -ENOSPC);
    assert_non_null(strstr(why, directory));
    assert_int_equal(unlink(filler_path), 0);
    assert_int_equal(lmdb_store_open(directory, MAP_SIZE, &store, why), 0);
    assert_int_equal(fixture_commit_batch(store, 0), 0);
    store_close(store);
}

/* The daemon comes back while there is still no room: what was promised must be there. */
static void test_lmdb_store_open_again_on_full_file_system(void **state)
{
    struct store *store;
    char why[256];

    (void) state;
    assert_int_equal(lmdb_store_open(directory, MAP_SIZE, &store, why), 0);
    assert_int_equal(fixture_commit_batch(store, 0), 0);
    store_close(store);
    fill();
    for (int i = 0; i < 3; i++) {
        assert_int_equal(lmdb_store_open(directory, MAP_SIZE, &store, why), 0);
        check_batches(store, 1);
        assert_int_equal(fixture_commit_batch(store, 1), -ENOSPC);
        check_batches(store, 1);
        store_close(store);
    }
}

static int set_up(void **state)
{
    (void) state;
    return mount("tmpfs", top, "tmpfs", 0, "size=1m");
}

static int tear_down(void **state)
{
    (void) state;
    return umount(top);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_lmdb_store_commit_on_full_file_system, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_lmdb_store_open_on_full_file_system, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_lmdb_store_open_again_on_full_file_system, set_up,
                                        tear_down),
    };
    int n_failed;

    if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0) {
        printf("skipped: no mount namespace: %s\n", strerror(errno));
        return 77;
    }
    fixture_make_directory(top);
    fixture_path(directory, top, "state");
    fixture_path(filler_path, top, "filler");
    n_failed = cmocka_run_group_tests(tests, NULL, NULL);
    rmdir(top);
    return n_failed;
}
