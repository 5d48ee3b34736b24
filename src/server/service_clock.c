/* See the header for the idea. Service time starts at one day, so that differences near the beginning need no care. */

#include "server/service_clock.h"

#include <string.h>

#include "base/time.h"

#define SERVICE_TIME_FIRST_NS (86400 * NS_PER_S)

static enum service_clock_start judge(const struct store_clock *stored,
                                      const struct service_clock_sample *now, uint64_t *ret_away_ns)
{
    *ret_away_ns = 0;
    if (memcmp(stored->boot_id, now->boot_id, STORE_BOOT_ID_SIZE) == 0) {
        if (now->boottime_ns < stored->boottime_ns)
            return SERVICE_CLOCK_BOOTTIME_BACKWARDS;
        *ret_away_ns = now->boottime_ns - stored->boottime_ns;
        return SERVICE_CLOCK_SAME_BOOT;
    }
    if (now->wall_ns < stored->wall_ns)
        return SERVICE_CLOCK_WALL_BACKWARDS;
    if (now->wall_ns - stored->wall_ns > SERVICE_CLOCK_AWAY_MAX_S * NS_PER_S)
        return SERVICE_CLOCK_WALL_IMPLAUSIBLE;
    *ret_away_ns = now->wall_ns - stored->wall_ns;
    return SERVICE_CLOCK_NEW_BOOT;
}

enum service_clock_start service_clock_begin(const struct store_clock *stored,
                                             const struct service_clock_sample *now,
                                             struct service_clock *ret_clock)
{
    uint64_t away_ns = 0;
    enum service_clock_start start = SERVICE_CLOCK_NEW_STATE;
    uint64_t service_ns = SERVICE_TIME_FIRST_NS;
    if (stored) {
        start = judge(stored, now, &away_ns);
        service_ns = stored->service_ns + away_ns;
    }
    *ret_clock = (struct service_clock){.service_ns = service_ns, .boottime_ns = now->boottime_ns};
    return start;
}

bool service_clock_went_on(enum service_clock_start start)
{
    return start == SERVICE_CLOCK_SAME_BOOT || start == SERVICE_CLOCK_NEW_BOOT;
}

const char *service_clock_start_describe(enum service_clock_start start)
{
    switch (start) {
    case SERVICE_CLOCK_NEW_STATE:
        return "there was no stored state";
    case SERVICE_CLOCK_SAME_BOOT:
        return "state intact, same boot: the boot-time clock tells how long the daemon was away";
    case SERVICE_CLOCK_NEW_BOOT:
        return "state intact, machine rebooted: the wall clock tells how long it was away";
    case SERVICE_CLOCK_BOOTTIME_BACKWARDS:
        return "the boot-time clock is before the last stored sample";
    case SERVICE_CLOCK_WALL_BACKWARDS:
        return "machine rebooted and its wall clock is before the last stored sample";
    case SERVICE_CLOCK_WALL_IMPLAUSIBLE:
        return "machine rebooted and its wall clock is too far after the last stored sample to be "
               "believed";
    }
    return "unknown";
}

uint64_t service_clock_now_ns(const struct service_clock *clock, uint64_t boottime_ns)
{
    return clock->service_ns + (boottime_ns - clock->boottime_ns);
}

uint64_t service_clock_to_boottime_ns(const struct service_clock *clock, uint64_t service_ns)
{
    if (service_ns == TIME_NEVER)
        return TIME_NEVER;
    if (service_ns <= clock->service_ns)
        return clock->boottime_ns;
    return clock->boottime_ns + (service_ns - clock->service_ns);
}
