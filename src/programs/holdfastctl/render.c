/* Everything here comes from the daemon and goes to a terminal: it is shown, never interpreted. */

#include "programs/holdfastctl/render.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/address.h"
#include "base/util.h"

#define CELL_SIZE 64

const char *render_duration(uint64_t seconds, char *ret_text)
{
    uint64_t minutes = seconds / 60, hours = minutes / 60, days = hours / 24;
    if (minutes == 0)
        snprintf(ret_text, RENDER_DURATION_SIZE, "%" PRIu64 "s", seconds);
    else if (hours == 0)
        snprintf(ret_text, RENDER_DURATION_SIZE, "%" PRIu64 "m%02us", minutes,
                 (unsigned int) (seconds % 60));
    else if (days == 0)
        snprintf(ret_text, RENDER_DURATION_SIZE, "%" PRIu64 "h%02um", hours,
                 (unsigned int) (minutes % 60));
    else
        snprintf(ret_text, RENDER_DURATION_SIZE, "%" PRIu64 "d%02uh", days,
                 (unsigned int) (hours % 24));
    return ret_text;
}

static const char *text_of(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text ? text : "?";
}

static bool number_of(const json_t *object, const char *key, uint64_t *ret_number)
{
    const json_t *value = json_object_get(object, key);
    if (!json_is_integer(value) || json_integer_value(value) < 0)
        return false;
    *ret_number = (uint64_t) json_integer_value(value);
    return true;
}

/* The number in decimal; `ret_text` has CELL_SIZE octets. */
static const char *number_text(const json_t *object, const char *key, char *ret_text)
{
    uint64_t number;
    if (!number_of(object, key, &number))
        return strcpy(ret_text, "?");
    snprintf(ret_text, CELL_SIZE, "%" PRIu64, number);
    return ret_text;
}

static const char *duration_text(const json_t *object, const char *key, char *ret_text)
{
    uint64_t seconds;
    if (!number_of(object, key, &seconds))
        return strcpy(ret_text, "?");
    return render_duration(seconds, ret_text);
}

static void put_text(FILE *stream, const char *text)
{
    for (; *text; text++) {
        unsigned char octet = (unsigned char) *text;
        fputc(octet < 0x20 || octet == 0x7f ? '?' : octet, stream);
    }
}

static void put_field(FILE *stream, const json_t *object, const char *key)
{
    put_text(stream, text_of(object, key));
}

static void put_number(FILE *stream, const json_t *object, const char *key)
{
    char text[CELL_SIZE];
    fputs(number_text(object, key, text), stream);
}

/* The number and what it counts: "1 commit", "2 commits". */
static void put_count(FILE *stream, const json_t *object, const char *key, const char *singular,
                      const char *plural)
{
    uint64_t number;
    put_number(stream, object, key);
    fprintf(stream, " %s", number_of(object, key, &number) && number == 1 ? singular : plural);
}

static void render_daemon(FILE *stream, const json_t *status)
{
    char text[CELL_SIZE];
    fputs("holdfastd ", stream);
    put_field(stream, status, "version");
    fputs(", process ", stream);
    put_number(stream, status, "pid");
    fprintf(stream, ", up %s, log level ", duration_text(status, "uptime_s", text));
    put_field(stream, status, "log_level");
    fputc('\n', stream);
    const char *mode = text_of(status, "mode");
    fputs("Mode: ", stream);
    put_text(stream, mode);
    if (strcmp(mode, "durable") == 0)
        fputs("; mappings come back after a restart or a reboot", stream);
    else if (strcmp(mode, "volatile") == 0)
        fputs("; mappings are lost when the daemon stops", stream);
    fputc('\n', stream);
}

static const struct {
    const char *reason, *words;
} reasons[] = {
    {"same-boot", "same boot"},
    {"reboot", "after a reboot"},
    {"new-state", "there was no state"},
    {"volatile", "started without a store"},
    {"clock", "the wall clock was not plausible"},
    {"rolled-back", "the store is older than the last commit of this boot"},
    {"state-damaged", "some stored mappings contradicted others"},
};

static const char *reason_words(const char *reason)
{
    for (size_t i = 0; i < N_ELEMENTS(reasons); i++) {
        if (strcmp(reasons[i].reason, reason) == 0)
            return reasons[i].words;
    }
    return reason;
}

