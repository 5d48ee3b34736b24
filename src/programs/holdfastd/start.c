/*
 * The start, in the order of the promise: what the store has becomes the table, the clock says how long we were away, the
 * kernel is made equal to the table; only then is anybody listened to.
 */

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/time.h"
#include "nat/nft/nft_nat.h"
#include "programs/holdfastd/daemon.h"
#include "store/lmdb/lmdb_store.h"
#include "store/memory/memory_store.h"

#define STORE_MAP_SIZE_BYTES ((size_t) 4 << 30)
/* Kernel elements outlive their promise by this much, so that a renewal in the last second finds them. */
#define KERNEL_GRACE_S 30

static enum server_nonce_policy nonce_policy_of(const struct settings *settings)
{
    switch (settings->server.nonce_policy) {
    case SETTINGS_NONCE_STRICT:
        break;
    case SETTINGS_NONCE_ADOPT_SAME_HOST:
        return SERVER_NONCE_ADOPT_SAME_HOST;
    }
    return SERVER_NONCE_STRICT;
}

static void fill_third_parties(const struct settings *settings, struct server_settings *server)
{
    static_assert(SETTINGS_THIRD_PARTIES_MAX <= SERVER_THIRD_PARTIES_MAX,
                  "what the configuration may hold must fit the engine");
    server->n_third_parties = settings->server.n_third_parties;
    for (size_t i = 0; i < server->n_third_parties; i++)
        server->third_parties[i] = (struct server_third_party){
            .source = settings->server.third_parties[i].source,
            .target = settings->server.third_parties[i].target,
        };
}

static void fill_statics(const struct settings *settings, struct server_settings *server)
{
    static_assert(SETTINGS_STATICS_MAX <= SERVER_STATICS_MAX,
                  "what the configuration may hold must fit the engine");
    server->n_statics = settings->n_statics;
    for (size_t i = 0; i < server->n_statics; i++)
        server->statics[i] = (struct server_static){
            .protocol = settings->statics[i].protocol,
            .internal = settings->statics[i].internal,
            .external = settings->statics[i].external,
        };
}

struct server_settings start_server_settings(const struct settings *settings)
{
    struct server_settings server = {
        .lifetime_min_s = settings->server.lifetime_min_s,
        .lifetime_max_s = settings->server.lifetime_max_s,
        .mappings_per_subscriber = settings->server.mappings_per_subscriber,
        .mappings_total = settings->server.mappings_total,
        .filters_per_mapping = settings->server.filters_per_mapping,
        .recycle_delay_s = settings->server.recycle_delay_s,
        .prefer_failure = settings->server.prefer_failure,
        .peer = settings->server.peer,
        .natpmp = settings->server.natpmp,
        .dccp = machine_tracks_dccp(),
        .whole_ports = settings->server.whole_ports,
        .nonce_policy = nonce_policy_of(settings),
        .rate_per_s = settings->server.request_rate_per_s,
        .rate_burst = settings->server.request_burst,
        .subscriber_length_ipv4 = (uint8_t) (96 + settings->server.subscriber_prefix_ipv4),
        .subscriber_length_ipv6 = (uint8_t) settings->server.subscriber_prefix_ipv6,
    };
    static_assert(SETTINGS_RANGES_MAX <= SERVER_PORT_RANGES_MAX &&
                      SETTINGS_PREFIXES_MAX <= SERVER_PREFIXES_MAX,
                  "what the configuration may hold must fit the engine");
    server.n_external_ports = settings->server.n_external_ports;
    for (size_t i = 0; i < server.n_external_ports; i++)
        server.external_ports[i] = (struct port_range){
            .first = settings->server.external_ports[i].first,
            .last = settings->server.external_ports[i].last,
        };
    server.n_internal_prefixes = settings->server.n_internal_prefixes;
    memcpy(server.internal_prefixes, settings->server.internal_prefixes,
           server.n_internal_prefixes * sizeof(server.internal_prefixes[0]));
    fill_third_parties(settings, &server);
    fill_statics(settings, &server);
    return server;
}

