/* The loop on real clocks and descriptors: what fires, in which order, on which thread. */

#include "io/loop.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <unistd.h>

#include "run_until.h"

static int set_up(void **state)
{
    struct loop *loop;
    int error = loop_new(&loop);
    *state = loop;
    return error;
}

static int tear_down(void **state)
{
    loop_free(*state);
    return 0;
}

struct order {
    char text[8];
    size_t n;
};

struct mark {
    struct order *order;
    char letter;
};

static void add_mark(void *context)
{
    struct mark *mark = context;
    mark->order->text[mark->order->n++] = mark->letter;
    mark->order->text[mark->order->n] = '\0';
}

static bool has_three_marks(void *context)
{
    return ((struct order *) context)->n == 3;
}

static void test_loop_timer_set_several_fires_in_order(void **state)
{
    struct order order = {0};
    struct mark marks[3] = {{&order, 'a'}, {&order, 'b'}, {&order, 'c'}};
    const uint64_t after_ms[3] = {30, 10, 20};
    struct loop_timer *timers[3];
    uint64_t start_ns = loop_now_ns();
    for (int i = 0; i < 3; i++) {
        assert_int_equal(loop_timer_new(*state, add_mark, &marks[i], &timers[i]), 0);
        loop_timer_set(timers[i], start_ns + after_ms[i] * NS_PER_MS);
    }
    run_until(*state, has_three_marks, &order);
    assert_true(loop_now_ns() - start_ns >= 30 * NS_PER_MS);
    assert_string_equal(order.text, "bca");
    for (int i = 0; i < 3; i++)
        loop_timer_free(timers[i]);
}

static void test_loop_timer_set_in_the_past_fires(void **state)
{
    struct order order = {0};
    struct mark mark = {&order, 'x'};
    struct loop_timer *timers[3];
    const uint64_t at_ns[3] = {0, 1, loop_now_ns() - NS_PER_S};
    for (int i = 0; i < 3; i++) {
        assert_int_equal(loop_timer_new(*state, add_mark, &mark, &timers[i]), 0);
        loop_timer_set(timers[i], at_ns[i]);
    }
    run_until(*state, has_three_marks, &order);
    for (int i = 0; i < 3; i++)
        loop_timer_free(timers[i]);
}

static void set_flag(void *context)
{
    *(bool *) context = true;
}

static void test_loop_timer_set_never_stops_it(void **state)
{
    bool is_fired = false, is_later = false;
    struct loop_timer *stopped, *later;
    assert_int_equal(loop_timer_new(*state, set_flag, &is_fired, &stopped), 0);
    assert_int_equal(loop_timer_new(*state, set_flag, &is_later, &later), 0);
    loop_timer_set(stopped, loop_now_ns() + 5 * NS_PER_MS);
    loop_timer_set(later, loop_now_ns() + 30 * NS_PER_MS);
    loop_timer_set(stopped, TIME_NEVER);
    run_until(*state, run_until_flag, &is_later);
    assert_false(is_fired);
    loop_timer_free(stopped);
    loop_timer_free(later);
}

struct repeat {
    struct loop_timer *timer;
    int n_fired;
};

static void fire_again(void *context)
{
    struct repeat *repeat = context;
    if (++repeat->n_fired < 3)
        loop_timer_set(repeat->timer, 0);
    else
        loop_timer_free(repeat->timer);
}

static bool has_repeated(void *context)
{
    return ((struct repeat *) context)->n_fired == 3;
}

static void test_loop_timer_set_in_its_own_callback_fires_again(void **state)
{
    struct repeat repeat = {0};
    assert_int_equal(loop_timer_new(*state, fire_again, &repeat, &repeat.timer), 0);
    loop_timer_set(repeat.timer, 0);
    run_until(*state, has_repeated, &repeat);
}

struct pipe_reader {
    int fd;
    int n_read;
};

