#include "privsep_fixture.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/time.h"
#include "nat/memory/memory_nat.h"

#define LOOPBACK 0x7f000001
#define HOST 0x0a4d0002
#define SORTED_SIZE 64

static struct fixture *current; /* for the callbacks, which the helper calls after the fork */

struct shown_nat {
    struct nat nat;
    struct nat *memory;
};

static struct nat *memory_of(struct nat *nat)
{
    return CONTAINER_OF(nat, struct shown_nat, nat)->memory;
}

static int show(struct nat *nat, int error)
{
    atomic_store(&current->shared->n_mappings, memory_nat_count(memory_of(nat)));
    return error;
}

static int misbehave(void)
{
    char *const arguments[] = {(char *) "true", NULL};
    const struct timespec long_time = {.tv_sec = 600};
    int fd = -1;
    switch (atomic_exchange(&current->shared->misdeed, FIXTURE_MISDEED_NONE)) {
    case FIXTURE_MISDEED_EXECUTE:
        return execv("/bin/true", arguments) < 0 ? -errno : 0;
    case FIXTURE_MISDEED_WRITE:
        fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
        break;
    case FIXTURE_MISDEED_READ:
        fd = open("/etc/passwd", O_RDONLY | O_CLOEXEC);
        break;
    case FIXTURE_MISDEED_INTERNET:
        fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        break;
    case FIXTURE_MISDEED_SLEEP:
        nanosleep(&long_time, NULL);
        return 0;
    default:
        return 0;
    }
    if (fd < 0)
        return -errno;
    close(fd);
    return -EALREADY; /* it worked, which it should not */
}

static int apply(struct nat *nat, const struct change *changes, size_t n_changes, uint64_t now_ns)
{
    int error = misbehave();
    if (error == 0)
        error = atomic_exchange(&current->shared->fail_next, 0);
    if (error == 0)
        error = nat_apply(memory_of(nat), changes, n_changes, now_ns);
    if (error == 0 && n_changes > 0 && changes[n_changes - 1].has_after)
        atomic_store(&current->shared->tell_filters,
                     memory_nat_contains(memory_of(nat), &changes[n_changes - 1].after) &&
                         changes[n_changes - 1].after.filters);
    return show(nat, error);
}

static int compare_octets(const void *a, const void *b)
{
    return memcmp(a, b, SORTED_SIZE);
}

/* Sorting asks the C library for memory, and that the kernel how much there is. */
static int sort_much(void)
{
    char *octets = calloc(SORTED_SIZE, SORTED_SIZE);
    if (!octets)
        return -ENOMEM;
    qsort(octets, SORTED_SIZE, SORTED_SIZE, compare_octets);
    free(octets);
    return 0;
}

static int cut_flows(struct nat *nat, const struct change *changes, size_t n_changes)
{
    (void) nat;
    if (sort_much() < 0)
        return -ENOMEM;
    for (size_t i = 0; i < n_changes; i++)
        if (changes[i].had_before && changes[i].before.state == MAPPING_STATE_LIVE)
            atomic_fetch_add(&current->shared->n_cut, 1);
    return 0;
}

static int reconcile(struct nat *nat, const struct nat_settings *settings,
                     const struct mapping_record *const *records, size_t n_records, uint64_t now_ns)
{
    int error = atomic_exchange(&current->shared->fail_next, 0);
    if (error == 0)
        error = nat_reconcile(memory_of(nat), settings, records, n_records, now_ns);
    return show(nat, error);
}

static int remove_all(struct nat *nat)
{
    atomic_fetch_add(&current->shared->n_removals, 1);
    return show(nat, nat_remove_all(memory_of(nat)));
}

static int find_flow(struct nat *nat, uint8_t protocol, const struct endpoint *internal,
                     const struct endpoint *remote, struct endpoint *ret_external)
{
    return nat_find_flow(memory_of(nat), protocol, internal, remote, ret_external);
}

static int watch(struct nat *nat, int *ret_fd)
{
    (void) nat;
    *ret_fd = current->touch_fds[0];
    return 0;
}

static bool was_touched(struct nat *nat)
{
    uint8_t octet;
    (void) nat;
    return read(current->touch_fds[0], &octet, 1) == 1;
}

static void close_shown(struct nat *nat)
{
    nat_close(memory_of(nat));
    free(CONTAINER_OF(nat, struct shown_nat, nat));
}

static const struct nat_operations operations = {
    .apply = apply,
    .cut_flows = cut_flows,
    .reconcile = reconcile,
    .remove_all = remove_all,
    .find_flow = find_flow,
    .watch = watch,
    .was_touched = was_touched,
    .close = close_shown,
};

static unsigned long long effective_capabilities(void)
{
    unsigned long long value = 0;
    char line[128];
    FILE *status = fopen("/proc/thread-self/status", "re");
    while (status && fgets(line, sizeof(line), status))
        if (strncmp(line, "CapEff:", 7) == 0)
            value = strtoull(line + 7, NULL, 16);
    if (status)
        fclose(status);
    return value;
}

static int set_flow(struct nat *memory)
{
    struct endpoint internal = {.address = ip_address_from_ipv4(HOST), .port = 777};
    struct endpoint remote = {.address = ip_address_from_ipv4(0xc6336401), .port = 80};
    struct endpoint external = {.address = ip_address_from_ipv4(LOOPBACK), .port = 40777};
    return memory_nat_set_flow(memory, IPPROTO_TCP, &internal, &remote, &external);
}

