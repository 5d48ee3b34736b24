#pragma once

/* What holdfast tells the user: the answer on standard output, a refusal as one line on standard error. */

#include <stdbool.h>

#include "programs/holdfast/arguments.h"
#include "programs/holdfast/exchange.h"
#include "wire/request.h"
#include "wire/response.h"

enum exit_status {
    EXIT_STATUS_DONE = 0,
    EXIT_STATUS_REFUSED = 1,
    EXIT_STATUS_USAGE = 2,
    EXIT_STATUS_UNANSWERED = 3,
    EXIT_STATUS_UNSENT = 4,
    EXIT_STATUS_UNWRITTEN = 5,
};

/* Of an answered exchange; `is_natpmp`: the server said it knows version 0 only. */
enum exit_status report_answer(const struct arguments *arguments, const struct exchange *exchange,
                               const struct pcp_request *request,
                               const struct pcp_response *response, bool is_natpmp);
