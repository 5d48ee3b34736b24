/*
 * Connection tracking has no index for what we ask (the remote end is unknown), so the kernel walks
 * its table each time; what counts is how much of it is copied out. A few mappings are asked for
 * one by one, with a filter that the kernel applies (Linux 5.8; an older one sends everything,
 * which only costs time). Many mappings share one walk, and each entry is looked up in a sorted
 * list of them: a list, because clients choose what would be hashed.
 *
 * What a flow is judged by are the two ends of its translation, external and internal, together:
 * nobody else's flow has both. IPv6 flows are not translated; there our label says that a mapping
 * let the flow in.
 */

#include "nat/nft/nft_conntrack.h"

#include <arpa/inet.h>
#include <endian.h>
#include <errno.h>
#include <linux/netfilter/nf_conntrack_common.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <libmnl/libmnl.h>

#include "nat/nft/nft_rule.h"
#include "nat/nft/nft_tuple.h"

/*
 * Above, one full walk is cheaper than two filtered ones per mapping. Measured with 262 144
 * buckets: a filtered walk takes 4 ms among 20 000 flows and 14 ms among 180 000, a full one 25 ms
 * and 230 ms.
 */
#define FILTERED_RECORDS_MAX 4
#define RECEIVE_SIZE 65536
#define DELETIONS_SIZE 65536
#define DELETION_SIZE_MAX 512

/* Linux names these in nf_internals.h only. */
#define FILTER_ADDRESS_DESTINATION (1U << 1)
#define FILTER_PROTOCOL (1U << 3)
#define FILTER_PORT_DESTINATION (1U << 5)

#define TRANSLATED_OR_ANSWERED ((uint32_t) (IPS_SRC_NAT | IPS_DST_NAT | IPS_SEEN_REPLY))

#define KEY_SIZE 19

/*
 * A mapping under the endpoint by which its flows are found: the external one, or of IPv6 the only
 * one.
 */
struct target {
    uint8_t key[KEY_SIZE]; /* protocol, address, port */
    const struct mapping_record *record;
    bool keeps_outbound; /* what its host sent goes on as an ordinary flow (RFC 6887 s12.3) */
};

struct flow {
    struct nft_tuple original, reply;
    const struct nlattr *original_attribute, *id, *zone;
    bool is_labelled;
    uint32_t status; /* IPS_ bits */
};

struct nft_conntrack {
    /* Which entries the present walk is to remove. */
    bool (*selects)(const struct nft_conntrack *conntrack, const struct flow *flow);
    struct mnl_socket *reader, *remover;
    uint8_t *received;
    uint8_t *deletions; /* messages not yet sent */
    size_t deletions_size;
    int error;
    struct target *targets;
    size_t n_targets;
    const struct nat_settings *settings;
};

static int open_socket(struct mnl_socket **ret_socket)
{
    struct mnl_socket *socket = mnl_socket_open2(NETLINK_NETFILTER, SOCK_CLOEXEC);

    if (!socket)
        return -errno;
    if (mnl_socket_bind(socket, 0, MNL_SOCKET_AUTOPID) < 0) {
        int error = -errno;
        mnl_socket_close(socket);
        return error;
    }
    *ret_socket = socket;
    return 0;
}

int nft_conntrack_open(struct nft_conntrack **ret_conntrack)
{
    struct nft_conntrack *conntrack = calloc(1, sizeof(*conntrack));
    int error;

    if (!conntrack)
        return -ENOMEM;
    conntrack->received = malloc(RECEIVE_SIZE);
    conntrack->deletions = malloc(DELETIONS_SIZE);
    error = conntrack->received && conntrack->deletions ? 0 : -ENOMEM;
    if (error == 0)
        error = open_socket(&conntrack->reader);
    if (error == 0)
        error = open_socket(&conntrack->remover);
    if (error < 0) {
        nft_conntrack_close(conntrack);
        return error;
    }
    *ret_conntrack = conntrack;
    return 0;
}

