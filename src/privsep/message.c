/*
 * Each type has its writer and its reader beside each other. What a reader checks is whether the value means anything;
 * whether it is permitted is guard.c's question.
 */

#include "privsep/message.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

static void require(struct reader *reader, bool is_sound)
{
    if (is_sound)
        return;
    reader->position = reader->size_bytes;
    reader->failed = true;
}

static bool get_boolean(struct reader *reader)
{
    uint8_t value = reader_u8(reader);
    require(reader, value <= 1);
    return value == 1;
}

static void put_address(struct writer *writer, const struct ip_address *address)
{
    writer_bytes(writer, address->octets, sizeof(address->octets));
}

static struct ip_address get_address(struct reader *reader)
{
    struct ip_address address;
    reader_bytes(reader, address.octets, sizeof(address.octets));
    return address;
}

static void put_endpoint(struct writer *writer, const struct endpoint *endpoint)
{
    put_address(writer, &endpoint->address);
    writer_u16(writer, endpoint->port);
}

static struct endpoint get_endpoint(struct reader *reader)
{
    struct endpoint endpoint = {.address = get_address(reader)};
    endpoint.port = reader_u16(reader);
    return endpoint;
}

static void put_prefix(struct writer *writer, const struct ip_prefix *prefix)
{
    put_address(writer, &prefix->address);
    writer_u8(writer, prefix->length);
}

static struct ip_prefix get_prefix(struct reader *reader)
{
    struct ip_prefix prefix = {.address = get_address(reader)};
    prefix.length = reader_u8(reader);
    require(reader, prefix.length <= 128);
    return prefix;
}

/* Names that the kernel would have, filled up with zeros. */
static void get_interface(struct reader *reader, char *ret_name)
{
    reader_bytes(reader, ret_name, 16);
    size_t length = strnlen(ret_name, 16);
    require(reader, length > 0 && length < 16);
    for (size_t i = 0; i < 16; i++)
        require(reader, i < length ? ret_name[i] > ' ' && ret_name[i] < 0x7f && ret_name[i] != '/'
                                   : ret_name[i] == '\0');
}

static size_t get_count(struct reader *reader, size_t n_max)
{
    size_t n = reader_u8(reader);
    require(reader, n <= n_max);
    return reader_failed(reader) ? 0 : n;
}

/* Whoever adds a field there has it sent here and checked in guard.c. */
static_assert(sizeof(struct nat_settings) == 2424, "all settings are sent");

void message_put_settings(struct writer *writer, const struct nat_settings *settings)
{
    writer_u8(writer, (uint8_t) settings->n_outside_interfaces);
    for (size_t i = 0; i < settings->n_outside_interfaces; i++) {
        char name[16] = "";
        memcpy(name, settings->outside_interfaces[i],
               strnlen(settings->outside_interfaces[i], sizeof(name) - 1));
        writer_bytes(writer, name, sizeof(name));
    }
    writer_u8(writer, (uint8_t) settings->n_external_addresses);
    for (size_t i = 0; i < settings->n_external_addresses; i++)
        put_address(writer, &settings->external_addresses[i]);
    writer_u8(writer, (uint8_t) settings->n_internal_prefixes);
    for (size_t i = 0; i < settings->n_internal_prefixes; i++)
        put_prefix(writer, &settings->internal_prefixes[i]);
    writer_u8(writer, settings->masquerade);
    writer_u16(writer, settings->masquerade_port_first);
    writer_u16(writer, settings->masquerade_port_last);
    put_address(writer, &settings->masquerade_address);
    writer_u32(writer, settings->grace_s);
    writer_u32(writer, settings->size_hint);
}

void message_get_settings(struct reader *reader, struct nat_settings *ret_settings)
{
    *ret_settings = (struct nat_settings){0};
    ret_settings->n_outside_interfaces = get_count(reader, NAT_INTERFACES_MAX);
    for (size_t i = 0; i < ret_settings->n_outside_interfaces; i++)
        get_interface(reader, ret_settings->outside_interfaces[i]);
    ret_settings->n_external_addresses = get_count(reader, NAT_EXTERNAL_ADDRESSES_MAX);
    for (size_t i = 0; i < ret_settings->n_external_addresses; i++)
        ret_settings->external_addresses[i] = get_address(reader);
    ret_settings->n_internal_prefixes = get_count(reader, NAT_PREFIXES_MAX);
    for (size_t i = 0; i < ret_settings->n_internal_prefixes; i++)
        ret_settings->internal_prefixes[i] = get_prefix(reader);
    ret_settings->masquerade = get_boolean(reader);
    ret_settings->masquerade_port_first = reader_u16(reader);
    ret_settings->masquerade_port_last = reader_u16(reader);
    ret_settings->masquerade_address = get_address(reader);
    ret_settings->grace_s = reader_u32(reader);
    ret_settings->size_hint = reader_u32(reader);
}

static void put_filters(struct writer *writer, const struct mapping_filters *filters)
{
    uint32_t n_filters = filters ? filters->n_filters : 0;
    writer_u8(writer, (uint8_t) n_filters);
    for (uint32_t i = 0; i < n_filters; i++) {
        put_prefix(writer, &filters->items[i].remote);
        writer_u16(writer, filters->items[i].remote_port);
    }
}

