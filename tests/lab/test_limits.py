"""What the configuration bounds: who may ask, for which ports, and how much."""

import pcp
from lab import EXTERNAL, UdpFlow, wait_for
from pcp import LONG, SHORT, TCP, UDP, Result, new_nonce


# [R-6887-11.3-22] [R-6887-11.3-23] [R-6887-17.2-1]
def test_quota_refuses_and_leaves_room_after_a_delete(new_lab):
    lab = new_lab(mappings_per_subscriber=3, recycle_delay=0)
    client, nonce = lab.host.client(), new_nonce()
    for number in range(3):
        client.granted(UDP, 7000 + number, nonce)
    octets = pcp.map_request(client.address, nonce, UDP, 7003)
    client.assert_error(octets, Result.USER_EX_QUOTA, SHORT)
    assert len(lab.mappings()) == 3
    # Renewals are no new mappings, and another host has a quota of its own.
    client.granted(UDP, 7000, nonce)
    lab.host2.client().granted(UDP, 7003)
    client.unmap(UDP, 7001, nonce)
    client.granted(UDP, 7003)
    lab.assert_kernel_equals_list()


# [R-6887-17.2-1]
def test_quota_counts_what_a_kill_left(new_lab):
    lab = new_lab(mappings_per_subscriber=2)
    client, nonce = lab.host.client(), new_nonce()
    client.granted(UDP, 5000, nonce)
    client.granted(TCP, 5000, nonce)
    lab.kill()
    lab.start()
    assert client.map(UDP, 5001).result == Result.USER_EX_QUOTA
    client.granted(TCP, 5000, nonce)


# [R-6887-7.4-4]
def test_total_of_all_hosts_is_bounded(new_lab):
    """The gateway's own bound is NO_RESOURCES, not the subscriber's fault (s7.4)."""
    lab = new_lab(mappings_total=3, mappings_per_subscriber=2, recycle_delay=0)
    client, client2, nonce = lab.host.client(), lab.host2.client(), new_nonce()
    client.granted(UDP, 5000, nonce)
    client.granted(UDP, 5001, nonce)
    client2.granted(UDP, 5000, nonce)
    octets = pcp.map_request(client2.address, nonce, UDP, 5001)
    client2.assert_error(octets, Result.NO_RESOURCES, SHORT)
    client.unmap(UDP, 5000, nonce)
    client2.granted(UDP, 5001, nonce)
    lab.assert_kernel_equals_list()


def test_external_ports_are_those_configured_and_run_out(new_lab):
    lab = new_lab(external_ports=["7000-7001", "7010"], recycle_delay=2)
    client, nonce = lab.host.client(), new_nonce()
    granted = {
        client.granted(UDP, 5000 + number, nonce, external_port=80).external_port
        for number in range(3)
    }
    assert granted == {7000, 7001, 7010}
    octets = pcp.map_request(client.address, nonce, UDP, 5003)
    client.assert_error(octets, Result.NO_RESOURCES, SHORT)
    # The other protocol has ports of its own.
    assert client.granted(TCP, 5000, nonce).external_port in granted
    client.unmap(UDP, 5001, nonce)
    assert client.map(UDP, 5003, nonce).result == Result.NO_RESOURCES
    wait_for(lambda: client.map(UDP, 5003, nonce).result == 0, 10, "the end of the hold")
    lab.assert_kernel_equals_list()


# [R-6887-18.1-1]
def test_hosts_outside_the_internal_prefixes_are_refused(new_lab):
    lab = new_lab(internal_prefixes=["10.77.0.2/32"])
    octets = pcp.map_request("10.77.0.3", new_nonce(), UDP, 5000)
    lab.host2.client().assert_error(octets, Result.NOT_AUTHORIZED, LONG)
    lab.host.client().granted(UDP, 5000)
    assert len(lab.mappings()) == 1


