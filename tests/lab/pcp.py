"""Port Control Protocol by hand: every octet is put and read here, nothing is shared with our C.

Requests are built so that anything may be wrong in them; responses are taken apart strictly, so a
response that breaks a rule of RFC 6887 s7.2 fails the test that received it.
"""

import ipaddress
import secrets
import select
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

ANNOUNCE, MAP, PEER = 0, 1, 2
THIRD_PARTY, PREFER_FAILURE, FILTER = 1, 2, 3
TCP, UDP = 6, 17

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
    external_address="0.0.0.0",
    lifetime=3600,
    options=b"",
    version=VERSION,
):
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
    external_address="0.0.0.0",
    lifetime=3600,
    options=b"",
):
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
    options: list = field(default_factory=list)


def parse_response(octets, received=0.0):
    assert HEADER_SIZE <= len(octets) <= SIZE_MAX, f"{len(octets)} octets"
    assert len(octets) % 4 == 0, f"{len(octets)} octets"
    version, opcode, reserved, result, lifetime, epoch = struct.unpack_from("!BBBBII", octets)
    assert opcode & 0x80, "a response without the R bit"
    assert reserved == 0
    answer = Response(octets, received, version, opcode & 0x7F, result, lifetime, epoch)
    if answer.opcode == MAP and len(octets) >= MAP_SIZE:
        answer.nonce = octets[24:36]
        answer.protocol, answer.internal_port, answer.external_port = struct.unpack_from(
            "!B3xHH", octets, 36
        )
        answer.external_address = address_text(octets[44:60])
    if result == Result.SUCCESS:
        assert octets[12:24] == b"\0" * 12, "reserved octets of a success response"
        answer.options = parse_options(octets[MAP_SIZE if answer.opcode == MAP else HEADER_SIZE :])
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


class Client:
    """A PCP client on one socket of one node."""

    def __init__(self, node, server="10.77.0.1", address_=None, port=0):
        self.address = address_ or node.address
        self.server = (server, SERVER_PORT)
        self.socket = node.udp_socket((self.address, port))

    def close(self):
        self.socket.close()

    def send(self, octets):
        self.socket.sendto(octets, self.server)

    def receive(self, timeout):
        """The next datagram from the server as (octets, source), or None."""
        if not select.select([self.socket], [], [], timeout)[0]:
            return None
        return self.socket.recvfrom(4096)

    def exchange(self, octets, timeout=5.0):
        """Sends until something answers; checks only where the answer comes from."""
        deadline = time.monotonic() + timeout
        wait = 0.5
        while (left := deadline - time.monotonic()) > 0:
            self.send(octets)
            got = self.receive(min(wait, left))
            if got:
                data, source = got
                assert source == self.server, f"answered from {source}"
                return parse_response(data, time.monotonic())
            wait *= 2
        raise AssertionError(f"no answer within {timeout} s to {octets.hex()}")

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
