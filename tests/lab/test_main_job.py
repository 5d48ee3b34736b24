"""The job itself: a mapping is asked for, and packets cross the NAT through it."""

import http.server
import socket
import struct
import threading

import pytest

import lab as lab_module
import pcp
from lab import EXTERNAL, INET, UdpFlow
from pcp import TCP, UDP, new_nonce


class HelloHandler(http.server.BaseHTTPRequestHandler):
    BODY = b"hello from behind the gateway\n" * 2000

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.BODY)))
        self.end_headers()
        self.wfile.write(self.BODY)

    def log_message(self, *_):
        pass


@pytest.fixture
def web_server(lab, port):
    """An HTTP server in `host`; gives its port."""
    with lab_module.network_namespace(lab.host.namespace):
        server = http.server.ThreadingHTTPServer(("", port), HelloHandler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield port
    server.shutdown()
    thread.join()
    server.server_close()


def fetch(node, port):
    return node.run("curl", "-sS", "--max-time", "5", f"http://{EXTERNAL}:{port}/", check=False)


# [R-6887-11-4] [R-6887-15.1-1]
def test_map_tcp_http_fetch_from_outside(lab, client, web_server):
    assert fetch(lab.inet, web_server).returncode != 0
    nonce = new_nonce()
    answer = client.granted(TCP, web_server, nonce, external_port=web_server, lifetime=600)
    assert (answer.external_address, answer.external_port) == (EXTERNAL, web_server)
    assert answer.lifetime == 600
    done = fetch(lab.inet, answer.external_port)
    assert done.stdout.encode() == HelloHandler.BODY, done.stderr
    listed = lab.mapping(TCP, f"10.77.0.2:{web_server}")
    assert listed["kind"] == "MAP"
    assert listed["external"] == f"{EXTERNAL}:{web_server}"
    assert 597 <= listed["lifetime_s"] <= 600
    assert listed["nonce"] == nonce.hex()
    assert listed["filters"] == []
    assert listed["client"] == "10.77.0.2:%d" % client.socket.getsockname()[1]
    lab.assert_kernel_equals_list()
    client.unmap(TCP, web_server, nonce)
    assert fetch(lab.inet, answer.external_port).returncode != 0


def test_map_8080_the_documented_example(lab, client):
    nonce = new_nonce()
    listener = lab.host.tcp_listener(8080)
    answer = client.granted(TCP, 8080, nonce, external_port=8080)
    with lab.inet.tcp_connect((EXTERNAL, answer.external_port)) as outer:
        inner, source = listener.accept()
        assert source[0] == INET
        inner.settimeout(3.0)
        outer.sendall(b"ping")
        assert inner.recv(4) == b"ping"
        inner.sendall(b"pong")
        assert outer.recv(4) == b"pong"
        inner.close()
    client.unmap(TCP, 8080, nonce)


def test_map_without_suggestion_gets_a_port_of_the_pool(lab, client, port):
    answer = client.granted(UDP, port)
    assert answer.external_address == EXTERNAL
    assert 1024 <= answer.external_port <= 32767


# [R-6887-11-4] [R-6887-11.3-17] [R-6886-3.9-1]
def test_map_udp_echo_from_outside(lab, client, ports):
    inner_port, outer_port = ports(2)
    inner = lab.host.udp_socket(("", inner_port))
    outer = lab.inet.udp_socket()
    answer = client.granted(UDP, inner_port, external_port=outer_port)
    assert answer.external_port == outer_port
    source = UdpFlow(outer, (EXTERNAL, outer_port), inner).passes()
    assert source == (INET, outer.getsockname()[1])
    assert UdpFlow(inner, source, outer).passes() == (EXTERNAL, outer_port)


# [R-6887-11.3-21]
def test_map_is_for_its_protocol_only(lab, client, port):
    """No UDP twin for a TCP mapping (RFC 6887 s11.3)."""
    client.granted(TCP, port, external_port=port)
    inner, outer = lab.host.udp_socket(("", port)), lab.inet.udp_socket()
    assert UdpFlow(outer, (EXTERNAL, port), inner).is_blocked()
    assert lab.mapping(UDP, f"10.77.0.2:{port}") is None


# [R-6887-11-5]
# [R-6886-3.9-1]
def test_outbound_traffic_carries_the_mapped_endpoint_udp(lab, client, ports):
    inner_port, outer_port = ports(2)
    client.granted(UDP, inner_port, external_port=outer_port)
    inner, outer = lab.host.udp_socket(("", inner_port)), lab.inet.udp_socket()
    target = (INET, outer.getsockname()[1])
    assert UdpFlow(inner, target, outer).passes() == (EXTERNAL, outer_port)


# [R-6887-11-5]
def test_outbound_traffic_carries_the_mapped_endpoint_tcp(lab, client, ports):
    inner_port, outer_port, service_port = ports(3)
    client.granted(TCP, inner_port, external_port=outer_port)
    listener = lab.inet.tcp_listener(service_port)
    with lab.host.tcp_connect((INET, service_port), port=inner_port):
        assert listener.accept()[1] == (EXTERNAL, outer_port)


def test_hairpin_from_the_other_host(lab, client, ports):
    inner_port, outer_port = ports(2)
    client.granted(UDP, inner_port, external_port=outer_port)
    inner, neighbour = lab.host.udp_socket(("", inner_port)), lab.host2.udp_socket()
    source = UdpFlow(neighbour, (EXTERNAL, outer_port), inner).passes()
    # Its own address would let the answer bypass the gateway.
    assert source[0] == EXTERNAL
    assert UdpFlow(inner, source, neighbour).passes() == (EXTERNAL, outer_port)


def test_hairpin_tcp_from_the_same_host(lab, client, ports):
    inner_port, outer_port = ports(2)
    client.granted(TCP, inner_port, external_port=outer_port)
    listener = lab.host.tcp_listener(inner_port)
    with lab.host.tcp_connect((EXTERNAL, outer_port)) as outer:
        inner, source = listener.accept()
        assert source[0] == EXTERNAL
        outer.sendall(b"to myself")
        inner.settimeout(3.0)
        assert inner.recv(9) == b"to myself"
        inner.close()


@pytest.mark.parametrize("kind", [socket.SOCK_DGRAM, socket.SOCK_STREAM], ids=["udp", "tcp"])
def test_ordinary_traffic_is_masqueraded_out_of_the_way_of_mappings(lab, port, kind):
    """Even where the sender's own port number is one that mappings live on."""
    if kind == socket.SOCK_DGRAM:
        inner, outer = lab.host.udp_socket(("", port)), lab.inet.udp_socket()
        source = UdpFlow(inner, (INET, outer.getsockname()[1]), outer).passes()
    else:
        listener = lab.inet.tcp_listener(port)
        with lab.host.tcp_connect((INET, port), port=port):
            source = listener.accept()[1]
    assert source[0] == EXTERNAL
    assert source[1] >= 32768


def test_unmapped_port_is_not_reachable(lab, port):
    listener = lab.host.tcp_listener(port)
    with pytest.raises(OSError):
        lab.inet.tcp_connect((EXTERNAL, port), timeout=0.5)
    inner, outer = lab.host.udp_socket(("", port)), lab.inet.udp_socket()
    assert UdpFlow(outer, (EXTERNAL, port), inner).is_blocked()
    listener.close()


# [R-6887-11.3-14] [R-6887-11.3-15]
def test_renewal_extends_and_keeps_the_endpoint(lab, client, port):
    nonce = new_nonce()
    first = client.granted(UDP, port, nonce, lifetime=100)
    again = client.granted(UDP, port, nonce, lifetime=5000)
    assert (again.lifetime, again.external_port) == (5000, first.external_port)
    listed = lab.mapping(UDP, f"10.77.0.2:{port}")
    assert 4997 <= listed["lifetime_s"] <= 5000
    _, expires = lab.kernel_mappings()[("UDP", listed["external"])]
    assert expires >= 4997


# [R-6887-15-2]
def test_lifetime_is_kept_within_the_configured_bounds(lab, client, ports):
    first, second = ports(2)
    assert client.granted(UDP, first, lifetime=2**32 - 1).lifetime == 86400
    assert client.granted(UDP, second, lifetime=1).lifetime == 1


# [R-6887-15-6]
def test_mapping_ends_with_its_lifetime(lab, client, port):
    inner, outer = lab.host.udp_socket(("", port)), lab.inet.udp_socket()
    client.granted(UDP, port, external_port=port, lifetime=2)
    flow = UdpFlow(outer, (EXTERNAL, port), inner)
    assert flow.passes()
    lab_module.wait_for(
        lambda: lab.mapping(UDP, f"10.77.0.2:{port}") is None, 5, "the end of the mapping"
    )
    lab_module.wait_for(
        lambda: ("UDP", f"{EXTERNAL}:{port}") not in lab.kernel_mappings(), 5, "its kernel element"
    )
    # The same flow as before, not a new one: an established flow ends too.
    assert flow.is_blocked()


# [R-6887-15.1-1]
# [R-6887-15-8]
def test_delete_ends_a_running_udp_flow_at_once(lab, client, port):
    nonce = new_nonce()
    client.granted(UDP, port, nonce, external_port=port)
    inner, outer = lab.host.udp_socket(("", port)), lab.inet.udp_socket()
    inward = UdpFlow(outer, (EXTERNAL, port), inner)
    outward = UdpFlow(inner, (INET, outer.getsockname()[1]), outer)
    assert inward.passes() and outward.passes() == (EXTERNAL, port)
    client.unmap(UDP, port, nonce)
    assert inward.is_blocked()

    def is_ordinary():
        source = outward.passes(timeout=0.3)
        return source and source[0] == EXTERNAL and source[1] >= 32768

    lab_module.wait_for(is_ordinary, 5, "what the host goes on sending being ordinary traffic")


# [R-6887-15-8] [R-6887-15.1-1]
def test_delete_ends_a_running_tcp_connection_at_once(lab, client, port):
    nonce = new_nonce()
    client.granted(TCP, port, nonce, external_port=port)
    listener = lab.host.tcp_listener(port)
    with lab.inet.tcp_connect((EXTERNAL, port)) as outer:
        inner, _ = listener.accept()
        outer.sendall(b"before")
        inner.settimeout(3.0)
        assert inner.recv(6) == b"before"
        client.unmap(TCP, port, nonce)
        try:
            outer.sendall(b"after")
        except OSError:
            pass
        inner.settimeout(0.5)
        try:
            got = inner.recv(5)
        except OSError:
            got = b""
        inner.close()
    assert got == b""


# [R-6887-11.3-20]
def test_two_hosts_get_different_external_ports(lab, client, client2, port):
    first = client.granted(TCP, port, external_port=port)
    second = client2.granted(TCP, port, external_port=port)
    assert first.external_port == port
    assert second.external_port != port
    inner, inner2 = lab.host.tcp_listener(port), lab.host2.tcp_listener(port)
    for listener, external in ((inner, first), (inner2, second)):
        with lab.inet.tcp_connect((EXTERNAL, external.external_port)):
            listener.accept()[0].close()


# [R-6887-13.3-3] [R-6887-13.3-6] [R-6887-13.3-9]
# [R-6887-11-4]
def test_filter_lets_in_whom_it_names_and_nobody_else(lab, client, ports):
    inner_port, outer_port, remote_port = ports(3)
    lab.inet.run("ip", "address", "replace", "203.0.113.101/24", "dev", "eth0")
    nonce = new_nonce()
    filters = pcp.filter_option(INET, 128)
    answer = client.granted(
        UDP, inner_port, nonce, external_port=outer_port, options=filters
    )
    assert answer.options == [(pcp.FILTER, filters[4:])]
    inner = lab.host.udp_socket(("", inner_port))
    allowed = UdpFlow(lab.inet.udp_socket((INET, 0)), (EXTERNAL, outer_port), inner)
    refused = UdpFlow(lab.inet.udp_socket(("203.0.113.101", 0)), (EXTERNAL, outer_port), inner)
    assert allowed.passes()
    assert refused.is_blocked()
    listed = lab.mapping(UDP, f"10.77.0.2:{inner_port}")
    assert listed["filters"] == [{"remote": f"{INET}/32", "remote_port": 0}]
    # Prefix 0 takes all filters off, the one behind it is the new list (RFC 6887 s13.3).
    change = pcp.filter_option("0.0.0.0", 0) + pcp.filter_option(
        "203.0.113.101", 128, remote_port
    )
    client.granted(UDP, inner_port, nonce, options=change)
    named = UdpFlow(
        lab.inet.udp_socket(("203.0.113.101", remote_port)), (EXTERNAL, outer_port), inner
    )
    assert named.passes()
    assert allowed.is_blocked()
    assert refused.is_blocked()
    client.granted(UDP, inner_port, nonce, options=pcp.filter_option("0.0.0.0", 0))
    assert allowed.passes() and refused.passes()


# [R-6887-15.1-11]
def test_mapping_outlives_the_connections_through_it(lab, client, port):
    """Neither FIN nor RST of the outer or of the inner side ends it."""
    client.granted(TCP, port, external_port=port)
    listener = lab.host.tcp_listener(port)
    for ending_side, linger in ((0, 0), (1, 0), (0, 1), (1, 1)):
        outer = lab.inet.tcp_connect((EXTERNAL, port))
        pair = (outer, listener.accept()[0])
        if linger:
            # Closed with data forgotten: a RST.
            pair[ending_side].setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
            )
        pair[ending_side].close()
        pair[1 - ending_side].close()
    with lab.inet.tcp_connect((EXTERNAL, port)):
        listener.accept()[0].close()
    assert lab.mapping(TCP, f"10.77.0.2:{port}")
