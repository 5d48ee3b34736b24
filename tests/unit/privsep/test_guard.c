#include <errno.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/time.h"
#include "privsep/guard.h"
#include "privsep_fixture.h"

#define NOW_NS (100 * NS_PER_S)

static struct ip_address address(const char *text)
{
    struct ip_address address;
    assert_int_equal(ip_address_parse(text, &address), 0);
    return address;
}

static struct guard guard_of(const struct fixture *fixture)
{
    struct guard guard;
    guard_init(&guard, &fixture->policy);
    return guard;
}

static enum guard_verdict judge(struct guard *guard, const struct mapping_record *record)
{
    return guard_judge_record(guard, record, NOW_NS);
}

static void test_guard_judge_record_permits_what_is_configured(void **state)
{
    struct guard guard = guard_of(*state);
    struct mapping_record record = fixture_record(7);
    assert_int_equal(judge(&guard, &record), GUARD_VERDICT_PERMITTED);
    record.internal_address = record.external_address = address("fd77::5");
    record.external_port = record.internal_port = 22;
    assert_int_equal(judge(&guard, &record), GUARD_VERDICT_PERMITTED);
    record = fixture_record(7);
    record.kind = MAPPING_KIND_PEER;
    record.remote_address = address("198.51.100.1");
    record.remote_port = 80;
    record.external_port = 45000; /* a masqueraded flow's */
    assert_int_equal(judge(&guard, &record), GUARD_VERDICT_PERMITTED);
}

static void test_guard_judge_record_forbids_one_wrong_field(void **state)
{
    struct guard guard = guard_of(*state);
    struct mapping_record records[12];
    for (size_t i = 0; i < N_ELEMENTS(records); i++)
        records[i] = fixture_record(7);
    records[0].internal_address = address("10.78.0.2");
    records[1].internal_address = address("8.8.8.8");
    records[2].external_port = 19999;
    records[3].external_port = 40000;
    records[4].external_port = 0;
    records[5].internal_port = records[5].external_port = 0; /* whole_ports is off */
    records[6].kind = MAPPING_KIND_STATIC;
    records[7].expires_ns = TIME_NEVER;
    records[8].expires_ns = NOW_NS + 400 * 86400 * NS_PER_S;
    records[9].external_address = address("fd77::5");
    records[10].internal_address = address("fd77::5"); /* not translated */
    records[11].kind = MAPPING_KIND_PEER;              /* without a remote */
    for (size_t i = 0; i < N_ELEMENTS(records); i++)
        assert_int_equal(judge(&guard, &records[i]), GUARD_VERDICT_FORBIDDEN);
    for (size_t i = 0; i < N_ELEMENTS(records); i++) {
        records[i].state = MAPPING_STATE_HELD; /* has nothing in the kernel */
        assert_int_equal(judge(&guard, &records[i]), GUARD_VERDICT_PERMITTED);
    }
}

static void test_guard_judge_record_ipv6_of_others_is_forbidden(void **state)
{
    struct guard guard = guard_of(*state);
    struct mapping_record record = fixture_record(7);
    record.internal_address = record.external_address = address("fd78::5");
    record.external_port = record.internal_port;
    assert_int_equal(judge(&guard, &record), GUARD_VERDICT_FORBIDDEN);
    record.internal_address = record.external_address = address("fd77::5");
    record.external_address.octets[15]++;
    assert_int_equal(judge(&guard, &record), GUARD_VERDICT_FORBIDDEN);
}

static void test_guard_judge_record_own_ports_are_forbidden(void **state)
{
    struct fixture *fixture = *state;
    fixture->policy.external_ports[0] = (struct port_range){.first = 1, .last = 65535};
    struct guard guard = guard_of(fixture);
    struct mapping_record record = fixture_record(7);
    record.protocol = IPPROTO_UDP;
    for (uint16_t port = 5349; port <= 5352; port++) {
        record.external_port = port;
        assert_int_equal(judge(&guard, &record), port == 5350 || port == 5351
                                                     ? GUARD_VERDICT_FORBIDDEN
                                                     : GUARD_VERDICT_PERMITTED);
    }
}

