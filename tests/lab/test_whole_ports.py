"""Mappings of all ports of a protocol, and of all protocols, on IPv4 (`whole-ports = true`).

They take an external address as a whole: what they are granted on is nobody else's.
"""

import socket

import pytest

import lab as lab_module
import pcp
from lab import EXTERNAL, INET, UdpFlow, wait_for
from pcp import LONG, TCP, UDP, Result, new_nonce

LAB_SETTINGS = {"whole_ports": True, "recycle_delay": 0}
HOST = "10.77.0.2"


@pytest.fixture
def whole(lab, client):
    """Maps as a whole, for this test alone: whole(protocol, ...) gives the nonce."""
    made = []

    def make(protocol, **fields):
        nonce = new_nonce()
        answer = client.granted(protocol, 0, nonce, **fields)
        made.append((protocol, nonce))
        assert (answer.external_address, answer.external_port) == (EXTERNAL, 0)
        return nonce

    yield make
    for protocol, nonce in made:
        client.unmap(protocol, 0, nonce)
    lab.ctl("clear", "--all")


def udp_flow(lab, port):
    inner = lab.host.udp_socket(("", port))
    return UdpFlow(lab.inet.udp_socket((INET, 0)), (EXTERNAL, port), inner)


def tcp_reaches(lab, port, node):
    listener = node.tcp_listener(port)
    try:
        lab.inet.tcp_connect((EXTERNAL, port), timeout=0.5).close()
        listener.settimeout(0.5)
        listener.accept()[0].close()
    except OSError:
        return False
    finally:
        listener.close()
    return True


def test_all_ports_of_udp(lab, whole, client, ports):
    """[R-6887-11.3-4]"""
    first, second = ports(2)
    flows = [udp_flow(lab, number) for number in (first, second, 40000)]
    assert all(flow.is_blocked() for flow in flows)
    nonce = whole(UDP)
    assert all(flow.passes() for flow in flows)
    assert not tcp_reaches(lab, first, lab.host)
    lab.assert_kernel_equals_list()
    assert lab.mapping(UDP, f"{HOST}:0")["external"] == f"{EXTERNAL}:0"
    client.unmap(UDP, 0, nonce)
    assert all(flow.is_blocked() for flow in flows)


def test_all_protocols(lab, whole, port):
    """A DMZ host: TCP, UDP, ping. [R-6887-11.3-5]"""
    flow = udp_flow(lab, port)
    assert flow.is_blocked()
    whole(pcp.ALL)
    assert flow.passes()
    assert tcp_reaches(lab, port, lab.host)
    # Ping is now the host's to answer.
    assert lab.inet.run("ping", "-c", "1", "-W", "1", EXTERNAL, check=False).returncode == 0
    counted = lab.host.run("nstat", "-asz", "IcmpInEchos").stdout
    assert int(counted.split("IcmpInEchos")[1].split()[0]) >= 1
    lab.assert_kernel_equals_list()


def test_outbound_traffic_of_a_dmz_host(lab, whole, ports):
    """From the external address, by its own port. [R-6887-11-5]"""
    inner_port, service_port = ports(2)
    whole(pcp.ALL)
    inner, outer = lab.host.udp_socket(("", inner_port)), lab.inet.udp_socket((INET, service_port))
    assert UdpFlow(inner, (INET, service_port), outer).passes() == (EXTERNAL, inner_port)
    # The other host goes out as ever.
    other = lab.host2.udp_socket(("", inner_port))
    assert UdpFlow(other, (INET, service_port), outer).passes()[1] != inner_port


def test_nobody_else_has_anything_there(lab, whole, client2, port):
    """In its entirety or not at all. [R-6887-11.3-4]"""
    nonce = whole(UDP)
    assert client2.map(UDP, port).result == Result.NO_RESOURCES
    octets = pcp.map_request(client2.address, new_nonce(), UDP, 0)
    client2.assert_error(octets, Result.UNSUPP_PROTOCOL, LONG)
    client2.granted(TCP, port)
    octets = pcp.map_request(client2.address, new_nonce(), pcp.ALL, 0)
    client2.assert_error(octets, Result.UNSUPP_PROTOCOL, LONG)
    assert lab.mapping(UDP, f"{HOST}:0")["nonce"] == nonce.hex()


def test_what_another_host_has_is_in_the_way(lab, client, client2, port):
    """[R-6887-11.3-5]"""
    nonce = new_nonce()
    client2.granted(TCP, port, nonce)
    for protocol in (TCP, pcp.ALL):
        octets = pcp.map_request(HOST, new_nonce(), protocol, 0)
        client.assert_error(octets, Result.UNSUPP_PROTOCOL, LONG)
    client2.unmap(TCP, port, nonce)


