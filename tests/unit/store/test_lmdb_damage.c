/*
 * Damaged files. Whatever is wrong with one, the store either refuses it in open or in load, or
 * delivers exactly what was committed; it never dies of it and never writes to it.
 */

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/random.h"
#include "store/lmdb/lmdb_store.h"
#include "store_fixture.h"

#define MAP_SIZE (64 << 20)
#define N_BATCHES 60
#define PAGE 4096
/* Octets of a meta page that LMDB reads. */
#define META_SIZE 152

static char top[PATH_MAX], directory[PATH_MAX], data_path[PATH_MAX];
static uint8_t *sound, *work;
static size_t size_bytes;
static struct fixture_content expected;

static int set_up(void **state)
{
    struct store *store;
    char why[256];

    (void) state;
    fixture_make_directory(top);
    fixture_path(directory, top, "state");
    fixture_path(data_path, directory, "data.mdb");
    assert_int_equal(lmdb_store_open(directory, MAP_SIZE, &store, why), 0);
    for (uint64_t batch = 0; batch < N_BATCHES; batch++)
        assert_int_equal(fixture_commit_batch(store, batch), 0);
    assert_int_equal(fixture_load(store, &expected), 0);
    store_close(store);
    fixture_read_file(data_path, &sound, &size_bytes);
    work = malloc(size_bytes);
    assert_non_null(work);
    memcpy(work, sound, size_bytes);
    return 0;
}

static int tear_down(void **state)
{
    (void) state;
    free(sound);
    free(work);
    fixture_content_deinit(&expected);
    fixture_remove_tree(top);
    return 0;
}

enum outcome {
    REFUSED_BY_OPEN,
    REFUSED_BY_LOAD,
    LOADED,
};

static enum outcome load_or_refuse(struct fixture_content *ret_content)
{
    struct store *store;
    char why[256] = "";
    int r;

    *ret_content = (struct fixture_content){0};
    r = lmdb_store_open(directory, MAP_SIZE, &store, why);
    if (r < 0) {
        assert_non_null(strstr(why, directory));
        assert_null(strchr(why, '\n'));
        assert_true(r == -EUCLEAN || r == -ENOMEM);
        return REFUSED_BY_OPEN;
    }
    r = fixture_load(store, ret_content);
    store_close(store);
    if (r == 0)
        return LOADED;
    fixture_content_deinit(ret_content);
    assert_int_equal(r, -EBADMSG);
    return REFUSED_BY_LOAD;
}

/* Puts `work` in place and looks what the store makes of it. */
static enum outcome try_file(size_t n_octets)
{
    struct fixture_content content;
    enum outcome outcome;
    size_t after_bytes;
    uint8_t *after;

    fixture_write_file(data_path, work, n_octets);
    outcome = load_or_refuse(&content);
    if (outcome == LOADED)
        assert_true(fixture_content_equal(&content, &expected));
    fixture_content_deinit(&content);
    fixture_read_file(data_path, &after, &after_bytes);
    assert_int_equal(after_bytes, n_octets);
    assert_memory_equal(after, work, n_octets);
    free(after);
    return outcome;
}

static void test_lmdb_store_open_sound_file(void **state)
{
    (void) state;
    assert_int_equal(try_file(size_bytes), LOADED);
}

static void test_lmdb_store_open_every_truncation(void **state)
{
    size_t n_refused = 0;

    (void) state;
    assert_true(size_bytes > 20 * PAGE);
    for (size_t n = 0; n < size_bytes; n += PAGE) {
        n_refused += try_file(n) != LOADED;
        n_refused += try_file(n + 1) != LOADED;
        n_refused += try_file(n + PAGE - 1) != LOADED;
        if (n <= PAGE)
            assert_int_equal(n_refused, 3 * (n / PAGE + 1));
    }
    /* The last pages may be free ones; most are not. */
    assert_true(n_refused > size_bytes / PAGE * 2);
    for (size_t n = 1; n < META_SIZE + 2; n++)
        assert_int_equal(try_file(n), REFUSED_BY_OPEN);
}

