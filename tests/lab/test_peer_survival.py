"""What mappings do not survive elsewhere: sections 2.2 and 2.3 of the list of faults we keep.

Two more of them are in test_interface_change.py, under names of the same kind.
"""

import os
import shutil
import signal
import time

import pytest

import lab as lab_module
import pcp
from lab import EXTERNAL, INET, INET6, UdpFlow, wait_for
from pcp import SCTP, TCP, UDP, Result, new_nonce

HOST = "10.77.0.2"


class Everything:
    """A lab with a mapping of every kind, and what must be true of them for ever after."""

    def __init__(self, lab):
        self.lab = lab
        self.client, self.client6 = lab.host.client(), lab.host.client6()
        self.nonce = new_nonce()
        self.first = self.client.granted(
            TCP, 8080, self.nonce, external_port=8080, options=pcp.filter_option(INET, 128)
        )
        self.client.granted(SCTP, 7000, self.nonce, external_port=7000)
        self.client.granted(UDP, 5000, self.nonce, external_port=5000)
        self.client.peered(UDP, 5001, INET, 4000, self.nonce)
        self.client.natpmp_map(TCP, 5002, external_port=5002)
        self.client6.granted(UDP, 5000, self.nonce, options=pcp.filter_option(INET6, 128))
        self.client6.granted(pcp.ICMPV6, 0, self.nonce)
        self.before = self.described()

    def described(self):
        """All but what time changes."""
        gone = ("lifetime_s", "granted_ago_s")
        return [{k: v for k, v in m.items() if k not in gone} for m in self.lab.mappings()]

    def assert_survived(self):
        """Same mappings, same keys, same kernel, and the Epoch says so."""
        assert self.described() == self.before
        for mapping in self.lab.mappings():
            assert 3500 <= mapping["lifetime_s"] <= 3600
        self.lab.assert_kernel_equals_list()
        now = self.client.granted(UDP, 5000, self.nonce)
        assert pcp.epoch_is_valid(
            self.first.epoch, self.first.received, now.epoch, now.received
        )
        inner = self.lab.host.udp_socket(("", 5000))
        assert UdpFlow(self.lab.inet.udp_socket(), (EXTERNAL, 5000), inner).passes()
        inner6 = self.lab.host.udp_socket(("::", 5000))
        outer6 = self.lab.inet.udp_socket((INET6, 0))
        assert UdpFlow(outer6, ("fd77::2", 5000), inner6).passes()


@pytest.fixture
def everything(new_lab):
    return Everything(new_lab())


def test_fault_2_2_clean_stop_leaves_nothing_for_ever(everything):
    """Mappings go on without the daemon, and every element of theirs has an end."""
    lab = everything.lab
    lab.stop()
    for name in lab_module.MAPPING_SETS:
        for key, _, expires in lab.kernel_table()[name]:
            assert expires is not None and expires <= 3660, (name, key)
    lab.start()
    everything.assert_survived()


def test_fault_2_2_kill_keeps_mappings_nonces_and_epoch(everything):
    everything.lab.kill()
    everything.lab.start()
    everything.assert_survived()


def test_fault_2_2_kill_in_the_middle_of_a_reload(everything):
    """At whatever moment of it."""
    lab = everything.lab
    for number in range(4):
        lab.reconfigure(lab_module.configuration(lifetime_max=86000 + number))
        os.kill(lab.pid(), signal.SIGHUP)
        time.sleep(number * 0.002)
        lab.kill()
        lab.start()
        assert everything.described() == everything.before
    everything.assert_survived()


def test_fault_2_2_kernel_without_anything_at_the_start(everything):
    """As after a reboot: neither table nor flows are there; all of both families comes back."""
    lab = everything.lab
    lab.kill()
    lab.nft("flush", "ruleset")
    lab.conntrack("-F")
    lab.start()
    everything.assert_survived()


def test_fault_2_2_lost_state_leaves_no_immortal_rule(everything):
    """What nobody knows any more is removed, and the Epoch tells everybody."""
    lab = everything.lab
    wait_for(lambda: everything.client.announce().epoch >= 4, what="time going on")
    before = everything.client.announce()
    lab.kill()
    shutil.rmtree(lab.state)
    lab.start()
    assert lab.mappings() == []
    assert lab.assert_kernel_equals_list() == {}
    after = everything.client.announce()
    assert not pcp.epoch_is_valid(before.epoch, before.received, after.epoch, after.received)


