/*
 * User, capabilities and files. Everything is given up before the first message is read, and cannot be had back: no file
 * that is executed later adds a privilege, and there is no system call to execute one.
 */

#include "privsep/confine.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <libgen.h>
#include <limits.h>
#include <linux/capability.h>
#include <linux/landlock.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define USER_BUFFER_SIZE 65536
/* Numbers that distributions and systemd give to nobody. */
#define SPARE_FIRST 60706
#define SPARE_LAST 61183

int privsep_find_user(const char *name, struct privsep_user *ret_user)
{
    struct passwd entry, *found;
    char *buffer = malloc(USER_BUFFER_SIZE);
    if (!buffer)
        return -ENOMEM;
    int error = getpwnam_r(name, &entry, buffer, USER_BUFFER_SIZE, &found);
    if (error == 0 && found)
        *ret_user = (struct privsep_user){.uid = entry.pw_uid, .gid = entry.pw_gid};
    free(buffer);
    if (error != 0)
        return -error;
    return found ? 0 : -ENOENT;
}

/* 0 when somebody has the number, -ENOENT when it is free, -errno. */
static int find_number(uid_t number)
{
    struct passwd entry, *found;
    char *buffer = malloc(USER_BUFFER_SIZE);
    if (!buffer)
        return -ENOMEM;
    int error = getpwuid_r(number, &entry, buffer, USER_BUFFER_SIZE, &found);
    free(buffer);
    if (error != 0)
        return -error;
    return found ? 0 : -ENOENT;
}

int privsep_find_spare_user(struct privsep_user *ret_user)
{
    int r = 0;
    for (uid_t number = SPARE_FIRST; number <= SPARE_LAST && r == 0; number++) {
        r = find_number(number);
        if (r == -ENOENT) {
            *ret_user = (struct privsep_user){.uid = number, .gid = number};
            return 0;
        }
    }
    return r < 0 ? r : -ENOENT;
}

static int set_capabilities(uint64_t capabilities)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2] = {0};
    for (int i = 0; i < 2; i++)
        data[i].permitted = data[i].effective = (uint32_t) (capabilities >> 32 * i);
    return syscall(SYS_capset, &header, data) < 0 ? -errno : 0;
}

/* Nothing of it can be executed anyway, so it is no fault when we may not. */
static void empty_bounding_set(void)
{
    for (int capability = 0; capability <= 63; capability++)
        (void) prctl(PR_CAPBSET_DROP, capability, 0, 0, 0);
    (void) prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
}

/* Of another user than root nothing can be asked but to stay itself. */
static int become(const struct privsep_user *user)
{
    if (geteuid() != 0)
        return geteuid() == user->uid ? 0 : -EPERM;
    if (user->uid == 0)
        return -EINVAL;
    if (setgroups(0, NULL) < 0 || setresgid(user->gid, user->gid, user->gid) < 0 ||
        setresuid(user->uid, user->uid, user->uid) < 0)
        return -errno;
    /* What succeeds now has failed then. */
    return setuid(0) == 0 ? -EPERM : 0;
}

/* No core file, no debugger of the same user. Sanitizers look for leaks as debuggers do. */
static int hide_memory(void)
{
    if (CONFINE_SYSTEM_CALLS == 0)
        return prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) < 0 ? -errno : 0;
    return prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0 ? -errno : 0;
}

int confine_to_net_admin(const struct privsep_user *user)
{
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) < 0)
        return -errno;
    empty_bounding_set();
    int r = become(user);
    if (r == 0)
        r = set_capabilities(UINT64_C(1) << CAP_NET_ADMIN);
    return r < 0 ? r : hide_memory();
}

static int has_capabilities(bool *ret_has)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2] = {0};
    if (syscall(SYS_capget, &header, data) < 0)
        return -errno;
    *ret_has = data[0].permitted || data[1].permitted;
    return 0;
}

