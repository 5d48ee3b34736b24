/*
 * main() for a fuzz target without libFuzzer: feeds it each file of the folders named, and each prefix of each file. An empty
 * folder is a failure, as it would be a test that cannot fail.
 */

#include <dirent.h>
#include <limits.h>
#include <string.h>

#include "fuzz.h"

#define INPUT_SIZE_MAX 65536

/* Octets read, or -1. */
static long read_file(const char *path, uint8_t *ret_octets)
{
    FILE *file = fopen(path, "rb");
    if (!file)
        return -1;
    size_t size_bytes = fread(ret_octets, 1, INPUT_SIZE_MAX, file);
    long result = ferror(file) || !feof(file) ? -1 : (long) size_bytes;
    fclose(file);
    return result;
}

/* In memory of exactly the prefix's size, so that a sanitizer sees the first octet read past the end. */
static void feed_prefix(const uint8_t *octets, size_t size_bytes)
{
    uint8_t *prefix = malloc(size_bytes > 0 ? size_bytes : 1);
    if (!prefix)
        abort();
    memcpy(prefix, octets, size_bytes);
    (void) LLVMFuzzerTestOneInput(prefix, size_bytes);
    free(prefix);
}

static int replay_file(const char *path)
{
    static uint8_t octets[INPUT_SIZE_MAX];
    long size_bytes = read_file(path, octets);
    if (size_bytes < 0) {
        fprintf(stderr, "%s: cannot be read whole\n", path);
        return -1;
    }
    for (size_t n = 0; n <= (size_t) size_bytes; n++)
        feed_prefix(octets, n);
    return 0;
}

/* Files replayed, or -1. */
static int replay_folder(const char *folder)
{
    DIR *stream = opendir(folder);
    int n_files = 0;
    if (!stream) {
        perror(folder);
        return -1;
    }
    for (struct dirent *entry = readdir(stream); entry; entry = readdir(stream)) {
        char path[PATH_MAX];
        if (entry->d_name[0] == '.')
            continue;
        int length = snprintf(path, sizeof(path), "%s/%s", folder, entry->d_name);
        if (length < 0 || (size_t) length >= sizeof(path) || replay_file(path) < 0) {
            n_files = -1;
            break;
        }
        n_files++;
    }
    closedir(stream);
    return n_files;
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        fprintf(stderr, "usage: %s FOLDER...\n", argv[0]);
        return 2;
    }
    for (int i = 1; i < argc; i++) {
        int n_files = replay_folder(argv[i]);
        if (n_files <= 0) {
            fprintf(stderr, "%s: nothing replayed\n", argv[i]);
            return 1;
        }
        printf("%s: %d files\n", argv[i], n_files);
    }
    return 0;
}
