/*
 * Static mappings: what the configuration maps (RFC 6887 s2.2). They are in the table and in the kernel like any other, but
 * have no nonce, no end, and no place in the store: the configuration is their store. Where a client's mapping is in the
 * way, the client's ends and it is told. When one goes, so is its own host, but not over a restart: nobody remembers where
 * it was.
 */

#include <errno.h>
#include <string.h>

#include "server/claim.h"
#include "server/internal.h"

/*
 * Where no external address is configured it is the first one, always: what is not stored must come out the same after a restart.
 */
static bool describes(const struct server *server, const struct server_static *wanted,
                      const struct mapping_record *record)
{
    const struct ip_address *first = external_space_first_active(&server->table.external);
    const struct ip_address *external = &wanted->external.address;
    bool any_will_do = !ip_address_is_ipv4(&record->external_address) || !first;
    if (ip_address_is_any(external) && !any_will_do)
        external = first;
    return record->protocol == wanted->protocol && record->internal_port == wanted->internal.port &&
           record->external_port == wanted->external.port &&
           ip_address_equal(&record->internal_address, &wanted->internal.address) &&
           (ip_address_is_any(external) || ip_address_equal(&record->external_address, external));
}

static bool is_configured(const struct server *server, const struct mapping_record *record)
{
    for (size_t i = 0; i < server->settings.n_statics; i++)
        if (describes(server, &server->settings.statics[i], record))
            return true;
    return false;
}

/* The configuration wants it, and there where it is. Without any external address everything stays where it is. */
static bool is_due_here(const struct server *server, const struct mapping_record *record)
{
    const struct external_space *external = &server->table.external;
    return is_configured(server, record) &&
           (!ip_address_is_ipv4(&record->external_address) ||
            !external_space_first_active(external) ||
            external_space_is_active(external, &record->external_address));
}

/* The next one that is not wanted any more, or not there. */
static int find_stale(void *context, struct mapping *mapping)
{
    struct mapping **ret_mapping = ((void **) context)[1];
    const struct server *server = ((void **) context)[0];
    if (mapping->record.kind != MAPPING_KIND_STATIC || is_due_here(server, &mapping->record))
        return 0;
    *ret_mapping = mapping;
    return 1;
}

static int remove_stale(struct server *server, uint64_t now_ns)
{
    for (;;) {
        struct mapping *stale = NULL;
        void *context[2] = {server, &stale};
        mapping_table_for_each(&server->table, find_stale, context);
        if (!stale)
            return 0;
        /* Whoever asked for it was told that it has no end. */
        struct mapping_record record = stale->record;
        int r = maintenance_reset_epoch_of(server, &record, now_ns);
        if (r == 0)
            r = tick_put(server, stale, NULL, NULL);
        if (r < 0)
            return r;
    }
}

static bool fill_record(const struct server *server, const struct server_static *wanted,
                        uint64_t now_ns, struct mapping_record *ret_record)
{
    const struct external_space *space = &server->table.external;
    const struct ip_address *external = &wanted->external.address;
    if (!ip_address_is_ipv4(&wanted->internal.address))
        external = &wanted->internal.address;
    else if (ip_address_is_any(external))
        external = external_space_first_active(space);
    else if (!external_space_is_active(space, external))
        return false;
    if (!external)
        return false;
    *ret_record = (struct mapping_record){
        .kind = MAPPING_KIND_STATIC,
        .state = MAPPING_STATE_LIVE,
        .created_ns = now_ns,
        .expires_ns = TIME_NEVER,
        .internal_address = wanted->internal.address,
        .internal_port = wanted->internal.port,
        .external_address = *external,
        .external_port = wanted->external.port,
        .protocol = wanted->protocol,
    };
    return true;
}

/* Both cannot be: the same external endpoint, or one in all ports or protocols of the other, for two internal ones. */
static bool contradicts(const struct mapping_record *a, const struct mapping_record *b)
{
    bool same_protocol = a->protocol == b->protocol || a->protocol == 0 || b->protocol == 0;
    bool is_whole = a->external_port == 0 || b->external_port == 0;
    bool same_port = a->external_port == b->external_port || is_whole;
    if (!same_protocol || !same_port ||
        !ip_address_equal(&a->external_address, &b->external_address))
        return false;
    return !ip_address_equal(&a->internal_address, &b->internal_address) ||
           (!is_whole && a->internal_port != b->internal_port);
}

struct obstacle_search {
    const struct mapping_record *record;
    struct mapping *found;
};

static int match_obstacle(void *context, struct mapping *mapping)
{
    struct obstacle_search *search = context;
    if (!contradicts(search->record, &mapping->record))
        return 0;
    search->found = mapping;
    return 1;
}

/* Whoever has the key or the external endpoint that a static mapping needs. */
static struct mapping *find_obstacle(const struct server *server,
                                     const struct mapping_record *record)
{
    const struct mapping_table *table = &server->table;
    struct mapping_key key = mapping_key_of(record);
    struct mapping *mapping = mapping_table_find(table, &key);
    if (mapping || !ip_address_is_ipv4(&record->external_address))
        return mapping;
    struct obstacle_search search = {.record = record};
    if (record->external_port == 0) {
        mapping_table_for_each(table, match_obstacle, &search);
        return search.found;
    }
    struct mapping *others[] = {
        mapping_table_find_external(table, &record->external_address, record->protocol,
                                    record->external_port),
        mapping_table_find_external(table, &record->external_address, record->protocol, 0),
        mapping_table_find_external(table, &record->external_address, 0, 0),
    };
    for (size_t i = 0; i < N_ELEMENTS(others); i++)
        if (others[i] && contradicts(record, &others[i]->record))
            return others[i];
    return NULL;
}

static int make_way(struct server *server, struct mapping *obstacle, uint64_t now_ns)
{
    struct mapping_record record = obstacle->record;
    if (record.kind == MAPPING_KIND_STATIC)
        return -EADDRINUSE;
    int r = record.state == MAPPING_STATE_LIVE ? maintenance_reset_epoch_of(server, &record, now_ns)
                                               : 0;
    return r < 0 ? r : tick_put(server, obstacle, NULL, NULL);
}

static int make_one(struct server *server, const struct server_static *wanted, uint64_t now_ns)
{
    struct mapping_record record;
    if (!fill_record(server, wanted, now_ns, &record))
        return 0; /* made when there is an external address */
    struct mapping *obstacle;
    while ((obstacle = find_obstacle(server, &record))) {
        if (obstacle->record.kind == MAPPING_KIND_STATIC &&
            describes(server, wanted, &obstacle->record))
            return 0;
        int r = make_way(server, obstacle, now_ns);
        if (r < 0)
            return r;
    }
    record.id = server->next_id++;
    return tick_put(server, NULL, &record, NULL);
}

int statics_make(struct server *server, uint64_t now_ns)
{
    int r = remove_stale(server, now_ns), in_use = 0;
    for (size_t i = 0; r == 0 && i < server->settings.n_statics; i++) {
        r = make_one(server, &server->settings.statics[i], now_ns);
        if (r == -EADDRINUSE) {
            in_use = r;
            r = 0;
        }
    }
    return r < 0 ? r : in_use;
}
