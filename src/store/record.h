#pragma once

/*
 * Mapping records, clock and Epoch records as octets: explicit fields in network order behind a one-octet format number
 * and ended by a CRC-32C, so that a damaged record is recognised and never believed.
 */

#include "base/util.h"
#include "store/store.h"

#define STORE_RECORD_SIZE_MAX (256 + MAPPING_FILTERS_MAX * 20)

/* Octets written; -ENOSPC; -EINVAL for what could not be read back (unknown kind, prefix length). */
MUST_CHECK int store_record_encode_mapping(const struct mapping_record *record, void *ret_data,
                                           size_t size_bytes);
/*
 * 0; -EBADMSG when damaged; -ENOTSUP for a format number of a later version; -ENOMEM. ret_record->filters carries one
 * reference of the caller's.
 */
MUST_CHECK int store_record_decode_mapping(const void *data, size_t size_bytes,
                                           struct mapping_record *ret_record);
MUST_CHECK int store_record_encode_clock(const struct store_clock *clock, void *ret_data,
                                         size_t size_bytes);
MUST_CHECK int store_record_decode_clock(const void *data, size_t size_bytes,
                                         struct store_clock *ret_clock);
MUST_CHECK int store_record_encode_epoch(const struct store_epoch *epoch, void *ret_data,
                                         size_t size_bytes);
MUST_CHECK int store_record_decode_epoch(const void *data, size_t size_bytes,
                                         struct store_epoch *ret_epoch);
