#pragma once

/*
 * Load on a PCP server: a row of mappings, spread over many local addresses and ports, is created, renewed or deleted with
 * a window of requests under way, and every answer is checked. Mapping number n is the same in every run and process:
 * its internal endpoint, protocol and nonce follow from n.
 */

#include <stdint.h>

#include "base/address.h"
#include "base/util.h"

#define LOAD_SOURCES_MAX 1024
#define LOAD_WINDOW_MAX 4096

enum load_operation {
    LOAD_CREATE,
    LOAD_RENEW, /* to another lifetime than LOAD_CREATE's, so that it is no mere repetition */
    LOAD_DELETE,
    LOAD_ECHO, /* the request of LOAD_CREATE to a server that sends back what it gets */
};
#define LOAD_OPERATIONS 4

struct load_settings {
    struct endpoint server;
    struct ip_address first_source; /* and those after it, n_sources in all */
    uint32_t n_sources;
    uint32_t first, count; /* numbers of the mappings */
    uint32_t window;       /* requests under way at most */
};

struct load_result {
    double rate_per_s;
    uint64_t p50_ns, p99_ns; /* from sending to receiving */
};

struct load;

const char *load_operation_name(enum load_operation operation);
/* 0; -EINVAL for settings out of bounds; -errno. One socket per source address, each with a port the kernel chose. */
MUST_CHECK int load_open(const struct load_settings *settings, struct load **ret_load);
void load_close(struct load *load);
/*
 * All mappings once. 0; -EBADMSG when an answer was wrong and -ETIMEDOUT when one did not come: then load_complaint() says more; -errno.
 */
MUST_CHECK int load_run(struct load *load, enum load_operation operation,
                        struct load_result *ret_result);
const char *load_complaint(const struct load *load);
