"""The programs as a person or a script meets them: words, exit statuses, permissions."""

import json
import os
import signal

import pytest

import lab as lab_module
import pcp
from lab import EXTERNAL, UdpFlow, wait_for
from pcp import TCP, UDP, Result, new_nonce

NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]


def one_line(text):
    lines = text.splitlines()
    assert len(lines) == 1, text
    return lines[0]


# ---- holdfastd


BROKEN = {
    "unknown setting": ("server {", "server {\n    colour = 3", 3),
    "wrong type": ("lifetime-min = 1", 'lifetime-min = "soon"', None),
    "out of range": ("mappings-per-subscriber = 10000", "mappings-per-subscriber = -1", None),
    "no outside interface": ('    outside-interface = "wan0"\n', "", None),
    "same interface inside and outside": ('"wan0"', '"lan0"', None),
    "unterminated string": ('"wan0"', '"wan0', None),
}


@pytest.mark.parametrize("name", BROKEN)
def test_check_names_file_and_line(lab, tmp_path, name):
    old, new, _ = BROKEN[name]
    text = "\n" + lab_module.configuration()
    assert old in text
    path = tmp_path / "broken.conf"
    path.write_text(text.replace(old, new))
    done = lab.gateway.run("holdfastd", "--check", "--config", path, check=False)
    assert done.returncode == 1
    complaints = (done.stdout + done.stderr).splitlines()
    assert complaints
    lines = len(path.read_text().splitlines())
    for complaint in complaints:
        assert f"{path}:" in complaint
        number = complaint.split(f"{path}:")[1].split(":")[0]
        assert 1 <= int(number) <= lines


def test_check_accepts_the_lab_and_starts_nothing(lab):
    before = lab.pid()
    done = lab.gateway.run("holdfastd", "--check", "--config", lab.config_path)
    assert done.returncode == 0
    assert lab.pid() == before


def test_check_of_a_missing_file(lab, tmp_path):
    path = tmp_path / "nowhere.conf"
    done = lab.gateway.run("holdfastd", "--check", "--config", path, check=False)
    assert done.returncode == 1
    assert str(path) in one_line(done.stderr)


@pytest.mark.parametrize("program", ["holdfastd", "holdfastctl", "holdfast"])
def test_every_program_knows_help_version_and_wrong_usage(lab, program):
    done = lab.gateway.run(program, "--help")
    assert done.stdout.startswith("usage:") or "Usage:" in done.stdout
    assert done.stderr == ""
    assert "0.1.0" in lab.gateway.run(program, "--version").stdout
    done = lab.gateway.run(program, "--no-such-option", check=False)
    assert done.returncode == 2
    assert done.stderr and not done.stdout


def test_reload_takes_new_settings(new_lab):
    lab = new_lab(lifetime_max=1000)
    client, nonce = lab.host.client(), new_nonce()
    first = client.granted(UDP, 5000, nonce, external_port=7000, lifetime=5000)
    assert first.lifetime == 1000
    pid = lab.pid()
    lab.reconfigure(lab_module.configuration(lifetime_max=3000))
    lab.ctl("reload")
    assert client.granted(UDP, 5000, nonce, lifetime=5000).lifetime == 3000
    lab.reconfigure(lab_module.configuration(lifetime_max=4000))
    os.kill(pid, signal.SIGHUP)
    wait_for(
        lambda: client.granted(UDP, 5000, nonce, lifetime=5000).lifetime == 4000,
        what="SIGHUP taking effect",
    )
    assert lab.pid() == pid
    again = client.announce()
    assert pcp.epoch_is_valid(first.epoch, first.received, again.epoch, again.received)
    lab.assert_kernel_equals_list()


def test_reload_of_a_wrong_file_keeps_the_old_settings(new_lab):
    lab = new_lab(lifetime_max=1000)
    client, nonce = lab.host.client(), new_nonce()
    client.granted(UDP, 5000, nonce, external_port=7000)
    lab.reconfigure(lab_module.configuration(lifetime_max=3000, recycle_delay="never"))
    done = lab.ctl("reload", check=False)
    assert done.returncode == 1
    assert f"{lab.config_path}:" in done.stderr
    os.kill(lab.pid(), signal.SIGHUP)
    wait_for(lambda: f"{lab.config_path}:" in lab.log(), what="the complaint in the log")
    assert client.granted(UDP, 5000, nonce, lifetime=5000).lifetime == 1000
    inner, outer = lab.host.udp_socket(("", 5000)), lab.inet.udp_socket()
    assert UdpFlow(outer, (EXTERNAL, 7000), inner).passes()


