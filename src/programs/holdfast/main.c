/*
 * holdfast: one PCP request from the command line. It finds the server, asks, prints the answer and ends; nothing keeps
 * the mapping alive afterwards.
 */

#include <errno.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>

#include "base/random.h"
#include "io/machine.h"
#include "programs/holdfast/arguments.h"
#include "programs/holdfast/exchange.h"
#include "programs/holdfast/gateway.h"
#include "programs/holdfast/report.h"

#define SOURCES_MAX 32

struct target {
    struct endpoint server;
    const char *interface; /* empty when the address says enough */
};

/* 0 or -ENOENT: no server was named and there is no default route over a gateway. */
static int find_target(const struct arguments *arguments, struct gateway *gateway,
                       struct target *ret_target)
{
    if (arguments->has_server) {
        *ret_target = (struct target){arguments->server, arguments->server_interface};
        return 0;
    }
    int error = gateway_find(gateway);
    if (error < 0)
        return error;
    *ret_target = (struct target){{gateway->address, PCP_SERVER_PORT}, gateway->interface};
    return 0;
}

/* fc00::/7: addresses that mean nothing outside the site. */
static bool is_unique_local(const struct ip_address *address)
{
    return (address->octets[0] & 0xfe) == 0xfc;
}

/*
 * To a link-local server the kernel would send from a link-local address, which nobody outside could reach: a global one of
 * the interface is better, a unique local one second best. Any when there is none.
 */
static struct ip_address choose_source(const struct arguments *arguments,
                                       const struct target *target)
{
    struct ip_address addresses[SOURCES_MAX], chosen = IP_ADDRESS_ANY_IPV6;
    const struct ip_address *server = &target->server.address;
    if (arguments->has_internal_address)
        return arguments->internal_address;
    if (ip_address_is_ipv4(server) || !ip_address_is_link_local(server))
        return chosen;
    int n = machine_interface_addresses(target->interface, MACHINE_SCOPE_ROUTED, addresses,
                                        SOURCES_MAX);
    for (int i = 0; i < n; i++) {
        if (ip_address_is_ipv4(&addresses[i]) || ip_address_is_loopback(&addresses[i]))
            continue;
        if (ip_address_is_any(&chosen) || is_unique_local(&chosen))
            chosen = addresses[i];
    }
    return chosen;
}

static void add_options(const struct arguments *arguments, struct pcp_request *request)
{
    if (arguments->prefers_failure)
        request->options[request->n_options++].code = PCP_OPTION_PREFER_FAILURE;
    for (size_t i = 0; i < arguments->n_filters; i++) {
        request->options[request->n_options++] = (struct pcp_option){
            .code = PCP_OPTION_FILTER,
            .filter = arguments->filters[i],
        };
    }
}

static void build_request(const struct arguments *arguments,
                          const struct ip_address *client_address, struct pcp_request *ret_request)
{
    struct pcp_mapping_fields *mapping = &ret_request->mapping;
    memset(ret_request, 0, sizeof(*ret_request));
    ret_request->client_address = *client_address;
    ret_request->opcode = PCP_OPCODE_ANNOUNCE;
    if (arguments->command == COMMAND_ANNOUNCE)
        return;
    ret_request->opcode = PCP_OPCODE_MAP;
    ret_request->lifetime_s = arguments->command == COMMAND_MAP ? arguments->lifetime_s : 0;
    mapping->protocol = arguments->protocol;
    mapping->internal_port = arguments->internal_port;
    mapping->external = arguments->external;
    /* All zeros of the family wanted outside, when no address is (RFC 6887 s11.2). */
    if (!arguments->has_external_address)
        mapping->external.address =
            ip_address_is_ipv4(client_address) ? IP_ADDRESS_ANY_IPV4 : IP_ADDRESS_ANY_IPV6;
    memcpy(mapping->nonce, arguments->nonce, sizeof(mapping->nonce));
    if (!arguments->has_nonce) {
        struct random_source random = random_system();
        random_fill(&random, mapping->nonce, sizeof(mapping->nonce));
    }
    add_options(arguments, ret_request);
}

static enum exit_status report_unsent(const struct endpoint *server, int error)
{
    char text[ENDPOINT_TEXT_SIZE];
    fprintf(stderr, "holdfast: cannot send to %s: %s\n", endpoint_format(server, text),
            strerror(-error));
    return EXIT_STATUS_UNSENT;
}

static enum exit_status report_unopened(const struct arguments *arguments,
                                        const struct endpoint *server, int error)
{
    char text[IP_ADDRESS_TEXT_SIZE];
    if (!arguments->has_internal_address || error != -EADDRNOTAVAIL)
        return report_unsent(server, error);
    fprintf(stderr, "holdfast: --internal-address %s is not an address of this host\n",
            ip_address_format(&arguments->internal_address, text));
    return EXIT_STATUS_UNSENT;
}

static enum exit_status report_unanswered(const struct exchange *exchange, uint32_t timeout_s)
{
    char text[ENDPOINT_TEXT_SIZE];
    fprintf(stderr, "holdfast: no answer from %s within %u s%s%s\n",
            endpoint_format(&exchange->server, text), (unsigned) timeout_s,
            exchange->error ? ": " : "", exchange->error ? strerror(-exchange->error) : "");
    return EXIT_STATUS_UNANSWERED;
}

static enum exit_status ask(const struct arguments *arguments, struct exchange *exchange)
{
    struct pcp_request request;
    struct pcp_response response = {0};
    build_request(arguments, &exchange->client_address, &request);
    switch (exchange_run(exchange, &request, arguments->timeout_s, &response)) {
    case EXCHANGE_OUTCOME_ANSWERED:
        return report_answer(arguments, exchange, &request, &response, false);
    case EXCHANGE_OUTCOME_NATPMP:
        return report_answer(arguments, exchange, &request, &response, true);
    case EXCHANGE_OUTCOME_UNANSWERED:
        return report_unanswered(exchange, arguments->timeout_s);
    case EXCHANGE_OUTCOME_UNSENT:
        break;
    }
    return report_unsent(&exchange->server, exchange->error);
}

static enum exit_status find_and_ask(const struct arguments *arguments)
{
    struct gateway gateway;
    struct target target;
    if (find_target(arguments, &gateway, &target) < 0) {
        fputs("holdfast: no default route over a gateway: name the PCP server with --server\n",
              stderr);
        return EXIT_STATUS_UNSENT;
    }
    struct ip_address source = choose_source(arguments, &target);
    struct exchange exchange;
    int error = exchange_open(&target.server, machine_interface_index(target.interface), &source,
                              &exchange);
    if (error < 0)
        return report_unopened(arguments, &target.server, error);
    enum exit_status status = ask(arguments, &exchange);
    exchange_close(&exchange);
    return status;
}

int main(int argc, char **argv)
{
    struct arguments arguments;
    char complaint[ARGUMENTS_COMPLAINT_SIZE];
    if (arguments_parse(argc, argv, &arguments, complaint) < 0) {
        fprintf(stderr, "holdfast: %s (holdfast --help tells more)\n", complaint);
        return EXIT_STATUS_USAGE;
    }
    switch (arguments.command) {
    case COMMAND_HELP:
        fputs(arguments_help, stdout);
        return EXIT_STATUS_DONE;
    case COMMAND_VERSION:
        puts("holdfast " HOLDFAST_VERSION);
        return EXIT_STATUS_DONE;
    case COMMAND_MAP:
    case COMMAND_UNMAP:
    case COMMAND_ANNOUNCE:
        break;
    }
    return (int) find_and_ask(&arguments);
}
