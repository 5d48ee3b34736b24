/*
 * A record of fixed size is written over itself. The file is on a file system in memory, so nothing is to be synced: a
 * crash of the daemon cannot tear so short a write, and one of the machine takes the file with it. What cannot be written
 * is not worth a failed commit; the file then says less than the store, and that is no contradiction.
 */

#include "programs/holdfastd/witness.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SUFFIX ".tick"

static const uint8_t magic[8] = {'h', 'f', '-', 't', 'i', 'c', 'k', '1'};

struct content {
    uint8_t magic[sizeof(magic)];
    uint8_t boot_id[STORE_BOOT_ID_SIZE];
    uint64_t committed_ns;
};

static int make_folder(const char *path)
{
    char folder[PATH_MAX];
    const char *slash = strrchr(path, '/');
    if (!slash || slash == path)
        return 0;
    snprintf(folder, sizeof(folder), "%.*s", (int) (slash - path), path);
    return mkdir(folder, 0755) < 0 && errno != EEXIST ? -errno : 0;
}

static uint64_t read_committed_ns(const struct witness *witness)
{
    struct content content;
    if (pread(witness->fd, &content, sizeof(content), 0) != (ssize_t) sizeof(content) ||
        memcmp(content.magic, magic, sizeof(magic)) != 0 ||
        memcmp(content.boot_id, witness->boot_id, sizeof(content.boot_id)) != 0)
        return 0;
    return content.committed_ns;
}

int witness_open(const char *control_socket, const uint8_t boot_id[STORE_BOOT_ID_SIZE],
                 struct witness *ret_witness, uint64_t *ret_committed_ns)
{
    char path[PATH_MAX];
    struct witness witness;
    if (snprintf(path, sizeof(path), "%s" SUFFIX, control_socket) >= (int) sizeof(path))
        return -ENAMETOOLONG;
    int r = make_folder(path);
    if (r < 0)
        return r;
    witness.fd = open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (witness.fd < 0)
        return -errno;
    memcpy(witness.boot_id, boot_id, sizeof(witness.boot_id));
    *ret_committed_ns = read_committed_ns(&witness);
    *ret_witness = witness;
    return 0;
}

void witness_close(struct witness *witness)
{
    if (witness->fd >= 0)
        close(witness->fd);
    *witness = WITNESS_NONE;
}

void witness_note(const struct witness *witness, uint64_t committed_ns)
{
    struct content content = {.committed_ns = committed_ns};
    if (witness->fd < 0)
        return;
    memcpy(content.magic, magic, sizeof(content.magic));
    memcpy(content.boot_id, witness->boot_id, sizeof(content.boot_id));
    (void) !pwrite(witness->fd, &content, sizeof(content), 0);
}
