#pragma once

#include <stddef.h>

#define CONTAINER_OF(pointer, type, member) ((type *) ((char *) (pointer) -offsetof(type, member)))
#define N_ELEMENTS(array) (sizeof(array) / sizeof((array)[0]))
#define MUST_CHECK __attribute__((warn_unused_result))
