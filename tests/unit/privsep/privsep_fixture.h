#pragma once

/* A packet path in memory whose state both processes see, and a policy to go with it. */

#include <stdatomic.h>
#include <stdbool.h>

#include "mapping/change.h"
#include "privsep/privsep.h"

/* Both processes map it. */
struct fixture_shared {
    atomic_size_t n_mappings;
    atomic_uint n_cut;          /* changes given to cut_flows that end something live */
    atomic_uint n_removals;     /* calls of remove_all */
    atomic_int fail_open;       /* open_nat returns this */
    atomic_int fail_next;       /* the next apply or reconcile returns this */
    atomic_int misdeed;         /* enum fixture_misdeed: what the next apply does instead */
    atomic_bool tell_filters;   /* whether the last record had all that was sent */
    atomic_uint uid;            /* of the helper */
    atomic_ullong capabilities; /* its effective ones */
};

enum fixture_misdeed {
    FIXTURE_MISDEED_NONE,
    FIXTURE_MISDEED_EXECUTE,  /* a program */
    FIXTURE_MISDEED_WRITE,    /* a file */
    FIXTURE_MISDEED_READ,     /* a file that is not the configuration's neighbour */
    FIXTURE_MISDEED_INTERNET, /* a socket */
    FIXTURE_MISDEED_SLEEP,    /* for long */
};

struct fixture {
    struct fixture_shared *shared;
    char folder[64];
    char config_path[96], lock_path[96];
    struct privsep_policy policy;
    struct privsep_options options;
    int touch_fds[2]; /* an octet written to the second is a foreign change */
};

/* False when the process may not do what is tested here: it takes root. */
bool fixture_is_possible(void);
/* cmocka's setup and teardown; the state is a struct fixture. */
int fixture_set_up(void **state);
int fixture_tear_down(void **state);
/* What a reload will find: the first and the last external port, or a text that is no configuration. */
void fixture_write_config(const struct fixture *fixture, const char *text);

/* 10.77.0.2 TCP 1000+n <-> 127.0.0.1 TCP 20000+n, for a while. */
struct mapping_record fixture_record(uint32_t n);
struct nat_settings fixture_settings(void);