void start_fill_nat_settings(struct daemon *daemon)
{
    const struct settings *settings = &daemon->settings;
    struct nat_settings *nat = &daemon->nat_settings;
    memset(nat, 0, sizeof(*nat));
    memcpy(nat->outside_interfaces[0], settings->server.outside_interface,
           sizeof(nat->outside_interfaces[0]));
    nat->n_outside_interfaces = 1;
    memcpy(nat->external_addresses, daemon->external_addresses, sizeof(nat->external_addresses));
    nat->n_external_addresses = daemon->n_external_addresses;
    static_assert(SETTINGS_PREFIXES_MAX <= NAT_PREFIXES_MAX,
                  "what the configuration may hold must fit the data path");
    nat->n_internal_prefixes = settings->server.n_internal_prefixes;
    memcpy(nat->internal_prefixes, settings->server.internal_prefixes,
           nat->n_internal_prefixes * sizeof(nat->internal_prefixes[0]));
    /* Without an address there is nothing to translate to. */
    nat->masquerade = settings->server.masquerade && nat->n_external_addresses > 0;
    nat->masquerade_port_first = settings->server.masquerade_ports.first;
    nat->masquerade_port_last = settings->server.masquerade_ports.last;
    nat->masquerade_address = IP_ADDRESS_ANY_IPV4;
    nat->grace_s = KERNEL_GRACE_S;
    nat->size_hint = settings->server.mappings_total + (uint32_t) settings->n_statics;
}

bool start_read_addresses(struct daemon *daemon)
{
    struct ip_address found[NAT_EXTERNAL_ADDRESSES_MAX];
    size_t n = 0;
    if (daemon->settings.server.n_external_addresses > 0) {
        n = daemon->settings.server.n_external_addresses;
        memcpy(found, daemon->settings.server.external_addresses, n * sizeof(found[0]));
    } else {
        struct ip_address all[NAT_EXTERNAL_ADDRESSES_MAX];
        int n_all = machine_interface_addresses(daemon->settings.server.outside_interface,
                                                MACHINE_SCOPE_ROUTED, all, N_ELEMENTS(all));
        for (int i = 0; i < n_all; i++)
            if (ip_address_is_ipv4(&all[i]))
                found[n++] = all[i];
    }
    bool same = n == daemon->n_external_addresses &&
                memcmp(found, daemon->external_addresses, n * sizeof(found[0])) == 0;
    memcpy(daemon->external_addresses, found, n * sizeof(found[0]));
    daemon->n_external_addresses = n;
    return !same;
}

/* Nonces are in there, and whoever can write there can give out mappings. */
static int check_directory(const char *directory)
{
    struct stat status;
    if (stat(directory, &status) < 0)
        return errno == ENOENT ? 0 : -errno;
    if (S_ISDIR(status.st_mode) && (status.st_uid == geteuid() || status.st_uid == 0) &&
        !(status.st_mode & 022))
        return 0;
    log_event(LOG_LEVEL_ERROR,
              "the state directory must be a directory that only its owner, this daemon's user, "
              "can write to",
              "path", directory, NULL);
    return -EPERM;
}

static int open_store(struct daemon *daemon)
{
    if (daemon->options.is_volatile) {
        daemon->store = memory_store_new();
        return daemon->store ? 0 : -ENOMEM;
    }
    const char *directory = daemon->settings.state_directory;
    if (daemon->options.new_state) {
        char where[PATH_MAX];
        int r = lmdb_store_move_aside(directory, where);
        if (r < 0) {
            log_event(LOG_LEVEL_ERROR, "the old state could not be moved aside", "path", directory,
                      "error", strerror(-r), NULL);
            return r;
        }
        if (where[0])
            log_event(LOG_LEVEL_NOTICE, "old state moved aside", "to", where, NULL);
    }
    char why[256] = "";
    int r = check_directory(directory);
    if (r < 0)
        return r;
    r = lmdb_store_open(directory, STORE_MAP_SIZE_BYTES, &daemon->store, why);
    if (r == -EUCLEAN)
        log_message(LOG_LEVEL_ERROR, "%s; holdfastd --new-state moves it aside", why);
    else if (r < 0)
        log_message(LOG_LEVEL_ERROR, "%s", why);
    return r;
}

/* What a load gathers. Records that contradict each other are left out, removed from the store, and put the state in doubt. */
struct loading {
    struct daemon *daemon;
    bool has_clock;
    struct store_clock clock;
    struct change_set contradictory;
};

static int load_clock(void *context, const struct store_clock *clock)
{
    struct loading *loading = context;
    loading->clock = *clock;
    loading->has_clock = true;
    return 0;
}

