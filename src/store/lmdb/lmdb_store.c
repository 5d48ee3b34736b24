/*
 * One environment, one write transaction per commit, LMDB's own two syncs at its end (data, then
 * the meta page that makes it valid). A new environment is built under another name and renamed, so
 * that a data file under its own name is always whole; whatever else lies there was damaged or is
 * somebody else's.
 *
 * LMDB gives up on an environment whose meta page could not be written: every later call returns
 * MDB_PANIC. So after a commit that failed in its last step the environment is opened anew, and if
 * the failed commit can be seen in it nevertheless, it is taken back.
 */

#include "store/lmdb/lmdb_store.h"

#include <assert.h>
#include <errno.h>
#include <lmdb.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "store/lmdb/check.h"
#include "store/lmdb/directory.h"
#include "store/record.h"

#define FILE_MODE 0600
#define CLOCK_KEY "clock"
#define EPOCH_KEY_SIZE 17
#define SMALL_RECORD_SIZE_MAX 128

struct lmdb_store {
    struct store store;
    char *directory;
    size_t map_size_bytes;
    int directory_fd; /* holds the lock */
    MDB_env *env;     /* NULL after a failed reopening */
    MDB_dbi mappings, clock, epochs;
    size_t last_transaction; /* the newest that succeeded */
    bool is_in_doubt;        /* holds what was reported as failed and cannot be taken back */
};

static struct lmdb_store *from_store(struct store *store)
{
    return CONTAINER_OF(store, struct lmdb_store, store);
}

static MDB_val text_value(const char *text)
{
    return (MDB_val){strlen(text), (void *) (uintptr_t) text};
}

static size_t round_up_to_page(size_t size_bytes)
{
    size_t page = (size_t) sysconf(_SC_PAGESIZE);

    return (size_bytes + page - 1) / page * page;
}

/* All return codes up to the public functions are LMDB's: 0, an errno, or MDB_... */
static int new_environment(size_t map_size_bytes, const char *path, unsigned int flags,
                           MDB_env **ret_env)
{
    MDB_env *env;
    int code;

    code = mdb_env_create(&env);
    if (code != 0)
        return code;
    code = mdb_env_set_maxdbs(env, LMDB_N_DATABASES);
    if (code == 0)
        code = mdb_env_set_mapsize(env, round_up_to_page(map_size_bytes));
    if (code == 0)
        code = mdb_env_open(env, path, flags, FILE_MODE);
    if (code != 0) {
        mdb_env_close(env);
        return code;
    }
    *ret_env = env;
    return 0;
}

static int put_text(MDB_txn *txn, MDB_dbi dbi, const char *key_text, const char *text)
{
    MDB_val key = text_value(key_text), data = text_value(text);

    return mdb_put(txn, dbi, &key, &data, 0);
}

static int make_databases(MDB_txn *txn)
{
    char format[16];
    MDB_dbi dbi;
    int code;

    snprintf(format, sizeof(format), "%d", LMDB_FORMAT);
    code = mdb_dbi_open(txn, LMDB_MAPPINGS_DATABASE, MDB_CREATE | MDB_INTEGERKEY, &dbi);
    if (code == 0)
        code = mdb_dbi_open(txn, LMDB_CLOCK_DATABASE, MDB_CREATE, &dbi);
    if (code == 0)
        code = mdb_dbi_open(txn, LMDB_EPOCHS_DATABASE, MDB_CREATE, &dbi);
    if (code == 0)
        code = mdb_dbi_open(txn, LMDB_META_DATABASE, MDB_CREATE, &dbi);
    if (code == 0)
        code = put_text(txn, dbi, LMDB_MAGIC_KEY, LMDB_MAGIC);
    if (code == 0)
        code = put_text(txn, dbi, LMDB_FORMAT_KEY, format);
    return code;
}

static int fill_new_environment(MDB_env *env)
{
    MDB_txn *txn;
    int code;

    code = mdb_txn_begin(env, NULL, 0, &txn);
    if (code != 0)
        return code;
    code = make_databases(txn);
    if (code == 0)
        return mdb_txn_commit(txn);
    mdb_txn_abort(txn);
    return code;
}

