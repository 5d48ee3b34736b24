#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/random.h"
#include "base/time.h"
#include "store/record.h"
#include "store_fixture.h"

/* Bit by bit from the polynomial, to check the table in record.c against. */
static uint32_t naive_crc32c(const uint8_t *data, size_t size_bytes)
{
    uint32_t crc = UINT32_MAX;

    for (size_t i = 0; i < size_bytes; i++) {
        crc ^= data[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? UINT32_C(0x82f63b78) : 0);
    }
    return ~crc;
}

static void put_crc(uint8_t *data, size_t size_bytes)
{
    uint32_t crc = naive_crc32c(data, size_bytes - 4);

    for (size_t i = 0; i < 4; i++)
        data[size_bytes - 4 + i] = (uint8_t) (crc >> (24 - 8 * i));
}

static size_t encode(const struct mapping_record *record, uint8_t *ret_data)
{
    int n = store_record_encode_mapping(record, ret_data, STORE_RECORD_SIZE_MAX);

    assert_true(n > 0);
    return (size_t) n;
}

static int decode(const uint8_t *data, size_t size_bytes)
{
    struct mapping_record record = {0};
    /* A copy of exact size, so that a read past the end is seen by the sanitizer. */
    uint8_t *copy = malloc(size_bytes + 1);
    int r;

    assert_non_null(copy);
    memcpy(copy + 1, data, size_bytes);
    r = store_record_decode_mapping(copy + 1, size_bytes, &record);
    fixture_record_deinit(&record);
    free(copy);
    return r;
}

static void test_store_record_decode_mapping_round_trip(void **state)
{
    (void) state;
    for (uint64_t id = 0; id < 1000; id++) {
        uint8_t data[STORE_RECORD_SIZE_MAX];
        struct mapping_record record = fixture_record(id, id % 3), again;
        size_t size_bytes;

        if (id == 17)
            record.expires_ns = TIME_NEVER;
        if (id % 13 == 0)
            record.has_nonce = 0;
        size_bytes = encode(&record, data);
        assert_int_equal(store_record_decode_mapping(data, size_bytes, &again), 0);
        assert_true(mapping_record_equal(&record, &again));
        if (again.filters)
            assert_int_equal(again.filters->n_references, 1);
        fixture_record_deinit(&record);
        fixture_record_deinit(&again);
    }
}

static void test_store_record_encode_mapping_checksum(void **state)
{
    static const uint8_t check_input[] = {'1', '2', '3', '4', '5', '6', '7', '8', '9'};
    uint8_t data[STORE_RECORD_SIZE_MAX], expected[STORE_RECORD_SIZE_MAX];
    struct mapping_record record = fixture_record(441, 0);
    size_t size_bytes = encode(&record, data);

    (void) state;
    /* The check value of the CRC catalogues. */
    assert_int_equal(naive_crc32c(check_input, sizeof(check_input)), UINT32_C(0xe3069283));
    memcpy(expected, data, size_bytes);
    put_crc(expected, size_bytes);
    assert_memory_equal(data, expected, size_bytes);
    fixture_record_deinit(&record);
}

static void test_store_record_encode_mapping_every_short_buffer(void **state)
{
    uint8_t data[STORE_RECORD_SIZE_MAX];
    struct mapping_record record = fixture_record(7 * (MAPPING_FILTERS_MAX - 1), 0);
    size_t size_bytes = encode(&record, data);

    (void) state;
    assert_int_equal(record.filters->n_filters, MAPPING_FILTERS_MAX);
    for (size_t n = 0; n < size_bytes; n++)
        assert_int_equal(store_record_encode_mapping(&record, data, n), -ENOSPC);
    fixture_record_deinit(&record);
}

