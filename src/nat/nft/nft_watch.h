#pragma once

/* News of what others do to our table. */

#include <stdbool.h>
#include <stdint.h>

#include "base/util.h"

struct nft_watch;

/* `own_port_id`: netlink port of the socket whose changes are no news. */
MUST_CHECK int nft_watch_open(uint32_t own_port_id, struct nft_watch **ret_watch);
/* Accepts NULL. */
void nft_watch_close(struct nft_watch *watch);
/* Non-blocking; readable when there is news. */
int nft_watch_fd(const struct nft_watch *watch);
/* Reads all news. True when our table was touched, or when news were lost. */
bool nft_watch_read(struct nft_watch *watch);
