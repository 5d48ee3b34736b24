"""What the operator decides, and changes while the server runs: static mappings, prefixes, nonces,
rates, subscribers.
"""

import time

import lab as lab_module
import pcp
from lab import EXTERNAL, INET, UdpFlow, wait_for
from pcp import SHORT, TCP, UDP, NatpmpResult, Result, new_nonce

HOST, HOST2 = "10.77.0.2", "10.77.0.3"
WEB = {"protocol": "tcp", "internal": f"{HOST}:8080", "external": f"{EXTERNAL}:80"}
DNS = {"protocol": "udp", "internal": f"{HOST2}:53", "external_port": 53}
HOLE = {"protocol": "udp", "internal": "[fd77::2]:9000"}


def reload(lab, **settings):
    lab.reconfigure(lab_module.configuration(**settings))
    lab.ctl("reload")


def is_reset(before, after):
    return not pcp.epoch_is_valid(before.epoch, before.received, after.epoch, after.received)


# ---- static mappings


def test_static_mappings_carry_traffic_and_outlive_a_kill(new_lab):
    """Ports outside the pool of the clients included."""
    lab = new_lab(statics={"web": WEB, "dns": DNS, "hole": HOLE})
    listed = {m["external"]: m for m in lab.mappings()}
    assert sorted(listed) == [f"{EXTERNAL}:53", f"{EXTERNAL}:80", "[fd77::2]:9000"]
    for mapping in listed.values():
        assert mapping["kind"] == "STATIC"
        assert mapping["lifetime_s"] is None and mapping["nonce"] is None
    lab.assert_kernel_equals_list()
    inner, listener = lab.host2.udp_socket(("", 53)), lab.host.tcp_listener(8080)
    inner6 = lab.host.udp_socket(("::", 9000))

    def all_pass():
        with lab.inet.tcp_connect((EXTERNAL, 80)):
            listener.accept()[0].close()
        assert UdpFlow(lab.inet.udp_socket(), (EXTERNAL, 53), inner).passes()
        outer6 = lab.inet.udp_socket((lab_module.INET6, 0))
        assert UdpFlow(outer6, ("fd77::2", 9000), inner6).passes()

    all_pass()
    lab.kill()
    all_pass()
    lab.start()
    all_pass()
    lab.assert_kernel_equals_list()


def test_requests_about_a_static_mapping(new_lab):
    """Answered with what it is, for ever; never deleted, never moved, by neither protocol.

    [R-6887-11.3-8] [R-6887-11.3-12] [R-6887-11.3-13] [R-6887-15.1-7] [R-6886-3.4-6]
    """
    lab = new_lab(statics={"web": WEB})
    client = lab.host.client()
    octets = pcp.map_request(HOST, new_nonce(), TCP, 8080, 9999, lifetime=60)
    answer = client.exchange(octets)
    assert answer.octets == pcp.success_octets(octets, 2**32 - 1, answer.epoch, EXTERNAL, 80)
    octets = pcp.map_request(
        HOST, new_nonce(), TCP, 8080, 9999, EXTERNAL, options=pcp.prefer_failure()
    )
    client.assert_error(octets, Result.CANNOT_PROVIDE_EXTERNAL)
    octets = pcp.map_request(HOST, new_nonce(), TCP, 8080, lifetime=0)
    client.assert_error(octets, Result.NOT_AUTHORIZED)
    answer = client.natpmp_map(TCP, 8080, lifetime=0)
    assert (answer.result, answer.external_port) == (NatpmpResult.NOT_AUTHORIZED, 0)
    # Nobody else gets its port, nor can the operator's `clear` take it away.
    assert lab.host2.client().granted(TCP, 8080, external_port=80).external_port != 80
    lab.ctl_json("clear", "--all")
    assert [m["external"] for m in lab.mappings()] == [f"{EXTERNAL}:80"]
    lab.assert_kernel_equals_list()


def test_static_mappings_by_reload(new_lab):
    """Made, changed and taken away; who was in the way ends and is told, others see nothing."""
    lab = new_lab(recycle_delay=0)
    client, client2 = lab.host.client(), lab.host2.client()
    nonce, nonce2 = new_nonce(), new_nonce()
    before2 = client2.granted(TCP, 5000, nonce2, external_port=7080)
    before = client.granted(TCP, 5001, nonce)
    wait_for(lambda: client.announce().epoch >= before.epoch + 4, what="time going on")
    obstacle = {**WEB, "external": f"{EXTERNAL}:7080"}
    reload(lab, statics={"web": obstacle}, recycle_delay=0)
    listener = lab.host.tcp_listener(8080)
    with lab.inet.tcp_connect((EXTERNAL, 7080)):
        listener.accept()[0].close()
    assert is_reset(before2, client2.announce())
    assert not is_reset(before, client.announce())
    again = client2.granted(TCP, 5000, nonce2, external_port=7080)
    assert again.external_port != 7080
    lab.assert_kernel_equals_list()
    reload(lab, statics={"web": WEB}, recycle_delay=0)
    assert sorted(m["external"] for m in lab.mappings() if m["kind"] == "STATIC") == [
        f"{EXTERNAL}:80"
    ]
    reload(lab, recycle_delay=0)
    assert not [m for m in lab.mappings() if m["kind"] == "STATIC"]
    lab.assert_kernel_equals_list()
    assert client.granted(TCP, 5001, nonce).external_port == before.external_port


