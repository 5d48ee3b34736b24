#pragma once

/* The types of values in the configuration file. */

#include "config/directive.h"

extern const struct value_kind value_path;
extern const struct value_kind value_socket_path;
extern const struct value_kind value_log_level;
extern const struct value_kind value_interface;
extern const struct value_kind value_external_address;
extern const struct value_kind value_prefix;
extern const struct value_kind value_port_range;
extern const struct value_kind value_number;
extern const struct value_kind value_boolean;
extern const struct value_kind value_nonce_policy;
extern const struct value_kind value_third_party;
/* Of static mappings. */
extern const struct value_kind value_protocol;
extern const struct value_kind value_endpoint;
extern const struct value_kind value_port;
