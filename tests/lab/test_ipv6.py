"""IPv6: nothing is translated; a mapping is a hole in a firewall that is closed otherwise."""

import socket
import struct
import time

import pytest

import lab as lab_module
import pcp
from lab import INET6, UdpFlow, wait_for
from pcp import LONG, SCTP, TCP, UDP, Result, new_nonce

HOST6 = "fd77::2"


def udp_flow(lab, port, source=INET6):
    """From outside to the host, by its own address."""
    inner = lab.host.udp_socket(("::", port))
    return UdpFlow(lab.inet.udp_socket((source, 0)), (HOST6, port), inner)


def tcp_is_open(lab, port):
    try:
        lab.inet.tcp_connect((HOST6, port), timeout=0.5).close()
    except OSError:
        return False
    return True


def ping(lab, *words):
    done = lab.inet.run("ping", "-6", "-c", "1", "-W", "1", *words, HOST6, check=False)
    return done.returncode == 0


def test_pinhole_udp_is_closed_open_and_closed(lab, client6, port):
    """[R-6887-11-4]"""
    flow, nonce = udp_flow(lab, port), new_nonce()
    assert flow.is_blocked()
    answer = client6.granted(UDP, port, nonce, lifetime=600)
    assert (answer.external_address, answer.external_port) == (HOST6, port)
    assert flow.passes() == flow.sender.getsockname()[:2]
    back = UdpFlow(flow.receiver, flow.sender.getsockname()[:2], flow.sender)
    assert back.passes() == (HOST6, port)
    listed = lab.mapping(UDP, f"[{HOST6}]:{port}")
    assert listed["external"] == f"[{HOST6}]:{port}"
    lab.assert_kernel_equals_list()
    client6.unmap(UDP, port, nonce)
    assert flow.is_blocked()
    lab.assert_kernel_equals_list()


def test_pinhole_tcp_is_closed_open_and_closed(lab, client6, port):
    listener, nonce = lab.host.tcp_listener(port, socket.AF_INET6), new_nonce()
    assert not tcp_is_open(lab, port)
    client6.granted(TCP, port, nonce)
    with lab.inet.tcp_connect((HOST6, port)) as outer:
        inner, source = listener.accept()
        assert source[0] == INET6
        inner.settimeout(3.0)
        outer.sendall(b"in")
        assert inner.recv(2) == b"in"
        client6.unmap(TCP, port, nonce)
        outer.sendall(b"late")
        inner.settimeout(0.5)
        with pytest.raises(OSError):
            inner.recv(4)
        inner.close()
    assert not tcp_is_open(lab, port)


def test_pinhole_is_for_its_port_and_protocol_only(lab, client6, ports):
    """[R-6887-11.3-21]"""
    open_port, other_port = ports(2)
    client6.granted(UDP, open_port)
    assert udp_flow(lab, open_port).passes()
    assert udp_flow(lab, other_port).is_blocked()
    lab.host.tcp_listener(open_port, socket.AF_INET6)
    assert not tcp_is_open(lab, open_port)


def test_pinhole_ends_with_its_lifetime(lab, client6, port):
    """Established flows too. [R-6887-15-6]"""
    client6.granted(UDP, port, lifetime=2)
    flow = udp_flow(lab, port)
    assert flow.passes()
    wait_for(lambda: lab.mapping(UDP, f"[{HOST6}]:{port}") is None, 5, "the end of the mapping")
    wait_for(flow.is_blocked, 5, "the end of the flow")


def test_from_inside_out_always_goes(lab, ports):
    udp_port, tcp_port = ports(2)
    inner = lab.host.udp_socket((HOST6, udp_port))
    outer = lab.inet.udp_socket((INET6, 0))
    target = outer.getsockname()[:2]
    assert UdpFlow(inner, target, outer).passes() == (HOST6, udp_port)
    assert UdpFlow(outer, (HOST6, udp_port), inner).passes(), "the answer to it"
    listener = lab.inet.tcp_listener(tcp_port, socket.AF_INET6)
    with lab.host.tcp_connect((INET6, tcp_port)):
        assert listener.accept()[1][0] == HOST6


