/*
 * The engine's side: a struct nat whose operations are messages. Once the helper is gone every operation fails, with
 * -EPIPE; nobody starts another, as who could would have to be privileged.
 */

#include "privsep/privsep.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/time.h"
#include "privsep/channel.h"
#include "privsep/helper.h"
#include "privsep/message.h"

#define LOCK_TRIES 500
#define LOCK_PAUSE_NS (10 * NS_PER_MS)
/* A question is a look-up or the reading of a file; without an answer by then the helper is taken for dead. */
#define QUESTION_DEADLINE_S 10

struct remote {
    struct nat nat;
    struct helper_channels channels;
    pid_t pid; /* 0: it was waited for */
    int status;
    atomic_bool has_ended;
    uint8_t message[CHANNEL_MESSAGE_SIZE]; /* of commands */
};

static struct remote *remote_of(struct nat *nat)
{
    return CONTAINER_OF(nat, struct remote, nat);
}

static int note_end(struct remote *remote, int error)
{
    atomic_store(&remote->has_ended, true);
    /* The helper sees it too, whatever made us give up on it, and ends. */
    (void) shutdown(remote->channels.commands, SHUT_RDWR);
    (void) shutdown(remote->channels.questions, SHUT_RDWR);
    return error;
}

/* ---- exchanges */

static int send_message(struct remote *remote, int fd, const struct writer *writer)
{
    if (writer_failed(writer))
        return -EINVAL;
    int r = channel_send(fd, writer->data, writer_position(writer));
    return r < 0 ? note_end(remote, -EPIPE) : 0;
}

static int receive_verdict(struct remote *remote, int fd, struct message_verdict *ret_verdict)
{
    uint8_t data[CHANNEL_MESSAGE_SIZE];
    ssize_t n = channel_receive(fd, data);
    if (n < 0)
        return note_end(remote, -EPIPE);
    struct reader reader = reader_init(data, (size_t) n);
    uint8_t type = reader_u8(&reader);
    message_get_verdict(&reader, ret_verdict);
    if (type != MESSAGE_VERDICT || !message_is_whole(&reader))
        return note_end(remote, -EPIPE);
    return ret_verdict->error;
}

static struct writer begin(struct remote *remote, enum message_type type)
{
    struct writer writer = writer_init(remote->message, sizeof(remote->message));
    writer_u8(&writer, (uint8_t) type);
    return writer;
}

/* Sends what there is when the next item might not fit any more. */
static int make_room(struct remote *remote, struct writer *writer)
{
    if (writer->size_bytes - writer->position >= MESSAGE_ITEM_SIZE_MAX)
        return 0;
    int r = send_message(remote, remote->channels.commands, writer);
    *writer = begin(remote, MESSAGE_ITEMS);
    return r;
}

static int finish(struct remote *remote, const struct writer *writer)
{
    struct message_verdict verdict;
    int r = send_message(remote, remote->channels.commands, writer);
    return r < 0 ? r : receive_verdict(remote, remote->channels.commands, &verdict);
}

/* ---- operations */

static int send_changes(struct remote *remote, enum message_type type, const struct change *changes,
                        size_t n_changes, uint64_t now_ns)
{
    struct writer writer = begin(remote, type);
    if (n_changes > UINT32_MAX)
        return -E2BIG;
    writer_u64(&writer, now_ns);
    writer_u32(&writer, (uint32_t) n_changes);
    for (size_t i = 0; i < n_changes; i++) {
        int r = make_room(remote, &writer);
        if (r < 0)
            return r;
        message_put_change(&writer, &changes[i]);
    }
    return finish(remote, &writer);
}

static int apply(struct nat *nat, const struct change *changes, size_t n_changes, uint64_t now_ns)
{
    return send_changes(remote_of(nat), MESSAGE_APPLY, changes, n_changes, now_ns);
}

static int cut_flows(struct nat *nat, const struct change *changes, size_t n_changes)
{
    return send_changes(remote_of(nat), MESSAGE_CUT_FLOWS, changes, n_changes, 0);
}

static int reconcile(struct nat *nat, const struct nat_settings *settings,
                     const struct mapping_record *const *records, size_t n_records, uint64_t now_ns)
{
    struct remote *remote = remote_of(nat);
    struct writer writer = begin(remote, MESSAGE_RECONCILE);
    if (n_records > UINT32_MAX)
        return -E2BIG;
    message_put_settings(&writer, settings);
    writer_u64(&writer, now_ns);
    writer_u32(&writer, (uint32_t) n_records);
    for (size_t i = 0; i < n_records; i++) {
        int r = make_room(remote, &writer);
        if (r < 0)
            return r;
        message_put_record(&writer, records[i]);
    }
    return finish(remote, &writer);
}

