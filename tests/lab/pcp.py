"""Port Control Protocol and NAT-PMP by hand: every octet is put and read here, nothing is shared
with our C.

Requests are built so that anything may be wrong in them; responses are taken apart strictly, so a
response that breaks a rule of RFC 6887 s7.2 fails the test that received it.
"""

import ipaddress
import secrets
import select
import socket
import struct
import time
from dataclasses import dataclass, field
from enum import IntEnum

VERSION = 2
SERVER_PORT = 5351
CLIENT_PORT = 5350
SIZE_MAX = 1100
HEADER_SIZE = 24
MAP_SIZE = 60
PEER_SIZE = 80
MULTICAST, MULTICAST6 = "224.0.0.1", "ff02::1"

ANNOUNCE, MAP, PEER = 0, 1, 2
THIRD_PARTY, PREFER_FAILURE, FILTER = 1, 2, 3
ALL, ICMP, TCP, UDP, DCCP, ICMPV6, SCTP, UDPLITE = 0, 1, 6, 17, 33, 58, 132, 136

# RFC 6887 s7.4: how long an error is to be expected.
LONG, SHORT = 1800, 30


class Result(IntEnum):
    SUCCESS = 0
    UNSUPP_VERSION = 1
    NOT_AUTHORIZED = 2
    MALFORMED_REQUEST = 3
    UNSUPP_OPCODE = 4
    UNSUPP_OPTION = 5
    MALFORMED_OPTION = 6
    NETWORK_FAILURE = 7
    NO_RESOURCES = 8
    UNSUPP_PROTOCOL = 9
    USER_EX_QUOTA = 10
    CANNOT_PROVIDE_EXTERNAL = 11
    ADDRESS_MISMATCH = 12
    EXCESSIVE_REMOTE_PEERS = 13


# Results of requests that could not be parsed: octets 12..23 of the request stay (RFC 6887 s7.2).
UNPARSED = {
    Result.UNSUPP_VERSION,
    Result.MALFORMED_REQUEST,
    Result.MALFORMED_OPTION,
    Result.UNSUPP_OPCODE,
}


def address(text):
    """An address as 16 octets; IPv4 is IPv4-mapped (RFC 6887 s5)."""
    value = ipaddress.ip_address(text)
    return value.packed if value.version == 6 else b"\0" * 10 + b"\xff\xff" + value.packed


def address_text(octets):
    if octets[:12] == b"\0" * 10 + b"\xff\xff":
        return str(ipaddress.IPv4Address(octets[12:]))
    return str(ipaddress.IPv6Address(octets))


def no_address(client):
    return "::" if ":" in client else "0.0.0.0"


def new_nonce():
    return secrets.token_bytes(12)


def option(code, data=b"", length=None, reserved=0):
    """One option with its padding; `length` overrides the length field."""
    head = struct.pack("!BBH", code, reserved, len(data) if length is None else length)
    return head + data + b"\0" * (-len(data) % 4)


def third_party(internal):
    return option(THIRD_PARTY, address(internal))


def prefer_failure():
    return option(PREFER_FAILURE)


def filter_option(remote, prefix_length, port=0):
    """`prefix_length` is the one of the 128 bit field: 96 more than IPv4's own."""
    return option(FILTER, struct.pack("!BBH", 0, prefix_length, port) + address(remote))


def header(client, opcode, lifetime=0, version=VERSION, reserved=0):
    return struct.pack("!BBHI", version, opcode, reserved, lifetime) + address(client)


def announce_request(client, options=b"", **fields):
    return header(client, ANNOUNCE, **fields) + options


def map_request(
    client,
    nonce,
    protocol,
    internal_port,
    external_port=0,
    external_address=None,
    lifetime=3600,
    options=b"",
    version=VERSION,
):
    """Without a suggestion: all zeros in the client's own family."""
    external_address = external_address or no_address(client)
    return (
        header(client, MAP, lifetime, version)
        + nonce
        + struct.pack("!B3xHH", protocol, internal_port, external_port)
        + address(external_address)
        + options
    )


def peer_request(
    client,
    nonce,
    protocol,
    internal_port,
    remote_address,
    remote_port,
    external_port=0,
    external_address=None,
    lifetime=3600,
    options=b"",
):
    external_address = external_address or no_address(client)
    return (
        header(client, PEER, lifetime)
        + nonce
        + struct.pack("!B3xHH", protocol, internal_port, external_port)
        + address(external_address)
        + struct.pack("!H2x", remote_port)
        + address(remote_address)
        + options
    )


