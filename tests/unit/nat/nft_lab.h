#pragma once

/*
 * What the tests of the nftables packet path share: one open nat in the lab's gateway, new for each
 * test.
 */

#include "nat/nft/nft_features.h"
#include "nat/nft/nft_nat.h"
#include "nat_lab.h"

#define LAN1 "192.168.7.2"
#define LAN2 "192.168.8.2"
#define WAN1 "198.51.100.2"
#define WAN2 "198.51.101.2"
#define LAN1_6 "2001:db8:7::2"
#define LAN2_6 "2001:db8:8::2"
#define GATEWAY_6 "2001:db8:f1::1"
#define WAN1_6 "2001:db8:f1::2"
#define WAN2_6 "2001:db8:f2::2"
#define TCP 6
#define UDP 17

#define LAB_NEED_ROOT()                                                                            \
    do {                                                                                           \
        if (!lab_is_possible())                                                                    \
            skip();                                                                                \
    } while (0)

#define LAB_TEST(name) cmocka_unit_test_setup_teardown(name, lab_setup, lab_teardown)

extern struct nat *lab_nat;
/*
 * A mapping that is always there: what an outside host sent before a datagram that has come through
 * it has arrived or never will.
 */
extern struct mapping_record lab_fence;

/* This kernel's features, and older ones'. */
#define LAB_FEATURES_COUNT 3
extern const struct nft_features lab_features[LAB_FEATURES_COUNT];

int lab_setup_world(void **state);
int lab_setup(void **state);
int lab_teardown(void **state);

void lab_reconcile(const struct mapping_record *const *records, size_t n_records);
void lab_apply(struct change change);
struct mapping_filter lab_filter(const char *prefix, uint16_t port);

/* From this outside host. */
void lab_pass_fence(enum lab_host host);
void lab_expect_admitted(int sender, const char *address, uint16_t port, int receiver);
void lab_expect_kept_out(int sender, const char *address, uint16_t port, int receiver);
/* As which endpoint port 4000 of `address`, which is `outside`, sees `inside`. */
struct endpoint lab_source_seen(int inside, const char *address, int outside);

uint64_t lab_now_ms(void);
