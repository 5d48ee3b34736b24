/*
 * A record is: format number, fields in a fixed order, CRC-32C of everything before it. The
 * checksum is tested first and lies at the end in every format, so that a damaged format number
 * reads as damage and not as a later version. Fields are checked too: what passes the checksum but
 * cannot have been written by this code is damaged as well.
 */

#include "store/record.h"

#include <errno.h>
#include <string.h>

#include "base/reader.h"
#include "base/writer.h"

#define FORMAT 1
#define CRC_SIZE 4

enum {
    FLAG_HAS_NONCE = 1,
    FLAG_THIRD_PARTY = 2,
    FLAG_PREFER_FAILURE = 4,
    FLAGS_KNOWN = FLAG_HAS_NONCE | FLAG_THIRD_PARTY | FLAG_PREFER_FAILURE,
};

/* CRC-32C (Castagnoli, as in RFC 3720 s12.1), reflected, four bits at a time. */
static uint32_t checksum(const uint8_t *data, size_t size_bytes)
{
    static const uint32_t table[16] = {
        0x00000000, 0x105ec76f, 0x20bd8ede, 0x30e349b1, 0x417b1dbc, 0x5125dad3,
        0x61c69362, 0x7198540d, 0x82f63b78, 0x92a8fc17, 0xa24bb5a6, 0xb21572c9,
        0xc38d26c4, 0xd3d3e1ab, 0xe330a81a, 0xf36e6f75,
    };
    uint32_t crc = UINT32_MAX;

    for (size_t i = 0; i < size_bytes; i++) {
        crc ^= data[i];
        crc = crc >> 4 ^ table[crc & 15];
        crc = crc >> 4 ^ table[crc & 15];
    }
    return ~crc;
}

/* Appends the checksum. The size written, or -ENOSPC. */
static int seal(struct writer *writer)
{
    writer_u32(writer, checksum(writer->data, writer_position(writer)));
    return writer_failed(writer) ? -ENOSPC : (int) writer_position(writer);
}

/* Checks checksum and format; `ret_reader` is left at the first field. */
static int unseal(const void *data, size_t size_bytes, struct reader *ret_reader)
{
    struct reader trailer;
    struct reader reader;
    uint8_t format;

    if (size_bytes < 1 + CRC_SIZE)
        return -EBADMSG;
    reader = reader_init(data, size_bytes - CRC_SIZE);
    trailer = reader_init((const uint8_t *) data + size_bytes - CRC_SIZE, CRC_SIZE);
    if (reader_u32(&trailer) != checksum(data, size_bytes - CRC_SIZE))
        return -EBADMSG;
    format = reader_u8(&reader);
    if (format == 0)
        return -EBADMSG;
    if (format > FORMAT)
        return -ENOTSUP;
    *ret_reader = reader;
    return 0;
}

/* Nothing missing, nothing behind. */
static bool is_exhausted(const struct reader *reader)
{
    return !reader_failed(reader) && reader_remaining(reader) == 0;
}

static void write_address(struct writer *writer, const struct ip_address *address)
{
    writer_bytes(writer, address->octets, sizeof(address->octets));
}

static void read_address(struct reader *reader, struct ip_address *ret_address)
{
    reader_bytes(reader, ret_address->octets, sizeof(ret_address->octets));
}

static void write_prefix(struct writer *writer, const struct ip_prefix *prefix)
{
    write_address(writer, &prefix->address);
    writer_u8(writer, prefix->length);
}

static void read_prefix(struct reader *reader, struct ip_prefix *ret_prefix)
{
    read_address(reader, &ret_prefix->address);
    ret_prefix->length = reader_u8(reader);
}

static bool prefix_is_sound(const struct ip_prefix *prefix)
{
    return prefix->length <= 128;
}

static bool filters_are_sound(const struct mapping_filters *filters)
{
    if (!filters)
        return true;
    if (filters->n_filters > MAPPING_FILTERS_MAX)
        return false;
    for (uint32_t i = 0; i < filters->n_filters; i++)
        if (!prefix_is_sound(&filters->items[i].remote))
            return false;
    return true;
}

static void write_filters(struct writer *writer, const struct mapping_filters *filters)
{
    uint32_t n_filters = filters ? filters->n_filters : 0;

    writer_u8(writer, (uint8_t) n_filters);
    for (uint32_t i = 0; i < n_filters; i++) {
        write_prefix(writer, &filters->items[i].remote);
        writer_u16(writer, filters->items[i].remote_port);
    }
}

/* To the end of the record. */
static int read_filters(struct reader *reader, const struct mapping_filters **ret_filters)
{
    struct mapping_filter items[MAPPING_FILTERS_MAX] = {0};
    size_t n_filters = reader_u8(reader);

    if (n_filters > MAPPING_FILTERS_MAX)
        return -EBADMSG;
    for (size_t i = 0; i < n_filters; i++) {
        read_prefix(reader, &items[i].remote);
        items[i].remote_port = reader_u16(reader);
        if (!prefix_is_sound(&items[i].remote))
            return -EBADMSG;
    }
    if (!is_exhausted(reader))
        return -EBADMSG;
    *ret_filters = n_filters > 0 ? mapping_filters_new(items, n_filters) : NULL;
    return n_filters > 0 && !*ret_filters ? -ENOMEM : 0;
}

static void write_endpoints(struct writer *writer, const struct mapping_record *record)
{
    write_address(writer, &record->internal_address);
    write_address(writer, &record->external_address);
    write_address(writer, &record->remote_address);
    write_address(writer, &record->client_address);
    writer_u16(writer, record->internal_port);
    writer_u16(writer, record->external_port);
    writer_u16(writer, record->remote_port);
    writer_u16(writer, record->client_port);
}