/* MDB_NOLOCK: nobody else knows this name, and the directory is locked. */
static int create_data_file(const struct lmdb_store *lmdb)
{
    int directory_fd = lmdb->directory_fd;
    MDB_env *env;
    char *path;
    int code;

    if (asprintf(&path, "%s/%s", lmdb->directory, LMDB_NEW_FILE) < 0)
        return ENOMEM;
    unlinkat(directory_fd, LMDB_NEW_FILE, 0);
    code = new_environment(lmdb->map_size_bytes, path, MDB_NOSUBDIR | MDB_NOLOCK, &env);
    free(path);
    if (code == 0) {
        code = fill_new_environment(env);
        mdb_env_close(env);
    }
    if (code == 0 && renameat(directory_fd, LMDB_NEW_FILE, directory_fd, LMDB_DATA_FILE) < 0)
        code = errno;
    if (code != 0)
        unlinkat(directory_fd, LMDB_NEW_FILE, 0);
    return code;
}

static int open_databases(struct lmdb_store *lmdb)
{
    MDB_txn *txn;
    int code;

    code = mdb_txn_begin(lmdb->env, NULL, MDB_RDONLY, &txn);
    if (code != 0)
        return code;
    code = mdb_dbi_open(txn, LMDB_MAPPINGS_DATABASE, MDB_INTEGERKEY, &lmdb->mappings);
    if (code == 0)
        code = mdb_dbi_open(txn, LMDB_CLOCK_DATABASE, 0, &lmdb->clock);
    if (code == 0)
        code = mdb_dbi_open(txn, LMDB_EPOCHS_DATABASE, 0, &lmdb->epochs);
    if (code == 0)
        return mdb_txn_commit(txn);
    mdb_txn_abort(txn);
    return code;
}

static void close_environment(struct lmdb_store *lmdb)
{
    if (lmdb->env)
        mdb_env_close(lmdb->env);
    lmdb->env = NULL;
}

/* MDB_NOTLS: commits may come from any thread of a pool, one at a time. */
static int open_environment(struct lmdb_store *lmdb)
{
    int code, n_dead;

    code = -lmdb_directory_reserve_lock_file(lmdb->directory_fd);
    if (code == 0)
        code = new_environment(lmdb->map_size_bytes, lmdb->directory, MDB_NOTLS, &lmdb->env);
    if (code != 0)
        return code;
    /* Readers that were killed, a backup for instance, would keep old pages from being reused. */
    code = mdb_reader_check(lmdb->env, &n_dead);
    if (code == 0)
        code = open_databases(lmdb);
    if (code != 0)
        close_environment(lmdb);
    return code;
}

static size_t newest_transaction(const struct lmdb_store *lmdb)
{
    MDB_envinfo info;

    mdb_env_info(lmdb->env, &info);
    return info.me_last_txnid;
}

static int put_mapping(struct lmdb_store *lmdb, MDB_txn *txn, const struct mapping_record *record,
                       bool is_new)
{
    uint8_t octets[STORE_RECORD_SIZE_MAX];
    uint64_t id = record->id;
    MDB_val key = {sizeof(id), &id}, data = {0, octets};
    int code;
    int r;

    r = store_record_encode_mapping(record, octets, sizeof(octets));
    if (r < 0)
        return -r;
    data.mv_size = (size_t) r;
    /* Appending fills pages to the brim; it is refused when the id is not the highest. */
    code = is_new ? mdb_put(txn, lmdb->mappings, &key, &data, MDB_APPEND) : MDB_KEYEXIST;
    if (code == MDB_KEYEXIST)
        code = mdb_put(txn, lmdb->mappings, &key, &data, 0);
    return code;
}

static int delete_mapping(struct lmdb_store *lmdb, MDB_txn *txn, uint64_t id)
{
    MDB_val key = {sizeof(id), &id};
    int code = mdb_del(txn, lmdb->mappings, &key, NULL);

    return code == MDB_NOTFOUND ? 0 : code;
}

static int put_change(struct lmdb_store *lmdb, MDB_txn *txn, const struct change *change)
{
    if (change->has_after)
        return put_mapping(lmdb, txn, &change->after, !change->had_before);
    return delete_mapping(lmdb, txn, change->before.id);
}

