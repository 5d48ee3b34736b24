/* FILTER options (RFC 6887 s13.3, erratum 3891): added to what is there, in order; prefix length 0 clears. */

#include "server/internal.h"

#include <string.h>

static bool filter_is_listed(const struct mapping_filter *list, size_t n,
                             const struct mapping_filter *filter)
{
    for (size_t i = 0; i < n; i++)
        if (list[i].remote_port == filter->remote_port &&
            ip_prefix_equal(&list[i].remote, &filter->remote))
            return true;
    return false;
}

/*
 * [R-6887-7.3-4] [R-6887-7.4-6] [R-6887-13.3-6] [R-6887-13.3-8] [R-6887-13.3-9]
 * [R-6887-13.3-10]
 */
enum pcp_result filters_after(const struct mapping_filters *existing,
                              const struct pcp_request *request,
                              const struct ip_address *internal_address, uint32_t n_max,
                              const struct mapping_filters **ret_filters)
{
    struct mapping_filter list[MAPPING_FILTERS_MAX];
    size_t n = existing ? existing->n_filters : 0;
    if (n > 0)
        memcpy(list, existing->items, n * sizeof(list[0]));

    for (size_t i = 0; i < request->n_options; i++) {
        if (request->options[i].code != PCP_OPTION_FILTER)
            continue;
        const struct pcp_filter *option = &request->options[i].filter;
        if (option->remote.length == 0) {
            n = 0;
            continue;
        }
        if (ip_address_is_ipv4(&option->remote.address) != ip_address_is_ipv4(internal_address))
            return PCP_RESULT_MALFORMED_OPTION;
        struct mapping_filter filter = {
            .remote = {.address = ip_address_mask(&option->remote.address, option->remote.length),
                       .length = option->remote.length},
            .remote_port = option->remote_port,
        };
        if (filter_is_listed(list, n, &filter))
            continue;
        if (n >= n_max || n >= MAPPING_FILTERS_MAX)
            return PCP_RESULT_EXCESSIVE_REMOTE_PEERS;
        list[n++] = filter;
    }

    *ret_filters = NULL;
    if (n > 0) {
        *ret_filters = mapping_filters_new(list, n);
        if (!*ret_filters)
            return PCP_RESULT_NO_RESOURCES;
    }
    return PCP_RESULT_SUCCESS;
}
