/*
 * libconfuse does the grammar. Every directive is declared a list with a callback per value, so
 * values arrive as text with their line, and a list where one value belongs, or a number that is
 * none, does not end the parse. A name it does not know does end it; the name is then added to the
 * declaration and the text parsed again, so that the errors behind it are found too. A section
 * without its closing brace is accepted by libconfuse; an end mark, a section whose name no file
 * can hold, is appended to notice it.
 */

#include "config/document.h"

#include <assert.h>
#include <confuse.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/directive.h"
#include "config/settings.h"
#include "config/text.h"

#define END_MARK "\001"
#define SECTION_SERVER DIRECTIVE_SERVER_NAME " { ... }"
#define SECTION_STATIC DIRECTIVE_STATIC_NAME " NAME { ... }"
#define SYNTAX "allowed: NAME = VALUE, NAME = {VALUE, ...}, " SECTION_SERVER " or " SECTION_STATIC

struct unknown {
    char *name;
    enum directive_section section;
};

struct parse {
    const char *text;
    unsigned int n_lines;
    struct document *document;
    struct complaints *complaints;
    struct unknown unknowns[DOCUMENT_UNKNOWNS_MAX];
    size_t n_unknowns;
    unsigned int n_server_closed;
    size_t n_statics_closed;
    const char *static_scan; /* behind the brace of the last static section met */
    unsigned int static_scan_line;
    bool has_learnt; /* a new unknown name ended this pass */
    bool has_failed; /* a syntax error ended this pass */
    bool out_of_memory;
};

/* libconfuse's callbacks carry no context. */
static _Thread_local struct parse *current;

static void deinit_entries(struct document_entry *entries)
{
    for (size_t i = 0; i < DOCUMENT_DIRECTIVES_MAX; i++) {
        for (size_t j = 0; j < entries[i].n_values; j++)
            free(entries[i].values[j].text);
        free(entries[i].values);
    }
}

void document_deinit(struct document *document)
{
    deinit_entries(document->entries);
    for (size_t i = 0; i < document->n_statics; i++) {
        deinit_entries(document->statics[i].entries);
        free(document->statics[i].title);
    }
    free(document->statics);
    memset(document, 0, sizeof(*document));
}

static enum directive_section section_of(const cfg_t *cfg)
{
    if (strcmp(cfg->name, DIRECTIVE_SERVER_NAME) == 0)
        return DIRECTIVE_SERVER;
    return strcmp(cfg->name, DIRECTIVE_STATIC_NAME) == 0 ? DIRECTIVE_STATIC : DIRECTIVE_TOP;
}

/* " in section server", or "" at top level. */
static const char *where(enum directive_section section)
{
    static const char *const words[DIRECTIVE_SECTIONS] = {
        [DIRECTIVE_TOP] = "",
        [DIRECTIVE_SERVER] = " in section " DIRECTIVE_SERVER_NAME,
        [DIRECTIVE_STATIC] = " in section " DIRECTIVE_STATIC_NAME,
    };
    return words[section];
}

static void complain_unknown(struct parse *parse, const char *name, enum directive_section section,
                             unsigned int line)
{
    char quote[COMPLAINTS_QUOTE_SIZE];
    char *allowed = NULL;
    size_t size_bytes = 0;
    FILE *stream = open_memstream(&allowed, &size_bytes);
    if (!stream) {
        parse->out_of_memory = true;
        return;
    }
    const char *separator = "";
    for (size_t i = 0; i < n_directives; i++) {
        if (directives[i].section != section)
            continue;
        fprintf(stream, "%s%s", separator, directives[i].name);
        separator = ", ";
    }
    if (section == DIRECTIVE_TOP)
        fprintf(stream, ", " DIRECTIVE_SERVER_NAME ", " DIRECTIVE_STATIC_NAME);
    if (fclose(stream) != 0)
        parse->out_of_memory = true;
    else
        complaints_add(parse->complaints, line, "unknown option \"%s\"%s; allowed: %s",
                       complaints_quote(name, quote), where(section), allowed);
    free(allowed);
}

