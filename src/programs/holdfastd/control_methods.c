/*
 * The control protocol's methods (docs/control.md). Who calls is known from the kernel; what changes something is answered
 * only after store and kernel have carried it out.
 */

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/time.h"
#include "control/filter.h"
#include "control/message.h"
#include "programs/holdfastd/daemon.h"
#include "wire/pcp.h"

#define LIST_PAGE 64
/* Lists being answered at the same time: each keeps a copy of what it lists. */
#define LISTINGS_MAX 8
#define SOCKET_MODE 0660

enum privilege { PRIVILEGE_NONE, PRIVILEGE_READ, PRIVILEGE_ALL };

/* What a List call still has to deliver: a snapshot, taken when it was called, in the order of ids. */
struct listing {
    struct mapping_record *records;
    size_t n_records, n_allocated, n_sent;
};

struct control_client {
    struct daemon *daemon;
    struct unix_client *connection;
    enum privilege privilege;
    bool is_oneway; /* the call being carried out wants no reply */
    bool listing_active;
    struct listing listing;
    struct list_link link;
};

/* A Clear that waits for its tick. */
struct pending_clear {
    struct list_link link;
    struct control_client *client; /* NULL: gone meanwhile */
    uint64_t tick;
    int n_cleared;
};

static void send_text(struct control_client *client, char *text)
{
    /* A client whose backlog is full is closed by io; there is nobody left to tell. */
    if (text && !client->is_oneway)
        (void) !unix_client_send(client->connection, text, strlen(text));
    free(text);
}

static void send_reply(struct control_client *client, json_t *parameters, bool continues)
{
    send_text(client, control_reply_format(parameters, continues));
}

static void send_error(struct control_client *client, const char *error, json_t *parameters)
{
    send_text(client, control_error_format(error, parameters));
}

static void send_invalid(struct control_client *client, const char *parameter)
{
    send_error(client, CONTROL_ERROR_INVALID_PARAMETER, json_pack("{s:s}", "parameter", parameter));
}

static void send_failed(struct control_client *client, const char *reason)
{
    send_error(client, CONTROL_ERROR_FAILED, json_pack("{s:s}", "reason", reason));
}

/* Status */

static json_t *describe_epoch(const struct daemon *daemon)
{
    char at[32];
    time_t seconds = (time_t) (daemon->epoch.at_wall_ns / NS_PER_S);
    struct tm tm;
    gmtime_r(&seconds, &tm);
    strftime(at, sizeof(at), "%Y-%m-%dT%H:%M:%SZ", &tm);
    uint32_t epoch_s = server_epoch_s(daemon->server, daemon_now_ns(daemon), &IP_ADDRESS_ANY_IPV6);
    return json_pack("{s:I, s:s, s:s, s:s, s:I}", "seconds", (json_int_t) epoch_s, "state",
                     daemon->epoch.continued ? "continued" : "reset", "reason",
                     daemon->epoch.reason, "at", at, "own",
                     (json_int_t) server_n_own_epochs(daemon->server));
}

static json_t *describe_counters(const struct daemon *daemon)
{
    const struct server_counters *counters = server_counters(daemon->server);
    json_t *results = json_object();
    for (uint8_t i = 0; results && i < SERVER_RESULTS; i++)
        if (counters->results[i] > 0)
            json_object_set_new(results, pcp_result_name(i),
                                json_integer((json_int_t) counters->results[i]));
    return json_pack(
        "{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:o}", "requests", (json_int_t) counters->n_requests,
        "responses", (json_int_t) counters->n_responses, "dropped",
        (json_int_t) counters->n_dropped, "repeated", (json_int_t) counters->n_repeated,
        "overloads", (json_int_t) counters->n_overloads, "adopted",
        (json_int_t) counters->n_adopted, "limited", (json_int_t) counters->n_limited, "results",
        results);
}

static json_t *describe_addresses(const struct daemon *daemon)
{
    json_t *addresses = json_array();
    for (size_t i = 0; addresses && i < daemon->n_external_addresses; i++) {
        char text[IP_ADDRESS_TEXT_SIZE];
        json_array_append_new(addresses,
                              json_string(ip_address_format(&daemon->external_addresses[i], text)));
    }
    return addresses;
}

static json_t *describe_store(const struct daemon *daemon)
{
    bool is_volatile = daemon->options.is_volatile;
    return json_pack("{s:s, s:s?, s:I, s:I}", "kind", is_volatile ? "memory" : "lmdb", "path",
                     is_volatile ? NULL : daemon->settings.state_directory, "commits",
                     (json_int_t) daemon->n_store_commits, "failures",
                     (json_int_t) daemon->n_store_failures);
}

