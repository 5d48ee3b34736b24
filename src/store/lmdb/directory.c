/*
 * Every name that is made or moved here is followed by an fsync(2) of the directory that holds it,
 * as a power cut may otherwise take the name and leave the synced file without one.
 */

#include "store/lmdb/directory.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store/lmdb/check.h"

#define ASIDE_MAX 10000
/* Room for LMDB's 126 readers; it takes a larger table as it finds it. */
#define LOCK_FILE_SIZE 8192

/* Length without trailing slashes, of which a lone "/" is none. */
static size_t name_length(const char *directory)
{
    size_t length = strlen(directory);

    while (length > 1 && directory[length - 1] == '/')
        length--;
    return length;
}

static int sync_directory(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int r;

    if (fd < 0)
        return -errno;
    r = fsync(fd) < 0 ? -errno : 0;
    close(fd);
    return r;
}

static int sync_parent(const char *directory)
{
    size_t length = name_length(directory);
    char parent[PATH_MAX];

    if (length >= sizeof(parent))
        return -ENAMETOOLONG;
    while (length > 0 && directory[length - 1] != '/')
        length--;
    if (length == 0)
        return sync_directory(".");
    memcpy(parent, directory, length);
    parent[length] = '\0';
    return sync_directory(parent);
}

static int make_directory(const char *directory)
{
    if (mkdir(directory, 0700) == 0)
        return sync_parent(directory);
    if (errno != EEXIST)
        return -errno;
    /* Whoever made it may have been killed before this; a parent we may not read was not ours. */
    (void) sync_parent(directory);
    return 0;
}

int lmdb_directory_open(const char *directory, bool may_create, char *ret_why)
{
    int fd, r = 0;

    if (may_create)
        r = make_directory(directory);
    if (r < 0)
        return lmdb_explain(ret_why, r, "cannot make %s: %s", directory, strerror(-r));
    fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        r = -errno;
        return lmdb_explain(ret_why, r, "cannot open %s: %s", directory, strerror(-r));
    }
    if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
        r = errno == EWOULDBLOCK ? -EBUSY : -errno;
        close(fd);
        if (r == -EBUSY)
            return lmdb_explain(ret_why, r, "%s is in use by another process", directory);
        return lmdb_explain(ret_why, r, "cannot lock %s: %s", directory, strerror(-r));
    }
    return fd;
}

static bool is_ours(const char *name)
{
    static const char *const names[] = {
        ".", "..", LMDB_LOCK_FILE, LMDB_NEW_FILE, "lost+found",
    };

    for (size_t i = 0; i < N_ELEMENTS(names); i++)
        if (strcmp(name, names[i]) == 0)
            return true;
    return false;
}

static int find_data(DIR *stream, const char *directory, char *ret_why)
{
    char stranger[NAME_MAX + 1] = "";
    struct dirent *entry;

    for (errno = 0; (entry = readdir(stream)); errno = 0) {
        if (strcmp(entry->d_name, LMDB_DATA_FILE) == 0)
            return 1;
        if (!is_ours(entry->d_name))
            memcpy(stranger, entry->d_name, strlen(entry->d_name) + 1);
    }
    if (errno != 0) {
        int error = errno;

        return lmdb_explain(ret_why, -error, "cannot read %s: %s", directory, strerror(error));
    }
    if (*stranger)
        return lmdb_explain(ret_why, -ENOTEMPTY,
                            "%s holds %s but no store: the store needs a directory of its own",
                            directory, stranger);
    return 0;
}

int lmdb_directory_has_data(int directory_fd, const char *directory, char *ret_why)
{
    int fd = openat(directory_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *stream = fd < 0 ? NULL : fdopendir(fd);
    int r;

    if (!stream) {
        r = -errno;
        if (fd >= 0)
            close(fd);
        return lmdb_explain(ret_why, r, "cannot read %s: %s", directory, strerror(-r));
    }
    r = find_data(stream, directory, ret_why);
    closedir(stream);
    return r;
}

int lmdb_directory_reserve_lock_file(int directory_fd)
{
    int fd = openat(directory_fd, LMDB_LOCK_FILE, O_RDWR | O_CREAT | O_NONBLOCK | O_CLOEXEC, 0600);
    int error;

    if (fd < 0)
        return -errno;
    error = posix_fallocate(fd, 0, LOCK_FILE_SIZE);
    close(fd);
    return -error;
}

/* Makes "<directory>.aside-<n>" for the first free n. */
static int make_aside(const char *directory, char *ret_where)
{
    int length = (int) name_length(directory);

    for (int i = 1; i <= ASIDE_MAX; i++) {
        if (snprintf(ret_where, PATH_MAX, "%.*s.aside-%d", length, directory, i) >= PATH_MAX)
            return -ENAMETOOLONG;
        if (mkdir(ret_where, 0700) == 0)
            return 0;
        if (errno != EEXIST)
            return -errno;
    }
    return -EEXIST;
}

/* The data file first: if only it arrives, what stays behind is an empty store. */
static int move_files(int directory_fd, const char *where)
{
    static const char *const names[] = {LMDB_DATA_FILE, LMDB_LOCK_FILE};
    int fd = open(where, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int r = 0;

    if (fd < 0)
        return -errno;
    for (size_t i = 0; r == 0 && i < N_ELEMENTS(names); i++)
        if (renameat(directory_fd, names[i], fd, names[i]) < 0 && errno != ENOENT)
            r = -errno;
    if (r == 0 && (fsync(fd) < 0 || fsync(directory_fd) < 0))
        r = -errno;
    close(fd);
    return r;
}

int lmdb_directory_move_aside(int directory_fd, const char *directory, char *ret_where)
{
    int r;

    if (faccessat(directory_fd, LMDB_DATA_FILE, F_OK, AT_SYMLINK_NOFOLLOW) < 0) {
        *ret_where = '\0';
        return errno == ENOENT ? 0 : -errno;
    }
    r = make_aside(directory, ret_where);
    if (r < 0)
        return r;
    r = move_files(directory_fd, ret_where);
    if (r < 0) {
        /* Removed only if still empty. */
        rmdir(ret_where);
        return r;
    }
    return sync_parent(directory);
}
