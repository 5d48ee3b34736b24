/*
 * Notices are few and short-lived: a list of them, each with its own schedule, found by mapping id through a hash index. A
 * notice whose mapping is gone by its turn is dropped. Notices go out only once the change they tell of is committed.
 */

#include "server/tell.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "server/internal.h"
#include "wire/natpmp.h"

enum notice_kind {
    NOTICE_ANNOUNCE, /* PCP's ANNOUNCE */
    NOTICE_ADDRESS,  /* NAT-PMP's announcement */
    NOTICE_UPDATE,   /* a mapping stands elsewhere */
    NOTICE_LOSS,     /* a mapping could not stand elsewhere */
};

struct notice {
    enum notice_kind kind;
    struct hash_link by_key;
    struct deadline deadline;
    uint64_t tick; /* that decided what is told */
    uint64_t gap_ns;
    unsigned int n_left;
    struct endpoint client;       /* whom to tell, where nothing of `record` counts */
    struct mapping_record record; /* as decided; filters not included */
};

static bool is_about_mapping(enum notice_kind kind)
{
    return kind == NOTICE_UPDATE || kind == NOTICE_LOSS;
}

void tell_init(struct server *server)
{
    hash_index_init(&server->notices);
    deadline_heap_init(&server->notice_deadlines);
}

static void free_notice(struct server *server, struct notice *notice)
{
    deadline_heap_remove(&server->notice_deadlines, &notice->deadline);
    hash_index_remove(&server->notices, &notice->by_key);
    free(notice);
}

void tell_deinit(struct server *server)
{
    struct deadline *deadline;
    while ((deadline = deadline_heap_first(&server->notice_deadlines)))
        free_notice(server, CONTAINER_OF(deadline, struct notice, deadline));
    hash_index_deinit(&server->notices);
    deadline_heap_deinit(&server->notice_deadlines);
}

static void begin_announcements(struct server *server, uint64_t now_ns, bool tells_pcp,
                                uint64_t natpmp_epoch_zero_ns)
{
    struct announcer *announcer = &server->announcer;
    bool is_running = announcer->n_left > 0 || announcer->is_due;
    *announcer = (struct announcer){
        .n_left = TELL_ANNOUNCEMENTS,
        .next_ns = now_ns,
        .gap_ns = TELL_FIRST_GAP_NS,
        .tells_pcp = tells_pcp || (is_running && announcer->tells_pcp),
        .natpmp_epoch_zero_ns = natpmp_epoch_zero_ns,
    };
}

/* [R-6887-14-1] [R-6887-14-2] [R-6887-14.1.3-3] [R-6886-3.7-1] */
void tell_all(struct server *server, uint64_t now_ns)
{
    begin_announcements(server, now_ns, list_is_empty(&server->own_epochs), server->epoch_zero_ns);
}

/* Whoever had a mapping on the old one has an Epoch that is as new. */
void tell_address(struct server *server, uint64_t now_ns)
{
    if (server->settings.natpmp)
        begin_announcements(server, now_ns, false, now_ns);
}

/* Notices to a client are told apart by its endpoint, those about a mapping by its id. */
static uint64_t hash_of(const struct server *server, const struct notice *notice)
{
    uint8_t octets[32] = {[18] = (uint8_t) is_about_mapping(notice->kind)};
    if (is_about_mapping(notice->kind)) {
        memcpy(octets + 24, &notice->record.id, 8);
    } else {
        memcpy(octets, notice->client.address.octets, 16);
        memcpy(octets + 16, &notice->client.port, 2);
        octets[19] = (uint8_t) notice->kind;
    }
    return siphash(&server->table.hash_key, octets, sizeof(octets));
}

static bool same_key(const struct notice *a, const struct notice *b)
{
    if (is_about_mapping(a->kind))
        return is_about_mapping(b->kind) && a->record.id == b->record.id;
    return a->kind == b->kind && endpoint_equal(&a->client, &b->client);
}

static struct notice *find_notice(const struct server *server, const struct notice *like)
{
    for (struct hash_link *link = hash_index_first(&server->notices, hash_of(server, like)); link;
         link = hash_index_next(link)) {
        struct notice *notice = CONTAINER_OF(link, struct notice, by_key);
        if (same_key(notice, like))
            return notice;
    }
    return NULL;
}

