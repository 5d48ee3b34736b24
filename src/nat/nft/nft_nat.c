/*
 * The operations. The table of mappings is the truth and the kernel a cache of it: no element
 * is ever read back; every transaction is written from what the engine says was and shall be.
 *
 * apply() writes the net effect of its changes, one step per mapping, deletions first. Where the
 * kernel minds deletions of elements that are gone (expired, or removed by somebody), the
 * transaction is repeated with one element per message, to see which they are, and then without
 * them.
 *
 * reconcile() empties chains and sets and fills them anew, in one transaction. It does not ask what
 * they hold, so it holds after a crash in the midst of anything; packets meet the old contents or
 * the new; translations of established flows are in conntrack, which keeps them. Chains and
 * sets themselves stay: were they replaced as well, a packet between the old chain and the new one
 * on the same hook at the moment of the commit could meet neither. Only where somebody has put
 * something else into our table, or another version has, it is removed and made anew, at that risk
 * for a packet.
 *
 * Beside it stands a guard: a table that a flush of the whole ruleset passes by, as it is owned by
 * our socket (docs/decisions/0006-flush-guard.md). It keeps established flows translated until the
 * flush is repaired.
 *
 * One message holds it all: about 180 octets per mapping, and the kernel takes a gigabyte.
 */

#include "nat/nft/nft_nat.h"

#include <errno.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netlink.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <libmnl/libmnl.h>

#include "nat/nft/nft_batch.h"
#include "nat/nft/nft_conntrack.h"
#include "nat/nft/nft_elements.h"
#include "nat/nft/nft_features.h"
#include "nat/nft/nft_flow.h"
#include "nat/nft/nft_inventory.h"
#include "nat/nft/nft_ruleset.h"
#include "nat/nft/nft_watch.h"

/* Each round can only meet elements that expired since the round before. */
#define ROUNDS_MAX 8
#define RECEIVE_BUFFER_SIZE (4 * 1024 * 1024)

struct nft_nat {
    struct nat nat;
    struct mnl_socket *socket;
    struct nft_conntrack *conntrack;
    struct nft_flow_finder *flow_finder; /* for another thread than the rest */
    struct nft_watch *watch;             /* NULL: nobody watches */
    struct nft_batch batch;
    struct nft_features features;
    uint32_t grace_s;
    bool is_reconciled;
    char guard[32]; /* the guard's name */
    bool is_guarded;
    /* Room for the steps of an apply, kept. */
    struct nft_step *steps;
    uint32_t *slots; /* open addressing by id: 1 + index of a mapping's step, 0: free */
    size_t n_steps_allocated;
};

static struct nft_nat *nft_of(struct nat *nat)
{
    return CONTAINER_OF(nat, struct nft_nat, nat);
}

static size_t slots_for(size_t n_steps)
{
    size_t n_slots = 64;

    while (n_slots < 2 * n_steps)
        n_slots *= 2;
    return n_slots;
}

static int reserve_steps(struct nft_nat *nft, size_t n_steps)
{
    struct nft_step *steps;
    uint32_t *slots;

    if (n_steps <= nft->n_steps_allocated)
        return 0;
    steps = realloc(nft->steps, n_steps * sizeof(*steps));
    if (!steps)
        return -ENOMEM;
    nft->steps = steps;
    slots = realloc(nft->slots, slots_for(n_steps) * sizeof(*slots));
    if (!slots)
        return -ENOMEM;
    nft->slots = slots;
    nft->n_steps_allocated = n_steps;
    return 0;
}

static const struct mapping_record *live(bool is_there, const struct mapping_record *record)
{
    return is_there && record->state == MAPPING_STATE_LIVE ? record : NULL;
}

/*
 * The slot of the mapping's step, or a free one. Ids are numbers of our own, so the hash needs no
 * key.
 */
static uint32_t *find_slot(const struct nft_nat *nft, size_t n_slots, uint64_t id)
{
    size_t i = (size_t) (id * UINT64_C(0x9e3779b97f4a7c15) >> 32) & (n_slots - 1);

    while (nft->slots[i] != 0 && nft->steps[nft->slots[i] - 1].id != id)
        i = (i + 1) & (n_slots - 1);
    return &nft->slots[i];
}

