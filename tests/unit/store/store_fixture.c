#include "store_fixture.h"

#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/random.h"
#include "base/time.h"

/*
 * A removal of the whole history's start would leave nothing to look at, so half of each batch
 * stays.
 */
#define N_REMOVED (FIXTURE_BATCH_SIZE / 2)
#define REMOVAL_LAG 3

struct mapping_record fixture_record(uint64_t id, uint64_t version)
{
    struct mapping_record record = {
        .id = id,
        .created_ns = id * NS_PER_S,
        .expires_ns = (id + version + 1) * NS_PER_S,
        .internal_address = ip_address_from_ipv4(UINT32_C(0x0a000000) + (uint32_t) id),
        .external_address = ip_address_from_ipv4(UINT32_C(0xc6336401)),
        .client_address = ip_address_from_ipv4(UINT32_C(0x0a000000) + (uint32_t) id),
        .internal_port = (uint16_t) (id % 65535 + 1),
        .external_port = (uint16_t) (id % 64000 + 1024),
        .client_port = (uint16_t) (id % 60000 + 2),
        .protocol = id % 2 ? 6 : 17,
        .kind = id % 5 ? MAPPING_KIND_MAP : MAPPING_KIND_PEER,
        .state = id % 11 ? MAPPING_STATE_LIVE : MAPPING_STATE_HELD,
        .has_nonce = 1,
        .third_party = id % 3 == 0,
        .prefer_failure = id % 4 == 0,
    };
    struct random_source random = random_seeded(id);

    if (record.kind == MAPPING_KIND_PEER) {
        record.remote_address = ip_address_from_ipv4(UINT32_C(0xcb007100) + (uint32_t) (id % 256));
        record.remote_port = (uint16_t) (id % 1000 + 1);
    }
    random_fill(&random, record.nonce, sizeof(record.nonce));
    if (id % 7 == 0) {
        struct mapping_filter filters[MAPPING_FILTERS_MAX];
        size_t n_filters = id / 7 % MAPPING_FILTERS_MAX + 1;

        for (size_t i = 0; i < n_filters; i++)
            filters[i] = (struct mapping_filter){
                .remote = {.address = ip_address_from_ipv4((uint32_t) i << 8), .length = 120},
                .remote_port = (uint16_t) i,
            };
        record.filters = mapping_filters_new(filters, n_filters);
        assert_non_null(record.filters);
    }
    return record;
}

void fixture_record_deinit(struct mapping_record *record)
{
    record->filters = mapping_filters_unref(record->filters);
}

void fixture_add(struct change_set *set, uint64_t id)
{
    struct mapping_record after = fixture_record(id, 0);

    assert_int_equal(change_set_append(set, NULL, &after), 0);
    fixture_record_deinit(&after);
}

void fixture_update(struct change_set *set, uint64_t id, uint64_t version, uint64_t new_version)
{
    struct mapping_record before = fixture_record(id, version);
    struct mapping_record after = fixture_record(id, new_version);

    assert_int_equal(change_set_append(set, &before, &after), 0);
    fixture_record_deinit(&before);
    fixture_record_deinit(&after);
}

void fixture_remove(struct change_set *set, uint64_t id, uint64_t version)
{
    struct mapping_record before = fixture_record(id, version);

    assert_int_equal(change_set_append(set, &before, NULL), 0);
    fixture_record_deinit(&before);
}

struct store_clock fixture_clock(uint64_t next_id)
{
    return (struct store_clock){
        .boot_id = {1, 2, 3, 4},
        .boottime_ns = 17,
        .wall_ns = UINT64_C(1700000000) * NS_PER_S,
        .service_ns = next_id * 3,
        .epoch_zero_ns = 5,
        .next_id = next_id,
    };
}

int fixture_commit(struct store *store, struct change_set *set, uint64_t next_id)
{
    struct store_clock clock = fixture_clock(next_id);
    struct store_commit commit = {
        .changes = set->items,
        .n_changes = set->n_items,
        .clock = &clock,
    };
    int r = store_commit(store, &commit);

    change_set_clear(set);
    return r;
}

static int take_clock(void *context, const struct store_clock *clock)
{
    struct fixture_content *content = context;

    content->clock = *clock;
    content->n_clocks++;
    return 0;
}

static int take_mapping(void *context, const struct mapping_record *record)
{
    struct fixture_content *content = context;

    content->records = realloc(content->records, (content->n_records + 1) * sizeof(*record));
    assert_non_null(content->records);
    content->records[content->n_records++] = *record;
    mapping_filters_ref(record->filters);
    return 0;
}

static int take_epoch(void *context, const struct store_epoch *epoch)
{
    struct fixture_content *content = context;

    content->epochs = realloc(content->epochs, (content->n_epochs + 1) * sizeof(*epoch));
    assert_non_null(content->epochs);
    content->epochs[content->n_epochs++] = *epoch;
    return 0;
}

int fixture_load(struct store *store, struct fixture_content *ret_content)
{
    struct store_load_handler handler = {
        .clock = take_clock,
        .mapping = take_mapping,
        .epoch = take_epoch,
        .context = ret_content,
    };

    *ret_content = (struct fixture_content){0};
    return store_load(store, &handler);
}