int privsep_become(const struct privsep_user *user)
{
    bool has = true;
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return -errno;
    empty_bounding_set();
    /* The change of the user takes the capabilities of all threads. */
    int r = become(user);
    if (r == 0)
        r = has_capabilities(&has);
    if (r == 0 && has)
        r = -EPERM;
    return r < 0 ? r : hide_memory();
}

/* ---- files */

/* A second name of a file may be in a folder where it matters who owns it. */
static int give_one(int folder, const char *name, const struct privsep_user *user)
{
    struct stat status;
    if (fstatat(folder, name, &status, AT_SYMLINK_NOFOLLOW) < 0)
        return -errno;
    if (!S_ISREG(status.st_mode) || status.st_nlink != 1)
        return 0;
    return fchownat(folder, name, user->uid, user->gid, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
}

static int give_files(int folder, const struct privsep_user *user)
{
    int fd = openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), r = 0;
    DIR *stream = fd < 0 ? NULL : fdopendir(fd);
    if (!stream) {
        r = -errno;
        if (fd >= 0)
            close(fd);
        return r;
    }
    for (struct dirent *entry; r == 0 && (entry = readdir(stream));)
        r = give_one(folder, entry->d_name, user);
    closedir(stream);
    return r;
}

static int give_open_folder(int folder, const struct privsep_user *user)
{
    struct stat status;
    if (fstat(folder, &status) < 0)
        return -errno;
    if (status.st_uid != 0 || geteuid() != 0)
        return status.st_uid == user->uid ? 0 : -EACCES;
    int r = give_files(folder, user);
    if (r == 0 && fchownat(folder, "", user->uid, user->gid, AT_EMPTY_PATH) < 0)
        r = -errno;
    return r;
}

int privsep_give_folder(const char *path, const struct privsep_user *user)
{
    if (mkdir(path, 0700) < 0 && errno != EEXIST)
        return -errno;
    int folder = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (folder < 0)
        return -errno;
    int r = give_open_folder(folder, user);
    close(folder);
    return r;
}

#define ALL_FILE_RIGHTS                                                                            \
    (LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_READ_FILE |   \
     LANDLOCK_ACCESS_FS_READ_DIR | LANDLOCK_ACCESS_FS_REMOVE_DIR |                                 \
     LANDLOCK_ACCESS_FS_REMOVE_FILE | LANDLOCK_ACCESS_FS_MAKE_CHAR | LANDLOCK_ACCESS_FS_MAKE_DIR | \
     LANDLOCK_ACCESS_FS_MAKE_REG | LANDLOCK_ACCESS_FS_MAKE_SOCK | LANDLOCK_ACCESS_FS_MAKE_FIFO |   \
     LANDLOCK_ACCESS_FS_MAKE_BLOCK | LANDLOCK_ACCESS_FS_MAKE_SYM)

static int permit_folder(int ruleset, const char *path)
{
    char resolved[PATH_MAX];
    if (!realpath(path, resolved))
        return -errno;
    struct landlock_path_beneath_attr rule = {.allowed_access = LANDLOCK_ACCESS_FS_READ_FILE};
    rule.parent_fd = open(dirname(resolved), O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (rule.parent_fd < 0)
        return -errno;
    long r = syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0);
    int error = r < 0 ? -errno : 0;
    close(rule.parent_fd);
    return error;
}

int confine_to_folder_of(const char *path)
{
    struct landlock_ruleset_attr attributes = {.handled_access_fs = ALL_FILE_RIGHTS};
    if (CONFINE_SYSTEM_CALLS == 0)
        return 0;
    int ruleset = (int) syscall(SYS_landlock_create_ruleset, &attributes, sizeof(attributes), 0);
    if (ruleset < 0)
        return errno == ENOSYS || errno == EOPNOTSUPP ? 0 : -errno;
    int r = permit_folder(ruleset, path);
    if (r == 0 && syscall(SYS_landlock_restrict_self, ruleset, 0) < 0)
        r = -errno;
    close(ruleset);
    return r;
}