def test_start_with_a_wrong_file_fails_in_words(new_lab):
    lab = new_lab()
    lab.stop()
    lab.reconfigure(lab_module.configuration(lifetime_min="x"))
    done = lab.gateway.run("timeout", "10", "holdfastd", "--config", lab.config_path, check=False)
    assert done.returncode == 1
    assert f"{lab.config_path}:" in done.stderr


# ---- holdfastctl


def test_ctl_status_and_list_for_people(lab, client, port):
    client.granted(TCP, port, external_port=port)
    status = lab.ctl("status").stdout
    assert "Epoch" in status or "epoch" in status
    row = [line for line in lab.ctl("list").stdout.splitlines() if f"10.77.0.2:{port}" in line]
    assert len(row) == 1
    assert f"{EXTERNAL}:{port}" in row[0]


def test_ctl_list_filters(lab, client, client2, ports):
    first, second = ports(2)
    client.granted(TCP, first, external_port=first)
    client.granted(UDP, first, external_port=first)
    client2.granted(TCP, first, external_port=second)

    def found(**filters):
        return {(m["protocol"], m["internal"]) for m in lab.mappings(**filters)}

    assert found(internal_port=first) == {
        ("TCP", f"10.77.0.2:{first}"),
        ("UDP", f"10.77.0.2:{first}"),
        ("TCP", f"10.77.0.3:{first}"),
    }
    assert found(internal_port=first, protocol="udp") == {("UDP", f"10.77.0.2:{first}")}
    assert found(internal_port=first, subscriber="10.77.0.3") == {("TCP", f"10.77.0.3:{first}")}
    assert found(external_port=second) == {("TCP", f"10.77.0.3:{first}")}
    number = lab.mapping(UDP, f"10.77.0.2:{first}")["id"]
    assert found(id=number) == {("UDP", f"10.77.0.2:{first}")}
    assert found(id=2**40) == set()


def test_ctl_lists_more_than_one_reply_holds(new_lab):
    """The reply is cut in pieces of 256; each mapping comes once."""
    lab = new_lab()
    client, nonce = lab.host.client(), new_nonce()
    for number in range(600):
        client.send(pcp.map_request(client.address, nonce, UDP, 3000 + number))
    answers = 0
    while client.receive(1.0 if answers < 600 else 0):
        answers += 1
    assert answers == 600
    identities = [m["id"] for m in lab.mappings()]
    assert len(identities) == len(set(identities)) == 600
    assert identities == sorted(identities)
    lab.assert_kernel_equals_list()


def test_ctl_clear_ends_mappings_and_flows(new_lab):
    lab = new_lab()
    client, client2 = lab.host.client(), lab.host2.client()
    client.granted(UDP, 5000, external_port=7000)
    client.granted(UDP, 5001, external_port=7001)
    client2.granted(UDP, 5000, external_port=7002)
    inner, outer = lab.host.udp_socket(("", 5000)), lab.inet.udp_socket()
    flow = UdpFlow(outer, (EXTERNAL, 7000), inner)
    assert flow.passes()
    number = lab.mapping(UDP, "10.77.0.2:5000")["id"]
    assert lab.ctl_json("clear", "--id", number) == {"cleared": 1}
    assert flow.is_blocked()
    assert lab.ctl_json("clear", "--id", number) == {"cleared": 0}
    assert lab.ctl_json("clear", "--subscriber", "10.77.0.3") == {"cleared": 1}
    assert [m["internal"] for m in lab.mappings()] == ["10.77.0.2:5001"]
    lab.assert_kernel_equals_list()
    assert lab.ctl_json("clear", "--all") == {"cleared": 1}
    assert lab.assert_kernel_equals_list() == {}
    lab.kill()
    lab.start()
    assert lab.mappings() == []


@pytest.mark.parametrize("words", [["clear"], ["clear", "--id", "1", "--all"], ["nonsense"], []])
def test_ctl_wrong_usage(lab, words):
    done = lab.ctl(*words, check=False)
    assert done.returncode == 2
    assert done.stderr


def test_ctl_refused_parameters(lab):
    done = lab.ctl("list", "--subscriber", "not-an-address", check=False)
    assert done.returncode in (1, 2)
    assert done.stderr


def test_ctl_without_a_daemon(new_lab):
    lab = new_lab()
    lab.stop()
    done = lab.ctl("status", check=False)
    assert done.returncode == 3
    assert "holdfastd" in one_line(done.stderr)