static void call_status(struct control_client *client, const struct control_call *call)
{
    struct daemon *daemon = client->daemon;
    const char *key;
    json_t *value;
    json_object_foreach(call->parameters, key, value)
    {
        send_invalid(client, key);
        return;
    }
    size_t n_live, n_held, n_subscribers;
    server_count(daemon->server, &n_live, &n_held, &n_subscribers);
    json_t *mappings =
        json_pack("{s:I, s:I, s:I}", "live", (json_int_t) n_live, "held", (json_int_t) n_held,
                  "limit", (json_int_t) daemon->settings.server.mappings_total);
    json_t *kernel = json_pack("{s:I, s:I, s:I}", "reconciles", (json_int_t) daemon->n_reconciles,
                               "repairs", (json_int_t) daemon->n_repairs, "failures",
                               (json_int_t) daemon->n_kernel_failures);
    send_reply(client,
               json_pack("{s:s, s:i, s:s, s:I, s:s, s:o, s:o, s:I, s:o, s:o, s:o, s:o}", "version",
                         HOLDFAST_VERSION, "pid", (int) getpid(), "mode",
                         daemon->options.is_volatile ? "volatile" : "durable", "uptime_s",
                         (json_int_t) ((loop_now_ns() - daemon->started_ns) / NS_PER_S),
                         "log_level", log_level_name(log_level()), "epoch", describe_epoch(daemon),
                         "mappings", mappings, "subscribers", (json_int_t) n_subscribers,
                         "external_addresses", describe_addresses(daemon), "store",
                         describe_store(daemon), "kernel", kernel, "counters",
                         describe_counters(daemon)),
               false);
}

/* List */

static void listing_clear(struct control_client *client)
{
    for (size_t i = 0; i < client->listing.n_records; i++)
        mapping_filters_unref(client->listing.records[i].filters);
    free(client->listing.records);
    client->listing = (struct listing){0};
    client->daemon->n_listings -= client->listing_active;
    client->listing_active = false;
}

static bool filter_matches(const struct control_filter *filter, const struct mapping_record *record)
{
    struct control_filter_subject subject = {
        .id = record->id,
        .internal_address = record->internal_address,
        .internal_port = record->internal_port,
        .external_port = record->external_port,
        .protocol = record->protocol,
    };
    return record->state == MAPPING_STATE_LIVE && control_filter_matches(filter, &subject);
}

struct snapshot {
    const struct control_filter *filter;
    struct listing *listing;
};

static int take_snapshot(void *context, const struct mapping_record *record)
{
    struct snapshot *snapshot = context;
    struct listing *listing = snapshot->listing;
    if (!filter_matches(snapshot->filter, record))
        return 0;
    if (listing->n_records == listing->n_allocated) {
        size_t n = listing->n_allocated ? listing->n_allocated * 2 : 64;
        struct mapping_record *records = reallocarray(listing->records, n, sizeof(*records));
        if (!records)
            return -ENOMEM;
        listing->records = records;
        listing->n_allocated = n;
    }
    listing->records[listing->n_records] = *record;
    listing->records[listing->n_records++].filters = mapping_filters_ref(record->filters);
    return 0;
}

static int compare_ids(const void *a, const void *b)
{
    const struct mapping_record *left = a, *right = b;
    return left->id < right->id ? -1 : left->id > right->id;
}

static json_t *describe_filters(const struct mapping_filters *filters)
{
    json_t *list = json_array();
    for (size_t i = 0; list && filters && i < filters->n_filters; i++) {
        char text[IP_PREFIX_TEXT_SIZE];
        json_array_append_new(list, json_pack("{s:s, s:i}", "remote",
                                              ip_prefix_format(&filters->items[i].remote, text),
                                              "remote_port", (int) filters->items[i].remote_port));
    }
    return list;
}

static json_t *describe_nonce(const struct mapping_record *record)
{
    char hex[2 * MAPPING_NONCE_SIZE + 1];
    if (!record->has_nonce)
        return json_null();
    for (size_t i = 0; i < MAPPING_NONCE_SIZE; i++)
        snprintf(hex + 2 * i, 3, "%02x", record->nonce[i]);
    return json_string(hex);
}

static json_t *describe_endpoint(const struct ip_address *address, uint16_t port, bool there)
{
    char text[ENDPOINT_TEXT_SIZE];
    if (!there)
        return json_null();
    return json_string(endpoint_format(&(struct endpoint){*address, port}, text));
}

