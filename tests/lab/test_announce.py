"""What the server says without being asked: ANNOUNCE and Mapping Updates (RFC 6887 s14)."""

import time

import pytest

import lab as lab_module
import pcp
from lab import EXTERNAL, GATEWAY, wait_for
from pcp import ANNOUNCE, MAP, MULTICAST, MULTICAST6, TCP, UDP, Result, new_nonce

GAPS = [0.25, 0.5, 1.0, 2.0]
NEW_EXTERNAL = "203.0.113.9"


@pytest.fixture
def heard(new_lab):
    """A lab with somebody listening in host and host2: (lab, listener, listener2)."""
    lab = new_lab()
    listeners = [pcp.Listener(node, node.address6) for node in (lab.host, lab.host2)]
    yield lab, *listeners
    for each in listeners:
        each.close()


def of_group(listener, group, source=None, protocol=None):
    """What came to a group: PCP when `protocol` is 2, NAT-PMP when it is 0."""
    return [
        answer
        for to, (address, _), answer in listener.read()
        if to == group
        and source in (None, address)
        and protocol in (None, answer.octets[0])
    ]


def assert_schedule(answers, n_at_least=5):
    """The first gap is 250 ms, each later one twice the one before, all ±20 %."""
    assert len(answers) >= n_at_least, len(answers)
    times = [answer.received for answer in answers]
    gaps = [later - earlier for earlier, later in zip(times, times[1:])]
    for gap, expected in zip(gaps, GAPS):
        assert 0.8 * expected <= gap <= 1.2 * expected, gaps


def test_fault_18_schedule_after_a_start_on_all_groups(heard):
    """From the unicast address and port that is asked, with an Epoch that goes on.

    [R-6887-14.1.3-1] [R-6887-14.1.3-2] [R-6887-14.1.3-3] [R-6887-14.1.3-4] [R-6886-3.2.1-1]
    [R-6886-3.2.1-2] [R-6886-3.2.1-3] [R-6886-3.7-1]
    """
    lab, listener, listener2 = heard
    lab.kill()
    listener.clear()
    listener2.clear()
    lab.start()
    link_local = lab.gateway.link_local().split("%")[0]
    began = time.monotonic()
    wait_for(
        lambda: len(of_group(listener, MULTICAST, protocol=2)) >= 5
        and len(of_group(listener, MULTICAST6, link_local)) >= 5,
        8,
        "five announcements",
    )
    assert time.monotonic() - began < 6
    for each in (listener, listener2):
        for answers in (
            of_group(each, MULTICAST, GATEWAY, protocol=2),
            of_group(each, MULTICAST6, link_local),
            of_group(each, MULTICAST6, "fd77::1"),
        ):
            assert_schedule(answers)
            for answer in answers:
                assert (answer.version, answer.opcode) == (2, ANNOUNCE)
                assert (answer.result, answer.lifetime) == (Result.SUCCESS, 0)
                assert len(answer.octets) == 24
        natpmp = of_group(each, MULTICAST, GATEWAY, protocol=0)
        assert_schedule(natpmp)
        for answer in natpmp:
            assert (answer.opcode, answer.result) == (pcp.NATPMP_ADDRESS, 0)
            assert answer.external_address == EXTERNAL
        assert {source[1] for _, source, _ in each.heard} == {5351}
    epochs = [(a.epoch, a.received) for a in of_group(listener, MULTICAST, protocol=2)]
    for (epoch, at), (later, later_at) in zip(epochs, epochs[1:]):
        assert pcp.epoch_is_valid(epoch, at, later, later_at)
    natpmp_epochs = [a.epoch for a in of_group(listener, MULTICAST, protocol=0)]
    for (epoch, _), other in zip(epochs, natpmp_epochs):
        assert abs(epoch - other) <= 1


def test_nothing_is_announced_outside(new_lab):
    """Neither multicast nor unicast leaves by the outside interface."""
    lab = new_lab()
    outer = pcp.Listener(lab.inet, lab_module.INET6)
    lab.kill()
    lab.start()
    inner = pcp.Listener(lab.host)
    wait_for(lambda: len(of_group(inner, MULTICAST, protocol=2)) >= 2, 5, "announcements inside")
    assert outer.read() == []
    outer.close()
    inner.close()


