#include <errno.h>
#include <fcntl.h>
#include <lmdb.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/util.h"
#include "store/lmdb/lmdb_store.h"
#include "store_fixture.h"

#define MAP_SIZE (64 << 20)

static char top[PATH_MAX];
static char directory[PATH_MAX];
static char data_path[PATH_MAX];
static char why[256];

static int set_up(void **state)
{
    (void) state;
    fixture_make_directory(top);
    fixture_path(directory, top, "state");
    fixture_path(data_path, directory, "data.mdb");
    memset(why, 0, sizeof(why));
    return 0;
}

static int tear_down(void **state)
{
    (void) state;
    fixture_remove_tree(top);
    return 0;
}

static struct store *open_store(void)
{
    struct store *store;

    if (lmdb_store_open(directory, MAP_SIZE, &store, why) < 0)
        fail_msg("%s", why);
    return store;
}

/* One line, in English, that names the place. */
static void check_refused(int expected)
{
    struct store *store;

    strcpy(why, "unset");
    assert_int_equal(lmdb_store_open(directory, MAP_SIZE, &store, why), expected);
    assert_non_null(strstr(why, directory));
    assert_null(strchr(why, '\n'));
}

static void make_store(uint64_t n_batches)
{
    struct store *store = open_store();

    for (uint64_t batch = 0; batch < n_batches; batch++)
        assert_int_equal(fixture_commit_batch(store, batch), 0);
    store_close(store);
}

static void check_store(uint64_t n_batches)
{
    struct store *store = open_store();
    struct fixture_content content;

    assert_int_equal(fixture_load(store, &content), 0);
    assert_int_equal(fixture_check_batches(&content), n_batches);
    fixture_content_deinit(&content);
    store_close(store);
}

static void test_lmdb_store_open_new(void **state)
{
    struct fixture_content content;
    struct store *store = open_store();
    struct stat status;

    (void) state;
    assert_int_equal(stat(directory, &status), 0);
    assert_int_equal(status.st_mode & 0777, 0700);
    assert_int_equal(stat(data_path, &status), 0);
    assert_int_equal(status.st_mode & 0777, 0600);
    assert_int_equal(fixture_load(store, &content), -ENODATA);
    store_close(store);

    /* Still new when opened again. */
    store = open_store();
    assert_int_equal(fixture_load(store, &content), -ENODATA);
    store_close(store);
}

static void test_lmdb_store_open_again_has_all(void **state)
{
    (void) state;
    make_store(50);
    check_store(50);
    check_store(50);
}

static void test_lmdb_store_load_in_order_of_ids(void **state)
{
    static const uint64_t ids[] = {500, 3, 70000, 256, 1, 65536, 255};
    static const uint64_t sorted[] = {1, 3, 255, 256, 500, 65536, 70000};
    struct store *store = open_store();
    struct fixture_content content;
    struct change_set set;

    (void) state;
    change_set_init(&set);
    for (size_t i = 0; i < N_ELEMENTS(ids); i++) {
        fixture_add(&set, ids[i]);
        if (i % 2)
            assert_int_equal(fixture_commit(store, &set, 70001), 0);
    }
    assert_int_equal(fixture_commit(store, &set, 70001), 0);
    change_set_deinit(&set);
    assert_int_equal(fixture_load(store, &content), 0);
    assert_int_equal(content.n_records, N_ELEMENTS(sorted));
    for (size_t i = 0; i < N_ELEMENTS(sorted); i++)
        assert_int_equal(content.records[i].id, sorted[i]);
    fixture_content_deinit(&content);
    store_close(store);
}

static void test_lmdb_store_commit_same_id_twice(void **state)
{
    struct store *store = open_store();
    struct mapping_record expected = fixture_record(1, 2);
    struct fixture_content content;
    struct change_set set;

    (void) state;
    change_set_init(&set);
    fixture_add(&set, 1);
    fixture_update(&set, 1, 0, 2);
    fixture_add(&set, 2);
    fixture_remove(&set, 2, 0);
    fixture_remove(&set, 3, 0);
    assert_int_equal(fixture_commit(store, &set, 4), 0);
    change_set_deinit(&set);
    assert_int_equal(fixture_load(store, &content), 0);
    assert_int_equal(content.n_records, 1);
    assert_true(mapping_record_equal(&content.records[0], &expected));
    fixture_content_deinit(&content);
    store_close(store);
}

