#pragma once

/*
 * The file as libconfuse understands it: for each directive its values as text, with their lines.
 */

#include <stdbool.h>
#include <stddef.h>

#include "base/util.h"
#include "config/complaints.h"

/* No fewer than there are directives (checked where it is used). */
#define DOCUMENT_DIRECTIVES_MAX 48
#define DOCUMENT_UNKNOWNS_MAX 32

struct document_value {
    char *text;
    unsigned int line;
};

struct document_entry {
    struct document_value *values;
    size_t n_values;
    /* Of the statement for a list without values, else of its first value; 0: not given. */
    unsigned int line;
    bool is_repeated; /* complained of already */
};

/* A section static. */
struct document_static {
    struct document_entry entries[DOCUMENT_DIRECTIVES_MAX]; /* by index in the table */
    char *title;                                            /* NULL: it holds no value */
    unsigned int line;
};

struct document {
    struct document_entry entries[DOCUMENT_DIRECTIVES_MAX]; /* by index in the table */
    unsigned int server_line;                               /* 0: there is no such section */
    struct document_static *statics;                        /* at most SETTINGS_STATICS_MAX */
    size_t n_statics;
};

/*
 * Parses a prepared text. 0, also when there were complaints but the whole text was understood;
 * -EINVAL when parsing stopped at an error, so that what is missing may only not have been reached;
 * -ENOMEM. Always to be followed by document_deinit().
 */
MUST_CHECK int document_parse(const char *text, struct document *ret_document,
                              struct complaints *complaints);
void document_deinit(struct document *document);
