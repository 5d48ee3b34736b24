/*
 * One table says of each option what it is called, which commands take it, how its value is read and how that value is
 * described to somebody who got it wrong. getopt_long(3) only finds them on the line.
 */

#include "programs/holdfast/arguments.h"

#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define LIFETIME_DEFAULT_S 7200
#define TIMEOUT_DEFAULT_S 10
#define TIMEOUT_MAX_S 86400

const char arguments_help[] =
    "usage: holdfast map PROTO PORT [--external-port N] [--external-address A] [--lifetime S]\n"
    "                    [--prefer-failure] [--filter PREFIX[,PORT]]... [--nonce HEX24] [COMMON]\n"
    "       holdfast unmap PROTO PORT --nonce HEX24 [COMMON]\n"
    "       holdfast announce [COMMON]\n"
    "       holdfast --help | --version\n"
    "\n"
    "Asks the gateway's PCP server (RFC 6887) once: for an inbound port, for its removal, or for\n"
    "its Epoch. PROTO is tcp, udp, sctp, dccp, udplite or a number; PORT 0 means all ports. It\n"
    "does not keep the mapping alive: that ends after its lifetime, unless asked for again with\n"
    "the same --nonce.\n"
    "\n"
    "  --external-port N        the port wished for outside (default: the server chooses)\n"
    "  --external-address A     the address wished for outside\n"
    "  --lifetime S             seconds asked for (default 7200)\n"
    "  --prefer-failure         rather nothing than another external port or address\n"
    "  --filter PREFIX[,PORT]   only these remote hosts (and port) may send; may be repeated;\n"
    "                           ::/0 removes the filters the mapping has\n"
    "  --nonce HEX24            the mapping's key, 24 hexadecimal digits (default: random)\n"
    "COMMON:\n"
    "  --server ADDR[:PORT]     the PCP server (default: the default route's gateway, port 5351)\n"
    "  --internal-address A     the address of this host to map and to send from\n"
    "  --timeout S              seconds to wait for an answer (default 10)\n"
    "  --json                   print one JSON object\n"
    "\n"
    "Exit status: 0 granted or done; 1 refused by the server; 2 wrong usage; 3 no answer in time;\n"
    "4 could not send (no server, no route); 5 the answer could not be written.\n";

#define FOR_MAP (1u << COMMAND_MAP)
#define FOR_UNMAP (1u << COMMAND_UNMAP)
#define FOR_ALL (FOR_MAP | FOR_UNMAP | (1u << COMMAND_ANNOUNCE))

struct rule {
    const char *name;
    unsigned commands;
    /* False when `value` is wrong. */
    bool (*read)(const char *value, struct arguments *arguments);
    const char *expected; /* NULL: takes no value */
    /* What is wrong with `value`, where `expected` does not say it well enough; may be NULL. */
    const char *(*explain)(const char *value, const struct arguments *arguments);
};

static bool read_number(const char *text, uint32_t min, uint32_t max, uint32_t *ret_number)
{
    char *end;
    errno = 0;
    unsigned long long number = strtoull(text, &end, 10);
    if (!isdigit((unsigned char) text[0]) || *end || errno || number < min || number > max)
        return false;
    *ret_number = (uint32_t) number;
    return true;
}

static bool read_port(const char *text, uint16_t *ret_port)
{
    uint32_t number;
    if (!read_number(text, 0, UINT16_MAX, &number))
        return false;
    *ret_port = (uint16_t) number;
    return true;
}

static bool read_external_port(const char *value, struct arguments *arguments)
{
    return read_port(value, &arguments->external.port);
}

static bool read_external_address(const char *value, struct arguments *arguments)
{
    arguments->has_external_address = true;
    return ip_address_parse(value, &arguments->external.address) == 0;
}

static bool read_lifetime(const char *value, struct arguments *arguments)
{
    return read_number(value, 1, UINT32_MAX, &arguments->lifetime_s);
}

static bool read_prefer_failure(const char *value, struct arguments *arguments)
{
    (void) value;
    arguments->prefers_failure = true;
    return true;
}