static int load_mapping(void *context, const struct mapping_record *record)
{
    struct loading *loading = context;
    int r = server_restore_mapping(loading->daemon->server, record);
    if (r != -EINVAL && r != -EEXIST && r != -EADDRINUSE)
        return r;
    char internal[ENDPOINT_TEXT_SIZE];
    endpoint_format(&(struct endpoint){record->internal_address, record->internal_port}, internal);
    log_event(LOG_LEVEL_ERROR, "a stored mapping contradicts the others and is dropped", "internal",
              internal, "error", strerror(-r), NULL);
    return change_set_append(&loading->contradictory, record, NULL);
}

static int load_epoch(void *context, const struct store_epoch *epoch)
{
    struct loading *loading = context;
    return server_restore_epoch(loading->daemon->server, epoch);
}

/* Without the clock record nobody knows when the mappings end. */
static int refuse_without_clock(const struct daemon *daemon)
{
    size_t n_live, n_held, n_subscribers;
    server_count(daemon->server, &n_live, &n_held, &n_subscribers);
    if (n_live + n_held == 0)
        return 0;
    log_event(LOG_LEVEL_ERROR,
              "the stored state has no clock record; holdfastd --new-state moves it aside", "path",
              daemon->settings.state_directory, NULL);
    return -EBADMSG;
}

static int load_store(struct daemon *daemon, struct loading *loading)
{
    const struct store_load_handler handler = {
        .clock = load_clock, .mapping = load_mapping, .epoch = load_epoch, .context = loading};
    int r = store_load(daemon->store, &handler);
    if (r == -ENODATA)
        return 0;
    if (r == -EBADMSG)
        log_event(LOG_LEVEL_ERROR,
                  "the stored state is damaged; holdfastd --new-state moves it aside", "path",
                  daemon->settings.state_directory, NULL);
    else if (r < 0)
        log_event(LOG_LEVEL_ERROR, "the stored state could not be read", "path",
                  daemon->settings.state_directory, "error", strerror(-r), NULL);
    else if (!loading->has_clock)
        r = refuse_without_clock(daemon);
    return r;
}

static const char *reason_of(const struct daemon *daemon, enum service_clock_start start)
{
    switch (start) {
    case SERVICE_CLOCK_NEW_STATE:
        return daemon->options.is_volatile ? "volatile" : "new-state";
    case SERVICE_CLOCK_SAME_BOOT:
        return "same-boot";
    case SERVICE_CLOCK_NEW_BOOT:
        return "reboot";
    case SERVICE_CLOCK_BOOTTIME_BACKWARDS:
    case SERVICE_CLOCK_WALL_BACKWARDS:
    case SERVICE_CLOCK_WALL_IMPLAUSIBLE:
        return "clock";
    }
    return "clock";
}

/* 0 when nothing is known. */
static uint64_t committed_during_this_boot_ns(struct daemon *daemon)
{
    uint64_t committed_ns = 0;
    if (daemon->options.is_volatile)
        return 0;
    int r = witness_open(daemon->settings.control_socket, daemon->boot_id, &daemon->witness,
                         &committed_ns);
    if (r < 0)
        log_event(LOG_LEVEL_WARNING,
                  "the time of commits cannot be noted beside the control socket: a store copied "
                  "back would not be noticed",
                  "error", strerror(-r), NULL);
    return committed_ns;
}

/* [R-6887-8.5-2] */
static int begin_clock(struct daemon *daemon, const struct loading *loading)
{
    struct machine_clocks clocks;
    int r = machine_read_clocks(&clocks);
    if (r < 0) {
        log_event(LOG_LEVEL_ERROR, "the boot id could not be read", "error", strerror(-r), NULL);
        return r;
    }
    struct service_clock_sample sample = {.boottime_ns = clocks.boottime_ns,
                                          .wall_ns = clocks.wall_ns};
    memcpy(sample.boot_id, clocks.boot_id, sizeof(sample.boot_id));
    memcpy(daemon->boot_id, clocks.boot_id, sizeof(daemon->boot_id));

    enum service_clock_start start =
        service_clock_begin(loading->has_clock ? &loading->clock : NULL, &sample, &daemon->clock);
    bool whole = loading->contradictory.n_items == 0;
    uint64_t committed_ns = committed_during_this_boot_ns(daemon);
    bool rolled_back = start == SERVICE_CLOCK_SAME_BOOT && committed_ns > loading->clock.service_ns;
    bool continued = service_clock_went_on(start) && whole && !rolled_back;
    uint64_t now_ns = daemon_now_ns(daemon);
    server_start(daemon->server, continued ? loading->clock.epoch_zero_ns : now_ns,
                 loading->has_clock ? loading->clock.next_id : 1);
    daemon->epoch = (struct epoch_story){
        .continued = continued,
        .reason = rolled_back ? "rolled-back"
                  : whole     ? reason_of(daemon, start)
                              : "state-damaged",
        .at_wall_ns = clocks.wall_ns,
    };
    char seconds[24];
    snprintf(seconds, sizeof(seconds), "%u",
             server_epoch_s(daemon->server, now_ns, &IP_ADDRESS_ANY_IPV6));
    log_event(LOG_LEVEL_NOTICE, continued ? "Epoch goes on" : "Epoch restarts from zero", "epoch_s",
              seconds, "why",
              rolled_back ? "the store is older than the last commit of this boot"
              : whole     ? service_clock_start_describe(start)
                          : "some stored mappings contradicted others",
              NULL);
    return 0;
}

