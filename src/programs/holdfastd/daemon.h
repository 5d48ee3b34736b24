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
#include "programs/holdfastd/witness.h"
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

enum socket_family { SOCKET_IPV4, SOCKET_IPV6, SOCKET_FAMILIES };

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
    struct loop_watch *turn_watch, *socket_watches[SOCKET_FAMILIES], *signals[3], *kernel_watch;
    struct loop_work *work;
    struct machine_watch *machine_watch;
    struct datagram_socket *sockets[SOCKET_FAMILIES];
    struct unix_server *control;
    struct list_link control_clients;
    unsigned int n_listings;         /* List calls being answered */
    struct list_link pending_clears; /* control calls waiting for their tick */

    struct store *store;
    struct nat *nat;
    struct nat_settings nat_settings;
    int kernel_news_fd; /* readable when somebody else changed our table; -1: unknown */
    struct server_flow_source flows; /* what the engine asks about flows that exist without us */
    struct server *server;
    struct service_clock clock;
    uint8_t boot_id[STORE_BOOT_ID_SIZE];
    struct epoch_story epoch;
    struct witness witness;

    struct job job;
    struct change_set to_cut; /* gone mappings whose flows are still to be ended */
    bool reconcile_wanted;
    bool kernel_touched; /* it is wanted as the kernel is not what we made it */
    bool addresses_changed;
    bool stopping;
    uint64_t reconcile_not_before_ns, cut_not_before_ns, stamp_at_ns; /* CLOCK_BOOTTIME */
    uint64_t started_ns;                                              /* CLOCK_BOOTTIME */
    uint64_t reconcile_pause_ns; /* after the last failure; 0: there was none since */
    uint64_t
        reconcile_paid_ns; /* CLOCK_BOOTTIME at which the share of time for reconciling is made up for */
    uint32_t inside_indexes[SETTINGS_INTERFACES_MAX];
    bool has_looked_inside;
    struct ip_address external_addresses[NAT_EXTERNAL_ADDRESSES_MAX];
    size_t n_external_addresses;
    uint64_t n_reconciles, n_repairs, n_kernel_failures, n_store_commits, n_store_failures;
    struct log_limit moved_log, mapping_log, failure_log, repair_log, address_log;
};

/* daemon.c */
/* Exit status. */
int daemon_run(const struct daemon_options *options);
uint64_t daemon_now_ns(const struct daemon *daemon);
/* Reads the configuration again. 0, or -EINVAL with the complaints in *ret_error, which the caller frees. */
MUST_CHECK int daemon_reload(struct daemon *daemon, char **ret_error);

/* sockets.c */
MUST_CHECK int sockets_open(struct daemon *daemon);
MUST_CHECK int sockets_watch(struct daemon *daemon);
void sockets_close(struct daemon *daemon);
/* Looks the inside interfaces up again, as they may have come, gone or got another index. */
void sockets_find_interfaces(struct daemon *daemon);
void sockets_send_outbox(struct daemon *daemon);
/* Sends the announcement that is due, if one is. */
void sockets_announce(struct daemon *daemon);

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
/* The kernel's news are to be read. */
void commit_hear_kernel(void *context);
/* Samples the clocks for a commit. */
void commit_fill_clock(const struct daemon *daemon, struct store_clock *clock);
/* Makes the kernel equal to the table, now. The worker must be idle. 0 or -errno. */
MUST_CHECK int commit_reconcile(struct daemon *daemon);
/* Commits everything decided, on this thread, before exit. The worker must be idle. */
void commit_last(struct daemon *daemon);

/* report.c */
/* One line per mapping made, changed or removed. */
void report_changes(struct daemon *daemon, const struct change *changes, size_t n_changes);
/* Requests cannot be served, and why. */
void report_no_address(const struct daemon *daemon);
/* One line: who serves what, where. */
void report_ready(const struct daemon *daemon);
void report_commit_failure(struct daemon *daemon, const struct job *job);
/* The kernel was not what we made it, and is again. */
void report_repair(struct daemon *daemon, uint64_t took_ns);
void report_reconcile_failure(struct daemon *daemon, int error);
/* The external addresses are others than before. */
void report_addresses(struct daemon *daemon);

/* control_methods.c */
MUST_CHECK int control_methods_open(struct daemon *daemon);
/* A tick is through: answers the calls that waited for it. */
void control_methods_complete(struct daemon *daemon, uint64_t tick, bool done);
