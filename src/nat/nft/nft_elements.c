/*
 * A mapping is one element in each set of its family and scope: inbound and outbound maps (IPv4),
 * the set of live ones, and with filters one mark that it has any and one element per filter.
 *
 * Filter sets hold ranges; the kernel copies such a set whole in each transaction that touches it,
 * and refuses overlapping elements. So filters have no timeouts of their own, which lets renewals
 * leave them alone; without their mapping they admit nobody. And a filter contained in another of
 * the same mapping is left out, as it permits nothing more. Filters of different mappings cannot
 * overlap: the key begins with the internal endpoint.
 *
 * The mark outlives the mapping's other elements by a little, lest the mapping stand open to
 * everybody between one timer and the next.
 */

#include "nat/nft/nft_elements.h"

#include <errno.h>
#include <linux/netfilter/nf_tables.h>
#include <string.h>

#include "base/time.h"

/* A kernel timeout of 0 would be none at all. */
#define TIMEOUT_MIN_MS 1000
#define MARK_GRACE_MS 60000

enum side {
    BEFORE,
    AFTER,
};

/* The filters as the kernel takes them. */
struct filter_list {
    struct mapping_filter items[MAPPING_FILTERS_MAX];
    size_t n_items;
};

static const struct mapping_record *record_of(const struct nft_step *step, enum side side)
{
    return side == BEFORE ? step->before : step->after;
}

/* [R-6887-15.1-11] */
static uint64_t timeout_of(const struct mapping_record *record, uint64_t now_ns, uint32_t grace_s)
{
    uint64_t remaining_ms;

    if (record->expires_ns == TIME_NEVER)
        return 0;
    remaining_ms = record->expires_ns > now_ns ? (record->expires_ns - now_ns) / NS_PER_MS : 0;
    remaining_ms += UINT64_C(1000) * grace_s;
    return remaining_ms > TIMEOUT_MIN_MS ? remaining_ms : TIMEOUT_MIN_MS;
}

bool nft_elements_have_same_endpoints(const struct mapping_record *a,
                                      const struct mapping_record *b)
{
    return a->protocol == b->protocol && a->internal_port == b->internal_port &&
           a->external_port == b->external_port && a->remote_port == b->remote_port &&
           ip_address_equal(&a->internal_address, &b->internal_address) &&
           ip_address_equal(&a->external_address, &b->external_address) &&
           ip_address_equal(&a->remote_address, &b->remote_address);
}

int nft_elements_prepare(struct nft_step *step, uint64_t now_ns, uint32_t grace_s)
{
    for (enum side side = BEFORE; side <= AFTER; side++) {
        const struct mapping_record *record = record_of(step, side);
        int error = 0;
        if (record)
            error = nft_sets_classify(record, &step->family[side], &step->scope[side]);
        if (error < 0)
            return error;
    }
    if (step->after)
        step->timeout_ms = timeout_of(step->after, now_ns, grace_s);
    step->is_renewal = step->before && step->after && step->scope[BEFORE] == step->scope[AFTER] &&
                       nft_elements_have_same_endpoints(step->before, step->after);
    return 0;
}

static uint8_t *put_octets(uint8_t *at, const void *data, size_t size)
{
    memcpy(at, data, size);
    return at + (size + 3) / 4 * 4;
}

static uint8_t *put_address(uint8_t *at, const struct ip_address *address, enum nft_family family)
{
    size_t size = nft_field_size(NFT_FIELD_ADDRESS, family);

    return put_octets(at, address->octets + 16 - size, size);
}

static uint8_t *put_port(uint8_t *at, uint16_t port)
{
    const uint8_t octets[2] = {(uint8_t) (port >> 8), (uint8_t) port};

    return put_octets(at, octets, sizeof(octets));
}

/* [R-6887-11.3-21] */
static uint8_t *put_key(uint8_t *at, const struct mapping_record *record, enum nft_family family,
                        enum nft_scope scope, const struct ip_address *address, uint16_t port)
{
    if (scope != NFT_SCOPE_ALL)
        at = put_octets(at, &record->protocol, 1);
    at = put_address(at, address, family);
    if (scope == NFT_SCOPE_PORT || scope == NFT_SCOPE_PEER)
        at = put_port(at, port);
    if (scope == NFT_SCOPE_PEER) {
        at = put_address(at, &record->remote_address, family);
        at = put_port(at, record->remote_port);
    }
    return at;
}

static void fill_element(struct nft_element *element, const struct mapping_record *record,
                         enum nft_family family, enum nft_scope scope, enum nft_role role)
{
    bool is_inbound = role == NFT_ROLE_INBOUND;
    bool has_port = scope == NFT_SCOPE_PORT || scope == NFT_SCOPE_PEER;
    const struct ip_address *key =
        is_inbound ? &record->external_address : &record->internal_address;
    const struct ip_address *data =
        is_inbound ? &record->internal_address : &record->external_address;
    uint8_t *end;

