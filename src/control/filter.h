#pragma once

/* Which mappings a List or Clear means: their parameters, checked (docs/control.md). Pure. */

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/address.h"
#include "base/util.h"

/* What is not given matches everything. */
struct control_filter {
    bool has_subscriber, has_protocol, has_internal_port, has_external_port, has_id;
    struct ip_prefix subscriber;
    uint8_t protocol;
    uint16_t internal_port;
    uint16_t external_port;
    uint64_t id;
};

/* The values of a mapping that a filter looks at. */
struct control_filter_subject {
    uint64_t id;
    struct ip_address internal_address;
    uint16_t internal_port;
    uint16_t external_port;
    uint8_t protocol;
};

/*
 * From the parameters of List. 0, or -EINVAL with the name of the parameter that is unknown, of the
 * wrong type or out of range in `ret_parameter`, for InvalidParameter; it points into `parameters`
 * or to a constant.
 */
MUST_CHECK int control_filter_parse(json_t *parameters, struct control_filter *ret_filter,
                                    const char **ret_parameter);
/*
 * The same for Clear, which takes exactly one of subscriber, id and all; "all" gives the filter
 * that matches everything.
 */
MUST_CHECK int control_filter_parse_clear(json_t *parameters, struct control_filter *ret_filter,
                                          const char **ret_parameter);
bool control_filter_matches(const struct control_filter *filter,
                            const struct control_filter_subject *subject);

/* A protocol by name (in any case) or decimal number. 0 or -EINVAL. */
MUST_CHECK int control_protocol_parse(const char *text, uint8_t *ret_protocol);
