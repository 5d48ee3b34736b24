#pragma once

/*
 * What engine and helper say to each other, field by field. One side encodes what the other decodes, and nothing else is
 * understood: a decoder fails the reader, for good, on any value that has no meaning and on octets left over.
 *
 * Of a mapping only that is sent which the packet path needs: no nonce, and nothing of who asked for it.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/reader.h"
#include "base/util.h"
#include "base/writer.h"
#include "mapping/change.h"
#include "nat/nat.h"

enum message_type {
    /* Engine to helper, on the channel for commands. */
    MESSAGE_APPLY = 1,  /* now, number of changes; changes */
    MESSAGE_CUT_FLOWS,  /* the same */
    MESSAGE_RECONCILE,  /* settings, now, number of records; records */
    MESSAGE_ITEMS,      /* more changes or records of the message before, at least one */
    MESSAGE_REMOVE_ALL, /* nothing */
    MESSAGE_WATCH,      /* nothing */
    /* Engine to helper, on the channel for questions. */
    MESSAGE_FIND_FLOW, /* struct message_flow */
    MESSAGE_RELOAD,    /* nothing */
    /* Helper to engine. */
    MESSAGE_READY,   /* struct message_ready: once, on the channel for commands */
    MESSAGE_VERDICT, /* struct message_verdict: what came of the last command or question */
    MESSAGE_TOUCHED, /* nothing; on the channel for news */
};

enum message_stage {
    MESSAGE_STAGE_PRIVILEGES = 1,
    MESSAGE_STAGE_NAT,
    MESSAGE_STAGE_FILES,
    MESSAGE_STAGE_THREAD,
    MESSAGE_STAGE_SYSTEM_CALLS,
    MESSAGE_STAGE_DONE,
};

/* How far the helper got, and with which error it ended, which is 0 when it is done. */
struct message_ready {
    enum message_stage stage;
    int error;
};

/* No change is larger when encoded. */
#define MESSAGE_ITEM_SIZE_MAX 4096
/* The error of a verdict is 0 or -1 to -MESSAGE_ERROR_MAX. */
#define MESSAGE_ERROR_MAX 4095

struct message_flow {
    uint8_t protocol;
    struct endpoint internal, remote;
};

struct message_verdict {
    int error;
    struct endpoint external; /* of find_flow; else all zero */
};

void message_put_settings(struct writer *writer, const struct nat_settings *settings);
void message_get_settings(struct reader *reader, struct nat_settings *ret_settings);

/*
 * Filters read are a list of one reference for the caller, also of a reader that failed. The fields that are not sent are
 * zero.
 */
void message_put_record(struct writer *writer, const struct mapping_record *record);
void message_get_record(struct reader *reader, struct mapping_record *ret_record);
void message_put_change(struct writer *writer, const struct change *change);
void message_get_change(struct reader *reader, struct change *ret_change);

void message_put_flow(struct writer *writer, const struct message_flow *flow);
void message_get_flow(struct reader *reader, struct message_flow *ret_flow);
void message_put_ready(struct writer *writer, const struct message_ready *ready);
void message_get_ready(struct reader *reader, struct message_ready *ret_ready);
void message_put_verdict(struct writer *writer, const struct message_verdict *verdict);
void message_get_verdict(struct reader *reader, struct message_verdict *ret_verdict);

/* True when everything was read and nothing is left over. */
bool message_is_whole(const struct reader *reader);