static json_t *describe_mapping(const struct mapping_record *record, uint64_t now_ns,
                                bool with_nonce)
{
    char protocol[8];
    bool is_static = record->kind == MAPPING_KIND_STATIC;
    uint64_t left_ns = record->expires_ns > now_ns ? record->expires_ns - now_ns : 0;
    json_t *lifetime =
        is_static ? json_null() : json_integer((json_int_t) ((left_ns + NS_PER_S - 1) / NS_PER_S));
    json_t *mapping = json_pack(
        "{s:I, s:s, s:s, s:o, s:o, s:o, s:o, s:I, s:o, s:o}", "id", (json_int_t) record->id, "kind",
        mapping_kind_name(record->kind), "protocol",
        mapping_protocol_format(record->protocol, protocol), "internal",
        describe_endpoint(&record->internal_address, record->internal_port, true), "external",
        describe_endpoint(&record->external_address, record->external_port, true), "remote",
        describe_endpoint(&record->remote_address, record->remote_port,
                          record->kind == MAPPING_KIND_PEER),
        "lifetime_s", lifetime, "granted_ago_s",
        (json_int_t) ((now_ns - record->created_ns) / NS_PER_S), "filters",
        describe_filters(record->filters), "client",
        describe_endpoint(&record->client_address, record->client_port, !is_static));
    if (mapping && with_nonce)
        json_object_set_new(mapping, "nonce", describe_nonce(record));
    return mapping;
}

/* Pages until all is sent or the client's backlog is half full; the writable callback goes on. */
static void send_pages(struct control_client *client)
{
    struct listing *listing = &client->listing;
    uint64_t now_ns = daemon_now_ns(client->daemon);
    while (client->listing_active &&
           unix_client_backlog(client->connection) < UNIX_SERVER_BACKLOG_BYTES / 2) {
        json_t *page = json_array();
        size_t n = 0;
        for (; page && n < LIST_PAGE && listing->n_sent < listing->n_records; n++)
            json_array_append_new(page,
                                  describe_mapping(&listing->records[listing->n_sent++], now_ns,
                                                   client->privilege == PRIVILEGE_ALL));
        bool more = listing->n_sent < listing->n_records;
        send_reply(client, json_pack("{s:o}", "mappings", page), more);
        if (!more)
            listing_clear(client);
    }
}

static void call_list(struct control_client *client, const struct control_call *call)
{
    struct control_filter filter;
    const char *wrong;
    if (control_filter_parse(call->parameters, &filter, &wrong) < 0) {
        send_invalid(client, wrong);
        return;
    }
    if (!call->more || call->oneway) {
        send_error(client, CONTROL_ERROR_EXPECTED_MORE, NULL);
        return;
    }
    if (client->listing_active) {
        send_failed(client, "the last List of this connection is still being answered");
        return;
    }
    if (client->daemon->n_listings == LISTINGS_MAX) {
        send_failed(client, "too many lists are being read at the moment: try again");
        return;
    }
    client->daemon->n_listings++;
    client->listing_active = true;
    struct snapshot snapshot = {.filter = &filter, .listing = &client->listing};
    if (server_for_each_mapping(client->daemon->server, take_snapshot, &snapshot) < 0) {
        listing_clear(client);
        send_failed(client, "out of memory");
        return;
    }
    if (client->listing.n_records > 1)
        qsort(client->listing.records, client->listing.n_records, sizeof(struct mapping_record),
              compare_ids);
    send_pages(client);
}

/* Clear */

static enum server_clear_scope scope_of(const struct control_filter *filter)
{
    if (filter->has_subscriber)
        return SERVER_CLEAR_SUBSCRIBER;
    return filter->has_id ? SERVER_CLEAR_ID : SERVER_CLEAR_ALL;
}

static void wait_for_tick(struct control_client *client, uint64_t tick, int n_cleared)
{
    if (client->is_oneway)
        return;
    struct pending_clear *pending = calloc(1, sizeof(*pending));
    if (!pending) {
        send_failed(
            client,
            "out of memory: the mappings are being cleared, but this call cannot wait for it");
        return;
    }
    *pending = (struct pending_clear){.client = client, .tick = tick, .n_cleared = n_cleared};
    list_append(&client->daemon->pending_clears, &pending->link);
}

static void call_clear(struct control_client *client, const struct control_call *call)
{
    struct control_filter filter;
    const char *wrong;
    if (control_filter_parse_clear(call->parameters, &filter, &wrong) < 0) {
        send_invalid(client, wrong);
        return;
    }
    struct daemon *daemon = client->daemon;
    uint64_t tick = 0;
    int n = server_clear(daemon->server, daemon_now_ns(daemon), scope_of(&filter),
                         &filter.subscriber, filter.id, &tick);
    if (n < 0)
        send_failed(client, strerror(-n));
    else if (n == 0)
        send_reply(client, json_pack("{s:i}", "cleared", 0), false);
    else
        wait_for_tick(client, tick, n);
}

void control_methods_complete(struct daemon *daemon, uint64_t tick, bool done)
{
    struct list_link *link = daemon->pending_clears.next;
    while (link != &daemon->pending_clears) {
        struct pending_clear *pending = CONTAINER_OF(link, struct pending_clear, link);
        link = link->next;
        /* A failed tick takes the one decided on top of it down as well. */
        if (done ? pending->tick > tick : pending->tick > tick + 1)
            continue;
        if (pending->client && done)
            send_reply(pending->client, json_pack("{s:i}", "cleared", pending->n_cleared), false);
        else if (pending->client)
            send_failed(pending->client, "store or kernel refused: nothing was cleared");
        list_remove(&pending->link);
        free(pending);
    }
}

