/*
 * libconfuse 3.3 miscounts lines behind C style comments, accepts a comment without end, and
 * reports a string without end where the file ends; a lone "${" ends its parse without a word. So
 * comments are blanked beforehand (line ends stay), and what has no end is found here, where it
 * begins.
 */

#include "config/text.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int read_all(int fd, char *text, size_t *ret_size_bytes)
{
    size_t size_bytes = 0;
    while (size_bytes <= TEXT_SIZE_MAX) {
        ssize_t n = read(fd, text + size_bytes, TEXT_SIZE_MAX + 1 - size_bytes);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0) {
            text[size_bytes] = '\0';
            *ret_size_bytes = size_bytes;
            return 0;
        }
        size_bytes += (size_t) n;
    }
    return -EFBIG;
}

static int check_regular(int fd)
{
    struct stat status;
    if (fstat(fd, &status) < 0)
        return -errno;
    if (S_ISDIR(status.st_mode))
        return -EISDIR;
    return S_ISREG(status.st_mode) ? 0 : -EINVAL;
}

int text_read(const char *path, char **ret_text, size_t *ret_size_bytes)
{
    /* A pipe without a writer must not keep us waiting before it is refused. */
    int fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    char *text = NULL;
    int result = check_regular(fd);
    if (result == 0)
        text = malloc(TEXT_SIZE_MAX + 1);
    if (result == 0)
        result = text ? read_all(fd, text, ret_size_bytes) : -ENOMEM;
    close(fd);
    if (result < 0)
        free(text);
    else
        *ret_text = text;
    return result;
}

struct scan {
    char *position;
    char *end;
    unsigned int line;
};

static void step(struct scan *scan)
{
    if (*scan->position == '\n')
        scan->line++;
    scan->position++;
}

static void blank(struct scan *scan)
{
    char *octet = scan->position;
    step(scan);
    if (*octet != '\n')
        *octet = ' ';
}

/* False when the string has no end. */
static bool skip_string(struct scan *scan)
{
    char quote = *scan->position;
    step(scan);
    while (scan->position < scan->end && *scan->position != quote) {
        if (*scan->position == '\\' && scan->position + 1 < scan->end)
            step(scan);
        step(scan);
    }
    if (scan->position >= scan->end)
        return false;
    step(scan);
    return true;
}

static void blank_line_comment(struct scan *scan)
{
    while (scan->position < scan->end && *scan->position != '\n')
        blank(scan);
}

/* False when the comment has no end. */
static bool blank_block_comment(struct scan *scan)
{
    while (scan->position + 1 < scan->end &&
           !(scan->position[0] == '*' && scan->position[1] == '/'))
        blank(scan);
    if (scan->position + 1 >= scan->end)
        return false;
    blank(scan);
    blank(scan);
    return true;
}

/* A slash begins a comment at the start of a word only: "10.0.0.0/8" holds none. */
static bool word_begins(const char *text, const char *position)
{
    return position == text || isspace((unsigned char) position[-1]) ||
           strchr("{}=,+\"'", position[-1]);
}

static bool is_control(char octet)
{
    unsigned char value = (unsigned char) octet;
    return (value < 0x20 && octet != '\n' && octet != '\t' && octet != '\r') || value == 0x7f;
}

static bool has_controls(const char *text, size_t size_bytes, struct complaints *complaints)
{
    unsigned int line = 1;
    for (size_t i = 0; i < size_bytes; i++) {
        if (is_control(text[i])) {
            complaints_add(complaints, line,
                           "control character 0x%02x; allowed: printable text, tabs and line ends",
                           (unsigned int) (unsigned char) text[i]);
            return true;
        }
        if (text[i] == '\n')
            line++;
    }
    return false;
}