def test_clear_is_told_to_the_one_concerned_only(heard):
    """Two clients: one sees a reset at once and unasked, the other none. [R-6887-8.5-4]"""
    lab, listener, listener2 = heard
    client, client2 = lab.host.client(), lab.host2.client()
    nonce, nonce2 = new_nonce(), new_nonce()
    before, before2 = client.granted(UDP, 5000, nonce), client2.granted(UDP, 5000, nonce2)
    wait_for(lambda: client.announce().epoch >= before.epoch + 4, what="time going on")
    listener.clear()
    listener2.clear()
    cleared = time.time()
    assert lab.ctl_json("clear", "--subscriber", "10.77.0.2") == {"cleared": 1}
    told = wait_for(lambda: of_group(listener, "10.77.0.2"), 3, "an ANNOUNCE to the one cleared")
    assert told[0].received - cleared < 0.5
    assert told[0].epoch <= 1
    wait_for(lambda: client.drain(), 3, "an announcement to where it asked from")
    direct = pcp.parse_response(client.unsolicited[0], time.monotonic())
    assert (direct.opcode, direct.result) == (ANNOUNCE, Result.SUCCESS)
    assert not pcp.epoch_is_valid(before.epoch, before.received, direct.epoch, direct.received)

    again = client.granted(UDP, 5000, nonce)
    again2 = client2.granted(UDP, 5000, nonce2)
    assert not pcp.epoch_is_valid(before.epoch, before.received, again.epoch, again.received)
    assert pcp.epoch_is_valid(before2.epoch, before2.received, again2.epoch, again2.received)
    time.sleep(0.3)
    assert of_group(listener2, "10.77.0.3") == []
    assert client2.drain() == []
    for answer in of_group(listener2, MULTICAST, protocol=2):
        # The schedule of the start may still run; its Epoch is the common one.
        assert answer.epoch >= 4


def move_address(lab, new=NEW_EXTERNAL, old=EXTERNAL):
    lab.gateway.ip("address", "add", f"{new}/24", "dev", "wan0")
    lab.gateway.ip("address", "delete", f"{old}/24", "dev", "wan0")
    # The second address of a network goes with its first unless the kernel promotes it.
    lab.gateway.ip("address", "replace", f"{new}/24", "dev", "wan0")


def updates(client):
    """The Mapping Updates that came to the client's own port."""
    answers = [pcp.parse_response(octets) for octets in client.drain()]
    return [answer for answer in answers if answer.opcode in (MAP, pcp.PEER)]


# [R-6887-14.2-9] [R-6887-14.2-10]
def test_fault_20_mapping_update_after_a_new_external_address(heard):
    """The owner learns address and port of every mapping, the Epoch restarts, all hear the address.

    [R-6887-8.5-3] [R-6887-14.2-1] [R-6887-14.2-2]
    """
    lab, listener, _ = heard
    client, quiet = lab.host.client(), lab.host2.client()
    nonce, kept = new_nonce(), pcp.filter_option(lab_module.INET, 128)
    before = client.granted(UDP, 5000, nonce, external_port=7000)
    client.granted(TCP, 5001, nonce, external_port=7001, options=kept)
    quiet_before = quiet.announce()
    wait_for(lambda: client.announce().epoch >= before.epoch + 4, what="time going on")
    listener.clear()
    client.drain()
    client.unsolicited.clear()
    move_address(lab)

    def both_told():
        told = {a.internal_port: a for a in updates(client) if a.external_address == NEW_EXTERNAL}
        return told if len(told) == 2 else None

    told = wait_for(both_told, 5, "an update of each mapping")
    for port, answer in told.items():
        assert (answer.opcode, answer.result) == (MAP, Result.SUCCESS)
        assert (answer.nonce, answer.external_port) == (nonce, port + 2000)
        assert 3580 <= answer.lifetime <= 3600
        assert answer.epoch <= 2
    assert [code for code, _ in told[5001].options] == [pcp.FILTER]
    assert told[5001].protocol == TCP
    natpmp = wait_for(
        lambda: [
            a
            for a in of_group(listener, MULTICAST, protocol=0)
            if a.external_address == NEW_EXTERNAL
        ],
        3,
        "the new address by NAT-PMP",
    )
    assert natpmp[0].result == 0
    wait_for(
        lambda: any(a.epoch <= 2 for a in of_group(listener, "10.77.0.2")), 3, "an ANNOUNCE to it"
    )
    after = client.granted(UDP, 5000, nonce)
    assert (after.external_address, after.external_port) == (NEW_EXTERNAL, 7000)
    assert not pcp.epoch_is_valid(before.epoch, before.received, after.epoch, after.received)
    quiet_after = quiet.announce()
    assert pcp.epoch_is_valid(
        quiet_before.epoch, quiet_before.received, quiet_after.epoch, quiet_after.received
    ), "somebody without mappings lost nothing"


