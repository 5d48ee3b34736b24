"""Other programs against ours: Wireshark reads our answers, natpmpc a refusal."""

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
from lab import EXTERNAL, INET, wait_for  # noqa: E402
from pcp import TCP, UDP, new_nonce  # noqa: E402

pytestmark = pytest.mark.skipif(not shutil.which("tshark"), reason="tshark is not installed")


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
    lab = new_lab()
    os.chmod(tmp_path, 0o777)
    capture = Capture(lab, tmp_path / "pcp.pcapng")
    client = lab.host.client()

    def capturing():
        client.announce()
        return capture.path.exists() and capture.path.stat().st_size > 600

    wait_for(capturing, 10, "the capture")
    yield lab, client, capture
    capture.stop()


def test_tshark_decodes_every_answer_without_complaint(captured):
    _, client, capture = captured
    nonce = new_nonce()
    options = pcp.prefer_failure() + pcp.filter_option(INET, 128, 443)
    client.granted(TCP, 8080, nonce, external_port=8080, lifetime=500, options=options)
    client.granted(UDP, 8081, external_port=9081)
    client.map(TCP, 8080, new_nonce())
    client.map(132, 8080)
    client.map(UDP, 8082, options=pcp.filter_option(INET, 129))
    client.unmap(TCP, 8080, nonce)

    def answers_to_map():
        layers = [p["portcontrol"] for p in capture.packets() if p["udp"]["udp.srcport"] == "5351"]
        found = [each for each in layers if each["portcontrol.opcode"] == "1"]
        return found if len(found) == 6 else None

    answers = wait_for(answers_to_map, 20, "six answers in the capture")
    for layers in capture.packets():
        assert "portcontrol" in layers, layers
        text = json.dumps(layers)
        assert "_ws.malformed" not in text and "_ws.expert" not in text, text
    assert all(a["portcontrol.version"] == "2" for a in answers)
    granted = [json.dumps(a) for a in answers if '"500"' in json.dumps(a)]
    assert granted
    assert nonce.hex() in granted[0].replace(":", "")
    assert '"8080"' in granted[0] and EXTERNAL in granted[0]
    assert INET in granted[0] and '"443"' in granted[0]


def test_natpmpc_understands_the_refusal(captured):
    """A NAT-PMP client reads version 2's UNSUPP_VERSION at its own place (RFC 6887 appendix A)."""
    if not shutil.which("natpmpc"):
        pytest.skip("natpmpc is not installed")
    lab, _, _ = captured
    done = lab.host.run("natpmpc", "-g", "10.77.0.1", "-a", "8080", "8080", "tcp", check=False)
    assert done.returncode != 0
    assert lab.mappings() == []
