/* Any octets as a PCP response to a client. What is read survives encoding and decoding. */

#include <string.h>

#include "fuzz.h"
#include "wire/response.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes)
{
    static struct pcp_response response, again;
    uint8_t first[PCP_SIZE_MAX], second[PCP_SIZE_MAX];

    if (pcp_response_decode(data, size_bytes, &response) < 0)
        return 0;
    if (response.result == PCP_RESULT_UNSUPP_VERSION) {
        FUZZ_REQUIRE(size_bytes >= 4 && response.n_options == 0);
        return 0;
    }
    FUZZ_REQUIRE(response.version == PCP_VERSION && size_bytes <= PCP_SIZE_MAX);

    int first_size = pcp_response_encode(&response, first, sizeof(first));
    if (response.opcode > PCP_OPCODE_PEER) {
        FUZZ_REQUIRE(first_size < 0 && response.n_options == 0);
        return 0;
    }
    FUZZ_REQUIRE(first_size >= PCP_HEADER_SIZE && (size_t) first_size <= size_bytes);
    FUZZ_REQUIRE(pcp_response_decode(first, (size_t) first_size, &again) == 0);
    FUZZ_REQUIRE(again.n_options == response.n_options);
    FUZZ_REQUIRE(pcp_response_encode(&again, second, sizeof(second)) == first_size);
    FUZZ_REQUIRE(memcmp(first, second, (size_t) first_size) == 0);
    return 0;
}
