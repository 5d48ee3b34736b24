"""What other servers get wrong, by the number of the fault in the list we keep.

Each test asks for what RFC 6887 says, octet for octet. The fault is named in the test.
"""

import select
import socket
import struct

import pytest

import lab as lab_module
import pcp
from lab import EXTERNAL, INET, UdpFlow, wait_for
from pcp import LONG, SHORT, TCP, UDP, Result, new_nonce


def request(client, port, **fields):
    nonce = fields.pop("nonce", None) or new_nonce()
    return pcp.map_request(client.address, nonce, fields.pop("protocol", UDP), port, **fields)


def assert_nothing_made(lab, port):
    assert not [m for m in lab.mappings() if m["internal"].endswith(f":{port}")]


# [R-6887-8.2-7] [R-6887-8.2-10]
def test_fault_01_shorter_than_a_header_is_dropped(lab, client, port):
    """Version 2 and fewer than 24 octets: no answer (s8.2)."""
    whole = request(client, port)
    for size in [0, *range(2, 24)]:
        client.assert_silence(whole[:size])


# [R-6887-8.2-12] [R-6887-8.2-5]
@pytest.mark.parametrize("size", [25, 61, 62, 63, 65, 66, 67])
def test_fault_02_not_a_multiple_of_four(lab, client, port, size):
    """MALFORMED_REQUEST with version and opcode as they should be, padded to 4 (s8.2)."""
    octets = (request(client, port) + b"\0" * 8)[:size]
    answer = client.assert_error(octets, Result.MALFORMED_REQUEST)
    assert answer.octets[:2] == b"\x02\x81"
    assert len(answer.octets) == (size + 3) // 4 * 4
    assert_nothing_made(lab, port)


# [R-6887-7-1] [R-6887-8.2-5] [R-6887-8.2-12]
@pytest.mark.parametrize("size", [1101, 1104, 1200, 2000])
def test_fault_03_longer_than_1100(lab, client, port, size):
    """MALFORMED_REQUEST, the answer cut to 1100 octets (s8.2)."""
    octets = request(client, port, options=pcp.option(200, b"x" * 2000))[:size]
    answer = client.assert_error(octets, Result.MALFORMED_REQUEST)
    assert len(answer.octets) == 1100
    assert_nothing_made(lab, port)


def test_fault_03_exactly_1100_is_fine(lab, client, port):
    octets = request(client, port, options=pcp.option(200, b"x" * 1036))
    assert len(octets) == 1100
    assert client.exchange(octets).result == Result.SUCCESS


# [R-6887-7.2-7]
def test_fault_04_unparsed_requests_get_the_end_of_their_address_back(lab, client, port):
    """The last 96 bits of the client address stay where they were (s7.2)."""
    whole = request(client, port)
    unparsed = {
        Result.UNSUPP_VERSION: bytes([3]) + whole[1:],
        Result.UNSUPP_OPCODE: whole[:1] + bytes([50]) + whole[2:],
        Result.MALFORMED_REQUEST: whole[:56],
        Result.MALFORMED_OPTION: whole + pcp.option(pcp.FILTER, b"", length=20),
    }
    for result, octets in unparsed.items():
        answer = client.assert_error(octets, result)
        assert answer.octets[12:24] == octets[12:24] == pcp.address("10.77.0.2")[4:]


# [R-6887-7.2-6]
def test_fault_04_parsed_requests_get_zeros(lab, client, port):
    nonce = new_nonce()
    client.granted(UDP, port, nonce)
    for octets in (
        request(client, port),
        request(client, 0),
        request(client, port, nonce=nonce, options=pcp.option(64, b"abcd")),
    ):
        answer = client.exchange(octets)
        assert answer.result in (
            Result.NOT_AUTHORIZED,
            Result.UNSUPP_PROTOCOL,
            Result.UNSUPP_OPTION,
        )
        assert answer.octets[12:24] == b"\0" * 12


