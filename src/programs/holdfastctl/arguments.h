#pragma once

/* holdfastctl's command line, checked as far as it can be without the daemon. */

#include <jansson.h>
#include <stdbool.h>

#include "base/util.h"

enum holdfastctl_command {
    HOLDFASTCTL_COMMAND_STATUS,
    HOLDFASTCTL_COMMAND_LIST,
    HOLDFASTCTL_COMMAND_CLEAR,
    HOLDFASTCTL_COMMAND_RELOAD,
    HOLDFASTCTL_COMMAND_LOG_LEVEL,
    HOLDFASTCTL_COMMAND_HELP,
    HOLDFASTCTL_COMMAND_VERSION,
};

struct arguments {
    enum holdfastctl_command command;
    const char *socket_path;
    bool json;
    json_t *parameters; /* of the call; NULL for help and version */
};

/*
 * Reads argv, which must outlive the result; `environment_socket` is HOLDFAST_CONTROL's value or
 * NULL. 0; -ENOMEM; or -EINVAL with one line about what is wrong in `ret_error`
 * (ARGUMENTS_ERROR_SIZE octets).
 */
#define ARGUMENTS_ERROR_SIZE 256
MUST_CHECK int arguments_parse(int argc, char **argv, const char *environment_socket,
                               struct arguments *ret_arguments, char *ret_error);
void arguments_deinit(struct arguments *arguments);
/* The text of --help. */
extern const char arguments_help[];
