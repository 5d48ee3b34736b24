/*
 * Each type reads one word of the file and says what is wrong with it; what would be right is the
 * directive's to tell. Numbers are read by hand: strtoul(3) takes signs, wraps and skips spaces.
 */

#include "config/value.h"

#include <ctype.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/un.h>

#include "base/address.h"
#include "base/log.h"
#include "config/settings.h"

#define PATH_SIZE_MAX 4096

static int wrong(const char **ret_wrong, const char *what)
{
    *ret_wrong = what;
    return -EINVAL;
}

static bool items_equal(const struct value_kind *kind, const void *a, const void *b)
{
    return memcmp(a, b, kind->item_size_bytes) == 0;
}

/* Paths: items are char *. */

static int parse_path_below(const char *text, size_t size_max, void *ret_item,
                            const char **ret_wrong)
{
    if (text[0] != '/')
        return wrong(ret_wrong, "is not an absolute path");
    if (strlen(text) >= size_max)
        return wrong(ret_wrong, "is too long");
    for (const char *octet = text; *octet; octet++) {
        if (iscntrl((unsigned char) *octet))
            return wrong(ret_wrong, "holds a line end or tab");
    }
    char *copy = strdup(text);
    if (!copy)
        return -ENOMEM;
    memcpy(ret_item, &copy, sizeof(copy));
    return 0;
}

static int parse_path(const struct directive *directive, const char *text, void *ret_item,
                      const char **ret_wrong)
{
    (void) directive;
    return parse_path_below(text, PATH_SIZE_MAX, ret_item, ret_wrong);
}

static int parse_socket_path(const struct directive *directive, const char *text, void *ret_item,
                             const char **ret_wrong)
{
    (void) directive;
    return parse_path_below(text, sizeof(((struct sockaddr_un *) NULL)->sun_path), ret_item,
                            ret_wrong);
}

/* Backslash and quote are escaped, and '$' lest libconfuse puts in an environment variable. */
static void format_path(const void *item, char *ret_text)
{
    const char *path;
    memcpy(&path, item, sizeof(path));
    size_t length = 0;
    for (; *path && length + 3 < DIRECTIVE_VALUE_TEXT_SIZE; path++) {
        if (strchr("\\\"$", *path))
            ret_text[length++] = '\\';
        ret_text[length++] = *path;
    }
    ret_text[length] = '\0';
}

const struct value_kind value_path = {
    .item_size_bytes = sizeof(char *),
    .parse = parse_path,
    .format = format_path,
    .clashes = items_equal,
    .is_quoted = true,
    .is_owned = true,
};

const struct value_kind value_socket_path = {
    .item_size_bytes = sizeof(char *),
    .parse = parse_socket_path,
    .format = format_path,
    .clashes = items_equal,
    .is_quoted = true,
    .is_owned = true,
};

/* Log levels. */

static int parse_log_level(const struct directive *directive, const char *text, void *ret_item,
                           const char **ret_wrong)
{
    (void) directive;
    enum log_level level;
    if (log_level_parse(text, &level) < 0)
        return wrong(ret_wrong, "is not a log level");
    memcpy(ret_item, &level, sizeof(level));
    return 0;
}

static void format_log_level(const void *item, char *ret_text)
{
    enum log_level level;
    memcpy(&level, item, sizeof(level));
    strcpy(ret_text, log_level_name(level));
}

const struct value_kind value_log_level = {
    .item_size_bytes = sizeof(enum log_level),
    .parse = parse_log_level,
    .format = format_log_level,
    .clashes = items_equal,
    .is_quoted = true,
};

/* Interfaces: items are char[16]. */

#define INTERFACE_SIZE 16