/*
 * The net effect of the changes: of each mapping what it was before the first of its changes and
 * what it is after the last. Returns the number of steps.
 */
static size_t collect_steps(struct nft_nat *nft, const struct change *changes, size_t n_changes)
{
    size_t n_slots = slots_for(n_changes), n_steps = 0;

    memset(nft->slots, 0, n_slots * sizeof(*nft->slots));
    for (size_t i = 0; i < n_changes; i++) {
        const struct change *change = &changes[i];
        const struct mapping_record *before = live(change->had_before, &change->before);
        const struct mapping_record *after = live(change->has_after, &change->after);
        uint64_t id = change->had_before ? change->before.id : change->after.id;
        uint32_t *slot = find_slot(nft, n_slots, id);
        if (*slot != 0) {
            nft->steps[*slot - 1].after = after;
        } else if (before || after) {
            nft->steps[n_steps++] = (struct nft_step){.id = id, .before = before, .after = after};
            *slot = (uint32_t) n_steps;
        }
    }
    return n_steps;
}

static int prepare_steps(struct nft_step *steps, size_t n_steps, uint64_t now_ns, uint32_t grace_s)
{
    for (size_t i = 0; i < n_steps; i++) {
        int error = nft_elements_prepare(&steps[i], now_ns, grace_s);
        if (error < 0)
            return error;
    }
    return 0;
}

/* The first message tells whether the table is there; deletions follow. */
#define TABLE_SEQUENCE 1
#define FIRST_DELETION_SEQUENCE 2

static int send_steps(struct nft_nat *nft, size_t n_steps, struct nft_element_writer *writer,
                      const struct nft_error_handler *errors)
{
    nft_batch_begin(&nft->batch);
    nft_batch_put_nothing(&nft->batch,
                          nft_set_name(NFT_FAMILY_IPV4, NFT_SCOPE_PORT, NFT_ROLE_INBOUND));
    nft_elements_put(writer, nft->steps, n_steps);
    return nft_batch_send(&nft->batch, nft->socket, errors);
}

/* Which deletions failed for want of their element. */
struct search {
    uint8_t *is_missing;
    size_t n_deletions;
    size_t n_found;
    bool is_table_missing;
};

static void note_failure(void *context, uint32_t sequence, int error)
{
    struct search *search = context;
    size_t number = (size_t) sequence - FIRST_DELETION_SEQUENCE;

    if (error != -ENOENT)
        return;
    if (sequence <= TABLE_SEQUENCE) {
        search->is_table_missing = true;
    } else if (number < search->n_deletions) {
        search->is_missing[number] = 1;
        search->n_found++;
    }
}

/* One element per message, until only those deletions are left that find their element. */
static int send_singly(struct nft_nat *nft, size_t n_steps, struct nft_element_writer *writer)
{
    struct search search = {.n_deletions = writer->n_deletions};
    const struct nft_error_handler errors = {.failed = note_failure, .context = &search};
    int error = -ENOENT;

    search.is_missing = calloc(search.n_deletions + 1, 1);
    if (!search.is_missing)
        return -ENOMEM;
    writer->is_missing = search.is_missing;
    nft->batch.is_singly = true;
    for (int round = 0; round < ROUNDS_MAX && error == -ENOENT; round++) {
        search.n_found = 0;
        error = send_steps(nft, n_steps, writer, &errors);
        if (search.is_table_missing || search.n_found == 0)
            break;
    }
    nft->batch.is_singly = false;
    free(search.is_missing);
    return error;
}

static int apply(struct nat *nat, const struct change *changes, size_t n_changes, uint64_t now_ns)
{
    struct nft_nat *nft = nft_of(nat);
    struct nft_element_writer writer = {
        .batch = &nft->batch,
        .can_update = nft->features.can_update,
        .delete_type =
            nft->features.can_destroy ? NFT_FEATURES_DESTROY_ELEMENT : NFT_MSG_DELSETELEM,
    };
    size_t n_steps;
    int error;

    if (!nft->is_reconciled)
        return -ENOENT;
    error = reserve_steps(nft, n_changes);
    if (error < 0)
        return error;
    n_steps = n_changes > 0 ? collect_steps(nft, changes, n_changes) : 0;
    error = prepare_steps(nft->steps, n_steps, now_ns, nft->grace_s);
    if (error < 0 || n_steps == 0)
        return error;
    error = send_steps(nft, n_steps, &writer, NULL);
    if (error == -ENOENT && !nft->features.can_destroy && writer.n_deletions > 0)
        error = send_singly(nft, n_steps, &writer);
    return error;
}

