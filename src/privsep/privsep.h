#pragma once

/*
 * Privilege separation: the engine talks to everybody and may do nothing; a helper process talks to the engine only, and
 * alone may change the kernel's tables. The engine sees the helper as a struct nat. Between them is a closed set of
 * messages; the helper checks each field of each against a policy that it has from the configuration, never from the
 * engine. A malformed message ends the helper, as only a subverted engine sends one; the helper's end is to be the
 * engine's, and mappings stay in the kernel meanwhile.
 *
 * The engine's threads: apply, cut_flows, reconcile, remove_all and watch from one at a time; find_flow, was_touched and
 * privsep_reload() from one other, beside those.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/address.h"
#include "base/util.h"
#include "mapping/port_pool.h"
#include "nat/nat.h"

#define PRIVSEP_RANGES_MAX 64
#define PRIVSEP_STATICS_MAX 256
#define PRIVSEP_END_TEXT_SIZE 128

/* A mapping of the configuration, which may be outside of all ranges and prefixes. */
struct privsep_static {
    struct endpoint internal; /* port 0: all ports */
    struct endpoint external; /* address any: each external one */
    uint8_t protocol;
};

/* What the engine may ask for at most. */
struct privsep_policy {
    /*
     * Settings of a reconcile: its lists may be shorter, but have nothing that is not in these. Without external addresses
     * here, they are those that the outside interfaces have.
     */
    struct nat_settings nat;
    struct port_range external_ports[PRIVSEP_RANGES_MAX];
    size_t n_external_ports;
    bool peer;        /* PEER mappings: to external_ports, and to ports of flows that may exist */
    bool whole_ports; /* mappings of all ports on IPv4 */
    struct privsep_static statics[PRIVSEP_STATICS_MAX];
    size_t n_statics;
    uint32_t mappings_total;
};

struct privsep_user {
    uid_t uid;
    gid_t gid;
};

struct privsep_options {
    /* Where reload finds the policy; an absolute path. */
    const char *config_path;
    /*
     * Locked by the helper as long as it lives, so that a second daemon waits until the helper of a dead one is gone. Made
     * when it is not there, never removed.
     */
    const char *lock_path;
    struct privsep_user user;
    const struct privsep_policy *policy;
    /* Both are called in the helper. */
    int (*open_nat)(struct nat **ret_nat);
    int (*read_policy)(const char *config_path, struct privsep_policy *ret_policy);
};

/* 0; -ENOENT when there is no such user; -errno. */
MUST_CHECK int privsep_find_user(const char *name, struct privsep_user *ret_user);
/*
 * Where nobody has made a user for us: a number that is nobody's, and not "nobody", whom others share. 0; -ENOENT when
 * there is none; -errno.
 */
MUST_CHECK int privsep_find_spare_user(struct privsep_user *ret_user);

/*
 * Forks the helper and waits until it is ready. Before there are threads, and before anything is open that the helper
 * shall not see in memory; descriptors it closes. nat_close() ends it and waits for it. 0; -EBUSY when another daemon's
 * helper holds the lock for more than five seconds; -errno of opening the nat or of giving up privileges. `ret_why` is
 * then a constant: what failed.
 */
MUST_CHECK int privsep_start(const struct privsep_options *options, struct nat **ret_nat,
                             const char **ret_why);

/*
 * The helper reads the configuration again and takes its policy from it. 0; -EACCES when somebody but root could have
 * changed the file; what read_policy returned; -EPIPE when there is no helper any more. The policy stays on failure.
 */
MUST_CHECK int privsep_reload(struct nat *nat);

/* The helper is gone. After the descriptor of nat_watch() became readable, and was_touched was called. */
bool privsep_has_ended(const struct nat *nat);
/* In words how it ended; PRIVSEP_END_TEXT_SIZE octets. Returns ret_text. */
const char *privsep_describe_end(struct nat *nat, char *ret_text);

/*
 * Makes the folder if it is not there, and gives it, if it is root's, with the files in it to `user`. 0; -EACCES when it is
 * another user's; -errno.
 */
MUST_CHECK int privsep_give_folder(const char *path, const struct privsep_user *user);
/*
 * The engine becomes `user` for good, in all its threads, without any capability: before it reads what an engine may have
 * written earlier. Started by another user than root, it can only stay what it is, and must have no capabilities. 0 or
 * -errno.
 */
MUST_CHECK int privsep_become(const struct privsep_user *user);
/* After that, when all is set up: the engine keeps only the system calls that it needs. 0 or -errno. */
MUST_CHECK int privsep_confine_calls(void);