static int remove_all(struct nat *nat)
{
    struct remote *remote = remote_of(nat);
    struct writer writer = begin(remote, MESSAGE_REMOVE_ALL);
    return finish(remote, &writer);
}

static int watch(struct nat *nat, int *ret_fd)
{
    struct remote *remote = remote_of(nat);
    struct writer writer = begin(remote, MESSAGE_WATCH);
    int r = finish(remote, &writer);
    if (r == 0)
        *ret_fd = remote->channels.news;
    return r;
}

static bool was_touched(struct nat *nat)
{
    struct remote *remote = remote_of(nat);
    uint8_t data[CHANNEL_MESSAGE_SIZE];
    bool touched = false;
    for (;;) {
        ssize_t n = channel_receive(remote->channels.news, data);
        if (n == -EAGAIN)
            return touched;
        if (n != 1 || data[0] != MESSAGE_TOUCHED) {
            (void) note_end(remote, -EPIPE);
            return touched;
        }
        touched = true;
    }
}

static int find_flow(struct nat *nat, uint8_t protocol, const struct endpoint *internal,
                     const struct endpoint *remote_end, struct endpoint *ret_external)
{
    struct remote *remote = remote_of(nat);
    struct message_flow flow = {.protocol = protocol, .internal = *internal, .remote = *remote_end};
    struct message_verdict verdict;
    uint8_t data[64];
    struct writer writer = writer_init(data, sizeof(data));
    writer_u8(&writer, MESSAGE_FIND_FLOW);
    message_put_flow(&writer, &flow);
    int r = send_message(remote, remote->channels.questions, &writer);
    if (r == 0)
        r = receive_verdict(remote, remote->channels.questions, &verdict);
    if (r == 0)
        *ret_external = verdict.external;
    return r;
}

int privsep_reload(struct nat *nat)
{
    struct remote *remote = remote_of(nat);
    struct message_verdict verdict;
    uint8_t data[1];
    struct writer writer = writer_init(data, sizeof(data));
    writer_u8(&writer, MESSAGE_RELOAD);
    int r = send_message(remote, remote->channels.questions, &writer);
    return r < 0 ? r : receive_verdict(remote, remote->channels.questions, &verdict);
}

bool privsep_has_ended(const struct nat *nat)
{
    const struct remote *remote =
        (const struct remote *) ((const char *) nat - offsetof(struct remote, nat));
    return atomic_load(&remote->has_ended);
}

/* ---- the end */

static void wait_for_end(struct remote *remote)
{
    pid_t pid = -1;
    while (remote->pid > 0 && pid < 0) {
        pid = waitpid(remote->pid, &remote->status, 0);
        if (pid < 0 && errno != EINTR)
            break;
    }
    remote->pid = 0;
}

const char *privsep_describe_end(struct nat *nat, char *ret_text)
{
    struct remote *remote = remote_of(nat);
    (void) note_end(remote, -EPIPE);
    wait_for_end(remote);
    const char *what = "it failed";
    if (WIFSIGNALED(remote->status)) {
        snprintf(ret_text, PRIVSEP_END_TEXT_SIZE, "ended by signal %d (%s)",
                 WTERMSIG(remote->status), strsignal(WTERMSIG(remote->status)));
        return ret_text;
    }
    if (WEXITSTATUS(remote->status) == HELPER_EXIT_BAD_MESSAGE)
        what = "it was sent a message that means nothing";
    else if (WEXITSTATUS(remote->status) == HELPER_EXIT_ENGINE_GONE)
        what = "the channel to it was closed";
    snprintf(ret_text, PRIVSEP_END_TEXT_SIZE, "%s", what);
    return ret_text;
}

static void close_channels(const struct helper_channels *channels)
{
    close(channels->commands);
    close(channels->questions);
    close(channels->news);
}

static void close_remote(struct nat *nat)
{
    struct remote *remote = remote_of(nat);
    close_channels(&remote->channels);
    wait_for_end(remote);
    free(remote);
}

static const struct nat_operations operations = {
    .apply = apply,
    .cut_flows = cut_flows,
    .reconcile = reconcile,
    .remove_all = remove_all,
    .find_flow = find_flow,
    .watch = watch,
    .was_touched = was_touched,
    .close = close_remote,
};

/* ---- the start */

static int make_folder_of(const char *path)
{
    char folder[PATH_MAX];
    if (strlen(path) >= sizeof(folder))
        return -ENAMETOOLONG;
    strcpy(folder, path);
    return mkdir(dirname(folder), 0755) < 0 ? -errno : 0;
}

static int open_lock(const char *path)
{
    int flags = O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW;
    int fd = open(path, flags, 0600);
    if (fd < 0 && errno == ENOENT && make_folder_of(path) == 0)
        fd = open(path, flags, 0600);
    return fd < 0 ? -errno : fd;
}