static bool append_value(struct document_entry *entry, const char *text, unsigned int line)
{
    struct document_value *grown =
        realloc(entry->values, (entry->n_values + 1) * sizeof(*entry->values));
    if (!grown)
        return false;
    entry->values = grown;
    char *copy = strdup(text);
    if (!copy)
        return false;
    entry->values[entry->n_values++] = (struct document_value){copy, line};
    if (entry->line == 0)
        entry->line = line;
    return true;
}

/*
 * `n_before`: values libconfuse held for the option before this one; "=" empties them, "+=" does
 * not.
 */
static void take_value(struct parse *parse, struct document_entry *entry,
                       const struct directive *directive, const char *text, size_t n_before,
                       unsigned int line)
{
    if (n_before == 0 && entry->n_values > 0) {
        if (!entry->is_repeated)
            complaints_add(parse->complaints, line,
                           "%s: given again after line %u; allowed: each option once",
                           directive->name, entry->line);
        entry->is_repeated = true;
    }
    if (!entry->is_repeated && !append_value(entry, text, line))
        parse->out_of_memory = true;
}

/*
 * The static section being read; `end_line` stands in for its line when its beginning is written in
 * a way that is not found. NULL when there are too many, or out of memory.
 */
static struct document_static *open_static(struct parse *parse, unsigned int end_line)
{
    struct document *document = parse->document;
    if (parse->n_statics_closed < document->n_statics)
        return &document->statics[parse->n_statics_closed];
    if (document->n_statics == SETTINGS_STATICS_MAX)
        return NULL;
    struct document_static *grown =
        realloc(document->statics, (document->n_statics + 1) * sizeof(*grown));
    if (!grown) {
        parse->out_of_memory = true;
        return NULL;
    }
    document->statics = grown;
    struct document_static *opened = &grown[document->n_statics++];
    *opened = (struct document_static){.line = end_line};
    unsigned int n_lines;
    if (text_find_titled_section(parse->static_scan, DIRECTIVE_STATIC_NAME, &n_lines,
                                 &parse->static_scan))
        opened->line = parse->static_scan_line += n_lines;
    return opened;
}

/* Where the values of `cfg` go; NULL: nowhere. */
static struct document_entry *entries_of(struct parse *parse, const cfg_t *cfg)
{
    enum directive_section section = section_of(cfg);
    if (section == DIRECTIVE_SERVER && parse->n_server_closed > 0)
        return NULL;
    if (section != DIRECTIVE_STATIC)
        return parse->document->entries;
    struct document_static *opened = open_static(parse, (unsigned int) cfg->line);
    if (!opened)
        return NULL;
    if (!opened->title)
        opened->title = strdup(cfg->title);
    if (!opened->title)
        parse->out_of_memory = true;
    return opened->entries;
}

/* Values are given to libconfuse as pointers to this: it wants one, and nothing reads it. */
static char placeholder;

static int handle_value(cfg_t *cfg, cfg_opt_t *option, const char *text, void *ret_value)
{
    struct parse *parse = current;
    void *pointer = &placeholder;
    memcpy(ret_value, &pointer, sizeof(pointer));
    unsigned int line = (unsigned int) cfg->line;
    if (line > parse->n_lines)
        return 0;
    struct document_entry *entries = entries_of(parse, cfg);
    size_t index = directive_find(option->name, section_of(cfg));
    if (index < n_directives) {
        if (entries)
            take_value(parse, &entries[index], &directives[index], text, option->nvalues - 1, line);
    } else if (option->nvalues <= 1) {
        complain_unknown(parse, option->name, section_of(cfg), line);
    }
    return 0;
}

static int handle_server_end(cfg_t *cfg, cfg_opt_t *option)
{
    (void) cfg;
    (void) option;
    current->n_server_closed++;
    return 0;
}