int text_prepare(char *text, size_t size_bytes, struct complaints *complaints)
{
    if (has_controls(text, size_bytes, complaints))
        return -EINVAL;
    struct scan scan = {.position = text, .end = text + size_bytes, .line = 1};
    while (scan.position < scan.end) {
        char octet = *scan.position, next = scan.position[1];
        unsigned int line = scan.line;
        if (octet == '"' || octet == '\'') {
            if (!skip_string(&scan)) {
                complaints_add(complaints, line,
                               "string without end; allowed: \"text\" or 'text', with the same "
                               "quote at both ends");
                return -EINVAL;
            }
        } else if (octet == '#' ||
                   (octet == '/' && next == '/' && word_begins(text, scan.position))) {
            blank_line_comment(&scan);
        } else if (octet == '/' && next == '*' && word_begins(text, scan.position)) {
            blank(&scan);
            blank(&scan);
            if (!blank_block_comment(&scan)) {
                complaints_add(complaints, line, "comment without end; allowed: /* text */");
                return -EINVAL;
            }
        } else if (octet == '$') {
            complaints_add(complaints, line,
                           "'$' outside quotes; allowed: \"${NAME}\", in double quotes");
            return -EINVAL;
        } else {
            step(&scan);
        }
    }
    return 0;
}

unsigned int text_count_lines(const char *text)
{
    unsigned int line = 1, last_used = 1;
    for (; *text; text++) {
        if (*text == '\n')
            line++;
        else if (!isspace((unsigned char) *text))
            last_used = line;
    }
    return last_used;
}

static bool is_word(char octet)
{
    return octet != '\0' && !isspace((unsigned char) octet) && !strchr("{}=,+\"'()", octet);
}

/* Whether the statement sign stands behind a name that ends at `position`. */
static bool sign_follows(const char *position, char sign)
{
    if (*position == '"' || *position == '\'')
        position++;
    while (isspace((unsigned char) *position))
        position++;
    if (sign == '=' && *position == '+')
        position++;
    return *position == sign;
}

unsigned int text_find_statement(const char *text, const char *name, char sign, unsigned int n)
{
    size_t length = strlen(name);
    unsigned int line = 1;
    for (const char *position = text; *position; position++) {
        if (*position == '\n')
            line++;
        if (strncmp(position, name, length) != 0 || is_word(position[length]) ||
            (position > text && is_word(position[-1])) || !sign_follows(position + length, sign))
            continue;
        if (n-- == 0)
            return line;
    }
    return 0;
}

/* Behind the string that begins at `position`; the text is prepared, so it has an end. */
static const char *string_end(const char *position)
{
    char quote = *position++;
    while (*position && *position != quote)
        position += *position == '\\' && position[1] ? 2 : 1;
    return *position ? position + 1 : position;
}

static const char *skip_space(const char *position)
{
    while (isspace((unsigned char) *position))
        position++;
    return position;
}

/* Behind the brace when a title and a brace stand at `position`, else NULL. */
static const char *skip_title(const char *position)
{
    position = skip_space(position);
    if (*position == '"' || *position == '\'') {
        position = string_end(position);
    } else {
        if (!is_word(*position))
            return NULL;
        while (is_word(*position))
            position++;
    }
    position = skip_space(position);
    return *position == '{' ? position + 1 : NULL;
}

static unsigned int count_line_ends(const char *from, const char *to)
{
    unsigned int n_lines = 0;
    for (; from < to; from++)
        n_lines += *from == '\n';
    return n_lines;
}

bool text_find_titled_section(const char *text, const char *name, unsigned int *ret_n_lines,
                              const char **ret_body)
{
    size_t length = strlen(name);
    for (const char *position = text; *position;) {
        if (*position == '"' || *position == '\'') {
            position = string_end(position);
            continue;
        }
        const char *word = position;
        while (is_word(*position))
            position++;
        const char *body = NULL;
        if ((size_t) (position - word) == length && strncmp(word, name, length) == 0)
            body = skip_title(position);
        if (body) {
            *ret_n_lines = count_line_ends(text, body);
            *ret_body = body;
            return true;
        }
        if (position == word)
            position++;
    }
    return false;
}
