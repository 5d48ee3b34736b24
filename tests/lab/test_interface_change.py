"""Links and addresses come and go; mappings are back as soon as they are (RFC 6887 s8.5, s14)."""

import time

import pytest

import pcp
from lab import EXTERNAL, INET, UdpFlow, wait_for
from pcp import SHORT, TCP, UDP, Result, new_nonce


@pytest.fixture
def mapped(new_lab):
    """A lab with one mapping that traffic passed through: (lab, client, nonce, answer, flow)."""
    lab = new_lab()
    client, nonce = lab.host.client(), new_nonce()
    answer = client.granted(UDP, 5000, nonce, external_port=7000)
    inner = lab.host.udp_socket(("", 5000))
    flow = UdpFlow(lab.inet.udp_socket(), (EXTERNAL, 7000), inner)
    assert flow.passes()
    yield lab, client, nonce, answer, flow
    client.close()


def gateway_ip(lab, *words):
    lab.gateway.run("ip", *words)


def fresh_flow(lab, address):
    inner = lab.host.udp_socket(("", 5000))
    return UdpFlow(lab.inet.udp_socket(), (address, 7000), inner)


def wait_until_reachable(lab, address=EXTERNAL):
    """A new flow each time: one that came too early is the gateway's own for conntrack."""
    wait_for(lambda: fresh_flow(lab, address).passes(0.3), what="traffic through the mapping")


# [R-6887-7.4-3]
def test_without_an_external_address_requests_fail_for_a_while(mapped):
    """NETWORK_FAILURE, short, for new and old; what is there stays, and lives again (s7.4).

    [R-6887-7.4-3]
    """
    lab, client, nonce, before, _ = mapped
    peer_nonce = new_nonce()
    client.peered(UDP, 5000, INET, 4000, peer_nonce)
    gateway_ip(lab, "address", "delete", "203.0.113.1/24", "dev", "wan0")
    wait_for(lambda: not lab.status()["external_addresses"], what="the address being gone")
    octets = pcp.map_request(client.address, new_nonce(), UDP, 5001)
    client.assert_error(octets, Result.NETWORK_FAILURE, SHORT)
    renewals = [
        pcp.map_request(client.address, nonce, UDP, 5000, 7000),
        pcp.peer_request(client.address, peer_nonce, UDP, 5000, INET, 4000),
    ]
    for octets in renewals:
        client.assert_error(octets, Result.NETWORK_FAILURE, SHORT)
    # IPv6 needs no external address.
    lab.host.client6().granted(UDP, 5000)
    assert sorted(m["kind"] for m in lab.mappings()) == ["MAP", "MAP", "PEER"]
    gateway_ip(lab, "address", "add", "203.0.113.1/24", "dev", "wan0")
    wait_for(lambda: lab.status()["external_addresses"] == [EXTERNAL], what="the address")
    again = client.granted(UDP, 5000, nonce)
    assert (again.external_address, again.external_port) == (EXTERNAL, 7000)
    # The same address is back: nothing was lost.
    assert pcp.epoch_is_valid(before.epoch, before.received, again.epoch, again.received)
    wait_until_reachable(lab)
    lab.assert_kernel_equals_list()


def test_another_address_after_a_while_without_one(mapped):
    """Mappings of every kind move with their ports; the IPv6 one is not concerned."""
    lab, client, nonce, before, _ = mapped
    client.peered(UDP, 5000, INET, 4000, nonce)
    client.natpmp_map(TCP, 5001, external_port=7001)
    client6 = lab.host.client6()
    client6.granted(UDP, 5000)
    gateway_ip(lab, "address", "delete", "203.0.113.1/24", "dev", "wan0")
    wait_for(lambda: not lab.status()["external_addresses"], what="the address being gone")
    gateway_ip(lab, "address", "add", "203.0.113.9/24", "dev", "wan0")
    wait_for(
        lambda: sorted(m["external"] for m in lab.mappings())
        == ["203.0.113.9:7000", "203.0.113.9:7000", "203.0.113.9:7001", "[fd77::2]:5000"],
        5,
        "the mappings on the new address",
    )
    wait_until_reachable(lab, "203.0.113.9")
    assert client.peered(UDP, 5000, INET, 4000, nonce).external_address == "203.0.113.9"
    assert client.natpmp(b"\0\0").external_address == "203.0.113.9"
    lab.assert_kernel_equals_list()