static int parse_interface(const struct directive *directive, const char *text, void *ret_item,
                           const char **ret_wrong)
{
    (void) directive;
    size_t length = strlen(text);
    if (length == 0)
        return wrong(ret_wrong, "is empty");
    if (length >= INTERFACE_SIZE)
        return wrong(ret_wrong, "is too long");
    if (strcmp(text, ".") == 0 || strcmp(text, "..") == 0)
        return wrong(ret_wrong, "is not an interface name");
    for (size_t i = 0; i < length; i++) {
        if (text[i] == '/' || text[i] == ':' || isspace((unsigned char) text[i]))
            return wrong(ret_wrong, "holds '/', ':' or white space");
    }
    memcpy(ret_item, text, length);
    return 0;
}

static void format_interface(const void *item, char *ret_text)
{
    char raw[INTERFACE_SIZE];
    const char *name = raw;
    memcpy(raw, item, sizeof(raw));
    format_path(&name, ret_text);
}

const struct value_kind value_interface = {
    .item_size_bytes = INTERFACE_SIZE,
    .parse = parse_interface,
    .format = format_interface,
    .clashes = items_equal,
    .is_quoted = true,
};

/* Addresses. */

/* What keeps an address of either family from being an end of a mapping, or NULL. */
static const char *why_not_unicast(const struct ip_address *address)
{
    if (ip_address_is_any(address))
        return "is the unspecified address";
    if (ip_address_is_multicast(address))
        return "is a multicast address";
    if (ip_address_is_loopback(address))
        return "is a loopback address";
    if (ip_address_is_link_local(address))
        return "is a link-local address";
    if (!ip_address_is_ipv4(address))
        return NULL;
    uint32_t first_octet = ip_address_to_ipv4(address) >> 24;
    return first_octet == 0 || first_octet >= 240 ? "is a reserved address" : NULL;
}

static const char *why_not_external(const struct ip_address *address)
{
    if (!ip_address_is_any(address) && !ip_address_is_ipv4(address))
        return "is IPv6, where a mapping keeps its internal address";
    return why_not_unicast(address);
}

static int parse_external_address(const struct directive *directive, const char *text,
                                  void *ret_item, const char **ret_wrong)
{
    (void) directive;
    struct ip_address address;
    if (ip_address_parse(text, &address) < 0)
        return wrong(ret_wrong, "is not an address");
    const char *why = why_not_external(&address);
    if (why)
        return wrong(ret_wrong, why);
    memcpy(ret_item, &address, sizeof(address));
    return 0;
}

static void format_address(const void *item, char *ret_text)
{
    ip_address_format(item, ret_text);
}

const struct value_kind value_external_address = {
    .item_size_bytes = sizeof(struct ip_address),
    .parse = parse_external_address,
    .format = format_address,
    .clashes = items_equal,
    .is_quoted = true,
};

/* Prefixes. */

/* Whether the length alone is right, so that only bits behind it can be what is wrong. */
static bool has_bits_behind(const char *text)
{
    const char *slash = strchr(text, '/');
    char address_text[IP_ADDRESS_TEXT_SIZE];
    if (!slash || slash == text || (size_t) (slash - text) >= sizeof(address_text))
        return false;
    memcpy(address_text, text, (size_t) (slash - text));
    address_text[slash - text] = '\0';
    struct ip_address address;
    if (ip_address_parse(address_text, &address) < 0 || !isdigit((unsigned char) slash[1]) ||
        strspn(slash + 1, "0123456789") != strlen(slash + 1) || strlen(slash + 1) > 3)
        return false;
    return strtol(slash + 1, NULL, 10) <= (ip_address_is_ipv4(&address) ? 32 : 128);
}

static int read_prefix(const char *text, struct ip_prefix *ret_prefix, const char **ret_wrong)
{
    struct ip_prefix prefix = {0};
    if (ip_prefix_parse(text, &prefix) < 0)
        return wrong(ret_wrong, has_bits_behind(text) ? "has bits set behind the prefix length"
                                                      : "is not a prefix");
    if (ip_address_is_multicast(&prefix.address))
        return wrong(ret_wrong, "is a multicast prefix");
    *ret_prefix = prefix;
    return 0;
}