void nft_conntrack_close(struct nft_conntrack *conntrack)
{
    if (!conntrack)
        return;
    if (conntrack->reader)
        mnl_socket_close(conntrack->reader);
    if (conntrack->remover)
        mnl_socket_close(conntrack->remover);
    free(conntrack->received);
    free(conntrack->deletions);
    free(conntrack);
}

static void fill_key(uint8_t ret_key[KEY_SIZE], uint8_t protocol, const struct ip_address *address,
                     uint16_t port)
{
    ret_key[0] = protocol;
    memcpy(ret_key + 1, address->octets, 16);
    ret_key[17] = (uint8_t) (port >> 8);
    ret_key[18] = (uint8_t) port;
}

static int compare_targets(const void *a, const void *b)
{
    return memcmp(((const struct target *) a)->key, ((const struct target *) b)->key, KEY_SIZE);
}

static int collect_targets(struct nft_conntrack *conntrack, const struct nft_ended *ended,
                           size_t n_ended)
{
    conntrack->targets = calloc(n_ended, sizeof(*conntrack->targets));
    if (!conntrack->targets)
        return -ENOMEM;
    for (size_t i = 0; i < n_ended; i++) {
        const struct mapping_record *record = ended[i].record;
        struct target *target = &conntrack->targets[i];
        fill_key(target->key, record->protocol, &record->external_address, record->external_port);
        target->record = record;
        target->keeps_outbound = record->kind == MAPPING_KIND_PEER && !ended[i].is_moved;
    }
    conntrack->n_targets = n_ended;
    qsort(conntrack->targets, n_ended, sizeof(*conntrack->targets), compare_targets);
    return 0;
}

