/* Any octets as a NAT-PMP request and as a response. What is accepted survives encoding and decoding unchanged. */

#include "fuzz.h"
#include "wire/natpmp.h"

static void check_request(const uint8_t *data, size_t size_bytes)
{
    struct natpmp_request request, again;
    enum natpmp_result result;
    uint8_t octets[12];

    switch (natpmp_request_decode(data, size_bytes, &request, &result)) {
    case NATPMP_VERDICT_DROP:
        break;
    case NATPMP_VERDICT_ANSWER:
        FUZZ_REQUIRE(result == NATPMP_RESULT_UNSUPP_OPCODE);
        FUZZ_REQUIRE(natpmp_request_encode(&request, octets, sizeof(octets)) < 0);
        break;
    case NATPMP_VERDICT_ACCEPT: {
        int size = natpmp_request_encode(&request, octets, sizeof(octets));
        FUZZ_REQUIRE(size > 0 && (size_t) size <= size_bytes);
        FUZZ_REQUIRE(natpmp_request_decode(octets, (size_t) size, &again, &result) ==
                     NATPMP_VERDICT_ACCEPT);
        FUZZ_REQUIRE(again.opcode == request.opcode);
        FUZZ_REQUIRE(again.internal_port == request.internal_port);
        FUZZ_REQUIRE(again.external_port == request.external_port);
        FUZZ_REQUIRE(again.lifetime_s == request.lifetime_s);
        break;
    }
    }
}

static void check_response(const uint8_t *data, size_t size_bytes)
{
    struct natpmp_response response, again;
    uint8_t octets[NATPMP_RESPONSE_SIZE_MAX];

    if (natpmp_response_decode(data, size_bytes, &response) < 0)
        return;
    int size = natpmp_response_encode(&response, octets, sizeof(octets));
    FUZZ_REQUIRE(size > 0 && (size_t) size <= size_bytes);
    FUZZ_REQUIRE(natpmp_response_decode(octets, (size_t) size, &again) == 0);
    FUZZ_REQUIRE(again.opcode == response.opcode && again.result == response.result);
    FUZZ_REQUIRE(again.epoch_s == response.epoch_s);
    FUZZ_REQUIRE(again.external_address == response.external_address);
    FUZZ_REQUIRE(again.internal_port == response.internal_port);
    FUZZ_REQUIRE(again.external_port == response.external_port);
    FUZZ_REQUIRE(again.lifetime_s == response.lifetime_s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes)
{
    check_request(data, size_bytes);
    check_response(data, size_bytes);
    return 0;
}