static int insert_notice(struct server *server, uint64_t now_ns, struct notice *notice)
{
    deadline_init(&notice->deadline);
    int r = deadline_heap_set(&server->notice_deadlines, &notice->deadline, now_ns);
    if (r < 0)
        return r;
    r = hash_index_insert(&server->notices, &notice->by_key, hash_of(server, notice));
    if (r < 0)
        deadline_heap_remove(&server->notice_deadlines, &notice->deadline);
    return r;
}

/* Without room or memory for the notice everybody learns that something changed. */
static void give_notice(struct server *server, uint64_t now_ns, const struct notice *wanted)
{
    /* Without its interface, which is not kept, a link-local address is nobody's. */
    if (!ip_address_is_ipv4(&wanted->client.address) &&
        ip_address_is_link_local(&wanted->client.address))
        return;
    struct notice *old = find_notice(server, wanted);
    if (old)
        free_notice(server, old);
    struct notice *notice =
        hash_index_count(&server->notices) < TELL_NOTICES_MAX ? malloc(sizeof(*notice)) : NULL;
    if (notice) {
        *notice = *wanted;
        notice->tick = server->tick_number;
        notice->gap_ns = TELL_FIRST_GAP_NS;
        notice->n_left = is_about_mapping(wanted->kind) ? TELL_UPDATES : TELL_ANNOUNCEMENTS;
        notice->record.filters = NULL;
    }
    if (!notice || insert_notice(server, now_ns, notice) < 0) {
        free(notice);
        server_reset_epoch(server, now_ns);
    }
}

/* [R-6887-14-2] To the port it asked from, and to the one where clients listen for announcements (RFC 6887 s14.1). */
static void announce_to(struct server *server, uint64_t now_ns, enum notice_kind kind,
                        const struct ip_address *address, uint16_t port)
{
    struct notice wanted = {.kind = kind, .client = {*address, PCP_CLIENT_PORT}};
    give_notice(server, now_ns, &wanted);
    wanted.client.port = port;
    if (port != PCP_CLIENT_PORT)
        give_notice(server, now_ns, &wanted);
}

void tell_subscriber(struct server *server, uint64_t now_ns, const struct mapping_record *record)
{
    bool is_natpmp = record->kind == MAPPING_KIND_MAP && !record->has_nonce;
    if (record->kind == MAPPING_KIND_STATIC || record->third_party)
        announce_to(server, now_ns, NOTICE_ANNOUNCE, &record->internal_address, PCP_CLIENT_PORT);
    if (is_natpmp && server->settings.natpmp)
        announce_to(server, now_ns, NOTICE_ADDRESS, &record->client_address, PCP_CLIENT_PORT);
    else if (record->kind != MAPPING_KIND_STATIC)
        announce_to(server, now_ns, NOTICE_ANNOUNCE, &record->client_address, record->client_port);
}

/* NAT-PMP has no such message: its clients learn by the announcement of the address. */
static void tell_of_mapping(struct server *server, uint64_t now_ns, enum notice_kind kind,
                            const struct mapping_record *record)
{
    struct notice wanted = {
        .kind = kind,
        .client = {record->client_address, record->client_port},
        .record = *record,
    };
    if (record->kind != MAPPING_KIND_STATIC && record->has_nonce)
        give_notice(server, now_ns, &wanted);
}

/* [R-6887-14-1] [R-6887-14-2] */
void tell_update(struct server *server, uint64_t now_ns, const struct mapping_record *record)
{
    tell_of_mapping(server, now_ns, NOTICE_UPDATE, record);
}

void tell_lost(struct server *server, uint64_t now_ns, const struct mapping_record *record)
{
    tell_of_mapping(server, now_ns, NOTICE_LOSS, record);
}

/* [R-6887-14.2-8] */
void tell_cancel(struct server *server, uint64_t id)
{
    if (hash_index_count(&server->notices) == 0)
        return;
    struct notice like = {.kind = NOTICE_UPDATE, .record = {.id = id}};
    struct notice *notice = find_notice(server, &like);
    if (notice)
        free_notice(server, notice);
}

/* As if it had asked; the source is the kernel's choice, the address towards the client. */
static void send_unsolicited(struct server *server, const struct endpoint *client,
                             const void *octets, int size, uint8_t result)
{
    struct datagram datagram = {.source = *client};
    answer_octets(server, &datagram, octets, size, result, false);
}

