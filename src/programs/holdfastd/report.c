/* What the operator reads in the log. Lines that clients provoke are rate limited. */

#include <stdio.h>
#include <string.h>

#include "base/time.h"
#include "programs/holdfastd/daemon.h"

#define MAPPING_LINES_MAX 1000
#define FAILURE_LINES_MAX 5
#define REPAIR_LINES_MAX 5
#define ADDRESS_LINES_MAX 20
#define ADDRESSES_SHOWN 4
#define LIMIT_INTERVAL_S 10

static bool is_live(bool there, const struct mapping_record *record)
{
    return there && record->state == MAPPING_STATE_LIVE;
}

/* A live mapping got another external endpoint. */
static bool is_move(const struct change *change)
{
    return is_live(change->had_before, &change->before) &&
           is_live(change->has_after, &change->after) &&
           (change->before.external_port != change->after.external_port ||
            !ip_address_equal(&change->before.external_address, &change->after.external_address));
}

/* NULL: nothing worth a line above debug. */
static const char *name_event(const struct change *change)
{
    bool live_before = is_live(change->had_before, &change->before);
    bool live_after = is_live(change->has_after, &change->after);
    if (!live_before && live_after)
        return "mapping made";
    if (live_before && !live_after)
        return "mapping removed";
    if (!live_before)
        return NULL;
    if (is_move(change))
        return "mapping moved";
    if (!mapping_filters_equal(change->before.filters, change->after.filters))
        return "mapping filters changed";
    return NULL;
}

static void log_mapping(enum log_level level, const char *event,
                        const struct mapping_record *record, uint64_t now_ns)
{
    char id[24], protocol[8], internal[ENDPOINT_TEXT_SIZE], external[ENDPOINT_TEXT_SIZE],
        client[ENDPOINT_TEXT_SIZE], lifetime[24];
    snprintf(id, sizeof(id), "%llu", (unsigned long long) record->id);
    snprintf(lifetime, sizeof(lifetime), "%llu",
             record->expires_ns > now_ns
                 ? (unsigned long long) ((record->expires_ns - now_ns + NS_PER_S - 1) / NS_PER_S)
                 : 0ULL);
    mapping_protocol_format(record->protocol, protocol);
    endpoint_format(&(struct endpoint){record->internal_address, record->internal_port}, internal);
    endpoint_format(&(struct endpoint){record->external_address, record->external_port}, external);
    endpoint_format(&(struct endpoint){record->client_address, record->client_port}, client);
    bool is_static = record->kind == MAPPING_KIND_STATIC;
    log_event(level, event, "id", id, "kind", mapping_kind_name(record->kind), "protocol", protocol,
              "internal", internal, "external", external, "client", is_static ? NULL : client,
              "lifetime_s", is_static ? NULL : lifetime, NULL);
}

void report_changes(struct daemon *daemon, const struct change *changes, size_t n_changes)
{
    if (log_level() < LOG_LEVEL_INFO)
        return;
    uint64_t now_ns = daemon_now_ns(daemon);
    for (size_t i = 0; i < n_changes; i++) {
        const struct change *change = &changes[i];
        const char *event = name_event(change);
        enum log_level level = LOG_LEVEL_INFO;
        if (!event && is_live(change->has_after, &change->after)) {
            event = "mapping renewed";
            level = LOG_LEVEL_DEBUG;
        }
        if (!event || level > log_level())
            continue;
        /* What clients bring about must not drown what happens to them. */
        struct log_limit *limit = is_move(change) ? &daemon->moved_log : &daemon->mapping_log;
        if (!log_limit_permits(limit, loop_now_ns(), MAPPING_LINES_MAX, LIMIT_INTERVAL_S))
            continue;
        bool removed = !is_live(change->has_after, &change->after);
        log_mapping(level, event, removed ? &change->before : &change->after, now_ns);
    }
}

void report_repair(struct daemon *daemon, uint64_t took_ns)
{
    char took[24], n[24];
    if (!log_limit_permits(&daemon->repair_log, loop_now_ns(), REPAIR_LINES_MAX, LIMIT_INTERVAL_S))
        return;
    snprintf(took, sizeof(took), "%llu", (unsigned long long) (took_ns / NS_PER_MS));
    snprintf(n, sizeof(n), "%llu", (unsigned long long) daemon->n_repairs);
    log_event(LOG_LEVEL_WARNING, "the kernel table was changed by somebody else and is repaired",
              "took_ms", took, "repairs", n, NULL);
}

