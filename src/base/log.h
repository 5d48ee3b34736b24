#pragma once

/*
 * Structured log lines: a message in words and key=value fields. Written by programs only; layers below return enough
 * to log well (debug lines excepted). One line per call, to stderr, journald-style "<N>" level prefix when stderr is the
 * journal. Values are quoted when they need it, control characters escaped, so one call is one line whatever a client sent.
 */

#include <stdbool.h>
#include <stdint.h>

enum log_level {
    LOG_LEVEL_ERROR = 3,
    LOG_LEVEL_WARNING = 4,
    LOG_LEVEL_NOTICE = 5,
    LOG_LEVEL_INFO = 6,
    LOG_LEVEL_DEBUG = 7,
};

void log_set_level(enum log_level level);
enum log_level log_level(void);
const char *log_level_name(enum log_level level);
/* 0, or -EINVAL for an unknown name. */
int log_level_parse(const char *name, enum log_level *ret_level)
    __attribute__((warn_unused_result));

/*
 * log_event(LOG_LEVEL_INFO, "mapping made", "internal", text, "lifetime_s", "7200", NULL): pairs of strings, ended by NULL.
 * A NULL value prints as "-".
 */
void log_event(enum log_level level, const char *message, ...) __attribute__((sentinel));
/* printf form for plain messages. */
void log_message(enum log_level level, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/*
 * Rate limit for lines a remote can provoke: at most `burst` lines per `interval_s`; when the interval ends with
 * suppressed lines, the next permitted one is preceded by "N similar lines suppressed".
 */
struct log_limit {
    uint64_t interval_start_ns;
    uint32_t n_logged;
    uint32_t n_suppressed;
};
bool log_limit_permits(struct log_limit *limit, uint64_t now_ns, uint32_t burst,
                       uint32_t interval_s);
