/*
 * Options become the parameters of the call at once, so that what the daemon is sent is what was
 * typed. Which command takes which option is one table.
 */

#include "programs/holdfastctl/arguments.h"

#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/address.h"
#include "base/log.h"
#include "control/client.h"
#include "control/filter.h"

const char arguments_help[] =
    "usage: holdfastctl [--socket PATH] [--json] COMMAND\n"
    "\n"
    "  status                  how the daemon does: Epoch, mappings, store, kernel, counters\n"
    "  list [FILTER...]        the mappings in force\n"
    "  clear --subscriber A    end the mappings of an address or prefix\n"
    "  clear --id N            end one mapping\n"
    "  clear --all             end all mappings\n"
    "  reload                  read the configuration file again\n"
    "  log-level LEVEL         error, warning, notice, info or debug\n"
    "\n"
    "  filters of list: --subscriber ADDRESS|PREFIX, --protocol tcp|udp|NUMBER,\n"
    "                   --internal-port N, --external-port N, --id N\n"
    "\n"
    "  --socket PATH           the daemon's control socket (default: $HOLDFAST_CONTROL,\n"
    "                          else " CONTROL_DEFAULT_SOCKET ")\n"
    "  --json                  print the daemon's answer as JSON\n"
    "  --help, --version\n"
    "\n"
    "exit status: 0 done; 1 refused or failed; 2 wrong usage; 3 no daemon\n";

enum option_code {
    OPTION_SUBSCRIBER,
    OPTION_PROTOCOL,
    OPTION_INTERNAL_PORT,
    OPTION_EXTERNAL_PORT,
    OPTION_ID,
    OPTION_ALL,
    N_PARAMETER_OPTIONS, /* those above become parameters */
    OPTION_SOCKET,
    OPTION_JSON,
    OPTION_HELP,
    OPTION_VERSION,
};

/* getopt_long(3) tells them from its own returns ('?' and ':') by the offset. */
#define OPTION_BASE 256

static const struct option long_options[] = {
    {"subscriber", required_argument, NULL, OPTION_BASE + OPTION_SUBSCRIBER},
    {"protocol", required_argument, NULL, OPTION_BASE + OPTION_PROTOCOL},
    {"internal-port", required_argument, NULL, OPTION_BASE + OPTION_INTERNAL_PORT},
    {"external-port", required_argument, NULL, OPTION_BASE + OPTION_EXTERNAL_PORT},
    {"id", required_argument, NULL, OPTION_BASE + OPTION_ID},
    {"all", no_argument, NULL, OPTION_BASE + OPTION_ALL},
    {"socket", required_argument, NULL, OPTION_BASE + OPTION_SOCKET},
    {"json", no_argument, NULL, OPTION_BASE + OPTION_JSON},
    {"help", no_argument, NULL, OPTION_BASE + OPTION_HELP},
    {"version", no_argument, NULL, OPTION_BASE + OPTION_VERSION},
    {NULL, 0, NULL, 0},
};

/* How the value of an option becomes a parameter. */
struct parameter_option {
    const char *name; /* the option's, without dashes */
    const char *parameter;
    json_t *(*convert)(const char *text); /* NULL: wrong, or out of memory */
    const char *allowed;
};

static json_t *convert_number(const char *text, int64_t maximum)
{
    size_t length = strlen(text);
    if (length == 0 || strspn(text, "0123456789") != length)
        return NULL;
    errno = 0;
    long long number = strtoll(text, NULL, 10);
    return errno != 0 || number > maximum ? NULL : json_integer(number);
}

static json_t *convert_port(const char *text)
{
    return convert_number(text, UINT16_MAX);
}

static json_t *convert_id(const char *text)
{
    return strspn(text, "0") == strlen(text) ? NULL : convert_number(text, INT64_MAX);
}

static json_t *convert_subscriber(const char *text)
{
    struct ip_prefix prefix;
    return ip_prefix_parse(text, &prefix) < 0 ? NULL : json_string(text);
}

static json_t *convert_protocol(const char *text)
{
    uint8_t protocol;
    return control_protocol_parse(text, &protocol) < 0 ? NULL : json_integer(protocol);
}

