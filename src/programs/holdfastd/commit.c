/*
 * Between deciding and answering: the worker thread writes a tick to the store and then to the kernel, and only then are
 * its answers released. One job at a time; while it runs the loop decides the next tick.
 *
 * When the kernel refuses although it has room, its state is not what we think (a foreign flush, say): the whole of it is
 * made equal to the table, which includes the tick, and if that works the tick is through.
 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/time.h"
#include "programs/holdfastd/daemon.h"

/* Pause after a reconcile that failed. */
#define RECONCILE_PAUSE_NS NS_PER_S
/* What has to be repeated (reconciling against somebody who keeps flushing, ending flows) may take a tenth of the time. */
#define REPEAT_SHARE 10
/* How often an idle daemon writes the clock record, which bounds what a reboot can misjudge. */
#define STAMP_INTERVAL_NS (300 * NS_PER_S)

static void fill_clock(const struct daemon *daemon, struct store_clock *clock)
{
    struct machine_clocks clocks;
    memcpy(clock->boot_id, daemon->boot_id, sizeof(clock->boot_id));
    if (machine_read_clocks(&clocks) < 0)
        clocks = (struct machine_clocks){.boottime_ns = loop_now_ns()};
    clock->boottime_ns = clocks.boottime_ns;
    clock->wall_ns = clocks.wall_ns;
    clock->service_ns = service_clock_now_ns(&daemon->clock, clocks.boottime_ns);
}

static void run_commit(struct daemon *daemon)
{
    struct job *job = &daemon->job;
    job->kernel_error = 0;
    fill_clock(daemon, &job->commit.clock);
    job->commit.store.clock = &job->commit.clock;
    job->store_error = store_commit(daemon->store, &job->commit.store);
    if (job->store_error < 0) {
        job->outcome = SERVER_OUTCOME_STORE_FAILED;
        return;
    }
    if (job->commit.n_changes > 0)
        job->kernel_error = nat_apply(daemon->nat, job->commit.changes, job->commit.n_changes,
                                      daemon_now_ns(daemon));
    if (job->kernel_error == 0)
        job->outcome = SERVER_OUTCOME_DONE;
    else
        job->outcome = job->kernel_error == -ENOSPC ? SERVER_OUTCOME_KERNEL_FULL
                                                    : SERVER_OUTCOME_KERNEL_FAILED;
}

void commit_work(void *context)
{
    struct daemon *daemon = context;
    if (daemon->job.kind == JOB_COMMIT)
        run_commit(daemon);
    else
        daemon->job.kernel_error =
            nat_cut_flows(daemon->nat, daemon->job.cut.items, daemon->job.cut.n_items);
}

static bool ends_flows(const struct change *change)
{
    if (!change->had_before || change->before.state != MAPPING_STATE_LIVE)
        return false;
    return !change->has_after || change->after.state != MAPPING_STATE_LIVE ||
           change->after.external_port != change->before.external_port ||
           !ip_address_equal(&change->after.external_address, &change->before.external_address);
}

/* Without memory to remember them the ruleset alone stops those flows. */
static void remember_cuts(struct daemon *daemon, const struct server_commit *commit)
{
    for (size_t i = 0; i < commit->n_changes; i++)
        if (ends_flows(&commit->changes[i]) &&
            change_set_append(&daemon->to_cut, &commit->changes[i].before, NULL) < 0)
            log_message(LOG_LEVEL_WARNING,
                        "out of memory: flows of a removed mapping end with its kernel timeout");
}

struct record_list {
    const struct mapping_record **items;
    size_t n_items, n_allocated;
};

static int collect_live(void *context, const struct mapping_record *record)
{
    struct record_list *list = context;
    if (record->state != MAPPING_STATE_LIVE)
        return 0;
    if (list->n_items == list->n_allocated) {
        size_t n = list->n_allocated ? list->n_allocated * 2 : 1024;
        const struct mapping_record **items =
            reallocarray(list->items, n, sizeof(struct mapping_record *));
        if (!items)
            return -ENOMEM;
        list->items = items;
        list->n_allocated = n;
    }
    list->items[list->n_items++] = record;
    return 0;
}

int commit_reconcile(struct daemon *daemon)
{
    struct record_list list = {0};
    uint64_t begin_ns = loop_now_ns();
    int r = server_for_each_mapping(daemon->server, collect_live, &list);
    if (r == 0)
        r = nat_reconcile(daemon->nat, &daemon->nat_settings, list.items, list.n_items,
                          daemon_now_ns(daemon));
    free(list.items);
    uint64_t end_ns = loop_now_ns();
    daemon->n_reconciles++;
    daemon->reconcile_wanted = r < 0;
    daemon->reconcile_not_before_ns =
        end_ns + (r < 0 ? RECONCILE_PAUSE_NS : REPEAT_SHARE * (end_ns - begin_ns));
    if (r < 0) {
        daemon->n_kernel_failures++;
        log_event(LOG_LEVEL_ERROR, "the kernel could not be made equal to the table", "error",
                  strerror(-r), NULL);
    }
    return r;
}