def error_octets(request, result, lifetime, epoch, version=VERSION):
    """The one error response RFC 6887 s7.2 and s8.2 allow for these request octets."""
    answer = bytearray(request[:SIZE_MAX])
    answer += b"\0" * (-len(answer) % 4)
    answer += b"\0" * (HEADER_SIZE - len(answer))
    answer[0] = version
    answer[1] |= 0x80
    answer[2] = 0
    answer[3] = result
    struct.pack_into("!II", answer, 4, lifetime, epoch)
    if result not in UNPARSED:
        answer[12:24] = b"\0" * 12
    return bytes(answer)


def success_octets(request, lifetime, epoch, external_address, external_port, options=b""):
    """The success response to a MAP request: only the options that were processed."""
    return (
        struct.pack("!BBBBII12x", VERSION, MAP | 0x80, 0, Result.SUCCESS, lifetime, epoch)
        + request[24:37]
        + b"\0" * 3
        + request[40:42]
        + struct.pack("!H", external_port)
        + address(external_address)
        + options
    )


def peer_success_octets(request, lifetime, epoch, external_address, external_port, options=b""):
    """The same for PEER: the remote peer comes back too."""
    return (
        struct.pack("!BBBBII12x", VERSION, PEER | 0x80, 0, Result.SUCCESS, lifetime, epoch)
        + request[24:37]
        + b"\0" * 3
        + request[40:42]
        + struct.pack("!H", external_port)
        + address(external_address)
        + request[60:62]
        + b"\0" * 2
        + request[64:80]
        + options
    )


@dataclass
class Response:
    """A response taken apart. `received` is the monotonic second at which it came."""

    octets: bytes
    received: float = 0.0
    version: int = 0
    opcode: int = 0
    result: int = 0
    lifetime: int = 0
    epoch: int = 0
    nonce: bytes = b""
    protocol: int = 0
    internal_port: int = 0
    external_port: int = 0
    external_address: str = ""
    remote_port: int = 0
    remote_address: str = ""
    options: list = field(default_factory=list)


def parse_response(octets, received=0.0):
    assert HEADER_SIZE <= len(octets) <= SIZE_MAX, f"{len(octets)} octets"
    assert len(octets) % 4 == 0, f"{len(octets)} octets"
    version, opcode, reserved, result, lifetime, epoch = struct.unpack_from("!BBBBII", octets)
    assert opcode & 0x80, "a response without the R bit"
    assert reserved == 0
    answer = Response(octets, received, version, opcode & 0x7F, result, lifetime, epoch)
    size = {MAP: MAP_SIZE, PEER: PEER_SIZE}.get(answer.opcode, HEADER_SIZE)
    if answer.opcode in (MAP, PEER) and len(octets) >= size:
        answer.nonce = octets[24:36]
        answer.protocol, answer.internal_port, answer.external_port = struct.unpack_from(
            "!B3xHH", octets, 36
        )
        answer.external_address = address_text(octets[44:60])
    if answer.opcode == PEER and len(octets) >= size:
        answer.remote_port = struct.unpack_from("!H", octets, 60)[0]
        answer.remote_address = address_text(octets[64:80])
    if result == Result.SUCCESS:
        assert octets[12:24] == b"\0" * 12, "reserved octets of a success response"
        answer.options = parse_options(octets[size:])
    return answer


def parse_options(octets):
    options = []
    while octets:
        code, _, length = struct.unpack_from("!BBH", octets)
        padded = (length + 3) & ~3
        assert 4 + padded <= len(octets), "an option that runs past the response"
        options.append((code, octets[4 : 4 + length]))
        octets = octets[4 + padded :]
    return options


# ---- NAT-PMP (RFC 6886 s3)


class NatpmpResult(IntEnum):
    SUCCESS = 0
    UNSUPP_VERSION = 1
    NOT_AUTHORIZED = 2
    NETWORK_FAILURE = 3
    OUT_OF_RESOURCES = 4
    UNSUPP_OPCODE = 5


NATPMP_ADDRESS = 0
NATPMP_MAP = {UDP: 1, TCP: 2}


@dataclass
class NatpmpResponse:
    octets: bytes
    received: float
    opcode: int
    result: int
    epoch: int
    external_address: str = ""
    internal_port: int = 0
    external_port: int = 0
    lifetime: int = 0


def natpmp_map_request(protocol, internal_port, external_port=0, lifetime=3600):
    return struct.pack(
        "!BBHHHI", 0, NATPMP_MAP[protocol], 0, internal_port, external_port, lifetime
    )