/* Reload, SetLogLevel */

static void call_reload(struct control_client *client, const struct control_call *call)
{
    const char *key;
    json_t *value;
    json_object_foreach(call->parameters, key, value)
    {
        send_invalid(client, key);
        return;
    }
    char *error = NULL;
    if (daemon_reload(client->daemon, &error) < 0)
        send_failed(client, error ? error : "out of memory");
    else
        send_reply(client, NULL, false);
    free(error);
}

static void call_set_log_level(struct control_client *client, const struct control_call *call)
{
    enum log_level level;
    const char *key;
    json_t *value;
    json_object_foreach(call->parameters, key, value)
    {
        if (strcmp(key, "level") != 0) {
            send_invalid(client, key);
            return;
        }
    }
    const char *name = json_string_value(json_object_get(call->parameters, "level"));
    if (!name || log_level_parse(name, &level) < 0) {
        send_invalid(client, "level");
        return;
    }
    log_set_level(level);
    send_reply(client, NULL, false);
}

static const struct {
    const char *name;
    enum privilege privilege;
    void (*call)(struct control_client *client, const struct control_call *call);
} methods[] = {
    {CONTROL_INTERFACE ".Status", PRIVILEGE_READ, call_status},
    {CONTROL_INTERFACE ".List", PRIVILEGE_READ, call_list},
    {CONTROL_INTERFACE ".Clear", PRIVILEGE_ALL, call_clear},
    {CONTROL_INTERFACE ".Reload", PRIVILEGE_ALL, call_reload},
    {CONTROL_INTERFACE ".SetLogLevel", PRIVILEGE_ALL, call_set_log_level},
};

static void dispatch(struct control_client *client, const struct control_call *call)
{
    for (size_t i = 0; i < N_ELEMENTS(methods); i++) {
        if (strcmp(call->method, methods[i].name) != 0)
            continue;
        if (client->privilege < methods[i].privilege)
            send_error(client, CONTROL_ERROR_PERMISSION_DENIED, NULL);
        else
            methods[i].call(client, call);
        return;
    }
    send_error(client, CONTROL_ERROR_METHOD_NOT_FOUND, json_pack("{s:s}", "method", call->method));
}

static bool client_connected(void *context, struct unix_client *connection, uid_t uid, gid_t gid,
                             pid_t pid)
{
    struct daemon *daemon = context;
    (void) gid;
    (void) pid;
    struct control_client *client = calloc(1, sizeof(*client));
    if (!client)
        return false;
    client->daemon = daemon;
    client->connection = connection;
    /* Whoever else got through the socket's file mode is a member of its group. */
    client->privilege = uid == 0 || uid == geteuid() ? PRIVILEGE_ALL : PRIVILEGE_READ;
    list_append(&daemon->control_clients, &client->link);
    unix_client_set_context(connection, client);
    return true;
}

static void client_message(void *context, struct unix_client *connection, const char *text,
                           size_t size_bytes)
{
    (void) context;
    struct control_client *client = unix_client_context(connection);
    struct control_call call;
    if (control_call_parse(text, size_bytes, &call) < 0) {
        unix_client_close(connection);
        return;
    }
    client->is_oneway = call.oneway;
    dispatch(client, &call);
    client->is_oneway = false;
    control_call_deinit(&call);
}

static void client_closed(void *context, struct unix_client *connection)
{
    struct daemon *daemon = context;
    struct control_client *client = unix_client_context(connection);
    if (!client)
        return;
    for (struct list_link *link = daemon->pending_clears.next; link != &daemon->pending_clears;
         link = link->next) {
        struct pending_clear *pending = CONTAINER_OF(link, struct pending_clear, link);
        if (pending->client == client)
            pending->client = NULL;
    }
    listing_clear(client);
    list_remove(&client->link);
    free(client);
}

static void client_writable(void *context, struct unix_client *connection)
{
    (void) context;
    send_pages(unix_client_context(connection));
}

int control_methods_open(struct daemon *daemon)
{
    const struct unix_server_handler handler = {
        .connected = client_connected,
        .message = client_message,
        .closed = client_closed,
        .writable = client_writable,
        .context = daemon,
    };
    int r = unix_server_open(daemon->loop, daemon->settings.control_socket, SOCKET_MODE, &handler,
                             &daemon->control);
    if (r < 0)
        log_event(LOG_LEVEL_ERROR, "the control socket cannot be opened", "path",
                  daemon->settings.control_socket, "error", strerror(-r), NULL);
    return r;
}
