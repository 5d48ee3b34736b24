#pragma once

/* One time unit inside: nanoseconds, uint64_t. Engines are given `now_ns`; only programs and io read clocks. */

#include <stdint.h>

#define NS_PER_US UINT64_C(1000)
#define NS_PER_MS UINT64_C(1000000)
#define NS_PER_S UINT64_C(1000000000)

/* "No deadline". */
#define TIME_NEVER UINT64_MAX