/* Non-zero ends the parse: the memory a file takes is bounded. */
static int handle_static_end(cfg_t *cfg, cfg_opt_t *option)
{
    (void) option;
    struct parse *parse = current;
    unsigned int line = (unsigned int) cfg->line;
    if (!open_static(parse, line)) {
        complaints_add(parse->complaints, line,
                       "too many sections " DIRECTIVE_STATIC_NAME "; allowed: at most %d",
                       SETTINGS_STATICS_MAX);
        parse->has_failed = true;
        return -1;
    }
    parse->n_statics_closed++;
    return 0;
}

/* Values belong to nobody: see placeholder. */
static void release_value(void *value)
{
    (void) value;
}

/* The unknown name that stands in `line` as if it were a section, or NULL. */
static const char *find_unknown_section(const struct parse *parse, unsigned int line)
{
    for (size_t i = 0; i < parse->n_unknowns; i++) {
        unsigned int found = 1;
        for (unsigned int n = 0; found != 0; n++) {
            found = text_find_statement(parse->text, parse->unknowns[i].name, '{', n);
            if (found == line)
                return parse->unknowns[i].name;
        }
    }
    return NULL;
}

static void learn(struct parse *parse, const char *name, enum directive_section section,
                  unsigned int line)
{
    if (parse->n_unknowns == DOCUMENT_UNKNOWNS_MAX) {
        complain_unknown(parse, name, section, line);
        parse->has_failed = true;
        return;
    }
    char *copy = strdup(name);
    if (!copy) {
        parse->out_of_memory = true;
        return;
    }
    parse->unknowns[parse->n_unknowns++] = (struct unknown){copy, section};
    parse->has_learnt = true;
}

static void complain_open_static(struct parse *parse)
{
    const struct document_static *opened = open_static(parse, parse->n_lines);
    complaints_add(parse->complaints, opened ? opened->line : parse->n_lines,
                   "section " DIRECTIVE_STATIC_NAME " without end; allowed: " SECTION_STATIC);
}

static void complain_syntax(struct parse *parse, const cfg_t *cfg, unsigned int line,
                            const char *message)
{
    parse->has_failed = true;
    if (line <= parse->n_lines)
        complaints_add(parse->complaints, line, "%s; " SYNTAX, message);
    else if (section_of(cfg) == DIRECTIVE_SERVER)
        complaints_add(parse->complaints, parse->document->server_line,
                       "section " DIRECTIVE_SERVER_NAME " without end; allowed: " SECTION_SERVER);
    else if (section_of(cfg) == DIRECTIVE_STATIC)
        complain_open_static(parse);
    else
        complaints_add(parse->complaints, parse->n_lines,
                       "the file ends within a statement; " SYNTAX);
}

static void handle_error(cfg_t *cfg, const char *format, va_list arguments)
    __attribute__((format(printf, 2, 0)));

static void handle_error(cfg_t *cfg, const char *format, va_list arguments)
{
    struct parse *parse = current;
    unsigned int line = (unsigned int) cfg->line;
    char message[256], quote[COMPLAINTS_QUOTE_SIZE];
    if (strncmp(format, "no such option", strlen("no such option")) == 0 &&
        line <= parse->n_lines) {
        va_list copy;
        va_copy(copy, arguments);
        learn(parse, va_arg(copy, const char *), section_of(cfg), line);
        va_end(copy);
        return;
    }
    vsnprintf(message, sizeof(message), format, arguments);
    const char *unknown_section = find_unknown_section(parse, line);
    if (unknown_section) {
        parse->has_failed = true;
        complaints_add(parse->complaints, line,
                       "unknown section \"%s\"%s; allowed: " SECTION_SERVER " or " SECTION_STATIC
                       " at top level",
                       complaints_quote(unknown_section, quote), where(section_of(cfg)));
        return;
    }
    complain_syntax(parse, cfg, line, complaints_quote(message, quote));
}

