#pragma once

/* Private to io: what lies under a loop, for the files that need more of libuv than loop.h offers. */

#include <uv.h>

#include "io/loop.h"

uv_loop_t *loop_uv(struct loop *loop);