/* What is before the first `separator` in `value`, or all of it; false when that is too long for `ret_text`. */
static bool copy_before(const char *value, char separator, char *ret_text, size_t size_bytes)
{
    const char *end = strchrnul(value, separator);
    size_t length = (size_t) (end - value);
    if (length >= size_bytes)
        return false;
    memcpy(ret_text, value, length);
    ret_text[length] = '\0';
    return true;
}

static bool read_filter_prefix(const char *value, struct ip_prefix *ret_prefix)
{
    char text[IP_PREFIX_TEXT_SIZE];
    return copy_before(value, ',', text, sizeof(text)) && ip_prefix_parse(text, ret_prefix) == 0;
}

static bool read_filter(const char *value, struct arguments *arguments)
{
    struct pcp_filter filter = {0};
    const char *comma = strchr(value, ',');
    if (arguments->n_filters == ARGUMENTS_FILTERS_MAX ||
        !read_filter_prefix(value, &filter.remote) ||
        (comma && !read_port(comma + 1, &filter.remote_port)))
        return false;
    arguments->filters[arguments->n_filters++] = filter;
    return true;
}

/* Whether address and length of the prefix in `value` are right on their own. */
static bool has_good_parts(const char *value)
{
    char text[IP_PREFIX_TEXT_SIZE], address_text[IP_PREFIX_TEXT_SIZE];
    struct ip_address address;
    uint32_t length;
    if (!copy_before(value, ',', text, sizeof(text)) ||
        !copy_before(text, '/', address_text, sizeof(address_text)) ||
        ip_address_parse(address_text, &address) < 0)
        return false;
    const char *slash = strchr(text, '/');
    return slash && read_number(slash + 1, 0, ip_address_is_ipv4(&address) ? 32 : 128, &length);
}

static const char *explain_filter(const char *value, const struct arguments *arguments)
{
    struct ip_prefix prefix;
    if (arguments->n_filters == ARGUMENTS_FILTERS_MAX)
        return "too many: a request has no room for this one";
    if (read_filter_prefix(value, &prefix))
        return "what is behind the comma is not a port from 0 to 65535";
    if (has_good_parts(value))
        return "the address has bits set behind the prefix length";
    return "not an address, nor ADDRESS/LENGTH";
}

static bool read_nonce(const char *value, struct arguments *arguments)
{
    if (strlen(value) != sizeof(arguments->nonce) * 2)
        return false;
    for (size_t i = 0; i < sizeof(arguments->nonce); i++) {
        const char digits[3] = {value[2 * i], value[2 * i + 1], '\0'};
        if (!isxdigit((unsigned char) digits[0]) || !isxdigit((unsigned char) digits[1]))
            return false;
        arguments->nonce[i] = (uint8_t) strtoul(digits, NULL, 16);
    }
    arguments->has_nonce = true;
    return true;
}

/* "fe80::1%eth0" or "[fe80::1%eth0]:5351": the interface is cut out, the rest is an endpoint. */
static bool read_server(const char *value, struct arguments *arguments)
{
    char text[ENDPOINT_TEXT_SIZE];
    const char *percent = strchr(value, '%');
    size_t interface_size = percent ? strcspn(percent + 1, "]") : 0;
    if (percent && (interface_size == 0 || interface_size >= IF_NAMESIZE))
        return false;
    const char *rest = percent ? percent + 1 + interface_size : "";
    int length = snprintf(text, sizeof(text), "%.*s%s",
                          percent ? (int) (percent - value) : (int) strlen(value), value, rest);
    if (length < 0 || (size_t) length >= sizeof(text) ||
        endpoint_parse(text, PCP_SERVER_PORT, &arguments->server) < 0)
        return false;
    if (percent)
        memcpy(arguments->server_interface, percent + 1, interface_size);
    arguments->server_interface[interface_size] = '\0';
    arguments->has_server = true;
    return arguments->server.port != 0 && !ip_address_is_any(&arguments->server.address) &&
           !ip_address_is_multicast(&arguments->server.address);
}