static bool is_ended(const struct change *change)
{
    const struct mapping_record *before = live(change->had_before, &change->before);
    const struct mapping_record *after = live(change->has_after, &change->after);

    return before && (!after || !nft_elements_have_same_endpoints(before, after));
}

static int cut_flows(struct nat *nat, const struct change *changes, size_t n_changes)
{
    struct nft_nat *nft = nft_of(nat);
    struct nft_ended *ended = calloc(n_changes + 1, sizeof(*ended));
    size_t n_ended = 0;
    int error = 0;

    if (!ended)
        return -ENOMEM;
    for (size_t i = 0; i < n_changes; i++)
        if (is_ended(&changes[i]))
            ended[n_ended++] = (struct nft_ended){
                .record = &changes[i].before,
                .is_moved = live(changes[i].has_after, &changes[i].after) != NULL,
            };
    if (n_ended > 0)
        error = nft_conntrack_cut(nft->conntrack, ended, n_ended);
    free(ended);
    return error;
}

static size_t collect_additions(const struct mapping_record *const *records, size_t n_records,
                                struct nft_step *steps)
{
    size_t n_steps = 0;

    for (size_t i = 0; i < n_records; i++)
        if (records[i]->state == MAPPING_STATE_LIVE)
            steps[n_steps++] = (struct nft_step){.id = records[i]->id, .after = records[i]};
    return n_steps;
}

static uint32_t size_of_maps(const struct nat_settings *settings, size_t n_steps)
{
    if (settings->size_hint == 0 || n_steps < settings->size_hint)
        return settings->size_hint;
    return (uint32_t) n_steps;
}

static int replace_table(struct nft_nat *nft, const struct nat_settings *settings,
                         const struct nft_step *steps, size_t n_steps, bool is_made_anew)
{
    struct nft_element_writer writer = {.batch = &nft->batch};

    nft_batch_begin(&nft->batch);
    nft_ruleset_put_table(&nft->batch, settings, size_of_maps(settings, n_steps), is_made_anew);
    nft_elements_put(&writer, steps, n_steps);
    nft_ruleset_put_rules(&nft->batch, settings, nft->features.can_see_sockets);
    return nft_batch_send(&nft->batch, nft->socket, NULL);
}

static int replace_contents(struct nft_nat *nft, const struct nat_settings *settings,
                            const struct nft_step *steps, size_t n_steps)
{
    enum nft_inventory inventory;
    int error = nft_inventory_take(nft->socket, size_of_maps(settings, n_steps), &inventory);

    if (error == 0 && inventory == NFT_INVENTORY_OURS)
        error = replace_table(nft, settings, steps, n_steps, false);
    else
        error = -EEXIST;
    /* Something has our names but another make. */
    if (error < 0 && error != -EPERM && error != -ENOMEM)
        error = replace_table(nft, settings, steps, n_steps, true);
    return error;
}

/*
 * A kernel before Linux 5.12 refuses, and there a flush may end flows. Its name is nobody else's, not
 * even that of one who was killed a moment ago and whose guard is about to go.
 */
static void make_guard(struct nft_nat *nft)
{
    struct nft_batch batch;

    nft_batch_init(&batch, nft->guard);
    nft_batch_begin(&batch);
    nft_ruleset_put_guard(&batch);
    nft->is_guarded = nft_batch_send(&batch, nft->socket, NULL) == 0;
    nft_batch_deinit(&batch);
}

static int reconcile(struct nat *nat, const struct nat_settings *settings,
                     const struct mapping_record *const *records, size_t n_records, uint64_t now_ns)
{
    struct nft_nat *nft = nft_of(nat);
    struct nft_step *steps;
    size_t n_steps;
    int error = nft_ruleset_check(settings);

    if (error < 0)
        return error;
    steps = calloc(n_records + 1, sizeof(*steps));
    if (!steps)
        return -ENOMEM;
    n_steps = collect_additions(records, n_records, steps);
    error = prepare_steps(steps, n_steps, now_ns, settings->grace_s);
    if (error == 0)
        error = replace_contents(nft, settings, steps, n_steps);
    free(steps);
    if (error < 0)
        return error;
    nft->grace_s = settings->grace_s;
    nft->is_reconciled = true;
    if (!nft->is_guarded)
        make_guard(nft);
    /* If it fails, some flows that began without us stay as they are until they pause. */
    (void) !nft_conntrack_forget_untranslated(nft->conntrack, settings);
    return 0;
}