    memset(element, 0, sizeof(*element));
    end = put_key(element->key, record, family, scope, key,
                  is_inbound ? record->external_port : record->internal_port);
    element->key_size = (uint8_t) (end - element->key);
    if (role != NFT_ROLE_INBOUND && role != NFT_ROLE_OUTBOUND)
        return;
    end = put_address(element->data, data, family);
    if (has_port)
        end = put_port(end, is_inbound ? record->internal_port : record->external_port);
    element->data_size = (uint8_t) (end - element->data);
}

static void fill_filter(struct nft_element *element, const struct mapping_record *record,
                        enum nft_family family, enum nft_scope scope,
                        const struct mapping_filter *filter)
{
    struct ip_address last = filter->remote.address;
    uint8_t *at, *at_end;

    for (unsigned int bit = filter->remote.length; bit < 128; bit++)
        last.octets[bit / 8] |= (uint8_t) (0x80 >> bit % 8);
    memset(element, 0, sizeof(*element));
    at = put_key(element->key, record, family, scope, &record->internal_address,
                 record->internal_port);
    memcpy(element->key_end, element->key, sizeof(element->key));
    at_end = put_address(element->key_end + (at - element->key), &last, family);
    at = put_address(at, &filter->remote.address, family);
    if (filter->remote_port) {
        at = put_port(at, filter->remote_port);
        put_port(at_end, filter->remote_port);
    }
    element->key_size = (uint8_t) (at - element->key);
    element->is_range = true;
}

/*
 * The prefix within the mapping's family. False when it holds nobody of that family; a short IPv6
 * prefix can hold all of IPv4's.
 */
static bool fit_to_family(const struct mapping_filter *filter, enum nft_family family,
                          struct mapping_filter *ret_filter)
{
    *ret_filter = *filter;
    if (family == NFT_FAMILY_IPV4 && filter->remote.length < 96) {
        if (!ip_prefix_contains(&filter->remote, &IP_ADDRESS_ANY_IPV4))
            return false;
        ret_filter->remote = (struct ip_prefix){.address = IP_ADDRESS_ANY_IPV4, .length = 96};
    }
    if (filter->remote.length >= 96 &&
        ip_address_is_ipv4(&filter->remote.address) != (family == NFT_FAMILY_IPV4))
        return false;
    ret_filter->remote.address =
        ip_address_mask(&ret_filter->remote.address, ret_filter->remote.length);
    return true;
}

static bool covers(const struct mapping_filter *a, const struct mapping_filter *b)
{
    return (a->remote_port == 0 || a->remote_port == b->remote_port) &&
           a->remote.length <= b->remote.length &&
           ip_prefix_contains(&a->remote, &b->remote.address);
}

/*
 * Keeps the list free of filters that another one covers, and thereby of overlaps within each set.
 */
static void add_filter(struct filter_list *list, const struct mapping_filter *filter)
{
    size_t n_kept = 0;

    for (size_t i = 0; i < list->n_items; i++)
        if (covers(&list->items[i], filter))
            return;
    for (size_t i = 0; i < list->n_items; i++)
        if (!covers(filter, &list->items[i]))
            list->items[n_kept++] = list->items[i];
    list->items[n_kept++] = *filter;
    list->n_items = n_kept;
}

/* [R-6887-13.3-5] */
static void collect_filters(const struct nft_step *step, enum side side,
                            struct filter_list *ret_list)
{
    const struct mapping_record *record = record_of(step, side);

    ret_list->n_items = 0;
    if (!record || !record->filters)
        return;
    for (size_t i = 0; i < record->filters->n_filters && i < MAPPING_FILTERS_MAX; i++) {
        struct mapping_filter filter;
        if (fit_to_family(&record->filters->items[i], step->family[side], &filter))
            add_filter(ret_list, &filter);
    }
}

static bool has_filter(const struct filter_list *list, const struct mapping_filter *filter)
{
    for (size_t i = 0; i < list->n_items; i++)
        if (list->items[i].remote_port == filter->remote_port &&
            ip_prefix_equal(&list->items[i].remote, &filter->remote))
            return true;
    return false;
}

static bool has_timeout(const struct mapping_record *record)
{
    return record->expires_ns != TIME_NEVER;
}

/* An element's timeout can be moved, but neither given to it nor taken away. */
static bool is_updated_in_place(const struct nft_element_writer *writer,
                                const struct nft_step *step)
{
    return writer->can_update && step->is_renewal &&
           has_timeout(step->before) == has_timeout(step->after);
}

static bool is_written(const struct nft_step *step, enum side side, enum nft_role role)
{
    const struct mapping_record *record = record_of(step, side);

    return record && (role != NFT_ROLE_FILTERED || record->filters);
}

static bool is_deleted(const struct nft_element_writer *writer, const struct nft_step *step,
                       enum nft_role role)
{
    if (!is_written(step, BEFORE, role))
        return false;
    return !is_updated_in_place(writer, step) || !is_written(step, AFTER, role);
}