static void test_lmdb_store_commit_epochs_upsert_and_remove(void **state)
{
    struct store_epoch epochs[] = {
        {.subscriber = {.length = 128}, .epoch_zero_ns = 1},
        {.subscriber = {.length = 64}, .epoch_zero_ns = 2},
        {.subscriber = {.length = 128}, .epoch_zero_ns = 3},
    };
    struct store_clock clock = fixture_clock(1);
    struct store_commit commit = {.epochs = epochs, .n_epochs = 3, .clock = &clock};
    struct store *store = open_store();
    struct fixture_content content;

    (void) state;
    assert_int_equal(store_commit(store, &commit), 0);
    store_close(store);
    store = open_store();
    assert_int_equal(fixture_load(store, &content), 0);
    assert_int_equal(content.n_epochs, 2);
    assert_int_equal(content.epochs[0].subscriber.length, 64);
    assert_int_equal(content.epochs[0].epoch_zero_ns, 2);
    assert_int_equal(content.epochs[1].epoch_zero_ns, 3);
    fixture_content_deinit(&content);

    epochs[0].epoch_zero_ns = 0;
    commit.n_epochs = 1;
    assert_int_equal(store_commit(store, &commit), 0);
    assert_int_equal(store_commit(store, &commit), 0);
    assert_int_equal(fixture_load(store, &content), 0);
    assert_int_equal(content.n_epochs, 1);
    assert_int_equal(content.epochs[0].subscriber.length, 64);
    fixture_content_deinit(&content);
    store_close(store);
}

/* One record that cannot be stored, behind others that can. */
static void test_lmdb_store_commit_unencodable_changes_nothing(void **state)
{
    struct mapping_record bad = fixture_record(1000, 0);
    struct store *store;
    struct change_set set;

    (void) state;
    make_store(3);
    store = open_store();
    change_set_init(&set);
    fixture_add(&set, 900);
    bad.kind = 0;
    assert_int_equal(change_set_append(&set, NULL, &bad), 0);
    assert_int_equal(fixture_commit(store, &set, 1001), -EINVAL);
    change_set_deinit(&set);
    assert_int_equal(fixture_commit_batch(store, 3), 0);
    store_close(store);
    check_store(4);
}

static int stop_at_two(void *context, const struct mapping_record *record)
{
    ++*(unsigned int *) context;
    return record->id == 2 ? -EDOM : 0;
}

static int accept_clock(void *context, const struct store_clock *clock)
{
    (void) context;
    (void) clock;
    return 0;
}

static void test_lmdb_store_load_stops_when_told(void **state)
{
    unsigned int n_seen = 0;
    struct store_load_handler handler = {
        .clock = accept_clock,
        .mapping = stop_at_two,
        .context = &n_seen,
    };
    struct store *store;

    (void) state;
    make_store(1);
    store = open_store();
    assert_int_equal(store_load(store, &handler), -EDOM);
    assert_int_equal(n_seen, 2);
    assert_int_equal(fixture_commit_batch(store, 1), 0);
    store_close(store);
    check_store(2);
}

static void test_lmdb_store_open_twice_is_busy(void **state)
{
    struct store *store = open_store();
    char where[PATH_MAX];

    (void) state;
    check_refused(-EBUSY);
    assert_int_equal(lmdb_store_move_aside(directory, where), -EBUSY);
    store_close(store);
    store_close(open_store());
}

/*
 * Runs `hold` in a child and returns once that has returned there. The child then waits to be
 * killed.
 */
static pid_t start_holder(void (*hold)(void))
{
    int pipe_fds[2];
    char octet;
    pid_t child;

    assert_int_equal(pipe(pipe_fds), 0);
    child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        hold();
        if (write(pipe_fds[1], "x", 1) == 1)
            pause();
        _exit(1);
    }
    close(pipe_fds[1]);
    assert_int_equal(read(pipe_fds[0], &octet, 1), 1);
    close(pipe_fds[0]);
    return child;
}

