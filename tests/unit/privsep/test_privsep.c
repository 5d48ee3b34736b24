#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <pwd.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/time.h"
#include "privsep/confine.h"
#include "privsep/privsep.h"
#include "privsep_fixture.h"

#define NOW_NS (100 * NS_PER_S)
#define DEADLINE_MS 10000

static struct nat *start(const struct fixture *fixture)
{
    struct nat *nat = NULL;
    const char *why = NULL;
    int r = privsep_start(&fixture->options, &nat, &why);
    if (r < 0)
        fail_msg("%s: %s", why, strerror(-r));
    return nat;
}

static int reconcile_nothing(struct nat *nat)
{
    struct nat_settings settings = fixture_settings();
    return nat_reconcile(nat, &settings, NULL, 0, NOW_NS);
}

static struct nat *start_reconciled(const struct fixture *fixture)
{
    struct nat *nat = start(fixture);
    assert_int_equal(reconcile_nothing(nat), 0);
    return nat;
}

static int add(struct nat *nat, const struct mapping_record *record)
{
    struct change change = {.has_after = true, .after = *record};
    return nat_apply(nat, &change, 1, NOW_NS);
}

static size_t n_mappings(const struct fixture *fixture)
{
    return atomic_load(&fixture->shared->n_mappings);
}

static void test_privsep_start_helper_keeps_one_capability(void **state)
{
    const struct fixture *fixture = *state;
    if (!fixture_is_possible())
        skip();
    struct nat *nat = start(fixture);
    assert_int_equal(atomic_load(&fixture->shared->uid), 65534);
    assert_int_equal(atomic_load(&fixture->shared->capabilities), 1ULL << 12);
    nat_close(nat);
}

static void test_privsep_operations_reach_the_nat(void **state)
{
    const struct fixture *fixture = *state;
    struct mapping_filter filter = {.remote = {.length = 128}, .remote_port = 5};
    struct mapping_record record = fixture_record(0);
    if (!fixture_is_possible())
        skip();
    struct nat *nat = start(fixture);
    assert_int_equal(add(nat, &record), -ENOENT);
    assert_int_equal(reconcile_nothing(nat), 0);
    record.filters = mapping_filters_new(&filter, 1);
    assert_int_equal(add(nat, &record), 0);
    assert_int_equal(n_mappings(fixture), 1);
    assert_true(atomic_load(&fixture->shared->tell_filters));
    struct mapping_record rival = record;
    rival.id = 99;
    assert_int_equal(add(nat, &rival), -EEXIST);
    struct change removal = {.had_before = true, .before = record};
    assert_int_equal(nat_cut_flows(nat, &removal, 1), 0);
    assert_int_equal(atomic_load(&fixture->shared->n_cut), 1);
    assert_int_equal(nat_apply(nat, &removal, 1, NOW_NS), 0);
    assert_int_equal(n_mappings(fixture), 0);
    assert_int_equal(nat_remove_all(nat), 0);
    assert_int_equal(atomic_load(&fixture->shared->n_removals), 1);
    assert_int_equal(add(nat, &record), -ENOENT);
    atomic_store(&fixture->shared->fail_next, -ENOSPC);
    assert_int_equal(reconcile_nothing(nat), -ENOSPC);
    mapping_filters_unref(record.filters);
    assert_false(privsep_has_ended(nat));
    nat_close(nat);
}

static void test_privsep_find_flow_is_answered_beside_commands(void **state)
{
    const struct fixture *fixture = *state;
    struct endpoint internal = {.address = ip_address_from_ipv4(0x0a4d0002), .port = 777};
    struct endpoint remote = {.address = ip_address_from_ipv4(0xc6336401), .port = 80};
    struct endpoint external;
    if (!fixture_is_possible())
        skip();
    struct nat *nat = start(fixture);
    assert_int_equal(nat_find_flow(nat, IPPROTO_TCP, &internal, &remote, &external), 0);
    assert_int_equal(external.port, 40777);
    assert_int_equal(nat_find_flow(nat, IPPROTO_UDP, &internal, &remote, &external), -ENOENT);
    internal.address = ip_address_from_ipv4(0x08080808);
    assert_int_equal(nat_find_flow(nat, IPPROTO_TCP, &internal, &remote, &external), -EACCES);
    nat_close(nat);
}

