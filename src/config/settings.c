/*
 * From values as text to checked settings: each value by its type, then what only holds between
 * options. Defaults go through the same parsers as the file.
 */

#include "config/settings.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "config/complaints.h"
#include "config/directive.h"
#include "config/document.h"
#include "config/statics.h"
#include "config/text.h"
#include "config/value.h"

/* `base`: the struct settings, or the struct settings_static, that the directive is about. */
static void *item_at(void *base, const struct directive *directive, size_t i)
{
    return (char *) base + directive->offset + i * directive->kind->item_size_bytes;
}

static size_t *count_of(void *base, const struct directive *directive)
{
    void *count = (char *) base + directive->count_offset;
    return count;
}

static size_t n_items_of(const void *base, const struct directive *directive)
{
    if (!directive_is_list(directive))
        return 1;
    size_t n_items;
    memcpy(&n_items, (const char *) base + directive->count_offset, sizeof(n_items));
    return n_items;
}

static void complain_value(struct complaints *complaints, const struct directive *directive,
                           const struct document_value *value, const char *what)
{
    char quote[COMPLAINTS_QUOTE_SIZE], allowed[DIRECTIVE_ALLOWED_SIZE];
    complaints_add(complaints, value->line, "%s: \"%s\" %s; allowed: %s", directive->name,
                   complaints_quote(value->text, quote), what,
                   directive_allowed(directive, allowed));
}

static void complain_clash(struct complaints *complaints, const struct directive *directive,
                           const struct document_value *value, const char *other)
{
    char quote[COMPLAINTS_QUOTE_SIZE], other_quote[COMPLAINTS_QUOTE_SIZE];
    complaints_add(complaints, value->line,
                   "%s: \"%s\" repeats or overlaps \"%s\"; allowed: each value once",
                   directive->name, complaints_quote(value->text, quote),
                   complaints_quote(other, other_quote));
}

/* Index of the earlier item that excludes item `n`, or `n`. */
static size_t find_clash(void *base, const struct directive *directive, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (directive->kind->clashes(directive->kind, item_at(base, directive, i),
                                     item_at(base, directive, n)))
            return i;
    }
    return n;
}

/* 0 also when the value is wrong and was complained of. */
static int fill_value(void *base, const struct directive *directive, size_t n,
                      const struct document_value *value, struct complaints *complaints)
{
    void *item = item_at(base, directive, n);
    memset(item, 0, directive->kind->item_size_bytes);
    const char *what = NULL;
    int result = directive->kind->parse(directive, value->text, item, &what);
    if (result == -ENOMEM)
        return result;
    if (result < 0) {
        complain_value(complaints, directive, value, what);
        return 0;
    }
    size_t clash = find_clash(base, directive, n);
    if (clash < n) {
        char text[DIRECTIVE_VALUE_TEXT_SIZE];
        directive->kind->format(item_at(base, directive, clash), text);
        complain_clash(complaints, directive, value, text);
        memset(item, 0, directive->kind->item_size_bytes);
        return 0;
    }
    if (directive_is_list(directive))
        (*count_of(base, directive))++;
    return 0;
}

static int fill_defaults(void *base, const struct directive *directive)
{
    for (size_t i = 0; directive->defaults[i]; i++) {
        const char *what;
        int result = directive->kind->parse(directive, directive->defaults[i],
                                            item_at(base, directive, i), &what);
        if (result < 0)
            return result;
        if (directive_is_list(directive))
            *count_of(base, directive) = i + 1;
    }
    return 0;
}

/* Whether the number of values is right. */
static bool check_count(const struct directive *directive, const struct document_entry *entry,
                        struct complaints *complaints)
{
    char allowed[DIRECTIVE_ALLOWED_SIZE];
    directive_allowed(directive, allowed);
    if (entry->n_values < directive->n_min) {
        complaints_add(complaints, entry->line, "%s: without a value; allowed: %s", directive->name,
                       allowed);
        return false;
    }
    if (entry->n_values <= directive->n_max)
        return true;
    unsigned int line = entry->values[directive->n_max].line;
    if (directive->n_max == 1)
        complaints_add(complaints, line, "%s: more than one value; allowed: %s", directive->name,
                       allowed);
    else
        complaints_add(complaints, line, "%s: %zu values; allowed: at most %zu", directive->name,
                       entry->n_values, directive->n_max);
    return false;
}

static int fill_directive(void *base, const struct directive *directive,
                          const struct document_entry *entry, struct complaints *complaints)
{
    if (entry->line == 0)
        return fill_defaults(base, directive);
    if (!check_count(directive, entry, complaints))
        return 0;
    for (size_t i = 0; i < entry->n_values; i++) {
        size_t n = directive_is_list(directive) ? n_items_of(base, directive) : 0;
        int result = fill_value(base, directive, n, &entry->values[i], complaints);
        if (result < 0)
            return result;
    }
    return 0;
}