void report_reconcile_failure(struct daemon *daemon, int error)
{
    if (!log_limit_permits(&daemon->failure_log, loop_now_ns(), FAILURE_LINES_MAX,
                           LIMIT_INTERVAL_S))
        return;
    log_event(LOG_LEVEL_ERROR, "the kernel could not be made equal to the table", "error",
              strerror(-error), NULL);
}

void report_addresses(struct daemon *daemon)
{
    char text[ADDRESSES_SHOWN * (IP_ADDRESS_TEXT_SIZE + 1) + 8] = "none";
    size_t used = 0;
    if (!log_limit_permits(&daemon->address_log, loop_now_ns(), ADDRESS_LINES_MAX,
                           LIMIT_INTERVAL_S))
        return;
    for (size_t i = 0; i < daemon->n_external_addresses && i < ADDRESSES_SHOWN; i++) {
        char address[IP_ADDRESS_TEXT_SIZE];
        ip_address_format(&daemon->external_addresses[i], address);
        used +=
            (size_t) snprintf(text + used, sizeof(text) - used, "%s%s", i > 0 ? "," : "", address);
    }
    if (daemon->n_external_addresses > ADDRESSES_SHOWN)
        snprintf(text + used, sizeof(text) - used, ",...");
    log_event(daemon->n_external_addresses > 0 ? LOG_LEVEL_NOTICE : LOG_LEVEL_WARNING,
              daemon->n_external_addresses > 0
                  ? "external addresses changed"
                  : "no external address any more: requests are answered NETWORK_FAILURE",
              "interface", daemon->settings.server.outside_interface, "now", text, NULL);
}

void report_commit_failure(struct daemon *daemon, const struct job *job)
{
    if (!log_limit_permits(&daemon->failure_log, loop_now_ns(), FAILURE_LINES_MAX,
                           LIMIT_INTERVAL_S))
        return;
    char n[24];
    snprintf(n, sizeof(n), "%zu", job->commit.n_changes);
    if (job->store_error < 0)
        log_event(LOG_LEVEL_ERROR,
                  "the store refused a commit; its requests were answered with errors", "error",
                  strerror(-job->store_error), "changes", n, NULL);
    else
        log_event(LOG_LEVEL_ERROR,
                  "the kernel refused a change; its requests were answered with errors", "error",
                  strerror(-job->kernel_error), "changes", n, NULL);
}

void report_no_address(const struct daemon *daemon)
{
    const char *name = daemon->settings.server.outside_interface;
    log_event(
        LOG_LEVEL_WARNING,
        machine_interface_index(name) == 0
            ? "the outside interface does not exist: IPv4 requests are answered NETWORK_FAILURE"
            : "the outside interface has no IPv4 address: IPv4 requests are answered "
              "NETWORK_FAILURE",
        "interface", name, NULL);
}

static void join(char *text, size_t size_bytes, const char *item)
{
    size_t length = strlen(text);
    snprintf(text + length, size_bytes - length, "%s%s", length > 0 ? " " : "", item);
}

void report_ready(const struct daemon *daemon)
{
    char inside[SETTINGS_INTERFACES_MAX * 17] = "", external[256] = "", mappings[24];
    for (size_t i = 0; i < daemon->settings.server.n_inside_interfaces; i++)
        join(inside, sizeof(inside), daemon->settings.server.inside_interfaces[i]);
    for (size_t i = 0; i < daemon->n_external_addresses; i++) {
        char address[IP_ADDRESS_TEXT_SIZE];
        join(external, sizeof(external),
             ip_address_format(&daemon->external_addresses[i], address));
    }
    size_t n_live, n_held, n_subscribers;
    server_count(daemon->server, &n_live, &n_held, &n_subscribers);
    snprintf(mappings, sizeof(mappings), "%zu", n_live);
    log_event(LOG_LEVEL_NOTICE, "holdfastd is ready", "version", HOLDFAST_VERSION, "inside", inside,
              "outside", daemon->settings.server.outside_interface, "external",
              external[0] ? external : NULL, "mappings", mappings, NULL);
}
