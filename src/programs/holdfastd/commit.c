/*
 * Between deciding and answering: the worker thread writes a tick to the store and then to the kernel, and only then are
 * its answers released. One job at a time; while it runs the loop decides the next tick.
 *
 * When the kernel refuses although it has room, its state is not what we think (a foreign flush, say): the whole of it is
 * made equal to the table, which includes the tick, and if that works the tick is through. The same is done when the
 * kernel tells that somebody changed our table: at once, but whoever goes on flushing cannot keep us busy.
 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/time.h"
#include "programs/holdfastd/daemon.h"

/* Pause after a reconcile that failed: this, twice this, ... */
#define RECONCILE_PAUSE_MIN_NS (NS_PER_S / 50)
#define RECONCILE_PAUSE_MAX_NS NS_PER_S
/* What has to be repeated (reconciling against somebody who keeps flushing, ending flows) may take a tenth of the time. */
#define REPEAT_SHARE 10
/*
 * Ending flows walks the whole of conntrack, and a commit behind it waits; so what ends is gathered for a while. The ruleset has
 * stopped what comes in through those mappings already.
 */
#define CUT_DELAY_NS (100 * NS_PER_MS)
/* But so much of reconciling is done at once. */
#define REPAIR_BURST_NS (NS_PER_S / 2)
/* How often an idle daemon writes the clock record, which bounds what a reboot can misjudge. */
#define STAMP_INTERVAL_NS (300 * NS_PER_S)

void commit_fill_clock(const struct daemon *daemon, struct store_clock *clock)
{
    memcpy(clock->boot_id, daemon->boot_id, sizeof(clock->boot_id));
    clock->boottime_ns = loop_now_ns();
    clock->wall_ns = machine_wall_ns();
    clock->service_ns = service_clock_now_ns(&daemon->clock, clock->boottime_ns);
}

static void run_commit(struct daemon *daemon)
{
    struct job *job = &daemon->job;
    job->kernel_error = 0;
    commit_fill_clock(daemon, &job->commit.clock);
    job->commit.store.clock = &job->commit.clock;
    job->store_error = store_commit(daemon->store, &job->commit.store);
    if (job->store_error < 0) {
        job->outcome = SERVER_OUTCOME_STORE_FAILED;
        return;
    }
    witness_note(&daemon->witness, job->commit.clock.service_ns);
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

static int remember_cut(struct daemon *daemon, const struct change *change)
{
    bool goes_on = change->has_after && change->after.state == MAPPING_STATE_LIVE;
    return change_set_append(&daemon->to_cut, &change->before, goes_on ? &change->after : NULL);
}

/* Without memory to remember them the ruleset alone stops those flows. */
static void remember_cuts(struct daemon *daemon, const struct server_commit *commit)
{
    size_t n_before = daemon->to_cut.n_items;
    for (size_t i = 0; i < commit->n_changes; i++)
        if (ends_flows(&commit->changes[i]) && remember_cut(daemon, &commit->changes[i]) < 0)
            log_message(LOG_LEVEL_WARNING,
                        "out of memory: flows of a removed mapping end with its kernel timeout");
    uint64_t at_ns = loop_now_ns() + CUT_DELAY_NS;
    if (n_before == 0 && daemon->to_cut.n_items > 0 && daemon->cut_not_before_ns < at_ns)
        daemon->cut_not_before_ns = at_ns;
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

static uint64_t next_pause_ns(uint64_t pause_ns)
{
    if (pause_ns == 0)
        return RECONCILE_PAUSE_MIN_NS;
    return pause_ns < RECONCILE_PAUSE_MAX_NS / 2 ? pause_ns * 2 : RECONCILE_PAUSE_MAX_NS;
}

/* Each may begin as long as what the ones before have taken, and its share of time, is not too far ahead. */
static uint64_t next_reconcile_ns(struct daemon *daemon, uint64_t now_ns, uint64_t took_ns)
{
    uint64_t paid_ns = daemon->reconcile_paid_ns, earliest_ns = now_ns + daemon->reconcile_pause_ns;
    paid_ns = (paid_ns > now_ns ? paid_ns : now_ns) + REPEAT_SHARE * took_ns;
    daemon->reconcile_paid_ns = paid_ns;
    if (paid_ns > earliest_ns + REPEAT_SHARE * REPAIR_BURST_NS)
        return paid_ns - REPEAT_SHARE * REPAIR_BURST_NS;
    return earliest_ns;
}

static void finish_reconcile(struct daemon *daemon, uint64_t took_ns, int error)
{
    daemon->n_reconciles++;
    daemon->reconcile_wanted = error < 0;
    daemon->reconcile_pause_ns = error < 0 ? next_pause_ns(daemon->reconcile_pause_ns) : 0;
    daemon->reconcile_not_before_ns = next_reconcile_ns(daemon, loop_now_ns(), took_ns);
    if (error < 0) {
        daemon->n_kernel_failures++;
        report_reconcile_failure(daemon, error);
    } else if (daemon->kernel_touched) {
        daemon->kernel_touched = false;
        daemon->n_repairs++;
        report_repair(daemon, took_ns);
    }
}

int commit_reconcile(struct daemon *daemon)
{
    struct record_list list = {0};
    uint64_t begin_ns = loop_now_ns();
    /* What was done until now is put right by this; what is done meanwhile makes news again. */
    daemon->kernel_touched |= nat_was_touched(daemon->nat);
    int r = server_for_each_mapping(daemon->server, collect_live, &list);
    if (r == 0)
        r = nat_reconcile(daemon->nat, &daemon->nat_settings, list.items, list.n_items,
                          daemon_now_ns(daemon));
    free(list.items);
    finish_reconcile(daemon, loop_now_ns() - begin_ns, r);
    return r;
}

void commit_hear_kernel(void *context)
{
    struct daemon *daemon = context;
    if (!nat_was_touched(daemon->nat))
        return;
    daemon->kernel_touched = true;
    daemon->reconcile_wanted = true;
}

static void repair_kernel(struct daemon *daemon)
{
    struct job *job = &daemon->job;
    daemon->n_kernel_failures++;
    daemon->kernel_touched = true;
    daemon->reconcile_wanted = true;
    if (loop_now_ns() >= daemon->reconcile_not_before_ns && commit_reconcile(daemon) == 0)
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
    if (daemon->to_cut.n_items > 0 && now_ns >= daemon->cut_not_before_ns)
        start_cut(daemon);
    else if (server_seal(daemon->server, daemon_now_ns(daemon), &daemon->job.commit))
        start_job(daemon, JOB_COMMIT);
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
