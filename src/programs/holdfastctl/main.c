/* holdfastctl(8): one call to the daemon, and its answer on stdout. */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "control/client.h"
#include "programs/holdfastctl/arguments.h"
#include "programs/holdfastctl/render.h"

#define TIMEOUT_MS 10000

/* Of the process, holdfastctl(8). */
enum {
    STATUS_DONE = 0,
    STATUS_FAILED = 1,
    STATUS_USAGE = 2,
    STATUS_NO_DAEMON = 3,
};

static const char *const methods[] = {
    [HOLDFASTCTL_COMMAND_STATUS] = CONTROL_INTERFACE ".Status",
    [HOLDFASTCTL_COMMAND_LIST] = CONTROL_INTERFACE ".List",
    [HOLDFASTCTL_COMMAND_CLEAR] = CONTROL_INTERFACE ".Clear",
    [HOLDFASTCTL_COMMAND_RELOAD] = CONTROL_INTERFACE ".Reload",
    [HOLDFASTCTL_COMMAND_LOG_LEVEL] = CONTROL_INTERFACE ".SetLogLevel",
};

/* A daemon that is not there, or not able to answer, is told from one that refuses. */
static int fail_client(const struct control_client *client, int error)
{
    fprintf(stderr, "holdfastctl: %s\n", client->error);
    switch (error) {
    case -ENOENT:
    case -ECONNREFUSED:
    case -ECONNRESET:
    case -ETIMEDOUT:
        return STATUS_NO_DAEMON;
    default:
        return STATUS_FAILED;
    }
}

/* One reply that is not an error. */
static int receive(struct control_client *client, const char *method,
                   struct control_reply *ret_reply)
{
    int result = control_client_receive(client, ret_reply);
    if (result < 0)
        return fail_client(client, result);
    if (!ret_reply->error)
        return STATUS_DONE;
    render_error(stderr, method, ret_reply);
    control_reply_deinit(ret_reply);
    return STATUS_FAILED;
}

/* A stream that failed is noticed at the end; what fails here is memory. */
static int check_dump(int dumped)
{
    if (dumped == 0 || ferror(stdout))
        return STATUS_DONE;
    fputs("holdfastctl: out of memory\n", stderr);
    return STATUS_FAILED;
}

static int print_json(const json_t *value)
{
    int status = check_dump(json_dumpf(value, stdout, JSON_INDENT(2)));
    fputc('\n', stdout);
    return status;
}

static int print_reply(const struct arguments *arguments, json_t *parameters)
{
    if (arguments->json)
        return print_json(parameters);
    if (arguments->command == HOLDFASTCTL_COMMAND_STATUS) {
        render_status(stdout, parameters);
    } else if (arguments->command == HOLDFASTCTL_COMMAND_CLEAR) {
        json_int_t n = json_integer_value(json_object_get(parameters, "cleared"));
        printf("%" JSON_INTEGER_FORMAT " mapping%s cleared\n", n, n == 1 ? "" : "s");
    }
    return STATUS_DONE;
}

static int run_simple(struct control_client *client, const struct arguments *arguments)
{
    struct control_reply reply;
    int status = receive(client, methods[arguments->command], &reply);
    if (status != STATUS_DONE)
        return status;
    status = print_reply(arguments, reply.parameters);
    control_reply_deinit(&reply);
    return status;
}

/* Prints a list part by part, so that a long one costs no memory. */
struct list_printer {
    bool json;
    size_t n_replies, n_printed;
    struct render_table table;
};

/* The members of one reply's array, as a part of the one array of the output. */
static int print_json_part(struct list_printer *printer, const json_t *mappings)
{
    size_t i;
    json_t *mapping;
    int status = STATUS_DONE;
    if (printer->n_replies == 0)
        fputs("{\"mappings\": [", stdout);
    json_array_foreach(mappings, i, mapping)
    {
        fputs(printer->n_printed++ == 0 ? "\n" : ",\n", stdout);
        status = check_dump(json_dumpf(mapping, stdout, 0));
        if (status != STATUS_DONE)
            break;
    }
    return status;
}

static int print_part(struct list_printer *printer, const json_t *mappings)
{
    if (!json_is_array(mappings)) {
        fputs("holdfastctl: holdfastd sent a list without mappings\n", stderr);
        return STATUS_FAILED;
    }
    int status = STATUS_DONE;
    if (printer->json)
        status = print_json_part(printer, mappings);
    else
        render_table_add(&printer->table, stdout, mappings);
    printer->n_replies++;
    return status;
}

static void print_list_end(const struct list_printer *printer)
{
    if (printer->json)
        fputs(printer->n_printed == 0 ? "]}\n" : "\n]}\n", stdout);
    else
        render_table_end(&printer->table, stdout);
}

static int run_list(struct control_client *client, const struct arguments *arguments)
{
    struct list_printer printer = {.json = arguments->json};
    render_table_init(&printer.table);
    for (bool continues = true; continues;) {
        struct control_reply reply;
        int status = receive(client, methods[HOLDFASTCTL_COMMAND_LIST], &reply);
        if (status != STATUS_DONE)
            return status;
        continues = reply.continues;
        status = print_part(&printer, json_object_get(reply.parameters, "mappings"));
        control_reply_deinit(&reply);
        if (status != STATUS_DONE)
            return status;
    }
    print_list_end(&printer);
    return STATUS_DONE;
}

static int talk(struct control_client *client, struct arguments *arguments)
{
    bool is_list = arguments->command == HOLDFASTCTL_COMMAND_LIST;
    json_t *parameters = arguments->parameters;
    arguments->parameters = NULL;
    int result = control_client_call(client, methods[arguments->command], parameters, is_list);
    if (result < 0)
        return fail_client(client, result);
    return is_list ? run_list(client, arguments) : run_simple(client, arguments);
}

static int run(struct arguments *arguments)
{
    if (arguments->command == HOLDFASTCTL_COMMAND_HELP) {
        fputs(arguments_help, stdout);
        return STATUS_DONE;
    }
    if (arguments->command == HOLDFASTCTL_COMMAND_VERSION) {
        puts("holdfastctl " HOLDFAST_VERSION);
        return STATUS_DONE;
    }
    struct control_client client;
    int result = control_client_open(&client, arguments->socket_path, TIMEOUT_MS);
    int status = result < 0 ? fail_client(&client, result) : talk(&client, arguments);
    control_client_close(&client);
    return status;
}

int main(int argc, char **argv)
{
    struct arguments arguments;
    char error[ARGUMENTS_ERROR_SIZE] = "out of memory";
    int result = arguments_parse(argc, argv, getenv("HOLDFAST_CONTROL"), &arguments, error);
    if (result < 0) {
        fprintf(stderr, "holdfastctl: %s%s\n", error,
                result == -EINVAL ? " (see holdfastctl --help)" : "");
        return result == -EINVAL ? STATUS_USAGE : STATUS_FAILED;
    }
    int status = run(&arguments);
    arguments_deinit(&arguments);
    if (fflush(stdout) != 0 || ferror(stdout)) {
        fprintf(stderr, "holdfastctl: cannot write the answer: %s\n", strerror(errno));
        return status == STATUS_DONE ? STATUS_FAILED : status;
    }
    return status;
}
