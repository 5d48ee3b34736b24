/* The life of the daemon: start, serve, reload, stop. */

#include "programs/holdfastd/daemon.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/time.h"
#include "nat/nft/nft_nat.h"

uint64_t daemon_now_ns(const struct daemon *daemon)
{
    return service_clock_now_ns(&daemon->clock, loop_now_ns());
}

static void take_new_addresses(struct daemon *daemon)
{
    sockets_find_interfaces(daemon);
    if (!start_read_addresses(daemon))
        return;
    report_addresses(daemon);
    int r = server_set_external_addresses(daemon->server, daemon_now_ns(daemon),
                                          daemon->external_addresses, daemon->n_external_addresses);
    if (r < 0)
        log_event(LOG_LEVEL_ERROR,
                  "the change of the external address could not be carried out in full", "error",
                  strerror(-r), NULL);
    start_fill_nat_settings(daemon);
    daemon->reconcile_wanted = true;
    daemon->reconcile_not_before_ns = 0; /* before the moved mappings are committed */
}

static void set_timer(struct daemon *daemon)
{
    uint64_t at_ns =
        service_clock_to_boottime_ns(&daemon->clock, server_next_deadline_ns(daemon->server));
    if (daemon->stamp_at_ns < at_ns)
        at_ns = daemon->stamp_at_ns;
    if (daemon->reconcile_wanted && daemon->reconcile_not_before_ns < at_ns)
        at_ns = daemon->reconcile_not_before_ns;
    if (daemon->to_cut.n_items > 0 && daemon->cut_not_before_ns < at_ns)
        at_ns = daemon->cut_not_before_ns;
    loop_timer_set(daemon->timer, at_ns);
}

/* Once per turn of the loop: what was decided goes out, what is ready leaves. */
static void turn(void *context)
{
    struct daemon *daemon = context;
    if (daemon->stopping && !daemon->job.running) {
        loop_stop(daemon->loop);
        return;
    }
    if (daemon->addresses_changed && !daemon->job.running) {
        daemon->addresses_changed = false;
        take_new_addresses(daemon);
    }
    server_advance(daemon->server, daemon_now_ns(daemon));
    commit_turn(daemon);
    sockets_announce(daemon);
    sockets_send_outbox(daemon);
    set_timer(daemon);
}

static void timer_fired(void *context)
{
    (void) context; /* the turn does what is due */
}

static void work_done(void *context)
{
    commit_done(context);
}

static void machine_changed(void *context)
{
    struct daemon *daemon = context;
    daemon->addresses_changed = true;
}

static void asked_to_stop(void *context)
{
    struct daemon *daemon = context;
    daemon->stopping = true;
}

static int restart_needed(const struct settings *old, const struct settings *new, char **ret_error)
{
    if (strcmp(old->state_directory, new->state_directory) == 0 &&
        strcmp(old->control_socket, new->control_socket) == 0)
        return 0;
    *ret_error = strdup(
        "state-directory and control-socket take effect at a restart only: nothing was changed");
    return -EINVAL;
}

int daemon_reload(struct daemon *daemon, char **ret_error)
{
    struct settings settings;
    int r = settings_load(daemon->options.config_path, &settings, ret_error);
    if (r < 0)
        return -EINVAL;
    r = restart_needed(&daemon->settings, &settings, ret_error);
    struct server_settings server_settings = start_server_settings(&settings);
    server_settings.flows = &daemon->flows;
    if (r == 0)
        r = server_set_settings(daemon->server, daemon_now_ns(daemon), &server_settings);
    /* Such a static mapping is made when its place is free; everything else is in force. */
    if (r == -EADDRINUSE)
        log_message(LOG_LEVEL_WARNING,
                    "a static mapping cannot have its external endpoint: another one has it");
    else if (r < 0) {
        settings_deinit(&settings);
        return r;
    }
    settings_deinit(&daemon->settings);
    daemon->settings = settings;
    if (!daemon->options.has_log_level)
        log_set_level(settings.log_level);
    daemon->addresses_changed = true;
    start_fill_nat_settings(daemon);
    daemon->reconcile_wanted = true;
    log_message(LOG_LEVEL_NOTICE, "settings reloaded");
    return 0;
}

static void log_lines(char *text)
{
    char *rest = NULL;
    for (char *line = text ? strtok_r(text, "\n", &rest) : NULL; line;
         line = strtok_r(NULL, "\n", &rest))
        log_message(LOG_LEVEL_ERROR, "%s", line);
}

static void asked_to_reload(void *context)
{
    struct daemon *daemon = context;
    char *error = NULL;
    (void) machine_notify("RELOADING=1");
    if (daemon_reload(daemon, &error) < 0) {
        log_message(LOG_LEVEL_ERROR, "settings not reloaded, the old ones stay%s",
                    error ? "" : ": out of memory");
        log_lines(error);
    }
    free(error);
    (void) machine_notify("READY=1");
}

