#pragma once

/*
 * Control messages: Varlink's framing and shape. A call is {"method": "...", "parameters": {...},
 * "more": true}; a reply {"parameters": {...}, "continues": true} or {"error": "...", "parameters":
 * {...}}. One message is one JSON object ended by a NUL. No I/O here: text in, text out. jansson
 * stays inside this folder and the tools' --json output.
 */

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/util.h"

#define CONTROL_INTERFACE "io.holdfast.Control"

#define CONTROL_CALL_SIZE_MAX ((size_t) 64 * 1024)
#define CONTROL_REPLY_SIZE_MAX ((size_t) 4 * 1024 * 1024)
/* Objects and arrays within each other. */
#define CONTROL_DEPTH_MAX 16

struct control_call {
    char *method;       /* "io.holdfast.Control.Status" */
    json_t *parameters; /* an object, never NULL */
    bool more;          /* the caller takes several replies */
    bool oneway;        /* the caller takes none */
};

struct control_reply {
    char *error;        /* NULL on success */
    json_t *parameters; /* an object, never NULL */
    bool continues;
};

/*
 * 0; -EBADMSG when it is not a call, or too large or too deep, or has a key twice, an unknown one,
 * or a NUL inside; -ENOMEM. `text` is without the NUL that ends it.
 */
MUST_CHECK int control_call_parse(const char *text, size_t size_bytes,
                                  struct control_call *ret_call);
void control_call_deinit(struct control_call *call);
MUST_CHECK int control_reply_parse(const char *text, size_t size_bytes,
                                   struct control_reply *ret_reply);
void control_reply_deinit(struct control_reply *reply);

/*
 * Text for the wire (without NUL), freed by the caller; NULL when out of memory. They take over
 * `parameters` (NULL: {}).
 */
char *control_call_format(const char *method, json_t *parameters, bool more);
char *control_reply_format(json_t *parameters, bool continues);
char *control_error_format(const char *error, json_t *parameters);

/* Standard errors of Varlink, and ours. */
#define CONTROL_ERROR_METHOD_NOT_FOUND                                                             \
    "org.varlink.service.MethodNotFound" /* parameters: {"method": name} */
#define CONTROL_ERROR_INVALID_PARAMETER                                                            \
    "org.varlink.service.InvalidParameter" /* parameters: {"parameter": name} */
#define CONTROL_ERROR_PERMISSION_DENIED "org.varlink.service.PermissionDenied"
#define CONTROL_ERROR_EXPECTED_MORE "org.varlink.service.ExpectedMore"
#define CONTROL_ERROR_FAILED CONTROL_INTERFACE ".Failed" /* parameters: {"reason": text} */