static int parse_prefix(const struct directive *directive, const char *text, void *ret_item,
                        const char **ret_wrong)
{
    (void) directive;
    struct ip_prefix prefix;
    int result = read_prefix(text, &prefix, ret_wrong);
    if (result == 0)
        memcpy(ret_item, &prefix, sizeof(prefix));
    return result;
}

static void format_prefix(const void *item, char *ret_text)
{
    ip_prefix_format(item, ret_text);
}

const struct value_kind value_prefix = {
    .item_size_bytes = sizeof(struct ip_prefix),
    .parse = parse_prefix,
    .format = format_prefix,
    .clashes = items_equal,
    .is_quoted = true,
};

/* Third parties: "SOURCE for TARGET". */

#define FOR " for "

static int parse_third_party(const struct directive *directive, const char *text, void *ret_item,
                             const char **ret_wrong)
{
    (void) directive;
    struct settings_third_party item = {0};
    char source[IP_PREFIX_TEXT_SIZE];
    const char *middle = strstr(text, FOR);
    if (!middle || (size_t) (middle - text) >= sizeof(source))
        return wrong(ret_wrong, "is not two prefixes with the word \"for\" between them");
    memcpy(source, text, (size_t) (middle - text));
    source[middle - text] = '\0';
    int result = read_prefix(source, &item.source, ret_wrong);
    if (result == 0)
        result = read_prefix(middle + strlen(FOR), &item.target, ret_wrong);
    if (result == 0)
        memcpy(ret_item, &item, sizeof(item));
    return result;
}

static void format_third_party(const void *item, char *ret_text)
{
    const struct settings_third_party *party = item;
    char source[IP_PREFIX_TEXT_SIZE], target[IP_PREFIX_TEXT_SIZE];
    snprintf(ret_text, DIRECTIVE_VALUE_TEXT_SIZE, "%s" FOR "%s",
             ip_prefix_format(&party->source, source), ip_prefix_format(&party->target, target));
}

const struct value_kind value_third_party = {
    .item_size_bytes = sizeof(struct settings_third_party),
    .parse = parse_third_party,
    .format = format_third_party,
    .clashes = items_equal,
    .is_quoted = true,
};

/* Endpoints. The port is never left out: a forgotten one must not open all of them. */

static int parse_endpoint(const struct directive *directive, const char *text, void *ret_item,
                          const char **ret_wrong)
{
    (void) directive;
    struct endpoint endpoint, other;
    if (endpoint_parse(text, 0, &endpoint) < 0 || endpoint_parse(text, 1, &other) < 0)
        return wrong(ret_wrong, "is not an address and a port");
    const char *why = why_not_unicast(&endpoint.address);
    if (why)
        return wrong(ret_wrong, why);
    if (endpoint.port != other.port)
        return wrong(ret_wrong, "is without a port");
    struct endpoint *item = ret_item;
    item->address = endpoint.address;
    item->port = endpoint.port;
    return 0;
}

static void format_endpoint(const void *item, char *ret_text)
{
    endpoint_format(item, ret_text);
}

const struct value_kind value_endpoint = {
    .item_size_bytes = sizeof(struct endpoint),
    .parse = parse_endpoint,
    .format = format_endpoint,
    .clashes = items_equal,
    .is_quoted = true,
};

/* Numbers. */

/* Decimal or 0x hexadecimal, of `length` characters. */
static bool read_number(const char *text, size_t length, uint64_t *ret_number)
{
    unsigned int base = 10;
    if (length > 2 && text[0] == '0' && (text[1] == 'x' || text[1] == 'X')) {
        base = 16;
        text += 2;
        length -= 2;
    }
    if (length == 0)
        return false;
    uint64_t number = 0;
    for (size_t i = 0; i < length; i++) {
        unsigned char octet = (unsigned char) text[i];
        if (base == 16 ? !isxdigit(octet) : !isdigit(octet))
            return false;
        unsigned int digit =
            (unsigned int) (isdigit(octet) ? octet - '0' : tolower(octet) - 'a' + 10);
        /* Saturates: anything above 32 bits is out of every range. */
        if (number <= UINT32_MAX)
            number = number * base + digit;
    }
    *ret_number = number;
    return true;
}