def test_static_mapping_follows_the_external_address(new_lab):
    """Without an address of its own it is on whatever address there is."""
    lab = new_lab(statics={"dns": DNS})
    lab.gateway.ip("address", "add", "203.0.113.9/24", "dev", "wan0")
    lab.gateway.ip("address", "delete", "203.0.113.1/24", "dev", "wan0")
    lab.gateway.ip("address", "replace", "203.0.113.9/24", "dev", "wan0")
    wait_for(
        lambda: [m["external"] for m in lab.mappings()] == ["203.0.113.9:53"], 5, "the new address"
    )
    wait_for(lambda: lab.assert_kernel_equals_list(), 3, "the kernel")


# ---- what a reload takes away


def test_reload_that_forbids_a_host(new_lab):
    """Its mappings end and its Epoch restarts, those of others go on. [R-6887-8.5-2]"""
    lab = new_lab(internal_prefixes=["10.77.0.0/24"])
    client, client2 = lab.host.client(), lab.host2.client()
    nonce, nonce2 = new_nonce(), new_nonce()
    before = client.granted(UDP, 5000, nonce, external_port=7000)
    before2 = client2.granted(UDP, 5000, nonce2, external_port=7001)
    inner = lab.host.udp_socket(("", 5000))
    flow = UdpFlow(lab.inet.udp_socket(), (EXTERNAL, 7000), inner)
    assert flow.passes()
    wait_for(lambda: client.announce().epoch >= before.epoch + 4, what="time going on")
    reload(lab, internal_prefixes=["10.77.0.3/32"])
    assert [m["internal"] for m in lab.mappings()] == [f"{HOST2}:5000"]
    assert flow.is_blocked()
    assert is_reset(before, client.announce())
    assert not is_reset(before2, client2.announce())
    assert client.map(UDP, 5000, nonce).result == Result.NOT_AUTHORIZED
    assert client2.granted(UDP, 5000, nonce2).external_port == 7001
    lab.assert_kernel_equals_list()
    after2 = client2.announce()
    lab.kill()
    lab.start()
    assert [m["internal"] for m in lab.mappings()] == [f"{HOST2}:5000"]
    assert not is_reset(after2, client2.announce())


def test_reload_that_takes_ports_away(new_lab):
    lab = new_lab(external_ports=["7000-7010"], recycle_delay=0)
    client, client2, nonce = lab.host.client(), lab.host2.client(), new_nonce()
    before = client.granted(UDP, 5000, nonce, external_port=7000)
    before2 = client2.granted(UDP, 5000, external_port=7010)
    wait_for(lambda: client.announce().epoch >= before.epoch + 4, what="time going on")
    reload(lab, external_ports=["7010-7020"], recycle_delay=0)
    assert [m["external"] for m in lab.mappings()] == [f"{EXTERNAL}:7010"]
    assert is_reset(before, client.announce())
    assert not is_reset(before2, client2.announce())
    again = client.granted(UDP, 5000, nonce)
    assert 7011 <= again.external_port <= 7020
    lab.assert_kernel_equals_list()


def test_reload_that_forbids_third_parties(new_lab):
    lab = new_lab(third_party=[f"{HOST} for 10.77.0.0/24"])
    client, option = lab.host.client(), pcp.third_party(HOST2)
    client.granted(UDP, 5000, options=option)
    reload(lab)
    octets = pcp.map_request(HOST, new_nonce(), UDP, 5001, options=option)
    client.assert_error(octets, Result.UNSUPP_OPTION)
    assert lab.mappings() == []
    lab.assert_kernel_equals_list()


# ---- nonces


def test_adopt_same_host(new_lab):
    """A new nonce from the host itself takes over; counted; from anybody else it does not."""
    lab = new_lab(nonce_policy="adopt-same-host", third_party=[f"{HOST2} for 10.77.0.0/24"])
    client, manager = lab.host.client(), lab.host2.client()
    first, second = new_nonce(), new_nonce()
    client.granted(UDP, 5000, first, external_port=7000, lifetime=500)
    answer = client.granted(UDP, 5000, second, lifetime=900)
    assert (answer.external_port, answer.lifetime) == (7000, 900)
    assert lab.mapping(UDP, f"{HOST}:5000")["nonce"] == second.hex()
    assert lab.status()["counters"]["adopted"] == 1
    octets = pcp.map_request(HOST2, new_nonce(), UDP, 5000, options=pcp.third_party(HOST))
    manager.assert_error(octets, Result.NOT_AUTHORIZED)
    client.unmap(UDP, 5000, new_nonce())
    assert lab.mappings() == []