def test_fault_2_2_rules_flushed_by_another_program(everything):
    """Noticed without any request."""
    lab = everything.lab
    lab.nft("flush", "ruleset")

    def is_whole():
        try:
            lab.assert_kernel_equals_list()
        except (AssertionError, KeyError):
            return False
        return True

    wait_for(is_whole, 2, "the table")
    everything.assert_survived()


def test_fault_2_3_delete_of_a_port_that_begins_as_others_do(new_lab):
    """80 is not 8000 and 8080, neither now nor after a restart."""
    lab = new_lab(external_ports=["80", "800", "8000-9000"], recycle_delay=0)
    client, nonce = lab.host.client(), new_nonce()
    for number in (80, 800, 8000, 8080):
        assert client.granted(TCP, number, nonce, external_port=number).external_port == number
    client.unmap(TCP, 80, nonce)
    client.unmap(TCP, 800, nonce)
    for _ in range(2):
        assert sorted(m["external"] for m in lab.mappings()) == [
            f"{EXTERNAL}:8000",
            f"{EXTERNAL}:8080",
        ]
        lab.assert_kernel_equals_list()
        lab.kill()
        lab.start()
    # And they end when they are told to.
    client.unmap(TCP, 8000, nonce)
    client.unmap(TCP, 8080, nonce)
    assert lab.assert_kernel_equals_list() == {}


def test_fault_2_3_protocols_come_back_as_what_they_were(new_lab):
    """Not as TCP."""
    lab = new_lab(whole_ports=True)
    client, client6, nonce = lab.host.client(), lab.host.client6(), new_nonce()
    protocols = [TCP, UDP, SCTP, pcp.UDPLITE]
    if os.path.exists("/proc/sys/net/netfilter/nf_conntrack_dccp_loose"):
        protocols.append(pcp.DCCP)
    else:  # a kernel that cannot follow it: not promised
        request = pcp.map_request(HOST, nonce, pcp.DCCP, 7000)
        assert client.exchange(request).result == Result.UNSUPP_PROTOCOL
    for protocol in protocols:
        client.granted(protocol, 7000, nonce, external_port=7000)
        client6.granted(protocol, 7000, nonce)
    client.granted(47, 0, nonce)
    client6.granted(pcp.ICMPV6, 0, nonce)
    before = sorted((m["protocol"], m["internal"], m["external"]) for m in lab.mappings())
    assert len(before) == 2 * len(protocols) + 2
    assert len({protocol for protocol, _, _ in before}) == len(protocols) + 2
    lab.kill()
    lab.start()
    after = sorted((m["protocol"], m["internal"], m["external"]) for m in lab.mappings())
    assert after == before
    lab.assert_kernel_equals_list()


def test_fault_2_3_remote_hosts_are_not_lost(new_lab):
    """Filters and remote peers are kept with the mapping, and enforced after a restart."""
    lab = new_lab()
    lab.inet.ip("address", "replace", "203.0.113.101/24", "dev", "eth0")
    client = lab.host.client()
    client.granted(UDP, 5000, external_port=7000, options=pcp.filter_option(INET, 128))
    lab.stop()
    lab.nft("flush", "ruleset")
    lab.start()
    inner = lab.host.udp_socket(("", 5000))
    assert UdpFlow(lab.inet.udp_socket((INET, 0)), (EXTERNAL, 7000), inner).passes()
    stranger = lab.inet.udp_socket(("203.0.113.101", 0))
    assert UdpFlow(stranger, (EXTERNAL, 7000), inner).is_blocked()


def test_fault_2_2_refused_renewal_leaves_the_mapping(everything):
    """Without external address: an error for the renewal, nothing lost."""
    lab = everything.lab
    lab.gateway.ip("address", "delete", "203.0.113.1/24", "dev", "wan0")
    wait_for(
        lambda: everything.client.map(UDP, 5000, everything.nonce).result
        == Result.NETWORK_FAILURE,
        5,
        "the address being gone",
    )
    assert everything.described() == everything.before
    lab.gateway.ip("address", "add", "203.0.113.1/24", "dev", "wan0")
    wait_for(lambda: lab.status()["external_addresses"] == [EXTERNAL], 5, "the address")
    everything.assert_survived()
