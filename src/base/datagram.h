#pragma once

/* One UDP datagram with what the socket knew about it. The octets belong to whoever made it. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/address.h"

struct datagram {
    struct endpoint source;
    struct endpoint destination;
    uint32_t interface_index; /* received on, or to be sent from; 0: any */
    bool is_to_many;          /* received, and sent to a broadcast or multicast address */
    uint8_t *data;
    size_t size_bytes;
};
