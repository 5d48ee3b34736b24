"""SIGKILL at random moments under load: no answered mapping is lost, no deleted one comes back.

HOLDFAST_KILLS says how often (default 12), HOLDFAST_SEED replays a run's requests and moments.
The long run: HOLDFAST_KILLS=200 /usr/bin/python3 -m pytest tests/lab/test_kill_loop.py

All kinds of mappings are in play: MAP of both families with and without filters, of all ports and
protocols, PEER, NAT-PMP. For every internal endpoint the model knows the last answered state and
the one request that may be without an answer. After a restart the endpoint must be in one of the
two states; the daemon's list and the kernel must agree with each other and with the model.
"""

import os
import random
import select
import subprocess
import time
from dataclasses import dataclass

import pcp
from lab import INET, PROTOCOL_NAMES, TOOL, wait_for
from pcp import TCP, UDP, Result

KILLS = int(os.environ.get("HOLDFAST_KILLS", "12"))
SEED = int(os.environ.get("HOLDFAST_SEED", "0")) or random.SystemRandom().randrange(1, 2**32)
# Per host.
ENDPOINTS = {"map": 80, "map6": 40, "peer": 40, "natpmp": 30}
WINDOW = 24
# Some end between two restarts.
LIFETIMES = (3600, 7200, 7200, 2)
FILTERS = {
    (): b"",
    (("198.51.100.0/24", 0),): pcp.filter_option("198.51.100.0", 120),
    (("192.0.2.1/32", 443), ("0.0.0.0/0", 53)): pcp.filter_option("192.0.2.1", 128, 443)
    + pcp.filter_option("0.0.0.0", 96, 53),
}
FILTERS6 = {
    (): b"",
    (("2001:db8:1::/48", 0),): pcp.filter_option("2001:db8:1::", 48),
    (("2001:db8::1/128", 443), ("2001:db8::/32", 53)): pcp.filter_option("2001:db8::1", 128, 443)
    + pcp.filter_option("2001:db8::", 32, 53),
}


@dataclass
class Request:
    """One without an answer so far."""

    octets: bytes
    nonce: bytes
    lifetime: int
    filters: tuple
    sent: float


@dataclass
class Mapping:
    """One that was answered with SUCCESS. `nonce` is None for NAT-PMP."""

    nonce: bytes
    external_port: int
    lifetime: int
    filters: tuple
    granted: float

    def left(self, now):
        return self.lifetime - (now - self.granted)


class Endpoint:
    """An internal endpoint that MAP is asked for, on IPv4."""

    kind = "MAP"
    opcode = pcp.MAP
    filters = FILTERS

    def __init__(self, client, protocol, port, remote_port=0):
        self.client, self.protocol, self.port = client, protocol, port
        self.remote_port = remote_port
        self.mapping = None
        self.pending = None

    @property
    def name(self):
        """As it is listed: kind, protocol, internal endpoint, remote peer."""
        address = self.client.address
        internal = f"[{address}]:{self.port}" if ":" in address else f"{address}:{self.port}"
        remote = f"{INET}:{self.remote_port}" if self.remote_port else None
        return (self.kind, PROTOCOL_NAMES[self.protocol], internal, remote)

    @property
    def key(self):
        """As answers name it."""
        return (self.client.address, self.opcode, self.protocol, self.port, self.remote_port)

    def ask(self, source, now):
        """A create, renewal or delete, whatever fits."""
        suggested, filters, options = 0, (), b""
        if self.mapping and source.random() < 0.3:
            nonce, lifetime = self.mapping.nonce, 0
        elif self.mapping:
            nonce, lifetime = self.mapping.nonce, source.choice(LIFETIMES)
            suggested, filters = self.mapping.external_port, self.mapping.filters
        else:
            nonce, lifetime = source.randbytes(12), source.choice(LIFETIMES)
            suggested = source.choice((0, source.randrange(1024, 32768)))
            filters, options = source.choice(list(self.filters.items()))
        octets = self.octets(nonce, suggested, lifetime, options)
        self.pending = Request(octets, nonce, lifetime, filters, now)
        self.client.send(octets)

    def octets(self, nonce, suggested, lifetime, options):
        return pcp.map_request(
            self.client.address,
            nonce,
            self.protocol,
            self.port,
            suggested,
            lifetime=lifetime,
            options=options,
        )

    def lifetime_expected(self, request, at):
        """What a request makes of the lifetime, if it is carried out at that time."""
        return request.lifetime

    def forget_ended(self, now):
        """Near its end a mapping may be there or not: it is left alone until it is gone."""
        if self.mapping and self.mapping.left(now) < -1 and not self.pending:
            self.mapping = None

    def may_be_asked(self, now):
        return not self.pending and (not self.mapping or self.mapping.left(now) > 1)

    def answered(self, answer):
        request = self.pending
        if not request or not self.is_answer(answer, request):
            # The second answer to a request that was sent twice.
            return
        assert answer.result == 0, (self.name, Result(answer.result).name)
        self.pending = None
        if request.lifetime == 0:
            assert answer.lifetime == 0
            self.mapping = None
            return
        # A renewal right after the last one is taken for a retransmission and tells what is left.
        expected = self.lifetime_expected(request, answer.received)
        assert expected - 11 <= answer.lifetime <= expected + 1, self.name
        self.check_external(answer)
        self.mapping = Mapping(
            request.nonce, answer.external_port, answer.lifetime, request.filters, answer.received
        )

    def is_answer(self, answer, request):
        return answer.nonce == request.nonce

    def check_external(self, answer):
        assert answer.external_address == "203.0.113.1"
        if self.mapping:
            assert answer.external_port == self.mapping.external_port, self.name

    def check(self, listed, now):
        """`listed` is what the daemon says after the restart; adopts it."""
        allowed = [self.mapping]
        if self.pending:
            outcome = None
            if self.pending.lifetime:
                port = self.mapping.external_port if self.mapping else None
                outcome = Mapping(
                    self.pending.nonce,
                    port,
                    self.lifetime_expected(self.pending, self.pending.sent),
                    self.pending.filters,
                    self.pending.sent,
                )
            allowed.append(outcome)
        for state in allowed:
            if self.is_state(state, listed, now):
                self.adopt(state, listed, now)
                return
        raise AssertionError(f"{self.name}: {listed} is none of {allowed}")

    def is_state(self, state, listed, now):
        if state is None:
            return listed is None
        if listed is None:
            return state.left(now) < 1
        return (
            listed["nonce"] == (state.nonce.hex() if state.nonce else None)
            and state.external_port in (None, external_port_of(listed))
            and -2 <= listed["lifetime_s"] - state.left(now) <= 4
            and tuple((f["remote"], f["remote_port"]) for f in listed["filters"]) == state.filters
        )

    def adopt(self, state, listed, now):
        self.pending = None
        self.mapping = state if listed else None
        if self.mapping:
            state.external_port = external_port_of(listed)
            # Which of two outcomes it was is told apart only roughly; from here on it is known when it ends.
            state.lifetime, state.granted = listed["lifetime_s"], now