static void render_epoch(FILE *stream, const json_t *epoch)
{
    bool has_continued = strcmp(text_of(epoch, "state"), "continued") == 0;
    fputs("Epoch: ", stream);
    put_number(stream, epoch, "seconds");
    fputs(has_continued ? " s; went on over the restart at " : " s; restarted from zero at ",
          stream);
    put_field(stream, epoch, "at");
    fputs(has_continued ? ", " : ": ", stream);
    put_text(stream, reason_words(text_of(epoch, "reason")));
    uint64_t n_own;
    if (number_of(epoch, "own", &n_own) && n_own > 0)
        fprintf(stream, "; %" PRIu64 " %s a later Epoch of %s own", n_own,
                n_own == 1 ? "subscriber has" : "subscribers have", n_own == 1 ? "its" : "their");
    fputc('\n', stream);
}

static void render_mappings(FILE *stream, const json_t *status)
{
    const json_t *mappings = json_object_get(status, "mappings");
    fputs("Mappings: ", stream);
    put_number(stream, mappings, "live");
    fputs(" of at most ", stream);
    put_number(stream, mappings, "limit");
    fputs("; ", stream);
    put_count(stream, mappings, "held", "port", "ports");
    fputs(" held back; ", stream);
    put_count(stream, status, "subscribers", "subscriber", "subscribers");
    fputc('\n', stream);
}

static void render_addresses(FILE *stream, const json_t *addresses)
{
    size_t i;
    const json_t *address;
    fputs("External addresses: ", stream);
    if (json_array_size(addresses) == 0)
        fputs("none", stream);
    json_array_foreach(addresses, i, address)
    {
        const char *text = json_string_value(address);
        fputs(i == 0 ? "" : ", ", stream);
        put_text(stream, text ? text : "?");
    }
    fputc('\n', stream);
}

static void render_store(FILE *stream, const json_t *store)
{
    fputs("Store: ", stream);
    put_field(stream, store, "kind");
    if (json_is_string(json_object_get(store, "path"))) {
        fputs(" in ", stream);
        put_field(stream, store, "path");
    }
    fputs("; ", stream);
    put_count(stream, store, "commits", "commit", "commits");
    fputs(", ", stream);
    put_count(stream, store, "failures", "failure", "failures");
    fputc('\n', stream);
}

static void render_kernel(FILE *stream, const json_t *kernel)
{
    fputs("Kernel: reconciled ", stream);
    put_count(stream, kernel, "reconciles", "time", "times");
    fputs(", ", stream);
    put_number(stream, kernel, "repairs");
    fputs(" of them repairs, ", stream);
    put_count(stream, kernel, "failures", "failure", "failures");
    fputc('\n', stream);
}

/* What is rare is told when it happened. */
static void put_rarity(FILE *stream, const json_t *counters, const char *key, const char *words)
{
    uint64_t number;
    if (number_of(counters, key, &number) && number > 0)
        fprintf(stream, ", %" PRIu64 " %s", number, words);
}

static void render_counters(FILE *stream, json_t *counters)
{
    fputs("Requests: ", stream);
    put_number(stream, counters, "requests");
    fputs(" received, ", stream);
    put_number(stream, counters, "responses");
    fputs(" responses sent, ", stream);
    put_number(stream, counters, "dropped");
    fputs(" dropped", stream);
    put_rarity(stream, counters, "limited", "of them above the rate limit");
    put_rarity(stream, counters, "overloads", "of them for want of room");
    put_rarity(stream, counters, "adopted", "with another nonce adopted");
    fputc('\n', stream);
    json_t *results = json_object_get(counters, "results");
    if (json_object_size(results) == 0)
        return;
    const char *name, *separator = "Results: ";
    json_t *value;
    json_object_foreach(results, name, value)
    {
        fputs(separator, stream);
        put_text(stream, name);
        fputc(' ', stream);
        put_number(stream, results, name);
        separator = ", ";
    }
    fputc('\n', stream);
}

void render_status(FILE *stream, json_t *parameters)
{
    render_daemon(stream, parameters);
    render_epoch(stream, json_object_get(parameters, "epoch"));
    render_mappings(stream, parameters);
    render_addresses(stream, json_object_get(parameters, "external_addresses"));
    render_store(stream, json_object_get(parameters, "store"));
    render_kernel(stream, json_object_get(parameters, "kernel"));
    render_counters(stream, json_object_get(parameters, "counters"));
}