/* The descriptor that holds the lock. */
static int take_lock(const char *path)
{
    const struct timespec pause = {.tv_nsec = LOCK_PAUSE_NS};
    int fd = open_lock(path);
    if (fd < 0)
        return fd;
    for (int i = 0; flock(fd, LOCK_EX | LOCK_NB) < 0; i++) {
        int error = errno == EWOULDBLOCK ? -EBUSY : -errno;
        if (error != -EBUSY || i == LOCK_TRIES) {
            close(fd);
            return error;
        }
        (void) nanosleep(&pause, NULL);
    }
    return fd;
}

static int open_channels(struct helper_channels *ret_ours, struct helper_channels *ret_theirs)
{
    int pairs[3][2];
    for (int i = 0; i < 3; i++) {
        int r = channel_open(pairs[i]);
        if (r == 0)
            continue;
        while (i-- > 0) {
            close(pairs[i][0]);
            close(pairs[i][1]);
        }
        return r;
    }
    *ret_ours = (struct helper_channels){pairs[0][0], pairs[1][0], pairs[2][0]};
    *ret_theirs = (struct helper_channels){pairs[0][1], pairs[1][1], pairs[2][1]};
    return 0;
}

/* The loop must neither block on news nor for long on a question. */
static int set_up_channels(const struct helper_channels *channels)
{
    const struct timeval deadline = {.tv_sec = QUESTION_DEADLINE_S};
    if (fcntl(channels->news, F_SETFL, O_NONBLOCK) < 0 ||
        setsockopt(channels->questions, SOL_SOCKET, SO_RCVTIMEO, &deadline, sizeof(deadline)) < 0)
        return -errno;
    return 0;
}

static const char *describe_stage(enum message_stage stage)
{
    switch (stage) {
    case MESSAGE_STAGE_PRIVILEGES:
        return "the helper could not give up its privileges";
    case MESSAGE_STAGE_NAT:
        return "nftables cannot be used";
    case MESSAGE_STAGE_FILES:
        return "the helper could not give up its files";
    case MESSAGE_STAGE_THREAD:
        return "the helper has no thread for questions";
    case MESSAGE_STAGE_SYSTEM_CALLS:
        return "the helper could not give up system calls";
    case MESSAGE_STAGE_DONE:
        break;
    }
    return "the helper is not ready";
}

static int receive_ready(struct remote *remote, const char **ret_why)
{
    struct message_ready ready = {.stage = MESSAGE_STAGE_DONE};
    ssize_t n = channel_receive(remote->channels.commands, remote->message);
    if (n < 0) {
        *ret_why = "the helper ended before it was ready";
        return (int) n;
    }
    struct reader reader = reader_init(remote->message, (size_t) n);
    bool is_ready = reader_u8(&reader) == MESSAGE_READY;
    message_get_ready(&reader, &ready);
    if (!is_ready || !message_is_whole(&reader))
        ready = (struct message_ready){.stage = MESSAGE_STAGE_DONE, .error = -EPROTO};
    *ret_why = describe_stage(ready.stage);
    return ready.error;
}

static int fork_helper(const struct privsep_options *options, struct remote *remote, int lock_fd)
{
    struct helper_channels theirs;
    pid_t parent = getpid();
    int r = open_channels(&remote->channels, &theirs);
    if (r < 0)
        return r;
    r = set_up_channels(&remote->channels);
    if (r == 0) {
        remote->pid = fork();
        if (remote->pid == 0)
            helper_run(options, &theirs, lock_fd, parent);
        r = remote->pid < 0 ? -errno : 0;
    }
    close_channels(&theirs);
    if (r < 0)
        close_channels(&remote->channels);
    return r;
}

static int start(const struct privsep_options *options, int lock_fd, struct remote *remote,
                 const char **ret_why)
{
    int r = fork_helper(options, remote, lock_fd);
    /* The lock is the helper's alone now: it ends with it, not with us. */
    close(lock_fd);
    if (r < 0) {
        *ret_why = "the helper process cannot be made";
        return r;
    }
    r = receive_ready(remote, ret_why);
    if (r < 0) {
        close_channels(&remote->channels);
        wait_for_end(remote);
    }
    return r;
}

int privsep_start(const struct privsep_options *options, struct nat **ret_nat, const char **ret_why)
{
    int lock_fd = take_lock(options->lock_path);
    if (lock_fd < 0) {
        *ret_why = lock_fd == -EBUSY ? "another holdfastd still has its helper"
                                     : "the lock file of the helper cannot be made";
        return lock_fd;
    }
    struct remote *remote = calloc(1, sizeof(*remote));
    if (!remote) {
        close(lock_fd);
        *ret_why = "out of memory";
        return -ENOMEM;
    }
    remote->nat.operations = &operations;
    int r = start(options, lock_fd, remote, ret_why);
    if (r < 0) {
        free(remote);
        return r;
    }
    *ret_nat = &remote->nat;
    return 0;
}
