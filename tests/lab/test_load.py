"""What must not starve while requests never cease."""

import random
import threading

import pytest

from lab import EXTERNAL, INET, UdpFlow, wait_for
from pcp import UDP, new_nonce
from test_kill_loop import Load, tool


class Pressure:
    """Creates, renewals and deletes from two hosts, without a pause, in a thread."""

    def __init__(self, lab):
        self.load = Load(lab, random.Random(1))
        self.ending = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()
        wait_for(lambda: self.load.answers > 100, what="the load")

    def run(self):
        while not self.ending.is_set():
            self.load.step()

    def end(self):
        self.ending.set()
        self.thread.join()


@pytest.fixture
def lab_under_load(new_lab):
    lab = new_lab(recycle_delay=2)
    pressure = Pressure(lab)
    yield lab
    pressure.end()


def test_stop_is_prompt_under_load(lab_under_load):
    lab = lab_under_load
    stopper = tool(lab, "stop")
    wait_for(lambda: stopper.poll() is not None, 5, "the end of the daemon")
    assert stopper.returncode == 0
    lab.start()
    assert lab.status()["epoch"]["state"] == "continued"


def test_flows_of_deleted_mappings_are_cut_under_load(lab_under_load):
    lab = lab_under_load
    client, nonce = lab.host.client(), new_nonce()
    mapped = client.granted(UDP, 5000, nonce).external_port
    inner, outer = lab.host.udp_socket(("", 5000)), lab.inet.udp_socket()
    outward = UdpFlow(inner, (INET, outer.getsockname()[1]), outer)
    assert outward.passes() == (EXTERNAL, mapped)
    client.unmap(UDP, 5000, nonce)
    wait_for(lambda: outward.passes()[1] != mapped, 2, "the flow being cut")


def test_control_is_answered_under_load(lab_under_load):
    lab = lab_under_load
    lab.host.run("ip", "address", "add", "10.77.0.5/24", "dev", "eth0")
    lab.host.client("10.77.0.5").granted(UDP, 5000)
    assert lab.status()["counters"]["requests"] > 100
    assert [m["internal"] for m in lab.mappings(subscriber="10.77.0.5")] == ["10.77.0.5:5000"]
    assert lab.ctl_json("clear", "--subscriber", "10.77.0.5") == {"cleared": 1}
    assert lab.mappings(subscriber="10.77.0.5") == []
