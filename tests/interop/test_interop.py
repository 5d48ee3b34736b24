"""Other programs against ours: Wireshark reads our answers, natpmpc maps and is refused."""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lab"))

from conftest import new_lab  # noqa: E402,F401

import pcp  # noqa: E402
from lab import EXTERNAL, INET, INET6, UdpFlow, wait_for  # noqa: E402
from pcp import TCP, UDP, Result, new_nonce  # noqa: E402

needs_tshark = pytest.mark.skipif(not shutil.which("tshark"), reason="tshark is not installed")
needs_natpmpc = pytest.mark.skipif(not shutil.which("natpmpc"), reason="natpmpc is not installed")


class Capture:
    """PCP datagrams on the gateway's inside interface, in a file."""

    def __init__(self, lab, path):
        self.path = path
        self.process = subprocess.Popen(
            ["ip", "netns", "exec", lab.gateway.namespace, "dumpcap", "-q", "-i", "lan0"]
            + ["-f", "udp port 5351 or udp port 5350", "-w", str(path)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )

    def packets(self):
        done = subprocess.run(
            ["tshark", "-r", str(self.path), "-T", "json"], capture_output=True, text=True
        )
        return [p["_source"]["layers"] for p in json.loads(done.stdout or "[]")]

    def stop(self):
        self.process.send_signal(signal.SIGINT)
        self.process.wait(10)


@pytest.fixture
def captured(new_lab, tmp_path):  # noqa: F811
    lab = new_lab(third_party=["10.77.0.2 for 10.77.0.0/24"], mappings_per_subscriber=12)
    os.chmod(tmp_path, 0o777)
    capture = Capture(lab, tmp_path / "pcp.pcapng")
    client = lab.host.client()

    def capturing():
        client.announce()
        return capture.path.exists() and capture.path.stat().st_size > 600

    wait_for(capturing, 10, "the capture")
    yield lab, client, capture
    capture.stop()


def ask_for_everything(lab, client):
    """One of every kind of answer: the nonce of the granted one is returned."""
    nonce = new_nonce()
    options = pcp.prefer_failure() + pcp.filter_option(INET, 128, 443)
    client.granted(TCP, 8080, nonce, external_port=8080, lifetime=500, options=options)
    client.granted(UDP, 8081, external_port=9081)
    client.granted(UDP, 8082, options=pcp.third_party("10.77.0.3"))
    client.map(TCP, 8080, new_nonce())
    client.peered(UDP, 8084, INET, 4000, nonce)
    client.peer(UDP, 8084, INET, 4000, new_nonce())
    client6 = lab.host.client6()
    client6.granted(UDP, 8080, options=pcp.filter_option(INET6, 128))
    client6.peered(UDP, 8080, INET6, 4000)
    client6.granted(pcp.ICMPV6, 0)
    client6.announce()
    client.natpmp(b"\0\0")
    client.natpmp_map(TCP, 8085)
    client.natpmp_map(UDP, 0)
    client.natpmp(b"\0\x09")
    client.unmap(TCP, 8080, nonce)
    return nonce


def ask_for_every_error(client):
    """Gives the results that were told. No request is cut short: the answer would be so too."""
    whole = pcp.map_request(client.address, new_nonce(), UDP, 8090)
    far = pcp.map_request("10.77.0.9", new_nonce(), UDP, 8090)
    many = b"".join(pcp.filter_option(f"192.0.2.{n}", 128) for n in range(17))
    taken = pcp.map_request(
        client.address, new_nonce(), UDP, 8091, 5351, options=pcp.prefer_failure()
    )
    wrong = [
        b"\x03" + whole[1:],
        whole[:36] + b"\0" + whole[37:],
        whole[:1] + b"\x32" + whole[2:],
        whole + pcp.option(64, b"abcd"),
        whole + pcp.filter_option(INET, 129),
        whole[:36] + b"\xfd" + whole[37:],
        far,
        whole + many,
        taken,
    ]
    results = {client.exchange(octets).result for octets in wrong}
    for number in range(12):
        results.add(client.map(UDP, 9000 + number).result)
    return results - {0}


@needs_tshark
def test_tshark_decodes_every_answer_without_complaint(captured):
    lab, client, capture = captured
    nonce = ask_for_everything(lab, client)
    results = ask_for_every_error(client)
    assert results == set(Result) - {
        Result.SUCCESS, Result.NETWORK_FAILURE, Result.NO_RESOURCES, Result.NOT_AUTHORIZED,
    }  # fmt: skip
    # Announcements and Mapping Updates of the new address.
    lab.gateway.ip("address", "add", "203.0.113.9/24", "dev", "wan0")
    lab.gateway.ip("address", "delete", "203.0.113.1/24", "dev", "wan0")
    lab.gateway.ip("address", "replace", "203.0.113.9/24", "dev", "wan0")
    wait_for(client.drain, 5, "Mapping Updates")
    client.announce()
    client.map(TCP, 4711, bytes(range(12)))

    def whole_capture():
        packets = capture.packets()
        return packets if '"00:01:02:03:04:05:06:07:08:09:0a:0b"' in json.dumps(packets) else None

    packets = wait_for(whole_capture, 20, "the last answer in the capture")
    kinds = set()
    for layers in packets:
        if layers["udp"]["udp.srcport"] == "5351":
            assert "portcontrol" in layers or "nat-pmp" in layers, layers
            assert not complaints(layers), (complaints(layers), layers)
            kinds.add(kind_of(layers))
    for opcode in ("0", "1", "2"):
        assert ("PCP", "ip", opcode) in kinds and ("PCP", "ipv6", opcode) in kinds, kinds
    assert ("PCP multicast", "ip", "0") in kinds and ("PCP multicast", "ipv6", "0") in kinds, kinds
    assert {opcode for name, _, opcode in kinds if name.startswith("NAT-PMP")} >= {
        "128", "129", "130",
    }  # fmt: skip
    granted = [json.dumps(p["portcontrol"]) for p in packets if '"500"' in json.dumps(p)]
    answer = next(text for text in granted if EXTERNAL in text)
    assert nonce.hex() in answer.replace(":", "")
    assert '"8080"' in answer and INET in answer and '"443"' in answer


# What an error answer copies from a request that asked for what does not exist.
COPIED = {"portcontrol.opcode.unknown", "portcontrol.option.unknown", "nat-pmp.opcode.unknown"}


def complaints(tree):
    """The names of tshark's complaints about a packet, those about copied content left out."""
    found = set()
    if isinstance(tree, list):
        return set().union(*map(complaints, tree))
    if not isinstance(tree, dict):
        return found
    for name, value in tree.items():
        if name == "_ws.expert" and isinstance(value, dict):
            found |= {each for each in value if not each.startswith("_ws.expert.")}
        elif name.startswith(("_ws.malformed", "_ws.short")):
            found.add(name)
        else:
            found |= complaints(value)
    return found - COPIED


def kind_of(layers):
    family = "ip" if "ip" in layers else "ipv6"
    destination = layers[family][f"{family}.dst"]
    group = " multicast" if destination in (pcp.MULTICAST, pcp.MULTICAST6) else ""
    if "portcontrol" in layers:
        return "PCP" + group, family, layers["portcontrol"]["portcontrol.opcode"]
    return "NAT-PMP" + group, family, layers["nat-pmp"]["nat-pmp.opcode"]


def natpmpc(lab, *words):
    return lab.host.run("natpmpc", "-g", "10.77.0.1", *words, check=False)


@needs_natpmpc
def test_natpmpc_maps_renews_and_deletes(new_lab):  # noqa: F811
    """[R-6886-3.2-1] [R-6886-3.3-7] [R-6886-3.4-3]"""
    lab = new_lab()
    done = natpmpc(lab)
    assert done.returncode == 0, done.stderr
    assert f"Public IP address : {EXTERNAL}" in done.stdout
    for protocol, number in (("udp", UDP), ("tcp", TCP)):
        done = natpmpc(lab, "-a", "7000", "5000", protocol, "600")
        assert done.returncode == 0, done.stderr
        assert "Mapped public port 7000" in done.stdout and "5000" in done.stdout
        listed = lab.mapping(number, "10.77.0.2:5000")
        assert listed["external"] == f"{EXTERNAL}:7000"
        assert 590 <= listed["lifetime_s"] <= 600
    inner = lab.host.udp_socket(("", 5000))
    flow = UdpFlow(lab.inet.udp_socket(), (EXTERNAL, 7000), inner)
    assert flow.passes()
    # The port is taken: another one, and the client says which.
    lab.host2.client().granted(TCP, 5001, external_port=7001)
    done = natpmpc(lab, "-a", "7001", "5001", "tcp", "600")
    assert done.returncode == 0 and "Mapped public port 7001" not in done.stdout
    for protocol in ("udp", "tcp"):
        done = natpmpc(lab, "-a", "0", "5000", protocol, "0")
        assert done.returncode == 0, done.stderr
    assert flow.is_blocked()
    assert sorted(m["internal"] for m in lab.mappings()) == ["10.77.0.2:5001", "10.77.0.3:5001"]
    lab.assert_kernel_equals_list()


@needs_natpmpc
def test_natpmpc_understands_the_refusal(new_lab):  # noqa: F811
    """A NAT-PMP client reads version 2's UNSUPP_VERSION at its own place. [R-6887-A-1]"""
    lab = new_lab(nat_pmp=False)
    done = natpmpc(lab, "-a", "8080", "8080", "tcp")
    assert done.returncode != 0
    assert "-14" in done.stdout + done.stderr or "unsupp" in (done.stdout + done.stderr).lower()
    assert lab.mappings() == []


LIBTORRENT = pathlib.Path(__file__).parent / "libtorrent_client.py"
has_libtorrent = subprocess.run(
    ["/usr/bin/python3", "-c", "import libtorrent"], capture_output=True
).returncode == 0  # fmt: skip


@pytest.mark.skipif(not has_libtorrent, reason="python3-libtorrent is not installed")
@pytest.mark.parametrize("taken", [False, True], ids=["free", "taken"])
def test_libtorrent_maps_by_pcp_and_unmaps(new_lab, taken):  # noqa: F811
    """A client of other people: it takes the port it is given, and traffic arrives."""
    lab = new_lab(recycle_delay=0)
    if taken:
        lab.host2.client().granted(TCP, 6881, external_port=6881)
    command = ["ip", "netns", "exec", lab.host.namespace, "/usr/bin/python3", str(LIBTORRENT)]
    with subprocess.Popen(
        [*command, lab.host.address], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        told = json.loads(process.stdout.readline())
        assert told["transports"] == ["PCP"]
        assert (told["ports"]["tcp"] == 6881) != taken
        for name, protocol in (("tcp", TCP), ("udp", UDP)):
            listed = lab.mapping(protocol, f"{lab.host.address}:6881")
            assert listed["external"] == f"{EXTERNAL}:{told['ports'][name]}"
        with lab.inet.tcp_connect((EXTERNAL, told["ports"]["tcp"])):
            pass
        lab.assert_kernel_equals_list()
        process.stdin.close()
        wait_for(
            lambda: lab.mapping(TCP, f"{lab.host.address}:6881") is None, 5, "its own delete"
        )
