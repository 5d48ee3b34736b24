/* Each parameter has a reader; the names a method knows are the readers it is given. */

#include "control/filter.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* The names of mapping_protocol_format(), which is above this folder. */
static const struct {
    const char *name;
    uint8_t number;
} protocols[] = {
    {"all", 0},   {"ICMP", 1},    {"TCP", 6},    {"UDP", 17},
    {"DCCP", 33}, {"ICMPv6", 58}, {"SCTP", 132}, {"UDPLITE", 136},
};

int control_protocol_parse(const char *text, uint8_t *ret_protocol)
{
    for (size_t i = 0; i < N_ELEMENTS(protocols); i++) {
        if (strcasecmp(text, protocols[i].name) == 0) {
            *ret_protocol = protocols[i].number;
            return 0;
        }
    }
    size_t length = strlen(text);
    if (length == 0 || length > 3 || strspn(text, "0123456789") != length)
        return -EINVAL;
    long number = strtol(text, NULL, 10);
    if (number > UINT8_MAX)
        return -EINVAL;
    *ret_protocol = (uint8_t) number;
    return 0;
}

static bool read_integer(const json_t *value, json_int_t minimum, json_int_t maximum,
                         json_int_t *ret_integer)
{
    if (!json_is_integer(value) || json_integer_value(value) < minimum ||
        json_integer_value(value) > maximum)
        return false;
    *ret_integer = json_integer_value(value);
    return true;
}

static bool read_subscriber(const json_t *value, struct control_filter *filter)
{
    filter->has_subscriber = json_is_string(value) &&
                             ip_prefix_parse(json_string_value(value), &filter->subscriber) == 0;
    return filter->has_subscriber;
}

static bool read_protocol(const json_t *value, struct control_filter *filter)
{
    json_int_t number;
    if (json_is_string(value)) {
        filter->has_protocol =
            control_protocol_parse(json_string_value(value), &filter->protocol) == 0;
    } else if (read_integer(value, 0, UINT8_MAX, &number)) {
        filter->protocol = (uint8_t) number;
        filter->has_protocol = true;
    }
    return filter->has_protocol;
}

static bool read_port(const json_t *value, uint16_t *ret_port, bool *ret_has_port)
{
    json_int_t number;
    if (!read_integer(value, 0, UINT16_MAX, &number))
        return false;
    *ret_port = (uint16_t) number;
    *ret_has_port = true;
    return true;
}

static bool read_internal_port(const json_t *value, struct control_filter *filter)
{
    return read_port(value, &filter->internal_port, &filter->has_internal_port);
}

static bool read_external_port(const json_t *value, struct control_filter *filter)
{
    return read_port(value, &filter->external_port, &filter->has_external_port);
}

static bool read_id(const json_t *value, struct control_filter *filter)
{
    json_int_t number;
    if (!read_integer(value, 1, INT64_MAX, &number))
        return false;
    filter->id = (uint64_t) number;
    filter->has_id = true;
    return true;
}

static bool read_all(const json_t *value, struct control_filter *filter)
{
    (void) filter;
    return json_is_true(value);
}

struct parameter {
    const char *name;
    bool (*read)(const json_t *value, struct control_filter *filter);
};

static const struct parameter list_parameters[] = {
    {"subscriber", read_subscriber},
    {"protocol", read_protocol},
    {"internal_port", read_internal_port},
    {"external_port", read_external_port},
    {"id", read_id},
};

static const struct parameter clear_parameters[] = {
    {"subscriber", read_subscriber},
    {"id", read_id},
    {"all", read_all},
};

static const struct parameter *find_parameter(const struct parameter *known, size_t n_known,
                                              const char *name)
{
    for (size_t i = 0; i < n_known; i++) {
        if (strcmp(known[i].name, name) == 0)
            return &known[i];
    }
    return NULL;
}

static int parse(json_t *parameters, const struct parameter *known, size_t n_known,
                 struct control_filter *ret_filter, const char **ret_parameter)
{
    struct control_filter filter = {0};
    const char *name;
    json_t *value;
    json_object_foreach(parameters, name, value)
    {
        const struct parameter *parameter = find_parameter(known, n_known, name);
        if (!parameter || !parameter->read(value, &filter)) {
            *ret_parameter = parameter ? parameter->name : name;
            return -EINVAL;
        }
    }
    *ret_filter = filter;
    return 0;
}

int control_filter_parse(json_t *parameters, struct control_filter *ret_filter,
                         const char **ret_parameter)
{
    return parse(parameters, list_parameters, N_ELEMENTS(list_parameters), ret_filter,
                 ret_parameter);
}

int control_filter_parse_clear(json_t *parameters, struct control_filter *ret_filter,
                               const char **ret_parameter)
{
    struct control_filter filter;
    int result =
        parse(parameters, clear_parameters, N_ELEMENTS(clear_parameters), &filter, ret_parameter);
    if (result < 0)
        return result;
    size_t n_given = 0;
    for (size_t i = 0; i < N_ELEMENTS(clear_parameters); i++) {
        if (!json_object_get(parameters, clear_parameters[i].name))
            continue;
        if (++n_given > 1) {
            *ret_parameter = clear_parameters[i].name;
            return -EINVAL;
        }
    }
    if (n_given == 0) {
        *ret_parameter = "all";
        return -EINVAL;
    }
    *ret_filter = filter;
    return 0;
}

bool control_filter_matches(const struct control_filter *filter,
                            const struct control_filter_subject *subject)
{
    return (!filter->has_subscriber ||
            ip_prefix_contains(&filter->subscriber, &subject->internal_address)) &&
           (!filter->has_protocol || filter->protocol == subject->protocol) &&
           (!filter->has_internal_port || filter->internal_port == subject->internal_port) &&
           (!filter->has_external_port || filter->external_port == subject->external_port) &&
           (!filter->has_id || filter->id == subject->id);
}
