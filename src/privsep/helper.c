/*
 * One thread carries out commands, one after the other, and tells the engine when somebody touched the kernel's table; the
 * other answers questions, so that the engine's loop never waits for a long command. They share the guard, under a lock.
 *
 * Whatever goes wrong with a message ends the process: the engine is then not what it was.
 */

#include "privsep/helper.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "privsep/channel.h"
#include "privsep/confine.h"
#include "privsep/guard.h"
#include "privsep/message.h"

struct helper {
    const struct privsep_options *options;
    struct helper_channels channels;
    struct nat *nat;
    int watch_fd;      /* -1: nobody asked to watch */
    sem_t thread_runs; /* the thread for questions, past what the C library does first in it */
    pthread_mutex_t guard_lock;
    struct guard guard;
    struct privsep_policy policy_read; /* at a reload, before it is taken */
    uint8_t message[CHANNEL_MESSAGE_SIZE];
};

/* What a command carries: either of the lists, the other is NULL. */
struct items {
    struct change *changes;
    struct mapping_record *records;
    size_t n_items, n_allocated;
};

_Noreturn static void end(int error)
{
    if (error == -EPIPE)
        _exit(HELPER_EXIT_ENGINE_GONE);
    _exit(error == -EBADMSG || error == -EMSGSIZE ? HELPER_EXIT_BAD_MESSAGE : HELPER_EXIT_FAILED);
}

static int answer(int fd, const struct message_verdict *verdict)
{
    uint8_t data[64];
    struct writer writer = writer_init(data, sizeof(data));
    writer_u8(&writer, MESSAGE_VERDICT);
    message_put_verdict(&writer, verdict);
    return channel_send(fd, data, writer_position(&writer));
}

static int receive(int fd, uint8_t *buffer, struct reader *ret_reader)
{
    ssize_t n = channel_receive(fd, buffer);
    if (n < 0)
        return (int) n;
    *ret_reader = reader_init(buffer, (size_t) n);
    return 0;
}

/* ---- what a command carries */

static void free_items(struct items *items)
{
    for (size_t i = 0; items->changes && i < items->n_items; i++) {
        mapping_filters_unref(items->changes[i].before.filters);
        mapping_filters_unref(items->changes[i].after.filters);
    }
    for (size_t i = 0; items->records && i < items->n_items; i++)
        mapping_filters_unref(items->records[i].filters);
    free(items->changes);
    free(items->records);
}

/* Room grows with what arrives, not with what is announced. */
static int reserve(struct items *items, bool are_changes)
{
    size_t n = items->n_allocated ? 2 * items->n_allocated : 64;
    void *list;
    if (items->n_items < items->n_allocated)
        return 0;
    if (are_changes)
        list = items->changes = reallocarray(items->changes, n, sizeof(*items->changes));
    else
        list = items->records = reallocarray(items->records, n, sizeof(*items->records));
    if (!list)
        return -ENOMEM; /* the process ends */
    items->n_allocated = n;
    return 0;
}

static int read_item(struct reader *reader, struct items *items, bool are_changes)
{
    int r = reserve(items, are_changes);
    if (r < 0)
        return r;
    if (are_changes)
        message_get_change(reader, &items->changes[items->n_items++]);
    else
        message_get_record(reader, &items->records[items->n_items++]);
    return reader_failed(reader) ? -EBADMSG : 0;
}

/* The rest of the command's first message, and as many more as it takes. */
static int read_items(struct helper *helper, struct reader *reader, size_t n_items,
                      bool are_changes, struct items *items)
{
    int r = 0;
    while (r == 0 && reader_remaining(reader) > 0 && items->n_items < n_items)
        r = read_item(reader, items, are_changes);
    while (r == 0 && items->n_items < n_items) {
        r = receive(helper->channels.commands, helper->message, reader);
        if (r < 0)
            return r;
        if (reader_u8(reader) != MESSAGE_ITEMS || reader_remaining(reader) == 0)
            return -EBADMSG;
        while (r == 0 && reader_remaining(reader) > 0 && items->n_items < n_items)
            r = read_item(reader, items, are_changes);
    }
    return r == 0 && !message_is_whole(reader) ? -EBADMSG : r;
}

static int read_count(struct helper *helper, struct reader *reader, uint64_t *ret_now_ns,
                      size_t *ret_n)
{
    *ret_now_ns = reader_u64(reader);
    *ret_n = reader_u32(reader);
    pthread_mutex_lock(&helper->guard_lock);
    size_t n_max = guard_n_items_max(&helper->guard);
    pthread_mutex_unlock(&helper->guard_lock);
    return reader_failed(reader) || *ret_n > n_max ? -EBADMSG : 0;
}

