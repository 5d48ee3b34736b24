/*
 * Two steps. The first reads the two meta pages with pread(2) and refuses what LMDB should not even
 * be shown; their layout is LMDB 0.9's on a 64-bit machine (MDB_page and MDB_meta in its mdb.c).
 * The second forks a child that opens the environment read-only and without locks, and walks every
 * page that can be reached. If the child dies of what it reads, the file is damaged and this
 * process lives to say so.
 */

#include "store/lmdb/check.h"

#include <errno.h>
#include <fcntl.h>
#include <lmdb.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

_Static_assert(sizeof(size_t) == sizeof(uint64_t), "integer keys are 64-bit mapping ids");

#define MDB_FILE_MAGIC UINT32_C(0xbeefc0de)
#define MDB_FILE_VERSION 1
#define PAGE_SIZE_MIN 256
#define PAGE_SIZE_MAX 65536
/* No entry takes less room in a page. */
#define ENTRY_SIZE_MIN 8
/* The free list's database has no name and this fixed handle. */
#define FREE_LIST_DBI 0

/* MDB_page's header and MDB_meta, as they lie at the start of pages 0 and 1. */
struct meta_page {
    uint8_t page_header[16];
    uint32_t magic;
    uint32_t version;
    uint64_t address;
    uint64_t map_size_bytes;
    uint32_t page_size_bytes; /* the first word of MDB_db for the free list */
    uint8_t databases[92];
    uint64_t last_page;
    uint64_t transaction;
};
_Static_assert(sizeof(struct meta_page) == 152, "as in the file");

/* What the child found, sent as one octet; no octet means that it died. */
enum verdict {
    VERDICT_SOUND = 1,
    VERDICT_FOREIGN = 2,
    VERDICT_LATER_FORMAT = 3,
    VERDICT_DAMAGED = 4,
    VERDICT_NO_MEMORY = 5,
};

int lmdb_explain(char *ret_why, int error, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(ret_why, LMDB_WHY_SIZE, format, arguments);
    va_end(arguments);
    /* Names of files can hold anything. */
    for (char *c = ret_why; *c; c++)
        if ((unsigned char) *c < 0x20 || *c == 0x7f)
            *c = '?';
    return error;
}

int lmdb_errno(int code)
{
    if (code >= 0)
        return -code;
    switch (code) {
    case MDB_MAP_FULL:
    case MDB_DBS_FULL:
    case MDB_TXN_FULL:
        return -ENOSPC;
    case MDB_CORRUPTED:
    case MDB_PAGE_NOTFOUND:
    case MDB_INVALID:
    case MDB_VERSION_MISMATCH:
    case MDB_INCOMPATIBLE:
    case MDB_NOTFOUND:
        return -EUCLEAN;
    case MDB_READERS_FULL:
        return -EBUSY;
    default:
        return -EIO;
    }
}

static bool page_size_is_possible(uint32_t page_size_bytes)
{
    return page_size_bytes >= PAGE_SIZE_MIN && page_size_bytes <= PAGE_SIZE_MAX &&
           (page_size_bytes & (page_size_bytes - 1)) == 0;
}

static int read_meta(int fd, const char *directory, off_t offset, struct meta_page *ret_meta,
                     char *ret_why)
{
    ssize_t n = pread(fd, ret_meta, sizeof(*ret_meta), offset);

    if (n < 0)
        return lmdb_explain(ret_why, -errno, "cannot read %s/%s: %s", directory, LMDB_DATA_FILE,
                            strerror(errno));
    if (n < (ssize_t) sizeof(*ret_meta))
        return lmdb_explain(ret_why, -EUCLEAN, "%s/%s is truncated: %lld octets are no store",
                            directory, LMDB_DATA_FILE, (long long) (offset + n));
    if (ret_meta->magic != MDB_FILE_MAGIC || ret_meta->version != MDB_FILE_VERSION ||
        !page_size_is_possible(ret_meta->page_size_bytes))
        return lmdb_explain(ret_why, -EUCLEAN,
                            "%s/%s is damaged or not an LMDB file of this kind of machine",
                            directory, LMDB_DATA_FILE);
    return 0;
}

/* Transaction n goes to page n mod 2, so the two are consecutive; a new file has 0 in both. */
static bool transactions_are_possible(const struct meta_page metas[2])
{
    uint64_t even = metas[0].transaction, odd = metas[1].transaction;

    if (even == 0 && odd == 0)
        return true;
    return even % 2 == 0 && odd % 2 == 1 && (even + 1 == odd || odd + 1 == even);
}

/* The size in octets that the newest commit says the file has. */
static int check_meta_pages(int fd, const char *directory, uint64_t *ret_needed_bytes,
                            char *ret_why)
{
    struct meta_page metas[2];
    const struct meta_page *newest;
    int r;

    r = read_meta(fd, directory, 0, &metas[0], ret_why);
    if (r < 0)
        return r;
    r = read_meta(fd, directory, (off_t) metas[0].page_size_bytes, &metas[1], ret_why);
    if (r < 0)
        return r;
    newest = &metas[metas[1].transaction > metas[0].transaction ? 1 : 0];
    if (metas[1].page_size_bytes != metas[0].page_size_bytes || !transactions_are_possible(metas) ||
        newest->last_page >= UINT64_MAX / PAGE_SIZE_MAX)
        return lmdb_explain(ret_why, -EUCLEAN, "%s/%s is damaged: its meta pages make no sense",
                            directory, LMDB_DATA_FILE);
    *ret_needed_bytes = (newest->last_page + 1) * newest->page_size_bytes;
    return 0;
}