def test_own_ports_beside_the_whole(lab, whole, client, ports):
    """The more specific mapping wins; its delete does not touch the whole, nor the other way."""
    inner_port, outer_port = ports(2)
    nonce = new_nonce()
    whole_nonce = whole(UDP)
    client.granted(UDP, inner_port, nonce, external_port=outer_port)
    inner = lab.host.udp_socket(("", inner_port))
    outer = lab.inet.udp_socket((INET, 0))
    assert UdpFlow(outer, (EXTERNAL, outer_port), inner).passes()
    lab.assert_kernel_equals_list()
    client.unmap(UDP, 0, whole_nonce)
    assert lab.mapping(UDP, f"{HOST}:{inner_port}")
    assert UdpFlow(outer, (EXTERNAL, outer_port), inner).passes()
    client.unmap(UDP, inner_port, nonce)


def test_filter_of_a_whole_mapping(lab, whole, port):
    """[R-6887-13.3-3]"""
    lab.inet.ip("address", "replace", "203.0.113.101/24", "dev", "eth0")
    inner = lab.host.udp_socket(("", port))
    whole(pcp.ALL, options=pcp.filter_option(INET, 128))
    allowed = UdpFlow(lab.inet.udp_socket((INET, 0)), (EXTERNAL, port), inner)
    refused = UdpFlow(lab.inet.udp_socket(("203.0.113.101", 0)), (EXTERNAL, port), inner)
    assert allowed.passes()
    assert refused.is_blocked()


@pytest.mark.parametrize("protocol", [UDP, pcp.ALL])
def test_wildcard_delete(lab, whole, client, protocol):
    """With its nonce only; what it deleted is gone, ordinary mappings stay. [R-6887-15.1-2]

    [R-6887-15.1-3]
    """
    nonce, own = new_nonce(), whole(protocol)
    client.granted(UDP, 5000, nonce)
    octets = pcp.map_request(HOST, new_nonce(), protocol, 0, lifetime=0)
    assert client.assert_error(octets, Result.NOT_AUTHORIZED).lifetime > 3000
    octets = pcp.map_request(HOST, own, protocol, 0, lifetime=0)
    for _ in range(2):
        answer = client.exchange(octets)
        assert answer.octets == pcp.success_octets(octets, 0, answer.epoch, "0.0.0.0", 0)
    assert [m["internal"] for m in lab.mappings()] == [f"{HOST}:5000"]
    client.unmap(UDP, 5000, nonce)


def test_a_protocol_without_ports_alone(lab, whole, port):
    """GRE and nothing but GRE goes to the host. [R-6887-11.3-3]"""
    flow = udp_flow(lab, port)
    whole(47)
    with_gre = raw_arrives(lab, 47)
    assert with_gre
    assert not raw_arrives(lab, 50)
    assert flow.is_blocked()
    lab.assert_kernel_equals_list()


def raw_arrives(lab, protocol):
    """Whether an IP packet of that protocol, sent from outside, arrives in the host."""
    inner, outer = raw_socket(lab.host, protocol), raw_socket(lab.inet, protocol)
    token = new_nonce()
    inner.settimeout(0.3)
    with inner, outer:
        for _ in range(2):
            # A GRE header of version 0 without options; ESP takes it for an SPI.
            outer.sendto(b"\0\0\x08\0" + token, (EXTERNAL, 0))
            try:
                if token in inner.recv(2048):
                    return True
            except OSError:
                pass
    return False


def raw_socket(node, protocol):
    with lab_module.network_namespace(node.namespace):
        return socket.socket(socket.AF_INET, socket.SOCK_RAW, protocol)


def test_prefer_failure_needs_a_port(lab, client):
    octets = pcp.map_request(HOST, new_nonce(), UDP, 0, options=pcp.prefer_failure())
    client.assert_error(octets, Result.MALFORMED_OPTION, LONG)


def test_whole_mappings_go_on_over_a_kill(new_lab):
    lab = new_lab(whole_ports=True)
    client, nonce = lab.host.client(), new_nonce()
    client.granted(UDP, 0, nonce)
    client.granted(TCP, 0, nonce)
    client.granted(pcp.ALL, 0, nonce)
    flow = udp_flow(lab, 5000)
    assert flow.passes()
    lab.kill()
    assert flow.passes()
    lab.start()
    assert flow.passes()
    lab.assert_kernel_equals_list()
    assert lab.host2.client().map(UDP, 5000).result == Result.NO_RESOURCES
    for protocol in (UDP, TCP, pcp.ALL):
        client.unmap(protocol, 0, nonce)
    wait_for(flow.is_blocked, 3, "the end of the flow")