def test_mapping_updates_come_three_times(heard):
    """When nobody renews; 250 and then 500 ms apart. [R-6887-14.2-6] [R-6887-14.2-7]"""
    lab, _, _ = heard
    client = lab.host.client()
    client.granted(UDP, 5000, external_port=7000)
    move_address(lab)
    times, end = [], time.monotonic() + 3
    while time.monotonic() < end:
        if updates(client):
            times.append(time.monotonic())
            client.unsolicited.clear()
            end = min(end, time.monotonic() + 1.2)
        time.sleep(0.005)
    gaps = [later - earlier for earlier, later in zip(times, times[1:])]
    assert len(gaps) == 2, gaps
    assert 0.23 <= gaps[0] <= 0.35 and 0.47 <= gaps[1] <= 0.65, gaps


def test_mapping_updates_end_when_the_client_renews(heard):
    """[R-6887-14.2-8]"""
    lab, _, _ = heard
    client, nonce = lab.host.client(), new_nonce()
    client.granted(UDP, 5000, nonce, external_port=7000)
    move_address(lab)
    wait_for(lambda: updates(client), 5, "the first update")
    assert client.granted(UDP, 5000, nonce, lifetime=4000).external_address == NEW_EXTERNAL
    client.drain()
    client.unsolicited.clear()
    time.sleep(0.9)
    assert updates(client) == []


def test_mapping_update_of_a_third_party_names_it(new_lab):
    """It goes to who asked, with THIRD_PARTY. [R-6887-14.2-3]"""
    lab = new_lab(third_party=["10.77.0.2 for 10.77.0.0/24"])
    client, nonce = lab.host.client(), new_nonce()
    options = pcp.third_party("10.77.0.3")
    client.granted(UDP, 5000, nonce, external_port=7000, options=options)
    other = lab.host2.client()
    move_address(lab)
    told = wait_for(lambda: updates(client), 5, "the update")[0]
    assert told.options == [(pcp.THIRD_PARTY, pcp.address("10.77.0.3"))]
    assert (told.external_address, told.external_port) == (NEW_EXTERNAL, 7000)
    assert other.drain() == []


def test_what_prefer_failure_was_promised_and_cannot_be_kept(new_lab):
    """A port that is taken on the only address left: CANNOT_PROVIDE_EXTERNAL. [R-6887-14.2-4]"""
    second = "203.0.113.2"
    lab = new_lab(external_addresses=[EXTERNAL, second])
    lab.gateway.ip("address", "add", f"{second}/24", "dev", "wan0")
    client, client2 = lab.host.client(), lab.host2.client()
    nonce = new_nonce()
    client2.granted(UDP, 5000, external_address=second, external_port=7000)
    first = client.granted(
        UDP,
        5000,
        nonce,
        external_address=EXTERNAL,
        external_port=7000,
        options=pcp.prefer_failure(),
    )
    assert first.external_address == EXTERNAL
    lab.reconfigure(lab_module.configuration(external_addresses=[second]))
    lab.ctl("reload")
    told = wait_for(lambda: updates(client), 5, "the news")[0]
    assert (told.opcode, told.result) == (MAP, Result.CANNOT_PROVIDE_EXTERNAL)
    assert (told.nonce, told.internal_port) == (nonce, 5000)
    assert lab.mapping(UDP, "10.77.0.2:5000") is None
    lab.assert_kernel_equals_list()


def test_announce_by_unicast_both_families(lab, client, client6):
    """[R-6887-14.1.2-2] [R-6887-14.1.1-1]"""
    for each in (client, client6):
        answer = each.exchange(pcp.announce_request(each.address, lifetime=77))
        assert (answer.result, answer.lifetime, len(answer.octets)) == (0, 0, 24)