static int remove_all(struct nat *nat)
{
    struct nft_nat *nft = nft_of(nat);

    nft_batch_begin(&nft->batch);
    nft_ruleset_put_removal(&nft->batch, NFT_TABLE);
    if (nft->is_guarded)
        nft_ruleset_put_removal(&nft->batch, nft->guard);
    nft->is_reconciled = nft->is_guarded = false;
    return nft_batch_send(&nft->batch, nft->socket, NULL);
}

static void close_nft(struct nat *nat)
{
    struct nft_nat *nft = nft_of(nat);

    if (nft->socket)
        mnl_socket_close(nft->socket);
    nft_conntrack_close(nft->conntrack);
    nft_flow_finder_close(nft->flow_finder);
    nft_watch_close(nft->watch);
    nft_batch_deinit(&nft->batch);
    free(nft->steps);
    free(nft->slots);
    free(nft);
}

static int find_flow(struct nat *nat, uint8_t protocol, const struct endpoint *internal,
                     const struct endpoint *remote, struct endpoint *ret_external)
{
    return nft_flow_find(nft_of(nat)->flow_finder, protocol, internal, remote, ret_external);
}

/* While somebody watches, the kernel carries out changes at about half the rate. */
static int watch(struct nat *nat, int *ret_fd)
{
    struct nft_nat *nft = nft_of(nat);

    if (!nft->watch) {
        int error = nft_watch_open(mnl_socket_get_portid(nft->socket), &nft->watch);
        if (error < 0)
            return error;
    }
    *ret_fd = nft_watch_fd(nft->watch);
    return 0;
}

static bool was_touched(struct nat *nat)
{
    struct nft_nat *nft = nft_of(nat);

    return nft->watch && nft_watch_read(nft->watch);
}

static const struct nat_operations operations = {
    .apply = apply,
    .cut_flows = cut_flows,
    .reconcile = reconcile,
    .remove_all = remove_all,
    .find_flow = find_flow,
    .watch = watch,
    .was_touched = was_touched,
    .close = close_nft,
};

static int open_socket(struct mnl_socket **ret_socket)
{
    struct mnl_socket *socket = mnl_socket_open2(NETLINK_NETFILTER, SOCK_CLOEXEC);
    int one = 1, size = RECEIVE_BUFFER_SIZE;

    if (!socket)
        return -errno;
    if (mnl_socket_bind(socket, 0, MNL_SOCKET_AUTOPID) < 0) {
        int error = -errno;
        mnl_socket_close(socket);
        return error;
    }
    /*
     * Without the failed message in each error, and with room for many errors; both are only
     * convenient.
     */
    (void) mnl_socket_setsockopt(socket, NETLINK_CAP_ACK, &one, sizeof(one));
    (void) setsockopt(mnl_socket_get_fd(socket), SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size));
    *ret_socket = socket;
    return 0;
}

int nft_nat_open(struct nat **ret_nat)
{
    struct nft_nat *nft = calloc(1, sizeof(*nft));
    int error;

    if (!nft)
        return -ENOMEM;
    nft->nat.operations = &operations;
    nft_batch_init(&nft->batch, NFT_TABLE);
    error = open_socket(&nft->socket);
    if (error == 0)
        error = nft_features_probe(nft->socket, &nft->features);
    if (error == 0)
        error = nft_conntrack_open(&nft->conntrack);
    if (error == 0)
        error = nft_flow_finder_open(&nft->flow_finder);
    if (error < 0) {
        close_nft(&nft->nat);
        return error;
    }
    snprintf(nft->guard, sizeof(nft->guard), "holdfast_guard_%u",
             mnl_socket_get_portid(nft->socket));
    *ret_nat = &nft->nat;
    return 0;
}

void nft_nat_force_features(struct nat *nat, const struct nft_features *features)
{
    nft_of(nat)->features = *features;
}
