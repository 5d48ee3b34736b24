"""PEER: an outbound mapping towards one remote peer, and the flow it is about (RFC 6887 s12)."""

import pytest

import pcp
from lab import EXTERNAL, INET, INET6, UdpFlow, wait_for
from pcp import LONG, TCP, UDP, Result, new_nonce

HOST = "10.77.0.2"
OTHER = "203.0.113.101"


class Remote:
    """The remote peer's socket, another one at the same address, and the host's."""

    def __init__(self, lab, inner_port):
        lab.inet.ip("address", "replace", f"{OTHER}/24", "dev", "eth0")
        self.socket = lab.inet.udp_socket((INET, 0))
        self.port = self.socket.getsockname()[1]
        self.wrong_port = lab.inet.udp_socket((INET, 0))
        self.wrong_address = lab.inet.udp_socket((OTHER, self.port))
        self.inner = lab.host.udp_socket(("", inner_port))

    def out(self, timeout=3.0):
        """The source of the host's datagrams as the remote peer sees it."""
        return UdpFlow(self.inner, (INET, self.port), self.socket).passes(timeout)

    def flow_in(self, external, sender=None):
        return UdpFlow(sender or self.socket, external, self.inner)


@pytest.fixture
def remote(lab, port):
    return Remote(lab, port)


def test_peer_octet_for_octet(lab, client, ports):
    """[R-6887-12.1-2] [R-6887-12.1-3]"""
    inner_port, outer_port = ports(2)
    octets = bytearray(
        pcp.peer_request(HOST, new_nonce(), UDP, inner_port, INET, 443, outer_port, EXTERNAL)
    )
    octets[37:40], octets[62:64] = b"\xff\xff\xff", b"\xff\xff"
    answer = client.exchange(bytes(octets))
    assert answer.octets == pcp.peer_success_octets(
        octets, 3600, answer.epoch, EXTERNAL, outer_port
    )
    listed = lab.mapping(UDP, f"{HOST}:{inner_port}", "PEER")
    assert (listed["external"], listed["remote"]) == (f"{EXTERNAL}:{outer_port}", f"{INET}:443")
    lab.assert_kernel_equals_list()


def test_peer_before_the_flow(lab, client, port, remote):
    """The flow leaves by the reported endpoint; only that very peer gets in. [R-6887-12.3-4]"""
    answer = client.peered(UDP, port, INET, remote.port)
    external = (answer.external_address, answer.external_port)
    assert remote.flow_in(external).passes(), "the remote peer may begin"
    assert remote.out() == external
    assert remote.flow_in(external, remote.wrong_port).is_blocked()
    assert remote.flow_in(external, remote.wrong_address).is_blocked()
    # To anybody else the host is an ordinary one.
    elsewhere = UdpFlow(remote.inner, (INET, remote.wrong_port.getsockname()[1]), remote.wrong_port)
    assert elsewhere.passes()[1] >= 32768


def test_peer_after_the_flow(lab, client, port, remote):
    """It learns the endpoint the flow has, and the flow keeps it without its conntrack entry."""
    external = remote.out()
    assert external[1] >= 32768
    answer = client.peered(UDP, port, INET, remote.port)
    assert (answer.external_address, answer.external_port) == external
    assert remote.out() == external
    lab.assert_kernel_equals_list()
    lab.conntrack("-F")
    assert remote.out() == external
    lab.conntrack("-F")
    assert remote.flow_in(external).passes(), "from the remote peer, with no flow left"


def test_peer_flow_survives_conntrack_flush_and_kill(new_lab):
    lab = new_lab()
    client, nonce, remote = lab.host.client(), new_nonce(), Remote(lab, 5000)
    external = remote.out()
    answer = client.peered(UDP, 5000, INET, remote.port, nonce)
    assert (answer.external_address, answer.external_port) == external
    lab.kill()
    lab.conntrack("-F")
    assert remote.out() == external
    lab.start()
    lab.conntrack("-F")
    assert remote.out() == external
    lab.assert_kernel_equals_list()
    again = client.peered(UDP, 5000, INET, remote.port, nonce)
    assert (again.external_address, again.external_port) == external
    assert pcp.epoch_is_valid(answer.epoch, answer.received, again.epoch, again.received)


