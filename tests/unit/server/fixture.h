#pragma once

/* What every test here begins with. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "base/time.h"
#include "engine.h"

#define HOST_A ENGINE_HOST_A
#define HOST_B ENGINE_HOST_B
#define ENGINE_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

static inline int setup(void **state)
{
    struct engine *engine = malloc(sizeof(*engine));
    struct server_settings settings = engine_settings();
    if (!engine)
        return -1;
    engine_start(engine, &settings, 1);
    *state = engine;
    return 0;
}

static inline int teardown(void **state)
{
    struct engine *engine = *state;
    engine_stop(engine);
    free(engine);
    return 0;
}

static inline void restart_with(struct engine *engine, const struct server_settings *settings)
{
    engine_stop(engine);
    engine_start(engine, settings, 1);
}

static inline void assert_consistent(const struct engine *engine)
{
    const char *fault = engine_inconsistency(engine);
    if (fault)
        fail_msg("%s", fault);
}

static inline void assert_result(const struct pcp_response *response, uint8_t result)
{
    assert_string_equal(pcp_result_name(response->result), pcp_result_name(result));
}