/* The helper has begun with what it was told to do. */
static void wait_for_misdeed(const struct fixture *fixture)
{
    const struct timespec pause = {.tv_nsec = 2 * NS_PER_MS};
    for (int i = 0; i < DEADLINE_MS / 2; i++) {
        if (atomic_load(&fixture->shared->misdeed) == FIXTURE_MISDEED_NONE)
            return;
        nanosleep(&pause, NULL);
    }
    fail_msg("nothing was done");
}

struct long_apply {
    struct nat *nat;
    atomic_int result;
};

static void *apply_for_long(void *context)
{
    struct long_apply *job = context;
    struct mapping_record record = fixture_record(0);
    atomic_store(&job->result, add(job->nat, &record));
    return NULL;
}

static void test_privsep_find_flow_does_not_wait_for_a_command(void **state)
{
    const struct fixture *fixture = *state;
    struct endpoint internal = {.address = ip_address_from_ipv4(0x0a4d0002), .port = 777};
    struct endpoint remote = {.address = ip_address_from_ipv4(0xc6336401), .port = 80};
    struct endpoint external;
    char text[PRIVSEP_END_TEXT_SIZE];
    pthread_t thread;
    if (!fixture_is_possible())
        skip();
    struct long_apply job = {.nat = start_reconciled(fixture), .result = 1};
    atomic_store(&fixture->shared->misdeed, FIXTURE_MISDEED_SLEEP);
    assert_int_equal(pthread_create(&thread, NULL, apply_for_long, &job), 0);
    wait_for_misdeed(fixture);
    assert_int_equal(nat_find_flow(job.nat, IPPROTO_TCP, &internal, &remote, &external), 0);
    assert_int_equal(privsep_reload(job.nat), 0);
    assert_int_equal(atomic_load(&job.result), 1);
    (void) privsep_describe_end(job.nat, text);
    pthread_join(thread, NULL);
    assert_int_equal(atomic_load(&job.result), -EPIPE);
    nat_close(job.nat);
}

static void test_privsep_reconcile_of_100000_records(void **state)
{
    const struct fixture *fixture = *state;
    enum { N = 100000 };
    if (!fixture_is_possible())
        skip();
    struct nat *nat = start(fixture);
    struct nat_settings settings = fixture_settings();
    struct mapping_record *records = calloc(N, sizeof(*records));
    const struct mapping_record **pointers = calloc(N, sizeof(const struct mapping_record *));
    struct change *changes = calloc(N, sizeof(*changes));
    assert_true(records && pointers && changes);
    for (uint32_t i = 0; i < N; i++) {
        records[i] = fixture_record(i);
        pointers[i] = &records[i];
        changes[i] = (struct change){.had_before = true, .before = records[i]};
    }
    assert_int_equal(nat_reconcile(nat, &settings, pointers, N, NOW_NS), 0);
    assert_int_equal(n_mappings(fixture), N);
    assert_int_equal(nat_apply(nat, changes, N, NOW_NS), 0);
    assert_int_equal(n_mappings(fixture), 0);
    free(changes);
    free(pointers);
    free(records);
    nat_close(nat);
}

static void test_privsep_apply_forbidden_changes_nothing(void **state)
{
    const struct fixture *fixture = *state;
    if (!fixture_is_possible())
        skip();
    struct nat *nat = start_reconciled(fixture);
    struct change changes[2] = {{.has_after = true, .after = fixture_record(0)},
                                {.has_after = true, .after = fixture_record(1)}};
    changes[1].after.internal_address = ip_address_from_ipv4(0x08080808);
    assert_int_equal(nat_apply(nat, changes, 2, NOW_NS), -EACCES);
    assert_int_equal(n_mappings(fixture), 0);
    changes[1].after = fixture_record(1);
    changes[1].after.external_address = ip_address_from_ipv4(0x08080808);
    assert_int_equal(nat_apply(nat, changes, 2, NOW_NS), -EADDRNOTAVAIL);
    assert_int_equal(n_mappings(fixture), 0);
    assert_int_equal(add(nat, &changes[0].after), 0);
    nat_close(nat);
}