static json_t *convert_all(const char *text)
{
    (void) text;
    return json_true();
}

static const struct parameter_option parameter_options[N_PARAMETER_OPTIONS] = {
    [OPTION_SUBSCRIBER] = {"subscriber", "subscriber", convert_subscriber,
                           "an address, or a prefix without bits behind its length"},
    [OPTION_PROTOCOL] = {"protocol", "protocol", convert_protocol,
                         "tcp, udp, sctp, dccp, udplite, icmp, icmpv6, all, or 0 to 255"},
    [OPTION_INTERNAL_PORT] = {"internal-port", "internal_port", convert_port, "0 to 65535"},
    [OPTION_EXTERNAL_PORT] = {"external-port", "external_port", convert_port, "0 to 65535"},
    [OPTION_ID] = {"id", "id", convert_id, "a number from 1"},
    [OPTION_ALL] = {"all", "all", convert_all, ""},
};

#define BIT(option) (1U << (option))

static const struct command {
    const char *name;
    enum holdfastctl_command command;
    unsigned int options;  /* bits of the parameter options it takes */
    const char *parameter; /* of the word behind it, or NULL */
} commands[] = {
    {.name = "status", .command = HOLDFASTCTL_COMMAND_STATUS},
    {.name = "list",
     .command = HOLDFASTCTL_COMMAND_LIST,
     .options = BIT(OPTION_SUBSCRIBER) | BIT(OPTION_PROTOCOL) | BIT(OPTION_INTERNAL_PORT) |
                BIT(OPTION_EXTERNAL_PORT) | BIT(OPTION_ID)},
    {.name = "clear",
     .command = HOLDFASTCTL_COMMAND_CLEAR,
     .options = BIT(OPTION_SUBSCRIBER) | BIT(OPTION_ID) | BIT(OPTION_ALL)},
    {.name = "reload", .command = HOLDFASTCTL_COMMAND_RELOAD},
    {.name = "log-level", .command = HOLDFASTCTL_COMMAND_LOG_LEVEL, .parameter = "level"},
};

/* What the options said, before the command is known. */
struct raw {
    const char *values[N_PARAMETER_OPTIONS]; /* NULL: not given */
    const char *socket_path;
    bool json, help, version;
};

static int fail(char *ret_error, const char *format, ...) __attribute__((format(printf, 2, 3)));

static int fail(char *ret_error, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(ret_error, ARGUMENTS_ERROR_SIZE, format, arguments);
    va_end(arguments);
    return -EINVAL;
}

static int take_option(int code, struct raw *raw, char *ret_error)
{
    switch (code) {
    case OPTION_SOCKET:
        if (*optarg == '\0')
            return fail(ret_error, "--socket needs a path");
        raw->socket_path = optarg;
        return 0;
    case OPTION_JSON:
        raw->json = true;
        return 0;
    case OPTION_HELP:
        raw->help = true;
        return 0;
    case OPTION_VERSION:
        raw->version = true;
        return 0;
    default:
        if (raw->values[code])
            return fail(ret_error, "--%s is given twice", parameter_options[code].name);
        raw->values[code] = optarg ? optarg : "";
        return 0;
    }
}

static int read_options(int argc, char **argv, struct raw *raw, char *ret_error)
{
    optind = 0; /* GNU: start anew, whatever was parsed before */
    opterr = 0;
    for (;;) {
        int code = getopt_long(argc, argv, ":", long_options, NULL);
        if (code == -1)
            return 0;
        if (code == ':')
            return fail(ret_error, "%.64s needs a value", argv[optind - 1]);
        if (code == '?' && optopt >= OPTION_BASE)
            return fail(ret_error, "%.64s takes no value", argv[optind - 1]);
        if (code == '?' && optopt != 0)
            return fail(ret_error, "unknown option -%c", optopt);
        if (code == '?')
            return fail(ret_error, "unknown option %.64s", argv[optind - 1]);
        int result = take_option(code - OPTION_BASE, raw, ret_error);
        if (result < 0)
            return result;
    }
}