static void kill_holder(pid_t child)
{
    int status;

    kill(child, SIGKILL);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status));
}

static void hold_store(void)
{
    (void) open_store();
}

/* As a backup tool does. */
static void hold_reader(void)
{
    MDB_env *env;
    MDB_txn *txn;

    if (mdb_env_create(&env) != 0 || mdb_env_open(env, directory, MDB_RDONLY, 0600) != 0 ||
        mdb_txn_begin(env, NULL, MDB_RDONLY, &txn) != 0)
        _exit(1);
}

static void test_lmdb_store_open_after_holder_was_killed(void **state)
{
    pid_t holder;

    (void) state;
    make_store(2);
    holder = start_holder(hold_store);
    check_refused(-EBUSY);
    kill_holder(holder);
    check_store(2);
}

/* A slot that nobody frees would keep every page from then on from being reused. */
static void test_lmdb_store_open_clears_killed_readers(void **state)
{
    pid_t killed, staying;
    int n_dead;
    MDB_env *env;

    (void) state;
    make_store(2);
    /* As long as one has the lock file open, LMDB does not clear the table by itself. */
    staying = start_holder(hold_reader);
    killed = start_holder(hold_reader);
    kill_holder(killed);
    check_store(2);
    assert_int_equal(mdb_env_create(&env), 0);
    assert_int_equal(mdb_env_open(env, directory, MDB_RDONLY, 0600), 0);
    assert_int_equal(mdb_reader_check(env, &n_dead), 0);
    assert_int_equal(n_dead, 0);
    mdb_env_close(env);
    kill_holder(staying);
}

static void test_lmdb_store_open_missing_parent(void **state)
{
    (void) state;
    fixture_path(directory, top, "missing/state");
    check_refused(-ENOENT);
}

static void test_lmdb_store_open_directory_is_a_file(void **state)
{
    (void) state;
    fixture_write_file(directory, "x", 1);
    check_refused(-ENOTDIR);
}

static void test_lmdb_store_open_empty_directory(void **state)
{
    char path[PATH_MAX];

    (void) state;
    assert_int_equal(mkdir(directory, 0755), 0);
    /* What a file system puts at its root, for a store that has one of its own. */
    assert_int_equal(mkdir(fixture_path(path, directory, "lost+found"), 0700), 0);
    make_store(1);
    check_store(1);
}

static void test_lmdb_store_open_foreign_files(void **state)
{
    char path[PATH_MAX];
    struct stat status;

    (void) state;
    assert_int_equal(mkdir(directory, 0755), 0);
    fixture_write_file(fixture_path(path, directory, "passwd\nroot"), "precious", 8);
    check_refused(-ENOTEMPTY);
    assert_non_null(strstr(why, "passwd?root"));
    assert_int_equal(stat(data_path, &status), -1);
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(status.st_size, 8);
}

/* A stray file beside a good store is no reason to refuse the mappings in it. */
static void test_lmdb_store_open_stray_file_beside_store(void **state)
{
    char path[PATH_MAX];

    (void) state;
    make_store(3);
    fixture_write_file(fixture_path(path, directory, "notes.txt"), "x", 1);
    check_store(3);
}

static void test_lmdb_store_open_after_interrupted_creation(void **state)
{
    char path[PATH_MAX];

    (void) state;
    assert_int_equal(mkdir(directory, 0700), 0);
    fixture_write_file(fixture_path(path, directory, "new.mdb"), "half", 4);
    fixture_write_file(fixture_path(path, directory, "lock.mdb"), "half", 4);
    make_store(2);
    check_store(2);
    assert_int_equal(access(fixture_path(path, directory, "new.mdb"), F_OK), -1);
}

static void test_lmdb_store_open_damaged_lock_file(void **state)
{
    char path[PATH_MAX], garbage[3000];

    (void) state;
    make_store(2);
    memset(garbage, 0xa5, sizeof(garbage));
    fixture_write_file(fixture_path(path, directory, "lock.mdb"), garbage, sizeof(garbage));
    check_store(2);
}

/*
 * Somebody else's environment: with a database of its own, with nothing but plain entries, with
 * nothing.
 */
