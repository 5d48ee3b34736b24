#pragma once

/*
 * What is wrong with a configuration file: texts with their line, printed in the order of the
 * lines.
 */

#include <stdbool.h>
#include <stddef.h>

#include "base/util.h"

/* Later ones are dropped: nobody reads more, and a hostile file must not fill the memory. */
#define COMPLAINTS_MAX 100

struct complaint {
    unsigned int line;
    unsigned int position; /* keeps the order of complaints about one line */
    char *text;
};

struct complaints {
    struct complaint items[COMPLAINTS_MAX];
    size_t n_items;
    bool out_of_memory;
};

void complaints_init(struct complaints *complaints);
void complaints_deinit(struct complaints *complaints);
/* A single line without its end. */
void complaints_add(struct complaints *complaints, unsigned int line, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* "path:line: text" lines without a final '\n', freed by the caller; NULL when out of memory. */
char *complaints_format(struct complaints *complaints, const char *path);

#define COMPLAINTS_QUOTE_SIZE 68
/* `text` as it may be shown: shortened, control characters replaced. Returns ret_quote. */
const char *complaints_quote(const char *text, char *ret_quote);