/* The descriptor for touches survives the closing of all others by being made here. */
static int open_nat(struct nat **ret_nat)
{
    struct shown_nat *shown = calloc(1, sizeof(*shown));
    int error = atomic_load(&current->shared->fail_open);
    char path[128];
    atomic_store(&current->shared->uid, geteuid());
    atomic_store(&current->shared->capabilities, effective_capabilities());
    snprintf(path, sizeof(path), "%s/touch", current->folder);
    current->touch_fds[0] = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (error == 0 && (!shown || current->touch_fds[0] < 0))
        error = -ENOMEM;
    if (error == 0) {
        shown->nat.operations = &operations;
        shown->memory = memory_nat_new();
        error = shown->memory ? set_flow(shown->memory) : -ENOMEM;
    }
    if (error < 0) {
        free(shown);
        return error;
    }
    *ret_nat = &shown->nat;
    return 0;
}

static int read_policy(const char *config_path, struct privsep_policy *ret_policy)
{
    unsigned int first, last;
    FILE *file = fopen(config_path, "re");
    if (!file)
        return -errno;
    int n = fscanf(file, "%u-%u", &first, &last); // NOLINT(cert-err34-c): wrong numbers are wrong
    fclose(file);
    if (n != 2 || first > UINT16_MAX || last > UINT16_MAX)
        return -EINVAL;
    *ret_policy = current->policy;
    ret_policy->external_ports[0] =
        (struct port_range){.first = (uint16_t) first, .last = (uint16_t) last};
    return 0;
}

struct mapping_record fixture_record(uint32_t n)
{
    return (struct mapping_record){
        .id = n + 1,
        .expires_ns = 7200 * NS_PER_S,
        .internal_address = ip_address_from_ipv4(HOST + n / 20000),
        .external_address = ip_address_from_ipv4(LOOPBACK + n / 20000),
        .internal_port = (uint16_t) (1000 + n % 20000),
        .external_port = (uint16_t) (20000 + n % 20000),
        .protocol = IPPROTO_TCP,
        .kind = MAPPING_KIND_MAP,
        .state = MAPPING_STATE_LIVE,
    };
}

struct nat_settings fixture_settings(void)
{
    struct nat_settings settings = {
        .outside_interfaces = {"lo"},
        .n_outside_interfaces = 1,
        .external_addresses = {ip_address_from_ipv4(LOOPBACK)},
        .n_external_addresses = 1,
        .masquerade = true,
        .masquerade_port_first = 40000,
        .masquerade_port_last = 50000,
        .masquerade_address = IP_ADDRESS_ANY_IPV4,
        .grace_s = 30,
        .size_hint = 1000,
        .n_internal_prefixes = 2,
    };
    assert(ip_prefix_parse("10.77.0.0/24", &settings.internal_prefixes[0]) == 0);
    assert(ip_prefix_parse("fd77::/64", &settings.internal_prefixes[1]) == 0);
    return settings;
}

static void fill_policy(struct privsep_policy *policy)
{
    policy->nat = fixture_settings();
    for (uint32_t i = 0; i < 8; i++)
        policy->nat.external_addresses[i] = ip_address_from_ipv4(LOOPBACK + i);
    policy->nat.n_external_addresses = 8;
    policy->external_ports[0] = (struct port_range){.first = 20000, .last = 39999};
    policy->n_external_ports = 1;
    policy->peer = true;
    policy->mappings_total = 200000;
}

bool fixture_is_possible(void)
{
    return geteuid() == 0;
}

static struct fixture_shared *map_shared(void)
{
    void *memory = mmap(NULL, sizeof(struct fixture_shared), PROT_READ | PROT_WRITE,
                        MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    return memory == MAP_FAILED ? NULL : memory;
}

static int make_touch(struct fixture *fixture)
{
    char path[128];
    snprintf(path, sizeof(path), "%s/touch", fixture->folder);
    if (mkfifo(path, 0644) < 0 || chmod(path, 0644) < 0)
        return -1;
    fixture->touch_fds[1] = open(path, O_RDWR | O_CLOEXEC);
    return fixture->touch_fds[1] < 0 ? -1 : 0;
}

int fixture_set_up(void **state)
{
    struct fixture *fixture = calloc(1, sizeof(*fixture));
    *state = fixture;
    if (!fixture || !(fixture->shared = map_shared()))
        return -1;
    strcpy(fixture->folder, "/tmp/holdfast-privsep-XXXXXX");
    if (!mkdtemp(fixture->folder) || chmod(fixture->folder, 0755) < 0)
        return -1;
    snprintf(fixture->config_path, sizeof(fixture->config_path), "%s/conf", fixture->folder);
    snprintf(fixture->lock_path, sizeof(fixture->lock_path), "%s/lock", fixture->folder);
    fixture_write_config(fixture, "20000-39999");
    fill_policy(&fixture->policy);
    fixture->options = (struct privsep_options){
        .config_path = fixture->config_path,
        .lock_path = fixture->lock_path,
        .user = {.uid = 65534, .gid = 65534},
        .policy = &fixture->policy,
        .open_nat = open_nat,
        .read_policy = read_policy,
    };
    current = fixture;
    return make_touch(fixture);
}

int fixture_tear_down(void **state)
{
    struct fixture *fixture = *state;
    char path[128];
    snprintf(path, sizeof(path), "%s/touch", fixture->folder);
    unlink(path);
    unlink(fixture->config_path);
    unlink(fixture->lock_path);
    close(fixture->touch_fds[1]);
    munmap(fixture->shared, sizeof(*fixture->shared));
    int error = rmdir(fixture->folder);
    free(fixture);
    return error;
}

void fixture_write_config(const struct fixture *fixture, const char *text)
{
    FILE *file = fopen(fixture->config_path, "we");
    assert(file);
    fputs(text, file);
    fclose(file);
    assert(chmod(fixture->config_path, 0644) == 0);
}