static void repair_kernel(struct daemon *daemon)
{
    struct job *job = &daemon->job;
    daemon->n_kernel_failures++;
    if (loop_now_ns() < daemon->reconcile_not_before_ns) {
        daemon->reconcile_wanted = true;
        return;
    }
    log_event(LOG_LEVEL_WARNING, "the kernel refused a change: its table is made anew", "error",
              strerror(-job->kernel_error), NULL);
    daemon->reconcile_wanted = commit_reconcile(daemon) < 0;
    if (!daemon->reconcile_wanted)
        job->outcome = SERVER_OUTCOME_DONE;
}

static void finish_commit(struct daemon *daemon)
{
    struct job *job = &daemon->job;
    if (job->outcome == SERVER_OUTCOME_KERNEL_FAILED)
        repair_kernel(daemon);

    bool done = job->outcome == SERVER_OUTCOME_DONE;
    daemon->n_store_commits += job->store_error == 0;
    daemon->n_store_failures += job->store_error < 0;
    if (done) {
        remember_cuts(daemon, &job->commit);
        report_changes(daemon, job->commit.changes, job->commit.n_changes);
        daemon->stamp_at_ns = loop_now_ns() + STAMP_INTERVAL_NS;
    } else {
        /* A reconcile may have shown the kernel a tick that is taken back now. */
        daemon->reconcile_wanted = true;
        report_commit_failure(daemon, job);
    }
    uint64_t tick = job->commit.tick;
    server_complete(daemon->server, daemon_now_ns(daemon), job->outcome);
    control_methods_complete(daemon, tick, done);
}

static void finish_cut(struct daemon *daemon)
{
    if (daemon->job.kernel_error < 0)
        log_event(
            LOG_LEVEL_WARNING,
            "flows of removed mappings could not be ended in conntrack; the ruleset stops them",
            "error", strerror(-daemon->job.kernel_error), NULL);
    change_set_clear(&daemon->job.cut);
    daemon->cut_not_before_ns =
        loop_now_ns() + REPEAT_SHARE * (loop_now_ns() - daemon->job.begin_ns);
}

void commit_done(void *context)
{
    struct daemon *daemon = context;
    daemon->job.running = false;
    if (daemon->job.kind == JOB_COMMIT)
        finish_commit(daemon);
    else
        finish_cut(daemon);
}

static void start_job(struct daemon *daemon, enum job_kind kind)
{
    daemon->job.kind = kind;
    daemon->job.running = true;
    daemon->job.begin_ns = loop_now_ns();
    if (loop_work_start(daemon->work) < 0) {
        /* Cannot happen while job.running is kept; carried out here all the same. */
        commit_work(daemon);
        commit_done(daemon);
    }
}

static void start_cut(struct daemon *daemon)
{
    struct change_set empty = daemon->job.cut;
    daemon->job.cut = daemon->to_cut;
    daemon->to_cut = empty;
    start_job(daemon, JOB_CUT);
}

void commit_turn(struct daemon *daemon)
{
    uint64_t now_ns = loop_now_ns();
    if (daemon->job.running)
        return;
    if (daemon->reconcile_wanted && now_ns >= daemon->reconcile_not_before_ns)
        (void) !commit_reconcile(daemon); /* stays wanted if it failed */
    if (now_ns >= daemon->stamp_at_ns) {
        server_stamp_clock(daemon->server);
        daemon->stamp_at_ns = now_ns + STAMP_INTERVAL_NS;
    }
    /* Ending flows takes its turn even when there is always something to commit. */
    bool cut_is_due = daemon->to_cut.n_items > 0 && now_ns >= daemon->cut_not_before_ns;
    if (!cut_is_due && server_seal(daemon->server, daemon_now_ns(daemon), &daemon->job.commit))
        start_job(daemon, JOB_COMMIT);
    else if (daemon->to_cut.n_items > 0)
        start_cut(daemon);
}

void commit_last(struct daemon *daemon)
{
    server_stamp_clock(daemon->server);
    daemon->job.kind = JOB_COMMIT;
    if (server_seal(daemon->server, daemon_now_ns(daemon), &daemon->job.commit)) {
        run_commit(daemon);
        finish_commit(daemon);
    }
    if (daemon->to_cut.n_items > 0)
        (void) !nat_cut_flows(daemon->nat, daemon->to_cut.items, daemon->to_cut.n_items);
}
