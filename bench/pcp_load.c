/*
 * pcp_load: runs operations one after the other over the same mappings and prints rate and latencies as "name value unit"
 * lines. The first wrong or missing answer ends it: a rate of wrong answers says nothing.
 */

#include <errno.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/time.h"
#include "bench/load.h"
#include "wire/pcp.h"

#define USAGE                                                                                      \
    "usage: pcp_load --server ADDRESS[:PORT] --source ADDRESS [OPTION]... OPERATION...\n"          \
    "OPERATION is create, renew, delete, or echo (for udp_echo).\n"                                \
    "  --server ENDPOINT  whom to ask; the port is 5351 when not given\n"                          \
    "  --source ADDRESS   the first local address to ask from\n"                                   \
    "  --sources N        that many addresses from there on, 1 to 1024 (default 1)\n"              \
    "  --first N          number of the first mapping (default 0)\n"                               \
    "  --count N          how many mappings (default 1000)\n"                                      \
    "  --window N         requests under way at most, 1 to 4096 (default 1)\n"                     \
    "Exit status: 0 all answers were right, 1 one was not, 2 wrong usage.\n"

struct arguments {
    struct load_settings load;
    char *const *operations; /* up to a NULL */
};

static bool parse_number(const char *text, uint32_t *ret_number)
{
    char *end;
    errno = 0;
    unsigned long number = strtoul(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end != '\0' || errno != 0 || number > UINT32_MAX)
        return false;
    *ret_number = (uint32_t) number;
    return true;
}

static bool take_option(int letter, const char *value, struct load_settings *ret_settings)
{
    switch (letter) {
    case 'd':
        return endpoint_parse(value, PCP_SERVER_PORT, &ret_settings->server) == 0;
    case 's':
        return ip_address_parse(value, &ret_settings->first_source) == 0;
    case 'n':
        return parse_number(value, &ret_settings->n_sources);
    case 'f':
        return parse_number(value, &ret_settings->first);
    case 'c':
        return parse_number(value, &ret_settings->count);
    case 'w':
        return parse_number(value, &ret_settings->window);
    default:
        return false;
    }
}

static bool find_operation(const char *name, enum load_operation *ret_operation)
{
    for (int i = 0; i < LOAD_OPERATIONS; i++) {
        if (strcmp(name, load_operation_name((enum load_operation) i)) == 0) {
            *ret_operation = (enum load_operation) i;
            return true;
        }
    }
    return false;
}

static bool operations_are_known(char *const *names)
{
    enum load_operation operation;
    for (size_t i = 0; names[i]; i++) {
        if (!find_operation(names[i], &operation))
            return false;
    }
    return names[0] != NULL;
}

/* False for whatever is wrong with them. */
static bool parse_arguments(int argc, char **argv, struct arguments *ret_arguments)
{
    static const struct option options[] = {
        {"server", required_argument, NULL, 'd'},
        {"source", required_argument, NULL, 's'},
        {"sources", required_argument, NULL, 'n'},
        {"first", required_argument, NULL, 'f'},
        {"count", required_argument, NULL, 'c'},
        {"window", required_argument, NULL, 'w'},
        {0},
    };
    struct load_settings load = {.n_sources = 1, .count = 1000, .window = 1};
    int letter;
    while ((letter = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (!take_option(letter, optarg, &load))
            return false;
    }
    ret_arguments->load = load;
    ret_arguments->operations = argv + optind;
    return operations_are_known(ret_arguments->operations) && load.server.port != 0 &&
           !ip_address_is_any(&load.first_source);
}

static double in_us(uint64_t ns)
{
    return (double) ns / (double) NS_PER_US;
}

static bool run_operation(struct load *load, enum load_operation operation)
{
    const char *name = load_operation_name(operation);
    struct load_result result;
    int error = load_run(load, operation, &result);
    if (error == -EBADMSG || error == -ETIMEDOUT) {
        fprintf(stderr, "pcp_load: %s\n", load_complaint(load));
        return false;
    }
    if (error < 0) {
        fprintf(stderr, "pcp_load: %s: %s\n", name, strerror(-error));
        return false;
    }
    printf("%s.rate %.0f 1/s\n", name, result.rate_per_s);
    printf("%s.p50 %.1f us\n", name, in_us(result.p50_ns));
    printf("%s.p99 %.1f us\n", name, in_us(result.p99_ns));
    return true;
}

int main(int argc, char **argv)
{
    struct arguments arguments;
    struct load *load;
    bool is_right = true;
    if (!parse_arguments(argc, argv, &arguments)) {
        fputs(USAGE, stderr);
        return 2;
    }
    int error = load_open(&arguments.load, &load);
    if (error < 0) {
        fprintf(stderr, "pcp_load: cannot begin: %s\n", strerror(-error));
        return 1;
    }
    for (size_t i = 0; arguments.operations[i] && is_right; i++) {
        enum load_operation operation;
        is_right =
            find_operation(arguments.operations[i], &operation) && run_operation(load, operation);
    }
    load_close(load);
    return is_right ? 0 : 1;
}