/* ---- commands */

static int judge_changes(struct helper *helper, const struct items *items, uint64_t now_ns)
{
    enum guard_verdict verdict = GUARD_VERDICT_PERMITTED;
    pthread_mutex_lock(&helper->guard_lock);
    for (size_t i = 0; i < items->n_items && verdict == GUARD_VERDICT_PERMITTED; i++)
        if (items->changes[i].has_after)
            verdict = guard_judge_record(&helper->guard, &items->changes[i].after, now_ns);
    pthread_mutex_unlock(&helper->guard_lock);
    switch (verdict) {
    case GUARD_VERDICT_PERMITTED:
        return 0;
    case GUARD_VERDICT_FORBIDDEN:
        return -EACCES;
    case GUARD_VERDICT_NOT_HERE:
        return -EADDRNOTAVAIL;
    }
    return -EACCES;
}

static int apply(struct helper *helper, struct reader *reader, int *ret_error)
{
    struct items items = {0};
    uint64_t now_ns;
    size_t n_changes;
    int r = read_count(helper, reader, &now_ns, &n_changes);
    if (r == 0)
        r = read_items(helper, reader, n_changes, true, &items);
    if (r < 0)
        return r;
    *ret_error = judge_changes(helper, &items, now_ns);
    if (*ret_error == 0)
        *ret_error = nat_apply(helper->nat, items.changes, items.n_items, now_ns);
    free_items(&items);
    return 0;
}

/* Those that are forbidden become nothing; the rest is done. */
static int blank_forbidden_cuts(struct helper *helper, struct items *items)
{
    int error = 0;
    pthread_mutex_lock(&helper->guard_lock);
    for (size_t i = 0; i < items->n_items; i++) {
        struct change *change = &items->changes[i];
        if (!change->had_before || guard_permits_cut(&helper->guard, &change->before))
            continue;
        change->before.state = MAPPING_STATE_HELD;
        change->has_after = false;
        error = -EACCES;
    }
    pthread_mutex_unlock(&helper->guard_lock);
    return error;
}

static int cut_flows(struct helper *helper, struct reader *reader, int *ret_error)
{
    struct items items = {0};
    uint64_t now_ns;
    size_t n_changes;
    int r = read_count(helper, reader, &now_ns, &n_changes);
    if (r == 0)
        r = read_items(helper, reader, n_changes, true, &items);
    if (r < 0)
        return r;
    int forbidden = blank_forbidden_cuts(helper, &items);
    *ret_error = nat_cut_flows(helper->nat, items.changes, items.n_items);
    if (*ret_error == 0)
        *ret_error = forbidden;
    free_items(&items);
    return 0;
}

/*
 * Points at the records that are to be in the kernel. One whose external address is not on this machine is left out: it
 * comes with the reconcile that follows the address.
 */
static int select_records(struct helper *helper, const struct items *items, uint64_t now_ns,
                          const struct mapping_record **ret_selected, size_t *ret_n)
{
    int error = 0;
    size_t n = 0;
    pthread_mutex_lock(&helper->guard_lock);
    for (size_t i = 0; i < items->n_items && error == 0; i++) {
        switch (guard_judge_record(&helper->guard, &items->records[i], now_ns)) {
        case GUARD_VERDICT_PERMITTED:
            ret_selected[n++] = &items->records[i];
            break;
        case GUARD_VERDICT_FORBIDDEN:
            error = -EACCES;
            break;
        case GUARD_VERDICT_NOT_HERE:
            break;
        }
    }
    pthread_mutex_unlock(&helper->guard_lock);
    *ret_n = n;
    return error;
}

static int reconcile_with(struct helper *helper, const struct nat_settings *settings,
                          const struct items *items, uint64_t now_ns)
{
    const struct mapping_record **selected =
        reallocarray(NULL, items->n_items + 1, sizeof(const struct mapping_record *));
    size_t n_selected;
    if (!selected)
        return -ENOMEM;
    pthread_mutex_lock(&helper->guard_lock);
    bool is_permitted = guard_permits_settings(&helper->guard, settings);
    pthread_mutex_unlock(&helper->guard_lock);
    int r = is_permitted ? select_records(helper, items, now_ns, selected, &n_selected) : -EACCES;
    if (r == 0)
        r = nat_reconcile(helper->nat, settings, selected, n_selected, now_ns);
    free(selected);
    return r;
}

