/*
 * A line is built in a buffer of fixed size and written with one write(2), so lines of several
 * processes do not mix. It is printable ASCII whatever goes in: every other octet is escaped, in
 * messages as in values, and a line that does not fit is cut and ends in "...". Values are quoted
 * when a reader could not otherwise see where they end.
 */

#include "base/log.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/time.h"
#include "base/util.h"

#define LINE_SIZE_MAX 2048
#define CUT_MARK "..."
/* What is kept free for the mark, the newline and the NUL. */
#define LINE_RESERVE (sizeof(CUT_MARK) + 1)

struct line {
    char text[LINE_SIZE_MAX];
    size_t size_bytes;
    bool cut;
};

static const struct {
    enum log_level level;
    const char *name;
} level_names[] = {
    {LOG_LEVEL_ERROR, "error"}, {LOG_LEVEL_WARNING, "warning"}, {LOG_LEVEL_NOTICE, "notice"},
    {LOG_LEVEL_INFO, "info"},   {LOG_LEVEL_DEBUG, "debug"},
};

static enum log_level current_level = LOG_LEVEL_INFO;

void log_set_level(enum log_level level)
{
    current_level = level;
}

enum log_level log_level(void)
{
    return current_level;
}

const char *log_level_name(enum log_level level)
{
    for (size_t i = 0; i < N_ELEMENTS(level_names); i++)
        if (level_names[i].level == level)
            return level_names[i].name;
    return "unknown";
}

int log_level_parse(const char *name, enum log_level *ret_level)
{
    for (size_t i = 0; i < N_ELEMENTS(level_names); i++)
        if (strcmp(level_names[i].name, name) == 0) {
            *ret_level = level_names[i].level;
            return 0;
        }
    return -EINVAL;
}

/*
 * systemd.exec(5): JOURNAL_STREAM names device and inode of the journal's socket; stderr may since
 * be another file.
 */
static bool stderr_is_journal(void)
{
    const char *stream = getenv("JOURNAL_STREAM");
    char expected[64];
    struct stat status;

    if (!stream || fstat(STDERR_FILENO, &status) < 0)
        return false;
    snprintf(expected, sizeof(expected), "%llu:%llu", (unsigned long long) status.st_dev,
             (unsigned long long) status.st_ino);
    return strcmp(stream, expected) == 0;
}

/* All of `text` or, when it does not fit, nothing from here on: an escape is never cut in half. */
static void append(struct line *line, const char *text)
{
    size_t size_bytes = strlen(text);

    if (line->cut || size_bytes > LINE_SIZE_MAX - LINE_RESERVE - line->size_bytes) {
        line->cut = true;
        return;
    }
    memcpy(line->text + line->size_bytes, text, size_bytes);
    line->size_bytes += size_bytes;
}

static bool is_printable(char c)
{
    return c >= 0x20 && c <= 0x7e;
}

static void append_escaped_char(struct line *line, char c, bool in_quotes)
{
    char text[5] = {c};

    if (c == '\n')
        snprintf(text, sizeof(text), "\\n");
    else if (c == '\t')
        snprintf(text, sizeof(text), "\\t");
    else if (c == '\r')
        snprintf(text, sizeof(text), "\\r");
    else if (!is_printable(c))
        snprintf(text, sizeof(text), "\\x%02x", (unsigned int) (unsigned char) c);
    else if (c == '\\' || (in_quotes && c == '"'))
        snprintf(text, sizeof(text), "\\%c", c);
    append(line, text);
}

static void append_escaped(struct line *line, const char *text, bool in_quotes)
{
    for (; *text && !line->cut; text++)
        append_escaped_char(line, *text, in_quotes);
}

static bool needs_quotes(const char *value)
{
    /* A bare "-" is how NULL prints. */
    if (*value == '\0' || strcmp(value, "-") == 0)
        return true;
    for (; *value; value++)
        if (!is_printable(*value) || strchr(" \"=\\", *value))
            return true;
    return false;
}

static void append_value(struct line *line, const char *value)
{
    if (!value) {
        append(line, "-");
    } else if (needs_quotes(value)) {
        append(line, "\"");
        append_escaped(line, value, true);
        append(line, "\"");
    } else {
        append(line, value);
    }
}

static void start_line(struct line *line, enum log_level level)
{
    char prefix[16];

    line->size_bytes = 0;
    line->cut = false;
    if (stderr_is_journal())
        snprintf(prefix, sizeof(prefix), "<%d>", (int) level);
    else
        snprintf(prefix, sizeof(prefix), "%s: ", log_level_name(level));
    append(line, prefix);
}

static void write_line(struct line *line)
{
    const char *next = line->text;
    size_t n_left;

    if (line->cut) {
        memcpy(line->text + line->size_bytes, CUT_MARK, strlen(CUT_MARK));
        line->size_bytes += strlen(CUT_MARK);
    }
    line->text[line->size_bytes++] = '\n';
    for (n_left = line->size_bytes; n_left > 0;) {
        ssize_t n = write(STDERR_FILENO, next, n_left);

        if (n < 0 && errno == EINTR)
            continue;
        /* A log that cannot be written has nobody to tell. */
        if (n <= 0)
            return;
        next += n;
        n_left -= (size_t) n;
    }
}

void log_event(enum log_level level, const char *message, ...)
{
    struct line line;
    const char *key;
    va_list fields;

    if (level > current_level)
        return;
    start_line(&line, level);
    append_escaped(&line, message, false);
    va_start(fields, message);
    while ((key = va_arg(fields, const char *))) {
        append(&line, " ");
        append_escaped(&line, key, false);
        append(&line, "=");
        append_value(&line, va_arg(fields, const char *));
    }
    va_end(fields);
    write_line(&line);
}

void log_message(enum log_level level, const char *format, ...)
{
    char text[LINE_SIZE_MAX];
    struct line line;
    va_list arguments;
    int n;

    if (level > current_level)
        return;
    va_start(arguments, format);
    n = vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    start_line(&line, level);
    append_escaped(&line, n < 0 ? format : text, false);
    if (n >= (int) sizeof(text))
        line.cut = true;
    write_line(&line);
}

bool log_limit_permits(struct log_limit *limit, uint64_t now_ns, uint32_t burst,
                       uint32_t interval_s)
{
    uint32_t n_suppressed = limit->n_suppressed;

    if (limit->n_logged == 0 || now_ns - limit->interval_start_ns >= interval_s * NS_PER_S)
        *limit = (struct log_limit){.interval_start_ns = now_ns};
    if (limit->n_logged >= burst) {
        if (limit->n_suppressed < UINT32_MAX)
            limit->n_suppressed++;
        return false;
    }
    if (n_suppressed > 0 && limit->n_suppressed == 0)
        log_message(LOG_LEVEL_NOTICE, "%u similar lines suppressed", (unsigned int) n_suppressed);
    limit->n_logged++;
    return true;
}