static void make_epoch_key(const struct store_epoch *epoch, uint8_t ret_key[EPOCH_KEY_SIZE])
{
    memcpy(ret_key, epoch->subscriber.address.octets, EPOCH_KEY_SIZE - 1);
    ret_key[EPOCH_KEY_SIZE - 1] = epoch->subscriber.length;
}

static int put_epoch(struct lmdb_store *lmdb, MDB_txn *txn, const struct store_epoch *epoch)
{
    uint8_t octets[SMALL_RECORD_SIZE_MAX], key_octets[EPOCH_KEY_SIZE];
    MDB_val key = {sizeof(key_octets), key_octets}, data = {0, octets};
    int r;

    make_epoch_key(epoch, key_octets);
    if (epoch->epoch_zero_ns == 0) {
        r = mdb_del(txn, lmdb->epochs, &key, NULL);
        return r == MDB_NOTFOUND ? 0 : r;
    }
    r = store_record_encode_epoch(epoch, octets, sizeof(octets));
    if (r < 0)
        return -r;
    data.mv_size = (size_t) r;
    return mdb_put(txn, lmdb->epochs, &key, &data, 0);
}

static int put_clock(struct lmdb_store *lmdb, MDB_txn *txn, const struct store_clock *clock)
{
    uint8_t octets[SMALL_RECORD_SIZE_MAX];
    MDB_val key = text_value(CLOCK_KEY), data = {0, octets};
    int r;

    r = store_record_encode_clock(clock, octets, sizeof(octets));
    if (r < 0)
        return -r;
    data.mv_size = (size_t) r;
    return mdb_put(txn, lmdb->clock, &key, &data, 0);
}

static int put_commit(struct lmdb_store *lmdb, MDB_txn *txn, const struct store_commit *commit)
{
    int code = 0;

    for (size_t i = 0; code == 0 && i < commit->n_changes; i++)
        code = put_change(lmdb, txn, &commit->changes[i]);
    for (size_t i = 0; code == 0 && i < commit->n_epochs; i++)
        code = put_epoch(lmdb, txn, &commit->epochs[i]);
    return code == 0 ? put_clock(lmdb, txn, commit->clock) : code;
}

/*
 * The mappings as they were before `commit`. Its clock and Epochs may stay: they tell the truth,
 * and an Epoch reset too many costs a refresh, never a mapping.
 */
static int put_inverse(struct lmdb_store *lmdb, MDB_txn *txn, const struct store_commit *commit)
{
    int code = 0;

    for (size_t i = commit->n_changes; code == 0 && i-- > 0;) {
        const struct change *change = &commit->changes[i];

        if (change->had_before)
            code = put_mapping(lmdb, txn, &change->before, false);
        else
            code = delete_mapping(lmdb, txn, change->after.id);
    }
    return code;
}

/* `ret_may_panic` tells whether the environment may have been left unusable. */
static int run_transaction(struct lmdb_store *lmdb, const struct store_commit *commit,
                           int (*put)(struct lmdb_store *, MDB_txn *, const struct store_commit *),
                           bool *ret_may_panic)
{
    MDB_txn *txn;
    int code;

    *ret_may_panic = true;
    code = mdb_txn_begin(lmdb->env, NULL, 0, &txn);
    if (code != 0)
        return code;
    code = put(lmdb, txn, commit);
    if (code != 0) {
        mdb_txn_abort(txn);
        *ret_may_panic = false;
        return code;
    }
    code = mdb_txn_commit(txn);
    if (code == 0)
        lmdb->last_transaction = newest_transaction(lmdb);
    return code;
}

/*
 * Opens the environment after a failure. `failed` is the commit that was or will be reported as
 * failed, NULL when it is no longer known. 0 or LMDB's code; the environment is closed then.
 */
static int reopen(struct lmdb_store *lmdb, const struct store_commit *failed)
{
    bool may_panic;
    int code;

    close_environment(lmdb);
    code = open_environment(lmdb);
    if (code != 0 || newest_transaction(lmdb) == lmdb->last_transaction)
        return code;
    code = failed ? run_transaction(lmdb, failed, put_inverse, &may_panic) : EIO;
    if (code != 0) {
        lmdb->is_in_doubt = true;
        close_environment(lmdb);
    }
    return code;
}

