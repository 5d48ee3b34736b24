/*
 * jansson refuses most of what must be refused (duplicate keys, NULs in strings, text behind the
 * object); size and depth are checked before it sees the text, so that nothing a client sends is
 * paid for beyond its bound.
 */

#include "control/message.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Brackets outside strings; whether they match is jansson's to say. */
static bool is_too_deep(const char *text, size_t size_bytes)
{
    size_t depth = 0;
    bool in_string = false;
    for (size_t i = 0; i < size_bytes; i++) {
        char octet = text[i];
        if (in_string) {
            if (octet == '\\')
                i++;
            else if (octet == '"')
                in_string = false;
        } else if (octet == '"') {
            in_string = true;
        } else if (octet == '{' || octet == '[') {
            if (++depth > CONTROL_DEPTH_MAX)
                return true;
        } else if ((octet == '}' || octet == ']') && depth > 0) {
            depth--;
        }
    }
    return false;
}

static int parse_object(const char *text, size_t size_bytes, size_t size_max, json_t **ret_object)
{
    if (size_bytes > size_max || memchr(text, '\0', size_bytes) || is_too_deep(text, size_bytes))
        return -EBADMSG;
    json_error_t error;
    json_t *object = json_loadb(text, size_bytes, JSON_REJECT_DUPLICATES, &error);
    if (!object)
        return json_error_code(&error) == json_error_out_of_memory ? -ENOMEM : -EBADMSG;
    if (!json_is_object(object)) {
        json_decref(object);
        return -EBADMSG;
    }
    *ret_object = object;
    return 0;
}

static int read_flag(const json_t *value, bool *ret_flag)
{
    if (!json_is_boolean(value))
        return -EBADMSG;
    *ret_flag = json_is_true(value);
    return 0;
}

/* Each member is read once, duplicates being refused already. */
static int read_text(const json_t *value, char **ret_text)
{
    if (!json_is_string(value) || *ret_text)
        return -EBADMSG;
    *ret_text = strdup(json_string_value(value));
    return *ret_text ? 0 : -ENOMEM;
}

static int read_parameters(json_t *value, json_t **ret_parameters)
{
    if (!json_is_object(value))
        return -EBADMSG;
    *ret_parameters = json_incref(value);
    return 0;
}

/* Varlink lets both be left out. */
static int complete_parameters(json_t **parameters)
{
    if (!*parameters)
        *parameters = json_object();
    return *parameters ? 0 : -ENOMEM;
}

static int read_call_member(struct control_call *call, const char *key, json_t *value)
{
    if (strcmp(key, "method") == 0)
        return read_text(value, &call->method);
    if (strcmp(key, "parameters") == 0)
        return read_parameters(value, &call->parameters);
    if (strcmp(key, "more") == 0)
        return read_flag(value, &call->more);
    if (strcmp(key, "oneway") == 0)
        return read_flag(value, &call->oneway);
    return -EBADMSG;
}

static int read_call(json_t *object, struct control_call *call)
{
    const char *key;
    json_t *value;
    json_object_foreach(object, key, value)
    {
        int result = read_call_member(call, key, value);
        if (result < 0)
            return result;
    }
    if (!call->method || (call->more && call->oneway))
        return -EBADMSG;
    return complete_parameters(&call->parameters);
}

int control_call_parse(const char *text, size_t size_bytes, struct control_call *ret_call)
{
    json_t *object;
    int result = parse_object(text, size_bytes, CONTROL_CALL_SIZE_MAX, &object);
    if (result < 0)
        return result;
    struct control_call call = {0};
    result = read_call(object, &call);
    json_decref(object);
    if (result < 0)
        control_call_deinit(&call);
    else
        *ret_call = call;
    return result;
}

void control_call_deinit(struct control_call *call)
{
    free(call->method);
    json_decref(call->parameters);
    *call = (struct control_call){0};
}

static int read_reply_member(struct control_reply *reply, const char *key, json_t *value)
{
    if (strcmp(key, "error") == 0)
        return read_text(value, &reply->error);
    if (strcmp(key, "parameters") == 0)
        return read_parameters(value, &reply->parameters);
    if (strcmp(key, "continues") == 0)
        return read_flag(value, &reply->continues);
    return -EBADMSG;
}

static int read_reply(json_t *object, struct control_reply *reply)
{
    const char *key;
    json_t *value;
    json_object_foreach(object, key, value)
    {
        int result = read_reply_member(reply, key, value);
        if (result < 0)
            return result;
    }
    if (reply->error && reply->continues)
        return -EBADMSG;
    return complete_parameters(&reply->parameters);
}

int control_reply_parse(const char *text, size_t size_bytes, struct control_reply *ret_reply)
{
    json_t *object;
    int result = parse_object(text, size_bytes, CONTROL_REPLY_SIZE_MAX, &object);
    if (result < 0)
        return result;
    struct control_reply reply = {0};
    result = read_reply(object, &reply);
    json_decref(object);
    if (result < 0)
        control_reply_deinit(&reply);
    else
        *ret_reply = reply;
    return result;
}

void control_reply_deinit(struct control_reply *reply)
{
    free(reply->error);
    json_decref(reply->parameters);
    *reply = (struct control_reply){0};
}

/* Takes over `object` and `parameters`. */
static char *format_message(json_t *object, json_t *parameters, const char *flag, bool flag_value)
{
    if (!parameters)
        parameters = json_object();
    char *text = NULL;
    /* json_object_set_new() takes over its value even when it fails, and accepts NULL for both. */
    if (json_object_set_new(object, "parameters", parameters) == 0 &&
        (!flag_value || json_object_set_new(object, flag, json_true()) == 0))
        text = json_dumps(object, JSON_COMPACT);
    json_decref(object);
    return text;
}

char *control_call_format(const char *method, json_t *parameters, bool more)
{
    return format_message(json_pack("{s:s}", "method", method), parameters, "more", more);
}

char *control_reply_format(json_t *parameters, bool continues)
{
    return format_message(json_object(), parameters, "continues", continues);
}

char *control_error_format(const char *error, json_t *parameters)
{
    return format_message(json_pack("{s:s}", "error", error), parameters, "continues", false);
}