/* First of the targets with that key, n_targets when there is none. */
static size_t find_target(const struct nft_conntrack *conntrack, const uint8_t key[KEY_SIZE])
{
    size_t low = 0, high = conntrack->n_targets;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (memcmp(conntrack->targets[middle].key, key, KEY_SIZE) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static bool endpoint_matches(const struct endpoint *endpoint, const struct ip_address *address,
                             uint16_t port)
{
    return ip_address_equal(&endpoint->address, address) && (port == 0 || endpoint->port == port);
}

/* Whether the mapping's internal host (and remote peer, if it has one) are these. */
static bool record_matches(const struct mapping_record *record, const struct endpoint *internal,
                           const struct endpoint *remote)
{
    if (!endpoint_matches(internal, &record->internal_address, record->internal_port))
        return false;
    return record->kind != MAPPING_KIND_PEER ||
           endpoint_matches(remote, &record->remote_address, record->remote_port);
}

static bool is_target_at(const struct nft_conntrack *conntrack, const uint8_t key[KEY_SIZE],
                         const struct endpoint *internal, const struct endpoint *remote,
                         bool is_outbound)
{
    for (size_t i = find_target(conntrack, key);
         i < conntrack->n_targets && memcmp(conntrack->targets[i].key, key, KEY_SIZE) == 0; i++)
        if (!(is_outbound && conntrack->targets[i].keeps_outbound) &&
            record_matches(conntrack->targets[i].record, internal, remote))
            return true;
    return false;
}

/* By the port, by the whole protocol, by the whole address. */
static bool is_target(const struct nft_conntrack *conntrack, uint8_t protocol,
                      const struct endpoint *external, const struct endpoint *internal,
                      const struct endpoint *remote, bool is_outbound)
{
    uint8_t key[KEY_SIZE];

    fill_key(key, protocol, &external->address, external->port);
    if (is_target_at(conntrack, key, internal, remote, is_outbound))
        return true;
    fill_key(key, protocol, &external->address, 0);
    if (is_target_at(conntrack, key, internal, remote, is_outbound))
        return true;
    fill_key(key, 0, &external->address, 0);
    return is_target_at(conntrack, key, internal, remote, is_outbound);
}

static bool is_ours(const struct nft_conntrack *conntrack, const struct flow *flow)
{
    const struct nft_tuple *original = &flow->original, *reply = &flow->reply;

    if (!ip_address_is_ipv4(&original->source.address) && !flow->is_labelled)
        return false;
    if (is_target(conntrack, original->protocol, &original->destination, &reply->source,
                  &original->source, false))
        return true;
    return ip_address_is_ipv4(&original->source.address) &&
           is_target(conntrack, original->protocol, &reply->destination, &original->source,
                     &original->destination, true);
}

static bool is_internal(const struct nat_settings *settings, const struct ip_address *address)
{
    for (size_t i = 0; i < settings->n_internal_prefixes; i++)
        if (ip_prefix_contains(&settings->internal_prefixes[i], address))
            return true;
    return false;
}

static bool is_external(const struct nat_settings *settings, const struct ip_address *address)
{
    for (size_t i = 0; i < settings->n_external_addresses; i++)
        if (ip_address_equal(&settings->external_addresses[i], address))
            return true;
    return false;
}

static bool is_untranslated(const struct nft_conntrack *conntrack, const struct flow *flow)
{
    if (flow->status & TRANSLATED_OR_ANSWERED)
        return false;
    return is_external(conntrack->settings, &flow->original.destination.address) ||
           is_internal(conntrack->settings, &flow->original.source.address);
}

static bool has_label(const struct nlattr *attribute)
{
    uint8_t label[NFT_LABEL_SIZE];
    const uint8_t *labels = mnl_attr_get_payload(attribute);
    size_t size = mnl_attr_get_payload_len(attribute);

    nft_rule_label(label);
    for (size_t i = 0; i < size && i < sizeof(label); i++)
        if (labels[i] & label[i])
            return true;
    return false;
}

static int read_flow(const struct nlattr *attribute, void *context)
{
    struct flow *flow = context;

    switch (mnl_attr_get_type(attribute)) {
    case CTA_TUPLE_ORIG:
        flow->original_attribute = attribute;
        return mnl_attr_parse_nested(attribute, nft_tuple_read, &flow->original);
    case CTA_TUPLE_REPLY:
        return mnl_attr_parse_nested(attribute, nft_tuple_read, &flow->reply);
    case CTA_ID:
        flow->id = attribute;
        break;
    case CTA_STATUS:
        flow->status = ntohl(mnl_attr_get_u32(attribute));
        break;
    case CTA_ZONE:
        flow->zone = attribute;
        break;
    case CTA_LABELS:
        flow->is_labelled = has_label(attribute);
        break;
    }
    return MNL_CB_OK;
}

/* An entry that is gone by now is as good as removed. */
static int note_removal_failure(const struct nlmsghdr *header, struct nft_conntrack *conntrack)
{
    const struct nlmsgerr *answer = mnl_nlmsg_get_payload(header);

    if (header->nlmsg_type == NLMSG_ERROR && answer->error < 0 && answer->error != -ENOENT &&
        conntrack->error == 0)
        conntrack->error = answer->error;
    return MNL_CB_OK;
}

static void read_removal_failures(struct nft_conntrack *conntrack)
{
    uint8_t buffer[8192] __attribute__((aligned(8)));

    for (;;) {
        ssize_t size =
            recv(mnl_socket_get_fd(conntrack->remover), buffer, sizeof(buffer), MSG_DONTWAIT);
        int n_left = (int) size;
        if (size < 0 && (errno == EINTR || errno == ENOBUFS))
            continue;
        if (size < 0)
            return;
        for (const struct nlmsghdr *header = (const void *) buffer; mnl_nlmsg_ok(header, n_left);
             header = mnl_nlmsg_next(header, &n_left))
            note_removal_failure(header, conntrack);
    }
}

static void send_deletions(struct nft_conntrack *conntrack)
{
    if (conntrack->deletions_size == 0)
        return;
    if (mnl_socket_sendto(conntrack->remover, conntrack->deletions, conntrack->deletions_size) <
            0 &&
        conntrack->error == 0)
        conntrack->error = -errno;
    conntrack->deletions_size = 0;
    read_removal_failures(conntrack);
}

static void copy_attribute(struct nlmsghdr *header, const struct nlattr *attribute)
{
    if (attribute)
        mnl_attr_put(header, attribute->nla_type, mnl_attr_get_payload_len(attribute),
                     mnl_attr_get_payload(attribute));
}

/* The id makes sure that it is this entry and not its successor. */
static void put_deletion(struct nft_conntrack *conntrack, const struct flow *flow, uint8_t family)
{
    struct nlmsghdr *header;

    if (conntrack->deletions_size + DELETION_SIZE_MAX > DELETIONS_SIZE)
        send_deletions(conntrack);
    header = nft_tuple_put_header(conntrack->deletions + conntrack->deletions_size,
                                  IPCTNL_MSG_CT_DELETE, 0, family);
    copy_attribute(header, flow->original_attribute);
    copy_attribute(header, flow->id);
    copy_attribute(header, flow->zone);
    conntrack->deletions_size += NLMSG_ALIGN(header->nlmsg_len);
}

static int read_entry(const struct nlmsghdr *header, void *context)
{
    struct nft_conntrack *conntrack = context;
    const struct nfgenmsg *message = mnl_nlmsg_get_payload(header);
    struct flow flow = {0};

    if (mnl_attr_parse(header, sizeof(*message), read_flow, &flow) < MNL_CB_STOP)
        return MNL_CB_ERROR;
    if (flow.original_attribute && flow.id && conntrack->selects(conntrack, &flow))
        put_deletion(conntrack, &flow, message->nfgen_family);
    return MNL_CB_OK;
}

/* Sends the request and reads entries until the kernel says it is through. */
static int walk(struct nft_conntrack *conntrack, const struct nlmsghdr *request)
{
    int state = MNL_CB_OK;

    if (mnl_socket_sendto(conntrack->reader, request, request->nlmsg_len) < 0)
        return -errno;
    while (state > MNL_CB_STOP) {
        ssize_t size = mnl_socket_recvfrom(conntrack->reader, conntrack->received, RECEIVE_SIZE);
        if (size < 0 && errno == EINTR)
            continue;
        if (size < 0)
            return -errno;
        state = mnl_cb_run(conntrack->received, (size_t) size, 0, 0, read_entry, conntrack);
    }
    send_deletions(conntrack);
    return state < 0 ? -errno : 0;
}

static int walk_family(struct nft_conntrack *conntrack, uint8_t family)
{
    uint8_t buffer[128] __attribute__((aligned(8)));

    return walk(conntrack, nft_tuple_put_header(buffer, IPCTNL_MSG_CT_GET, NLM_F_DUMP, family));
}

static void put_filter_tuple(struct nlmsghdr *header, uint16_t attribute,
                             const struct mapping_record *record)
{
    bool is_ipv4 = ip_address_is_ipv4(&record->external_address);
    struct nlattr *tuple = mnl_attr_nest_start(header, attribute), *part;

    part = mnl_attr_nest_start(header, CTA_TUPLE_IP);
    if (is_ipv4)
        mnl_attr_put(header, CTA_IP_V4_DST, 4, record->external_address.octets + 12);
    else
        mnl_attr_put(header, CTA_IP_V6_DST, 16, record->external_address.octets);
    mnl_attr_nest_end(header, part);
    if (record->protocol) {
        part = mnl_attr_nest_start(header, CTA_TUPLE_PROTO);
        mnl_attr_put_u8(header, CTA_PROTO_NUM, record->protocol);
        if (record->external_port)
            mnl_attr_put_u16(header, CTA_PROTO_DST_PORT, htons(record->external_port));
        mnl_attr_nest_end(header, part);
    }
    mnl_attr_nest_end(header, tuple);
}

static uint32_t filter_flags(const struct mapping_record *record)
{
    uint32_t flags = FILTER_ADDRESS_DESTINATION;

    if (record->protocol)
        flags |= FILTER_PROTOCOL;
    if (record->external_port)
        flags |= FILTER_PORT_DESTINATION;
    return flags;
}

/* Entries one of whose directions ends at the mapping's external endpoint. */
static int walk_filtered(struct nft_conntrack *conntrack, const struct mapping_record *record,
                         bool is_outbound)
{
    uint8_t buffer[256] __attribute__((aligned(8)));
    bool is_ipv4 = ip_address_is_ipv4(&record->external_address);
    struct nlmsghdr *request =
        nft_tuple_put_header(buffer, IPCTNL_MSG_CT_GET, NLM_F_DUMP, is_ipv4 ? AF_INET : AF_INET6);
    struct nlattr *filter;

    put_filter_tuple(request, is_outbound ? CTA_TUPLE_REPLY : CTA_TUPLE_ORIG, record);
    filter = mnl_attr_nest_start(request, CTA_FILTER);
    mnl_attr_put_u32(request, is_outbound ? CTA_FILTER_REPLY_FLAGS : CTA_FILTER_ORIG_FLAGS,
                     filter_flags(record));
    mnl_attr_nest_end(request, filter);
    return walk(conntrack, request);
}

static int cut_few(struct nft_conntrack *conntrack)
{
    for (size_t i = 0; i < conntrack->n_targets; i++) {
        const struct target *target = &conntrack->targets[i];
        const struct mapping_record *record = target->record;
        int error = walk_filtered(conntrack, record, false);
        if (error == 0 && ip_address_is_ipv4(&record->external_address) && !target->keeps_outbound)
            error = walk_filtered(conntrack, record, true);
        if (error < 0)
            return error;
    }
    return 0;
}

static int cut_many(struct nft_conntrack *conntrack)
{
    bool has_ipv4 = false, has_ipv6 = false;
    int error = 0;

    for (size_t i = 0; i < conntrack->n_targets; i++) {
        if (ip_address_is_ipv4(&conntrack->targets[i].record->external_address))
            has_ipv4 = true;
        else
            has_ipv6 = true;
    }
    if (has_ipv4)
        error = walk_family(conntrack, AF_INET);
    if (error == 0 && has_ipv6)
        error = walk_family(conntrack, AF_INET6);
    return error;
}

int nft_conntrack_cut(struct nft_conntrack *conntrack, const struct nft_ended *ended,
                      size_t n_ended)
{
    int error = collect_targets(conntrack, ended, n_ended);

    if (error < 0)
        return error;
    conntrack->error = 0;
    conntrack->selects = is_ours;
    error = n_ended <= FILTERED_RECORDS_MAX ? cut_few(conntrack) : cut_many(conntrack);
    free(conntrack->targets);
    conntrack->targets = NULL;
    return error < 0 ? error : conntrack->error;
}

int nft_conntrack_forget_untranslated(struct nft_conntrack *conntrack,
                                      const struct nat_settings *settings)
{
    uint8_t buffer[128] __attribute__((aligned(8)));
    struct nlmsghdr *request = nft_tuple_put_header(buffer, IPCTNL_MSG_CT_GET, NLM_F_DUMP, AF_INET);
    int error;

    /* A kernel that does not know the mask (before Linux 5.15) sends the others as well. */
    mnl_attr_put_u32(request, CTA_STATUS, 0);
    mnl_attr_put_u32(request, CTA_STATUS_MASK, htonl(TRANSLATED_OR_ANSWERED));
    conntrack->error = 0;
    conntrack->selects = is_untranslated;
    conntrack->settings = settings;
    error = walk(conntrack, request);
    conntrack->settings = NULL;
    return error < 0 ? error : conntrack->error;
}
