"""One row per way a request can be wrong, and the one answer for it (RFC 6887 s8.2, s11, s13)."""

import pytest

import pcp
from lab import EXTERNAL, INET
from pcp import LONG, UDP, Result, new_nonce

SENDER = "10.77.0.2"
NONCE = bytes(range(1, 13))
PORT = 1900


def map_octets(**fields):
    fields.setdefault("protocol", UDP)
    fields.setdefault("internal_port", PORT)
    fields.setdefault("client", SENDER)
    return pcp.map_request(nonce=NONCE, **fields)


def with_octet(octets, offset, value):
    return octets[:offset] + bytes([value]) + octets[offset + 1 :]


DROPPED = {
    "no octet": b"",
    "one octet": b"\x02",
    "one octet of an unknown version": b"\x09",
    "r bit": with_octet(map_octets(), 1, 0x81),
    "r bit and unknown version": b"\x09\x81" + map_octets()[2:],
    "response to announce": b"\x02\x80" + b"\0" * 22,
    "20 octets": map_octets()[:20],
    "23 octets": map_octets()[:23],
}

REFUSED = {
    "version 3, header only": (
        pcp.announce_request(SENDER, version=3),
        Result.UNSUPP_VERSION,
    ),
    "version 3, map": (map_octets(version=3), Result.UNSUPP_VERSION),
    "version 255, 2 octets": (b"\xff\x01", Result.UNSUPP_VERSION),
    "version 1": (map_octets(version=1)[:48], Result.UNSUPP_VERSION),
    "1104 octets": (
        map_octets(options=pcp.option(200, b"x" * 1040)),
        Result.MALFORMED_REQUEST,
    ),
    "62 octets": (map_octets() + b"\0\0", Result.MALFORMED_REQUEST),
    "map of 24 octets": (map_octets()[:24], Result.MALFORMED_REQUEST),
    "map of 56 octets": (map_octets()[:56], Result.MALFORMED_REQUEST),
    "opcode 50": (with_octet(map_octets()[:28], 1, 50), Result.UNSUPP_OPCODE),
    "opcode 127": (with_octet(map_octets(), 1, 127), Result.UNSUPP_OPCODE),
    "authentication": (with_octet(map_octets()[:32], 1, 3), Result.UNSUPP_OPCODE),
    "client address of another host": (
        map_octets(client="10.77.0.3"),
        Result.ADDRESS_MISMATCH,
    ),
    "client address all zero": (map_octets(client="::"), Result.ADDRESS_MISMATCH),
    "client address with wrong leading bits": (
        with_octet(map_octets(), 8, 1),
        Result.ADDRESS_MISMATCH,
    ),
    "announce from a wrong address": (
        pcp.announce_request("10.77.0.3"),
        Result.ADDRESS_MISMATCH,
    ),
    "option length past the end": (
        map_octets(options=pcp.option(200, b"1234", length=8)),
        Result.MALFORMED_OPTION,
    ),
    "option length 65535": (
        map_octets(options=pcp.option(3, b"", length=65535)),
        Result.MALFORMED_OPTION,
    ),
    "broken structure behind an unknown option": (
        map_octets(options=pcp.option(64) + pcp.option(200, b"", length=4)),
        Result.MALFORMED_OPTION,
    ),
    "unknown mandatory option": (
        map_octets(options=pcp.option(64, b"abcd")),
        Result.UNSUPP_OPTION,
    ),
    "option 0": (map_octets(options=pcp.option(0)), Result.UNSUPP_OPTION),
    "option 127": (map_octets(options=pcp.option(127)), Result.UNSUPP_OPTION),
    "unknown mandatory option in announce": (
        pcp.announce_request(SENDER, options=pcp.option(64)),
        Result.UNSUPP_OPTION,
    ),
    "prefer failure twice": (
        map_octets(external_port=PORT, options=pcp.prefer_failure() * 2),
        Result.MALFORMED_OPTION,
    ),
    "prefer failure with content": (
        map_octets(external_port=PORT, options=pcp.option(pcp.PREFER_FAILURE, b"1234")),
        Result.MALFORMED_OPTION,
    ),
    "prefer failure with port 0": (
        map_octets(options=pcp.prefer_failure()),
        Result.MALFORMED_OPTION,
    ),
    "prefer failure in a delete": (
        map_octets(external_port=PORT, lifetime=0, options=pcp.prefer_failure()),
        Result.MALFORMED_OPTION,
    ),
    "filter in a delete": (
        map_octets(lifetime=0, options=pcp.filter_option(INET, 128)),
        Result.MALFORMED_OPTION,
    ),
    "third party while it is off": (
        map_octets(options=pcp.third_party("10.77.0.3")),
        Result.UNSUPP_OPTION,
    ),
    "filter of 16 octets": (
        map_octets(options=pcp.option(pcp.FILTER, b"\0" * 16)),
        Result.MALFORMED_OPTION,
    ),
    "filter of 24 octets": (
        map_octets(options=pcp.option(pcp.FILTER, b"\0" * 24)),
        Result.MALFORMED_OPTION,
    ),
    "filter prefix 129": (
        map_octets(options=pcp.filter_option(INET, 129)),
        Result.MALFORMED_OPTION,
    ),
    "filter prefix 255": (
        map_octets(options=pcp.filter_option(INET, 255)),
        Result.MALFORMED_OPTION,
    ),
    "filter with IPv4's own prefix length": (
        map_octets(options=pcp.filter_option(INET, 24)),
        Result.MALFORMED_OPTION,
    ),
    "good filter before a bad one": (
        map_octets(options=pcp.filter_option(INET, 128) + pcp.filter_option(INET, 95)),
        Result.MALFORMED_OPTION,
    ),
    "more filters than allowed": (
        map_octets(
            options=b"".join(pcp.filter_option(f"192.0.2.{n}", 128) for n in range(17))
        ),
        Result.EXCESSIVE_REMOTE_PEERS,
    ),
    "protocol 0 with a port": (map_octets(protocol=0), Result.MALFORMED_REQUEST),
    "delete with protocol 0 and a port": (
        map_octets(protocol=0, lifetime=0),
        Result.MALFORMED_REQUEST,
    ),
    "unknown protocol": (map_octets(protocol=253), Result.UNSUPP_PROTOCOL),
    "all ports": (map_octets(internal_port=0), Result.UNSUPP_PROTOCOL),
    "all protocols": (
        map_octets(protocol=0, internal_port=0),
        Result.UNSUPP_PROTOCOL,
    ),
}