static void test_guard_judge_record_peer_and_whole_ports_are_switched(void **state)
{
    struct fixture *fixture = *state;
    struct mapping_record peer = fixture_record(7), whole = fixture_record(8);
    peer.kind = MAPPING_KIND_PEER;
    peer.remote_port = 80;
    whole.internal_port = whole.external_port = 0;
    fixture->policy.peer = false;
    fixture->policy.whole_ports = true;
    struct guard guard = guard_of(fixture);
    assert_int_equal(judge(&guard, &peer), GUARD_VERDICT_FORBIDDEN);
    assert_int_equal(judge(&guard, &whole), GUARD_VERDICT_PERMITTED);
    fixture->policy.peer = true;
    guard = guard_of(fixture);
    assert_int_equal(judge(&guard, &peer), GUARD_VERDICT_PERMITTED);
    peer.external_port = 39999 + 1;
    assert_int_equal(judge(&guard, &peer), GUARD_VERDICT_PERMITTED);
    peer.external_port = 50001; /* of no masqueraded flow */
    assert_int_equal(judge(&guard, &peer), GUARD_VERDICT_FORBIDDEN);
    fixture->policy.nat.masquerade = false;
    guard = guard_of(fixture);
    assert_int_equal(judge(&guard, &peer), GUARD_VERDICT_PERMITTED);
    peer.external_port = 1023;
    assert_int_equal(judge(&guard, &peer), GUARD_VERDICT_FORBIDDEN);
}

static void test_guard_judge_record_statics_are_taken_at_their_word(void **state)
{
    struct fixture *fixture = *state;
    struct mapping_record record = fixture_record(7);
    record.kind = MAPPING_KIND_STATIC;
    record.expires_ns = TIME_NEVER;
    record.internal_address = address("192.0.2.7");
    record.external_port = 80;
    fixture->policy.statics[0] = (struct privsep_static){
        .internal = {.address = record.internal_address, .port = record.internal_port},
        .external = {.address = record.external_address, .port = 80},
        .protocol = IPPROTO_TCP,
    };
    fixture->policy.n_statics = 1;
    struct guard guard = guard_of(fixture);
    assert_int_equal(judge(&guard, &record), GUARD_VERDICT_PERMITTED);
    struct mapping_record wrong[5] = {record, record, record, record, record};
    wrong[0].external_port = 81;
    wrong[1].internal_port++;
    wrong[2].protocol = IPPROTO_UDP;
    wrong[3].internal_address = address("192.0.2.8");
    wrong[4].external_address = address("192.0.2.9");
    for (size_t i = 0; i < N_ELEMENTS(wrong); i++)
        assert_int_equal(judge(&guard, &wrong[i]), GUARD_VERDICT_FORBIDDEN);
    /* With any external address it still has to be one of ours. */
    guard.policy.statics[0].external.address = IP_ADDRESS_ANY_IPV4;
    assert_int_equal(judge(&guard, &record), GUARD_VERDICT_PERMITTED);
    assert_int_equal(judge(&guard, &wrong[4]), GUARD_VERDICT_NOT_HERE);
}

static void test_guard_judge_record_external_address_is_of_the_interface(void **state)
{
    struct fixture *fixture = *state;
    struct mapping_record record = fixture_record(7);
    record.external_address = address("203.0.113.77");
    struct guard guard = guard_of(fixture);
    assert_int_equal(judge(&guard, &record), GUARD_VERDICT_NOT_HERE);
    fixture->policy.nat.n_external_addresses = 0;
    guard = guard_of(fixture);
    assert_int_equal(judge(&guard, &record), GUARD_VERDICT_NOT_HERE);
    record.external_address = address("127.0.0.1");
    assert_int_equal(judge(&guard, &record), GUARD_VERDICT_PERMITTED);
    /* What was there stays; another interface is another matter. */
    strcpy(guard.policy.nat.outside_interfaces[0], "none0");
    assert_int_equal(judge(&guard, &record), GUARD_VERDICT_PERMITTED);
    struct privsep_policy other = guard.policy;
    guard_change_policy(&guard, &other);
    assert_int_equal(judge(&guard, &record), GUARD_VERDICT_NOT_HERE);
}

static void test_guard_permits_settings_within_the_policy(void **state)
{
    struct guard guard = guard_of(*state);
    struct nat_settings settings = fixture_settings();
    assert_true(guard_permits_settings(&guard, &settings));
    settings.n_external_addresses = settings.n_internal_prefixes = 0;
    settings.masquerade = false;
    settings.size_hint = 0;
    assert_true(guard_permits_settings(&guard, &settings));
}

