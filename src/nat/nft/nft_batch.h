#pragma once

/*
 * One nftables transaction: messages collected in a growing buffer, sent with one sendmsg, carried
 * out all or nothing. Running out of memory is remembered and reported by nft_batch_send(), so that
 * building needs no checks. The buffer is kept from one transaction to the next.
 */

#include <netinet/in.h> /* before any of linux/, whose definitions then give way */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <libmnl/libmnl.h>

#include "base/util.h"

#define NFT_KEY_SIZE_MAX 44 /* protocol, IPv6 address, port, remote address, remote port */
#define NFT_DATA_SIZE_MAX 20

/*
 * In the kernel's layout: every field begins at a multiple of 4 octets, numbers in network order.
 */
struct nft_element {
    uint8_t key[NFT_KEY_SIZE_MAX];
    uint8_t key_end[NFT_KEY_SIZE_MAX]; /* used when is_range */
    uint8_t data[NFT_DATA_SIZE_MAX];
    uint8_t key_size;
    uint8_t data_size; /* 0: element of a set, or no matter */
    bool is_range;
    bool is_interval_end; /* marks the first value behind an interval */
    uint64_t timeout_ms;  /* 0: never */
};

/* Elements of one set travel in lists; each list is a message. */
struct nft_list {
    const char *set; /* NULL: no list is open */
    uint32_t set_id;
    uint16_t message_type;
    size_t nest_offset;
};

struct nft_batch {
    const char *table; /* whose elements the lists hold */
    uint8_t *data;
    size_t size_bytes;
    size_t n_allocated;
    size_t last_offset; /* of the last message closed */
    uint32_t sequence;  /* of the last message */
    bool failed;
    /* One element per message, so that an error names its element. */
    bool is_singly;
    struct nft_list list;
};

/* `table` outlives the batch. */
void nft_batch_init(struct nft_batch *batch, const char *table);
void nft_batch_deinit(struct nft_batch *batch);

/* Empties it and starts a transaction. */
void nft_batch_begin(struct nft_batch *batch);
/*
 * A message for the family inet of at most `room_bytes`, to be filled through the header and closed
 * before the next call; NULL when out of memory. `message_type` is an NFT_MSG_ number.
 */
struct nlmsghdr *nft_batch_open_message(struct nft_batch *batch, uint16_t message_type,
                                        uint16_t flags, size_t room_bytes);
void nft_batch_close_message(struct nft_batch *batch, const struct nlmsghdr *header);

/*
 * Elements for `set`, a string that outlives the list; `set_id` is not 0 for a set that only this
 * transaction knows. Nothing else may be added until the list is closed.
 */
void nft_batch_open_list(struct nft_batch *batch, uint16_t message_type, const char *set,
                         uint32_t set_id);
void nft_batch_put_element(struct nft_batch *batch, const struct nft_element *element);
void nft_batch_close_list(struct nft_batch *batch);
/* A message that does nothing, but fails with ENOENT when the table or the set is not there. */
void nft_batch_put_nothing(struct nft_batch *batch, const char *set);

/*
 * Told of every failed message; an error without its own message has the number of the
 * transaction's begin.
 */
struct nft_error_handler {
    void (*failed)(void *context, uint32_t sequence, int error);
    void *context;
};

/*
 * Sends the transaction and collects the kernel's verdict. 0, or the first -errno: then nothing was
 * changed. `errors` may be NULL.
 */
MUST_CHECK int nft_batch_send(struct nft_batch *batch, struct mnl_socket *socket,
                              const struct nft_error_handler *errors);
