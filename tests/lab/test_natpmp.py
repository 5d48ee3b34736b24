"""NAT-PMP on the same port, table, quota and Epoch (RFC 6886)."""

import struct

import pytest

import lab as lab_module
import pcp
from lab import EXTERNAL, UdpFlow, wait_for
from pcp import LONG, SHORT, TCP, UDP, NatpmpResult, Result, new_nonce

HOST = "10.77.0.2"


def map_octets(opcode, result, epoch, internal_port, external_port, lifetime):
    return struct.pack(
        "!BBHIHHI", 0, opcode | 0x80, result, epoch, internal_port, external_port, lifetime
    )


def test_address_octet_for_octet(lab, client):
    """[R-6886-3.2-1] [R-6886-3.2-3]"""
    answer = client.natpmp(b"\0\0")
    expected = struct.pack("!BBHI", 0, 128, 0, answer.epoch) + bytes([203, 0, 113, 1])
    assert answer.octets == expected
    assert abs(answer.epoch - client.announce().epoch) <= 1


@pytest.mark.parametrize("protocol", [UDP, TCP])
def test_map_octet_for_octet_and_no_twin(lab, client, ports, protocol):
    """[R-6886-3.3-2] [R-6886-3.3-3] [R-6886-3.3-4] [R-6886-3.3-8]"""
    inner, outer = ports(2)
    answer = client.natpmp_map(protocol, inner, external_port=outer, lifetime=600)
    assert answer.octets == map_octets(
        pcp.NATPMP_MAP[protocol], 0, answer.epoch, inner, outer, 600
    )
    listed = lab.mapping(protocol, f"{HOST}:{inner}")
    assert (listed["kind"], listed["external"]) == ("MAP", f"{EXTERNAL}:{outer}")
    assert listed["nonce"] is None
    assert lab.mapping(TCP if protocol == UDP else UDP, f"{HOST}:{inner}") is None
    lab.assert_kernel_equals_list()


def test_map_carries_traffic_both_ways(lab, client, ports):
    """[R-6886-3.9-1]"""
    inner_port, outer_port = ports(2)
    client.natpmp_map(UDP, inner_port, external_port=outer_port)
    inner, outer = lab.host.udp_socket(("", inner_port)), lab.inet.udp_socket()
    source = UdpFlow(outer, (EXTERNAL, outer_port), inner).passes()
    assert source
    assert UdpFlow(inner, source, outer).passes() == (EXTERNAL, outer_port)
    client.natpmp_map(UDP, inner_port, lifetime=0)
    assert UdpFlow(outer, (EXTERNAL, outer_port), inner).is_blocked()


def test_lifetime_is_not_longer_than_asked(new_lab):
    """Not even where PCP would grant more; the configured maximum holds. [R-6886-3.3-10]"""
    lab = new_lab(lifetime_min=120, lifetime_max=1000)
    client = lab.host.client()
    assert client.natpmp_map(UDP, 5000, lifetime=2).lifetime == 2
    assert client.natpmp_map(TCP, 5001, lifetime=2**32 - 1).lifetime == 1000
    # [R-6886-3.4-1]
    wait_for(lambda: lab.mapping(UDP, f"{HOST}:5000") is None, 5, "the end of the mapping")
    lab.assert_kernel_equals_list()


def test_renewal_keeps_the_port(lab, client, ports):
    inner, outer, other = ports(3)
    client.natpmp_map(TCP, inner, external_port=outer, lifetime=600)
    again = client.natpmp_map(TCP, inner, external_port=other, lifetime=700)
    assert (again.external_port, again.lifetime) == (outer, 700)


def test_taken_port_gives_another(lab, client, client2, port):
    """[R-6886-3.3-7]"""
    client2.natpmp_map(TCP, port, external_port=port)
    answer = client.natpmp_map(TCP, port, external_port=port)
    assert answer.result == 0
    assert answer.external_port not in (0, port)


def test_companion_port_is_kept_for_the_same_host(lab, client, client2, port):
    """[R-6886-3.3-5] [R-6886-3.3-6]"""
    assert client.natpmp_map(TCP, port, external_port=port).external_port == port
    assert client2.natpmp_map(UDP, port, external_port=port).external_port != port
    assert client2.granted(UDP, port + 10000, external_port=port).external_port != port
    assert client.natpmp_map(UDP, port, external_port=port).external_port == port


