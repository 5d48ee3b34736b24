/*
 * A static mapping is checked here as far as the file goes: whether its ends fit each other, the
 * rest of the settings, and the other static mappings. What has no external address is mapped on
 * the first one there is, which may not be known before the daemon runs.
 */

#include "config/statics.h"

#include <ctype.h>
#include <netinet/in.h>
#include <string.h>

/* Not wire/'s: a folder includes what is below it (ARCHITECTURE.md). */
#define PCP_PORT_FIRST 5350
#define PCP_PORT_LAST 5351

/* One static mapping under examination. */
struct inspection {
    struct settings *settings;
    const struct document *document;
    size_t i;
    struct complaints *complaints;
};

static const struct settings_static *mapping_of(const struct inspection *inspection)
{
    return &inspection->settings->statics[inspection->i];
}

/* Line of an option of the n-th section, 0 when it is not given. */
static unsigned int line_of(const struct document *document, size_t n, const char *name)
{
    return document->statics[n].entries[directive_find(name, DIRECTIVE_STATIC)].line;
}

static bool was_given(const struct inspection *inspection, const char *name)
{
    return line_of(inspection->document, inspection->i, name) != 0;
}

/* The option that decided the external end. */
static const char *external_option(const struct document *document, size_t n)
{
    if (line_of(document, n, "external") != 0)
        return "external";
    return line_of(document, n, "external-port") != 0 ? "external-port" : "internal";
}

static void complain(const struct inspection *inspection, const char *option, const char *what)
{
    complaints_add(inspection->complaints, line_of(inspection->document, inspection->i, option),
                   "%s: %s", option, what);
}

static bool is_name(const char *title)
{
    size_t length = strlen(title);
    if (length == 0 || length >= SETTINGS_NAME_SIZE)
        return false;
    for (size_t i = 0; i < length; i++) {
        if (!isalnum((unsigned char) title[i]) && !strchr("-_.", title[i]))
            return false;
    }
    return true;
}

static const struct document_static *find_namesake(const struct document *document, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const char *title = document->statics[i].title;
        if (title && strcmp(title, document->statics[n].title) == 0)
            return &document->statics[i];
    }
    return NULL;
}

void statics_name(struct settings *settings, const struct document *document,
                  struct complaints *complaints)
{
    for (size_t i = 0; i < document->n_statics; i++) {
        const struct document_static *section = &document->statics[i];
        char quote[COMPLAINTS_QUOTE_SIZE];
        /* Without a title it lacks all options, which was complained of. */
        if (!section->title)
            continue;
        const struct document_static *namesake = find_namesake(document, i);
        if (!is_name(section->title))
            complaints_add(complaints, section->line,
                           DIRECTIVE_STATIC_NAME
                           ": \"%s\" is not a name; allowed: 1 to 31 letters, digits, '-', '_' "
                           "and '.'",
                           complaints_quote(section->title, quote));
        else if (namesake)
            complaints_add(complaints, section->line,
                           DIRECTIVE_STATIC_NAME
                           ": \"%s\" given again after line %u; allowed: each name once",
                           section->title, namesake->line);
        else
            strcpy(settings->statics[i].name, section->title);
    }
}

static void fill_external(const struct inspection *inspection)
{
    struct settings_static *mapping = &inspection->settings->statics[inspection->i];
    if (was_given(inspection, "external"))
        return;
    if (!was_given(inspection, "external-port"))
        mapping->external.port = mapping->internal.port;
    if (!ip_address_is_ipv4(&mapping->internal.address))
        mapping->external.address = mapping->internal.address;
}

/* IPv6 is not translated, IPv4 to IPv4 only. */
static bool check_families(const struct inspection *inspection)
{
    const struct settings_static *mapping = mapping_of(inspection);
    const char *option = external_option(inspection->document, inspection->i);
    if (!ip_address_is_ipv4(&mapping->internal.address)) {
        if (endpoint_equal(&mapping->external, &mapping->internal))
            return true;
        complain(inspection, option,
                 "is not that of internal, which is IPv6; allowed: the same, or nothing, as IPv6 "
                 "is not translated");
        return false;
    }
    if (ip_address_is_any(&mapping->external.address) ||
        ip_address_is_ipv4(&mapping->external.address))
        return true;
    complain(inspection, option, "is IPv6, and internal is IPv4; allowed: an IPv4 address");
    return false;
}

static bool has_ports(uint8_t protocol)
{
    return protocol == IPPROTO_TCP || protocol == IPPROTO_UDP || protocol == IPPROTO_SCTP ||
           protocol == IPPROTO_DCCP || protocol == IPPROTO_UDPLITE;
}

static bool check_whole_ports(const struct inspection *inspection)
{
    const struct settings_static *mapping = mapping_of(inspection);
    bool is_whole = mapping->internal.port == 0;
    if (is_whole != (mapping->external.port == 0))
        complain(inspection, external_option(inspection->document, inspection->i),
                 "one of internal and external has port 0, all ports, and the other has not; "
                 "allowed: port 0 in both or in none");
    else if (!is_whole && !has_ports(mapping->protocol))
        complain(inspection, "internal",
                 "has a port, which the protocol has not; allowed: port 0, or protocol tcp, udp, "
                 "sctp, dccp or udplite");
    else
        return true;
    return false;
}