def test_nonce_policy_by_reload(new_lab):
    """[R-6887-11.3-7]"""
    lab = new_lab()
    client = lab.host.client()
    client.granted(UDP, 5000)
    assert client.map(UDP, 5000).result == Result.NOT_AUTHORIZED
    reload(lab, nonce_policy="adopt-same-host")
    client.granted(UDP, 5000)
    reload(lab)
    assert client.map(UDP, 5000).result == Result.NOT_AUTHORIZED


# ---- rates and subscribers


def test_request_rate_per_source(new_lab):
    """What is beyond the rate is not answered; another source does not suffer."""
    lab = new_lab(request_rate=5, request_burst=10)
    client, client2 = lab.host.client(), lab.host2.client()
    for _ in range(60):
        client.send(pcp.announce_request(HOST))
    client2.announce()
    time.sleep(0.2)
    answered = 0
    while client.receive(0.1):
        answered += 1
    assert 10 <= answered <= 13
    assert lab.status()["counters"]["limited"] >= 45
    # It recovers by itself.
    wait_for(lambda: client.announce(timeout=2.0), 5, "answers again")
    reload(lab)
    for _ in range(60):
        client.send(pcp.announce_request(HOST))
    time.sleep(0.2)
    assert len(client.drain()) >= 60


def test_hosts_of_one_subscriber_share_quota_and_epoch(new_lab):
    """[R-6887-11.3-23]"""
    lab = new_lab(subscriber_prefix_ipv4=24, mappings_per_subscriber=2)
    client, client2 = lab.host.client(), lab.host2.client()
    before = client.granted(UDP, 5000)
    before2 = client2.granted(UDP, 5000)
    octets = pcp.map_request(HOST, new_nonce(), UDP, 5001)
    client.assert_error(octets, Result.USER_EX_QUOTA, SHORT)
    octets = pcp.peer_request(HOST2, new_nonce(), UDP, 5000, INET, 4000)
    client2.assert_error(octets, Result.USER_EX_QUOTA, SHORT)
    wait_for(lambda: client.announce().epoch >= before.epoch + 4, what="time going on")
    assert lab.ctl_json("clear", "--subscriber", HOST) == {"cleared": 2}
    assert is_reset(before, client.announce())
    assert is_reset(before2, client2.announce())
    assert lab.mappings() == []


# ---- no more than the RFC demands


def test_answers_are_not_longer_than_requests(lab, client, port):
    """But for padding and for the messages whose form is fixed (UNSUPP_VERSION of few octets)."""
    nonce = new_nonce()
    whole = pcp.map_request(HOST, nonce, UDP, port)
    requests = [
        whole,
        whole + pcp.option(200, b"x" * 100),
        pcp.peer_request(HOST, nonce, UDP, port, INET, 443),
        pcp.announce_request(HOST),
        pcp.natpmp_map_request(TCP, port) + b"\0" * 4,
        whole[:56],
        b"\x09" + whole[1:],
        b"\0\x55" + b"y" * 30,
    ]
    for octets in requests:
        answer = client.exchange(octets, parse=lambda data, _: data)
        assert len(answer) <= (len(octets) + 3) // 4 * 4, octets.hex()
    for octets in (b"\x09\0", b"\0\0", b"\0\x09"):
        answer = client.exchange(octets, parse=lambda data, _: data)
        assert len(answer) <= 24


def test_requests_to_multicast_are_not_heard(lab, port):
    """Nor broadcast: no amplification over a network."""
    client = lab.host.client()
    request = pcp.map_request(HOST, new_nonce(), UDP, port)
    client.socket.setsockopt(1, 6, 1)  # SO_BROADCAST
    for target in (pcp.MULTICAST, "10.77.0.255", "255.255.255.255"):
        for octets in (request, pcp.announce_request(HOST), b"\0\0"):
            client.socket.sendto(octets, (target, pcp.SERVER_PORT))
    client6 = lab.host.client6()
    for group in ("ff02::1%eth0", "ff02::2%eth0"):
        target = lab.host.socket_address(group, pcp.SERVER_PORT)
        client6.socket.sendto(pcp.announce_request("fd77::2"), target)
    assert client.receive(0.3) is None
    assert client6.receive(0.1) is None
    assert lab.mapping(UDP, f"{HOST}:{port}") is None


def test_a_response_does_not_start_a_conversation(lab, client, port):
    """Answers sent back to the server are dropped. [R-6887-8.2-8]"""
    answer = client.granted(UDP, port)
    client.assert_silence(answer.octets)
    client.assert_silence(client.natpmp(b"\0\0").octets)