static int reconcile(struct helper *helper, struct reader *reader, int *ret_error)
{
    struct items items = {0};
    struct nat_settings settings;
    uint64_t now_ns;
    size_t n_records;
    message_get_settings(reader, &settings);
    int r = read_count(helper, reader, &now_ns, &n_records);
    if (r == 0)
        r = read_items(helper, reader, n_records, false, &items);
    if (r < 0)
        return r;
    *ret_error = reconcile_with(helper, &settings, &items, now_ns);
    free_items(&items);
    return 0;
}

static int watch(struct helper *helper)
{
    return helper->watch_fd < 0 ? nat_watch(helper->nat, &helper->watch_fd) : 0;
}

/* An error returned is the end. */
static int carry_out(struct helper *helper, struct reader *reader, int *ret_error)
{
    uint8_t type = reader_u8(reader);
    if (type == MESSAGE_APPLY)
        return apply(helper, reader, ret_error);
    if (type == MESSAGE_CUT_FLOWS)
        return cut_flows(helper, reader, ret_error);
    if (type == MESSAGE_RECONCILE)
        return reconcile(helper, reader, ret_error);
    if (!message_is_whole(reader) || (type != MESSAGE_REMOVE_ALL && type != MESSAGE_WATCH))
        return -EBADMSG;
    *ret_error = type == MESSAGE_WATCH ? watch(helper) : nat_remove_all(helper->nat);
    return 0;
}

static int serve_command(struct helper *helper)
{
    struct reader reader;
    struct message_verdict verdict = {0};
    int r = receive(helper->channels.commands, helper->message, &reader);
    if (r == 0)
        r = carry_out(helper, &reader, &verdict.error);
    return r < 0 ? r : answer(helper->channels.commands, &verdict);
}

/* If the engine has not yet read the last news, it need not have these. */
static void tell_news(struct helper *helper)
{
    static const uint8_t touched = MESSAGE_TOUCHED;
    if (nat_was_touched(helper->nat))
        (void) send(helper->channels.news, &touched, sizeof(touched), MSG_DONTWAIT | MSG_NOSIGNAL);
}

_Noreturn static void serve_commands(struct helper *helper)
{
    for (;;) {
        struct pollfd polled[2] = {{.fd = helper->channels.commands, .events = POLLIN},
                                   {.fd = helper->watch_fd, .events = POLLIN}};
        int r = poll(polled, 2, -1);
        if (r < 0 && errno != EINTR)
            end(-errno);
        if (r <= 0)
            continue;
        if (polled[1].revents)
            tell_news(helper);
        r = polled[0].revents ? serve_command(helper) : 0;
        if (r < 0)
            end(r);
    }
}

/* ---- questions */

static int find_flow(struct helper *helper, struct reader *reader, struct message_verdict *verdict)
{
    struct message_flow flow;
    message_get_flow(reader, &flow);
    if (!message_is_whole(reader))
        return -EBADMSG;
    pthread_mutex_lock(&helper->guard_lock);
    bool is_permitted = guard_permits_flow(&helper->guard, &flow);
    pthread_mutex_unlock(&helper->guard_lock);
    struct endpoint external = {0};
    verdict->error = is_permitted ? nat_find_flow(helper->nat, flow.protocol, &flow.internal,
                                                  &flow.remote, &external)
                                  : -EACCES;
    if (verdict->error == 0)
        verdict->external = external;
    return 0;
}

static int reload(struct helper *helper)
{
    const struct privsep_options *options = helper->options;
    int r = guard_check_file(options->config_path);
    if (r == 0)
        r = options->read_policy(options->config_path, &helper->policy_read);
    if (r < 0)
        return r;
    pthread_mutex_lock(&helper->guard_lock);
    guard_change_policy(&helper->guard, &helper->policy_read);
    pthread_mutex_unlock(&helper->guard_lock);
    return 0;
}

static int serve_question(struct helper *helper, uint8_t *buffer)
{
    struct reader reader;
    struct message_verdict verdict = {0};
    int r = receive(helper->channels.questions, buffer, &reader);
    if (r < 0)
        return r;
    uint8_t type = reader_u8(&reader);
    if (type == MESSAGE_FIND_FLOW)
        r = find_flow(helper, &reader, &verdict);
    else if (type == MESSAGE_RELOAD && message_is_whole(&reader))
        verdict.error = reload(helper);
    else
        r = -EBADMSG;
    return r < 0 ? r : answer(helper->channels.questions, &verdict);
}