# [R-6887-8.2-7] [R-6887-8.2-8] [R-6887-8.2-10]
@pytest.mark.parametrize("name", DROPPED)
def test_dropped_without_an_answer(lab, client, name):
    client.assert_silence(DROPPED[name])


# [R-6887-7.3-6] [R-6887-7.3-10] [R-6887-7.3-13] [R-6887-8.2-4] [R-6887-8.2-9] [R-6887-8.2-12]
# [R-6887-8.2-13] [R-6887-13.3-4] [R-6887-13.3-10]
# [R-6887-7.2-1] [R-6887-7.2-2] [R-6887-7.2-3] [R-6887-7.3-8] [R-6887-7.3-12] [R-6887-13.1-3]
# [R-6887-13.1-4] [R-6887-14.1.1-3] [R-6886-1.1-1]
@pytest.mark.parametrize("name", REFUSED)
def test_refused_octet_for_octet(lab, client, name):
    octets, result = REFUSED[name]
    client.assert_error(octets, result, LONG)


# [R-6887-7.3-5]
def test_nothing_of_all_that_left_a_trace(lab, client):
    """After every request of this file once more, in one go: no mapping, no element."""
    before = lab.mappings()
    for octets in DROPPED.values():
        client.send(octets)
    for octets, result in REFUSED.values():
        client.assert_error(octets, result)
    assert [m["id"] for m in lab.mappings()] == [m["id"] for m in before]
    assert lab.mapping(UDP, f"{SENDER}:{PORT}") is None
    lab.assert_kernel_equals_list()


# [R-6887-7.3-11]
def test_unknown_optional_option_is_ignored_and_left_out(lab, client, port):
    octets = map_octets(internal_port=port, options=pcp.option(200, b"abc"))
    answer = client.exchange(octets)
    assert answer.octets == pcp.success_octets(
        octets, 3600, answer.epoch, EXTERNAL, answer.external_port
    )


# [R-6887-7.2-3] [R-6887-14.1.1-1] [R-6887-14.1.2-2]
def test_announce_is_answered_with_24_octets(lab, client):
    answer = client.announce()
    expected = bytes([2, 0x80, 0, 0, 0, 0, 0, 0])
    assert answer.octets[:8] == expected
    assert answer.octets[12:] == b"\0" * 12


# [R-6887-14.1.1-2] [R-6887-14.1.1-5]
def test_announce_with_a_lifetime_and_an_optional_option(lab, client):
    """The lifetime is ignored, the option tolerated (s14.1.2)."""
    octets = pcp.announce_request(client.address, lifetime=999, options=pcp.option(200, b"abcd"))
    answer = client.exchange(octets)
    assert answer.octets[:8] == bytes([2, 0x80, 0, 0, 0, 0, 0, 0])
    assert len(answer.octets) == 24


# [R-6887-7.1-1] [R-6887-7.2-4] [R-6887-11.1-1] [R-6887-11.1-2]
def test_reserved_fields_of_a_request_are_ignored(lab, client, port):
    octets = bytearray(map_octets(internal_port=port))
    octets[2:4] = b"\xff\xff"
    octets[37:40] = b"\xff\xff\xff"
    answer = client.exchange(bytes(octets))
    assert answer.octets == pcp.success_octets(
        octets, 3600, answer.epoch, EXTERNAL, answer.external_port
    )