/* LMDB reports a write that was cut short as EIO; on a full file system that is what it was. */
static int write_errno(const struct lmdb_store *lmdb, int code)
{
    struct statvfs status;

    if (code == EIO && fstatvfs(lmdb->directory_fd, &status) == 0 && status.f_bavail == 0)
        return -ENOSPC;
    return lmdb_errno(code);
}

static int commit_changes(struct store *store, const struct store_commit *commit)
{
    struct lmdb_store *lmdb = from_store(store);
    int code = 0, n_dead;
    bool may_panic;
    int r;

    assert(commit->clock);
    if (lmdb->is_in_doubt)
        return -EIO;
    if (!lmdb->env)
        code = reopen(lmdb, NULL);
    if (code != 0)
        return lmdb_errno(code);
    code = run_transaction(lmdb, commit, put_commit, &may_panic);
    if (code == 0)
        return 0;
    r = write_errno(lmdb, code);
    if (may_panic)
        (void) reopen(lmdb, commit);
    else if (code == MDB_MAP_FULL)
        (void) mdb_reader_check(lmdb->env, &n_dead);
    return r;
}

/* For everything below load(): what cannot be right is a damaged record. */
static int load_errno(int code)
{
    int r = lmdb_errno(code);

    return r == -EUCLEAN ? -EBADMSG : r;
}

static int load_clock(struct lmdb_store *lmdb, MDB_txn *txn,
                      const struct store_load_handler *handler)
{
    MDB_val key = text_value(CLOCK_KEY), data;
    struct store_clock clock;
    MDB_stat status;
    int code;
    int r;

    code = mdb_get(txn, lmdb->clock, &key, &data);
    if (code == MDB_NOTFOUND) {
        code = mdb_stat(txn, lmdb->mappings, &status);
        if (code != 0)
            return load_errno(code);
        return status.ms_entries == 0 ? -ENODATA : -EBADMSG;
    }
    if (code != 0)
        return load_errno(code);
    r = store_record_decode_clock(data.mv_data, data.mv_size, &clock);
    return r < 0 ? r : handler->clock(handler->context, &clock);
}

/* A walk over one database. */
struct loading {
    const struct store_load_handler *handler;
    uint64_t id_min; /* of the next mapping: keys ascend, or pages got mixed up */
};

static int load_epoch(struct loading *loading, const MDB_val *key, const MDB_val *data)
{
    uint8_t expected[EPOCH_KEY_SIZE];
    struct store_epoch epoch;
    int r;

    r = store_record_decode_epoch(data->mv_data, data->mv_size, &epoch);
    if (r < 0)
        return r;
    make_epoch_key(&epoch, expected);
    if (key->mv_size != EPOCH_KEY_SIZE || memcmp(key->mv_data, expected, EPOCH_KEY_SIZE) != 0)
        return -EBADMSG;
    return loading->handler->epoch(loading->handler->context, &epoch);
}

static int load_mapping(struct loading *loading, const MDB_val *key, const MDB_val *data)
{
    struct mapping_record record;
    uint64_t id;
    int r;

    if (key->mv_size != sizeof(id))
        return -EBADMSG;
    memcpy(&id, key->mv_data, sizeof(id));
    r = store_record_decode_mapping(data->mv_data, data->mv_size, &record);
    if (r < 0)
        return r;
    if (record.id == id && id >= loading->id_min)
        r = loading->handler->mapping(loading->handler->context, &record);
    else
        r = -EBADMSG;
    mapping_filters_unref(record.filters);
    loading->id_min = id + 1;
    return r;
}