/* Makes the page fault, if there is to be one, happen here and now. */
static void touch(const MDB_val *value)
{
    const volatile uint8_t *octets = value->mv_data;

    for (size_t i = 0; i < value->mv_size; i++)
        (void) octets[i];
}

static enum verdict verdict_of(int code)
{
    return code == ENOMEM ? VERDICT_NO_MEMORY : VERDICT_DAMAGED;
}

static enum verdict walk(MDB_txn *txn, MDB_dbi dbi, size_t n_entries_max)
{
    size_t n_entries = 0;
    MDB_cursor *cursor;
    MDB_val key, data;
    MDB_stat status;
    int code;

    code = mdb_stat(txn, dbi, &status);
    if (code == 0)
        code = mdb_cursor_open(txn, dbi, &cursor);
    if (code != 0)
        return verdict_of(code);
    while ((code = mdb_cursor_get(cursor, &key, &data, MDB_NEXT)) == 0) {
        touch(&key);
        touch(&data);
        /* Damaged branch pages can lead in circles. */
        if (++n_entries > n_entries_max)
            return VERDICT_DAMAGED;
    }
    mdb_cursor_close(cursor);
    if (code != MDB_NOTFOUND)
        return verdict_of(code);
    return n_entries == status.ms_entries ? VERDICT_SOUND : VERDICT_DAMAGED;
}

static int get_text(MDB_txn *txn, MDB_dbi dbi, const char *key_text, char *ret_text,
                    size_t size_bytes)
{
    MDB_val key = {strlen(key_text), (void *) (uintptr_t) key_text}, data;
    int code = mdb_get(txn, dbi, &key, &data);

    if (code != 0)
        return code;
    if (data.mv_size >= size_bytes)
        return MDB_BAD_VALSIZE;
    memcpy(ret_text, data.mv_data, data.mv_size);
    ret_text[data.mv_size] = '\0';
    return 0;
}

/* Is it ours, and of a format we know? */
static enum verdict identify(MDB_txn *txn)
{
    char text[64], *end;
    unsigned long format;
    MDB_dbi dbi;
    int code;

    code = mdb_dbi_open(txn, LMDB_META_DATABASE, 0, &dbi);
    if (code == MDB_NOTFOUND || code == MDB_INCOMPATIBLE)
        return VERDICT_FOREIGN;
    if (code != 0)
        return verdict_of(code);
    if (get_text(txn, dbi, LMDB_MAGIC_KEY, text, sizeof(text)) != 0 ||
        strcmp(text, LMDB_MAGIC) != 0)
        return VERDICT_FOREIGN;
    if (get_text(txn, dbi, LMDB_FORMAT_KEY, text, sizeof(text)) != 0)
        return VERDICT_DAMAGED;
    format = strtoul(text, &end, 10);
    if (end == text || *end != '\0' || format < 1)
        return VERDICT_DAMAGED;
    return format > LMDB_FORMAT ? VERDICT_LATER_FORMAT : VERDICT_SOUND;
}

static enum verdict walk_all(MDB_txn *txn, size_t n_entries_max)
{
    static const struct {
        const char *name;
        unsigned int flags;
    } databases[] = {
        {LMDB_META_DATABASE, 0},
        {LMDB_MAPPINGS_DATABASE, MDB_INTEGERKEY},
        {LMDB_CLOCK_DATABASE, 0},
        {LMDB_EPOCHS_DATABASE, 0},
    };
    enum verdict verdict = walk(txn, FREE_LIST_DBI, n_entries_max);

    for (size_t i = 0; verdict == VERDICT_SOUND && i < N_ELEMENTS(databases); i++) {
        unsigned int flags;
        MDB_dbi dbi;
        int code = mdb_dbi_open(txn, databases[i].name, databases[i].flags, &dbi);

        if (code == 0)
            code = mdb_dbi_flags(txn, dbi, &flags);
        if (code != 0)
            return verdict_of(code);
        if (flags != databases[i].flags)
            return VERDICT_DAMAGED;
        verdict = walk(txn, dbi, n_entries_max);
    }
    return verdict;
}

/* Runs in the child, which never closes anything: it ends with the answer. */
static enum verdict judge(const char *directory, uint64_t size_bytes)
{
    enum verdict verdict;
    MDB_env *env;
    MDB_txn *txn;
    int code;