_Noreturn static void *serve_questions(void *context)
{
    struct helper *helper = context;
    uint8_t buffer[CHANNEL_MESSAGE_SIZE];
    sem_post(&helper->thread_runs);
    for (;;) {
        int r = serve_question(helper, buffer);
        if (r < 0)
            end(r);
    }
}

/* ---- becoming the helper */

static int compare_numbers(const void *a, const void *b)
{
    int left = *(const int *) a, right = *(const int *) b;
    return (left > right) - (left < right);
}

/* Whatever is printed must not end in a socket that happens to have the number. */
static void close_standard_streams(void)
{
    int fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (fd < 0 || dup2(fd, STDIN_FILENO) < 0 || dup2(fd, STDOUT_FILENO) < 0)
        end(-errno);
    if (fd > STDERR_FILENO)
        close(fd);
}

static void close_others(const struct helper_channels *channels, int lock_fd)
{
    int kept[] = {STDIN_FILENO,        STDOUT_FILENO,  STDERR_FILENO, channels->commands,
                  channels->questions, channels->news, lock_fd};
    unsigned int first = 0;
    qsort(kept, N_ELEMENTS(kept), sizeof(kept[0]), compare_numbers);
    for (size_t i = 0; i < N_ELEMENTS(kept); i++) {
        if ((unsigned int) kept[i] > first)
            (void) syscall(SYS_close_range, first, kept[i] - 1, 0);
        first = (unsigned int) kept[i] + 1;
    }
    (void) syscall(SYS_close_range, first, ~0U, 0);
}

/* Those meant for the engine reach its whole group; the helper is needed until the engine has ended. */
static void ignore_signals(void)
{
    static const int ignored[] = {SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGPIPE, SIGUSR1, SIGUSR2};
    for (size_t i = 0; i < N_ELEMENTS(ignored); i++)
        signal(ignored[i], SIG_IGN);
}

/* A change of user forgets the first, so it comes after. */
static void die_with(pid_t parent)
{
    if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0)
        end(-errno);
    if (getppid() != parent)
        end(-EPIPE);
}

static int start_thread(struct helper *helper)
{
    pthread_t thread;
    if (sem_init(&helper->thread_runs, 0, 0) < 0)
        return -errno;
    int r = -pthread_create(&thread, NULL, serve_questions, helper);
    if (r < 0)
        return r;
    while (sem_wait(&helper->thread_runs) < 0)
        ;
    return -pthread_detach(thread);
}

static void prepare(struct helper *helper, pid_t parent, struct message_ready *ready)
{
    const struct privsep_options *options = helper->options;
    *ready = (struct message_ready){.stage = MESSAGE_STAGE_PRIVILEGES};
    ready->error = confine_to_net_admin(&options->user);
    if (ready->error < 0)
        return;
    die_with(parent);
    ready->stage = MESSAGE_STAGE_NAT;
    ready->error = options->open_nat(&helper->nat);
    if (ready->error < 0)
        return;
    ready->stage = MESSAGE_STAGE_FILES;
    ready->error = confine_to_folder_of(options->config_path);
    if (ready->error < 0)
        return;
    ready->stage = MESSAGE_STAGE_THREAD;
    ready->error = start_thread(helper);
    if (ready->error < 0)
        return;
    ready->stage = MESSAGE_STAGE_SYSTEM_CALLS;
    ready->error = confine_helper_calls();
    if (ready->error == 0)
        ready->stage = MESSAGE_STAGE_DONE;
}

void helper_run(const struct privsep_options *options, const struct helper_channels *channels,
                int lock_fd, pid_t parent)
{
    static struct helper helper; /* large, and there is one per process */
    helper = (struct helper){.options = options,
                             .channels = *channels,
                             .watch_fd = -1,
                             .guard_lock = PTHREAD_MUTEX_INITIALIZER};
    struct message_ready ready;
    uint8_t data[16];
    struct writer writer = writer_init(data, sizeof(data));

    close_standard_streams();
    close_others(channels, lock_fd);
    ignore_signals();
    (void) prctl(PR_SET_NAME, "holdfastd-nat", 0, 0, 0);
    guard_init(&helper.guard, options->policy);
    prepare(&helper, parent, &ready);
    writer_u8(&writer, MESSAGE_READY);
    message_put_ready(&writer, &ready);
    if (channel_send(channels->commands, data, writer_position(&writer)) < 0)
        end(-EPIPE);
    if (ready.error < 0)
        _exit(HELPER_EXIT_NOT_READY);
    serve_commands(&helper);
}
