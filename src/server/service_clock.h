#pragma once

/*
 * Service time: the daemon's own clock, in nanoseconds, that goes on over restarts and reboots while the machine's clocks
 * can be trusted to say how long it was away. Expiry and Epoch are kept on it, so neither knows of boots or of steps of
 * the wall clock.
 *
 * On the same boot CLOCK_BOOTTIME tells the time away exactly. Across boots only the wall clock can, and only if it is
 * plausible: not before the last sample, not absurdly after it. Otherwise service time goes on from the last sample
 * (mappings live a little longer than promised, never shorter) and the Epoch is reset.
 */

#include <stdbool.h>
#include <stdint.h>

#include "store/store.h"

enum service_clock_start {
    SERVICE_CLOCK_NEW_STATE,          /* nothing stored: first start, or --new-state */
    SERVICE_CLOCK_SAME_BOOT,          /* went on, exact */
    SERVICE_CLOCK_NEW_BOOT,           /* went on by the wall clock */
    SERVICE_CLOCK_BOOTTIME_BACKWARDS, /* same boot id but an earlier boot time: reset */
    SERVICE_CLOCK_WALL_BACKWARDS,     /* the wall clock is before the last sample: reset */
    SERVICE_CLOCK_WALL_IMPLAUSIBLE,   /* the wall clock is years after the last sample: reset */
};

/* Longest time away that is believed of a wall clock across boots. */
#define SERVICE_CLOCK_AWAY_MAX_S (400 * UINT64_C(86400))

struct service_clock {
    uint64_t service_ns;  /* service time at */
    uint64_t boottime_ns; /* this CLOCK_BOOTTIME */
};

struct service_clock_sample {
    uint8_t boot_id[STORE_BOOT_ID_SIZE];
    uint64_t boottime_ns;
    uint64_t wall_ns;
};

/* `stored` is NULL when the store is new. `now` is what the machine's clocks say. */
enum service_clock_start service_clock_begin(const struct store_clock *stored,
                                             const struct service_clock_sample *now,
                                             struct service_clock *ret_clock);
/* True for the two kinds of start after which the Epoch goes on. */
bool service_clock_went_on(enum service_clock_start start);
/* In plain words, for status and log. */
const char *service_clock_start_describe(enum service_clock_start start);
uint64_t service_clock_now_ns(const struct service_clock *clock, uint64_t boottime_ns);
/* The CLOCK_BOOTTIME at which service time will be `service_ns`; TIME_NEVER stays. */
uint64_t service_clock_to_boottime_ns(const struct service_clock *clock, uint64_t service_ns);
