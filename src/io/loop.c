/*
 * libuv's handles are closed asynchronously, so every object here gives its memory back in the close callback and
 * loop_free() turns the loop once more for the last of them.
 *
 * Timers are timerfds, not uv_timers: those count milliseconds on CLOCK_MONOTONIC, which stands still while the machine sleeps,
 * and lifetimes do not.
 */

#include "io/loop.h"

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>
#include <uv.h>

#include "base/time.h"
#include "io/loop_handle.h"

struct loop {
    uv_loop_t uv;
    uv_async_t keep_alive; /* an empty loop would return from uv_run() at once */
};

struct loop_timer {
    uv_poll_t poll;
    int fd;
    uint64_t at_ns;
    void (*fired)(void *context);
    void *context;
};

struct loop_watch {
    union {
        uv_handle_t any;
        uv_poll_t poll;
        uv_signal_t signal;
        uv_prepare_t prepare;
    } handle;
    void (*happened)(void *context);
    void *context;
};

struct loop_work {
    uv_async_t finished;
    uv_thread_t thread;
    uv_mutex_t mutex;
    uv_cond_t wake;
    enum { WORK_IDLE, WORK_REQUESTED, WORK_FINISHED, WORK_QUIT } state; /* under the mutex */
    bool is_running; /* loop thread only: from start to done */
    void (*work)(void *context);
    void (*done)(void *context);
    void *context;
};

static void ignore_async(uv_async_t *async)
{
    (void) async;
}

static void free_data(uv_handle_t *handle)
{
    free(handle->data);
}

int loop_new(struct loop **ret_loop)
{
    struct loop *loop = calloc(1, sizeof(*loop));
    if (!loop)
        return -ENOMEM;
    int error = uv_loop_init(&loop->uv);
    if (error < 0) {
        free(loop);
        return error;
    }
    error = uv_async_init(&loop->uv, &loop->keep_alive, ignore_async);
    if (error < 0) {
        uv_loop_close(&loop->uv);
        free(loop);
        return error;
    }
    *ret_loop = loop;
    return 0;
}

void loop_free(struct loop *loop)
{
    if (!loop)
        return;
    uv_close((uv_handle_t *) &loop->keep_alive, NULL);
    uv_run(&loop->uv, UV_RUN_NOWAIT);
    /* A loop_stop() that was still pending cuts the first run short. */
    int error = uv_loop_close(&loop->uv);
    if (error == UV_EBUSY) {
        uv_run(&loop->uv, UV_RUN_NOWAIT);
        error = uv_loop_close(&loop->uv);
    }
    assert(error == 0);
    (void) error;
    free(loop);
}

void loop_run(struct loop *loop)
{
    uv_run(&loop->uv, UV_RUN_DEFAULT);
}

void loop_stop(struct loop *loop)
{
    uv_stop(&loop->uv);
}

uv_loop_t *loop_uv(struct loop *loop)
{
    return &loop->uv;
}

uint64_t loop_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_BOOTTIME, &now);
    return (uint64_t) now.tv_sec * NS_PER_S + (uint64_t) now.tv_nsec;
}

static void set_timerfd(int fd, uint64_t at_ns)
{
    struct itimerspec spec = {0};
    if (at_ns != TIME_NEVER) {
        /* All zero would disarm it. */
        uint64_t armed_ns = at_ns ? at_ns : 1;
        spec.it_value.tv_sec = (time_t) (armed_ns / NS_PER_S);
        spec.it_value.tv_nsec = (long) (armed_ns % NS_PER_S);
    }
    int error = timerfd_settime(fd, TFD_TIMER_ABSTIME, &spec, NULL);
    assert(error == 0);
    (void) error;
}

static void fire_timer(uv_poll_t *poll, int status, int events)
{
    (void) status;
    (void) events;
    struct loop_timer *timer = poll->data;
    uint64_t n_expired;
    /* Nothing to read: it was moved after it had become readable. */
    if (read(timer->fd, &n_expired, sizeof(n_expired)) != sizeof(n_expired))
        return;
    timer->at_ns = TIME_NEVER;
    timer->fired(timer->context);
}

int loop_timer_new(struct loop *loop, void (*fired)(void *context), void *context,
                   struct loop_timer **ret_timer)
{
    struct loop_timer *timer = calloc(1, sizeof(*timer));
    if (!timer)
        return -ENOMEM;
    *timer = (struct loop_timer){.at_ns = TIME_NEVER, .fired = fired, .context = context};
    timer->fd = timerfd_create(CLOCK_BOOTTIME, TFD_NONBLOCK | TFD_CLOEXEC);
    if (timer->fd < 0) {
        int error = -errno;
        free(timer);
        return error;
    }
    int error = uv_poll_init(&loop->uv, &timer->poll, timer->fd);
    if (error < 0) {
        close(timer->fd);
        free(timer);
        return error;
    }
    timer->poll.data = timer;
    uv_poll_start(&timer->poll, UV_READABLE, fire_timer);
    *ret_timer = timer;
    return 0;
}

void loop_timer_set(struct loop_timer *timer, uint64_t at_ns)
{
    if (at_ns == timer->at_ns)
        return;
    timer->at_ns = at_ns;
    set_timerfd(timer->fd, at_ns);
}

void loop_timer_free(struct loop_timer *timer)
{
    if (!timer)
        return;
    uv_close((uv_handle_t *) &timer->poll, free_data);
    close(timer->fd);
}

static struct loop_watch *new_watch(void (*happened)(void *context), void *context)
{
    struct loop_watch *watch = calloc(1, sizeof(*watch));
    if (!watch)
        return NULL;
    watch->happened = happened;
    watch->context = context;
    return watch;
}

