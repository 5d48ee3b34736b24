#pragma once

/*
 * The event loop: libuv behind the few verbs our programs need. Callbacks run on the thread in loop_run(); only the work
 * function of loop_work_start() runs elsewhere.
 */

#include <stdint.h>

#include "base/util.h"

struct loop;
struct loop_timer;
struct loop_watch;
struct loop_work;

/* 0 or -errno. */
MUST_CHECK int loop_new(struct loop **ret_loop);
/* Accepts NULL. Everything made on it must have been freed before. */
void loop_free(struct loop *loop);
/* Until loop_stop(). */
void loop_run(struct loop *loop);
void loop_stop(struct loop *loop);

/* CLOCK_BOOTTIME read now: counts suspend, never steps. All deadlines of timers are on this clock. */
uint64_t loop_now_ns(void);

/* One timer, one deadline: setting it again moves it, TIME_NEVER stops it. A deadline in the past fires at the next turn. */
MUST_CHECK int loop_timer_new(struct loop *loop, void (*fired)(void *context), void *context,
                              struct loop_timer **ret_timer);
void loop_timer_set(struct loop_timer *timer, uint64_t at_ns);
void loop_timer_free(struct loop_timer *timer);

/* Calls `ready` while `fd` is readable. The descriptor stays the caller's and must be non-blocking. */
MUST_CHECK int loop_watch_fd(struct loop *loop, int fd, void (*ready)(void *context), void *context,
                             struct loop_watch **ret_watch);
MUST_CHECK int loop_watch_signal(struct loop *loop, int signal_number,
                                 void (*raised)(void *context), void *context,
                                 struct loop_watch **ret_watch);
void loop_watch_free(struct loop_watch *watch);

/* Calls `turn` once per turn of the loop, before it blocks: where a tick is sealed. */
MUST_CHECK int loop_watch_turn(struct loop *loop, void (*turn)(void *context), void *context,
                               struct loop_watch **ret_watch);

/* A job for one worker thread of our own: at most one at a time per loop_work. */
MUST_CHECK int loop_work_new(struct loop *loop, void (*work)(void *context),
                             void (*done)(void *context), void *context,
                             struct loop_work **ret_work);
/* -EBUSY while the last one is not done. */
MUST_CHECK int loop_work_start(struct loop_work *work);
/* Not while running. */
void loop_work_free(struct loop_work *work);
