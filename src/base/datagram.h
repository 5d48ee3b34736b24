#pragma once

/* One UDP datagram with what the socket knew about it. The octets belong to whoever made it. */

#include <stddef.h>
#include <stdint.h>

#include "base/address.h"

struct datagram {
    struct endpoint source;
    struct endpoint destination;
    uint32_t interface_index; /* received on, or to be sent from; 0: any */
    uint8_t *data;
    size_t size_bytes;
};
