/*
 * The value types of a mapping: names for people, equality, and the reference count of filter
 * lists.
 */

#include "mapping/record.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"

const char *mapping_kind_name(enum mapping_kind kind)
{
    switch (kind) {
    case MAPPING_KIND_MAP:
        return "MAP";
    case MAPPING_KIND_PEER:
        return "PEER";
    case MAPPING_KIND_STATIC:
        return "STATIC";
    }
    return "unknown";
}

const char *mapping_protocol_format(uint8_t protocol, char *ret_text)
{
    static const struct {
        uint8_t number;
        char name[8];
    } names[] = {
        {0, "all"},   {1, "ICMP"},    {6, "TCP"},    {17, "UDP"},
        {33, "DCCP"}, {58, "ICMPv6"}, {132, "SCTP"}, {136, "UDPLITE"},
    };

    for (size_t i = 0; i < N_ELEMENTS(names); i++)
        if (names[i].number == protocol)
            return memcpy(ret_text, names[i].name, sizeof(names[i].name));
    snprintf(ret_text, 8, "%u", (unsigned int) protocol);
    return ret_text;
}

struct mapping_filters *mapping_filters_new(const struct mapping_filter *filters, size_t n_filters)
{
    struct mapping_filters *list;

    assert(n_filters > 0 && n_filters <= MAPPING_FILTERS_MAX);
    list = malloc(sizeof(*list) + n_filters * sizeof(list->items[0]));
    if (!list)
        return NULL;
    list->n_references = 1;
    list->n_filters = (uint32_t) n_filters;
    memcpy(list->items, filters, n_filters * sizeof(list->items[0]));
    return list;
}

/* The list is immutable to its holders; the count is not part of its value. */
static uint32_t *reference_count(const struct mapping_filters *filters)
{
    return &((struct mapping_filters *) filters)->n_references;
}

const struct mapping_filters *mapping_filters_ref(const struct mapping_filters *filters)
{
    if (filters)
        ++*reference_count(filters);
    return filters;
}

const struct mapping_filters *mapping_filters_unref(const struct mapping_filters *filters)
{
    if (filters && --*reference_count(filters) == 0)
        free((struct mapping_filters *) filters);
    return NULL;
}

static bool filter_equal(const struct mapping_filter *a, const struct mapping_filter *b)
{
    return a->remote_port == b->remote_port && ip_prefix_equal(&a->remote, &b->remote);
}

bool mapping_filters_equal(const struct mapping_filters *a, const struct mapping_filters *b)
{
    uint32_t n_a = a ? a->n_filters : 0;
    uint32_t n_b = b ? b->n_filters : 0;

    if (n_a != n_b)
        return false;
    for (uint32_t i = 0; i < n_a; i++)
        if (!filter_equal(&a->items[i], &b->items[i]))
            return false;
    return true;
}

static bool endpoints_equal(const struct mapping_record *a, const struct mapping_record *b)
{
    return a->internal_port == b->internal_port && a->external_port == b->external_port &&
           a->remote_port == b->remote_port && a->client_port == b->client_port &&
           ip_address_equal(&a->internal_address, &b->internal_address) &&
           ip_address_equal(&a->external_address, &b->external_address) &&
           ip_address_equal(&a->remote_address, &b->remote_address) &&
           ip_address_equal(&a->client_address, &b->client_address);
}

bool mapping_record_equal(const struct mapping_record *a, const struct mapping_record *b)
{
    return a->id == b->id && a->created_ns == b->created_ns && a->expires_ns == b->expires_ns &&
           a->protocol == b->protocol && a->kind == b->kind && a->state == b->state &&
           a->has_nonce == b->has_nonce && a->third_party == b->third_party &&
           a->prefer_failure == b->prefer_failure &&
           memcmp(a->nonce, b->nonce, sizeof(a->nonce)) == 0 && endpoints_equal(a, b) &&
           mapping_filters_equal(a->filters, b->filters);
}