def test_peer_of_a_running_tcp_connection(lab, client, ports):
    """A flow in mid-stream goes on over the loss of its conntrack entry."""
    inner_port, service_port = ports(2)
    listener = lab.inet.tcp_listener(service_port)
    with lab.host.tcp_connect((INET, service_port), port=inner_port) as inner:
        outer, source = listener.accept()
        answer = client.peered(TCP, inner_port, INET, service_port)
        assert (answer.external_address, answer.external_port) == source
        lab.conntrack("-F")
        inner.sendall(b"after the flush")
        outer.settimeout(3.0)
        assert outer.recv(15) == b"after the flush"
        outer.sendall(b"and back")
        assert inner.recv(8) == b"and back"
        outer.close()


def test_fault_25_peer_ends_with_its_lifetime(new_lab):
    """Outside the port is closed again; the host's own flow goes on. [R-6887-15-6]"""
    lab = new_lab(recycle_delay=0)
    client, remote = lab.host.client(), Remote(lab, 5000)
    answer = client.peered(UDP, 5000, INET, remote.port, lifetime=1)
    external = (answer.external_address, answer.external_port)
    inward = remote.flow_in(external)
    assert inward.passes()
    for name in ("map4_peer", "rev4_peer", "live4_peer"):
        assert [expires <= 31 for _, _, expires in lab.kernel_table()[name]] == [True], name
    wait_for(lambda: not lab.mappings(), 5, "the end of the mapping")
    wait_for(lambda: inward.is_blocked(tries=1), 5, "the end of the flow from outside")
    wait_for(
        lambda: (remote.out(0.3) or external) != external, 5, "an ordinary flow of the host's own"
    )
    lab.assert_kernel_equals_list()


def test_peer_of_an_existing_mapping_shares_its_endpoint(lab, client, ports):
    """Several PEERs beside one MAP; each ends alone."""
    inner_port, outer_port = ports(2)
    remotes = [lab.inet.udp_socket((INET, 0)) for _ in range(2)]
    inner = lab.host.udp_socket(("", inner_port))
    map_nonce, nonces = new_nonce(), [new_nonce(), new_nonce()]
    client.granted(UDP, inner_port, map_nonce, external_port=outer_port)
    for nonce, remote in zip(nonces, remotes):
        answer = client.peered(UDP, inner_port, INET, remote.getsockname()[1], nonce)
        assert (answer.external_address, answer.external_port) == (EXTERNAL, outer_port)
    lab.assert_kernel_equals_list()
    client.unmap(UDP, inner_port, map_nonce)
    lab.assert_kernel_equals_list()
    for remote in remotes:
        target = (INET, remote.getsockname()[1])
        assert UdpFlow(inner, target, remote).passes() == (EXTERNAL, outer_port)
    stranger = lab.inet.udp_socket((INET, 0))
    assert UdpFlow(stranger, (EXTERNAL, outer_port), inner).is_blocked()
    ended = remotes[0].getsockname()[1]
    client.peered(UDP, inner_port, INET, ended, nonces[0], lifetime=0)
    assert UdpFlow(remotes[1], (EXTERNAL, outer_port), inner).passes()
    lab.assert_kernel_equals_list()


def test_map_after_a_peer_gets_its_endpoint(lab, client, port, remote):
    """[R-6887-11.3-16]"""
    answer = client.peered(UDP, port, INET, remote.port)
    mapped = client.granted(UDP, port, external_port=port + 1)
    assert mapped.external_port == answer.external_port
    assert remote.flow_in((EXTERNAL, mapped.external_port), remote.wrong_address).passes()


# [R-6887-15-16]
def test_peer_is_never_shortened_but_asked(lab, client, port):
    """[R-6887-15-8]"""
    nonce = new_nonce()
    client.peered(UDP, port, INET, 4000, nonce, lifetime=3000)
    assert client.peered(UDP, port, INET, 4000, nonce, lifetime=100).lifetime >= 2990
    assert client.peered(UDP, port, INET, 4000, nonce, lifetime=5000).lifetime == 5000


def test_peer_deleted_by_its_owner_only(lab, client, port):
    """[R-6887-12.3-3]"""
    nonce = new_nonce()
    client.peered(UDP, port, INET, 4000, nonce, lifetime=500)
    for lifetime in (3600, 0):
        octets = pcp.peer_request(HOST, new_nonce(), UDP, port, INET, 4000, lifetime=lifetime)
        assert 490 <= client.assert_error(octets, Result.NOT_AUTHORIZED).lifetime <= 500
    answer = client.peered(UDP, port, INET, 4000, nonce, lifetime=0)
    assert answer.lifetime == 0
    assert lab.mapping(UDP, f"{HOST}:{port}", "PEER") is None
    lab.assert_kernel_equals_list()


