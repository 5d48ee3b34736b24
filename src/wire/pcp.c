/*
 * Names of the code points, for logs and tools, and the class of each error. The numbers themselves are in pcp.h; a peer
 * may send any other, so names are looked up in tables that end somewhere and classes in a switch over the enum.
 */

#include "wire/pcp.h"

#include "base/util.h"
#include "wire/option.h"

const char *pcp_opcode_name(uint8_t opcode)
{
    static const char *const names[] = {
        [PCP_OPCODE_ANNOUNCE] = "ANNOUNCE",
        [PCP_OPCODE_MAP] = "MAP",
        [PCP_OPCODE_PEER] = "PEER",
    };

    return opcode < N_ELEMENTS(names) ? names[opcode] : "UNKNOWN";
}

const char *pcp_result_name(uint8_t result)
{
    static const char *const names[] = {
        [PCP_RESULT_SUCCESS] = "SUCCESS",
        [PCP_RESULT_UNSUPP_VERSION] = "UNSUPP_VERSION",
        [PCP_RESULT_NOT_AUTHORIZED] = "NOT_AUTHORIZED",
        [PCP_RESULT_MALFORMED_REQUEST] = "MALFORMED_REQUEST",
        [PCP_RESULT_UNSUPP_OPCODE] = "UNSUPP_OPCODE",
        [PCP_RESULT_UNSUPP_OPTION] = "UNSUPP_OPTION",
        [PCP_RESULT_MALFORMED_OPTION] = "MALFORMED_OPTION",
        [PCP_RESULT_NETWORK_FAILURE] = "NETWORK_FAILURE",
        [PCP_RESULT_NO_RESOURCES] = "NO_RESOURCES",
        [PCP_RESULT_UNSUPP_PROTOCOL] = "UNSUPP_PROTOCOL",
        [PCP_RESULT_USER_EX_QUOTA] = "USER_EX_QUOTA",
        [PCP_RESULT_CANNOT_PROVIDE_EXTERNAL] = "CANNOT_PROVIDE_EXTERNAL",
        [PCP_RESULT_ADDRESS_MISMATCH] = "ADDRESS_MISMATCH",
        [PCP_RESULT_EXCESSIVE_REMOTE_PEERS] = "EXCESSIVE_REMOTE_PEERS",
    };

    return result < N_ELEMENTS(names) ? names[result] : "UNKNOWN";
}

const char *pcp_option_name(uint8_t code)
{
    const struct pcp_option_descriptor *descriptor = pcp_option_find(code);
    return descriptor ? descriptor->name : "UNKNOWN";
}

/* [R-6887-7.4-2] */
bool pcp_result_is_long(enum pcp_result result)
{
    switch (result) {
    case PCP_RESULT_SUCCESS:
    case PCP_RESULT_NETWORK_FAILURE:
    case PCP_RESULT_NO_RESOURCES:
    case PCP_RESULT_USER_EX_QUOTA:
    case PCP_RESULT_CANNOT_PROVIDE_EXTERNAL:
        return false;
    case PCP_RESULT_UNSUPP_VERSION:
    case PCP_RESULT_NOT_AUTHORIZED:
    case PCP_RESULT_MALFORMED_REQUEST:
    case PCP_RESULT_UNSUPP_OPCODE:
    case PCP_RESULT_UNSUPP_OPTION:
    case PCP_RESULT_MALFORMED_OPTION:
    case PCP_RESULT_UNSUPP_PROTOCOL:
    case PCP_RESULT_ADDRESS_MISMATCH:
    case PCP_RESULT_EXCESSIVE_REMOTE_PEERS:
        return true;
    }
    return true;
}