static bool read_internal_address(const char *value, struct arguments *arguments)
{
    arguments->has_internal_address = true;
    return ip_address_parse(value, &arguments->internal_address) == 0 &&
           !ip_address_is_any(&arguments->internal_address);
}

static bool read_timeout(const char *value, struct arguments *arguments)
{
    return read_number(value, 1, TIMEOUT_MAX_S, &arguments->timeout_s);
}

static bool read_json(const char *value, struct arguments *arguments)
{
    (void) value;
    arguments->wants_json = true;
    return true;
}

static bool read_help(const char *value, struct arguments *arguments)
{
    (void) value;
    arguments->command = COMMAND_HELP;
    return true;
}

static bool read_version(const char *value, struct arguments *arguments)
{
    (void) value;
    arguments->command = COMMAND_VERSION;
    return true;
}

static const struct rule rules[] = {
    {"external-port", FOR_MAP, read_external_port, "a port from 0 to 65535"},
    {"external-address", FOR_MAP, read_external_address, "an IP address"},
    {"lifetime", FOR_MAP, read_lifetime, "seconds from 1 to 4294967295 (unmap removes)"},
    {"prefer-failure", FOR_MAP, read_prefer_failure, NULL},
    {"filter", FOR_MAP, read_filter, "PREFIX or PREFIX,PORT", explain_filter},
    {"nonce", FOR_MAP | FOR_UNMAP, read_nonce, "24 hexadecimal digits"},
    {"server", FOR_ALL, read_server, "a unicast address, or ADDRESS:PORT"},
    {"internal-address", FOR_ALL, read_internal_address, "an IP address of this host"},
    {"timeout", FOR_ALL, read_timeout, "seconds from 1 to 86400"},
    {"json", FOR_ALL, read_json, NULL},
    {"help", FOR_ALL, read_help, NULL},
    {"version", FOR_ALL, read_version, NULL},
};

static const struct {
    const char *name;
    enum command command;
    int n_words;
} commands[] = {
    {"map", COMMAND_MAP, 2},
    {"unmap", COMMAND_UNMAP, 2},
    {"announce", COMMAND_ANNOUNCE, 0},
};

__attribute__((format(printf, 2, 3))) static int complain(char *ret_complaint, const char *format,
                                                          ...)
{
    va_list values;
    va_start(values, format);
    vsnprintf(ret_complaint, ARGUMENTS_COMPLAINT_SIZE, format, values);
    va_end(values);
    return -EINVAL;
}

/* Bit i of `ret_seen`: rule i was used. Stops at --help and --version. */
static int read_options(int argc, char **argv, struct arguments *arguments, unsigned *ret_seen,
                        char *ret_complaint)
{
    struct option options[N_ELEMENTS(rules) + 1] = {0};
    for (size_t i = 0; i < N_ELEMENTS(rules); i++)
        options[i] = (struct option){rules[i].name,
                                     rules[i].expected ? required_argument : no_argument, NULL, 0};
    int found, index = 0;
    optind = 0; /* GNU: begin anew */
    while ((found = getopt_long(argc, argv, ":", options, &index)) == 0) {
        const struct rule *rule = &rules[index];
        if (!rule->read(optarg, arguments))
            return complain(ret_complaint, "--%s %s: %s%s", rule->name, optarg,
                            rule->explain ? "" : "expected ",
                            rule->explain ? rule->explain(optarg, arguments) : rule->expected);
        *ret_seen |= 1u << index;
        if (arguments->command == COMMAND_HELP || arguments->command == COMMAND_VERSION)
            return 0;
    }
    if (found == ':')
        return complain(ret_complaint, "%s needs a value", argv[optind - 1]);
    if (found == '?')
        return complain(ret_complaint, "%s is not an option of holdfast", argv[optind - 1]);
    return 0;
}

static const struct {
    const char *name;
    uint8_t number;
} protocols[] = {
    {"TCP", IPPROTO_TCP},   {"UDP", IPPROTO_UDP},         {"SCTP", IPPROTO_SCTP},
    {"DCCP", IPPROTO_DCCP}, {"UDPLITE", IPPROTO_UDPLITE},
};