# [R-6887-7.4-2]
def test_fault_05_long_errors_last_half_an_hour(lab, client, port):
    """The recommended lifetime of errors that will not pass soon (s7.4)."""
    whole = request(client, port)
    for result, octets in {
        Result.UNSUPP_VERSION: bytes([7]) + whole[1:],
        Result.MALFORMED_REQUEST: whole[:56],
        Result.UNSUPP_OPCODE: whole[:1] + bytes([50]) + whole[2:],
        Result.UNSUPP_OPTION: whole + pcp.option(64),
        Result.MALFORMED_OPTION: whole + pcp.option(pcp.PREFER_FAILURE, b"abcd"),
        Result.UNSUPP_PROTOCOL: request(client, port, protocol=200),
        Result.ADDRESS_MISMATCH: pcp.map_request("10.77.0.9", new_nonce(), UDP, port),
    }.items():
        assert client.assert_error(octets, result).lifetime == LONG
    too_many = b"".join(pcp.filter_option(f"192.0.2.{n}", 128) for n in range(40))
    octets = whole + too_many
    assert client.assert_error(octets, Result.EXCESSIVE_REMOTE_PEERS).lifetime == LONG
    assert_nothing_made(lab, port)


# [R-6887-7.4-2]
def test_fault_05_short_errors_last_half_a_minute(new_lab):
    lab = new_lab(mappings_per_subscriber=1)
    client = lab.host.client()
    client.granted(UDP, 5000)
    octets = request(client, 5001)
    assert client.assert_error(octets, Result.USER_EX_QUOTA).lifetime == SHORT


# [R-6887-7.3-14] [R-6887-7.3-11]
def test_fault_06_unprocessed_options_do_not_come_back_in_success(lab, client, port):
    """A success response carries the options that were processed, no others (s7.3)."""
    processed = pcp.filter_option(INET, 128)
    octets = request(
        client,
        port,
        options=pcp.option(200, b"hello") + processed + pcp.option(255, b"bye") + pcp.option(128),
    )
    answer = client.exchange(octets)
    assert answer.octets == pcp.success_octets(
        octets, 3600, answer.epoch, EXTERNAL, answer.external_port, processed
    )


# [R-6887-8.2-6]
# [R-6887-11.3-2]
def test_fault_06_success_without_options_is_60_octets(lab, client, port):
    octets = request(client, port, external_port=port, options=pcp.option(200, b"x"))
    answer = client.exchange(octets)
    assert answer.octets == pcp.success_octets(octets, 3600, answer.epoch, EXTERNAL, port)


# [R-6887-13.3-3]
def test_fault_07_filter_keeps_others_out(lab, client, ports):
    """FILTER answered with SUCCESS must filter (s13.3)."""
    inner_port, outer_port = ports(2)
    options = pcp.filter_option("198.51.100.7", 128)
    answer = client.granted(UDP, inner_port, external_port=outer_port, options=options)
    assert answer.options == [(pcp.FILTER, options[4:])]
    inner, outer = lab.host.udp_socket(("", inner_port)), lab.inet.udp_socket()
    assert UdpFlow(outer, (EXTERNAL, outer_port), inner).is_blocked()
    listener = lab.host.tcp_listener(inner_port)
    client.granted(TCP, inner_port, external_port=outer_port, options=options)
    with pytest.raises(OSError):
        lab.inet.tcp_connect((EXTERNAL, outer_port), timeout=0.5)
    listener.close()


# [R-6887-13.2-3]
@pytest.mark.parametrize("external", ["0.0.0.0", EXTERNAL])
def test_fault_08_prefer_failure_without_a_port(lab, client, port, external):
    """MALFORMED_OPTION whatever the address (s13.2)."""
    octets = request(client, port, external_address=external, options=pcp.prefer_failure())
    client.assert_error(octets, Result.MALFORMED_OPTION, LONG)
    assert_nothing_made(lab, port)


