#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/deadline_heap.h"
#include "base/random.h"
#include "base/time.h"
#include "base/util.h"

#define N_OBJECTS 200

static void check_shape(const struct deadline_heap *heap)
{
    for (size_t i = 0; i < heap->n_items; i++) {
        assert_int_equal(heap->items[i]->position, i);
        if (i > 0)
            assert_true(heap->items[(i - 1) / 2]->at_ns <= heap->items[i]->at_ns);
    }
}

/* The model: an object is scheduled at model[i], or TIME_NEVER when it is not. */
static void check_against(const struct deadline_heap *heap, const struct deadline *objects,
                          const uint64_t *model)
{
    uint64_t earliest = TIME_NEVER;
    size_t n_scheduled = 0;

    for (size_t i = 0; i < N_OBJECTS; i++) {
        assert_int_equal(objects[i].position != DEADLINE_UNSCHEDULED, model[i] != TIME_NEVER);
        if (model[i] == TIME_NEVER)
            continue;
        assert_int_equal(objects[i].at_ns, model[i]);
        n_scheduled++;
        if (model[i] < earliest)
            earliest = model[i];
    }
    assert_int_equal(heap->n_items, n_scheduled);
    assert_int_equal(deadline_heap_next_ns(heap), earliest);
    if (n_scheduled > 0)
        assert_int_equal(deadline_heap_first(heap)->at_ns, earliest);
    else
        assert_null(deadline_heap_first(heap));
}

static void run_random_steps(uint64_t seed, uint64_t n_times)
{
    static struct deadline objects[N_OBJECTS];
    static uint64_t model[N_OBJECTS];
    struct random_source random = random_seeded(seed);
    struct deadline_heap heap;

    deadline_heap_init(&heap);
    for (size_t i = 0; i < N_OBJECTS; i++) {
        deadline_init(&objects[i]);
        model[i] = TIME_NEVER;
    }
    for (int step = 0; step < 5000; step++) {
        size_t i = (size_t) random_below(&random, N_OBJECTS);

        if (random_below(&random, 5) < 3) {
            model[i] = random_below(&random, n_times);
            assert_int_equal(deadline_heap_set(&heap, &objects[i], model[i]), 0);
        } else {
            model[i] = TIME_NEVER;
            deadline_heap_remove(&heap, &objects[i]);
        }
        check_shape(&heap);
        check_against(&heap, objects, model);
    }
    deadline_heap_deinit(&heap);
}

static void test_deadline_heap_random_steps_match_model(void **state)
{
    (void) state;
    for (uint64_t seed = 1; seed <= 4; seed++)
        run_random_steps(seed, UINT64_C(1) << 60);
}

static void test_deadline_heap_random_steps_with_ties(void **state)
{
    (void) state;
    run_random_steps(5, 3);
}

static void test_deadline_heap_first_drains_sorted(void **state)
{
    static struct deadline objects[1000];
    struct random_source random = random_seeded(6);
    struct deadline_heap heap;
    uint64_t previous_ns = 0;

    (void) state;
    deadline_heap_init(&heap);
    for (size_t i = 0; i < N_ELEMENTS(objects); i++) {
        deadline_init(&objects[i]);
        assert_int_equal(deadline_heap_set(&heap, &objects[i], random_below(&random, 5000)), 0);
    }
    for (size_t i = 0; i < N_ELEMENTS(objects); i++) {
        struct deadline *first = deadline_heap_first(&heap);

        assert_true(first->at_ns >= previous_ns);
        previous_ns = first->at_ns;
        deadline_heap_remove(&heap, first);
        assert_int_equal(first->position, DEADLINE_UNSCHEDULED);
    }
    assert_null(deadline_heap_first(&heap));
    assert_int_equal(deadline_heap_next_ns(&heap), TIME_NEVER);
    deadline_heap_deinit(&heap);
}

static void test_deadline_heap_remove_unscheduled(void **state)
{
    struct deadline scheduled, other;
    struct deadline_heap heap;

    (void) state;
    deadline_heap_init(&heap);
    deadline_init(&scheduled);
    deadline_init(&other);
    deadline_heap_remove(&heap, &other);
    assert_int_equal(deadline_heap_set(&heap, &scheduled, 7), 0);
    deadline_heap_remove(&heap, &other);
    assert_ptr_equal(deadline_heap_first(&heap), &scheduled);
    deadline_heap_remove(&heap, &scheduled);
    deadline_heap_remove(&heap, &scheduled);
    assert_null(deadline_heap_first(&heap));
    deadline_heap_deinit(&heap);
}

static void test_deadline_heap_reserve_keeps_array(void **state)
{
    static struct deadline objects[100];
    struct deadline_heap heap;
    struct deadline **items;

    (void) state;
    deadline_heap_init(&heap);
    assert_int_equal(deadline_heap_reserve(&heap, N_ELEMENTS(objects)), 0);
    items = heap.items;
    for (size_t i = 0; i < N_ELEMENTS(objects); i++) {
        deadline_init(&objects[i]);
        assert_int_equal(deadline_heap_set(&heap, &objects[i], 100 - i), 0);
    }
    assert_ptr_equal(heap.items, items);
    assert_ptr_equal(deadline_heap_first(&heap), &objects[99]);
    assert_int_equal(deadline_heap_reserve(&heap, 1), 0);
    assert_int_equal(heap.n_allocated, 100);
    deadline_heap_deinit(&heap);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_deadline_heap_random_steps_match_model),
        cmocka_unit_test(test_deadline_heap_random_steps_with_ties),
        cmocka_unit_test(test_deadline_heap_first_drains_sorted),
        cmocka_unit_test(test_deadline_heap_remove_unscheduled),
        cmocka_unit_test(test_deadline_heap_reserve_keeps_array),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