static void test_privsep_reconcile_forbidden_changes_nothing(void **state)
{
    const struct fixture *fixture = *state;
    struct nat_settings settings = fixture_settings();
    struct mapping_record records[2] = {fixture_record(0), fixture_record(1)};
    const struct mapping_record *pointers[2] = {&records[0], &records[1]};
    if (!fixture_is_possible())
        skip();
    struct nat *nat = start_reconciled(fixture);
    records[1].external_port = 22;
    assert_int_equal(nat_reconcile(nat, &settings, pointers, 2, NOW_NS), -EACCES);
    records[1] = fixture_record(1);
    strcpy(settings.outside_interfaces[0], "eth9");
    assert_int_equal(nat_reconcile(nat, &settings, pointers, 2, NOW_NS), -EACCES);
    assert_int_equal(n_mappings(fixture), 0);
    nat_close(nat);
}

static void test_privsep_reconcile_leaves_out_what_is_not_here(void **state)
{
    const struct fixture *fixture = *state;
    struct nat_settings settings = fixture_settings();
    struct mapping_record records[2] = {fixture_record(0), fixture_record(1)};
    const struct mapping_record *pointers[2] = {&records[0], &records[1]};
    if (!fixture_is_possible())
        skip();
    struct nat *nat = start(fixture);
    records[1].external_address = ip_address_from_ipv4(0xcb007101);
    assert_int_equal(nat_reconcile(nat, &settings, pointers, 2, NOW_NS), 0);
    assert_int_equal(n_mappings(fixture), 1);
    nat_close(nat);
}

static void test_privsep_cut_flows_forbidden_leaves_the_others(void **state)
{
    const struct fixture *fixture = *state;
    if (!fixture_is_possible())
        skip();
    struct nat *nat = start_reconciled(fixture);
    struct change changes[2] = {{.had_before = true, .before = fixture_record(0)},
                                {.had_before = true, .before = fixture_record(1)}};
    changes[1].before.internal_address = ip_address_from_ipv4(0x08080808);
    assert_int_equal(nat_cut_flows(nat, changes, 2), -EACCES);
    assert_int_equal(atomic_load(&fixture->shared->n_cut), 1);
    nat_close(nat);
}

static void test_privsep_reload_takes_the_policy_from_the_file(void **state)
{
    const struct fixture *fixture = *state;
    struct mapping_record record = fixture_record(0), narrow = fixture_record(1);
    if (!fixture_is_possible())
        skip();
    struct nat *nat = start_reconciled(fixture);
    narrow.external_port = 1025;
    assert_int_equal(add(nat, &narrow), -EACCES);
    fixture_write_config(fixture, "1024-1030");
    assert_int_equal(add(nat, &narrow), -EACCES); /* not before it is told */
    assert_int_equal(privsep_reload(nat), 0);
    assert_int_equal(add(nat, &narrow), 0);
    assert_int_equal(add(nat, &record), -EACCES);
    fixture_write_config(fixture, "nonsense");
    assert_int_equal(privsep_reload(nat), -EINVAL);
    fixture_write_config(fixture, "20000-39999");
    assert_int_equal(chmod(fixture->config_path, 0666), 0);
    assert_int_equal(privsep_reload(nat), -EACCES);
    assert_int_equal(add(nat, &record), -EACCES);
    assert_int_equal(chmod(fixture->config_path, 0600), 0);
    assert_int_equal(privsep_reload(nat), -EACCES); /* it is root's, and the helper is not */
    assert_int_equal(chmod(fixture->config_path, 0644), 0);
    assert_int_equal(privsep_reload(nat), 0);
    assert_int_equal(add(nat, &record), 0);
    nat_close(nat);
}

static bool is_readable_in_time(int fd)
{
    struct pollfd polled = {.fd = fd, .events = POLLIN};
    return poll(&polled, 1, DEADLINE_MS) == 1;
}

static void test_privsep_watch_tells_of_touches(void **state)
{
    const struct fixture *fixture = *state;
    int fd;
    if (!fixture_is_possible())
        skip();
    struct nat *nat = start(fixture);
    assert_int_equal(nat_watch(nat, &fd), 0);
    assert_false(nat_was_touched(nat));
    for (int i = 0; i < 3; i++) {
        assert_int_equal(write(fixture->touch_fds[1], "x", 1), 1);
        assert_true(is_readable_in_time(fd));
        assert_true(nat_was_touched(nat));
        assert_false(nat_was_touched(nat));
    }
    assert_false(privsep_has_ended(nat));
    nat_close(nat);
}