/* [R-6887-14.1.3-1] */
static void send_announcement(struct server *server, uint64_t now_ns, const struct notice *notice)
{
    uint8_t octets[PCP_SIZE_MAX];
    struct pcp_response response = {
        .opcode = PCP_OPCODE_ANNOUNCE,
        .epoch_s = server_epoch_s(server, now_ns, &notice->client.address),
    };
    int size = pcp_response_encode(&response, octets, sizeof(octets));
    send_unsolicited(server, &notice->client, octets, size, PCP_RESULT_SUCCESS);
}

static int encode_address(const struct server *server, uint32_t epoch_s, void *ret_data,
                          size_t size_bytes)
{
    const struct ip_address *address = external_space_first_active(&server->table.external);
    if (!server->settings.natpmp || !address)
        return -ENODATA;
    struct natpmp_response response = {
        .opcode = NATPMP_OPCODE_ADDRESS,
        .epoch_s = epoch_s,
        .external_address = ip_address_to_ipv4(address),
    };
    return natpmp_response_encode(&response, ret_data, size_bytes);
}

static void send_address(struct server *server, uint64_t now_ns, const struct notice *notice)
{
    uint8_t octets[NATPMP_RESPONSE_SIZE_MAX];
    uint32_t epoch_s = server_epoch_s(server, now_ns, &notice->client.address);
    int size = encode_address(server, epoch_s, octets, sizeof(octets));
    if (size > 0)
        send_unsolicited(server, &notice->client, octets, size, PCP_RESULT_SUCCESS);
}

/* [R-6887-14.2-3] [R-6887-14.2-5] [R-6887-14.2-9] */
static void add_options(struct pcp_response *response, const struct mapping_record *record)
{
    if (record->third_party)
        response->options[response->n_options++] = (struct pcp_option){
            .code = PCP_OPTION_THIRD_PARTY, .third_party = record->internal_address};
    for (size_t i = 0; record->filters && i < record->filters->n_filters; i++) {
        const struct mapping_filter *filter = &record->filters->items[i];
        response->options[response->n_options++] = (struct pcp_option){
            .code = PCP_OPTION_FILTER,
            .filter = {.remote = filter->remote, .remote_port = filter->remote_port},
        };
    }
}

/* [R-6887-14.2-6] */
static void fill_update(const struct server *server, uint64_t now_ns,
                        const struct mapping_record *record, struct pcp_response *ret_response)
{
    *ret_response = (struct pcp_response){
        .opcode = record->kind == MAPPING_KIND_PEER ? PCP_OPCODE_PEER : PCP_OPCODE_MAP,
        .epoch_s = server_epoch_s(server, now_ns, &record->client_address),
        .mapping =
            {
                .protocol = record->protocol,
                .internal_port = record->internal_port,
                .external = {record->external_address, record->external_port},
                .remote = {record->remote_address, record->remote_port},
            },
    };
    memcpy(ret_response->mapping.nonce, record->nonce, sizeof(ret_response->mapping.nonce));
    add_options(ret_response, record);
}

/*
 * The mapping as it stands now, if that is still what is to be told; `notice->record` for one that is gone, as it should be.
 */
static const struct mapping_record *find_subject(const struct server *server,
                                                 const struct notice *notice)
{
    const struct mapping *mapping = mapping_table_find_record(&server->table, &notice->record);
    bool lives = mapping && mapping->record.state == MAPPING_STATE_LIVE;
    if (notice->kind == NOTICE_LOSS)
        return lives ? NULL : &notice->record;
    if (!lives || mapping->record.external_port != notice->record.external_port ||
        !ip_address_equal(&mapping->record.external_address, &notice->record.external_address))
        return NULL;
    return &mapping->record;
}

/*
 * RFC 6887 s14.2: a MAP or PEER response as if the client had just renewed; for a PREFER_FAILURE mapping that could not be moved with its port the
 * error CANNOT_PROVIDE_EXTERNAL. False: there is nothing to tell any more.
 */