# [R-6887-11.3-9] [R-6887-13.3-7]
@pytest.mark.parametrize(
    "options",
    [pcp.prefer_failure(), pcp.filter_option(INET, 128), pcp.filter_option("0.0.0.0", 0)],
    ids=["prefer_failure", "filter", "filter_none"],
)
def test_fault_09_delete_with_an_option_that_makes_no_sense(lab, client, port, options):
    """PREFER_FAILURE or FILTER with lifetime 0: MALFORMED_OPTION, the mapping stays (s11.3)."""
    nonce = new_nonce()
    client.granted(UDP, port, nonce, external_port=port)
    octets = request(client, port, nonce=nonce, external_port=port, lifetime=0, options=options)
    client.assert_error(octets, Result.MALFORMED_OPTION, LONG)
    assert lab.mapping(UDP, f"10.77.0.2:{port}")


# [R-6887-11.3-7] [R-6887-7.3-5]
def test_fault_10_other_nonce_is_refused_and_changes_nothing(lab, client, port):
    """NOT_AUTHORIZED with the remaining lifetime, for renewal and delete alike (s11.3)."""
    owner = new_nonce()
    client.granted(UDP, port, owner, external_port=port, lifetime=500)
    before = lab.mapping(UDP, f"10.77.0.2:{port}")
    for lifetime in (9000, 10, 0):
        octets = request(client, port, external_port=port, lifetime=lifetime)
        answer = client.assert_error(octets, Result.NOT_AUTHORIZED)
        assert 497 <= answer.lifetime <= 500
    after = lab.mapping(UDP, f"10.77.0.2:{port}")
    assert after["nonce"] == owner.hex()
    assert (after["id"], after["external"]) == (before["id"], before["external"])
    assert 495 <= after["lifetime_s"] <= 500
    client.unmap(UDP, port, owner)


# [R-6887-11.3-14]
def test_fault_11_existing_mapping_is_returned_whatever_is_suggested(lab, client, ports):
    """One internal endpoint, one mapping; its owner can delete it (s11.3)."""
    inner_port, first_port, second_port = ports(3)
    nonce = new_nonce()
    first = client.granted(UDP, inner_port, nonce, external_port=first_port)
    again = client.granted(UDP, inner_port, nonce, external_port=second_port)
    other = client.granted(
        UDP, inner_port, nonce, external_port=second_port, external_address="198.51.100.1"
    )
    assert {a.external_port for a in (first, again, other)} == {first_port}
    assert other.external_address == EXTERNAL
    internal = f"10.77.0.2:{inner_port}"
    assert len([m for m in lab.mappings() if m["internal"] == internal]) == 1
    assert ("UDP", f"{EXTERNAL}:{second_port}") not in lab.kernel_mappings()
    client.unmap(UDP, inner_port, nonce)
    assert lab.mapping(UDP, internal) is None


# [R-6887-7.3-5] [R-6887-11.3-11] [R-6887-13.3-8] [R-6887-13.3-10]
def test_fault_12_error_on_renewal_leaves_the_mapping_as_it_was(lab, client, ports):
    """No step of a refused request stays behind (s8.2, s13.2, s13.3)."""
    inner_port, outer_port, other_port = ports(3)
    nonce = new_nonce()
    kept = pcp.filter_option(INET, 128)
    client.granted(UDP, inner_port, nonce, external_port=outer_port, lifetime=500, options=kept)
    inner, outer = lab.host.udp_socket(("", inner_port)), lab.inet.udp_socket()
    flow = UdpFlow(outer, (EXTERNAL, outer_port), inner)
    assert flow.passes()
    before = lab.mapping(UDP, f"10.77.0.2:{inner_port}")

    clear = pcp.filter_option("0.0.0.0", 0)
    too_many = b"".join(pcp.filter_option(f"192.0.2.{n}", 128) for n in range(20))
    bad = pcp.filter_option("192.0.2.1", 129)
    for result, fields in (
        (
            Result.CANNOT_PROVIDE_EXTERNAL,
            {"external_port": other_port, "options": pcp.prefer_failure() + clear},
        ),
        (Result.EXCESSIVE_REMOTE_PEERS, {"options": clear + too_many}),
        (Result.MALFORMED_OPTION, {"options": clear + bad}),
        (Result.UNSUPP_OPTION, {"options": clear + pcp.option(64)}),
    ):
        octets = request(client, inner_port, nonce=nonce, lifetime=9000, **fields)
        client.assert_error(octets, result)
        after = lab.mapping(UDP, f"10.77.0.2:{inner_port}")
        assert after["filters"] == before["filters"]
        assert after["external"] == before["external"]
        assert 0 <= before["lifetime_s"] - after["lifetime_s"] <= 3
    assert flow.passes()
    _, expires = lab.kernel_mappings()[("UDP", f"{EXTERNAL}:{outer_port}")]
    assert expires < 1000


