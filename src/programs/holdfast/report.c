/* People get sentences, scripts get --json; both get a refusal on standard error, and the exit status. */

#include "programs/holdfast/report.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#define PROTOCOL_TEXT_SIZE 16
#define NONCE_TEXT_SIZE (2 * PCP_NONCE_SIZE + 1)

static const char *format_protocol(uint8_t protocol, char *ret_text)
{
    const char *name = arguments_protocol_name(protocol);
    if (name)
        return name;
    snprintf(ret_text, PROTOCOL_TEXT_SIZE, "%u", (unsigned) protocol);
    return ret_text;
}

static const char *format_nonce(const uint8_t *nonce, char *ret_text)
{
    for (size_t i = 0; i < PCP_NONCE_SIZE; i++)
        snprintf(ret_text + 2 * i, 3, "%02x", nonce[i]);
    return ret_text;
}

/* What a result means to somebody who has not read RFC 6887 s7.4. */
static const char *explain_result(uint8_t result)
{
    static const char *const words[] = {
        [PCP_RESULT_UNSUPP_VERSION] = "the server does not speak PCP version 2",
        [PCP_RESULT_NOT_AUTHORIZED] =
            "this host may not do that, or the mapping belongs to another nonce",
        [PCP_RESULT_MALFORMED_REQUEST] = "the server could not make sense of the request",
        [PCP_RESULT_UNSUPP_OPCODE] = "the server does not do this kind of request",
        [PCP_RESULT_UNSUPP_OPTION] = "the server does not know an option used, or forbids it",
        [PCP_RESULT_MALFORMED_OPTION] = "the server found an option wrong",
        [PCP_RESULT_NETWORK_FAILURE] = "the server's own network is not ready",
        [PCP_RESULT_NO_RESOURCES] = "the server has no room or no port left",
        [PCP_RESULT_UNSUPP_PROTOCOL] = "the server cannot map this protocol",
        [PCP_RESULT_USER_EX_QUOTA] = "this host has all the mappings it may have",
        [PCP_RESULT_CANNOT_PROVIDE_EXTERNAL] = "the external port or address is not to be had",
        [PCP_RESULT_ADDRESS_MISMATCH] = "another NAT stands between this host and the server",
        [PCP_RESULT_EXCESSIVE_REMOTE_PEERS] = "more filters than the server takes",
    };
    if (result < N_ELEMENTS(words) && words[result])
        return words[result];
    return "a result this program does not know";
}

static json_t *pack_endpoint(const struct ip_address *address, uint16_t port)
{
    char text[IP_ADDRESS_TEXT_SIZE];
    return json_pack("{s:s, s:i}", "address", ip_address_format(address, text), "port", (int) port);
}

/* The fields of MAP; the external endpoint is null when nothing was granted. */
static int add_mapping(json_t *object, const struct exchange *exchange,
                       const struct pcp_request *request, const struct pcp_response *response)
{
    const struct pcp_mapping_fields *asked = &request->mapping;
    const struct endpoint *external = &response->mapping.external;
    char protocol[PROTOCOL_TEXT_SIZE], nonce[NONCE_TEXT_SIZE];
    json_t *mapping = json_pack(
        "{s:s, s:o, s:o, s:s}", "protocol", format_protocol(asked->protocol, protocol), "internal",
        pack_endpoint(&exchange->client_address, asked->internal_port), "external",
        response->result == PCP_RESULT_SUCCESS ? pack_endpoint(&external->address, external->port)
                                               : json_null(),
        "nonce", format_nonce(asked->nonce, nonce));
    int error = mapping ? json_object_update(object, mapping) : -1;
    json_decref(mapping);
    return error;
}

static int print_json(const struct exchange *exchange, const struct pcp_request *request,
                      const struct pcp_response *response, bool is_natpmp)
{
    char server[ENDPOINT_TEXT_SIZE];
    /* NAT-PMP's answer has no lifetime, and an Epoch of another kind. */
    json_t *object = json_pack("{s:i, s:s, s:o, s:o, s:s}", "result", (int) response->result,
                               "result_name", pcp_result_name(response->result), "lifetime_s",
                               is_natpmp ? json_null() : json_integer(response->lifetime_s),
                               "epoch_s", is_natpmp ? json_null() : json_integer(response->epoch_s),
                               "server", endpoint_format(&exchange->server, server));
    int error = object ? 0 : -1;
    if (error == 0 && request->opcode == PCP_OPCODE_MAP)
        error = add_mapping(object, exchange, request, response);
    if (error == 0)
        error = json_dumpf(object, stdout, 0);
    json_decref(object);
    putchar('\n');
    return error;
}