/* Whichever process notices first; the engine learns it by the descriptor it watches. */
static void assert_ended_by(struct nat *nat, int fd, const char *expected)
{
    char text[PRIVSEP_END_TEXT_SIZE];
    struct mapping_record record = fixture_record(0);
    assert_true(is_readable_in_time(fd));
    assert_false(nat_was_touched(nat));
    assert_true(privsep_has_ended(nat));
    assert_int_equal(add(nat, &record), -EPIPE);
    assert_int_equal(privsep_reload(nat), -EPIPE);
    assert_non_null(strstr(privsep_describe_end(nat, text), expected));
}

static void test_privsep_has_ended_after_a_forbidden_system_call(void **state)
{
    const struct fixture *fixture = *state;
    static const enum fixture_misdeed misdeeds[] = {FIXTURE_MISDEED_EXECUTE, FIXTURE_MISDEED_WRITE,
                                                    FIXTURE_MISDEED_INTERNET};
    struct mapping_record record = fixture_record(0);
    if (!fixture_is_possible() || CONFINE_SYSTEM_CALLS == 0)
        skip();
    for (size_t i = 0; i < N_ELEMENTS(misdeeds); i++) {
        int fd;
        struct nat *nat = start_reconciled(fixture);
        assert_int_equal(nat_watch(nat, &fd), 0);
        atomic_store(&fixture->shared->misdeed, misdeeds[i]);
        assert_int_equal(add(nat, &record), -EPIPE);
        assert_ended_by(nat, fd, "Bad system call");
        nat_close(nat);
    }
}

static bool has_landlock(void)
{
    return syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION) > 0;
}

static void test_privsep_helper_reads_no_other_files(void **state)
{
    const struct fixture *fixture = *state;
    struct mapping_record record = fixture_record(0);
    if (!fixture_is_possible() || CONFINE_SYSTEM_CALLS == 0 || !has_landlock())
        skip();
    struct nat *nat = start_reconciled(fixture);
    atomic_store(&fixture->shared->misdeed, FIXTURE_MISDEED_READ);
    assert_int_equal(add(nat, &record), -EACCES);
    nat_close(nat);
}

static bool lock_is_free_in_time(const struct fixture *fixture)
{
    const struct timespec pause = {.tv_nsec = 5 * NS_PER_MS};
    bool is_free = false;
    int fd = open(fixture->lock_path, O_RDWR | O_CLOEXEC);
    for (int i = 0; i < DEADLINE_MS / 5 && !is_free; i++) {
        is_free = flock(fd, LOCK_EX | LOCK_NB) == 0;
        nanosleep(&pause, NULL);
    }
    close(fd);
    return is_free;
}

static bool lock_is_taken(const struct fixture *fixture)
{
    int fd = open(fixture->lock_path, O_RDWR | O_CLOEXEC);
    bool is_taken = flock(fd, LOCK_EX | LOCK_NB) < 0;
    close(fd);
    return is_taken;
}

/* An engine in a process of its own, with a command under way, is killed. */
static void test_privsep_engine_death_ends_the_helper(void **state)
{
    const struct fixture *fixture = *state;
    struct mapping_record record = fixture_record(0);
    int status;
    if (!fixture_is_possible())
        skip();
    for (int is_busy = 0; is_busy < 2; is_busy++) {
        atomic_store(&fixture->shared->misdeed,
                     is_busy ? FIXTURE_MISDEED_SLEEP : FIXTURE_MISDEED_WRITE);
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
            struct nat *nat = start_reconciled(fixture);
            if (!is_busy)
                atomic_store(&fixture->shared->misdeed, FIXTURE_MISDEED_NONE);
            else
                (void) !add(nat, &record);
            pause();
            _exit(1);
        }
        wait_for_misdeed(fixture);
        assert_true(lock_is_taken(fixture));
        assert_int_equal(kill(pid, SIGKILL), 0);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(lock_is_free_in_time(fixture));
    }
}