# [R-6887-15.1-8] [R-6887-15.1-6] [R-6887-15.1-9]
def test_fault_13_delete_of_what_is_not_there_succeeds(lab, client, port):
    """SUCCESS with lifetime 0; the suggested endpoint is copied (s15.1)."""
    octets = request(client, port, external_port=4711, external_address=EXTERNAL, lifetime=0)
    for _ in range(2):
        answer = client.exchange(octets)
        assert answer.octets == pcp.success_octets(octets, 0, answer.epoch, EXTERNAL, 4711)


# [R-6887-15.1-9]
def test_fault_13_repeated_delete_gets_the_same_answer(lab, client, port):
    nonce = new_nonce()
    client.granted(UDP, port, nonce)
    octets = request(client, port, nonce=nonce, lifetime=0)
    for _ in range(3):
        answer = client.exchange(octets)
        assert answer.octets == pcp.success_octets(octets, 0, answer.epoch, "0.0.0.0", 0)


# [R-6887-11.3-5]
def test_fault_14_all_protocols_is_unsupported_not_malformed(lab, client):
    """Protocol 0, port 0 where it is not offered: UNSUPP_PROTOCOL (s11.3)."""
    client.assert_error(request(client, 0, protocol=0), Result.UNSUPP_PROTOCOL, LONG)


# [R-6887-11.3-6] [R-6887-15.1-4]
@pytest.mark.parametrize("lifetime", [3600, 0])
def test_fault_14_all_protocols_with_a_port_is_malformed(lab, client, port, lifetime):
    octets = request(client, port, protocol=0, lifetime=lifetime)
    client.assert_error(octets, Result.MALFORMED_REQUEST, LONG)


# [R-6887-11.3-4]
@pytest.mark.parametrize("protocol", [TCP, UDP])
def test_fault_14_all_ports_is_unsupported(lab, client, protocol):
    octets = request(client, 0, protocol=protocol)
    client.assert_error(octets, Result.UNSUPP_PROTOCOL, LONG)


# [R-6887-11.3-3]
@pytest.mark.parametrize("protocol", [1, 2, 41, 47, 50, 51, 58, 255])
def test_fault_15_protocols_without_ports(lab, client, port, protocol):
    """Never SUCCESS with a rule that takes all of ICMP, GRE or ESP (s11.3)."""
    for internal_port in (port, 0):
        octets = request(client, internal_port, protocol=protocol, external_port=port)
        client.assert_error(octets, Result.UNSUPP_PROTOCOL, LONG)
    lab.assert_kernel_equals_list()


def crc32c(octets):
    value = 0xFFFFFFFF
    for octet in octets:
        value ^= octet
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
    return value ^ 0xFFFFFFFF


def sctp_init(source_port, port):
    """An INIT alone in its packet (RFC 9260 s3.3.2)."""
    chunk = struct.pack("!BBHIIHHI", 1, 0, 20, 0x01020304, 65535, 1, 1, 7)
    head = struct.pack("!HHI", source_port, port, 0)
    checksum = struct.pack("<I", crc32c(head + b"\0" * 4 + chunk))
    return head + checksum + chunk


def sctp_ports_seen(lab, ports):
    """Which of the ports sent to from outside arrived in `host`, as it saw them."""
    with lab_module.network_namespace(lab.host.namespace):
        inner = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_SCTP)
    with lab_module.network_namespace(lab.inet.namespace):
        outer = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_SCTP)
    seen = []
    with inner, outer:
        for number in ports:
            outer.sendto(sctp_init(5000, number), (EXTERNAL, 0))
        while select.select([inner], [], [], 0.3)[0]:
            packet = inner.recv(2048)
            seen.append(struct.unpack_from("!H", packet, (packet[0] & 15) * 4 + 2)[0])
    return seen


