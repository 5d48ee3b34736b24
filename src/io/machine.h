#pragma once

/* What the machine tells us: its clocks, its interfaces, and the supervisor we report to. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/address.h"
#include "base/util.h"
#include "io/loop.h"

struct machine_clocks {
    uint8_t boot_id[16];
    uint64_t boottime_ns;
    uint64_t wall_ns;
};

/* CLOCK_REALTIME read now. */
uint64_t machine_wall_ns(void);
/* 0 or -errno (the boot id could not be read). */
MUST_CHECK int machine_read_clocks(struct machine_clocks *ret_clocks);

/* This kernel's conntrack follows DCCP (it went with Linux 6.16). */
bool machine_tracks_dccp(void);

/* Index of an interface, 0 when there is none of that name. */
uint32_t machine_interface_index(const char *name);
enum machine_scope {
    MACHINE_SCOPE_ROUTED, /* without link-local addresses */
    MACHINE_SCOPE_ALL,
};

/*
 * Addresses now on the interface, of both families, tentative ones left out. Returns how many were written (at most n_addresses) or
 * -errno.
 */
MUST_CHECK int machine_interface_addresses(const char *name, enum machine_scope scope,
                                           struct ip_address *ret_addresses, size_t n_addresses);

/*
 * Calls `changed` after rtnetlink reported any change of links or addresses (several reports at once make one call; an overrun
 * counts as a change).
 */
struct machine_watch;
MUST_CHECK int machine_watch_new(struct loop *loop, void (*changed)(void *context), void *context,
                                 struct machine_watch **ret_watch);
void machine_watch_free(struct machine_watch *watch);

/* sd_notify(3)'s protocol: `state` such as "READY=1\nSTATUS=...". Does nothing without NOTIFY_SOCKET. 0 or -errno. */
int machine_notify(const char *state);