static void read_octet(void *context)
{
    struct pipe_reader *reader = context;
    char octet;
    if (read(reader->fd, &octet, 1) == 1)
        reader->n_read++;
}

static bool has_read_three(void *context)
{
    return ((struct pipe_reader *) context)->n_read == 3;
}

static void test_loop_watch_fd_reports_until_all_is_read(void **state)
{
    int fds[2];
    assert_int_equal(pipe2(fds, O_NONBLOCK | O_CLOEXEC), 0);
    struct pipe_reader reader = {fds[0], 0};
    struct loop_watch *watch;
    assert_int_equal(loop_watch_fd(*state, fds[0], read_octet, &reader, &watch), 0);
    assert_int_equal(write(fds[1], "abc", 3), 3);
    run_until(*state, has_read_three, &reader);
    loop_watch_free(watch);
    close(fds[0]);
    close(fds[1]);
}

struct failing_socket {
    int fd;
    int n_errors;
};

static void take_error(void *context)
{
    struct failing_socket *failing = context;
    char octet;
    if (recv(failing->fd, &octet, 1, MSG_DONTWAIT) < 0 && errno == ECONNREFUSED)
        failing->n_errors++;
}

static bool has_failed_once(void *context)
{
    return ((struct failing_socket *) context)->n_errors == 1;
}

static bool has_failed_twice(void *context)
{
    return ((struct failing_socket *) context)->n_errors == 2;
}

/* A connected UDP socket whose peer port is closed: each datagram comes back as an error. */
static int open_refused_socket(void)
{
    struct sockaddr_in name = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(name);
    int closed = socket(AF_INET, SOCK_DGRAM, 0);
    assert_int_equal(bind(closed, (struct sockaddr *) &name, size), 0);
    assert_int_equal(getsockname(closed, (struct sockaddr *) &name, &size), 0);
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    assert_int_equal(connect(fd, (struct sockaddr *) &name, size), 0);
    close(closed);
    return fd;
}

static void test_loop_watch_fd_goes_on_after_a_socket_error(void **state)
{
    struct failing_socket failing = {open_refused_socket(), 0};
    struct loop_watch *watch;
    assert_int_equal(loop_watch_fd(*state, failing.fd, take_error, &failing, &watch), 0);
    assert_int_equal(send(failing.fd, "x", 1, 0), 1);
    run_until(*state, has_failed_once, &failing);
    assert_int_equal(send(failing.fd, "x", 1, 0), 1);
    run_until(*state, has_failed_twice, &failing);
    loop_watch_free(watch);
    close(failing.fd);
}

static void test_loop_watch_signal_raised_is_reported(void **state)
{
    bool is_raised = false;
    struct loop_watch *watch;
    assert_int_equal(loop_watch_signal(*state, SIGUSR1, set_flag, &is_raised, &watch), 0);
    assert_int_equal(raise(SIGUSR1), 0);
    run_until(*state, run_until_flag, &is_raised);
    loop_watch_free(watch);
}

static void test_loop_watch_signal_impossible_fails(void **state)
{
    bool is_raised = false;
    struct loop_watch *watch = NULL;
    assert_int_equal(loop_watch_signal(*state, SIGKILL, set_flag, &is_raised, &watch), -EINVAL);
    assert_null(watch);
}

static void count_turn(void *context)
{
    (*(int *) context)++;
}

static void test_loop_watch_turn_runs_every_turn(void **state)
{
    int n_turns = 0;
    struct repeat repeat = {0};
    struct loop_watch *watch;
    assert_int_equal(loop_watch_turn(*state, count_turn, &n_turns, &watch), 0);
    assert_int_equal(loop_timer_new(*state, fire_again, &repeat, &repeat.timer), 0);
    loop_timer_set(repeat.timer, 0);
    run_until(*state, has_repeated, &repeat);
    assert_in_range(n_turns, 3, 20);
    loop_watch_free(watch);
}

