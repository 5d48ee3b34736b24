#pragma once

/* UDP sockets that know on which interface and to which address a datagram came, and answer from there. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/address.h"
#include "base/datagram.h"
#include "base/util.h"

#define DATAGRAM_BATCH_MAX 64
#define DATAGRAM_SIZE_MAX 1536

struct datagram_socket;

/*
 * A non-blocking socket bound to `local` (address any of either family: all addresses of that family; IPv6 sockets are IPv6 only).
 * `reuse` sets SO_REUSEADDR, as port 5350 is shared. Receive and send buffers are raised to `buffer_bytes` where the kernel allows.
 * 0 or -errno.
 */
MUST_CHECK int datagram_socket_open(const struct endpoint *local, bool reuse, size_t buffer_bytes,
                                    struct datagram_socket **ret_socket);
void datagram_socket_close(struct datagram_socket *socket);
int datagram_socket_fd(const struct datagram_socket *socket);
/* The endpoint it is bound to. */
MUST_CHECK int datagram_socket_local(const struct datagram_socket *socket,
                                     struct endpoint *ret_local);
/*
 * Up to DATAGRAM_BATCH_MAX datagrams (recvmmsg); their octets live in the socket until the next call. A datagram longer than
 * DATAGRAM_SIZE_MAX arrives cut to that, which every PCP limit is below. Returns the number, 0 when there is none, -errno.
 * Source, destination and interface are filled in; IPv4 addresses in mapped form.
 */
MUST_CHECK int datagram_socket_receive(struct datagram_socket *socket,
                                       struct datagram *ret_datagrams, size_t n_datagrams);
/*
 * Sends each from its `source` address (any: the kernel chooses) and `interface_index` (0: routing chooses) to its
 * `destination` (sendmmsg). Those the kernel refuses are passed over. Returns how many left.
 */
size_t datagram_socket_send(struct datagram_socket *socket, const struct datagram *datagrams,
                            size_t n_datagrams);