def test_filter_of_a_pinhole(lab, client6, port):
    """The right peer gets in, the wrong one does not. [R-6887-13.3-3]"""
    lab.inet.ip("address", "replace", "2001:db8:77::101/64", "dev", "eth0", "nodad")
    options = pcp.filter_option(INET6, 128)
    answer = client6.granted(UDP, port, options=options)
    assert answer.options == [(pcp.FILTER, options[4:])]
    assert udp_flow(lab, port).passes()
    assert udp_flow(lab, port, "2001:db8:77::101").is_blocked()


def icmpv6_checksum(source, destination, message):
    pseudo = pcp.address(source) + pcp.address(destination) + struct.pack("!I3xB", len(message), 58)
    data = pseudo + message + b"\0" * (len(message) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


def icmpv6_errors_heard(lab, kind, code):
    """Whether an ICMPv6 message about a flow nobody knows reaches the host (RFC 4890 s4.3.1)."""
    with lab_module.network_namespace(lab.host.namespace):
        inner = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
    with lab_module.network_namespace(lab.inet.namespace):
        outer = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
    token = pcp.new_nonce()
    inside = struct.pack("!IHBB", 0x60000000, 20, 17, 64) + pcp.address(HOST6)
    inside += pcp.address(INET6) + struct.pack("!HHHH", 4, 5, 20, 0) + token
    with inner, outer:
        inner.settimeout(0.4)
        for _ in range(2):
            outer.sendto(struct.pack("!BBHI", kind, code, 0, 1280) + inside, (HOST6, 0))
        end = time.monotonic() + 1
        while time.monotonic() < end:
            try:
                if token in inner.recv(2048):
                    return True
            except OSError:
                return False
    return False


@pytest.mark.parametrize("kind", [1, 2, 3, 4])
def test_icmpv6_errors_always_pass(lab, kind):
    """Without them neither path MTU discovery nor anything else works. [R-6887-11-3]"""
    assert icmpv6_errors_heard(lab, kind, 0)


def test_icmpv6_echo_does_not_pass_without_a_mapping(lab):
    assert not ping(lab)
    # Nor does a message that is no error, of the same shape.
    assert not icmpv6_errors_heard(lab, 128, 0)


def test_all_ports_of_a_protocol(lab, client6, ports):
    """Port 0, and nothing of another protocol. [R-6887-11.3-4]"""
    nonce, (first, second) = new_nonce(), ports(2)
    answer = client6.granted(UDP, 0, nonce)
    assert (answer.external_address, answer.external_port) == (HOST6, 0)
    flows = [udp_flow(lab, number) for number in (first, second)]
    assert all(flow.passes() for flow in flows)
    lab.host.tcp_listener(first, socket.AF_INET6)
    assert not tcp_is_open(lab, first)
    assert not ping(lab)
    lab.assert_kernel_equals_list()
    client6.unmap(UDP, 0, nonce)
    assert all(flow.is_blocked() for flow in flows)


def test_all_protocols(lab, client6, port):
    """Protocol 0: TCP, UDP and ping alike. [R-6887-11.3-5]"""
    nonce = new_nonce()
    client6.granted(pcp.ALL, 0, nonce)
    flow = udp_flow(lab, port)
    listener = lab.host.tcp_listener(port, socket.AF_INET6)
    assert flow.passes() and tcp_is_open(lab, port) and ping(lab)
    lab.assert_kernel_equals_list()
    client6.unmap(pcp.ALL, 0, nonce)
    assert flow.is_blocked() and not tcp_is_open(lab, port) and not ping(lab)
    listener.close()


def test_icmpv6_alone(lab, client6):
    """A protocol without ports, which on IPv6 can be told apart. [R-6887-11.3-3]"""
    nonce = new_nonce()
    client6.granted(pcp.ICMPV6, 0, nonce)
    assert ping(lab)
    lab.assert_kernel_equals_list()
    client6.unmap(pcp.ICMPV6, 0, nonce)
    assert not ping(lab)


def test_wildcard_delete_needs_the_nonce_and_ends_the_wildcard_only(lab, client6, port):
    """[R-6887-15.1-2] [R-6887-15.1-3]"""
    nonce = new_nonce()
    client6.granted(UDP, port, nonce)
    client6.granted(UDP, 0, nonce)
    client6.granted(pcp.ALL, 0, nonce)
    for protocol in (UDP, pcp.ALL):
        refused = pcp.map_request(
            HOST6, new_nonce(), protocol, 0, lifetime=0
        )
        assert client6.assert_error(refused, Result.NOT_AUTHORIZED).lifetime > 3000
    client6.unmap(pcp.ALL, 0, nonce)
    client6.unmap(UDP, 0, nonce)
    assert udp_flow(lab, port).passes()
    client6.unmap(UDP, port, nonce)
    assert lab.mapping(UDP, f"[{HOST6}]:{port}") is None


def test_sctp_pinhole(lab, client6, port):
    client6.granted(SCTP, port)
    lab.assert_kernel_equals_list()


def test_suggestions_do_no_harm_and_prefer_failure_binds(lab, client6, port):
    """IPv6 keeps its endpoint; PREFER_FAILURE for another one cannot be. [R-6887-11.3-10]"""
    answer = client6.granted(
        UDP, port, external_address="2001:db8:77::9", external_port=port + 1
    )
    assert (answer.external_address, answer.external_port) == (HOST6, port)
    octets = pcp.map_request(
        HOST6, new_nonce(), TCP, port, port + 1, "::", options=pcp.prefer_failure()
    )
    client6.assert_error(octets, Result.CANNOT_PROVIDE_EXTERNAL)
    same = pcp.map_request(HOST6, new_nonce(), TCP, port, port, HOST6, options=pcp.prefer_failure())
    assert client6.exchange(same).octets == pcp.success_octets(
        same, 3600, client6.announce().epoch, HOST6, port, pcp.prefer_failure()
    )


def test_a_request_names_the_address_it_comes_from(lab, client6, port):
    """[R-6887-8.2-13]"""
    octets = pcp.map_request("fd77::3", new_nonce(), UDP, port)
    client6.assert_error(octets, Result.ADDRESS_MISMATCH, LONG)
    # The same host by its other family is another address.
    octets = pcp.map_request("10.77.0.2", new_nonce(), UDP, port)
    client6.assert_error(octets, Result.ADDRESS_MISMATCH, LONG)


def test_link_local_client_is_answered_but_has_nothing_to_map(lab, port):
    """The answer goes back on the link it came from; such an address is of no use outside."""
    client = pcp.Client(lab.host, lab.gateway.link_local().split("%")[0] + "%eth0",
                        lab.host.link_local())  # fmt: skip
    assert client.announce().result == Result.SUCCESS
    octets = pcp.map_request(client.address, new_nonce(), UDP, port)
    client.assert_error(octets, Result.NOT_AUTHORIZED, LONG)
    client.close()


def test_requests_from_outside_are_not_heard(lab, port):
    """[R-6887-8.2-3]"""
    for server in ("2001:db8:77::1", "fd77::1"):
        outer = pcp.Client(lab.inet, server, INET6)
        outer.send(pcp.map_request(INET6, new_nonce(), UDP, port))
        outer.send(pcp.announce_request(INET6))
        assert outer.receive(0.3) is None
        outer.close()


def test_mapping_goes_on_over_a_kill(new_lab):
    lab = new_lab()
    client, nonce = lab.host.client6(), new_nonce()
    options = pcp.filter_option(INET6, 128)
    answer = client.granted(UDP, 5000, nonce, options=options)
    client.granted(pcp.ALL, 0, nonce, options=options)
    client.unmap(pcp.ALL, 0, nonce)
    flow = udp_flow(lab, 5000)
    assert flow.passes()
    lab.kill()
    assert flow.passes()
    lab.start()
    assert flow.passes()
    lab.assert_kernel_equals_list()
    again = client.granted(UDP, 5000, nonce)
    assert pcp.epoch_is_valid(answer.epoch, answer.received, again.epoch, again.received)
    assert lab.mapping(UDP, f"[{HOST6}]:5000")["filters"] == [
        {"remote": f"{INET6}/128", "remote_port": 0}
    ]


# [R-6887-15.1-5]
def test_delete_ignores_the_suggestion_whatever_its_family(lab, client6, port):
    nonce = new_nonce()
    for suggested in ("0.0.0.0", "::", "2001:db8::9"):
        client6.granted(UDP, port, nonce)
        octets = pcp.map_request(HOST6, nonce, UDP, port, 4711, suggested, lifetime=0)
        answer = client6.exchange(octets)
        assert answer.octets == pcp.success_octets(octets, 0, answer.epoch, suggested, 4711)
        assert lab.mapping(UDP, f"[{HOST6}]:{port}") is None