static int parse_number(const struct directive *directive, const char *text, void *ret_item,
                        const char **ret_wrong)
{
    uint64_t number;
    bool is_negative = text[0] == '-';
    if (!read_number(text + is_negative, strlen(text + is_negative), &number))
        return wrong(ret_wrong, "is not a whole number");
    if (is_negative || number < directive->minimum)
        return wrong(ret_wrong, "is too small");
    if (number > directive->maximum)
        return wrong(ret_wrong, "is too large");
    uint32_t value = (uint32_t) number;
    memcpy(ret_item, &value, sizeof(value));
    return 0;
}

static void format_number(const void *item, char *ret_text)
{
    uint32_t value;
    memcpy(&value, item, sizeof(value));
    snprintf(ret_text, DIRECTIVE_VALUE_TEXT_SIZE, "%u", value);
}

const struct value_kind value_number = {
    .item_size_bytes = sizeof(uint32_t),
    .parse = parse_number,
    .format = format_number,
    .clashes = items_equal,
};

/* Port ranges. */

static int parse_port(const char *text, size_t length, uint16_t *ret_port, const char **ret_wrong)
{
    uint64_t number;
    if (!read_number(text, length, &number))
        return wrong(ret_wrong, "is not a port or a range of ports");
    if (number == 0)
        return wrong(ret_wrong, "holds port 0");
    if (number > UINT16_MAX)
        return wrong(ret_wrong, "goes beyond port 65535");
    *ret_port = (uint16_t) number;
    return 0;
}

static int parse_port_range(const struct directive *directive, const char *text, void *ret_item,
                            const char **ret_wrong)
{
    (void) directive;
    struct settings_range range;
    const char *dash = strchr(text, '-');
    size_t first_length = dash ? (size_t) (dash - text) : strlen(text);
    int result = parse_port(text, first_length, &range.first, ret_wrong);
    if (result == 0 && dash)
        result = parse_port(dash + 1, strlen(dash + 1), &range.last, ret_wrong);
    if (result < 0)
        return result;
    if (!dash)
        range.last = range.first;
    if (range.first > range.last)
        return wrong(ret_wrong, "is reversed: its first port is above its last");
    memcpy(ret_item, &range, sizeof(range));
    return 0;
}

static void format_port_range(const void *item, char *ret_text)
{
    struct settings_range range;
    memcpy(&range, item, sizeof(range));
    if (range.first == range.last)
        snprintf(ret_text, DIRECTIVE_VALUE_TEXT_SIZE, "%u", range.first);
    else
        snprintf(ret_text, DIRECTIVE_VALUE_TEXT_SIZE, "%u-%u", range.first, range.last);
}

static bool ranges_overlap(const struct value_kind *kind, const void *a, const void *b)
{
    (void) kind;
    struct settings_range left, right;
    memcpy(&left, a, sizeof(left));
    memcpy(&right, b, sizeof(right));
    return left.first <= right.last && right.first <= left.last;
}

const struct value_kind value_port_range = {
    .item_size_bytes = sizeof(struct settings_range),
    .parse = parse_port_range,
    .format = format_port_range,
    .clashes = ranges_overlap,
    .is_quoted = true,
};

/* Booleans. */

static int parse_boolean(const struct directive *directive, const char *text, void *ret_item,
                         const char **ret_wrong)
{
    (void) directive;
    static const struct {
        const char *word;
        bool value;
    } words[] = {{"true", true},   {"yes", true}, {"on", true},
                 {"false", false}, {"no", false}, {"off", false}};
    for (size_t i = 0; i < N_ELEMENTS(words); i++) {
        if (strcmp(text, words[i].word) == 0) {
            memcpy(ret_item, &words[i].value, sizeof(words[i].value));
            return 0;
        }
    }
    return wrong(ret_wrong, "is neither true nor false");
}

static void format_boolean(const void *item, char *ret_text)
{
    bool value;
    memcpy(&value, item, sizeof(value));
    strcpy(ret_text, value ? "true" : "false");
}