static int fill_section(void *base, enum directive_section section,
                        const struct document_entry *entries, struct complaints *complaints)
{
    for (size_t i = 0; i < n_directives; i++) {
        if (directives[i].section != section)
            continue;
        int result = fill_directive(base, &directives[i], &entries[i], complaints);
        if (result < 0)
            return result;
    }
    return 0;
}

static int fill(struct settings *settings, const struct document *document,
                struct complaints *complaints)
{
    int result = fill_section(settings, DIRECTIVE_TOP, document->entries, complaints);
    if (result == 0)
        result = fill_section(settings, DIRECTIVE_SERVER, document->entries, complaints);
    for (size_t i = 0; result == 0 && i < document->n_statics; i++)
        result = fill_section(&settings->statics[i], DIRECTIVE_STATIC, document->statics[i].entries,
                              complaints);
    settings->n_statics = document->n_statics;
    return result;
}

static void check_required_in(enum directive_section section, unsigned int line,
                              const struct document_entry *entries, struct complaints *complaints)
{
    for (size_t i = 0; i < n_directives; i++) {
        char allowed[DIRECTIVE_ALLOWED_SIZE];
        if (directives[i].section == section && directives[i].is_required && entries[i].line == 0)
            complaints_add(complaints, line, "%s: missing in section %s; allowed: %s",
                           directives[i].name, directive_section_name(section),
                           directive_allowed(&directives[i], allowed));
    }
}

static void check_required(const struct document *document, struct complaints *complaints)
{
    if (document->server_line == 0)
        complaints_add(complaints, 1,
                       "section " DIRECTIVE_SERVER_NAME
                       " is missing; allowed: " DIRECTIVE_SERVER_NAME " { ... }");
    else
        check_required_in(DIRECTIVE_SERVER, document->server_line, document->entries, complaints);
    for (size_t i = 0; i < document->n_statics; i++)
        check_required_in(DIRECTIVE_STATIC, document->statics[i].line, document->statics[i].entries,
                          complaints);
}

/* Line of a directive, 0 when the file does not give it. */
static unsigned int line_of(const struct document *document, const char *name)
{
    return document->entries[directive_find(name, DIRECTIVE_SERVER)].line;
}

/* Line of the value that became item `n` of a list all of whose values are good. */
static unsigned int line_of_item(const struct document *document, const char *name, size_t n)
{
    return document->entries[directive_find(name, DIRECTIVE_SERVER)].values[n].line;
}

static void check_lifetimes(const struct settings *settings, const struct document *document,
                            struct complaints *complaints)
{
    if (settings->server.lifetime_min_s <= settings->server.lifetime_max_s)
        return;
    unsigned int line = line_of(document, "lifetime-min");
    if (line != 0)
        complaints_add(complaints, line,
                       "lifetime-min: %u is above lifetime-max; allowed: at most %u seconds",
                       settings->server.lifetime_min_s, settings->server.lifetime_max_s);
    else
        complaints_add(complaints, line_of(document, "lifetime-max"),
                       "lifetime-max: %u is below lifetime-min; allowed: at least %u seconds",
                       settings->server.lifetime_max_s, settings->server.lifetime_min_s);
}

static void check_interfaces(const struct settings *settings, const struct document *document,
                             struct complaints *complaints)
{
    for (size_t i = 0; i < settings->server.n_inside_interfaces; i++) {
        if (strcmp(settings->server.inside_interfaces[i], settings->server.outside_interface) == 0)
            complaints_add(complaints, line_of(document, "outside-interface"),
                           "outside-interface: \"%s\" is in inside-interfaces, too; allowed: an "
                           "interface that is not inside",
                           settings->server.outside_interface);
    }
}

static void complain_port_overlap(const struct settings *settings, const struct document *document,
                                  size_t n, struct complaints *complaints)
{
    char masquerade[DIRECTIVE_VALUE_TEXT_SIZE], external[DIRECTIVE_VALUE_TEXT_SIZE];
    unsigned int line = line_of(document, "masquerade-ports");
    value_port_range.format(&settings->server.masquerade_ports, masquerade);
    value_port_range.format(&settings->server.external_ports[n], external);
    if (line != 0)
        complaints_add(complaints, line,
                       "masquerade-ports: \"%s\" overlaps \"%s\" of external-ports; "
                       "allowed: ports that are not in external-ports",
                       masquerade, external);
    else
        complaints_add(complaints, line_of_item(document, "external-ports", n),
                       "external-ports: \"%s\" overlaps \"%s\", the default of "
                       "masquerade-ports; allowed: ports that are not in masquerade-ports",
                       external, masquerade);
}

/* Without masquerading the default of masquerade-ports disturbs nobody. */
static void check_port_overlap(const struct settings *settings, const struct document *document,
                               struct complaints *complaints)
{
    struct settings_range masquerade = settings->server.masquerade_ports;
    if (!settings->server.masquerade && line_of(document, "masquerade-ports") == 0)
        return;
    for (size_t i = 0; i < settings->server.n_external_ports; i++) {
        struct settings_range range = settings->server.external_ports[i];
        if (range.first <= masquerade.last && masquerade.first <= range.last)
            complain_port_overlap(settings, document, i, complaints);
    }
}