/* Fills a cell of CELL_SIZE octets. */
static void fill_text(char *ret_cell, const json_t *mapping, const char *key)
{
    const json_t *value = json_object_get(mapping, key);
    snprintf(ret_cell, CELL_SIZE, "%s", json_is_null(value) ? "-" : text_of(mapping, key));
    for (char *octet = ret_cell; *octet; octet++) {
        if ((unsigned char) *octet < 0x20 || *octet == 0x7f)
            *octet = '?';
    }
}

static void fill_row(char row[RENDER_N_COLUMNS][CELL_SIZE], const json_t *mapping)
{
    number_text(mapping, "id", row[0]);
    fill_text(row[1], mapping, "kind");
    fill_text(row[2], mapping, "protocol");
    fill_text(row[3], mapping, "internal");
    fill_text(row[4], mapping, "external");
    fill_text(row[5], mapping, "remote");
    if (json_is_null(json_object_get(mapping, "lifetime_s")))
        strcpy(row[6], "no end");
    else
        duration_text(mapping, "lifetime_s", row[6]);
    snprintf(row[7], CELL_SIZE, "%zu", json_array_size(json_object_get(mapping, "filters")));
    fill_text(row[8], mapping, "client");
}

static const char *const titles[RENDER_N_COLUMNS] = {
    "ID", "KIND", "PROTOCOL", "INTERNAL", "EXTERNAL", "REMOTE", "LIFETIME", "FILTERS", "CLIENT",
};

void render_table_init(struct render_table *table)
{
    table->n_rows = 0;
    for (size_t i = 0; i < RENDER_N_COLUMNS; i++)
        table->widths[i] = strlen(titles[i]);
}

/* Numbers to the right. The last column needs no filling. */
static void put_cell(const struct render_table *table, FILE *stream, size_t column,
                     const char *text)
{
    int width = (int) table->widths[column];
    bool is_number = column == 0 || column == 6 || column == 7;
    if (column + 1 == RENDER_N_COLUMNS)
        fprintf(stream, "%s\n", text);
    else
        fprintf(stream, "%*s  ", is_number ? width : -width, text);
}

void render_table_add(struct render_table *table, FILE *stream, const json_t *mappings)
{
    size_t i;
    const json_t *mapping;
    char row[RENDER_N_COLUMNS][CELL_SIZE];
    json_array_foreach(mappings, i, mapping)
    {
        fill_row(row, mapping);
        for (size_t column = 0; column < RENDER_N_COLUMNS; column++) {
            size_t width = strlen(row[column]);
            if (width > table->widths[column])
                table->widths[column] = width;
        }
    }
    for (size_t column = 0; table->n_rows == 0 && i > 0 && column < RENDER_N_COLUMNS; column++)
        put_cell(table, stream, column, titles[column]);
    json_array_foreach(mappings, i, mapping)
    {
        fill_row(row, mapping);
        for (size_t column = 0; column < RENDER_N_COLUMNS; column++)
            put_cell(table, stream, column, row[column]);
    }
    table->n_rows += i;
}

void render_table_end(const struct render_table *table, FILE *stream)
{
    if (table->n_rows == 0)
        fputs("no mappings\n", stream);
}

static void render_reason(FILE *stream, const char *reason)
{
    while (*reason) {
        size_t length = strcspn(reason, "\n");
        char *line = strndup(reason, length);
        if (length > 0 && line) {
            fputs("holdfastctl: ", stream);
            put_text(stream, line);
            fputc('\n', stream);
        }
        free(line);
        reason += length + (reason[length] == '\n');
    }
}

void render_error(FILE *stream, const char *method, const struct control_reply *reply)
{
    const char *reason = json_string_value(json_object_get(reply->parameters, "reason"));
    if (strcmp(reply->error, CONTROL_ERROR_FAILED) == 0 && reason && reason[strspn(reason, "\n")]) {
        render_reason(stream, reason);
        return;
    }
    fputs("holdfastctl: ", stream);
    if (strcmp(reply->error, CONTROL_ERROR_PERMISSION_DENIED) == 0) {
        fputs("permission denied: that is for root and the daemon's user", stream);
    } else if (strcmp(reply->error, CONTROL_ERROR_METHOD_NOT_FOUND) == 0) {
        fprintf(stream, "holdfastd does not know %s", method);
    } else if (strcmp(reply->error, CONTROL_ERROR_INVALID_PARAMETER) == 0) {
        fputs("holdfastd refused the parameter ", stream);
        put_field(stream, reply->parameters, "parameter");
    } else {
        fputs("holdfastd answered ", stream);
        put_text(stream, reply->error);
    }
    fputc('\n', stream);
}
