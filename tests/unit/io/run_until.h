#pragma once

/* Turns the loop until `condition` holds; a test that waits in vain fails after ten seconds instead of hanging. */

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/time.h"
#include "io/loop.h"

struct run_until {
    struct loop *loop;
    bool (*condition)(void *context);
    void *context;
    bool is_late;
};

static inline void run_until_check(void *context)
{
    struct run_until *run = context;
    if (run->condition(run->context))
        loop_stop(run->loop);
}

static inline void run_until_give_up(void *context)
{
    struct run_until *run = context;
    run->is_late = true;
    loop_stop(run->loop);
}

static inline void run_until(struct loop *loop, bool (*condition)(void *context), void *context)
{
    struct run_until run = {loop, condition, context, false};
    struct loop_watch *turn;
    struct loop_timer *limit;
    assert_int_equal(loop_watch_turn(loop, run_until_check, &run, &turn), 0);
    assert_int_equal(loop_timer_new(loop, run_until_give_up, &run, &limit), 0);
    loop_timer_set(limit, loop_now_ns() + 10 * NS_PER_S);
    loop_run(loop);
    loop_watch_free(turn);
    loop_timer_free(limit);
    assert_false(run.is_late);
}

/* For conditions that are one flag. */
static inline bool run_until_flag(void *context)
{
    return *(bool *) context;
}
