"""A full disk and a damaged store: nothing is promised that is not kept, nothing is overwritten."""

import errno
import hashlib
import subprocess

import pytest

import pcp
from lab import EXTERNAL, UdpFlow
from pcp import SHORT, UDP, Result, new_nonce

SMALL_DISK = "mode=0700,size=2m"


@pytest.fixture
def lab_on_a_small_disk(new_lab):
    """The state directory is a small tmpfs; tools/lab unmounts it with the lab."""
    lab = new_lab()
    lab.stop()
    mount = ["mount", "-t", "tmpfs", "-o", SMALL_DISK, "holdfast-test", str(lab.state)]
    subprocess.run(mount, check=True)
    lab.start()
    return lab


def fill(folder):
    path = folder / "ballast"
    with open(path, "wb", buffering=0) as file:
        for size in (65536, 4096, 512, 1):
            try:
                while True:
                    file.write(b"\xaa" * size)
            except OSError as error:
                assert error.errno == errno.ENOSPC
    return path


def test_full_disk_refuses_without_a_trace_and_recovers(lab_on_a_small_disk):
    lab = lab_on_a_small_disk
    client, nonce = lab.host.client(), new_nonce()
    client.granted(UDP, 5000, nonce, external_port=7000)
    inner, outer = lab.host.udp_socket(("", 5000)), lab.inet.udp_socket()
    flow = UdpFlow(outer, (EXTERNAL, 7000), inner)
    assert flow.passes()

    ballast = fill(lab.state)
    granted, refused = {5000: 7000}, []
    # What the store had reserved already may still take a few; what was granted must be there.
    for number in range(10000, 11000):
        octets = pcp.map_request(client.address, nonce, UDP, number)
        answer = client.exchange(octets)
        if answer.result == Result.SUCCESS:
            granted[number] = answer.external_port
            continue
        expected = pcp.error_octets(octets, Result.NO_RESOURCES, SHORT, answer.epoch)
        assert answer.octets == expected
        refused.append(number)
        if len(refused) == 5:
            break
    assert len(refused) == 5

    def assert_as_answered():
        listed = lab.assert_kernel_equals_list()
        assert listed == {
            ("UDP", f"{EXTERNAL}:{outer}"): f"10.77.0.2:{inner}" for inner, outer in granted.items()
        }

    assert_as_answered()
    assert lab.status()["store"]["failures"] >= 5
    # A delete that cannot be kept is refused too, and the mapping goes on.
    answer = client.map(UDP, 5000, nonce, lifetime=0)
    assert answer.result == Result.NO_RESOURCES
    assert_as_answered()
    assert flow.passes()

    ballast.unlink()
    for number in refused:
        granted[number] = client.granted(UDP, number, nonce).external_port
    assert_as_answered()
    lab.kill()
    lab.start()
    assert_as_answered()
    client.unmap(UDP, 5000, nonce)
    assert flow.is_blocked()


def test_restart_on_a_full_disk_keeps_everything(lab_on_a_small_disk):
    """Reading needs no room; where the start needs some it says so and changes nothing."""
    lab = lab_on_a_small_disk
    client, nonce = lab.host.client(), new_nonce()
    client.granted(UDP, 5000, nonce, external_port=7000)
    ballast = fill(lab.state)
    lab.kill()
    done = lab.start(check=False)
    if done.returncode != 0:
        assert "space" in done.stderr
    assert list(lab.kernel_mappings()) == [("UDP", f"{EXTERNAL}:7000")]
    ballast.unlink()
    if done.returncode != 0:
        lab.start()
    assert [m["external"] for m in lab.mappings()] == [f"{EXTERNAL}:7000"]
    assert client.granted(UDP, 5000, nonce).external_port == 7000


def fingerprints(folder):
    """Of everything but the locks, which every opening may touch."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file() and "lock" not in path.name
    }


def store_file(lab):
    files = [p for p in lab.state.rglob("*.mdb") if p.name != "lock.mdb"]
    assert len(files) == 1, files
    return files[0]


def flip_record(path, nonce):
    """One bit in the record itself, in every copy of its page."""
    octets = bytearray(path.read_bytes())
    at = octets.find(nonce)
    assert at >= 0
    while at >= 0:
        octets[at] ^= 1
        at = octets.find(nonce, at + 1)
    path.write_bytes(octets)


def overwrite_start(path, _nonce):
    octets = path.read_bytes()
    path.write_bytes(b"\x5a" * 8192 + octets[8192:])


def cut_off(path, _nonce):
    path.write_bytes(path.read_bytes()[: 3 * 4096 - 7])


def empty(path, _nonce):
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [flip_record, overwrite_start, cut_off, empty])
def test_damaged_store_is_refused_left_alone_and_can_be_moved_aside(new_lab, damage):
    lab = new_lab()
    client, nonce = lab.host.client(), new_nonce()
    before = client.granted(UDP, 5000, nonce, external_port=7000)
    lab.kill()
    damage(store_file(lab), nonce)
    damaged = fingerprints(lab.state)

    command = ["timeout", "10", "holdfastd", "--config", str(lab.config_path)]
    done = lab.gateway.run(*command, check=False)
    assert done.returncode not in (0, 124, 137, -6, -7, -11), done
    lines = [line for line in (done.stdout + done.stderr).splitlines() if line]
    complaints = [line for line in lines if str(lab.state) in line]
    assert len(complaints) == 1, lines
    assert fingerprints(lab.state) == damaged
    # What runs in the kernel is not touched by a start that failed.
    assert list(lab.kernel_mappings()) == [("UDP", f"{EXTERNAL}:7000")]

    lab.start("--new-state")
    assert lab.mappings() == []
    assert lab.assert_kernel_equals_list() == {}
    after = client.granted(UDP, 5001, external_port=7001)
    assert after.epoch <= 10
    kept = [
        path
        for folder in (lab.state, lab.folder)
        for path, digest in fingerprints(folder).items()
        if digest in damaged.values()
    ]
    assert kept, "the damaged store was not kept"
    lab.stop()
    lab.start()
    assert [m["external"] for m in lab.mappings()] == [f"{EXTERNAL}:7001"]
    again = client.announce()
    assert pcp.epoch_is_valid(after.epoch, after.received, again.epoch, again.received)
    assert before.received < again.received


def test_second_daemon_on_the_same_store_is_refused(new_lab):
    lab = new_lab()
    client, nonce = lab.host.client(), new_nonce()
    client.granted(UDP, 5000, nonce, external_port=7000)
    first = lab.pid()
    done = lab.gateway.run("timeout", "10", "holdfastd", "--config", lab.config_path, check=False)
    assert done.returncode not in (0, 124)
    assert lab.pid() == first
    assert client.granted(UDP, 5000, nonce).external_port == 7000
    assert lab.status()["pid"] == first
    lab.assert_kernel_equals_list()
