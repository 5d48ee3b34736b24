#pragma once

/* The descriptors, one per option file; wire/option.c lists them in its table. */

#include "wire/option.h"

extern const struct pcp_option_descriptor pcp_option_third_party;
extern const struct pcp_option_descriptor pcp_option_prefer_failure;
extern const struct pcp_option_descriptor pcp_option_filter;