# [R-6887-11.3-20]
# [R-6887-7.4-5]
def test_wrong_suggestions_do_no_harm(lab, client, ports):
    """Loopback, multicast, foreign or broadcast: some other endpoint is given (s11.3)."""
    wrong = ["127.0.0.1", "224.0.0.1", "198.51.100.1", "255.255.255.255", "10.77.0.2"]
    for number, external in zip(ports(len(wrong)), wrong):
        answer = client.granted(UDP, number, external_address=external, external_port=number)
        assert answer.external_address == EXTERNAL
        assert answer.external_port != 0


# [R-6887-11.3-19]
def test_wrong_suggestions_with_prefer_failure(lab, client, port):
    for external in ("127.0.0.1", "198.51.100.1"):
        octets = pcp.map_request(
            SENDER, NONCE, UDP, port, port, external, options=pcp.prefer_failure()
        )
        client.assert_error(octets, Result.CANNOT_PROVIDE_EXTERNAL)


# [R-6887-11.3-17] [R-6887-8.2-6]
def test_prefer_failure_gives_the_suggested_endpoint(lab, client, port):
    octets = map_octets(
        internal_port=port,
        external_port=port,
        external_address=EXTERNAL,
        options=pcp.prefer_failure(),
    )
    answer = client.exchange(octets)
    assert answer.octets == pcp.success_octets(
        octets, 3600, answer.epoch, EXTERNAL, port, pcp.prefer_failure()
    )


# [R-6887-11.3-19] [R-6887-13.2-2]
def test_prefer_failure_when_the_port_is_taken(lab, client, client2, port):
    client2.granted(UDP, port, external_port=port)
    octets = map_octets(internal_port=port, external_port=port, options=pcp.prefer_failure())
    client.assert_error(octets, Result.CANNOT_PROVIDE_EXTERNAL)
    assert lab.mapping(UDP, f"{SENDER}:{port}") is None


# [R-6887-7.3-4] [R-6887-7.3-14]
def test_options_come_back_in_the_order_of_the_request(lab, client, port):
    options = (
        pcp.filter_option(INET, 128, 443)
        + pcp.prefer_failure()
        + pcp.filter_option("203.0.113.0", 120)
    )
    octets = map_octets(internal_port=port, external_port=port, options=options)
    answer = client.exchange(octets)
    assert answer.octets == pcp.success_octets(
        octets, 3600, answer.epoch, EXTERNAL, port, options
    )


# [R-6887-8-2]
def test_retransmission_gets_the_same_answer(lab, client, port):
    octets = map_octets(internal_port=port)
    first = client.exchange(octets)
    for _ in range(3):
        again = client.exchange(octets)
        assert again.octets[:8] == first.octets[:8]
        assert again.octets[12:] == first.octets[12:]
    assert len([m for m in lab.mappings() if m["internal"] == f"{SENDER}:{port}"]) == 1


# [R-6887-8.2-3]
def test_requests_from_outside_are_not_heard(lab, client, port):
    """On the wrong interface: silence, to either of the gateway's addresses (s8.2)."""
    outer = pcp.Client(lab.inet, server=EXTERNAL)
    octets = pcp.map_request(outer.address, new_nonce(), UDP, port)
    outer.send(octets)
    outer.send(pcp.announce_request(outer.address))
    outer.send(b"\x09\0" + octets[2:])
    # Answered from inside after the outside ones were there: had they been heard, they would be.
    client.announce()
    assert outer.receive(0.3) is None
    assert not [m for m in lab.mappings() if m["internal"].startswith("203.0.113.")]


# [R-6887-8-1]
def test_answers_come_from_the_address_and_port_that_was_asked(lab, client):
    client.send(pcp.announce_request(client.address))
    octets, source = client.receive(5.0)
    assert source == ("10.77.0.1", 5351)
    assert octets[1] == 0x80


def test_answers_come_from_an_address_that_is_not_the_first(lab, client):
    """The destination of the request is the source of the answer (s8.3)."""
    lab.gateway.run("ip", "address", "replace", "10.77.0.77/24", "dev", "lan0")
    other = pcp.Client(lab.host, server="10.77.0.77")
    assert other.announce().result == Result.SUCCESS
    assert client.announce().result == Result.SUCCESS


def test_every_single_octet_changed_is_survived(lab, client, port):
    """A valid request with every octet changed in turn: an answer or silence, never an end."""
    whole = map_octets(
        internal_port=port,
        external_port=port,
        lifetime=2,
        options=pcp.prefer_failure() + pcp.filter_option(INET, 128),
    )
    for offset in range(len(whole)):
        client.send(with_octet(whole, offset, whole[offset] ^ 0xFF))
        # Answers are not read one by one: some are silence.
        while client.receive(0):
            pass
    while client.receive(0.1):
        pass
    client.announce()
    lab.assert_kernel_equals_list()