/* Settings from a prepared text. The complaints decide whether they are good. */
static int read_document(const char *text, struct settings *settings, struct complaints *complaints)
{
    struct document document;
    int parsed = document_parse(text, &document, complaints);
    int result = parsed == -EINVAL ? 0 : parsed;
    if (result == 0)
        result = fill(settings, &document, complaints);
    if (result == 0 && parsed == 0)
        check_required(&document, complaints);
    if (result == 0)
        statics_name(settings, &document, complaints);
    /* Wrong values are not in `settings`, so comparing others with them would mislead. */
    if (result == 0 && complaints->n_items == 0) {
        check_lifetimes(settings, &document, complaints);
        check_interfaces(settings, &document, complaints);
        check_port_overlap(settings, &document, complaints);
        statics_complete(settings, &document, complaints);
    }
    document_deinit(&document);
    return result;
}

static int read_text(const char *path, char *text, size_t size_bytes, struct settings *settings,
                     char **ret_error)
{
    struct complaints complaints;
    complaints_init(&complaints);
    int result = text_prepare(text, size_bytes, &complaints);
    if (result == 0)
        result = read_document(text, settings, &complaints);
    if (result != -ENOMEM && complaints.n_items > 0) {
        *ret_error = complaints_format(&complaints, path);
        result = *ret_error ? -EINVAL : -ENOMEM;
    }
    if (complaints.out_of_memory)
        result = -ENOMEM;
    complaints_deinit(&complaints);
    return result;
}

static const char *describe_unreadable(int error)
{
    return error == -EINVAL ? "is not a regular file" : strerror(-error);
}

int settings_load(const char *path, struct settings *ret_settings, char **ret_error)
{
    char *text, *error = NULL;
    size_t size_bytes;
    struct settings settings = {0};
    int result = text_read(path, &text, &size_bytes);
    if (result == 0) {
        result = read_text(path, text, size_bytes, &settings, &error);
        free(text);
    }
    if (result == 0) {
        *ret_settings = settings;
        return 0;
    }
    settings_deinit(&settings);
    if (result != -EINVAL || !error) {
        free(error);
        if (asprintf(&error, "%s: %s", path, describe_unreadable(result)) < 0)
            error = NULL;
    }
    *ret_error = error;
    return result;
}

void settings_deinit(struct settings *settings)
{
    for (size_t i = 0; i < n_directives; i++) {
        if (!directives[i].kind->is_owned)
            continue;
        char **item = item_at(settings, &directives[i], 0);
        free(*item);
        *item = NULL;
    }
}

static void dump_directive(const void *base, const struct directive *directive, FILE *stream)
{
    char text[DIRECTIVE_VALUE_TEXT_SIZE];
    const char *quote = directive->kind->is_quoted ? "\"" : "";
    fprintf(stream, "%s%s = %s", directive->section == DIRECTIVE_TOP ? "" : "    ", directive->name,
            directive_is_list(directive) ? "{" : "");
    for (size_t i = 0; i < n_items_of(base, directive); i++) {
        const char *item =
            (const char *) base + directive->offset + i * directive->kind->item_size_bytes;
        directive->kind->format(item, text);
        fprintf(stream, "%s%s%s%s", i == 0 ? "" : ", ", quote, text, quote);
    }
    fprintf(stream, "%s\n", directive_is_list(directive) ? "}" : "");
}

static void dump_section(const struct settings *settings, enum directive_section section,
                         FILE *stream)
{
    for (size_t i = 0; i < n_directives; i++) {
        if (directives[i].section == section)
            dump_directive(settings, &directives[i], stream);
    }
}

static void dump_static(const struct settings_static *mapping, FILE *stream)
{
    fprintf(stream, "\n" DIRECTIVE_STATIC_NAME " \"%s\" {\n", mapping->name);
    for (size_t i = 0; i < n_directives; i++) {
        if (directives[i].section == DIRECTIVE_STATIC && statics_has(mapping, &directives[i]))
            dump_directive(mapping, &directives[i], stream);
    }
    fprintf(stream, "}\n");
}

int settings_dump(const struct settings *settings, FILE *stream)
{
    errno = 0;
    dump_section(settings, DIRECTIVE_TOP, stream);
    fprintf(stream, "\n" DIRECTIVE_SERVER_NAME " {\n");
    dump_section(settings, DIRECTIVE_SERVER, stream);
    fprintf(stream, "}\n");
    for (size_t i = 0; i < settings->n_statics; i++)
        dump_static(&settings->statics[i], stream);
    if (fflush(stream) != 0 || ferror(stream))
        return errno != 0 ? -errno : -EIO;
    return 0;
}