/*
 * The declaration of one level: its directives, and the unknown names met so far. Returns the end.
 */
static cfg_opt_t *declare(const struct parse *parse, enum directive_section section,
                          cfg_opt_t *option)
{
    for (size_t i = 0; i < n_directives; i++) {
        if (directives[i].section == section)
            *option++ = (cfg_opt_t) CFG_PTR_LIST_CB(directives[i].name, 0, CFGF_NODEFAULT,
                                                    handle_value, release_value);
    }
    for (size_t i = 0; i < parse->n_unknowns; i++) {
        if (parse->unknowns[i].section == section)
            *option++ = (cfg_opt_t) CFG_PTR_LIST_CB(parse->unknowns[i].name, 0, CFGF_NODEFAULT,
                                                    handle_value, release_value);
    }
    return option;
}

/* Lists without values leave nothing but a flag behind. */
static bool was_given_empty(cfg_t *cfg, const char *name)
{
    const cfg_opt_t *option = cfg_getopt(cfg, name);
    return option && option->nvalues == 0 && (option->flags & CFGF_MODIFIED);
}

static void note_empty_directive(struct parse *parse, struct document_entry *entry,
                                 const char *name)
{
    if (entry->n_values == 0)
        entry->line = text_find_statement(parse->text, name, '=', 0);
    else if (!entry->is_repeated)
        complaints_add(parse->complaints, text_find_statement(parse->text, name, '=', 1),
                       "%s: given again after line %u; allowed: each option once", name,
                       entry->line);
}

static void note_empty_lists(struct parse *parse, cfg_t *cfg, enum directive_section section)
{
    for (size_t i = 0; i < n_directives; i++) {
        if (directives[i].section == section && was_given_empty(cfg, directives[i].name))
            note_empty_directive(parse, &parse->document->entries[i], directives[i].name);
    }
    for (size_t i = 0; i < parse->n_unknowns; i++) {
        const struct unknown *unknown = &parse->unknowns[i];
        if (unknown->section == section && was_given_empty(cfg, unknown->name))
            complain_unknown(parse, unknown->name, section,
                             text_find_statement(parse->text, unknown->name, '=', 0));
    }
}

/* A section static has no lists: whatever is empty in it is wrong. */
static void complain_empty_in_statics(struct parse *parse, cfg_t *cfg)
{
    for (unsigned int i = 0; i < cfg_size(cfg, DIRECTIVE_STATIC_NAME); i++) {
        cfg_t *section = cfg_getnsec(cfg, DIRECTIVE_STATIC_NAME, i);
        for (const cfg_opt_t *option = section->opts; option->name; option++) {
            char quote[COMPLAINTS_QUOTE_SIZE];
            if (was_given_empty(section, option->name))
                complaints_add(parse->complaints, (unsigned int) section->line,
                               "%s: without a value, in the section that ends here; allowed: one",
                               complaints_quote(option->name, quote));
        }
    }
}

static void note_all_empty_lists(struct parse *parse, cfg_t *cfg)
{
    note_empty_lists(parse, cfg, DIRECTIVE_TOP);
    if (cfg_size(cfg, DIRECTIVE_SERVER_NAME) > 0)
        note_empty_lists(parse, cfg_getnsec(cfg, DIRECTIVE_SERVER_NAME, 0), DIRECTIVE_SERVER);
    complain_empty_in_statics(parse, cfg);
}

