"""The daemon dies; the mappings do not."""

import time

import pytest

import lab as lab_module
import pcp
from lab import EXTERNAL, INET, Transfer, UdpFlow, wait_for
from pcp import TCP, UDP, Result, new_nonce

# The kernel keeps elements this much longer than their lifetime, so that a renewal on the last
# second finds them.
KERNEL_GRACE_S = 30


def remaining(granted_at, lifetime, now=None):
    return lifetime - ((now or time.monotonic()) - granted_at)


def assert_epoch_went_on(before, after):
    assert abs((after.epoch - before.epoch) - (after.received - before.received)) <= 2
    assert pcp.epoch_is_valid(before.epoch, before.received, after.epoch, after.received)


# [R-6887-15-5]
def test_transfer_runs_over_kill_and_restart(new_lab):
    lab = new_lab(lifetime_min=120)
    client, nonce = lab.host.client(), new_nonce()
    granted = client.granted(TCP, 8080, nonce, external_port=8080, lifetime=3600)
    transfer = Transfer(
        lab.host.tcp_listener(8080), lambda: lab.inet.tcp_connect((EXTERNAL, 8080), 10.0)
    )
    transfer.assert_progress()

    lab.kill()
    transfer.assert_progress()
    # Not only the running flow: a new one finds its way without a daemon too.
    service = lab.host.udp_socket(("", 8081))
    assert UdpFlow(lab.inet.udp_socket(), (EXTERNAL, 8081), service).is_blocked()
    wait_for(lambda: time.monotonic() - granted.received > 2.5, what="some seconds being dead")

    lab.start()
    transfer.assert_progress()
    listed = lab.mapping(TCP, "10.77.0.2:8080")
    assert listed["external"] == f"{EXTERNAL}:8080"
    assert listed["nonce"] == nonce.hex()
    assert abs(listed["lifetime_s"] - remaining(granted.received, 3600)) <= 2

    thief = client.map(TCP, 8080, lifetime=100)
    assert thief.result == Result.NOT_AUTHORIZED
    assert abs(thief.lifetime - remaining(granted.received, 3600)) <= 2
    assert_epoch_went_on(granted, thief)

    renewed = client.granted(TCP, 8080, nonce, lifetime=7200)
    assert (renewed.external_port, renewed.lifetime) == (8080, 7200)
    epoch = lab.status()["epoch"]
    assert (epoch["state"], epoch["reason"]) == ("continued", "same-boot")
    assert len(lab.mappings()) == 1
    lab.assert_kernel_equals_list()
    transfer.finish()


def test_new_flows_find_their_way_with_a_dead_daemon(new_lab):
    lab = new_lab()
    client = lab.host.client()
    client.granted(UDP, 5000, external_port=7000)
    client.granted(TCP, 5001, external_port=7001)
    lab.kill()
    inner, outer = lab.host.udp_socket(("", 5000)), lab.inet.udp_socket()
    assert UdpFlow(outer, (EXTERNAL, 7000), inner).passes()
    target = (INET, outer.getsockname()[1])
    assert UdpFlow(inner, target, outer).passes() == (EXTERNAL, 7000)
    listener = lab.host.tcp_listener(5001)
    with lab.inet.tcp_connect((EXTERNAL, 7001)):
        listener.accept()[0].close()


def test_filters_survive_a_kill(new_lab):
    lab = new_lab()
    lab.inet.run("ip", "address", "add", "203.0.113.101/24", "dev", "eth0")
    client, nonce = lab.host.client(), new_nonce()
    options = pcp.filter_option(INET, 128) + pcp.filter_option("198.51.100.0", 120, 443)
    client.granted(UDP, 5000, nonce, external_port=7000, options=options)
    before = lab.mapping(UDP, "10.77.0.2:5000")["filters"]
    lab.kill()
    lab.start()
    assert lab.mapping(UDP, "10.77.0.2:5000")["filters"] == before
    inner = lab.host.udp_socket(("", 5000))
    for source, allowed in ((INET, True), ("203.0.113.101", False)):
        flow = UdpFlow(lab.inet.udp_socket((source, 0)), (EXTERNAL, 7000), inner)
        assert flow.passes() if allowed else flow.is_blocked()


@pytest.fixture(scope="module")
def lab_with_a_dead_daemon(root_only):
    """Killed early, so that its kernel elements run out while other tests run."""
    lab = lab_module.Lab()
    try:
        lab.up(lab_module.configuration())
        lab.host.client().granted(UDP, 5000, external_port=7000, lifetime=1)
        lab.host.client().granted(UDP, 5001, external_port=7001, lifetime=3600)
        lab.kill()
        yield lab
    finally:
        lab.down()


def test_kernel_flushed_while_the_daemon_was_down_is_rebuilt(lab_with_a_dead_daemon, new_lab):
    lab = new_lab()
    client = lab.host.client()
    client.granted(UDP, 5000, external_port=7000)
    client.granted(TCP, 5001, external_port=7001)
    lab.kill()
    lab.nft("flush", "ruleset")
    assert lab.kernel_table() == {}
    inner, outer = lab.host.udp_socket(("", 5000)), lab.inet.udp_socket()
    lab.start()
    assert UdpFlow(outer, (EXTERNAL, 7000), inner).passes()
    assert len(lab.assert_kernel_equals_list()) == 2


