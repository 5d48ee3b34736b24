/*
 * Any octets as a PCP request to a server that offers everything and to one that offers little. The sender is taken to be who
 * the client address field says, so that the options are reached. What is accepted survives encoding and decoding; what is
 * refused has an error response of a permitted size.
 */

#include <string.h>

#include "fuzz.h"
#include "wire/request.h"
#include "wire/response.h"

#define CLIENT_ADDRESS_OFFSET 8

static const struct pcp_capabilities everything = {
    .map = true,
    .peer = true,
    .announce = true,
    .third_party = true,
    .prefer_failure = true,
    .filter = true,
};

static const struct pcp_capabilities little = {.map = true};

static void check_accepted(const struct pcp_request *request,
                           const struct pcp_capabilities *capabilities)
{
    static struct pcp_request again;
    uint8_t first[PCP_SIZE_MAX], second[PCP_SIZE_MAX];
    enum pcp_result result;

    int first_size = pcp_request_encode(request, first, sizeof(first));
    FUZZ_REQUIRE(first_size >= PCP_HEADER_SIZE);
    FUZZ_REQUIRE(pcp_request_decode(first, (size_t) first_size, &request->client_address,
                                    capabilities, &again, &result) == PCP_VERDICT_ACCEPT);
    FUZZ_REQUIRE(again.n_options == request->n_options);
    FUZZ_REQUIRE(pcp_request_encode(&again, second, sizeof(second)) == first_size);
    FUZZ_REQUIRE(memcmp(first, second, (size_t) first_size) == 0);
}

static void check_refused(const uint8_t *data, size_t size_bytes, enum pcp_result result)
{
    static struct pcp_response response;
    uint8_t octets[PCP_SIZE_MAX];

    int size =
        pcp_response_encode_error(data, size_bytes, result, 1800, 1000, octets, sizeof(octets));
    FUZZ_REQUIRE(size >= PCP_HEADER_SIZE && size <= PCP_SIZE_MAX && size % 4 == 0);
    if (pcp_response_decode(octets, (size_t) size, &response) == 0) {
        FUZZ_REQUIRE(response.result == result && response.opcode == data[1]);
        FUZZ_REQUIRE(response.lifetime_s == 1800 && response.epoch_s == 1000);
    }
}

static void check(const uint8_t *data, size_t size_bytes,
                  const struct pcp_capabilities *capabilities)
{
    static struct pcp_request request;
    struct ip_address source = IP_ADDRESS_ANY_IPV4;
    enum pcp_result result;

    if (size_bytes >= PCP_HEADER_SIZE)
        memcpy(source.octets, data + CLIENT_ADDRESS_OFFSET, sizeof(source.octets));
    switch (pcp_request_decode(data, size_bytes, &source, capabilities, &request, &result)) {
    case PCP_VERDICT_DROP:
        FUZZ_REQUIRE(size_bytes < PCP_HEADER_SIZE || data[1] & PCP_RESPONSE_BIT);
        break;
    case PCP_VERDICT_ANSWER:
        FUZZ_REQUIRE(result != PCP_RESULT_SUCCESS);
        check_refused(data, size_bytes, result);
        break;
    case PCP_VERDICT_ACCEPT:
        FUZZ_REQUIRE(result == PCP_RESULT_SUCCESS && size_bytes <= PCP_SIZE_MAX);
        check_accepted(&request, capabilities);
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes)
{
    check(data, size_bytes, &everything);
    check(data, size_bytes, &little);
    return 0;
}