const struct value_kind value_boolean = {
    .item_size_bytes = sizeof(bool),
    .parse = parse_boolean,
    .format = format_boolean,
    .clashes = items_equal,
};

/* Nonce policies. */

static const char *const nonce_policies[] = {
    [SETTINGS_NONCE_STRICT] = "strict",
    [SETTINGS_NONCE_ADOPT_SAME_HOST] = "adopt-same-host",
};

static int parse_nonce_policy(const struct directive *directive, const char *text, void *ret_item,
                              const char **ret_wrong)
{
    (void) directive;
    for (size_t i = 0; i < N_ELEMENTS(nonce_policies); i++) {
        enum settings_nonce_policy policy = (enum settings_nonce_policy) i;
        if (strcmp(text, nonce_policies[i]) != 0)
            continue;
        memcpy(ret_item, &policy, sizeof(policy));
        return 0;
    }
    return wrong(ret_wrong, "is not a nonce policy");
}

static void format_nonce_policy(const void *item, char *ret_text)
{
    enum settings_nonce_policy policy;
    memcpy(&policy, item, sizeof(policy));
    strcpy(ret_text, nonce_policies[policy]);
}

const struct value_kind value_nonce_policy = {
    .item_size_bytes = sizeof(enum settings_nonce_policy),
    .parse = parse_nonce_policy,
    .format = format_nonce_policy,
    .clashes = items_equal,
    .is_quoted = true,
};

/* Protocols. */

static const struct {
    const char *name;
    uint8_t number;
} protocols[] = {
    {"all", 0},
    {"tcp", IPPROTO_TCP},
    {"udp", IPPROTO_UDP},
    {"sctp", IPPROTO_SCTP},
    {"dccp", IPPROTO_DCCP},
    {"udplite", IPPROTO_UDPLITE},
};

static int parse_protocol(const struct directive *directive, const char *text, void *ret_item,
                          const char **ret_wrong)
{
    (void) directive;
    uint8_t *item = ret_item;
    for (size_t i = 0; i < N_ELEMENTS(protocols); i++) {
        if (strcasecmp(text, protocols[i].name) == 0) {
            *item = protocols[i].number;
            return 0;
        }
    }
    uint64_t number;
    if (!read_number(text, strlen(text), &number) || number > UINT8_MAX)
        return wrong(ret_wrong, "is not a protocol");
    *item = (uint8_t) number;
    return 0;
}

static void format_protocol(const void *item, char *ret_text)
{
    const uint8_t *number = item;
    snprintf(ret_text, DIRECTIVE_VALUE_TEXT_SIZE, "%u", *number);
    for (size_t i = 0; i < N_ELEMENTS(protocols); i++) {
        if (protocols[i].number == *number)
            strcpy(ret_text, protocols[i].name);
    }
}

const struct value_kind value_protocol = {
    .item_size_bytes = sizeof(uint8_t),
    .parse = parse_protocol,
    .format = format_protocol,
    .clashes = items_equal,
    .is_quoted = true,
};

/* Single ports, 0 for all. */

static int parse_any_port(const struct directive *directive, const char *text, void *ret_item,
                          const char **ret_wrong)
{
    (void) directive;
    uint64_t number;
    if (!read_number(text, strlen(text), &number))
        return wrong(ret_wrong, "is not a port");
    if (number > UINT16_MAX)
        return wrong(ret_wrong, "goes beyond port 65535");
    uint16_t port = (uint16_t) number;
    memcpy(ret_item, &port, sizeof(port));
    return 0;
}

static void format_port(const void *item, char *ret_text)
{
    uint16_t port;
    memcpy(&port, item, sizeof(port));
    snprintf(ret_text, DIRECTIVE_VALUE_TEXT_SIZE, "%u", port);
}

const struct value_kind value_port = {
    .item_size_bytes = sizeof(uint16_t),
    .parse = parse_any_port,
    .format = format_port,
    .clashes = items_equal,
};
