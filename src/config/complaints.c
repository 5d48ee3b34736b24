/*
 * Complaints are collected instead of printed at once, because checks that compare options run
 * after the file was read: sorting by line gives the reader the order of the file.
 */

#include "config/complaints.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void complaints_init(struct complaints *complaints)
{
    complaints->n_items = 0;
    complaints->out_of_memory = false;
}

void complaints_deinit(struct complaints *complaints)
{
    for (size_t i = 0; i < complaints->n_items; i++)
        free(complaints->items[i].text);
    complaints_init(complaints);
}

void complaints_add(struct complaints *complaints, unsigned int line, const char *format, ...)
{
    if (complaints->n_items == COMPLAINTS_MAX)
        return;
    va_list arguments;
    va_start(arguments, format);
    char *text;
    int length = vasprintf(&text, format, arguments);
    va_end(arguments);
    if (length < 0) {
        complaints->out_of_memory = true;
        return;
    }
    complaints->items[complaints->n_items] = (struct complaint){
        .line = line, .position = (unsigned int) complaints->n_items, .text = text};
    complaints->n_items++;
}

static int compare_complaints(const void *left, const void *right)
{
    const struct complaint *a = left, *b = right;
    if (a->line != b->line)
        return a->line < b->line ? -1 : 1;
    return a->position < b->position ? -1 : 1;
}

char *complaints_format(struct complaints *complaints, const char *path)
{
    if (complaints->out_of_memory)
        return NULL;
    char *text = NULL;
    size_t size_bytes = 0;
    FILE *stream = open_memstream(&text, &size_bytes);
    if (!stream)
        return NULL;
    qsort(complaints->items, complaints->n_items, sizeof(complaints->items[0]), compare_complaints);
    for (size_t i = 0; i < complaints->n_items; i++)
        fprintf(stream, "%s%s:%u: %s", i == 0 ? "" : "\n", path, complaints->items[i].line,
                complaints->items[i].text);
    bool failed = ferror(stream) != 0;
    if (fclose(stream) != 0 || failed) {
        free(text);
        return NULL;
    }
    return text;
}

const char *complaints_quote(const char *text, char *ret_quote)
{
    static const char more[] = "...";
    size_t length = strlen(text);
    size_t room = COMPLAINTS_QUOTE_SIZE - 1;
    size_t n_shown = length <= room ? length : room - strlen(more);
    for (size_t i = 0; i < n_shown; i++) {
        unsigned char octet = (unsigned char) text[i];
        ret_quote[i] = octet < 0x20 || octet >= 0x7f ? '?' : (char) octet;
    }
    strcpy(ret_quote + n_shown, n_shown < length ? more : "");
    return ret_quote;
}