const char *arguments_protocol_name(uint8_t protocol)
{
    for (size_t i = 0; i < N_ELEMENTS(protocols); i++) {
        if (protocols[i].number == protocol)
            return protocols[i].name;
    }
    return NULL;
}

static bool read_protocol(const char *text, uint8_t *ret_protocol)
{
    for (size_t i = 0; i < N_ELEMENTS(protocols); i++) {
        if (strcasecmp(text, protocols[i].name) == 0) {
            *ret_protocol = protocols[i].number;
            return true;
        }
    }
    uint32_t number;
    if (!read_number(text, 0, UINT8_MAX, &number))
        return false;
    *ret_protocol = (uint8_t) number;
    return true;
}

static int read_words(int n_words, char **words, struct arguments *arguments, char *ret_complaint)
{
    if (n_words == 0)
        return complain(ret_complaint, "a command is needed: map, unmap or announce");
    size_t i = 0;
    while (i < N_ELEMENTS(commands) && strcmp(words[0], commands[i].name) != 0)
        i++;
    if (i == N_ELEMENTS(commands))
        return complain(ret_complaint, "%s is not a command: map, unmap or announce", words[0]);
    arguments->command = commands[i].command;
    if (n_words - 1 > commands[i].n_words)
        return complain(ret_complaint, "%s: too much for %s", words[commands[i].n_words + 1],
                        words[0]);
    if (n_words - 1 < commands[i].n_words)
        return complain(ret_complaint, "%s needs PROTO and PORT", words[0]);
    if (commands[i].n_words == 0)
        return 0;
    if (!read_protocol(words[1], &arguments->protocol))
        return complain(ret_complaint,
                        "%s is not tcp, udp, sctp, dccp, udplite or a number up to 255", words[1]);
    if (!read_port(words[2], &arguments->internal_port))
        return complain(ret_complaint, "%s is not a port from 0 to 65535", words[2]);
    return 0;
}

/* What no server could grant is not sent. */
static int check_together(const struct arguments *arguments, unsigned seen, char *ret_complaint)
{
    for (size_t i = 0; i < N_ELEMENTS(rules); i++) {
        if ((seen & 1u << i) && !(rules[i].commands & 1u << arguments->command))
            return complain(ret_complaint, "--%s is for map only", rules[i].name);
    }
    if (arguments->command == COMMAND_UNMAP && !arguments->has_nonce)
        return complain(ret_complaint, "unmap needs the --nonce of the mapping");
    if (arguments->protocol == 0 && arguments->internal_port != 0)
        return complain(ret_complaint, "protocol 0 means all protocols: its PORT must be 0");
    if (arguments->prefers_failure && arguments->external.port == 0)
        return complain(ret_complaint, "--prefer-failure needs the --external-port it insists on");
    if (!arguments->has_server)
        return 0;
    const struct ip_address *server = &arguments->server.address;
    if (arguments->has_internal_address &&
        ip_address_is_ipv4(server) != ip_address_is_ipv4(&arguments->internal_address))
        return complain(ret_complaint, "--server and --internal-address are of different families");
    if (!ip_address_is_ipv4(server) && ip_address_is_link_local(server) &&
        arguments->server_interface[0] == '\0')
        return complain(ret_complaint, "a link-local --server needs its interface: ADDRESS%%NAME");
    return 0;
}

int arguments_parse(int argc, char **argv, struct arguments *ret_arguments, char *ret_complaint)
{
    struct arguments arguments = {
        .lifetime_s = LIFETIME_DEFAULT_S,
        .timeout_s = TIMEOUT_DEFAULT_S,
    };
    unsigned seen = 0;
    int error = read_options(argc, argv, &arguments, &seen, ret_complaint);
    if (error == 0 && arguments.command != COMMAND_HELP && arguments.command != COMMAND_VERSION) {
        error = read_words(argc - optind, argv + optind, &arguments, ret_complaint);
        if (error == 0)
            error = check_together(&arguments, seen, ret_complaint);
    }
    if (error == 0)
        *ret_arguments = arguments;
    return error;
}