def external_port_of(listed):
    return int(listed["external"].rsplit(":", 1)[1])


class Endpoint6(Endpoint):
    """The same on IPv6, where the external endpoint is the internal one; port 0: all ports."""

    filters = FILTERS6

    def check_external(self, answer):
        assert (answer.external_address, answer.external_port) == (self.client.address, self.port)


class PeerEndpoint(Endpoint):
    """PEER, whose lifetime is never shortened. Several of them have one internal endpoint."""

    kind = "PEER"
    opcode = pcp.PEER
    filters = {(): b""}

    def octets(self, nonce, suggested, lifetime, options):
        return pcp.peer_request(
            self.client.address,
            nonce,
            self.protocol,
            self.port,
            INET,
            self.remote_port,
            lifetime=lifetime,
        )

    def lifetime_expected(self, request, at):
        left = int(self.mapping.left(at)) if self.mapping else 0
        return max(request.lifetime, left)


class NatpmpEndpoint(Endpoint):
    """NAT-PMP: no nonce, so an answer belongs to the last request for that port."""

    opcode = "NAT-PMP"
    filters = {(): b""}

    def ask(self, source, now):
        super().ask(source, now)
        self.pending.nonce = None

    def octets(self, nonce, suggested, lifetime, options):
        return pcp.natpmp_map_request(self.protocol, self.port, suggested, lifetime)

    def is_answer(self, answer, request):
        return (answer.lifetime == 0) == (request.lifetime == 0)

    def check_external(self, answer):
        if self.mapping:
            assert answer.external_port == self.mapping.external_port, self.name