# [R-6887-7.3-13]
# [R-6887-13.2-1]
def test_prefer_failure_switched_off_is_an_unsupported_option(new_lab):
    lab = new_lab(prefer_failure=False)
    client = lab.host.client()
    octets = pcp.map_request(
        client.address, new_nonce(), UDP, 5000, 7000, options=pcp.prefer_failure()
    )
    client.assert_error(octets, Result.UNSUPP_OPTION, LONG)
    assert lab.mappings() == []


# [R-6887-13.3-6] [R-6887-13.3-10]
def test_filters_are_bounded_over_several_requests(new_lab):
    """They add up; one that is there already takes no room (s13.3)."""
    lab = new_lab(filters_per_mapping=2)
    client, nonce = lab.host.client(), new_nonce()
    first, second = pcp.filter_option("192.0.2.1", 128), pcp.filter_option("192.0.2.2", 128)
    client.granted(UDP, 5000, nonce, options=first)
    client.granted(UDP, 5000, nonce, options=first + second)
    octets = pcp.map_request(
        client.address, nonce, UDP, 5000, options=pcp.filter_option("192.0.2.3", 128)
    )
    client.assert_error(octets, Result.EXCESSIVE_REMOTE_PEERS, LONG)
    filters = lab.mapping(UDP, "10.77.0.2:5000")["filters"]
    assert [f["remote"] for f in filters] == ["192.0.2.1/32", "192.0.2.2/32"]


# [R-6887-15-3] [R-6887-15-4]
def test_default_lifetimes_are_the_recommended_ones(new_lab):
    lab = new_lab(lifetime_min=None)
    client = lab.host.client()
    assert client.granted(UDP, 5000, lifetime=1).lifetime == 120
    assert client.granted(UDP, 5001, lifetime=2**32 - 1).lifetime == 86400


# [R-6887-10-2]
def test_several_external_addresses(new_lab):
    """A host keeps its address unless it suggests another (s11.3)."""
    lab = new_lab(external_addresses=[EXTERNAL, "203.0.113.2"])
    lab.gateway.run("ip", "address", "add", "203.0.113.2/24", "dev", "wan0")
    client, nonce = lab.host.client(), new_nonce()
    second = client.granted(
        UDP, 5000, nonce, external_address="203.0.113.2", external_port=7000
    )
    first = client.granted(UDP, 5001, nonce, external_address=EXTERNAL, external_port=7000)
    assert (second.external_address, second.external_port) == ("203.0.113.2", 7000)
    assert (first.external_address, first.external_port) == (EXTERNAL, 7000)
    for answer in (first, second):
        inner = lab.host.udp_socket(("", answer.internal_port))
        outer = lab.inet.udp_socket()
        target = (answer.external_address, answer.external_port)
        assert UdpFlow(outer, target, inner).passes()
        assert UdpFlow(inner, ("203.0.113.100", outer.getsockname()[1]), outer).passes() == target
    lab.assert_kernel_equals_list()


def test_a_flood_of_garbage_leaves_the_server_answering(lab, client):
    """Bounded work per turn: everything is read or dropped, and the next request is answered."""
    whole = pcp.map_request(client.address, new_nonce(), UDP, 1901)
    garbage = [b"", b"\x02", b"\xff" * 1500, whole[:40], b"\x02\x01" + b"\xff" * 1098]
    noise = lab.host2.client()
    for number in range(20000):
        noise.send(garbage[number % len(garbage)])
    assert client.announce().result == Result.SUCCESS
    noise.close()


# [R-6887-13.3-11]
def test_one_filter_is_possible_with_the_least_that_can_be_configured(new_lab):
    lab = new_lab(filters_per_mapping=1)
    client = lab.host.client()
    client.granted(UDP, 5000, options=pcp.filter_option("192.0.2.1", 128))
    filters = lab.mapping(UDP, "10.77.0.2:5000")["filters"]
    assert filters == [{"remote": "192.0.2.1/32", "remote_port": 0}]