static void test_lmdb_store_open_names_truncation(void **state)
{
    struct store *store;
    char why[256];

    (void) state;
    fixture_write_file(data_path, sound, size_bytes / 2);
    assert_int_equal(lmdb_store_open(directory, MAP_SIZE, &store, why), -EUCLEAN);
    assert_non_null(strstr(why, "truncated"));
}

static void test_lmdb_store_open_random_garbage(void **state)
{
    struct random_source random = random_seeded(fixture_seed());
    static const size_t sizes[] = {1, 100, 4096, 8192, 100000};

    (void) state;
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        random_fill(&random, work, sizes[i]);
        assert_int_equal(try_file(sizes[i]), REFUSED_BY_OPEN);
        memset(work, 0, sizes[i]);
        assert_int_equal(try_file(sizes[i]), REFUSED_BY_OPEN);
        memset(work, 0xff, sizes[i]);
        assert_int_equal(try_file(sizes[i]), REFUSED_BY_OPEN);
    }
    /* Meta pages that are right, and nothing else. */
    memcpy(work, sound, 2 * PAGE);
    random_fill(&random, work + 2 * PAGE, size_bytes - 2 * PAGE);
    assert_int_equal(try_file(size_bytes), REFUSED_BY_OPEN);
    memcpy(work, sound, size_bytes);
}

static void test_lmdb_store_open_every_page_overwritten(void **state)
{
    struct random_source random = random_seeded(fixture_seed());
    size_t n_refused = 0;

    (void) state;
    for (size_t n = 0; n < size_bytes; n += PAGE) {
        random_fill(&random, work + n, PAGE);
        n_refused += try_file(size_bytes) != LOADED;
        memset(work + n, 0, PAGE);
        n_refused += try_file(size_bytes) != LOADED;
        /* Another page in its place: all of it sound, none of it right. */
        memcpy(work + n, sound + (n + 3 * PAGE) % size_bytes, PAGE);
        n_refused += try_file(size_bytes) != LOADED;
        memcpy(work + n, sound + n, PAGE);
    }
    assert_true(n_refused > size_bytes / PAGE);
}

static void test_lmdb_store_open_random_bits_flipped(void **state)
{
    struct random_source random = random_seeded(fixture_seed());
    size_t n_refused = 0;

    (void) state;
    for (int i = 0; i < 400; i++) {
        /* Beyond the meta pages, which have a test of their own. */
        size_t bit = (size_t) random_below(&random, (size_bytes - 2 * PAGE) * 8) + 2 * PAGE * 8;

        work[bit / 8] ^= (uint8_t) (1 << bit % 8);
        n_refused += try_file(size_bytes) != LOADED;
        work[bit / 8] = sound[bit / 8];
    }
    assert_true(n_refused > 50);
}

/*
 * LMDB's meta pages have no checksum. A flip there may at worst hide the newest commit or leave all
 * as it was; it must not show anything that never was.
 */
static void test_lmdb_store_open_meta_bits_flipped(void **state)
{
    struct random_source random = random_seeded(fixture_seed());

    (void) state;
    for (int i = 0; i < 250; i++) {
        size_t bit = (size_t) random_below(&random, META_SIZE * 8) + (size_t) (i % 2) * PAGE * 8;
        struct fixture_content content;

        work[bit / 8] ^= (uint8_t) (1 << bit % 8);
        fixture_write_file(data_path, work, size_bytes);
        if (load_or_refuse(&content) == LOADED)
            assert_true(fixture_check_batches(&content) >= N_BATCHES - 1);
        fixture_content_deinit(&content);
        work[bit / 8] = sound[bit / 8];
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lmdb_store_open_sound_file),
        cmocka_unit_test(test_lmdb_store_open_every_truncation),
        cmocka_unit_test(test_lmdb_store_open_names_truncation),
        cmocka_unit_test(test_lmdb_store_open_random_garbage),
        cmocka_unit_test(test_lmdb_store_open_every_page_overwritten),
        cmocka_unit_test(test_lmdb_store_open_random_bits_flipped),
        cmocka_unit_test(test_lmdb_store_open_meta_bits_flipped),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