static void print_mapped(const struct exchange *exchange, const struct pcp_request *request,
                         const struct pcp_response *response)
{
    char protocol[PROTOCOL_TEXT_SIZE], nonce[NONCE_TEXT_SIZE];
    char internal[ENDPOINT_TEXT_SIZE], external[ENDPOINT_TEXT_SIZE];
    struct endpoint inside = {exchange->client_address, request->mapping.internal_port};
    printf("%s %s is reached from outside at %s for %" PRIu32 " s\n",
           format_protocol(request->mapping.protocol, protocol), endpoint_format(&inside, internal),
           endpoint_format(&response->mapping.external, external), response->lifetime_s);
    printf("nonce %s (renews or removes it)\n", format_nonce(request->mapping.nonce, nonce));
}

static void print_unmapped(const struct exchange *exchange, const struct pcp_request *request)
{
    char protocol[PROTOCOL_TEXT_SIZE], internal[ENDPOINT_TEXT_SIZE];
    struct endpoint inside = {exchange->client_address, request->mapping.internal_port};
    printf("%s %s is not mapped any more\n", format_protocol(request->mapping.protocol, protocol),
           endpoint_format(&inside, internal));
}

static void print_granted(const struct arguments *arguments, const struct exchange *exchange,
                          const struct pcp_request *request, const struct pcp_response *response)
{
    char server[ENDPOINT_TEXT_SIZE];
    switch (arguments->command) {
    case COMMAND_MAP:
        print_mapped(exchange, request, response);
        break;
    case COMMAND_UNMAP:
        print_unmapped(exchange, request);
        break;
    case COMMAND_ANNOUNCE:
        printf("the Epoch of %s is %" PRIu32 " s\n", endpoint_format(&exchange->server, server),
               response->epoch_s);
        break;
    case COMMAND_HELP:
    case COMMAND_VERSION:
        break;
    }
}

/* What the command line could have had to do with it. */
static const char *advise(const struct arguments *arguments, uint8_t result)
{
    if (result == PCP_RESULT_NOT_AUTHORIZED && arguments->command == COMMAND_MAP &&
        !arguments->has_nonce)
        return "; to renew a mapping give its --nonce";
    return "";
}

static void print_refusal(const struct arguments *arguments, const struct exchange *exchange,
                          const struct pcp_response *response, bool is_natpmp)
{
    char server[ENDPOINT_TEXT_SIZE];
    endpoint_format(&exchange->server, server);
    if (is_natpmp)
        fprintf(stderr,
                "holdfast: %s refused: UNSUPP_VERSION (1): it speaks only NAT-PMP (RFC 6886), "
                "the predecessor of PCP\n",
                server);
    else
        fprintf(stderr,
                "holdfast: %s refused: %s (%u): %s%s; it asks not to be asked again for %" PRIu32
                " s\n",
                server, pcp_result_name(response->result), (unsigned) response->result,
                explain_result(response->result), advise(arguments, response->result),
                response->lifetime_s);
}

enum exit_status report_answer(const struct arguments *arguments, const struct exchange *exchange,
                               const struct pcp_request *request,
                               const struct pcp_response *response, bool is_natpmp)
{
    bool is_refused = is_natpmp || response->result != PCP_RESULT_SUCCESS;
    int error = 0;
    if (arguments->wants_json)
        error = print_json(exchange, request, response, is_natpmp);
    else if (!is_refused)
        print_granted(arguments, exchange, request, response);
    if (is_refused)
        print_refusal(arguments, exchange, response, is_natpmp);
    errno = 0;
    if (fflush(stdout) != 0 || ferror(stdout) || error != 0) {
        fprintf(stderr, "holdfast: the answer could not be written: %s\n", strerror(errno));
        return EXIT_STATUS_UNWRITTEN;
    }
    return is_refused ? EXIT_STATUS_REFUSED : EXIT_STATUS_DONE;
}