static int load_database(MDB_txn *txn, MDB_dbi dbi,
                         int (*load_one)(struct loading *, const MDB_val *, const MDB_val *),
                         const struct store_load_handler *handler)
{
    struct loading loading = {.handler = handler};
    size_t n_loaded = 0;
    MDB_cursor *cursor;
    MDB_val key, data;
    MDB_stat status;
    int code;
    int r = 0;

    code = mdb_stat(txn, dbi, &status);
    if (code == 0)
        code = mdb_cursor_open(txn, dbi, &cursor);
    if (code != 0)
        return load_errno(code);
    while (r == 0 && (code = mdb_cursor_get(cursor, &key, &data, MDB_NEXT)) == 0) {
        r = load_one(&loading, &key, &data);
        n_loaded++;
    }
    mdb_cursor_close(cursor);
    if (r != 0)
        return r;
    if (code != MDB_NOTFOUND)
        return load_errno(code);
    return n_loaded == status.ms_entries ? 0 : -EBADMSG;
}

static int load(struct store *store, const struct store_load_handler *handler)
{
    struct lmdb_store *lmdb = from_store(store);
    MDB_txn *txn;
    int code = 0;
    int r;

    if (lmdb->is_in_doubt)
        return -EIO;
    if (!lmdb->env)
        code = reopen(lmdb, NULL);
    if (code == 0)
        code = mdb_txn_begin(lmdb->env, NULL, MDB_RDONLY, &txn);
    if (code != 0)
        return load_errno(code);
    r = load_clock(lmdb, txn, handler);
    if (r == 0)
        r = load_database(txn, lmdb->epochs, load_epoch, handler);
    if (r == 0)
        r = load_database(txn, lmdb->mappings, load_mapping, handler);
    mdb_txn_abort(txn);
    return r;
}

static void free_store(struct lmdb_store *lmdb)
{
    close_environment(lmdb);
    if (lmdb->directory_fd >= 0)
        close(lmdb->directory_fd);
    free(lmdb->directory);
    free(lmdb);
}

static void close_lmdb(struct store *store)
{
    free_store(from_store(store));
}

static const struct store_operations lmdb_operations = {
    .load = load,
    .commit = commit_changes,
    .close = close_lmdb,
};

/* The directory is open and locked. */
static int open_or_create(struct lmdb_store *lmdb, char *ret_why)
{
    int code = 0;
    int r;

    r = lmdb_directory_has_data(lmdb->directory_fd, lmdb->directory, ret_why);
    if (r < 0)
        return r;
    if (r > 0)
        r = lmdb_check(lmdb->directory_fd, lmdb->directory, ret_why);
    else
        code = create_data_file(lmdb);
    if (r < 0)
        return r;
    if (code == 0)
        code = open_environment(lmdb);
    /* Every time: whoever made the names in it may have been killed before this. */
    if (code == 0 && fsync(lmdb->directory_fd) < 0)
        code = errno;
    if (code != 0)
        return lmdb_explain(ret_why, write_errno(lmdb, code), "cannot open the store in %s: %s",
                            lmdb->directory, mdb_strerror(code));
    lmdb->last_transaction = newest_transaction(lmdb);
    return 0;
}

int lmdb_store_open(const char *directory, size_t map_size_bytes, struct store **ret_store,
                    char *ret_why)
{
    struct lmdb_store *lmdb = calloc(1, sizeof(*lmdb));
    int r;

    if (!lmdb)
        return lmdb_explain(ret_why, -ENOMEM, "no memory to open %s", directory);
    lmdb->store.operations = &lmdb_operations;
    lmdb->map_size_bytes = map_size_bytes;
    lmdb->directory_fd = -1;
    lmdb->directory = strdup(directory);
    if (lmdb->directory)
        r = lmdb->directory_fd = lmdb_directory_open(directory, true, ret_why);
    else
        r = lmdb_explain(ret_why, -ENOMEM, "no memory to open %s", directory);
    if (r >= 0)
        r = open_or_create(lmdb, ret_why);
    if (r < 0) {
        free_store(lmdb);
        return r;
    }
    *ret_store = &lmdb->store;
    return 0;
}

int lmdb_store_move_aside(const char *directory, char *ret_where)
{
    char why[LMDB_WHY_SIZE];
    int fd, r;

    *ret_where = '\0';
    fd = lmdb_directory_open(directory, false, why);
    if (fd < 0)
        return fd == -ENOENT ? 0 : fd;
    r = lmdb_directory_move_aside(fd, directory, ret_where);
    close(fd);
    return r;
}
