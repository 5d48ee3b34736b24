#pragma once

/* holdfastd's wiring: one struct that owns everything, shared by the files of this program. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/list.h"
#include "base/log.h"
#include "base/random.h"
#include "base/util.h"
#include "config/settings.h"
#include "io/datagram_socket.h"
#include "io/loop.h"
#include "io/machine.h"
#include "io/unix_server.h"
#include "nat/nat.h"
#include "server/server.h"
#include "server/service_clock.h"
#include "store/store.h"

struct daemon_options {
    const char *config_path;
    bool check;
    bool is_volatile;
    bool new_state;
    bool remove_rules;
    bool has_log_level;
    enum log_level log_level;
};

enum job_kind { JOB_COMMIT, JOB_CUT };

/* What the worker thread is doing; it alone touches `commit` and `cut` while `running`. */
struct job {
    bool running;
    enum job_kind kind;
    struct server_commit commit;
    struct change_set cut;
    uint64_t begin_ns; /* CLOCK_BOOTTIME */
    int store_error, kernel_error;
    enum server_outcome outcome;
};

/* Why the Epoch has the value it has, for the operator (docs/control.md). */
struct epoch_story {
    bool continued;
    const char *reason;
    uint64_t at_wall_ns;
};

struct daemon {
    struct daemon_options options;
    struct settings settings;
    struct random_source random;
    struct loop *loop;
    struct loop_timer *timer;
    struct loop_watch *turn_watch, *socket_watch, *signals[3];
    struct loop_work *work;
    struct machine_watch *machine_watch;
    struct datagram_socket *socket;
    struct unix_server *control;
    struct list_link control_clients;
    struct list_link pending_clears; /* control calls waiting for their tick */

    struct store *store;
    struct nat *nat;
    struct nat_settings nat_settings;
    struct server *server;
    struct service_clock clock;
    uint8_t boot_id[STORE_BOOT_ID_SIZE];
    struct epoch_story epoch;

    struct job job;
    struct change_set to_cut; /* gone mappings whose flows are still to be ended */
    bool reconcile_wanted;
    bool addresses_changed;
    bool stopping;
    uint64_t reconcile_not_before_ns, cut_not_before_ns, stamp_at_ns; /* CLOCK_BOOTTIME */
    uint64_t started_ns;                                              /* CLOCK_BOOTTIME */
    uint32_t inside_indexes[SETTINGS_INTERFACES_MAX];
    struct ip_address external_addresses[NAT_EXTERNAL_ADDRESSES_MAX];
    size_t n_external_addresses;
    uint64_t n_reconciles, n_kernel_failures, n_store_commits, n_store_failures;
    struct log_limit mapping_log, failure_log;
};

/* daemon.c */
/* Exit status. */
int daemon_run(const struct daemon_options *options);
uint64_t daemon_now_ns(const struct daemon *daemon);
/* Reads the configuration again. 0, or -EINVAL with the complaints in *ret_error, which the caller frees. */
MUST_CHECK int daemon_reload(struct daemon *daemon, char **ret_error);

/* start.c */
/* Store, table, Epoch, first commit, kernel. 0, or -errno after one line on the log. */
MUST_CHECK int start_state(struct daemon *daemon);
struct server_settings start_server_settings(const struct settings *settings);
void start_fill_nat_settings(struct daemon *daemon);
/* Reads the external addresses from configuration or interface; true when they differ from before. */
bool start_read_addresses(struct daemon *daemon);

/* commit.c */
/* Carries out what is to be done between two turns of the loop: commits, cuts, repairs. */
void commit_turn(struct daemon *daemon);
/* The worker's two sides. */
void commit_work(void *context);
void commit_done(void *context);
/* Makes the kernel equal to the table, now. The worker must be idle. 0 or -errno. */
MUST_CHECK int commit_reconcile(struct daemon *daemon);
/* Commits everything decided, on this thread, before exit. The worker must be idle. */
void commit_last(struct daemon *daemon);

/* report.c */
/* One line per mapping made, changed or removed. */
void report_changes(struct daemon *daemon, const struct change *changes, size_t n_changes);
void report_commit_failure(struct daemon *daemon, const struct job *job);

/* control_methods.c */
MUST_CHECK int control_methods_open(struct daemon *daemon);
/* A tick is through: answers the calls that waited for it. */
void control_methods_complete(struct daemon *daemon, uint64_t tick, bool done);