/* Removes what was contradictory, and writes the clock, before anything is promised. */
static int first_commit(struct daemon *daemon, struct loading *loading)
{
    if (loading->contradictory.n_items > 0) {
        struct store_clock clock = loading->clock;
        struct store_commit commit = {.changes = loading->contradictory.items,
                                      .n_changes = loading->contradictory.n_items,
                                      .clock = &clock};
        int r = store_commit(daemon->store, &commit);
        if (r < 0)
            return r;
    }
    server_stamp_clock(daemon->server);
    struct server_commit commit;
    if (!server_seal(daemon->server, daemon_now_ns(daemon), &commit))
        return 0;
    commit_fill_clock(daemon, &commit.clock);
    commit.store.clock = &commit.clock;
    int r = store_commit(daemon->store, &commit.store);
    if (r == 0)
        report_changes(daemon, commit.changes, commit.n_changes);
    server_complete(daemon->server, daemon_now_ns(daemon),
                    r < 0 ? SERVER_OUTCOME_STORE_FAILED : SERVER_OUTCOME_DONE);
    if (r == 0) {
        daemon->n_store_commits++;
        witness_note(&daemon->witness, commit.clock.service_ns);
    }
    return r;
}

static int take_addresses(struct daemon *daemon)
{
    (void) start_read_addresses(daemon);
    if (daemon->n_external_addresses == 0)
        report_no_address(daemon);
    return server_set_external_addresses(daemon->server, daemon_now_ns(daemon),
                                         daemon->external_addresses, daemon->n_external_addresses);
}

/* On the loop's thread, beside whatever the worker does. */
static int find_flow(struct server_flow_source *source, uint8_t protocol,
                     const struct endpoint *internal, const struct endpoint *remote,
                     struct endpoint *ret_external)
{
    struct daemon *daemon = CONTAINER_OF(source, struct daemon, flows);
    return nat_find_flow(daemon->nat, protocol, internal, remote, ret_external);
}

static int start_table(struct daemon *daemon, struct loading *loading)
{
    struct server_settings settings = start_server_settings(&daemon->settings);
    daemon->flows.find = find_flow;
    settings.flows = &daemon->flows;
    daemon->server = server_new(&settings, &daemon->random);
    if (!daemon->server)
        return -ENOMEM;
    int r = load_store(daemon, loading);
    if (r < 0)
        return r;
    r = begin_clock(daemon, loading);
    if (r < 0)
        return r;
    r = take_addresses(daemon);
    if (r == 0)
        r = first_commit(daemon, loading);
    if (r < 0)
        log_event(LOG_LEVEL_ERROR, "the state could not be written at start", "error", strerror(-r),
                  NULL);
    return r;
}

static int start_kernel(struct daemon *daemon)
{
    int r = nft_nat_open(&daemon->nat);
    if (r < 0) {
        log_event(LOG_LEVEL_ERROR, "nftables cannot be used", "error", strerror(-r), NULL);
        return r;
    }
    r = nat_watch(daemon->nat, &daemon->kernel_news_fd);
    if (r < 0)
        log_event(LOG_LEVEL_WARNING,
                  "nftables cannot be watched: foreign changes are repaired only when they are in "
                  "the way",
                  "error", strerror(-r), NULL);
    start_fill_nat_settings(daemon);
    return commit_reconcile(daemon);
}

int start_state(struct daemon *daemon)
{
    struct loading loading = {.daemon = daemon};
    change_set_init(&loading.contradictory);
    int r = open_store(daemon);
    if (r == 0)
        r = start_table(daemon, &loading);
    change_set_deinit(&loading.contradictory);
    return r < 0 ? r : start_kernel(daemon);
}