/* What would not be read back must not get into a store. */
static void test_store_record_encode_mapping_refuses_unreadable(void **state)
{
    uint8_t data[STORE_RECORD_SIZE_MAX];
    struct mapping_filter filter = {.remote = {.length = 129}};
    struct mapping_record record;

    (void) state;
    record = fixture_record(1, 0);
    record.kind = 0;
    assert_int_equal(store_record_encode_mapping(&record, data, sizeof(data)), -EINVAL);
    record.kind = 4;
    assert_int_equal(store_record_encode_mapping(&record, data, sizeof(data)), -EINVAL);
    record = fixture_record(1, 0);
    record.state = 0;
    assert_int_equal(store_record_encode_mapping(&record, data, sizeof(data)), -EINVAL);
    record = fixture_record(1, 0);
    record.filters = mapping_filters_new(&filter, 1);
    assert_int_equal(store_record_encode_mapping(&record, data, sizeof(data)), -EINVAL);
    fixture_record_deinit(&record);
}

static void test_store_record_decode_mapping_every_prefix(void **state)
{
    (void) state;
    for (uint64_t id = 1; id <= 70; id += 69) {
        uint8_t data[STORE_RECORD_SIZE_MAX];
        struct mapping_record record = fixture_record(id, 0);
        size_t size_bytes = encode(&record, data);

        for (size_t n = 0; n < size_bytes; n++)
            assert_int_equal(decode(data, n), -EBADMSG);
        assert_int_equal(decode(data, size_bytes), 0);
        fixture_record_deinit(&record);
    }
}

static void test_store_record_decode_mapping_every_bit(void **state)
{
    (void) state;
    for (uint64_t id = 1; id <= 70; id += 69) {
        uint8_t data[STORE_RECORD_SIZE_MAX];
        struct mapping_record record = fixture_record(id, 0);
        size_t size_bytes = encode(&record, data);

        for (size_t bit = 0; bit < size_bytes * 8; bit++) {
            data[bit / 8] ^= (uint8_t) (1 << bit % 8);
            assert_int_equal(decode(data, size_bytes), -EBADMSG);
            data[bit / 8] ^= (uint8_t) (1 << bit % 8);
        }
        fixture_record_deinit(&record);
    }
}

/* Field values behind a checksum that is right: every octet, every value. */
static void test_store_record_decode_mapping_every_octet_resealed(void **state)
{
    uint8_t data[STORE_RECORD_SIZE_MAX];
    struct mapping_record record = fixture_record(7, 0);
    size_t size_bytes = encode(&record, data);
    unsigned int n_refused = 0;

    (void) state;
    for (size_t i = 0; i < size_bytes - 4; i++) {
        uint8_t saved = data[i];

        for (int value = 0; value < 256; value++) {
            int r;

            data[i] = (uint8_t) value;
            put_crc(data, size_bytes);
            r = decode(data, size_bytes);
            assert_true(r == 0 || r == -EBADMSG || (r == -ENOTSUP && i == 0));
            n_refused += r != 0;
        }
        data[i] = saved;
    }
    /* At least the format, kind, state, flags and filter count octets have impossible values. */
    assert_true(n_refused > 255 + 252 + 253 + 248 + 254);
    fixture_record_deinit(&record);
}

static void test_store_record_decode_mapping_extra_octets(void **state)
{
    uint8_t data[STORE_RECORD_SIZE_MAX];
    struct mapping_record record = fixture_record(1, 0);
    size_t size_bytes = encode(&record, data);

    (void) state;
    data[size_bytes] = 0;
    put_crc(data, size_bytes + 1);
    assert_int_equal(decode(data, size_bytes + 1), -EBADMSG);
}

static void test_store_record_decode_later_format(void **state)
{
    uint8_t data[STORE_RECORD_SIZE_MAX] = {0};
    struct mapping_record record;
    struct store_clock clock;
    struct store_epoch epoch;

    (void) state;
    for (size_t size_bytes = 5; size_bytes < 300; size_bytes++) {
        data[0] = 2;
        put_crc(data, size_bytes);
        assert_int_equal(store_record_decode_mapping(data, size_bytes, &record), -ENOTSUP);
        assert_int_equal(store_record_decode_clock(data, size_bytes, &clock), -ENOTSUP);
        assert_int_equal(store_record_decode_epoch(data, size_bytes, &epoch), -ENOTSUP);
        data[0] = 0;
        put_crc(data, size_bytes);
        assert_int_equal(store_record_decode_mapping(data, size_bytes, &record), -EBADMSG);
    }
}

