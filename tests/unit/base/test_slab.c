#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/slab.h"
#include "base/util.h"

static void check_zeroed(const uint8_t *object, size_t size_bytes)
{
    for (size_t i = 0; i < size_bytes; i++)
        assert_int_equal(object[i], 0);
}

static void test_slab_alloc_objects_do_not_overlap(void **state)
{
    static const size_t sizes[] = {1, 8, 24, 200, 4096, 40000};
    static uint8_t *objects[1500];

    (void) state;
    for (size_t s = 0; s < N_ELEMENTS(sizes); s++) {
        size_t n = sizes[s] > 1000 ? 30 : N_ELEMENTS(objects);
        struct slab slab;

        slab_init(&slab, sizes[s]);
        for (size_t i = 0; i < n; i++) {
            objects[i] = slab_alloc(&slab);
            assert_non_null(objects[i]);
            assert_int_equal((uintptr_t) objects[i] % _Alignof(max_align_t), 0);
            check_zeroed(objects[i], sizes[s]);
            memset(objects[i], (int) (i % 251) + 1, sizes[s]);
        }
        assert_int_equal(slab.n_used, n);
        for (size_t i = 0; i < n; i++) {
            assert_int_equal(objects[i][0], i % 251 + 1);
            assert_int_equal(objects[i][sizes[s] - 1], i % 251 + 1);
        }
        slab_deinit(&slab);
    }
}

static void test_slab_free_reuses_zeroed(void **state)
{
    struct slab slab;
    uint8_t *first, *second;
    void *chunks;

    (void) state;
    slab_init(&slab, 100);
    first = slab_alloc(&slab);
    chunks = slab.chunks;
    memset(first, 0xff, 100);
    slab_free(&slab, first);
    assert_int_equal(slab.n_used, 0);
    second = slab_alloc(&slab);
    assert_ptr_equal(second, first);
    check_zeroed(second, 100);
    for (int i = 0; i < 100000; i++)
        slab_free(&slab, slab_alloc(&slab));
    assert_ptr_equal(slab.chunks, chunks);
    slab_deinit(&slab);
}

static void test_slab_free_null(void **state)
{
    struct slab slab;

    (void) state;
    slab_init(&slab, 8);
    slab_free(&slab, NULL);
    assert_int_equal(slab.n_used, 0);
    slab_deinit(&slab);
    slab_deinit(&slab);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_slab_alloc_objects_do_not_overlap),
        cmocka_unit_test(test_slab_free_reuses_zeroed),
        cmocka_unit_test(test_slab_free_null),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