def test_start_without_an_external_address(new_lab):
    lab = new_lab()
    client, nonce = lab.host.client(), new_nonce()
    client.granted(UDP, 5000, nonce, external_port=7000)
    lab.stop()
    gateway_ip(lab, "address", "delete", "203.0.113.1/24", "dev", "wan0")
    lab.start()
    octets = pcp.map_request(client.address, new_nonce(), UDP, 5001)
    client.assert_error(octets, Result.NETWORK_FAILURE, SHORT)
    gateway_ip(lab, "address", "add", "203.0.113.1/24", "dev", "wan0")
    wait_for(lambda: lab.status()["external_addresses"] == [EXTERNAL], what="the address")
    assert client.granted(UDP, 5000, nonce).external_port == 7000
    wait_until_reachable(lab)


def test_outside_link_down_and_up(mapped):
    lab, client, nonce, answer, flow = mapped
    gateway_ip(lab, "link", "set", "wan0", "down")
    gateway_ip(lab, "link", "set", "wan0", "up")
    assert flow.passes(5.0)
    again = client.granted(UDP, 5000, nonce)
    assert again.external_port == 7000
    # The address was there all the time: nothing was lost.
    assert pcp.epoch_is_valid(answer.epoch, answer.received, again.epoch, again.received)


def test_fault_2_2_outside_interface_made_anew(mapped):
    """As with every re-dial: same name, other index, the address there before the link is up."""
    lab, client, nonce, _, _ = mapped
    gateway_ip(lab, "link", "delete", "wan0")
    wait_for(lambda: not lab.status()["external_addresses"], what="the address being gone")
    gateway_ip(
        lab, "link", "add", "wan0", "type", "veth", "peer", "name", "eth0",
        "netns", lab.inet.namespace,
    )  # fmt: skip
    gateway_ip(lab, "address", "add", "203.0.113.1/24", "dev", "wan0")
    time.sleep(0.2)
    # The renewal of somebody who did not notice must not do harm, whatever it gets.
    client.map(UDP, 5000, nonce)
    gateway_ip(lab, "link", "set", "wan0", "up")
    lab.inet.run("ip", "address", "add", "203.0.113.100/24", "dev", "eth0")
    lab.inet.run("ip", "link", "set", "eth0", "up")
    wait_for(lambda: lab.status()["external_addresses"] == [EXTERNAL], what="the address")
    wait_until_reachable(lab)
    assert client.granted(UDP, 5000, nonce).external_port == 7000
    lab.assert_kernel_equals_list()


def test_inside_interface_made_anew(mapped):
    """Requests are heard on the new one, and it alone."""
    lab, client, nonce, _, _ = mapped
    gateway_ip(lab, "link", "delete", "lan0")
    gateway_ip(lab, "link", "add", "lan0", "type", "bridge")
    gateway_ip(lab, "address", "add", "10.77.0.1/24", "dev", "lan0")
    gateway_ip(lab, "link", "set", "lan0", "up")
    for port in ("port-host", "port-host2"):
        gateway_ip(lab, "link", "set", port, "master", "lan0", "up")
    assert client.granted(UDP, 5000, nonce).external_port == 7000
    wait_until_reachable(lab)


def test_fault_2_2_mapping_follows_the_external_address(mapped):
    """With its port where that is free; its owner sees the Epoch restart (s8.5, s14.2)."""
    lab, client, nonce, answer, _ = mapped
    wait_for(lambda: client.announce().epoch >= answer.epoch + 4, what="time going on")
    before = client.announce()
    gateway_ip(lab, "address", "add", "203.0.113.9/24", "dev", "wan0")
    gateway_ip(lab, "address", "delete", "203.0.113.1/24", "dev", "wan0")
    gateway_ip(lab, "address", "replace", "203.0.113.9/24", "dev", "wan0")
    wait_for(lambda: lab.status()["external_addresses"] == ["203.0.113.9"], what="the new address")
    wait_for(
        lambda: [m["external"] for m in lab.mappings()] == ["203.0.113.9:7000"],
        what="the mapping on the new address",
    )
    wait_until_reachable(lab, "203.0.113.9")
    after = client.granted(UDP, 5000, nonce)
    assert (after.external_address, after.external_port) == ("203.0.113.9", 7000)
    assert not pcp.epoch_is_valid(before.epoch, before.received, after.epoch, after.received)
    lab.assert_kernel_equals_list()
    lab.kill()
    lab.start()
    assert [m["external"] for m in lab.mappings()] == ["203.0.113.9:7000"]
    again = client.announce()
    assert pcp.epoch_is_valid(after.epoch, after.received, again.epoch, again.received)
