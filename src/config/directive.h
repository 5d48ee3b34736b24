#pragma once

/*
 * The table of directives: name, type, range, default and place in struct settings of each.
 * Loading, dumping, messages and the test of the man page all read it.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/util.h"

#define DIRECTIVE_SERVER_NAME "server"
#define DIRECTIVE_STATIC_NAME "static"
#define DIRECTIVE_DEFAULTS_MAX 8
#define DIRECTIVE_ALLOWED_SIZE 160
#define DIRECTIVE_VALUE_TEXT_SIZE 4608

struct directive;

/* Where a directive stands. */
enum directive_section {
    DIRECTIVE_TOP,
    DIRECTIVE_SERVER, /* server { }, once */
    DIRECTIVE_STATIC, /* static NAME { }, any number */
    DIRECTIVE_SECTIONS,
};

/*
 * A type of value. Items are what struct settings holds; they are zeroed before they are parsed
 * into.
 */
struct value_kind {
    size_t item_size_bytes;
    /*
     * 0, -ENOMEM, or -EINVAL with what is wrong in `ret_wrong`, to be read after the value: "is not
     * a number".
     */
    int (*parse)(const struct directive *directive, const char *text, void *ret_item,
                 const char **ret_wrong);
    /* In config syntax, without quotes. `ret_text` has DIRECTIVE_VALUE_TEXT_SIZE octets. */
    void (*format)(const void *item, char *ret_text);
    /* Whether two members of one list exclude each other. */
    bool (*clashes)(const struct value_kind *kind, const void *a, const void *b);
    bool is_quoted; /* in dumps */
    bool is_owned;  /* the item is a pointer to be freed */
};

struct directive {
    const char *name;
    enum directive_section section;
    bool is_required;
    const struct value_kind *kind;
    size_t offset;       /* of the first item in struct settings, or in struct settings_static */
    size_t count_offset; /* lists: of the size_t with the number of items; else 0 */
    size_t n_min, n_max; /* items; both 1 unless it is a list */
    uint32_t minimum, maximum; /* numbers */
    const char *unit;          /* numbers: behind the range in messages; "" for counts */
    const char *allowed;       /* the other types: completes "allowed: " */
    const char *defaults[DIRECTIVE_DEFAULTS_MAX]; /* ended by NULL */
};

extern const struct directive directives[];
extern const size_t n_directives;

/* Index in the table, or n_directives. */
size_t directive_find(const char *name, enum directive_section section);
/* "server", "static"; NULL for the top level. */
const char *directive_section_name(enum directive_section section);
static inline bool directive_is_list(const struct directive *directive)
{
    return directive->count_offset != 0;
}
/*
 * What values are allowed, for messages and the man page. Returns ret_allowed
 * (DIRECTIVE_ALLOWED_SIZE octets).
 */
const char *directive_allowed(const struct directive *directive, char *ret_allowed);