/* [R-6887-14.2-2] [R-6887-14.2-4] [R-6887-14.2-10] */
static bool send_update(struct server *server, uint64_t now_ns, const struct notice *notice)
{
    const struct mapping_record *record = find_subject(server, notice);
    if (!record)
        return false;
    struct pcp_response response;
    fill_update(server, now_ns, record, &response);
    response.lifetime_s = remaining_s(record, now_ns);
    if (notice->kind == NOTICE_LOSS) {
        response.result = PCP_RESULT_CANNOT_PROVIDE_EXTERNAL;
        response.lifetime_s = error_lifetime_s(PCP_RESULT_CANNOT_PROVIDE_EXTERNAL);
    }
    uint8_t octets[PCP_SIZE_MAX];
    int size = pcp_response_encode(&response, octets, sizeof(octets));
    send_unsolicited(server, &notice->client, octets, size, response.result);
    return true;
}

static bool send_notice(struct server *server, uint64_t now_ns, const struct notice *notice)
{
    switch (notice->kind) {
    case NOTICE_ANNOUNCE:
        send_announcement(server, now_ns, notice);
        return true;
    case NOTICE_ADDRESS:
        send_address(server, now_ns, notice);
        return true;
    case NOTICE_UPDATE:
    case NOTICE_LOSS:
        return send_update(server, now_ns, notice);
    }
    return false;
}

/* [R-6887-14.2-6] [R-6887-14.2-7] */
static void serve_notice(struct server *server, uint64_t now_ns, struct notice *notice)
{
    if (!send_notice(server, now_ns, notice) || --notice->n_left == 0) {
        free_notice(server, notice);
        return;
    }
    (void) !deadline_heap_set(&server->notice_deadlines, &notice->deadline,
                              now_ns + notice->gap_ns); /* moving cannot fail */
    notice->gap_ns *= 2;
}

/* What is told was committed, or was taken back and nothing is left to commit. */
static bool may_be_told(const struct server *server, const struct notice *notice)
{
    return notice->tick <= server->committed_number ||
           (!server->in_flight && !tick_has_changes(server->deciding));
}

/* [R-6887-14.1.3-4] [R-6886-3.2.1-2] */
void tell_advance(struct server *server, uint64_t now_ns)
{
    struct announcer *announcer = &server->announcer;
    if (announcer->n_left > 0 && now_ns >= announcer->next_ns) {
        announcer->is_due = true;
        announcer->n_left--;
        announcer->next_ns = now_ns + announcer->gap_ns;
        announcer->gap_ns *= 2;
    }
    while (server->outbox.n_replies < TICK_REPLIES_MAX) {
        struct deadline *deadline = deadline_heap_first(&server->notice_deadlines);
        if (!deadline || deadline->at_ns > now_ns)
            return;
        struct notice *notice = CONTAINER_OF(deadline, struct notice, deadline);
        if (!may_be_told(server, notice))
            return; /* the commit's end calls again */
        serve_notice(server, now_ns, notice);
    }
}

uint64_t tell_next_ns(const struct server *server)
{
    uint64_t at_ns = server->announcer.n_left > 0 ? server->announcer.next_ns : TIME_NEVER;
    const struct deadline *deadline = deadline_heap_first(&server->notice_deadlines);
    /* The commit's end, and who empties the outbox, call anyway. */
    if (!deadline || server->outbox.n_replies >= TICK_REPLIES_MAX ||
        !may_be_told(server, CONTAINER_OF(deadline, const struct notice, deadline)))
        return at_ns;
    return deadline->at_ns < at_ns ? deadline->at_ns : at_ns;
}

/* [R-6887-14.1.3-3] [R-6886-3.2.1-1] [R-6886-3.2.1-3] */
/* [R-6887-14.1.3-1] */
bool server_take_announcement(struct server *server, uint64_t now_ns,
                              struct server_announcement *ret_announcement)
{
    struct announcer *announcer = &server->announcer;
    if (!announcer->is_due)
        return false;
    announcer->is_due = false;
    *ret_announcement = (struct server_announcement){0};
    struct pcp_response pcp = {
        .opcode = PCP_OPCODE_ANNOUNCE,
        .epoch_s = epoch_since(server->epoch_zero_ns, now_ns),
    };
    int size = -ENODATA;
    if (announcer->tells_pcp)
        size = pcp_response_encode(&pcp, ret_announcement->pcp, sizeof(ret_announcement->pcp));
    if (size > 0)
        ret_announcement->pcp_size_bytes = (size_t) size;
    size = encode_address(server, epoch_since(announcer->natpmp_epoch_zero_ns, now_ns),
                          ret_announcement->natpmp, sizeof(ret_announcement->natpmp));
    if (size > 0)
        ret_announcement->natpmp_size_bytes = (size_t) size;
    return true;
}