static void make_foreign(const char *database, const char *key_text, const char *data_text)
{
    MDB_val key = {strlen(key_text), (void *) (uintptr_t) key_text};
    MDB_val data = {strlen(data_text), (void *) (uintptr_t) data_text};
    MDB_env *env;
    MDB_txn *txn;
    MDB_dbi dbi;

    if (access(directory, F_OK) < 0)
        assert_int_equal(mkdir(directory, 0700), 0);
    assert_int_equal(mdb_env_create(&env), 0);
    assert_int_equal(mdb_env_set_maxdbs(env, 5), 0);
    assert_int_equal(mdb_env_open(env, directory, 0, 0600), 0);
    assert_int_equal(mdb_txn_begin(env, NULL, 0, &txn), 0);
    assert_int_equal(mdb_dbi_open(txn, database, MDB_CREATE, &dbi), 0);
    assert_int_equal(mdb_put(txn, dbi, &key, &data, 0), 0);
    assert_int_equal(mdb_txn_commit(txn), 0);
    mdb_env_close(env);
}

static void check_refused_untouched(int expected)
{
    uint8_t *before, *after;
    size_t before_bytes, after_bytes;

    fixture_read_file(data_path, &before, &before_bytes);
    check_refused(expected);
    fixture_read_file(data_path, &after, &after_bytes);
    assert_int_equal(before_bytes, after_bytes);
    assert_memory_equal(before, after, before_bytes);
    free(before);
    free(after);
}

static void test_lmdb_store_open_foreign_lmdb(void **state)
{
    static const struct {
        const char *database, *key, *data;
    } cases[] = {
        {"users", "name", "value"},
        {NULL, "name", "value"},
        {NULL, "meta", "value"},
        {"meta", "name", "value"},
        {"meta", "magic", "somebody else's"},
        {"meta", "magic", "holdfast mapping store and more"},
    };

    (void) state;
    for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
        make_foreign(cases[i].database, cases[i].key, cases[i].data);
        check_refused_untouched(-EUCLEAN);
        assert_non_null(strstr(why, "not Holdfast's"));
        fixture_remove_tree(directory);
    }
}

static void test_lmdb_store_open_later_format(void **state)
{
    (void) state;
    make_store(2);
    make_foreign("meta", "format", "2");
    check_refused_untouched(-ENOTSUP);
    assert_non_null(strstr(why, "later version"));
    make_foreign("meta", "format", "1");
    check_store(2);
}

static void test_lmdb_store_open_format_makes_no_sense(void **state)
{
    static const char *const formats[] = {"", "0", "1x", "one", "99999999999999999999999999999"};

    (void) state;
    for (size_t i = 0; i < N_ELEMENTS(formats) - 1; i++) {
        make_store(0);
        make_foreign("meta", "format", formats[i]);
        check_refused_untouched(-EUCLEAN);
        fixture_remove_tree(directory);
    }
    make_store(0);
    make_foreign("meta", "format", formats[N_ELEMENTS(formats) - 1]);
    check_refused_untouched(-ENOTSUP);
}

/* Entries that LMDB itself finds in order but whose records are not. */
static void test_lmdb_store_load_damaged_record(void **state)
{
    static const char *const databases[] = {"mappings", "epochs", "clock"};
    static const char *const keys[] = {"\xff\xff\0\0\0\0\0", "a", "clock"};

    (void) state;
    for (size_t i = 0; i < N_ELEMENTS(databases); i++) {
        uint64_t id = UINT64_MAX;
        MDB_val key = {i == 0 ? sizeof(id) : strlen(keys[i]), (void *) (uintptr_t) keys[i]};
        MDB_val data = {5, (void *) (uintptr_t) "wrong"};
        struct fixture_content content;
        struct store *store;
        MDB_env *env;
        MDB_txn *txn;
        MDB_dbi dbi;

        make_store(3);
        if (i == 0)
            key.mv_data = &id;
        assert_int_equal(mdb_env_create(&env), 0);
        assert_int_equal(mdb_env_set_maxdbs(env, 5), 0);
        assert_int_equal(mdb_env_open(env, directory, 0, 0600), 0);
        assert_int_equal(mdb_txn_begin(env, NULL, 0, &txn), 0);
        assert_int_equal(mdb_dbi_open(txn, databases[i], 0, &dbi), 0);
        assert_int_equal(mdb_put(txn, dbi, &key, &data, 0), 0);
        assert_int_equal(mdb_txn_commit(txn), 0);
        mdb_env_close(env);

        store = open_store();
        assert_int_equal(fixture_load(store, &content), -EBADMSG);
        fixture_content_deinit(&content);
        store_close(store);
        fixture_remove_tree(directory);
    }
}