/* Somebody else has the engine's ends of the channels, so that nothing ends there. */
static void test_privsep_engine_death_is_not_learnt_from_channels_only(void **state)
{
    const struct fixture *fixture = *state;
    int fds[2], ready[2], status;
    char octet;
    if (!fixture_is_possible())
        skip();
    assert_int_equal(pipe(fds), 0);
    assert_int_equal(pipe(ready), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        (void) start(fixture);
        close(fds[1]);
        if (fork() > 0) {
            (void) !write(ready[1], "x", 1);
            pause();
        }
        (void) !read(fds[0], &octet, 1);
        _exit(0);
    }
    assert_int_equal(read(ready[0], &octet, 1), 1);
    assert_true(lock_is_taken(fixture));
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(lock_is_free_in_time(fixture));
    for (int i = 0; i < 2; i++) {
        close(fds[i]);
        close(ready[i]);
    }
}

static void test_privsep_start_waits_for_the_lock(void **state)
{
    const struct fixture *fixture = *state;
    const char *why;
    struct nat *other;
    if (!fixture_is_possible())
        skip();
    struct nat *nat = start(fixture);
    assert_int_equal(privsep_start(&fixture->options, &other, &why), -EBUSY);
    assert_non_null(strstr(why, "another"));
    nat_close(nat);
    nat = start(fixture);
    nat_close(nat);
    assert_false(lock_is_taken(fixture));
}

static void test_privsep_start_failure_says_where(void **state)
{
    struct fixture *fixture = *state;
    const char *why;
    struct nat *nat;
    if (!fixture_is_possible())
        skip();
    atomic_store(&fixture->shared->fail_open, -EOPNOTSUPP);
    assert_int_equal(privsep_start(&fixture->options, &nat, &why), -EOPNOTSUPP);
    assert_string_equal(why, "nftables cannot be used");
    assert_false(lock_is_taken(fixture));
    atomic_store(&fixture->shared->fail_open, 0);
    fixture->options.user = (struct privsep_user){0};
    assert_int_equal(privsep_start(&fixture->options, &nat, &why), -EINVAL);
    assert_string_equal(why, "the helper could not give up its privileges");
}

static void test_privsep_find_user_known_and_unknown(void **state)
{
    struct privsep_user user;
    (void) state;
    assert_int_equal(privsep_find_user("root", &user), 0);
    assert_int_equal(user.uid, 0);
    assert_int_equal(privsep_find_user("no-such-user-here", &user), -ENOENT);
}

static void test_privsep_find_spare_user_is_nobodys(void **state)
{
    struct privsep_user user = {0};
    (void) state;
    assert_int_equal(privsep_find_spare_user(&user), 0);
    assert_in_range(user.uid, 1000, 65533);
    assert_int_equal(user.uid, user.gid);
    assert_null(getpwuid(user.uid));
}

/* ---- the engine's own confinement, in a process that does not come back */

static void *idle(void *context)
{
    (void) context;
    pause();
    return NULL;
}

static int confine(const struct privsep_user *user)
{
    int r = privsep_become(user);
    return r < 0 ? r : privsep_confine_calls();
}

static int try_what_is_lost(const struct privsep_user *user)
{
    int pipe_fds[2];
    char octet = 'x';
    pthread_t thread;
    if (pthread_create(&thread, NULL, idle, NULL) != 0)
        return 10;
    if (confine(user) < 0)
        return 11;
    if (getuid() != user->uid || geteuid() != user->uid || getgid() != user->gid)
        return 12;
    if (setuid(0) == 0 || socket(AF_NETLINK, SOCK_RAW, 12) < 0)
        return 13; /* the socket itself is no privilege */
    if (socket(AF_PACKET, SOCK_RAW, 0) >= 0)
        return 14;
    /* What the engine lives by still works, new threads included. */
    if (pipe2(pipe_fds, O_CLOEXEC) < 0 || write(pipe_fds[1], &octet, 1) != 1 ||
        read(pipe_fds[0], &octet, 1) != 1 || pthread_create(&thread, NULL, idle, NULL) != 0)
        return 15;
    if (open("/dev/null", O_RDWR | O_CLOEXEC) < 0 || (CONFINE_SYSTEM_CALLS && fork() >= 0))
        return 16;
    return 0;
}