void fixture_content_deinit(struct fixture_content *content)
{
    for (size_t i = 0; i < content->n_records; i++)
        fixture_record_deinit(&content->records[i]);
    free(content->records);
    free(content->epochs);
    *content = (struct fixture_content){0};
}

bool fixture_content_equal(const struct fixture_content *a, const struct fixture_content *b)
{
    if (a->n_clocks != b->n_clocks || memcmp(&a->clock, &b->clock, sizeof(a->clock)) != 0 ||
        a->n_records != b->n_records || a->n_epochs != b->n_epochs)
        return false;
    for (size_t i = 0; i < a->n_records; i++)
        if (!mapping_record_equal(&a->records[i], &b->records[i]))
            return false;
    for (size_t i = 0; i < a->n_epochs; i++)
        if (!ip_prefix_equal(&a->epochs[i].subscriber, &b->epochs[i].subscriber) ||
            a->epochs[i].epoch_zero_ns != b->epochs[i].epoch_zero_ns)
            return false;
    return true;
}

/* Ids start at 1. */
static uint64_t batch_id(uint64_t batch, uint64_t i)
{
    return batch * FIXTURE_BATCH_SIZE + i + 1;
}

int fixture_commit_batch(struct store *store, uint64_t batch)
{
    struct change_set set;
    int r;

    change_set_init(&set);
    for (uint64_t i = 0; i < FIXTURE_BATCH_SIZE; i++)
        fixture_add(&set, batch_id(batch, i));
    if (batch >= 1)
        fixture_update(&set, batch_id(batch - 1, 0), 0, 1);
    for (uint64_t i = 0; batch >= REMOVAL_LAG && i < N_REMOVED; i++)
        fixture_remove(&set, batch_id(batch - REMOVAL_LAG, i), i == 0 ? 1 : 0);
    r = fixture_commit(store, &set, batch_id(batch + 1, 0));
    change_set_deinit(&set);
    return r;
}

uint64_t fixture_check_batches(const struct fixture_content *content)
{
    uint64_t n_batches = (content->clock.next_id - 1) / FIXTURE_BATCH_SIZE;
    struct store_clock clock = fixture_clock(batch_id(n_batches, 0));
    size_t n_seen = 0;

    assert_int_equal(content->n_clocks, 1);
    assert_memory_equal(&content->clock, &clock, sizeof(clock));
    for (uint64_t batch = 0; batch < n_batches; batch++) {
        bool is_halved = batch + REMOVAL_LAG < n_batches;

        for (uint64_t i = is_halved ? N_REMOVED : 0; i < FIXTURE_BATCH_SIZE; i++) {
            bool is_updated = i == 0 && batch + 1 < n_batches;
            struct mapping_record expected = fixture_record(batch_id(batch, i), is_updated ? 1 : 0);

            assert_true(n_seen < content->n_records);
            assert_true(mapping_record_equal(&content->records[n_seen++], &expected));
            fixture_record_deinit(&expected);
        }
    }
    assert_int_equal(n_seen, content->n_records);
    return n_batches;
}

void fixture_make_directory(char *ret_path)
{
    const char *base = getenv("TMPDIR");

    snprintf(ret_path, PATH_MAX, "%s/hfstore-XXXXXX", base && *base ? base : "/tmp");
    assert_non_null(mkdtemp(ret_path));
}

const char *fixture_path(char *ret_path, const char *directory, const char *name)
{
    assert_true(snprintf(ret_path, PATH_MAX, "%s/%s", directory, name) < PATH_MAX);
    return ret_path;
}

static int remove_one(const char *path, const struct stat *status, int type, struct FTW *place)
{
    (void) status;
    (void) type;
    (void) place;
    return remove(path);
}

void fixture_remove_tree(const char *path)
{
    assert_int_equal(nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT), 0);
}

void fixture_read_file(const char *path, uint8_t **ret_data, size_t *ret_size_bytes)
{
    FILE *file = fopen(path, "re");
    struct stat status;

    assert_non_null(file);
    assert_int_equal(fstat(fileno(file), &status), 0);
    *ret_size_bytes = (size_t) status.st_size;
    *ret_data = malloc(*ret_size_bytes + 1);
    assert_non_null(*ret_data);
    assert_int_equal(fread(*ret_data, 1, *ret_size_bytes, file), *ret_size_bytes);
    fclose(file);
}

void fixture_write_file(const char *path, const void *data, size_t size_bytes)
{
    FILE *file = fopen(path, "we");

    assert_non_null(file);
    if (size_bytes > 0)
        assert_int_equal(fwrite(data, 1, size_bytes, file), size_bytes);
    assert_int_equal(fclose(file), 0);
}

uint64_t fixture_seed(void)
{
    const char *text = getenv("HOLDFAST_TEST_SEED");
    struct random_source random = random_system();
    uint64_t seed = text ? strtoull(text, NULL, 10) : random_u64(&random) >> 32;

    print_message("HOLDFAST_TEST_SEED=%llu\n", (unsigned long long) seed);
    return seed;
}
