"""THIRD_PARTY: who may name whom (RFC 6887 s13.1). It is off by default: see test_negative.py."""

import pytest

import pcp
from lab import EXTERNAL, INET, UdpFlow
from pcp import LONG, SHORT, TCP, UDP, Result, new_nonce

# host manages host2 and all of IPv6; host2 manages nobody.
LAB_SETTINGS = {
    "third_party": ["10.77.0.2 for 10.77.0.0/24", "fd77::2 for fd77::/64"],
    "recycle_delay": 0,
}
MANAGER, MANAGED = "10.77.0.2", "10.77.0.3"


def test_mapping_for_another_host(lab, client, client2, port):
    """Its traffic, its list entry; the option comes back as it was. [R-6887-13.1-6]"""
    nonce, option = new_nonce(), pcp.third_party(MANAGED)
    octets = pcp.map_request(MANAGER, nonce, UDP, port, port, options=option)
    answer = client.exchange(octets)
    assert answer.octets == pcp.success_octets(octets, 3600, answer.epoch, EXTERNAL, port, option)
    listed = lab.mapping(UDP, f"{MANAGED}:{port}")
    assert listed["client"].startswith(f"{MANAGER}:")
    inner = lab.host2.udp_socket(("", port))
    flow = UdpFlow(lab.inet.udp_socket(), (EXTERNAL, port), inner)
    assert flow.passes()
    lab.assert_kernel_equals_list()
    # The managed host is who it is about: with the nonce it may take over, without it not.
    refused = pcp.map_request(MANAGED, new_nonce(), UDP, port)
    client2.assert_error(refused, Result.NOT_AUTHORIZED)
    octets = pcp.map_request(MANAGER, nonce, UDP, port, lifetime=0, options=option)
    answer = client.exchange(octets)
    assert answer.octets == pcp.success_octets(octets, 0, answer.epoch, "0.0.0.0", 0, option)
    assert flow.is_blocked()


def test_peer_for_another_host(lab, client, port):
    option = pcp.third_party(MANAGED)
    answer = client.peered(UDP, port, INET, 4000, options=option)
    assert answer.options == [(pcp.THIRD_PARTY, option[4:])]
    assert lab.mapping(UDP, f"{MANAGED}:{port}", "PEER")["remote"] == f"{INET}:4000"
    lab.assert_kernel_equals_list()


def test_ipv6_for_another_host(lab, client6, port):
    option = pcp.third_party("fd77::3")
    answer = client6.granted(UDP, port, options=option)
    assert (answer.external_address, answer.external_port) == ("fd77::3", port)
    inner = lab.host2.udp_socket(("::", port))
    outer = lab.inet.udp_socket((("2001:db8:77::100"), 0))
    assert UdpFlow(outer, ("fd77::3", port), inner).passes()


@pytest.mark.parametrize("lifetime", [3600, 0])
def test_own_address_is_malformed(lab, client, port, lifetime):
    """[R-6887-13.1-2]"""
    octets = pcp.map_request(
        MANAGER, new_nonce(), UDP, port, lifetime=lifetime, options=pcp.third_party(MANAGER)
    )
    client.assert_error(octets, Result.MALFORMED_REQUEST, LONG)


def test_target_outside_the_permitted_prefix(lab, client, port):
    """[R-6887-13.1-4]"""
    for target in ("10.78.0.3", "203.0.113.100", "fd77::3"):
        octets = pcp.map_request(
            MANAGER, new_nonce(), UDP, port, options=pcp.third_party(target)
        )
        client.assert_error(octets, Result.UNSUPP_OPTION, LONG)


def test_source_that_may_name_nobody(lab, client2, port):
    """[R-6887-13.1-3]"""
    for target in (MANAGER, "10.77.0.4"):
        octets = pcp.map_request(
            MANAGED, new_nonce(), UDP, port, options=pcp.third_party(target)
        )
        client2.assert_error(octets, Result.UNSUPP_OPTION, LONG)
    assert not [m for m in lab.mappings() if m["internal"].endswith(f":{port}")]


@pytest.mark.parametrize("length", [0, 4, 12, 20])
def test_wrong_length(lab, client, port, length):
    """[R-6887-7.3-12]"""
    octets = pcp.map_request(
        MANAGER, new_nonce(), UDP, port, options=pcp.option(pcp.THIRD_PARTY, b"\0" * length)
    )
    client.assert_error(octets, Result.MALFORMED_OPTION, LONG)


def test_twice_and_in_announce(lab, client, port):
    """[R-6887-7.3-7]"""
    twice = pcp.third_party(MANAGED) * 2
    octets = pcp.map_request(MANAGER, new_nonce(), UDP, port, options=twice)
    client.assert_error(octets, Result.MALFORMED_OPTION, LONG)
    octets = pcp.announce_request(MANAGER, options=pcp.third_party(MANAGED))
    client.assert_error(octets, Result.MALFORMED_OPTION, LONG)


def test_the_client_address_is_still_the_senders(lab, client, port):
    """[R-6887-8.2-13]"""
    octets = pcp.map_request(MANAGED, new_nonce(), UDP, port, options=pcp.third_party(MANAGED))
    client.assert_error(octets, Result.ADDRESS_MISMATCH, LONG)


def test_quota_is_the_managed_hosts(new_lab):
    lab = new_lab(third_party=["10.77.0.2 for 10.77.0.0/24"], mappings_per_subscriber=2)
    client, client2 = lab.host.client(), lab.host2.client()
    for number in (5000, 5001):
        client.granted(TCP, number, options=pcp.third_party(MANAGED))
    octets = pcp.map_request(MANAGED, new_nonce(), TCP, 5002)
    client2.assert_error(octets, Result.USER_EX_QUOTA, SHORT)
    client.granted(TCP, 5000)


def test_it_goes_on_over_a_kill_with_its_manager(new_lab):
    lab = new_lab(third_party=["10.77.0.2 for 10.77.0.0/24"])
    client, nonce, option = lab.host.client(), new_nonce(), pcp.third_party(MANAGED)
    client.granted(UDP, 5000, nonce, external_port=7000, options=option)
    before = lab.mapping(UDP, f"{MANAGED}:5000")
    lab.kill()
    lab.start()
    after = lab.mapping(UDP, f"{MANAGED}:5000")
    assert [before[k] for k in ("id", "client", "external")] == [
        after[k] for k in ("id", "client", "external")
    ]
    assert client.granted(UDP, 5000, nonce, options=option).external_port == 7000
    lab.assert_kernel_equals_list()