/* A sound record under another's id, and mappings without a clock. */
static void test_lmdb_store_load_misplaced_records(void **state)
{
    (void) state;
    for (int i = 0; i < 2; i++) {
        uint64_t from = 1, to = 9999;
        MDB_val from_key = {sizeof(from), &from}, to_key = {sizeof(to), &to}, data;
        MDB_val clock_key = {5, (void *) (uintptr_t) "clock"};
        struct fixture_content content;
        struct store *store;
        MDB_dbi mappings, clock;
        MDB_env *env;
        MDB_txn *txn;

        make_store(1);
        assert_int_equal(mdb_env_create(&env), 0);
        assert_int_equal(mdb_env_set_maxdbs(env, 5), 0);
        assert_int_equal(mdb_env_open(env, directory, 0, 0600), 0);
        assert_int_equal(mdb_txn_begin(env, NULL, 0, &txn), 0);
        assert_int_equal(mdb_dbi_open(txn, "mappings", MDB_INTEGERKEY, &mappings), 0);
        assert_int_equal(mdb_dbi_open(txn, "clock", 0, &clock), 0);
        if (i == 0) {
            uint8_t copy[1600];

            assert_int_equal(mdb_get(txn, mappings, &from_key, &data), 0);
            memcpy(copy, data.mv_data, data.mv_size);
            data.mv_data = copy;
            assert_int_equal(mdb_put(txn, mappings, &to_key, &data, 0), 0);
        } else {
            assert_int_equal(mdb_del(txn, clock, &clock_key, NULL), 0);
        }
        assert_int_equal(mdb_txn_commit(txn), 0);
        mdb_env_close(env);

        store = open_store();
        assert_int_equal(fixture_load(store, &content), -EBADMSG);
        fixture_content_deinit(&content);
        store_close(store);
        fixture_remove_tree(directory);
    }
}

static void test_lmdb_store_open_data_file_is_no_file(void **state)
{
    (void) state;
    assert_int_equal(mkdir(directory, 0700), 0);
    assert_int_equal(mkfifo(data_path, 0600), 0);
    check_refused(-EUCLEAN);
    assert_int_equal(unlink(data_path), 0);
    assert_int_equal(mkdir(data_path, 0700), 0);
    check_refused(-EUCLEAN);
}

static void test_lmdb_store_move_aside_finds_free_name(void **state)
{
    char where[PATH_MAX], expected[PATH_MAX], with_slash[PATH_MAX + 1];

    (void) state;
    snprintf(with_slash, sizeof(with_slash), "%s/", directory);
    for (int i = 1; i <= 3; i++) {
        char name[32];

        make_store((uint64_t) i);
        assert_int_equal(lmdb_store_move_aside(i == 2 ? with_slash : directory, where), 0);
        snprintf(name, sizeof(name), "state.aside-%d", i);
        assert_string_equal(where, fixture_path(expected, top, name));
        assert_int_equal(access(data_path, F_OK), -1);
    }
    /* What was moved is still a store. */
    make_store(7);
    fixture_path(directory, top, "state.aside-2");
    check_store(2);
    fixture_path(directory, top, "state");
    check_store(7);
}

static void test_lmdb_store_move_aside_nothing(void **state)
{
    char where[PATH_MAX], path[PATH_MAX];

    (void) state;
    strcpy(where, "unset");
    assert_int_equal(lmdb_store_move_aside(directory, where), 0);
    assert_string_equal(where, "");
    assert_int_equal(access(directory, F_OK), -1);
    assert_int_equal(mkdir(directory, 0700), 0);
    fixture_write_file(fixture_path(path, directory, "other"), "x", 1);
    strcpy(where, "unset");
    assert_int_equal(lmdb_store_move_aside(directory, where), 0);
    assert_string_equal(where, "");
    assert_int_equal(access(path, F_OK), 0);
}