static void test_guard_permits_settings_not_with_one_wrong_field(void **state)
{
    struct guard guard = guard_of(*state);
    struct nat_settings settings[10];
    for (size_t i = 0; i < N_ELEMENTS(settings); i++)
        settings[i] = fixture_settings();
    strcpy(settings[0].outside_interfaces[0], "eth0");
    settings[1].external_addresses[0] = address("8.8.8.8");
    settings[2].internal_prefixes[0].length--;
    settings[3].internal_prefixes[1].address = address("2001:db8::");
    settings[4].masquerade_port_first--;
    settings[5].masquerade_port_last++;
    settings[6].masquerade_address = address("8.8.8.8");
    settings[7].grace_s++;
    settings[8].size_hint++;
    strcpy(settings[9].outside_interfaces[0], "lo0");
    for (size_t i = 0; i < N_ELEMENTS(settings); i++)
        assert_false(guard_permits_settings(&guard, &settings[i]));
    guard.policy.nat.masquerade = false;
    settings[0] = fixture_settings();
    assert_false(guard_permits_settings(&guard, &settings[0]));
}

static void test_guard_permits_cut_of_what_the_last_policy_had(void **state)
{
    struct guard guard = guard_of(*state);
    struct mapping_record record = fixture_record(7), foreign = fixture_record(8);
    struct privsep_policy other = guard.policy;
    foreign.internal_address = address("192.0.2.1");
    assert_true(guard_permits_cut(&guard, &record));
    assert_false(guard_permits_cut(&guard, &foreign));
    other.nat.n_internal_prefixes = 0;
    guard_change_policy(&guard, &other);
    assert_int_equal(judge(&guard, &record), GUARD_VERDICT_FORBIDDEN);
    assert_true(guard_permits_cut(&guard, &record));
    guard_change_policy(&guard, &other);
    assert_false(guard_permits_cut(&guard, &record));
}

static void test_guard_permits_flow_of_internal_hosts_only(void **state)
{
    struct guard guard = guard_of(*state);
    struct message_flow flow = {.internal = {.address = address("10.77.0.9"), .port = 1}};
    assert_true(guard_permits_flow(&guard, &flow));
    flow.internal.address = address("203.0.113.1");
    assert_false(guard_permits_flow(&guard, &flow));
}

static void test_guard_check_file_of_others_is_refused(void **state)
{
    struct fixture *fixture = *state;
    char aside[128];
    if (!fixture_is_possible())
        skip();
    assert_int_equal(guard_check_file(fixture->config_path), 0);
    assert_int_equal(guard_check_file("conf"), -EINVAL);
    assert_int_equal(guard_check_file("/nowhere/conf"), -ENOENT);
    assert_int_equal(chmod(fixture->config_path, 0664), 0);
    assert_int_equal(guard_check_file(fixture->config_path), -EACCES);
    assert_int_equal(chmod(fixture->config_path, 0644), 0);
    assert_int_equal(chown(fixture->config_path, 65534, 0), 0);
    assert_int_equal(guard_check_file(fixture->config_path), -EACCES);
    assert_int_equal(chown(fixture->config_path, 0, 0), 0);
    assert_int_equal(chmod(fixture->folder, 0777), 0);
    assert_int_equal(guard_check_file(fixture->config_path), -EACCES);
    assert_int_equal(chmod(fixture->folder, 0755), 0);
    assert_int_equal(chown(fixture->folder, 65534, 0), 0);
    assert_int_equal(guard_check_file(fixture->config_path), -EACCES);
    assert_int_equal(chown(fixture->folder, 0, 0), 0);
    /* A link is what it leads to. */
    snprintf(aside, sizeof(aside), "%s/link", fixture->folder);
    assert_int_equal(symlink(fixture->config_path, aside), 0);
    assert_int_equal(guard_check_file(aside), 0);
    assert_int_equal(unlink(aside), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_set_up, fixture_tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_guard_judge_record_permits_what_is_configured),
        TEST(test_guard_judge_record_forbids_one_wrong_field),
        TEST(test_guard_judge_record_ipv6_of_others_is_forbidden),
        TEST(test_guard_judge_record_own_ports_are_forbidden),
        TEST(test_guard_judge_record_peer_and_whole_ports_are_switched),
        TEST(test_guard_judge_record_statics_are_taken_at_their_word),
        TEST(test_guard_judge_record_external_address_is_of_the_interface),
        TEST(test_guard_permits_settings_within_the_policy),
        TEST(test_guard_permits_settings_not_with_one_wrong_field),
        TEST(test_guard_permits_cut_of_what_the_last_policy_had),
        TEST(test_guard_permits_flow_of_internal_hosts_only),
        TEST(test_guard_check_file_of_others_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