static void read_endpoints(struct reader *reader, struct mapping_record *record)
{
    read_address(reader, &record->internal_address);
    read_address(reader, &record->external_address);
    read_address(reader, &record->remote_address);
    read_address(reader, &record->client_address);
    record->internal_port = reader_u16(reader);
    record->external_port = reader_u16(reader);
    record->remote_port = reader_u16(reader);
    record->client_port = reader_u16(reader);
}

static uint8_t pack_flags(const struct mapping_record *record)
{
    return (uint8_t) ((record->has_nonce ? FLAG_HAS_NONCE : 0) |
                      (record->third_party ? FLAG_THIRD_PARTY : 0) |
                      (record->prefer_failure ? FLAG_PREFER_FAILURE : 0));
}

static void unpack_flags(uint8_t flags, struct mapping_record *record)
{
    record->has_nonce = (flags & FLAG_HAS_NONCE) != 0;
    record->third_party = (flags & FLAG_THIRD_PARTY) != 0;
    record->prefer_failure = (flags & FLAG_PREFER_FAILURE) != 0;
}

static bool enums_are_known(const struct mapping_record *record)
{
    return record->kind >= MAPPING_KIND_MAP && record->kind <= MAPPING_KIND_STATIC &&
           (record->state == MAPPING_STATE_LIVE || record->state == MAPPING_STATE_HELD);
}

int store_record_encode_mapping(const struct mapping_record *record, void *ret_data,
                                size_t size_bytes)
{
    struct writer writer = writer_init(ret_data, size_bytes);

    if (!enums_are_known(record) || !filters_are_sound(record->filters))
        return -EINVAL;
    writer_u8(&writer, FORMAT);
    writer_u64(&writer, record->id);
    writer_u64(&writer, record->created_ns);
    writer_u64(&writer, record->expires_ns);
    write_endpoints(&writer, record);
    writer_u8(&writer, record->protocol);
    writer_u8(&writer, record->kind);
    writer_u8(&writer, record->state);
    writer_u8(&writer, pack_flags(record));
    writer_bytes(&writer, record->nonce, sizeof(record->nonce));
    write_filters(&writer, record->filters);
    return seal(&writer);
}

int store_record_decode_mapping(const void *data, size_t size_bytes,
                                struct mapping_record *ret_record)
{
    struct mapping_record record = {0};
    struct reader reader;
    uint8_t flags;
    int r;

    r = unseal(data, size_bytes, &reader);
    if (r < 0)
        return r;
    record.id = reader_u64(&reader);
    record.created_ns = reader_u64(&reader);
    record.expires_ns = reader_u64(&reader);
    read_endpoints(&reader, &record);
    record.protocol = reader_u8(&reader);
    record.kind = reader_u8(&reader);
    record.state = reader_u8(&reader);
    flags = reader_u8(&reader);
    reader_bytes(&reader, record.nonce, sizeof(record.nonce));
    if (!enums_are_known(&record) || (flags & ~FLAGS_KNOWN))
        return -EBADMSG;
    unpack_flags(flags, &record);
    r = read_filters(&reader, &record.filters);
    if (r < 0)
        return r;
    *ret_record = record;
    return 0;
}

int store_record_encode_clock(const struct store_clock *clock, void *ret_data, size_t size_bytes)
{
    struct writer writer = writer_init(ret_data, size_bytes);

    writer_u8(&writer, FORMAT);
    writer_bytes(&writer, clock->boot_id, sizeof(clock->boot_id));
    writer_u64(&writer, clock->boottime_ns);
    writer_u64(&writer, clock->wall_ns);
    writer_u64(&writer, clock->service_ns);
    writer_u64(&writer, clock->epoch_zero_ns);
    writer_u64(&writer, clock->next_id);
    return seal(&writer);
}

int store_record_decode_clock(const void *data, size_t size_bytes, struct store_clock *ret_clock)
{
    struct store_clock clock;
    struct reader reader;
    int r;

    r = unseal(data, size_bytes, &reader);
    if (r < 0)
        return r;
    reader_bytes(&reader, clock.boot_id, sizeof(clock.boot_id));
    clock.boottime_ns = reader_u64(&reader);
    clock.wall_ns = reader_u64(&reader);
    clock.service_ns = reader_u64(&reader);
    clock.epoch_zero_ns = reader_u64(&reader);
    clock.next_id = reader_u64(&reader);
    if (!is_exhausted(&reader))
        return -EBADMSG;
    *ret_clock = clock;
    return 0;
}

int store_record_encode_epoch(const struct store_epoch *epoch, void *ret_data, size_t size_bytes)
{
    struct writer writer = writer_init(ret_data, size_bytes);

    if (!prefix_is_sound(&epoch->subscriber))
        return -EINVAL;
    writer_u8(&writer, FORMAT);
    write_prefix(&writer, &epoch->subscriber);
    writer_u64(&writer, epoch->epoch_zero_ns);
    return seal(&writer);
}

int store_record_decode_epoch(const void *data, size_t size_bytes, struct store_epoch *ret_epoch)
{
    struct store_epoch epoch;
    struct reader reader;
    int r;

    r = unseal(data, size_bytes, &reader);
    if (r < 0)
        return r;
    read_prefix(&reader, &epoch.subscriber);
    epoch.epoch_zero_ns = reader_u64(&reader);
    if (!is_exhausted(&reader) || !prefix_is_sound(&epoch.subscriber))
        return -EBADMSG;
    *ret_epoch = epoch;
    return 0;
}