static void check_internal(const struct inspection *inspection)
{
    const struct settings *settings = inspection->settings;
    for (size_t i = 0; i < settings->server.n_internal_prefixes; i++) {
        if (ip_prefix_contains(&settings->server.internal_prefixes[i],
                               &mapping_of(inspection)->internal.address))
            return;
    }
    complain(inspection, "internal",
             "is in none of internal-prefixes; allowed: an address in one of them");
}

static void check_external_address(const struct inspection *inspection)
{
    const struct settings *settings = inspection->settings;
    const struct ip_address *address = &mapping_of(inspection)->external.address;
    if (settings->server.n_external_addresses == 0 || ip_address_is_any(address))
        return;
    for (size_t i = 0; i < settings->server.n_external_addresses; i++) {
        if (ip_address_equal(&settings->server.external_addresses[i], address))
            return;
    }
    complain(inspection, "external",
             "is on none of external-addresses; allowed: an address of theirs");
}

static void check_external_port(const struct inspection *inspection)
{
    const struct settings *settings = inspection->settings;
    const struct settings_static *mapping = mapping_of(inspection);
    struct settings_range masquerade = settings->server.masquerade_ports;
    const char *option = external_option(inspection->document, inspection->i);
    uint16_t port = mapping->external.port;
    if (mapping->protocol == IPPROTO_UDP && port >= PCP_PORT_FIRST && port <= PCP_PORT_LAST)
        complain(inspection, option, "UDP 5350 and 5351 are PCP's own; allowed: other ports");
    /* As for external-ports: without masquerading the default disturbs nobody. */
    bool counts =
        settings->server.masquerade ||
        inspection->document->entries[directive_find("masquerade-ports", DIRECTIVE_SERVER)].line;
    if (counts && port >= masquerade.first && port <= masquerade.last)
        complain(inspection, option,
                 "the external port is in masquerade-ports; allowed: a port that is not");
}

static void check_one(const struct inspection *inspection)
{
    if (was_given(inspection, "external") && was_given(inspection, "external-port")) {
        complain(inspection, "external-port", "given beside external; allowed: one of the two");
        return;
    }
    fill_external(inspection);
    check_internal(inspection);
    if (!check_families(inspection) || !check_whole_ports(inspection) ||
        !ip_address_is_ipv4(&mapping_of(inspection)->internal.address))
        return;
    check_external_address(inspection);
    check_external_port(inspection);
}

/* What is not told may be any of the outside interface's, so it excludes all. */
static bool may_be_equal(const struct settings *settings, const struct ip_address *a,
                         const struct ip_address *b)
{
    if (settings->server.n_external_addresses > 0) {
        const struct ip_address *first = &settings->server.external_addresses[0];
        a = ip_address_is_any(a) ? first : a;
        b = ip_address_is_any(b) ? first : b;
    }
    return ip_address_is_any(a) || ip_address_is_any(b) || ip_address_equal(a, b);
}

/* The option by which `mapping` and `other` exclude each other, NULL when they do not. */
static const char *find_contradiction(const struct inspection *inspection, size_t other)
{
    const struct settings *settings = inspection->settings;
    const struct settings_static *a = &settings->statics[other], *b = mapping_of(inspection);
    if (a->protocol != b->protocol)
        return NULL;
    if (endpoint_equal(&a->internal, &b->internal))
        return "internal";
    bool is_same_family =
        ip_address_is_ipv4(&a->internal.address) == ip_address_is_ipv4(&b->internal.address);
    if (is_same_family && a->external.port == b->external.port &&
        may_be_equal(settings, &a->external.address, &b->external.address))
        return external_option(inspection->document, inspection->i);
    return NULL;
}

static void check_against_earlier(const struct inspection *inspection)
{
    const struct document *document = inspection->document;
    for (size_t i = 0; i < inspection->i; i++) {
        const char *option = find_contradiction(inspection, i);
        if (!option)
            continue;
        bool is_internal = endpoint_equal(&inspection->settings->statics[i].internal,
                                          &mapping_of(inspection)->internal);
        complaints_add(
            inspection->complaints, line_of(document, inspection->i, option),
            "%s: the %s endpoint is that of static \"%s\" in line %u; allowed: each "
            "once per protocol",
            option, is_internal ? "internal" : "external", inspection->settings->statics[i].name,
            line_of(document, i, is_internal ? "internal" : external_option(document, i)));
        return;
    }
}

void statics_complete(struct settings *settings, const struct document *document,
                      struct complaints *complaints)
{
    size_t n_before = complaints->n_items;
    for (size_t i = 0; i < settings->n_statics; i++)
        check_one(&(struct inspection){settings, document, i, complaints});
    if (complaints->n_items > n_before)
        return;
    for (size_t i = 0; i < settings->n_statics; i++)
        check_against_earlier(&(struct inspection){settings, document, i, complaints});
}

bool statics_has(const struct settings_static *mapping, const struct directive *directive)
{
    bool has_address = !ip_address_is_any(&mapping->external.address);
    if (strcmp(directive->name, "external") == 0)
        return has_address;
    return strcmp(directive->name, "external-port") != 0 || !has_address;
}
