"""SIGKILL at random moments under load: no answered mapping is lost, no deleted one comes back.

HOLDFAST_KILLS says how often (default 12), HOLDFAST_SEED replays a run's requests and moments.
The long run: HOLDFAST_KILLS=200 /usr/bin/python3 -m pytest tests/lab/test_kill_loop.py

For every internal endpoint the model knows the last answered state and the one request that may be
without an answer. After a restart the endpoint must be in one of the two states; the daemon's list
and the kernel must agree with each other and with the model.
"""

import os
import random
import select
import subprocess
import time
from dataclasses import dataclass

import pcp
from lab import TOOL, wait_for
from pcp import TCP, UDP, Result

KILLS = int(os.environ.get("HOLDFAST_KILLS", "12"))
SEED = int(os.environ.get("HOLDFAST_SEED", "0")) or random.SystemRandom().randrange(1, 2**32)
ENDPOINTS_PER_HOST = 150
WINDOW = 24
# Some end between two restarts.
LIFETIMES = (3600, 7200, 7200, 2)
FILTERS = {
    (): b"",
    (("198.51.100.0/24", 0),): pcp.filter_option("198.51.100.0", 120),
    (("192.0.2.1/32", 443), ("0.0.0.0/0", 53)): pcp.filter_option("192.0.2.1", 128, 443)
    + pcp.filter_option("0.0.0.0", 96, 53),
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
    """One that was answered with SUCCESS."""

    nonce: bytes
    external_port: int
    lifetime: int
    filters: tuple
    granted: float

    def left(self, now):
        return self.lifetime - (now - self.granted)


class Endpoint:
    def __init__(self, host, protocol, port):
        self.host, self.protocol, self.port = host, protocol, port
        self.mapping = None
        self.pending = None

    @property
    def name(self):
        protocol = {TCP: "TCP", UDP: "UDP"}[self.protocol]
        return (protocol, f"{self.host.address}:{self.port}")

    def ask(self, client, source, now):
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
            filters, options = source.choice(list(FILTERS.items()))
        octets = pcp.map_request(
            client.address,
            nonce,
            self.protocol,
            self.port,
            suggested,
            lifetime=lifetime,
            options=options,
        )
        self.pending = Request(octets, nonce, lifetime, filters, now)
        client.send(octets)

    def forget_ended(self, now):
        """Near its end a mapping may be there or not: nothing is asked about it until it is gone."""
        if self.mapping and self.mapping.left(now) < -1 and not self.pending:
            self.mapping = None

    def may_be_asked(self, now):
        return not self.pending and (not self.mapping or self.mapping.left(now) > 1)

    def answered(self, answer):
        request = self.pending
        if not request or answer.nonce != request.nonce:
            # The second answer to a request that was sent twice.
            return
        assert answer.result == Result.SUCCESS, (self.name, Result(answer.result).name)
        self.pending = None
        if request.lifetime == 0:
            assert answer.lifetime == 0
            self.mapping = None
            return
        # A renewal right after the last one is taken for a retransmission and tells what is left.
        assert request.lifetime - 11 <= answer.lifetime <= request.lifetime
        assert answer.external_address == "203.0.113.1"
        if self.mapping:
            assert answer.external_port == self.mapping.external_port, self.name
        self.mapping = Mapping(
            request.nonce, answer.external_port, answer.lifetime, request.filters, answer.received
        )

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
                    self.pending.lifetime,
                    self.pending.filters,
                    self.pending.sent,
                )
            allowed.append(outcome)
        for state in allowed:
            if self.is_state(state, listed, now):
                self.adopt(state, listed)
                return
        raise AssertionError(f"{self.name}: {listed} is none of {allowed}")

    def is_state(self, state, listed, now):
        if state is None:
            return listed is None
        if listed is None:
            return state.left(now) < 1
        return (
            listed["nonce"] == state.nonce.hex()
            and state.external_port in (None, int(listed["external"].split(":")[1]))
            and -2 <= listed["lifetime_s"] - state.left(now) <= 4
            and tuple((f["remote"], f["remote_port"]) for f in listed["filters"]) == state.filters
        )

    def adopt(self, state, listed):
        self.pending = None
        self.mapping = state if listed else None
        if self.mapping:
            state.external_port = int(listed["external"].split(":")[1])


class Load:
    """Keeps up to WINDOW requests without answer, over two hosts."""

    def __init__(self, lab, source):
        self.source = source
        self.clients = {node: node.client() for node in (lab.host, lab.host2)}
        self.endpoints = [
            Endpoint(node, source.choice((TCP, UDP)), 2000 + number)
            for node in self.clients
            for number in range(ENDPOINTS_PER_HOST)
        ]
        self.by_key = {(e.host, e.protocol, e.port): e for e in self.endpoints}
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
                endpoint.ask(self.clients[endpoint.host], self.source, now)
        sockets = {client.socket: node for node, client in self.clients.items()}
        for readable in select.select(list(sockets), [], [], timeout)[0]:
            octets = readable.recvfrom(2048)[0]
            answer = pcp.parse_response(octets, time.monotonic())
            self.watch_epoch(answer)
            key = (sockets[readable], answer.protocol, answer.internal_port)
            self.by_key[key].answered(answer)
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
                self.clients[endpoint.host].send(endpoint.pending.octets)

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


def check(lab, load):
    now = time.monotonic()
    listed = {(m["protocol"], m["internal"]): m for m in lab.mappings()}
    for endpoint in load.endpoints:
        endpoint.check(listed.pop(endpoint.name, None), now)
    assert not listed, f"mappings nobody asked for: {listed}"
    check_kernel(lab, load)


def surplus_elements(lab, load):
    """Elements beyond those of the model, which must all be there.

    A mapping in its last second may be there or not.
    """
    kernel = lab.kernel_mappings()
    now = time.monotonic()
    for endpoint in load.endpoints:
        if endpoint.mapping:
            external = f"203.0.113.1:{endpoint.mapping.external_port}"
            found = kernel.pop((endpoint.name[0], external), None)
            left = endpoint.mapping.left(now)
            assert found or left < 1, endpoint.name
            if found:
                assert found[0] == endpoint.name[1]
                assert found[1] >= left - 3
    return kernel


def check_kernel(lab, load):
    # What ended a moment ago leaves the list first and the kernel with the commit.
    wait_for(lambda: not surplus_elements(lab, load), 3, "elements nobody asked for being gone")
    if not any(e.mapping and e.mapping.left(time.monotonic()) < 3 for e in load.endpoints):
        lab.assert_kernel_equals_list()


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
    assert sum(1 for e in load.endpoints if e.mapping) > 10
    epoch = lab.status()["epoch"]
    assert (epoch["state"], epoch["reason"]) == ("continued", "same-boot")
