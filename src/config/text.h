#pragma once

/* The configuration file as text, made safe to be handed to libconfuse. */

#include <stdbool.h>
#include <stddef.h>

#include "base/util.h"
#include "config/complaints.h"

#define TEXT_SIZE_MAX ((size_t) 1024 * 1024)

/*
 * Octets of `path` with a NUL behind them, freed by the caller. 0, -EFBIG above TEXT_SIZE_MAX,
 * -EINVAL when it is neither a regular file nor a directory, or -errno.
 */
MUST_CHECK int text_read(const char *path, char **ret_text, size_t *ret_size_bytes);

/*
 * Blanks comments (#, //, C style) and complains of what libconfuse would pass over in silence or
 * report at the wrong line: strings and comments without end, control characters, '$' outside
 * quotes. 0 or -EINVAL.
 */
MUST_CHECK int text_prepare(char *text, size_t size_bytes, struct complaints *complaints);

/* Lines of a prepared text, up to the last one that is not blank; at least 1. */
unsigned int text_count_lines(const char *text);

/*
 * The line where the n-th (from 0) `name` followed by `sign` ('=' or '{') stands in a prepared
 * text; 0 when there is none.
 */
unsigned int text_find_statement(const char *text, const char *name, char sign, unsigned int n);

/*
 * The first section `name` with a title in a prepared text: how many lines before its brace end,
 * and what stands behind the brace. False when there is none.
 */
bool text_find_titled_section(const char *text, const char *name, unsigned int *ret_n_lines,
                              const char **ret_body);
