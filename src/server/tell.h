#pragma once

/*
 * Telling clients what they did not ask for (RFC 6887 s14): announcements after state was lost or may have been, to all
 * or to one subscriber, and Mapping Updates for mappings whose external endpoint changed.
 */

#include "base/deadline_heap.h"
#include "base/list.h"
#include "mapping/table.h"

struct server;

/* RFC 6887 s14.1.3, RFC 6886 s3.2.1: 10 times, the first gap 250 ms, each one doubled. */
#define TELL_ANNOUNCEMENTS 10
/* RFC 6887 s14.2: three times, after 250 ms and then 500 ms. */
#define TELL_UPDATES 3
#define TELL_FIRST_GAP_NS (250 * NS_PER_MS)
/* Clients and mappings told of at the same time; beyond that everybody's Epoch restarts instead. */
#define TELL_NOTICES_MAX 65536

/* The repeated announcement to everybody. */
struct announcer {
    unsigned int n_left;
    uint64_t next_ns;
    uint64_t gap_ns;
    bool is_due;
    bool tells_pcp; /* else NAT-PMP's only */
    uint64_t natpmp_epoch_zero_ns;
};

void tell_init(struct server *server);
void tell_deinit(struct server *server);
/* Everybody's Epoch is new, or we are: the schedule begins (again) at `now_ns`. */
void tell_all(struct server *server, uint64_t now_ns);
/* The external address is new: NAT-PMP announces that to everybody (RFC 6886 s3.2.1). */
void tell_address(struct server *server, uint64_t now_ns);
/* The Epoch of the subscriber of `record` is new: announced to it and to the client that manages the mapping. */
void tell_subscriber(struct server *server, uint64_t now_ns, const struct mapping_record *record);
/* The mapping's external endpoint is new. */
void tell_update(struct server *server, uint64_t now_ns, const struct mapping_record *record);
/* The mapping was made with PREFER_FAILURE, its external endpoint is gone, and so is the mapping. */
void tell_lost(struct server *server, uint64_t now_ns, const struct mapping_record *record);
/* The client has refreshed or deleted the mapping: no more updates of it. */
void tell_cancel(struct server *server, uint64_t id);
/* Sends what is due. */
void tell_advance(struct server *server, uint64_t now_ns);
uint64_t tell_next_ns(const struct server *server);