def parse_natpmp(octets, received=0.0):
    version, opcode, result, epoch = struct.unpack_from("!BBHI", octets)
    assert (version, opcode & 0x80) == (0, 0x80), octets.hex()
    answer = NatpmpResponse(octets, received, opcode & 0x7F, result, epoch)
    if answer.opcode == NATPMP_ADDRESS:
        assert len(octets) == 12, octets.hex()
        answer.external_address = str(ipaddress.IPv4Address(octets[8:12]))
    elif answer.opcode in NATPMP_MAP.values():
        assert len(octets) == 16, octets.hex()
        answer.internal_port, answer.external_port, answer.lifetime = struct.unpack_from(
            "!HHI", octets, 8
        )
    return answer


def parse_any(octets, received=0.0):
    """A datagram from the server's port, whichever of the two protocols it speaks."""
    return (parse_response if octets[0] else parse_natpmp)(octets, received)


def epoch_is_valid(previous_epoch, previous_time, epoch, now):
    """The client's check of RFC 6887 s8.5, in whole seconds."""
    if epoch < previous_epoch - 1:
        return False
    client_delta = int(now) - int(previous_time)
    server_delta = epoch - previous_epoch
    return (
        client_delta + 2 >= server_delta - max(server_delta, 0) // 16
        and server_delta + 2 >= client_delta - client_delta // 16
    )


def endpoint_of(source):
    """Address and port of what recvfrom() gives: IPv6 has more, and its scope is in the text."""
    return source[0].split("%")[0], source[1]


def answers(octets, request):
    """Whether this can be the answer to that, or is of another opcode or another mapping."""
    if len(request) < 2 or len(octets) < 2:
        return True
    if (octets[1] ^ request[1]) & 0x7F:
        return False
    is_of_mapping = request[0] == VERSION and request[1] in (MAP, PEER) and len(request) >= 42
    keys = [each[24:37] + each[40:42] for each in (octets, request)]
    return not is_of_mapping or keys[0] == keys[1]


