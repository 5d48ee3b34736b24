/* What the operator reads in the log. Lines that clients provoke are rate limited. */

#include <stdio.h>
#include <string.h>

#include "base/time.h"
#include "programs/holdfastd/daemon.h"

#define MAPPING_LINES_MAX 1000
#define FAILURE_LINES_MAX 5
#define LIMIT_INTERVAL_S 10

static bool is_live(bool there, const struct mapping_record *record)
{
    return there && record->state == MAPPING_STATE_LIVE;
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
    if (change->before.external_port != change->after.external_port ||
        !ip_address_equal(&change->before.external_address, &change->after.external_address))
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
                 ? (unsigned long long) ((record->expires_ns - now_ns) / NS_PER_S)
                 : 0ULL);
    mapping_protocol_format(record->protocol, protocol);
    endpoint_format(&(struct endpoint){record->internal_address, record->internal_port}, internal);
    endpoint_format(&(struct endpoint){record->external_address, record->external_port}, external);
    endpoint_format(&(struct endpoint){record->client_address, record->client_port}, client);
    log_event(level, event, "id", id, "protocol", protocol, "internal", internal, "external",
              external, "client", client, "lifetime_s", lifetime, NULL);
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
        if (!log_limit_permits(&daemon->mapping_log, loop_now_ns(), MAPPING_LINES_MAX,
                               LIMIT_INTERVAL_S))
            continue;
        bool removed = !is_live(change->has_after, &change->after);
        log_mapping(level, event, removed ? &change->before : &change->after, now_ns);
    }
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