def test_kernel_flushed_while_the_daemon_runs_is_rebuilt(new_lab):
    """With the next change at the latest, whatever that change was answered."""
    lab = new_lab()
    client = lab.host.client()
    client.granted(UDP, 5000, external_port=7000)
    lab.nft("flush", "ruleset")
    client.map(UDP, 5001, external_port=7001)
    wait_for(lambda: ("UDP", f"{EXTERNAL}:7000") in lab.kernel_mappings(), 5, "the table")
    inner, outer = lab.host.udp_socket(("", 5000)), lab.inet.udp_socket()
    assert UdpFlow(outer, (EXTERNAL, 7000), inner).passes()
    lab.assert_kernel_equals_list()


def test_foreign_elements_in_our_table_are_removed_at_start(new_lab):
    lab = new_lab()
    lab.host.client().granted(UDP, 5000, external_port=7000)
    lab.kill()
    element = "{ tcp . 203.0.113.1 . 6666 : 10.77.0.3 . 22 }"
    lab.nft("add", "element", "inet", "holdfast", "map4", element)
    lab.nft("delete", "element", "inet", "holdfast", "map4", "{ udp . 203.0.113.1 . 7000 }")
    assert list(lab.kernel_mappings()) == [("TCP", f"{EXTERNAL}:6666")]
    lab.start()
    assert list(lab.kernel_mappings()) == [("UDP", f"{EXTERNAL}:7000")]
    lab.assert_kernel_equals_list()


def test_mapping_that_ended_while_the_daemon_was_dead_does_not_come_back(new_lab):
    lab = new_lab()
    client, nonce = lab.host.client(), new_nonce()
    short = client.granted(UDP, 5000, nonce, external_port=7000, lifetime=1)
    client.granted(UDP, 5001, nonce, external_port=7001, lifetime=600)
    lab.kill()
    wait_for(lambda: time.monotonic() - short.received > 1.2, what="the end of the lifetime")
    lab.start()
    assert [m["external"] for m in lab.mappings()] == [f"{EXTERNAL}:7001"]
    lab.assert_kernel_equals_list()


def test_ordinary_stop_keeps_the_rules_and_the_traffic(new_lab):
    lab = new_lab()
    client, nonce = lab.host.client(), new_nonce()
    granted = client.granted(TCP, 8080, nonce, external_port=8080)
    transfer = Transfer(
        lab.host.tcp_listener(8080), lambda: lab.inet.tcp_connect((EXTERNAL, 8080), 10.0)
    )
    transfer.assert_progress()
    lab.stop()
    transfer.assert_progress()
    assert list(lab.kernel_mappings()) == [("TCP", f"{EXTERNAL}:8080")]
    lab.start()
    transfer.assert_progress()
    assert_epoch_went_on(granted, client.granted(TCP, 8080, nonce))
    transfer.finish()


def test_remove_rules_takes_everything_of_ours_out_of_the_kernel(new_lab):
    lab = new_lab()
    lab.host.client().granted(UDP, 5000, external_port=7000)
    lab.nft("add", "table", "inet", "somebody_else")
    lab.stop()
    lab.gateway.run("holdfastd", "--config", lab.config_path, "--remove-rules")
    assert lab.kernel_table() == {}
    assert "somebody_else" in lab.nft("list", "tables").stdout
    # The state is not the kernel's: a start brings the mappings back.
    lab.start()
    assert list(lab.kernel_mappings()) == [("UDP", f"{EXTERNAL}:7000")]


# [R-6887-15-5]
def test_renewal_delete_and_retransmission_after_a_kill(new_lab):
    lab = new_lab()
    client = lab.host.client()
    kept, deleted = new_nonce(), new_nonce()
    first = client.granted(UDP, 5000, kept)
    client.granted(UDP, 5001, deleted)
    client.unmap(UDP, 5001, deleted)
    lab.kill()
    lab.start()
    assert [m["internal"] for m in lab.mappings()] == ["10.77.0.2:5000"]
    assert client.granted(UDP, 5000, kept).external_port == first.external_port
    client.unmap(UDP, 5001, deleted)
    client.unmap(UDP, 5000, kept)
    lab.kill()
    lab.start()
    assert lab.mappings() == []
    assert lab.assert_kernel_equals_list() == {}


def test_kernel_ends_a_mapping_of_a_dead_daemon(lab_with_a_dead_daemon):
    """Nothing leaks for ever: every element has a timeout, lifetime and grace."""
    lab = lab_with_a_dead_daemon
    kernel = lab.kernel_mappings()
    _, expires = kernel[("UDP", f"{EXTERNAL}:7001")]
    assert 3600 - 300 <= expires <= 3600 + KERNEL_GRACE_S
    short = ("UDP", f"{EXTERNAL}:7000")
    if short in kernel:
        assert kernel[short][1] <= KERNEL_GRACE_S + 1
    wait_for(
        lambda: short not in lab.kernel_mappings(), KERNEL_GRACE_S + 5, "the kernel's own timeout"
    )
    inner, outer = lab.host.udp_socket(("", 5000)), lab.inet.udp_socket()
    assert UdpFlow(outer, (EXTERNAL, 7000), inner).is_blocked()
    inner, outer = lab.host.udp_socket(("", 5001)), lab.inet.udp_socket()
    assert UdpFlow(outer, (EXTERNAL, 7001), inner).passes()
