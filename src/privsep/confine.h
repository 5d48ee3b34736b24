#pragma once

/* How the helper gives up what it does not need. The engine's part is in privsep.h. */

#include "base/util.h"
#include "privsep/privsep.h"

/* Sanitizers need system calls and files of their own: with them, both are left as they are. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define CONFINE_SYSTEM_CALLS 0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(memory_sanitizer) ||                         \
    __has_feature(thread_sanitizer)
#define CONFINE_SYSTEM_CALLS 0
#endif
#endif
#ifndef CONFINE_SYSTEM_CALLS
#define CONFINE_SYSTEM_CALLS 1
#endif

/* Becomes `user` and keeps CAP_NET_ADMIN alone. Before there are threads. 0 or -errno. */
MUST_CHECK int confine_to_net_admin(const struct privsep_user *user);
/*
 * Of all files, only those in the folder of `path` can be opened, to read; where this kernel has no Landlock, file
 * permissions have to do. Before there are threads. 0 or -errno.
 */
MUST_CHECK int confine_to_folder_of(const char *path);
/* Only the system calls that the helper needs, in all threads; any other ends it. 0 or -errno. */
MUST_CHECK int confine_helper_calls(void);