class Client:
    """A PCP client on one socket of one node. `address_` says the family, link-local included."""

    def __init__(self, node, server=None, address_=None, port=0):
        own = address_ or node.address
        server = server or ("fd77::1" if ":" in own else "10.77.0.1")
        self.node = node
        self.address = own.split("%")[0]
        self.server = node.socket_address(server, SERVER_PORT)
        family = socket.AF_INET6 if ":" in own else socket.AF_INET
        self.socket = node.udp_socket(node.socket_address(own, port), family)
        self.unsolicited = []

    def close(self):
        self.socket.close()

    def send(self, octets):
        self.socket.sendto(octets, self.server)

    def receive(self, timeout):
        """The next datagram from the server as (octets, source), or None."""
        if not select.select([self.socket], [], [], timeout)[0]:
            return None
        return self.socket.recvfrom(4096)

    def drain(self):
        """What came unasked, as lists of octets; it also stays in `unsolicited`."""
        while got := self.receive(0):
            self.unsolicited.append(got[0])
        return self.unsolicited

    def exchange(self, octets, timeout=5.0, parse=parse_response):
        """Sends until the answer comes; what the server tells unasked is put aside."""
        self.drain()
        deadline = time.monotonic() + timeout
        wait = 0.5
        while time.monotonic() < deadline:
            self.send(octets)
            answer = self.receive_answer(octets, min(deadline, time.monotonic() + wait), parse)
            if answer:
                return answer
            wait *= 2
        raise AssertionError(f"no answer within {timeout} s to {octets.hex()}")

    def receive_answer(self, request, deadline, parse):
        while (left := deadline - time.monotonic()) > 0:
            got = self.receive(left)
            if not got:
                return None
            data, source = got
            assert endpoint_of(source) == endpoint_of(self.server), f"answered from {source}"
            if answers(data, request):
                return parse(data, time.monotonic())
            self.unsolicited.append(data)
        return None

    def natpmp(self, octets):
        answer = self.exchange(octets, parse=parse_natpmp)
        assert answer.opcode == octets[1]
        return answer

    def natpmp_map(self, protocol, internal_port, **fields):
        """A NAT-PMP exchange; the response must belong to the request."""
        answer = self.natpmp(natpmp_map_request(protocol, internal_port, **fields))
        assert answer.internal_port == internal_port
        return answer

    def peer(self, protocol, internal_port, remote_address, remote_port, nonce=None, **fields):
        """A PEER exchange; the response must belong to the request."""
        nonce = nonce or new_nonce()
        octets = peer_request(
            self.address, nonce, protocol, internal_port, remote_address, remote_port, **fields
        )
        answer = self.exchange(octets)
        assert (answer.version, answer.opcode) == (VERSION, PEER)
        assert (answer.nonce, answer.protocol) == (nonce, protocol)
        assert answer.internal_port == internal_port
        assert (answer.remote_address, answer.remote_port) == (remote_address, remote_port)
        return answer

    def peered(self, protocol, internal_port, remote_address, remote_port, nonce=None, **fields):
        """A PEER that must succeed."""
        answer = self.peer(
            protocol, internal_port, remote_address, remote_port, nonce, **fields
        )
        assert answer.result == Result.SUCCESS, Result(answer.result).name
        return answer

    def map(self, protocol, internal_port, nonce=None, **fields):
        """A MAP exchange; the response must belong to the request."""
        nonce = nonce or new_nonce()
        request = map_request(self.address, nonce, protocol, internal_port, **fields)
        answer = self.exchange(request)
        assert (answer.version, answer.opcode) == (VERSION, MAP)
        assert (answer.nonce, answer.protocol) == (nonce, protocol)
        assert answer.internal_port == internal_port
        return answer

    def granted(self, protocol, internal_port, nonce=None, **fields):
        """A MAP that must succeed."""
        answer = self.map(protocol, internal_port, nonce, **fields)
        assert answer.result == Result.SUCCESS, Result(answer.result).name
        return answer

    def unmap(self, protocol, internal_port, nonce):
        answer = self.map(protocol, internal_port, nonce, lifetime=0)
        assert (answer.result, answer.lifetime) == (Result.SUCCESS, 0)
        return answer

    def announce(self, timeout=5.0):
        answer = self.exchange(announce_request(self.address), timeout)
        assert (answer.version, answer.opcode, answer.result) == (VERSION, ANNOUNCE, 0)
        return answer

    def assert_silence(self, octets):
        """Sends octets that must be dropped.

        The ANNOUNCE behind them is answered only after they were read; a wrong answer would come
        before it or, if it had to wait for a commit, shortly after.
        """
        self.send(octets)
        barrier = announce_request(self.address)
        self.send(barrier)
        got = self.receive(5.0)
        assert got, "the server does not answer at all"
        answer = parse_response(got[0])
        assert (answer.opcode, len(got[0])) == (ANNOUNCE, HEADER_SIZE), "answered: " + got[0].hex()
        assert answer.result == Result.SUCCESS, "answered: " + got[0].hex()
        late = self.receive(0.05)
        assert late is None, "answered: " + late[0].hex()

    def assert_error(self, octets, result, lifetime=None, version=VERSION):
        """The answer must be the error response, octet for octet; only the Epoch is free."""
        answer = self.exchange(octets)
        assert answer.result == result, f"{Result(answer.result).name}, not {result.name}"
        if lifetime is None:
            lifetime = answer.lifetime
        expected = error_octets(octets, result, lifetime, answer.epoch, version)
        assert answer.octets == expected
        return answer


SO_TIMESTAMPNS = 35


class Listener:
    """Who hears what the server says of itself: port 5350, by multicast and unicast, both families.

    Each group has a socket bound to the group, so that it is told by which one a datagram came.
    """

    def __init__(self, node, address6=None):
        self.sockets = {
            MULTICAST: node.udp_socket((MULTICAST, CLIENT_PORT)),
            node.address: node.udp_socket((node.address, CLIENT_PORT)),
            MULTICAST6: node.udp_socket(
                node.socket_address(f"{MULTICAST6}%eth0", CLIENT_PORT), socket.AF_INET6
            ),
        }
        if address6:
            self.sockets[address6] = node.udp_socket((address6, CLIENT_PORT), socket.AF_INET6)
        for each in self.sockets.values():
            each.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        self.heard = []

    def close(self):
        for each in self.sockets.values():
            each.close()

    def read(self):
        """Everything heard so far as (group, source endpoint, answer); `received` is wall time."""
        for group, each in self.sockets.items():
            while select.select([each], [], [], 0)[0]:
                octets, ancillary, _, source = each.recvmsg(2048, 64)
                seconds, nanoseconds = struct.unpack("qq", ancillary[0][2][:16])
                answer = parse_any(octets, seconds + nanoseconds / 1e9)
                self.heard.append((group, endpoint_of(source), answer))
        return self.heard

    def clear(self):
        self.read()
        self.heard = []