def test_map_cannot_delete_what_peer_made(lab, client, port):
    """[R-6887-15.1-10]"""
    nonce = new_nonce()
    client.peered(UDP, port, INET, 4000, nonce)
    octets = pcp.map_request(HOST, nonce, UDP, port, lifetime=0)
    client.assert_error(octets, Result.NOT_AUTHORIZED)
    assert lab.mapping(UDP, f"{HOST}:{port}", "PEER")


def test_suggestion_that_is_taken(lab, client, client2, port):
    """CANNOT_PROVIDE_EXTERNAL and no trace. [R-6887-12.1-4]"""
    client2.granted(UDP, port, external_port=port)
    octets = pcp.peer_request(HOST, new_nonce(), UDP, port, INET, 4000, port)
    client.assert_error(octets, Result.CANNOT_PROVIDE_EXTERNAL)
    assert lab.mapping(UDP, f"{HOST}:{port}", "PEER") is None


def peer_octets(**fields):
    fields.setdefault("protocol", UDP)
    fields.setdefault("internal_port", 1900)
    fields.setdefault("remote_address", INET)
    fields.setdefault("remote_port", 4000)
    return pcp.peer_request(HOST, bytes(12), **fields)


REFUSED = {
    "72 octets": (peer_octets()[:72], Result.MALFORMED_REQUEST),
    "60 octets": (peer_octets()[:60], Result.MALFORMED_REQUEST),
    "protocol 0": (peer_octets(protocol=0), Result.MALFORMED_REQUEST),
    "internal port 0": (peer_octets(internal_port=0), Result.MALFORMED_REQUEST),
    "remote port 0": (peer_octets(remote_port=0), Result.MALFORMED_REQUEST),
    "prefer failure": (
        peer_octets(external_port=9000, options=pcp.prefer_failure()),
        Result.MALFORMED_REQUEST,
    ),
    "filter": (peer_octets(options=pcp.filter_option(INET, 128)), Result.MALFORMED_OPTION),
    "third party while it is off": (
        peer_octets(options=pcp.third_party("10.77.0.3")),
        Result.UNSUPP_OPTION,
    ),
    "unknown mandatory option": (peer_octets(options=pcp.option(64)), Result.UNSUPP_OPTION),
    "remote loopback": (peer_octets(remote_address="127.0.0.1"), Result.MALFORMED_REQUEST),
    "remote multicast": (peer_octets(remote_address="224.0.0.1"), Result.MALFORMED_REQUEST),
    "remote any": (peer_octets(remote_address="0.0.0.0"), Result.MALFORMED_REQUEST),
    "remote of the other family": (peer_octets(remote_address=INET6), Result.MALFORMED_REQUEST),
    "protocol without ports": (peer_octets(protocol=47), Result.UNSUPP_PROTOCOL),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_octet_for_octet(lab, client, name):
    """[R-6887-12.1-1] [R-6887-12.1-5] [R-6887-12.3-2]"""
    octets, result = REFUSED[name]
    client.assert_error(octets, result, LONG)
    assert lab.mapping(UDP, f"{HOST}:1900", "PEER") is None


def test_peer_over_ipv6(lab, client6, port):
    """External endpoint is the internal one; the pinhole is for that peer alone."""
    nonce = new_nonce()
    inner = lab.host.udp_socket(("::", port))
    remote, stranger = lab.inet.udp_socket((INET6, 0)), lab.inet.udp_socket((INET6, 0))
    target, remote_port = ("fd77::2", port), remote.getsockname()[1]
    assert UdpFlow(remote, target, inner).is_blocked()
    answer = client6.peered(UDP, port, INET6, remote_port, nonce)
    assert (answer.external_address, answer.external_port) == target
    assert UdpFlow(remote, target, inner).passes()
    assert UdpFlow(stranger, target, inner).is_blocked()
    lab.assert_kernel_equals_list()
    client6.peered(UDP, port, INET6, remote_port, nonce, lifetime=0)
    assert UdpFlow(remote, target, inner).is_blocked()
    lab.assert_kernel_equals_list()


def test_peer_counts_into_the_quota(new_lab):
    """[R-6887-11.3-22]"""
    lab = new_lab(mappings_per_subscriber=2)
    client = lab.host.client()
    client.peered(UDP, 5000, INET, 4000)
    client.granted(UDP, 5001)
    octets = pcp.peer_request(HOST, new_nonce(), UDP, 5000, INET, 4001)
    client.assert_error(octets, Result.USER_EX_QUOTA)


def test_peer_switched_off(new_lab):
    """[R-6887-12-1]"""
    lab = new_lab(peer=False)
    client = lab.host.client()
    client.assert_error(peer_octets(), Result.UNSUPP_OPCODE, LONG)
    client.granted(UDP, 5000)
