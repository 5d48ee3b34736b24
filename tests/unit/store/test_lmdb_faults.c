/*
 * Every system call with which LMDB writes is made to fail, one after the other, in several ways. A
 * commit that failed left nothing behind, in this process and for the next one; the commit after it
 * works. The functions below stand in for libc's, which the dynamic linker resolves to the program
 * first.
 */

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/util.h"
#include "store/lmdb/lmdb_store.h"
#include "store_fixture.h"

#define MAP_SIZE (64 << 20)
#define N_BATCHES 5

/*
 * Calls first..first+n_failing-1 fail; when `first_is_done`, the first does its work and fails all
 * the same.
 */
static struct {
    bool is_armed;
    unsigned int n_calls, first, n_failing;
    bool first_is_done;
    int error;
    struct stat synced[16]; /* what fsync(2) was called for */
    size_t n_synced;
} fault;

static bool is_struck(bool *ret_do_it)
{
    unsigned int call;

    *ret_do_it = true;
    if (!fault.is_armed)
        return false;
    call = fault.n_calls++;
    if (call < fault.first || call - fault.first >= fault.n_failing)
        return false;
    *ret_do_it = call == fault.first && fault.first_is_done;
    return true;
}

static ssize_t finish(bool struck, ssize_t result)
{
    if (!struck)
        return result;
    errno = fault.error;
    return -1;
}

/*
 * Under names of their own in C, as the headers bind pwrite() to one of its two symbols; which of
 * them LMDB was built to call differs.
 */
#define STANDS_IN_FOR(symbol) __asm__(symbol) __attribute__((visibility("default")))

ssize_t faulty_pwrite(int fd, const void *data, size_t size_bytes, off_t offset)
    STANDS_IN_FOR("pwrite");
ssize_t faulty_pwrite64(int fd, const void *data, size_t size_bytes, off_t offset)
    STANDS_IN_FOR("pwrite64");
ssize_t faulty_writev(int fd, const struct iovec *vectors, int n_vectors) STANDS_IN_FOR("writev");
int faulty_fdatasync(int fd) STANDS_IN_FOR("fdatasync");
int faulty_fsync(int fd) STANDS_IN_FOR("fsync");

ssize_t faulty_pwrite(int fd, const void *data, size_t size_bytes, off_t offset)
{
    bool do_it, struck = is_struck(&do_it);

    return finish(struck, do_it ? syscall(SYS_pwrite64, fd, data, size_bytes, offset) : 0);
}

ssize_t faulty_pwrite64(int fd, const void *data, size_t size_bytes, off_t offset)
{
    return faulty_pwrite(fd, data, size_bytes, offset);
}

ssize_t faulty_writev(int fd, const struct iovec *vectors, int n_vectors)
{
    bool do_it, struck = is_struck(&do_it);

    return finish(struck, do_it ? syscall(SYS_writev, fd, vectors, n_vectors) : 0);
}

int faulty_fdatasync(int fd)
{
    bool do_it, struck = is_struck(&do_it);

    return (int) finish(struck, do_it ? syscall(SYS_fdatasync, fd) : 0);
}

int faulty_fsync(int fd)
{
    bool do_it, struck = is_struck(&do_it);

    if (fault.is_armed && !struck && fault.n_synced < N_ELEMENTS(fault.synced) &&
        fstat(fd, &fault.synced[fault.n_synced]) == 0)
        fault.n_synced++;
    return (int) finish(struck, do_it ? syscall(SYS_fsync, fd) : 0);
}

static char top[PATH_MAX], directory[PATH_MAX];

static struct store *open_store(void)
{
    struct store *store;
    char why[256];

    if (lmdb_store_open(directory, MAP_SIZE, &store, why) < 0)
        fail_msg("%s", why);
    return store;
}

static int set_up(void **state)
{
    struct store *store;

    (void) state;
    fixture_make_directory(top);
    fixture_path(directory, top, "state");
    store = open_store();
    for (uint64_t batch = 0; batch < N_BATCHES; batch++)
        assert_int_equal(fixture_commit_batch(store, batch), 0);
    store_close(store);
    return 0;
}

static int tear_down(void **state)
{
    (void) state;
    fixture_remove_tree(top);
    return 0;
}

/*
 * The batches in the store, its mappings being exactly theirs. The clock may be a failed commit's.
 */
static void check_mappings(struct store *store, uint64_t n_batches)
{
    struct fixture_content content;

    assert_int_equal(fixture_load(store, &content), 0);
    content.clock = fixture_clock(n_batches * FIXTURE_BATCH_SIZE + 1);
    assert_int_equal(fixture_check_batches(&content), n_batches);
    fixture_content_deinit(&content);
}

static int commit_with_fault(struct store *store, uint64_t batch, unsigned int first,
                             unsigned int n_failing, bool first_is_done, int error)
{
    int r;

    fault.n_calls = 0;
    fault.first = first;
    fault.n_failing = n_failing;
    fault.first_is_done = first_is_done;
    fault.error = error;
    fault.is_armed = true;
    r = fixture_commit_batch(store, batch);
    fault.is_armed = false;
    return r;
}