def test_delete_is_idempotent_and_ignores_the_suggestion(lab, client, port):
    """[R-6886-3.4-2] [R-6886-3.4-3] [R-6886-3.4-4]"""
    client.natpmp_map(UDP, port, external_port=port)
    for _ in range(2):
        answer = client.natpmp_map(UDP, port, external_port=port + 1, lifetime=0)
        assert answer.octets == map_octets(1, 0, answer.epoch, port, 0, 0)
        assert lab.mapping(UDP, f"{HOST}:{port}") is None


def test_delete_all_of_a_protocol(new_lab):
    """This host's, of this protocol, and no others. [R-6886-3.4-8] [R-6886-3.4-10]"""
    lab = new_lab()
    client, client2 = lab.host.client(), lab.host2.client()
    for number in (5000, 5001, 5002):
        client.natpmp_map(UDP, number)
        client.natpmp_map(TCP, number)
    client2.natpmp_map(UDP, 5000)
    answer = client.natpmp_map(UDP, 0, lifetime=0)
    assert answer.octets == map_octets(1, 0, answer.epoch, 0, 0, 0)
    left = sorted((m["protocol"], m["internal"]) for m in lab.mappings())
    kept = [("TCP", f"{HOST}:{number}") for number in (5000, 5001, 5002)]
    assert left == kept + [("UDP", "10.77.0.3:5000")]
    lab.assert_kernel_equals_list()


def test_delete_all_leaves_what_it_may_not_delete_and_says_so(lab, client, ports):
    """What PCP made with a nonce stays. [R-6886-3.4-9] [R-6886-3.4-5]"""
    ours, other = ports(2)
    nonce = new_nonce()
    client.natpmp_map(UDP, ours)
    client.granted(UDP, other, nonce)
    answer = client.natpmp_map(UDP, 0, lifetime=0)
    assert (answer.result, answer.lifetime) == (NatpmpResult.NOT_AUTHORIZED, 0)
    assert lab.mapping(UDP, f"{HOST}:{ours}") is None
    assert lab.mapping(UDP, f"{HOST}:{other}")
    # The same for one alone.
    answer = client.natpmp_map(UDP, other, lifetime=0)
    assert answer.octets == map_octets(1, 2, answer.epoch, other, 0, 0)
    assert lab.mapping(UDP, f"{HOST}:{other}")


def test_a_mapping_of_pcp_can_be_read_but_not_shortened(lab, client, port):
    nonce = new_nonce()
    client.granted(UDP, port, nonce, external_port=port, lifetime=5000)
    answer = client.natpmp_map(UDP, port, lifetime=100)
    assert (answer.result, answer.external_port) == (0, port)
    assert lab.mapping(UDP, f"{HOST}:{port}")["lifetime_s"] > 4000
    assert lab.mapping(UDP, f"{HOST}:{port}")["nonce"] == nonce.hex()


def test_pcp_takes_over_what_nat_pmp_made(lab, client, port):
    """It has no nonce; the first that PCP names becomes its own."""
    client.natpmp_map(UDP, port, external_port=port)
    nonce = new_nonce()
    assert client.granted(UDP, port, nonce).external_port == port
    refused = pcp.map_request(HOST, new_nonce(), UDP, port)
    client.assert_error(refused, Result.NOT_AUTHORIZED)


@pytest.mark.parametrize("octets", [b"\0\x09", b"\0\x03abcdefghij", b"\0\x7f" + b"x" * 40])
def test_unknown_opcode_comes_back_whole(lab, client, octets):
    """[R-6886-3.5-3]"""
    answer = client.exchange(octets, parse=lambda data, _: data)
    assert answer[:4] == bytes([0, octets[1] | 0x80, 0, 5])
    assert answer[8:] == octets[8:]
    assert len(answer) == max(len(octets), 8)


@pytest.mark.parametrize("octets", [b"\0\x80", b"\0\x81" + b"\0" * 10, b"\0", b"\0\1\0\0\x13\x88"])
def test_responses_and_fragments_are_dropped(lab, client, octets):
    """[R-6886-3.5-2]"""
    client.assert_silence(octets)


def test_ipv6_clients_have_no_nat_pmp(lab, client6):
    """The protocol has no place for their addresses."""
    client6.assert_silence(b"\0\0")


def test_reserved_field_is_ignored(lab, client, port):
    """[R-6886-3.3-1]"""
    octets = bytearray(pcp.natpmp_map_request(UDP, port))
    octets[2:4] = b"\xff\xff"
    assert client.natpmp(bytes(octets)).result == 0


def test_outside_is_not_heard(lab, port):
    """[R-6886-3.3-9]"""
    outer = pcp.Client(lab.inet, EXTERNAL)
    outer.send(b"\0\0")
    outer.send(pcp.natpmp_map_request(UDP, port))
    assert outer.receive(0.3) is None
    outer.close()