def test_fault_15_sctp_is_mapped_by_its_port_alone(lab, client, ports):
    inner_port, outer_port, other_port = ports(3)
    client.granted(132, inner_port, external_port=outer_port)
    assert ("SCTP", f"{EXTERNAL}:{outer_port}") in lab.kernel_mappings()
    assert sctp_ports_seen(lab, [other_port, outer_port, inner_port]) == [inner_port]
    lab.assert_kernel_equals_list()


# [R-6887-11.3-18] [R-6887-11.3-19]
@pytest.mark.parametrize("reserved", [5350, 5351])
def test_fault_16_ports_of_pcp_itself_are_never_mapped(lab, client, port, reserved):
    """External UDP 5350 and 5351: another one, or CANNOT_PROVIDE_EXTERNAL (s11.3)."""
    octets = request(
        client, port, external_port=reserved, options=pcp.prefer_failure()
    )
    client.assert_error(octets, Result.CANNOT_PROVIDE_EXTERNAL)
    answer = client.granted(UDP, port, external_port=reserved)
    assert answer.external_port not in (0, 5350, 5351)


def test_fault_16_internal_5351_is_an_ordinary_port(lab, client):
    nonce = new_nonce()
    answer = client.granted(UDP, 5351, nonce)
    assert answer.external_port not in (5350, 5351)
    client.unmap(UDP, 5351, nonce)


def test_fault_17_quota(new_lab):
    """USER_EX_QUOTA, for MAP and PEER of one host together (s11.3). [R-6887-11.3-23]"""
    lab = new_lab(mappings_per_subscriber=3)
    client = lab.host.client()
    client.granted(UDP, 5000)
    client.peered(UDP, 5000, INET, 4000)
    client.granted(TCP, 5000)
    client.assert_error(request(client, 5001), Result.USER_EX_QUOTA, SHORT)
    octets = pcp.peer_request(client.address, new_nonce(), UDP, 5000, INET, 4001)
    client.assert_error(octets, Result.USER_EX_QUOTA, SHORT)
    assert len(lab.mappings()) == 3
    lab.host2.client().granted(UDP, 5000)


def test_fault_19_announce_with_a_wrong_client_address(lab, client, client6):
    """ADDRESS_MISMATCH, on both families (s14.1.1). [R-6887-14.1.1-3]"""
    for each, other in ((client, "10.77.0.3"), (client6, "fd77::3"), (client6, "10.77.0.2")):
        each.assert_error(pcp.announce_request(other), Result.ADDRESS_MISMATCH, LONG)


# [R-6887-15-10] [R-6887-15-12]
def test_fault_21_port_is_held_for_its_owner_after_a_delete(new_lab):
    """Not given to anybody else for a while, but to the same client again (s15)."""
    lab = new_lab(recycle_delay=3)
    client, other, nonce = lab.host.client(), lab.host2.client(), new_nonce()
    client.granted(UDP, 5000, nonce, external_port=7000)
    client.unmap(UDP, 5000, nonce)
    assert lab.status()["mappings"]["held"] == 1
    assert lab.assert_kernel_equals_list() == {}
    refused = pcp.map_request(
        other.address, new_nonce(), UDP, 5000, 7000, options=pcp.prefer_failure()
    )
    answer = other.assert_error(refused, Result.CANNOT_PROVIDE_EXTERNAL)
    assert answer.lifetime > 0
    # Same address and port, but not the nonce: not the same client.
    assert client.granted(UDP, 5000, new_nonce(), external_port=7000).external_port != 7000

    client2, nonce2 = lab.host.client(), new_nonce()
    client2.granted(UDP, 5001, nonce2, external_port=7001)
    client2.unmap(UDP, 5001, nonce2)
    assert client2.granted(UDP, 5001, nonce2, external_port=7001).external_port == 7001

    # The hold ends.
    def free():
        return other.exchange(refused).result == Result.SUCCESS

    wait_for(free, 10, "the end of the hold")


