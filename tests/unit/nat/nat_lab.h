#pragma once

/*
 * A gateway with two internal and two outside hosts, each a network namespace without a name, which
 * ends with the process. Hosts have a link of their own to the gateway. One thread sees them all:
 * sockets are made in the namespace of their host and stay there.
 *
 *   lan1 192.168.7.2  2001:db8:7::2  --+            +--  wan1 198.51.100.2  2001:db8:f1::2
 *                                      +-- gateway --+
 *   lan2 192.168.8.2  2001:db8:8::2  --+            +--  wan2 198.51.101.2  2001:db8:f2::2
 *
 * The gateway has 203.0.113.1 and 203.0.113.2 for mappings.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/time.h"
#include "nat/nat.h"

enum lab_host {
    LAB_LAN1,
    LAB_LAN2,
    LAB_WAN1,
    LAB_WAN2,
    LAB_GATEWAY,
    LAB_HOST_COUNT,
};

#define LAB_EXTERNAL "203.0.113.1"
#define LAB_EXTERNAL2 "203.0.113.2"
#define LAB_DEADLINE_MS 3000

/* False when this process may not make namespaces; the tests are to be skipped then. */
bool lab_is_possible(void);
void lab_build(void);
void lab_enter(enum lab_host host);
/* Runs a command in the gateway; asserts that it succeeds. */
void lab_run(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Forgets all flows, so that each test begins with new ones. */
void lab_forget_flows(void);

struct ip_address lab_address(const char *text);
struct endpoint lab_endpoint(const char *address, uint16_t port);

/* Settings for this network: masquerade, both families, no grace. */
struct nat_settings lab_settings(void);
/* Live MAP of one IPv4 port on LAB_EXTERNAL, or of an IPv6 one, for an hour from service time 0. */
struct mapping_record lab_record(uint64_t id, uint8_t protocol, const char *internal,
                                 uint16_t internal_port, uint16_t external_port);
struct change lab_addition(const struct mapping_record *after);
struct change lab_removal(const struct mapping_record *before);
struct change lab_replacement(const struct mapping_record *before,
                              const struct mapping_record *after);

/* Bound UDP socket of a host; port 0: any. */
int lab_udp(enum lab_host host, const char *address, uint16_t port);
void lab_send(int fd, const char *address, uint16_t port, const char *text);
/* The next datagram within the deadline must have this text; its source is returned. */
struct endpoint lab_expect(int fd, const char *text);
/* No datagram waits. Only after something sent later has arrived is that a proof. */
bool lab_is_quiet(int fd);
/* Waits at most `deadline_ms`; false when none came. */
bool lab_receive(int fd, int deadline_ms, char *ret_text, size_t size_bytes,
                 struct endpoint *ret_source);

/* Raw socket of a host; what it receives over IPv4 begins with the IP header. */
int lab_raw(enum lab_host host, int family, int protocol);
void lab_send_raw(int fd, const char *address, const void *data, size_t size_bytes);
/* The next packet within the deadline: its payload behind any IPv4 header. False when none came. */
bool lab_receive_raw(int fd, int deadline_ms, uint8_t *ret_data, size_t size_bytes,
                     struct ip_address *ret_source);

int lab_tcp_listen(enum lab_host host, const char *address, uint16_t port);
/* Connected socket, or -1 when it does not come about within the deadline. `source_port` 0: any. */
int lab_tcp_connect(enum lab_host host, const char *source, uint16_t source_port,
                    const char *address, uint16_t port, int deadline_ms);
int lab_tcp_accept(int fd, struct endpoint *ret_source);

bool lab_endpoint_is(const struct endpoint *endpoint, const char *address, uint16_t port);

/*
 * What nft(8), an independent reader, says about one element; `key` as nft prints it, joined by " .
 * ".
 */
struct lab_element {
    bool is_there;
    uint64_t timeout_s; /* 0: none */
    char data[64];      /* of a map: "address . port" or "address" */
};
struct lab_element lab_find_element(const char *set, const char *key);
size_t lab_count_elements(const char *set);
/* The kernel's number of the table, which changes when it is made anew. */
long long lab_table_handle(void);
/* All of the table but the time that goes by, to be compared and freed. */
char *lab_dump_table(void);