static const struct mapping_filters *get_filters(struct reader *reader)
{
    struct mapping_filter items[MAPPING_FILTERS_MAX];
    size_t n_filters = get_count(reader, MAPPING_FILTERS_MAX);
    for (size_t i = 0; i < n_filters; i++) {
        items[i] = (struct mapping_filter){.remote = get_prefix(reader)};
        items[i].remote_port = reader_u16(reader);
    }
    if (n_filters == 0 || reader_failed(reader))
        return NULL;
    const struct mapping_filters *filters = mapping_filters_new(items, n_filters);
    /* Without memory the helper can as little go on as with a bad message. */
    require(reader, filters);
    return filters;
}

void message_put_record(struct writer *writer, const struct mapping_record *record)
{
    writer_u64(writer, record->id);
    writer_u64(writer, record->expires_ns);
    put_address(writer, &record->internal_address);
    put_address(writer, &record->external_address);
    put_address(writer, &record->remote_address);
    writer_u16(writer, record->internal_port);
    writer_u16(writer, record->external_port);
    writer_u16(writer, record->remote_port);
    writer_u8(writer, record->protocol);
    writer_u8(writer, record->kind);
    writer_u8(writer, record->state);
    put_filters(writer, record->filters);
}

void message_get_record(struct reader *reader, struct mapping_record *ret_record)
{
    struct mapping_record record = {.id = reader_u64(reader)};
    record.expires_ns = reader_u64(reader);
    record.internal_address = get_address(reader);
    record.external_address = get_address(reader);
    record.remote_address = get_address(reader);
    record.internal_port = reader_u16(reader);
    record.external_port = reader_u16(reader);
    record.remote_port = reader_u16(reader);
    record.protocol = reader_u8(reader);
    record.kind = reader_u8(reader);
    require(reader, record.kind >= MAPPING_KIND_MAP && record.kind <= MAPPING_KIND_STATIC);
    record.state = reader_u8(reader);
    require(reader, record.state == MAPPING_STATE_LIVE || record.state == MAPPING_STATE_HELD);
    record.filters = get_filters(reader);
    *ret_record = record;
}

#define CHANGE_HAD_BEFORE 1
#define CHANGE_HAS_AFTER 2

void message_put_change(struct writer *writer, const struct change *change)
{
    writer_u8(writer, (uint8_t) ((change->had_before ? CHANGE_HAD_BEFORE : 0) |
                                 (change->has_after ? CHANGE_HAS_AFTER : 0)));
    if (change->had_before)
        message_put_record(writer, &change->before);
    if (change->has_after)
        message_put_record(writer, &change->after);
}

void message_get_change(struct reader *reader, struct change *ret_change)
{
    uint8_t sides = reader_u8(reader);
    *ret_change = (struct change){.had_before = sides & CHANGE_HAD_BEFORE,
                                  .has_after = sides & CHANGE_HAS_AFTER};
    require(reader, sides > 0 && sides <= (CHANGE_HAD_BEFORE | CHANGE_HAS_AFTER));
    if (ret_change->had_before)
        message_get_record(reader, &ret_change->before);
    if (ret_change->has_after)
        message_get_record(reader, &ret_change->after);
    if (ret_change->had_before && ret_change->has_after)
        require(reader, ret_change->before.id == ret_change->after.id);
}

void message_put_flow(struct writer *writer, const struct message_flow *flow)
{
    writer_u8(writer, flow->protocol);
    put_endpoint(writer, &flow->internal);
    put_endpoint(writer, &flow->remote);
}

void message_get_flow(struct reader *reader, struct message_flow *ret_flow)
{
    ret_flow->protocol = reader_u8(reader);
    ret_flow->internal = get_endpoint(reader);
    ret_flow->remote = get_endpoint(reader);
}

/* A number that is no error is as good as one that is unknown. */
static void put_error(struct writer *writer, int error)
{
    writer_u16(writer, (uint16_t) (error <= 0 && error >= -MESSAGE_ERROR_MAX ? -error : EPROTO));
}

static int get_error(struct reader *reader)
{
    uint16_t error = reader_u16(reader);
    require(reader, error <= MESSAGE_ERROR_MAX);
    return -(int) error;
}

void message_put_ready(struct writer *writer, const struct message_ready *ready)
{
    writer_u8(writer, (uint8_t) ready->stage);
    put_error(writer, ready->error);
}

void message_get_ready(struct reader *reader, struct message_ready *ret_ready)
{
    uint8_t stage = reader_u8(reader);
    require(reader, stage >= MESSAGE_STAGE_PRIVILEGES && stage <= MESSAGE_STAGE_DONE);
    ret_ready->stage = stage;
    ret_ready->error = get_error(reader);
    require(reader, (ret_ready->error == 0) == (stage == MESSAGE_STAGE_DONE));
}

void message_put_verdict(struct writer *writer, const struct message_verdict *verdict)
{
    put_error(writer, verdict->error);
    put_endpoint(writer, &verdict->external);
}

void message_get_verdict(struct reader *reader, struct message_verdict *ret_verdict)
{
    ret_verdict->error = get_error(reader);
    ret_verdict->external = get_endpoint(reader);
}

bool message_is_whole(const struct reader *reader)
{
    return !reader_failed(reader) && reader_remaining(reader) == 0;
}