/* Goes through all calls of one commit, always the same one; returns how many there are. */
static unsigned int strike_each_call(unsigned int n_failing, bool first_is_done, int error)
{
    for (unsigned int first = 0;; first++) {
        struct store *store;
        int r;

        fixture_remove_tree(top);
        set_up(NULL);
        store = open_store();
        r = commit_with_fault(store, N_BATCHES, first, n_failing, first_is_done, error);
        if (r == 0) {
            assert_int_equal(fault.n_calls, first);
            store_close(store);
            return fault.n_calls;
        }
        assert_int_equal(r, -error);
        check_mappings(store, N_BATCHES);
        assert_int_equal(fixture_commit_batch(store, N_BATCHES), 0);
        check_mappings(store, N_BATCHES + 1);
        store_close(store);
        store = open_store();
        check_mappings(store, N_BATCHES + 1);
        store_close(store);
    }
}

static void test_lmdb_store_commit_each_write_fails_once(void **state)
{
    (void) state;
    /* Data, sync, meta page: or nothing was struck at all. */
    assert_true(strike_each_call(1, false, ENOSPC) >= 3);
    assert_true(strike_each_call(1, false, EIO) >= 3);
}

/* As when a disk goes away for the length of the commit, and everything tried in it. */
static void test_lmdb_store_commit_all_writes_fail_from_each_on(void **state)
{
    (void) state;
    assert_true(strike_each_call(1000, false, EIO) >= 3);
}

/* The write reached the disk, the answer was an error nevertheless. */
static void test_lmdb_store_commit_each_write_done_but_fails(void **state)
{
    (void) state;
    assert_true(strike_each_call(1, true, EIO) >= 3);
}

/*
 * The worst: the meta page is written, reported as failed, and LMDB's attempt to put the old one
 * back fails too. The new state is what the next opening sees, and must be taken back.
 */
static void test_lmdb_store_commit_seen_though_failed_is_taken_back(void **state)
{
    (void) state;
    assert_true(strike_each_call(2, true, EIO) >= 3);
}

/* ... and when even that fails, the store says so until somebody looks after it. */
static void test_lmdb_store_commit_in_doubt_refuses_all(void **state)
{
    unsigned int n_in_doubt = 0;
    bool is_struck_at_all = true;

    (void) state;
    for (unsigned int first = 0; is_struck_at_all; first++) {
        struct fixture_content content;
        struct store *store;

        fixture_remove_tree(top);
        set_up(NULL);
        store = open_store();
        is_struck_at_all = commit_with_fault(store, N_BATCHES, first, 1000, true, EIO) < 0;
        if (is_struck_at_all && fixture_load(store, &content) == -EIO) {
            n_in_doubt++;
            assert_int_equal(fixture_commit_batch(store, N_BATCHES), -EIO);
            assert_int_equal(fixture_commit_batch(store, N_BATCHES), -EIO);
            store_close(store);
            /* A restart begins with what is there. */
            store = open_store();
            check_mappings(store, N_BATCHES + 1);
        } else if (is_struck_at_all) {
            check_mappings(store, N_BATCHES);
            fixture_content_deinit(&content);
            assert_int_equal(fixture_commit_batch(store, N_BATCHES), 0);
        }
        assert_int_equal(fixture_commit_batch(store, N_BATCHES + 1), 0);
        check_mappings(store, N_BATCHES + 2);
        store_close(store);
    }
    assert_int_equal(n_in_doubt, 1);
}

static bool was_synced(const char *path)
{
    struct stat status;

    assert_int_equal(stat(path, &status), 0);
    for (size_t i = 0; i < fault.n_synced; i++)
        if (fault.synced[i].st_dev == status.st_dev && fault.synced[i].st_ino == status.st_ino)
            return true;
    return false;
}

/*
 * Names are durable only when their directory is synced, which not every file system does unasked.
 */
static void test_lmdb_store_open_syncs_directories(void **state)
{
    (void) state;
    for (int i = 0; i < 2; i++) {
        struct store *store;
        char why[256];

        /* The second time they exist already, and may be a killed process's. */
        if (i == 0)
            fixture_remove_tree(directory);
        fault.n_synced = 0;
        fault.n_failing = 0;
        fault.is_armed = true;
        assert_int_equal(lmdb_store_open(directory, MAP_SIZE, &store, why), 0);
        fault.is_armed = false;
        assert_true(was_synced(top));
        assert_true(was_synced(directory));
        store_close(store);
    }
}

/* A store that cannot be made is refused, leaves nothing, and can be made later. */
static void test_lmdb_store_open_new_each_write_fails(void **state)
{
    struct store *store;
    char why[256];
    int r = -1;

    (void) state;
    for (unsigned int first = 0; r < 0; first++) {
        fixture_remove_tree(directory);
        fault.n_calls = 0;
        fault.first = first;
        fault.n_failing = 1;
        fault.first_is_done = false;
        fault.error = ENOSPC;
        fault.is_armed = true;
        r = lmdb_store_open(directory, MAP_SIZE, &store, why);
        fault.is_armed = false;
        if (r < 0) {
            assert_int_equal(r, -ENOSPC);
            assert_non_null(strstr(why, directory));
            store = open_store();
        } else {
            /* Parent, data file, its sync, its meta page, the directory. */
            assert_true(first >= 5);
        }
        assert_int_equal(fixture_commit_batch(store, 0), 0);
        check_mappings(store, 1);
        store_close(store);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_lmdb_store_commit_each_write_fails_once, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_lmdb_store_commit_all_writes_fail_from_each_on, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_lmdb_store_commit_each_write_done_but_fails, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_lmdb_store_commit_seen_though_failed_is_taken_back,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_lmdb_store_commit_in_doubt_refuses_all, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_lmdb_store_open_syncs_directories, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_lmdb_store_open_new_each_write_fails, set_up,
                                        tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