static int open_watches(struct daemon *daemon)
{
    int r = loop_timer_new(daemon->loop, timer_fired, daemon, &daemon->timer);
    if (r == 0)
        r = loop_work_new(daemon->loop, commit_work, work_done, daemon, &daemon->work);
    if (r == 0)
        r = loop_watch_turn(daemon->loop, turn, daemon, &daemon->turn_watch);
    if (r == 0)
        r = sockets_watch(daemon);
    if (r == 0)
        r = loop_watch_signal(daemon->loop, SIGTERM, asked_to_stop, daemon, &daemon->signals[0]);
    if (r == 0)
        r = loop_watch_signal(daemon->loop, SIGINT, asked_to_stop, daemon, &daemon->signals[1]);
    if (r == 0)
        r = loop_watch_signal(daemon->loop, SIGHUP, asked_to_reload, daemon, &daemon->signals[2]);
    if (r == 0)
        r = machine_watch_new(daemon->loop, machine_changed, daemon, &daemon->machine_watch);
    if (r == 0 && daemon->kernel_news_fd >= 0)
        r = loop_watch_fd(daemon->loop, daemon->kernel_news_fd, commit_hear_kernel, daemon,
                          &daemon->kernel_watch);
    if (r < 0)
        log_event(LOG_LEVEL_ERROR, "the event loop cannot be set up", "error", strerror(-r), NULL);
    return r;
}

static int start(struct daemon *daemon)
{
    int r = loop_new(&daemon->loop);
    if (r < 0)
        return r;
    daemon->clock = (struct service_clock){.boottime_ns = loop_now_ns()};
    /* The sockets first: two daemons must not both touch the kernel's table, and a start that fails leaves nothing there. */
    r = sockets_open(daemon);
    if (r == 0)
        r = control_methods_open(daemon);
    if (r == 0)
        r = start_state(daemon);
    if (r == 0)
        r = open_watches(daemon);
    sockets_find_interfaces(daemon);
    daemon->started_ns = loop_now_ns();
    daemon->addresses_changed = true; /* what changed between reading and watching */
    return r;
}

static void stop(struct daemon *daemon)
{
    unix_server_close(daemon->control);
    sockets_close(daemon);
    machine_watch_free(daemon->machine_watch);
    for (size_t i = 0; i < N_ELEMENTS(daemon->signals); i++)
        loop_watch_free(daemon->signals[i]);
    loop_watch_free(daemon->kernel_watch);
    loop_watch_free(daemon->turn_watch);
    loop_work_free(daemon->work);
    loop_timer_free(daemon->timer);
    loop_free(daemon->loop);
    server_free(daemon->server);
    nat_close(daemon->nat);
    store_close(daemon->store);
    witness_close(&daemon->witness);
    change_set_deinit(&daemon->job.cut);
    change_set_deinit(&daemon->to_cut);
    settings_deinit(&daemon->settings);
}

static void serve(struct daemon *daemon)
{
    /* Whoever missed our absence learns the Epoch (RFC 6887 s14.1.3). */
    server_announce(daemon->server, daemon_now_ns(daemon));
    report_ready(daemon);
    (void) machine_notify("READY=1\nSTATUS=serving");
    loop_run(daemon->loop);
    (void) machine_notify("STOPPING=1");
    commit_last(daemon);
    sockets_send_outbox(daemon);
    log_message(LOG_LEVEL_NOTICE, "holdfastd stops; mappings stay in the kernel until they end");
}

static int remove_rules(void)
{
    struct nat *nat;
    int r = nft_nat_open(&nat);
    if (r == 0) {
        r = nat_remove_all(nat);
        nat_close(nat);
    }
    if (r < 0)
        log_event(LOG_LEVEL_ERROR, "the kernel table could not be removed", "error", strerror(-r),
                  NULL);
    return r < 0 ? 1 : 0;
}

static void print_lines(const char *text)
{
    fprintf(stderr, "%s\n", text ? text : "holdfastd: out of memory");
}

int daemon_run(const struct daemon_options *options)
{
    if (options->has_log_level)
        log_set_level(options->log_level);
    if (options->remove_rules)
        return remove_rules();

    struct daemon *daemon = calloc(1, sizeof(*daemon));
    char *error = NULL;
    if (!daemon)
        return 1;
    daemon->options = *options;
    daemon->random = random_system();
    daemon->witness = WITNESS_NONE;
    daemon->kernel_news_fd = -1;
    if (settings_load(options->config_path, &daemon->settings, &error) < 0) {
        print_lines(error);
        free(error);
        free(daemon);
        return 1;
    }
    if (!options->has_log_level)
        log_set_level(daemon->settings.log_level);
    int status = 0;
    if (options->check) {
        status = settings_dump(&daemon->settings, stdout) < 0;
        settings_deinit(&daemon->settings);
        free(daemon);
        return status;
    }
    change_set_init(&daemon->job.cut);
    change_set_init(&daemon->to_cut);
    list_init(&daemon->control_clients);
    list_init(&daemon->pending_clears);
    signal(SIGPIPE, SIG_IGN);
    if (start(daemon) < 0)
        status = 1;
    else
        serve(daemon);
    stop(daemon);
    free(daemon);
    return status;
}