static void put_deletion(struct nft_element_writer *writer, const struct nft_element *element)
{
    size_t number = writer->n_deletions++;

    if (writer->is_missing && writer->is_missing[number])
        nft_batch_put_nothing(writer->batch, writer->batch->list.set);
    else
        nft_batch_put_element(writer->batch, element);
}

/* Which set, and which end of the steps. */
struct pass {
    enum nft_family family;
    enum nft_scope scope;
    enum nft_role role;
    enum side side;
};

static bool concerns(const struct nft_step *step, const struct pass *pass)
{
    return record_of(step, pass->side) && step->family[pass->side] == pass->family &&
           step->scope[pass->side] == pass->scope;
}

static void put_endpoint(struct nft_element_writer *writer, const struct nft_step *step,
                         const struct pass *pass)
{
    struct nft_element element;

    if (pass->side == BEFORE ? !is_deleted(writer, step, pass->role)
                             : !is_written(step, AFTER, pass->role))
        return;
    fill_element(&element, record_of(step, pass->side), pass->family, pass->scope, pass->role);
    if (pass->side == BEFORE) {
        put_deletion(writer, &element);
        return;
    }
    element.timeout_ms = step->timeout_ms;
    if (pass->role == NFT_ROLE_FILTERED && step->timeout_ms > 0)
        element.timeout_ms += MARK_GRACE_MS;
    nft_batch_put_element(writer->batch, &element);
}

/* Those that the other end does not have as well. */
static void put_filters(struct nft_element_writer *writer, const struct nft_step *step,
                        const struct pass *pass)
{
    enum side other_side = pass->side == BEFORE ? AFTER : BEFORE;
    struct filter_list own, other = {.n_items = 0};

    collect_filters(step, pass->side, &own);
    if (own.n_items > 0 && step->is_renewal)
        collect_filters(step, other_side, &other);
    for (size_t i = 0; i < own.n_items; i++) {
        struct nft_element element;
        bool has_port = own.items[i].remote_port != 0;
        if (has_port != (pass->role == NFT_ROLE_FILTER_PORT) || has_filter(&other, &own.items[i]))
            continue;
        fill_filter(&element, record_of(step, pass->side), pass->family, pass->scope,
                    &own.items[i]);
        if (pass->side == BEFORE)
            put_deletion(writer, &element);
        else
            nft_batch_put_element(writer->batch, &element);
    }
}

static void put_set(struct nft_element_writer *writer, const struct nft_step *steps, size_t n_steps,
                    const struct pass *pass)
{
    bool is_filter = pass->role == NFT_ROLE_FILTER_PREFIX || pass->role == NFT_ROLE_FILTER_PORT;

    nft_batch_open_list(writer->batch,
                        pass->side == BEFORE ? writer->delete_type : NFT_MSG_NEWSETELEM,
                        nft_set_name(pass->family, pass->scope, pass->role), 0);
    for (size_t i = 0; i < n_steps; i++) {
        if (!concerns(&steps[i], pass))
            continue;
        if (is_filter)
            put_filters(writer, &steps[i], pass);
        else
            put_endpoint(writer, &steps[i], pass);
    }
    nft_batch_close_list(writer->batch);
}

/* One bit per set that a step may touch, so that the others cost no pass over the steps. */
static uint64_t find_sets(const struct nft_step *steps, size_t n_steps, enum side side)
{
    uint64_t sets = 0;

    for (size_t i = 0; i < n_steps; i++) {
        const struct mapping_record *record = record_of(&steps[i], side);
        unsigned int n_roles = record && record->filters ? NFT_ROLE_COUNT : NFT_ROLE_FILTERED;
        unsigned int group = steps[i].family[side] * NFT_SCOPE_COUNT + steps[i].scope[side];
        if (record)
            sets |= ((UINT64_C(1) << n_roles) - 1) << group * NFT_ROLE_COUNT;
    }
    return sets;
}

static void put_side(struct nft_element_writer *writer, const struct nft_step *steps,
                     size_t n_steps, enum side side)
{
    uint64_t sets = find_sets(steps, n_steps, side);
    struct pass pass = {.side = side};

    for (pass.family = 0; pass.family < NFT_FAMILY_COUNT; pass.family++)
        for (pass.scope = 0; pass.scope < NFT_SCOPE_COUNT; pass.scope++)
            for (pass.role = 0; pass.role < NFT_ROLE_COUNT; pass.role++, sets >>= 1)
                if ((sets & 1) && nft_set_name(pass.family, pass.scope, pass.role))
                    put_set(writer, steps, n_steps, &pass);
}

void nft_elements_put(struct nft_element_writer *writer, const struct nft_step *steps,
                      size_t n_steps)
{
    writer->n_deletions = 0;
    put_side(writer, steps, n_steps, BEFORE);
    put_side(writer, steps, n_steps, AFTER);
}