def endpoints_of(node, source):
    """The endpoints of one host."""
    client, client6 = node.client(), node.client6()
    found = []
    for number in range(ENDPOINTS["map"]):
        found.append(Endpoint(client, source.choice((TCP, UDP)), 2000 + number))
    for number in range(ENDPOINTS["map6"]):
        found.append(Endpoint6(client6, source.choice((TCP, UDP, pcp.SCTP)), 2000 + number))
    for protocol in (UDP, pcp.ALL, pcp.ICMPV6):
        found.append(Endpoint6(client6, protocol, 0))
    for number in range(ENDPOINTS["peer"]):
        found.append(PeerEndpoint(client, UDP, 3000 + number // 2, 4000 + number))
    for number in range(ENDPOINTS["natpmp"]):
        found.append(NatpmpEndpoint(client, source.choice((TCP, UDP)), 5000 + number))
    return [client, client6], found


def key_of(client, answer):
    """The endpoint an answer is about."""
    if isinstance(answer, pcp.NatpmpResponse):
        protocol = {number: protocol for protocol, number in pcp.NATPMP_MAP.items()}[answer.opcode]
        return (client.address, "NAT-PMP", protocol, answer.internal_port, 0)
    port = answer.remote_port if answer.opcode == pcp.PEER else 0
    return (client.address, answer.opcode, answer.protocol, answer.internal_port, port)


class Load:
    """Keeps up to WINDOW requests without answer, over two hosts."""

    def __init__(self, lab, source):
        self.source = source
        self.clients, self.endpoints = [], []
        for node in (lab.host, lab.host2):
            clients, endpoints = endpoints_of(node, source)
            self.clients += clients
            self.endpoints += endpoints
        self.by_key = {e.key: e for e in self.endpoints}
        self.answers = 0
        self.last = None

    def step(self, timeout=0.005, ask=True):
        now = time.monotonic()
        if ask:
            waiting = sum(1 for e in self.endpoints if e.pending)
            for endpoint in self.endpoints:
                endpoint.forget_ended(now)
            idle = [e for e in self.endpoints if e.may_be_asked(now)]
            count = min(WINDOW - waiting, len(idle))
            for endpoint in self.source.sample(idle, max(count, 0)):
                endpoint.ask(self.source, now)
        sockets = {client.socket: client for client in self.clients}
        for readable in select.select(list(sockets), [], [], timeout)[0]:
            octets = readable.recvfrom(2048)[0]
            answer = pcp.parse_any(octets, time.monotonic())
            self.watch_epoch(answer)
            self.by_key[key_of(sockets[readable], answer)].answered(answer)
            self.answers += 1

    def watch_epoch(self, answer):
        """Nothing is ever lost here, so the client's check must always hold (RFC 6887 s8.5)."""
        if self.last:
            assert pcp.epoch_is_valid(
                self.last.epoch, self.last.received, answer.epoch, answer.received
            ), f"Epoch {self.last.epoch} then {answer.epoch}"
        self.last = answer

    def drain(self):
        before = -1
        while before != self.answers:
            before = self.answers
            self.step(0.02, ask=False)

    def retransmit(self):
        for endpoint in self.endpoints:
            if endpoint.pending:
                endpoint.client.send(endpoint.pending.octets)

    def settle(self):
        """Every request gets its answer."""

        def settled():
            self.retransmit()
            self.drain()
            return not any(e.pending for e in self.endpoints)

        wait_for(settled, 10, "answers to all requests")


def tool(lab, *words):
    command = [str(TOOL), words[0], "--name", lab.name, *words[1:]]
    return subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def kill_under_load(lab, load, source):
    """The load goes on until the daemon is dead; now and then it is asked to stop instead."""
    end = time.monotonic() + source.uniform(0.0, 0.5)
    command = "stop" if source.random() < 0.2 else "kill"
    while time.monotonic() < end:
        load.step()
    killer = tool(lab, command)
    while killer.poll() is None:
        load.step()
    assert killer.returncode == 0
    load.drain()


def restart(lab, source):
    """Now and then the daemon is killed while it starts, too."""
    if source.random() < 0.3:
        starter = tool(lab, "start")
        time.sleep(source.uniform(0.05, 0.3))
        tool(lab, "kill").wait()
        starter.wait()
    if not lab.pid():
        lab.start()


def name_of(listed):
    return (listed["kind"], listed["protocol"], listed["internal"], listed["remote"])


def check(lab, load):
    now = time.monotonic()
    listed = {name_of(m): m for m in lab.mappings()}
    for endpoint in load.endpoints:
        endpoint.check(listed.pop(endpoint.name, None), now)
    assert not listed, f"mappings nobody asked for: {listed}"
    check_kernel(lab, load)


def kernel_equals_list(lab):
    try:
        lab.assert_kernel_equals_list()
    except AssertionError:
        return False
    return True


def check_kernel(lab, load):
    """Both ways: nothing is missing, and nothing is there that nobody asked for."""
    try:
        # What ends just now leaves the list first and the kernel with the commit.
        wait_for(lambda: kernel_equals_list(lab), 3)
    except AssertionError:
        lab.assert_kernel_equals_list()
    kernel, now = lab.kernel_mappings(), time.monotonic()
    for endpoint in load.endpoints:
        if endpoint.kind == "MAP" and endpoint.mapping and "." in endpoint.client.address:
            external = f"203.0.113.1:{endpoint.mapping.external_port}"
            left = endpoint.mapping.left(now)
            found = kernel.get((PROTOCOL_NAMES[endpoint.protocol], external))
            assert found or left < 1, endpoint.name
            if found:
                assert found[0] == endpoint.name[2]
                assert found[1] >= left - 3


# [R-6887-15-5]
def test_no_kill_loses_or_revives_a_mapping(new_lab):
    print(f"HOLDFAST_SEED={SEED} HOLDFAST_KILLS={KILLS}")
    source = random.Random(SEED)
    lab = new_lab(recycle_delay=2)
    load = Load(lab, source)
    for _ in range(KILLS):
        kill_under_load(lab, load, source)
        restart(lab, source)
        check(lab, load)
    load.settle()
    check(lab, load)
    print(f"{KILLS} kills, {load.answers} answers")
    assert load.answers > KILLS * 10
    for kind in (Endpoint, Endpoint6, PeerEndpoint, NatpmpEndpoint):
        assert sum(1 for e in load.endpoints if type(e) is kind and e.mapping) > 5, kind
    epoch = lab.status()["epoch"]
    assert (epoch["state"], epoch["reason"]) == ("continued", "same-boot")
