#pragma once

/*
 * The daemon's answers in words and tables. Fields that are missing or strange show as "?", control
 * characters as '?'.
 */

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "control/message.h"

#define RENDER_N_COLUMNS 9
#define RENDER_DURATION_SIZE 24

/*
 * A table printed part by part, as the replies come; columns get wider when they have to, never
 * narrower.
 */
struct render_table {
    size_t widths[RENDER_N_COLUMNS];
    size_t n_rows;
};

/* "42s", "5m07s", "1h56m", "3d04h". Returns ret_text (RENDER_DURATION_SIZE octets). */
const char *render_duration(uint64_t seconds, char *ret_text);

void render_status(FILE *stream, json_t *parameters);

void render_table_init(struct render_table *table);
/* `mappings` is an array of docs/control.md's mappings. */
void render_table_add(struct render_table *table, FILE *stream, const json_t *mappings);
/* Says so when there was no row. */
void render_table_end(const struct render_table *table, FILE *stream);

/*
 * A reply that is an error, for `method`: one line, several for a reason of several lines, each
 * "holdfastctl: ...".
 */
void render_error(FILE *stream, const char *method, const struct control_reply *reply);