# [R-6887-15-12]
def test_fault_21_hold_survives_a_kill(new_lab):
    lab = new_lab(recycle_delay=600)
    client, nonce = lab.host.client(), new_nonce()
    client.granted(UDP, 5000, nonce, external_port=7000)
    client.unmap(UDP, 5000, nonce)
    lab.kill()
    lab.start()
    other = lab.host2.client()
    assert other.granted(UDP, 5000, external_port=7000).external_port != 7000
    assert client.granted(UDP, 5000, nonce, external_port=7000).external_port == 7000


# [R-6887-7.3-7] [R-6887-7.3-8]
@pytest.mark.parametrize("reverse", [False, True])
def test_fault_22_option_twice(lab, client, port, reverse):
    """MALFORMED_OPTION, not MALFORMED_REQUEST (s7.3)."""
    parts = [pcp.prefer_failure(), pcp.filter_option(INET, 128), pcp.prefer_failure()]
    options = b"".join(reversed(parts) if reverse else parts)
    octets = request(client, port, external_port=port, options=options)
    client.assert_error(octets, Result.MALFORMED_OPTION, LONG)
    assert_nothing_made(lab, port)


# [R-6887-13-1]
@pytest.mark.parametrize(
    "option",
    [pcp.prefer_failure(), pcp.filter_option(INET, 128)],
    ids=["prefer_failure", "filter"],
)
def test_fault_22_option_of_another_opcode(lab, client, option):
    octets = pcp.announce_request(client.address, options=option)
    client.assert_error(octets, Result.MALFORMED_OPTION, LONG)


def test_fault_23_third_party_opens_no_door(new_lab):
    """Where some may use it, nobody else may, least of all from outside (s13.1).

    [R-6887-13.1-4] [R-6887-8.2-3]
    """
    lab = new_lab(third_party=["0.0.0.0/0 for 10.77.0.0/24"])
    option = pcp.third_party("10.77.0.3")
    outer = pcp.Client(lab.inet, EXTERNAL)
    outer.send(pcp.map_request(INET, new_nonce(), UDP, 5000, options=option))
    outer.send(pcp.map_request("10.77.0.2", new_nonce(), UDP, 5000, options=option))
    assert outer.receive(0.3) is None
    assert lab.mappings() == []
    client = lab.host.client()
    octets = request(client, 5000, options=pcp.third_party("192.168.1.1"))
    client.assert_error(octets, Result.UNSUPP_OPTION, LONG)
    client.granted(UDP, 5000, options=option)
    lab.reconfigure(lab_module.configuration(third_party=["10.77.0.9 for 10.77.0.0/24"]))
    lab.ctl("reload")
    client.assert_error(request(client, 5001, options=option), Result.UNSUPP_OPTION, LONG)


# [R-6887-15.1-8]
@pytest.mark.parametrize("protocol", [0, UDP])
def test_fault_24_wildcard_delete_touches_no_ordinary_mapping(lab, client, ports, protocol):
    """Port 0 names the mapping of all ports, not every mapping (s15.1)."""
    numbers = ports(3)
    nonce = new_nonce()
    for number in numbers:
        client.granted(UDP, number, nonce, external_port=number)
    octets = request(client, 0, nonce=nonce, protocol=protocol, lifetime=0)
    answer = client.exchange(octets)
    assert answer.octets == pcp.success_octets(octets, 0, answer.epoch, "0.0.0.0", 0)
    for number in numbers:
        assert lab.mapping(UDP, f"10.77.0.2:{number}")


# [R-6887-8.2-9] [R-6887-9-1] [R-6886-1.1-1]
@pytest.mark.parametrize("size", [24, 28, 48, 60])
def test_fault_26_version_1_is_not_spoken(lab, client, port, size):
    octets = (request(client, port, version=1))[:size]
    client.assert_error(octets, Result.UNSUPP_VERSION, LONG)
    assert_nothing_made(lab, port)