static const struct command *find_command(const char *name)
{
    for (size_t i = 0; i < N_ELEMENTS(commands); i++) {
        if (strcmp(commands[i].name, name) == 0)
            return &commands[i];
    }
    return NULL;
}

static int add_parameter(json_t *parameters, const struct parameter_option *option,
                         const char *text, char *ret_error)
{
    json_t *value = option->convert(text);
    if (!value)
        return fail(ret_error, "--%s: \"%.64s\" is wrong; allowed: %s", option->name, text,
                    option->allowed);
    return json_object_set_new(parameters, option->parameter, value) < 0 ? -ENOMEM : 0;
}

static int add_parameters(const struct command *command, const struct raw *raw, json_t *parameters,
                          char *ret_error)
{
    for (size_t i = 0; i < N_PARAMETER_OPTIONS; i++) {
        if (!raw->values[i])
            continue;
        if (!(command->options & BIT(i)))
            return fail(ret_error, "%s does not take --%s", command->name,
                        parameter_options[i].name);
        int result = add_parameter(parameters, &parameter_options[i], raw->values[i], ret_error);
        if (result < 0)
            return result;
    }
    if (command->command == HOLDFASTCTL_COMMAND_CLEAR && json_object_size(parameters) != 1)
        return fail(ret_error, "clear needs exactly one of --subscriber, --id and --all");
    return 0;
}

static int add_level(json_t *parameters, const char *text, char *ret_error)
{
    enum log_level level;
    if (log_level_parse(text, &level) < 0)
        return fail(ret_error,
                    "log-level: \"%.64s\" is wrong; allowed: error, warning, notice, info or debug",
                    text);
    return json_object_set_new(parameters, "level", json_string(text)) < 0 ? -ENOMEM : 0;
}

/* `words` are what is left of the command line without the options. */
static int fill_parameters(const struct command *command, const struct raw *raw, char **words,
                           int n_words, json_t *parameters, char *ret_error)
{
    int n_expected = command->parameter ? 2 : 1;
    if (n_words < n_expected)
        return fail(ret_error, "%s needs a level", command->name);
    if (n_words > n_expected)
        return fail(ret_error, "unexpected word \"%.64s\"", words[n_expected]);
    int result = add_parameters(command, raw, parameters, ret_error);
    if (result == 0 && command->parameter)
        result = add_level(parameters, words[1], ret_error);
    return result;
}

static int choose_command(const struct raw *raw, char **words, int n_words,
                          struct arguments *arguments, char *ret_error)
{
    if (raw->help || raw->version) {
        arguments->command = raw->help ? HOLDFASTCTL_COMMAND_HELP : HOLDFASTCTL_COMMAND_VERSION;
        return 0;
    }
    if (n_words == 0)
        return fail(ret_error, "a command is missing");
    const struct command *command = find_command(words[0]);
    if (!command)
        return fail(ret_error, "unknown command \"%.64s\"", words[0]);
    json_t *parameters = json_object();
    if (!parameters)
        return -ENOMEM;
    int result = fill_parameters(command, raw, words, n_words, parameters, ret_error);
    if (result < 0) {
        json_decref(parameters);
        return result;
    }
    arguments->command = command->command;
    arguments->parameters = parameters;
    return 0;
}

int arguments_parse(int argc, char **argv, const char *environment_socket,
                    struct arguments *ret_arguments, char *ret_error)
{
    struct raw raw = {0};
    int result = read_options(argc, argv, &raw, ret_error);
    if (result < 0)
        return result;
    struct arguments arguments = {.json = raw.json, .socket_path = CONTROL_DEFAULT_SOCKET};
    if (environment_socket && *environment_socket)
        arguments.socket_path = environment_socket;
    if (raw.socket_path)
        arguments.socket_path = raw.socket_path;
    result = choose_command(&raw, argv + optind, argc - optind, &arguments, ret_error);
    if (result == 0)
        *ret_arguments = arguments;
    return result;
}

void arguments_deinit(struct arguments *arguments)
{
    json_decref(arguments->parameters);
    arguments->parameters = NULL;
}