    code = mdb_env_create(&env);
    if (code == 0)
        code = mdb_env_set_maxdbs(env, LMDB_N_DATABASES);
    if (code == 0)
        code = mdb_env_open(env, directory, MDB_RDONLY | MDB_NOLOCK, 0600);
    if (code == 0)
        code = mdb_txn_begin(env, NULL, MDB_RDONLY, &txn);
    if (code != 0)
        return verdict_of(code);
    verdict = identify(txn);
    return verdict == VERDICT_SOUND ? walk_all(txn, (size_t) size_bytes / ENTRY_SIZE_MIN) : verdict;
}

/* Dying of a damaged file is this child's job: quietly, without a core, and never outliving us. */
static void prepare_child(void)
{
    static const int deadly[] = {SIGABRT, SIGBUS, SIGFPE, SIGILL, SIGSEGV};
    int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    prctl(PR_SET_DUMPABLE, 0);
    for (size_t i = 0; i < N_ELEMENTS(deadly); i++)
        signal(deadly[i], SIG_DFL);
    if (null_fd >= 0)
        dup2(null_fd, STDERR_FILENO);
}

static uint8_t read_octet(int fd)
{
    uint8_t octet = 0;
    ssize_t n;

    do
        n = read(fd, &octet, 1);
    while (n < 0 && errno == EINTR);
    return n == 1 ? octet : 0;
}

/* A verdict, 0 when the child died without one, or -errno. */
static int judge_in_child(const char *directory, uint64_t size_bytes)
{
    uint8_t answer;
    int pipe_fds[2];
    pid_t child;

    if (pipe2(pipe_fds, O_CLOEXEC) < 0)
        return -errno;
    child = fork();
    if (child < 0) {
        int error = errno;

        close(pipe_fds[0]);
        close(pipe_fds[1]);
        return -error;
    }
    if (child == 0) {
        prepare_child();
        answer = (uint8_t) judge(directory, size_bytes);
        _exit(write(pipe_fds[1], &answer, 1) == 1 ? 0 : 1);
    }
    close(pipe_fds[1]);
    answer = read_octet(pipe_fds[0]);
    close(pipe_fds[0]);
    /* The answer is in the pipe; somebody who ignores SIGCHLD may have reaped the child already. */
    while (waitpid(child, NULL, 0) < 0 && errno == EINTR)
        continue;
    return answer;
}

static int explain_verdict(int verdict, const char *directory, uint64_t size_bytes,
                           uint64_t needed_bytes, char *ret_why)
{
    switch (verdict) {
    case VERDICT_SOUND:
        return 0;
    case VERDICT_FOREIGN:
        return lmdb_explain(ret_why, -EUCLEAN, "%s/%s is an LMDB file, but not Holdfast's",
                            directory, LMDB_DATA_FILE);
    case VERDICT_LATER_FORMAT:
        return lmdb_explain(ret_why, -ENOTSUP, "%s/%s was written by a later version of Holdfast",
                            directory, LMDB_DATA_FILE);
    case VERDICT_NO_MEMORY:
        return lmdb_explain(ret_why, -ENOMEM, "no memory to check %s/%s", directory,
                            LMDB_DATA_FILE);
    default:
        break;
    }
    if (verdict < 0)
        return lmdb_explain(ret_why, verdict, "cannot check %s/%s: %s", directory, LMDB_DATA_FILE,
                            strerror(-verdict));
    if (size_bytes < needed_bytes)
        return lmdb_explain(ret_why, -EUCLEAN, "%s/%s is truncated: %llu octets of %llu", directory,
                            LMDB_DATA_FILE, (unsigned long long) size_bytes,
                            (unsigned long long) needed_bytes);
    return lmdb_explain(ret_why, -EUCLEAN, "%s/%s is damaged", directory, LMDB_DATA_FILE);
}

/* O_NONBLOCK: what lies there may be a pipe that nobody writes to. */
static int open_data_file(int directory_fd, const char *directory, uint64_t *ret_size_bytes,
                          char *ret_why)
{
    int fd = openat(directory_fd, LMDB_DATA_FILE, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    struct stat status;

    if (fd < 0 || fstat(fd, &status) < 0) {
        int error = errno;

        if (fd >= 0)
            close(fd);
        return lmdb_explain(ret_why, -error, "cannot open %s/%s: %s", directory, LMDB_DATA_FILE,
                            strerror(error));
    }
    if (!S_ISREG(status.st_mode)) {
        close(fd);
        return lmdb_explain(ret_why, -EUCLEAN, "%s/%s is not a regular file", directory,
                            LMDB_DATA_FILE);
    }
    *ret_size_bytes = (uint64_t) status.st_size;
    return fd;
}

int lmdb_check(int directory_fd, const char *directory, char *ret_why)
{
    uint64_t size_bytes = 0, needed_bytes = 0;
    int fd, r;

    fd = open_data_file(directory_fd, directory, &size_bytes, ret_why);
    if (fd < 0)
        return fd;
    r = check_meta_pages(fd, directory, &needed_bytes, ret_why);
    close(fd);
    if (r < 0)
        return r;
    /*
     * A file can rightly be shorter than its newest commit says, when the last pages were
     * allocated and freed in one transaction. The child finds out whether anything is missing.
     */
    r = judge_in_child(directory, size_bytes);
    return explain_verdict(r, directory, size_bytes, needed_bytes, ret_why);
}