struct job {
    struct loop_work *work;
    pthread_t loop_thread;
    _Atomic bool may_end;
    _Atomic bool was_elsewhere;
    bool was_signal_blocked;
    int n_done;
    int restarts_left;
};

static void do_job(void *context)
{
    struct job *job = context;
    sigset_t blocked;
    pthread_sigmask(SIG_SETMASK, NULL, &blocked);
    job->was_signal_blocked = sigismember(&blocked, SIGTERM) == 1;
    job->was_elsewhere = !pthread_equal(pthread_self(), job->loop_thread);
    while (!job->may_end)
        usleep(100);
}

static void finish_job(void *context)
{
    struct job *job = context;
    assert_true(pthread_equal(pthread_self(), job->loop_thread));
    job->n_done++;
    if (job->restarts_left > 0) {
        job->restarts_left--;
        assert_int_equal(loop_work_start(job->work), 0);
    }
}

static bool has_done_all(void *context)
{
    struct job *job = context;
    return job->n_done == 3;
}

static void test_loop_work_start_runs_elsewhere_one_at_a_time(void **state)
{
    struct job job = {.loop_thread = pthread_self(), .restarts_left = 2};
    assert_int_equal(loop_work_new(*state, do_job, finish_job, &job, &job.work), 0);
    assert_int_equal(loop_work_start(job.work), 0);
    assert_int_equal(loop_work_start(job.work), -EBUSY);
    job.may_end = true;
    run_until(*state, has_done_all, &job);
    assert_true(job.was_elsewhere);
    assert_true(job.was_signal_blocked);
    assert_int_equal(job.restarts_left, 0);
    loop_work_free(job.work);
}

static void test_loop_work_free_never_started_ends_its_thread(void **state)
{
    struct job job = {.loop_thread = pthread_self()};
    assert_int_equal(loop_work_new(*state, do_job, finish_job, &job, &job.work), 0);
    loop_work_free(job.work);
    assert_int_equal(job.n_done, 0);
}

static void test_loop_now_is_boottime(void **state)
{
    (void) state;
    struct timespec before, after;
    clock_gettime(CLOCK_BOOTTIME, &before);
    uint64_t now_ns = loop_now_ns();
    clock_gettime(CLOCK_BOOTTIME, &after);
    assert_in_range(now_ns, (uint64_t) before.tv_sec * NS_PER_S + (uint64_t) before.tv_nsec,
                    (uint64_t) after.tv_sec * NS_PER_S + (uint64_t) after.tv_nsec);
}

static void test_loop_free_with_stop_pending(void **state)
{
    (void) state;
    struct loop *loop;
    struct loop_timer *timer;
    bool is_fired = false;
    assert_int_equal(loop_new(&loop), 0);
    assert_int_equal(loop_timer_new(loop, set_flag, &is_fired, &timer), 0);
    loop_timer_free(timer);
    loop_stop(loop);
    loop_free(loop);
    loop_free(NULL);
    assert_false(is_fired);
}

#define WITH_LOOP(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_LOOP(test_loop_timer_set_several_fires_in_order),
        WITH_LOOP(test_loop_timer_set_in_the_past_fires),
        WITH_LOOP(test_loop_timer_set_never_stops_it),
        WITH_LOOP(test_loop_timer_set_in_its_own_callback_fires_again),
        WITH_LOOP(test_loop_watch_fd_reports_until_all_is_read),
        WITH_LOOP(test_loop_watch_fd_goes_on_after_a_socket_error),
        WITH_LOOP(test_loop_watch_signal_raised_is_reported),
        WITH_LOOP(test_loop_watch_signal_impossible_fails),
        WITH_LOOP(test_loop_watch_turn_runs_every_turn),
        WITH_LOOP(test_loop_work_start_runs_elsewhere_one_at_a_time),
        WITH_LOOP(test_loop_work_free_never_started_ends_its_thread),
        cmocka_unit_test(test_loop_now_is_boottime),
        cmocka_unit_test(test_loop_free_with_stop_pending),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