static void test_store_record_decode_clock_damage(void **state)
{
    struct store_clock clock = fixture_clock(UINT64_MAX), again;
    uint8_t data[STORE_RECORD_SIZE_MAX];
    int n = store_record_encode_clock(&clock, data, sizeof(data));

    (void) state;
    assert_true(n > 0);
    assert_int_equal(store_record_decode_clock(data, (size_t) n, &again), 0);
    assert_memory_equal(&clock, &again, sizeof(clock));
    for (size_t i = 0; i < (size_t) n; i++) {
        uint8_t shorter[STORE_RECORD_SIZE_MAX];

        assert_int_equal(store_record_encode_clock(&clock, shorter, i), -ENOSPC);
        assert_int_equal(store_record_decode_clock(data, i, &again), -EBADMSG);
    }
    for (size_t bit = 0; bit < (size_t) n * 8; bit++) {
        data[bit / 8] ^= (uint8_t) (1 << bit % 8);
        assert_int_equal(store_record_decode_clock(data, (size_t) n, &again), -EBADMSG);
        data[bit / 8] ^= (uint8_t) (1 << bit % 8);
    }
}

static void test_store_record_decode_epoch_damage(void **state)
{
    struct store_epoch epoch = {.subscriber = {.length = 128}, .epoch_zero_ns = 77}, again;
    uint8_t data[STORE_RECORD_SIZE_MAX];
    int n;

    (void) state;
    epoch.subscriber.address = ip_address_from_ipv4(UINT32_C(0x0a000001));
    n = store_record_encode_epoch(&epoch, data, sizeof(data));
    assert_true(n > 0);
    assert_int_equal(store_record_decode_epoch(data, (size_t) n, &again), 0);
    assert_true(ip_prefix_equal(&again.subscriber, &epoch.subscriber));
    assert_int_equal(again.epoch_zero_ns, 77);
    for (size_t i = 0; i < (size_t) n; i++)
        assert_int_equal(store_record_decode_epoch(data, i, &again), -EBADMSG);
    for (size_t bit = 0; bit < (size_t) n * 8; bit++) {
        data[bit / 8] ^= (uint8_t) (1 << bit % 8);
        assert_int_equal(store_record_decode_epoch(data, (size_t) n, &again), -EBADMSG);
        data[bit / 8] ^= (uint8_t) (1 << bit % 8);
    }
    epoch.subscriber.length = 129;
    assert_int_equal(store_record_encode_epoch(&epoch, data, sizeof(data)), -EINVAL);
}

/* A record of one kind in another's place. */
static void test_store_record_decode_other_kind(void **state)
{
    struct store_clock clock = fixture_clock(1);
    uint8_t data[STORE_RECORD_SIZE_MAX];
    struct store_epoch epoch;
    int n = store_record_encode_clock(&clock, data, sizeof(data));

    (void) state;
    assert_true(n > 0);
    assert_int_equal(decode(data, (size_t) n), -EBADMSG);
    assert_int_equal(store_record_decode_epoch(data, (size_t) n, &epoch), -EBADMSG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_store_record_decode_mapping_round_trip),
        cmocka_unit_test(test_store_record_encode_mapping_checksum),
        cmocka_unit_test(test_store_record_encode_mapping_every_short_buffer),
        cmocka_unit_test(test_store_record_encode_mapping_refuses_unreadable),
        cmocka_unit_test(test_store_record_decode_mapping_every_prefix),
        cmocka_unit_test(test_store_record_decode_mapping_every_bit),
        cmocka_unit_test(test_store_record_decode_mapping_every_octet_resealed),
        cmocka_unit_test(test_store_record_decode_mapping_extra_octets),
        cmocka_unit_test(test_store_record_decode_later_format),
        cmocka_unit_test(test_store_record_decode_clock_damage),
        cmocka_unit_test(test_store_record_decode_epoch_damage),
        cmocka_unit_test(test_store_record_decode_other_kind),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
