#pragma once

/* The helper process after the fork. */

#include "privsep/privsep.h"

/* How it ends when not by a signal. */
enum helper_exit {
    HELPER_EXIT_ENGINE_GONE = 0, /* nobody is there to ask for anything */
    HELPER_EXIT_NOT_READY = 3,
    HELPER_EXIT_BAD_MESSAGE = 4,
    HELPER_EXIT_FAILED = 5, /* no memory, or no way to answer */
};

struct helper_channels {
    int commands, questions, news;
};

/* Closes all other descriptors but standard error and the lock, serves, and ends with the engine `parent`. */
_Noreturn void helper_run(const struct privsep_options *options,
                          const struct helper_channels *channels, int lock_fd, pid_t parent);