/* What --new-state is for: the store was refused, and nothing of it is lost. */
static void test_lmdb_store_move_aside_damaged(void **state)
{
    char where[PATH_MAX], path[PATH_MAX];
    size_t size_bytes;
    uint8_t *data;

    (void) state;
    assert_int_equal(mkdir(directory, 0700), 0);
    fixture_write_file(data_path, "garbage", 7);
    check_refused_untouched(-EUCLEAN);
    assert_int_equal(lmdb_store_move_aside(directory, where), 0);
    fixture_read_file(fixture_path(path, where, "data.mdb"), &data, &size_bytes);
    assert_int_equal(size_bytes, 7);
    assert_memory_equal(data, "garbage", 7);
    free(data);
    make_store(1);
    check_store(1);
}

static void test_lmdb_store_commit_when_map_is_full(void **state)
{
    struct fixture_content before, after;
    struct store *store;
    struct change_set set;
    uint64_t batch = 0;
    int r;

    (void) state;
    assert_int_equal(lmdb_store_open(directory, 200000, &store, why), 0);
    while ((r = fixture_commit_batch(store, batch)) == 0)
        batch++;
    assert_int_equal(r, -ENOSPC);
    assert_true(batch > 20);
    assert_int_equal(fixture_load(store, &before), 0);
    assert_int_equal(fixture_check_batches(&before), batch);
    assert_int_equal(fixture_commit_batch(store, batch), -ENOSPC);

    /* Removing makes room. */
    change_set_init(&set);
    for (size_t i = 0; i < 50; i++)
        assert_int_equal(change_set_append(&set, &before.records[i], NULL), 0);
    assert_int_equal(fixture_commit(store, &set, before.clock.next_id), 0);
    change_set_deinit(&set);
    assert_int_equal(fixture_commit_batch(store, batch), 0);
    assert_int_equal(fixture_load(store, &after), 0);
    assert_int_equal(after.records[0].id, before.records[50].id);
    fixture_content_deinit(&before);
    fixture_content_deinit(&after);
    store_close(store);

    /* A larger bound lets it grow. */
    store = open_store();
    for (uint64_t i = 1; i < 100; i++)
        assert_int_equal(fixture_commit_batch(store, batch + i), 0);
    store_close(store);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_lmdb_store_open_new),
        TEST(test_lmdb_store_open_again_has_all),
        TEST(test_lmdb_store_load_in_order_of_ids),
        TEST(test_lmdb_store_commit_same_id_twice),
        TEST(test_lmdb_store_commit_epochs_upsert_and_remove),
        TEST(test_lmdb_store_commit_unencodable_changes_nothing),
        TEST(test_lmdb_store_load_stops_when_told),
        TEST(test_lmdb_store_open_twice_is_busy),
        TEST(test_lmdb_store_open_after_holder_was_killed),
        TEST(test_lmdb_store_open_clears_killed_readers),
        TEST(test_lmdb_store_open_missing_parent),
        TEST(test_lmdb_store_open_directory_is_a_file),
        TEST(test_lmdb_store_open_empty_directory),
        TEST(test_lmdb_store_open_foreign_files),
        TEST(test_lmdb_store_open_stray_file_beside_store),
        TEST(test_lmdb_store_open_after_interrupted_creation),
        TEST(test_lmdb_store_open_damaged_lock_file),
        TEST(test_lmdb_store_open_foreign_lmdb),
        TEST(test_lmdb_store_open_later_format),
        TEST(test_lmdb_store_open_format_makes_no_sense),
        TEST(test_lmdb_store_load_damaged_record),
        TEST(test_lmdb_store_load_misplaced_records),
        TEST(test_lmdb_store_open_data_file_is_no_file),
        TEST(test_lmdb_store_move_aside_finds_free_name),
        TEST(test_lmdb_store_move_aside_nothing),
        TEST(test_lmdb_store_move_aside_damaged),
        TEST(test_lmdb_store_commit_when_map_is_full),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