static int run_libconfuse(struct parse *parse, cfg_t *cfg)
{
    char *marked;
    if (asprintf(&marked, "%s\n%s { }\n", parse->text, END_MARK) < 0)
        return -ENOMEM;
    current = parse;
    cfg_set_error_function(cfg, handle_error);
    cfg_set_validate_func(cfg, DIRECTIVE_SERVER_NAME, handle_server_end);
    cfg_set_validate_func(cfg, DIRECTIVE_STATIC_NAME, handle_static_end);
    errno = 0;
    int result = cfg_parse_buf(cfg, marked);
    /* A failure it did not report. */
    if (result != CFG_SUCCESS && !parse->has_learnt && !parse->has_failed) {
        if (errno == ENOMEM)
            parse->out_of_memory = true;
        else
            complain_syntax(parse, cfg, (unsigned int) cfg->line, "syntax error here or below");
    }
    current = NULL;
    free(marked);
    return 0;
}

static int parse_once(struct parse *parse)
{
    cfg_opt_t server_options[DOCUMENT_DIRECTIVES_MAX + DOCUMENT_UNKNOWNS_MAX + 1];
    cfg_opt_t static_options[DOCUMENT_DIRECTIVES_MAX + DOCUMENT_UNKNOWNS_MAX + 1];
    cfg_opt_t options[DOCUMENT_DIRECTIVES_MAX + DOCUMENT_UNKNOWNS_MAX + 4];
    cfg_opt_t end_options[] = {CFG_END()};
    *declare(parse, DIRECTIVE_SERVER, server_options) = (cfg_opt_t) CFG_END();
    *declare(parse, DIRECTIVE_STATIC, static_options) = (cfg_opt_t) CFG_END();
    cfg_opt_t *option = declare(parse, DIRECTIVE_TOP, options);
    *option++ = (cfg_opt_t) CFG_SEC(DIRECTIVE_SERVER_NAME, server_options, CFGF_MULTI);
    *option++ = (cfg_opt_t) CFG_SEC(DIRECTIVE_STATIC_NAME, static_options, CFGF_MULTI | CFGF_TITLE);
    *option++ = (cfg_opt_t) CFG_SEC(END_MARK, end_options, CFGF_MULTI);
    *option = (cfg_opt_t) CFG_END();
    cfg_t *cfg = cfg_init(options, CFGF_NONE);
    if (!cfg)
        return -ENOMEM;
    parse->n_server_closed = 0;
    parse->n_statics_closed = 0;
    parse->static_scan = parse->text;
    parse->static_scan_line = 1;
    parse->has_learnt = parse->has_failed = false;
    parse->document->server_line = text_find_statement(parse->text, DIRECTIVE_SERVER_NAME, '{', 0);
    int result = run_libconfuse(parse, cfg);
    if (result == 0 && !parse->has_learnt && !parse->has_failed)
        note_all_empty_lists(parse, cfg);
    for (unsigned int i = 1; i < parse->n_server_closed; i++)
        complaints_add(parse->complaints,
                       text_find_statement(parse->text, DIRECTIVE_SERVER_NAME, '{', i),
                       "section " DIRECTIVE_SERVER_NAME " given again after line %u; allowed: one",
                       parse->document->server_line);
    cfg_free(cfg);
    return result < 0 || parse->out_of_memory ? -ENOMEM : 0;
}

int document_parse(const char *text, struct document *ret_document, struct complaints *complaints)
{
    assert(n_directives <= DOCUMENT_DIRECTIVES_MAX);
    memset(ret_document, 0, sizeof(*ret_document));
    struct complaints pass;
    complaints_init(&pass);
    struct parse parse = {.text = text,
                          .n_lines = text_count_lines(text),
                          .document = ret_document,
                          .complaints = &pass};
    int result;
    do {
        document_deinit(ret_document);
        complaints_deinit(&pass);
        result = parse_once(&parse);
    } while (result == 0 && parse.has_learnt);
    for (size_t i = 0; i < pass.n_items; i++)
        complaints_add(complaints, pass.items[i].line, "%s", pass.items[i].text);
    if (pass.out_of_memory)
        result = -ENOMEM;
    complaints_deinit(&pass);
    for (size_t i = 0; i < parse.n_unknowns; i++)
        free(parse.unknowns[i].name);
    return result == 0 && parse.has_failed ? -EINVAL : result;
}