/* `error` is what libuv said to the handle's initialisation: then the handle needs no closing. */
static int finish_watch(struct loop_watch *watch, int error, struct loop_watch **ret_watch)
{
    if (error < 0) {
        free(watch);
        return error;
    }
    watch->handle.any.data = watch;
    *ret_watch = watch;
    return 0;
}

static void report_readable(uv_poll_t *poll, int status, int events)
{
    (void) events;
    struct loop_watch *watch = poll->data;
    watch->happened(watch->context);
    /* libuv stops watching a descriptor with a pending error, such as netlink's ENOBUFS; reading has just taken the error away. */
    if (status < 0 && !uv_is_closing(&watch->handle.any))
        uv_poll_start(poll, UV_READABLE, report_readable);
}

int loop_watch_fd(struct loop *loop, int fd, void (*ready)(void *context), void *context,
                  struct loop_watch **ret_watch)
{
    struct loop_watch *watch = new_watch(ready, context);
    if (!watch)
        return -ENOMEM;
    int error = finish_watch(watch, uv_poll_init(&loop->uv, &watch->handle.poll, fd), ret_watch);
    if (error == 0)
        uv_poll_start(&watch->handle.poll, UV_READABLE, report_readable);
    return error;
}

static void report_signal(uv_signal_t *handle, int signal_number)
{
    (void) signal_number;
    struct loop_watch *watch = handle->data;
    watch->happened(watch->context);
}

int loop_watch_signal(struct loop *loop, int signal_number, void (*raised)(void *context),
                      void *context, struct loop_watch **ret_watch)
{
    struct loop_watch *watch = new_watch(raised, context);
    if (!watch)
        return -ENOMEM;
    int error = finish_watch(watch, uv_signal_init(&loop->uv, &watch->handle.signal), &watch);
    if (error < 0)
        return error;
    error = uv_signal_start(&watch->handle.signal, report_signal, signal_number);
    if (error < 0) {
        loop_watch_free(watch);
        return error;
    }
    *ret_watch = watch;
    return 0;
}

static void report_turn(uv_prepare_t *handle)
{
    struct loop_watch *watch = handle->data;
    watch->happened(watch->context);
}

int loop_watch_turn(struct loop *loop, void (*turn)(void *context), void *context,
                    struct loop_watch **ret_watch)
{
    struct loop_watch *watch = new_watch(turn, context);
    if (!watch)
        return -ENOMEM;
    int error = finish_watch(watch, uv_prepare_init(&loop->uv, &watch->handle.prepare), ret_watch);
    if (error == 0)
        uv_prepare_start(&watch->handle.prepare, report_turn);
    return error;
}

void loop_watch_free(struct loop_watch *watch)
{
    if (watch)
        uv_close(&watch->handle.any, free_data);
}

static void run_worker(void *argument)
{
    struct loop_work *work = argument;
    uv_mutex_lock(&work->mutex);
    while (work->state != WORK_QUIT) {
        if (work->state != WORK_REQUESTED) {
            uv_cond_wait(&work->wake, &work->mutex);
            continue;
        }
        uv_mutex_unlock(&work->mutex);
        work->work(work->context);
        uv_mutex_lock(&work->mutex);
        work->state = WORK_FINISHED;
        uv_async_send(&work->finished);
    }
    uv_mutex_unlock(&work->mutex);
}

static void report_finished(uv_async_t *async)
{
    struct loop_work *work = async->data;
    uv_mutex_lock(&work->mutex);
    bool is_finished = work->state == WORK_FINISHED;
    if (is_finished)
        work->state = WORK_IDLE;
    uv_mutex_unlock(&work->mutex);
    if (!is_finished)
        return;
    work->is_running = false;
    work->done(work->context);
}

/* With every signal blocked in it: the loop's thread takes them. */
static int start_thread(struct loop_work *work)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = uv_thread_create(&work->thread, run_worker, work);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return error;
}

int loop_work_new(struct loop *loop, void (*work_function)(void *context),
                  void (*done)(void *context), void *context, struct loop_work **ret_work)
{
    struct loop_work *work = calloc(1, sizeof(*work));
    if (!work)
        return -ENOMEM;
    work->work = work_function;
    work->done = done;
    work->context = context;
    int error = uv_mutex_init(&work->mutex);
    if (error < 0)
        goto fail_memory;
    error = uv_cond_init(&work->wake);
    if (error < 0)
        goto fail_mutex;
    error = uv_async_init(&loop->uv, &work->finished, report_finished);
    if (error < 0)
        goto fail_condition;
    work->finished.data = work;
    error = start_thread(work);
    if (error < 0)
        goto fail_async;
    *ret_work = work;
    return 0;

fail_async:
    uv_cond_destroy(&work->wake);
    uv_mutex_destroy(&work->mutex);
    uv_close((uv_handle_t *) &work->finished, free_data);
    return error;
fail_condition:
    uv_cond_destroy(&work->wake);
fail_mutex:
    uv_mutex_destroy(&work->mutex);
fail_memory:
    free(work);
    return error;
}

int loop_work_start(struct loop_work *work)
{
    if (work->is_running)
        return -EBUSY;
    work->is_running = true;
    uv_mutex_lock(&work->mutex);
    work->state = WORK_REQUESTED;
    uv_cond_signal(&work->wake);
    uv_mutex_unlock(&work->mutex);
    return 0;
}

void loop_work_free(struct loop_work *work)
{
    if (!work)
        return;
    assert(!work->is_running);
    uv_mutex_lock(&work->mutex);
    work->state = WORK_QUIT;
    uv_cond_signal(&work->wake);
    uv_mutex_unlock(&work->mutex);
    uv_thread_join(&work->thread);
    uv_cond_destroy(&work->wake);
    uv_mutex_destroy(&work->mutex);
    uv_close((uv_handle_t *) &work->finished, free_data);
}