def test_ctl_of_another_user_is_refused(lab, client, port):
    """The kernel says who connects; nobody may not clear, list nonces or reload."""
    client.granted(UDP, port, external_port=port)
    for words in (["clear", "--all"], ["reload"], ["list"], ["status"], ["log-level", "debug"]):
        done = lab.gateway.run(*NOBODY, "holdfastctl", *words, check=False)
        assert done.returncode in (1, 3), words
        assert one_line(done.stderr)
        assert done.stdout == ""
    assert lab.mapping(UDP, f"10.77.0.2:{port}")


def test_control_socket_is_not_open_to_everybody(lab):
    socket_path = lab.folder / "control"
    assert socket_path.stat().st_mode & 0o007 == 0


def test_ctl_group_member_reads_without_nonces(new_lab):
    """Members of the socket's group may look, and the key to a mapping is not shown to them."""
    lab = new_lab()
    lab.host.client().granted(UDP, 5000)
    path = lab.folder / "control"
    group = path.stat().st_gid
    for folder in (lab.folder, lab.folder.parent):
        folder.chmod(folder.stat().st_mode | 0o011)
    member = ["setpriv", "--reuid=65534", f"--regid={group}", "--clear-groups"]
    listed = lab.gateway.run(*member, "holdfastctl", "--json", "list", check=False)
    assert listed.returncode == 0, listed.stderr
    mappings = json.loads(listed.stdout)["mappings"]
    assert len(mappings) == 1 and "nonce" not in mappings[0]
    done = lab.gateway.run(*member, "holdfastctl", "clear", "--all", check=False)
    assert done.returncode == 1
    assert len(lab.mappings()) == 1


# ---- holdfast


def test_holdfast_map_and_unmap(lab, port):
    done = lab.host.run(
        "holdfast", "map", "tcp", port, "--external-port", port, "--lifetime", 500, "--json"
    )
    answer = json.loads(done.stdout)
    assert (answer["result"], answer["result_name"]) == (0, "SUCCESS")
    assert (answer["external"]["address"], answer["external"]["port"]) == (EXTERNAL, port)
    assert answer["internal"]["port"] == port
    assert answer["lifetime_s"] == 500
    listed = lab.mapping(TCP, f"10.77.0.2:{port}")
    assert listed["nonce"] == answer["nonce"]
    listener = lab.host.tcp_listener(port)
    with lab.inet.tcp_connect((EXTERNAL, port)):
        listener.accept()[0].close()
    refused = lab.host.run("holdfast", "unmap", "tcp", port, "--nonce", "00" * 12, check=False)
    assert refused.returncode == 1
    assert Result.NOT_AUTHORIZED.name in one_line(refused.stderr)
    lab.host.run("holdfast", "unmap", "tcp", port, "--nonce", answer["nonce"])
    assert lab.mapping(TCP, f"10.77.0.2:{port}") is None


def test_holdfast_map_for_people_names_the_endpoint(lab, port):
    done = lab.host.run("holdfast", "map", "udp", port, "--external-port", port)
    assert f"{EXTERNAL}:{port}" in done.stdout
    assert lab.mapping(UDP, f"10.77.0.2:{port}")["nonce"] in done.stdout


def test_holdfast_map_with_filter_and_prefer_failure(lab, client2, ports):
    first, taken = ports(2)
    lab.host.run(
        "holdfast", "map", "udp", first, "--external-port", first, "--prefer-failure",
        "--filter", "203.0.113.0/24,443",
    )  # fmt: skip
    listed = lab.mapping(UDP, f"10.77.0.2:{first}")
    assert listed["filters"] == [{"remote": "203.0.113.0/24", "remote_port": 443}]
    client2.granted(UDP, taken, external_port=taken)
    done = lab.host.run(
        "holdfast", "map", "udp", taken, "--external-port", taken, "--prefer-failure", check=False
    )
    assert done.returncode == 1
    assert Result.CANNOT_PROVIDE_EXTERNAL.name in one_line(done.stderr)
    assert lab.mapping(UDP, f"10.77.0.2:{taken}") is None


def test_holdfast_announce_prints_the_epoch(lab, client):
    done = lab.host.run("holdfast", "announce", "--json")
    assert abs(json.loads(done.stdout)["epoch_s"] - client.announce().epoch) <= 2


def test_holdfast_without_an_answer(lab, port):
    done = lab.host.run(
        "holdfast", "map", "tcp", port, "--server", "10.77.0.3", "--timeout", "1", check=False
    )
    assert done.returncode == 3
    assert one_line(done.stderr)


@pytest.mark.parametrize(
    "words", [["map", "tcp"], ["map", "tcp", "99999"], ["unmap", "tcp", "80"], ["fly"], []]
)
def test_holdfast_wrong_usage(lab, words):
    done = lab.host.run("holdfast", *words, check=False)
    assert done.returncode == 2
    assert done.stderr