static uid_t owner_of(const char *path)
{
    struct stat status;
    assert_int_equal(lstat(path, &status), 0);
    return status.st_uid;
}

static void test_privsep_give_folder_with_its_files_once(void **state)
{
    const struct fixture *fixture = *state;
    const struct privsep_user user = {.uid = 60706, .gid = 60706}, other = {.uid = 60707};
    char folder[96], own[128], linked[128], link_to[128];
    if (!fixture_is_possible())
        skip();
    snprintf(folder, sizeof(folder), "%s/state", fixture->folder);
    snprintf(own, sizeof(own), "%s/own", folder);
    snprintf(linked, sizeof(linked), "%s/linked", folder);
    snprintf(link_to, sizeof(link_to), "%s/soft", folder);
    assert_int_equal(privsep_give_folder(folder, &user), 0);
    assert_int_equal(owner_of(folder), user.uid);
    assert_int_equal(privsep_give_folder(folder, &user), 0);
    assert_int_equal(privsep_give_folder(folder, &other), -EACCES);
    assert_int_equal(chown(folder, 0, 0), 0);
    close(open(own, O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
    assert_int_equal(link(fixture->config_path, linked), 0);
    assert_int_equal(symlink(fixture->config_path, link_to), 0);
    assert_int_equal(privsep_give_folder(folder, &user), 0);
    assert_int_equal(owner_of(own), user.uid);
    assert_int_equal(owner_of(linked), 0); /* it is somebody's elsewhere */
    assert_int_equal(owner_of(link_to), 0);
    assert_int_equal(owner_of(fixture->config_path), 0);
    unlink(own);
    unlink(linked);
    unlink(link_to);
    assert_int_equal(rmdir(folder), 0);
}

static int status_of(int (*run)(const struct privsep_user *user))
{
    const struct privsep_user nobody = {.uid = 65534, .gid = 65534};
    int status;
    pid_t pid = fork();
    if (pid == 0)
        _exit(run(&nobody));
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

static int try_to_execute(const struct privsep_user *user)
{
    char *const arguments[] = {(char *) "true", NULL};
    if (confine(user) < 0)
        return 11;
    execv("/bin/true", arguments);
    return 17;
}

static int try_as_root(const struct privsep_user *user)
{
    const struct privsep_user root = {0};
    (void) user;
    return privsep_become(&root) == -EINVAL ? 0 : 18;
}

static void test_privsep_become_keeps_nothing(void **state)
{
    (void) state;
    if (!fixture_is_possible())
        skip();
    assert_int_equal(status_of(try_what_is_lost), 0);
    assert_int_equal(status_of(try_as_root), 0);
    if (CONFINE_SYSTEM_CALLS)
        assert_int_equal(status_of(try_to_execute), -SIGSYS);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_set_up, fixture_tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_privsep_start_helper_keeps_one_capability),
        TEST(test_privsep_operations_reach_the_nat),
        TEST(test_privsep_find_flow_is_answered_beside_commands),
        TEST(test_privsep_find_flow_does_not_wait_for_a_command),
        TEST(test_privsep_reconcile_of_100000_records),
        TEST(test_privsep_apply_forbidden_changes_nothing),
        TEST(test_privsep_reconcile_forbidden_changes_nothing),
        TEST(test_privsep_reconcile_leaves_out_what_is_not_here),
        TEST(test_privsep_cut_flows_forbidden_leaves_the_others),
        TEST(test_privsep_reload_takes_the_policy_from_the_file),
        TEST(test_privsep_watch_tells_of_touches),
        TEST(test_privsep_has_ended_after_a_forbidden_system_call),
        TEST(test_privsep_helper_reads_no_other_files),
        TEST(test_privsep_engine_death_ends_the_helper),
        TEST(test_privsep_engine_death_is_not_learnt_from_channels_only),
        TEST(test_privsep_start_waits_for_the_lock),
        TEST(test_privsep_start_failure_says_where),
        TEST(test_privsep_find_user_known_and_unknown),
        TEST(test_privsep_find_spare_user_is_nobodys),
        TEST(test_privsep_give_folder_with_its_files_once),
        TEST(test_privsep_become_keeps_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