def test_quota_is_shared_with_pcp(new_lab):
    """[R-6886-3.5-4]"""
    lab = new_lab(mappings_per_subscriber=2)
    client = lab.host.client()
    client.natpmp_map(UDP, 5000)
    client.granted(UDP, 5001)
    answer = client.natpmp_map(TCP, 5002)
    assert answer.octets == map_octets(2, 4, answer.epoch, 5002, 0, 0)
    octets = pcp.map_request(HOST, new_nonce(), TCP, 5002)
    client.assert_error(octets, Result.USER_EX_QUOTA, SHORT)


def test_hosts_that_may_not_ask_are_told_so(new_lab):
    lab = new_lab(internal_prefixes=["10.77.0.3/32"])
    answer = lab.host.client().natpmp_map(UDP, 5000)
    assert answer.octets == map_octets(1, 2, answer.epoch, 5000, 0, 0)
    assert lab.mappings() == []


def test_without_an_external_address(new_lab):
    """Network failure, the address zero; what was mapped is there again afterwards.

    [R-6886-3.2-2]
    """
    lab = new_lab()
    client = lab.host.client()
    client.natpmp_map(UDP, 5000, external_port=7000)
    lab.gateway.ip("address", "delete", "203.0.113.1/24", "dev", "wan0")
    wait_for(lambda: client.natpmp(b"\0\0").result != 0, 5, "the address being gone")
    answer = client.natpmp(b"\0\0")
    assert answer.octets == struct.pack("!BBHII", 0, 128, 3, answer.epoch, 0)
    assert client.natpmp_map(UDP, 5000).result == NatpmpResult.NETWORK_FAILURE
    assert client.natpmp_map(UDP, 5001).result == NatpmpResult.NETWORK_FAILURE
    lab.gateway.ip("address", "add", "203.0.113.1/24", "dev", "wan0")
    wait_for(lambda: client.natpmp(b"\0\0").result == 0, 5, "the address")
    assert client.natpmp_map(UDP, 5000).external_port == 7000


def test_mapping_goes_on_over_a_kill(new_lab):
    lab = new_lab()
    client = lab.host.client()
    before = client.natpmp_map(UDP, 5000, external_port=7000)
    inner, outer = lab.host.udp_socket(("", 5000)), lab.inet.udp_socket()
    flow = UdpFlow(outer, (EXTERNAL, 7000), inner)
    assert flow.passes()
    lab.kill()
    assert flow.passes()
    lab.start()
    after = client.natpmp_map(UDP, 5000)
    assert after.external_port == 7000
    assert after.epoch >= before.epoch
    assert pcp.epoch_is_valid(before.epoch, before.received, after.epoch, after.received)
    lab.assert_kernel_equals_list()


def test_lost_state_restarts_the_seconds(new_lab):
    """[R-6886-3.6-1]"""
    lab = new_lab()
    client = lab.host.client()
    before = client.natpmp_map(UDP, 5000)
    wait_for(lambda: client.natpmp(b"\0\0").epoch >= before.epoch + 4, what="time going on")
    lab.ctl_json("clear", "--all")
    assert client.natpmp(b"\0\0").epoch <= 2


NATPMP_REQUESTS = {
    "address": b"\0\0",
    "map": pcp.natpmp_map_request(UDP, 5000),
    "unknown opcode": b"\0\x09",
}


@pytest.fixture(scope="module")
def lab_without(module_labs):
    return module_labs(nat_pmp=False)


@pytest.mark.parametrize("name", NATPMP_REQUESTS)
def test_switched_off_it_is_a_version_not_supported(lab_without, name):
    """Octet for octet as RFC 6887 appendix A asks. [R-6887-A-1] [R-6887-9-1] [R-6886-5-1]"""
    client = lab_without.host.client()
    client.assert_error(NATPMP_REQUESTS[name], Result.UNSUPP_VERSION, LONG)
    assert lab_without.mappings() == []


def test_switched_off_by_a_reload(new_lab):
    """The mappings it made go on until they end; they can be renewed by PCP."""
    lab = new_lab()
    client = lab.host.client()
    client.natpmp_map(UDP, 5000, external_port=7000)
    lab.reconfigure(lab_module.configuration(nat_pmp=False))
    lab.ctl("reload")
    client.assert_error(b"\0\0", Result.UNSUPP_VERSION, LONG)
    assert client.granted(UDP, 5000).external_port == 7000
