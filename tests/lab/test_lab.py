"""tools/lab itself: what every other test in this folder stands on."""

import json
import os
import subprocess

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
LABS = "/run/holdfast-lab"


def lab(*arguments, **more):
    return subprocess.run([os.path.join(ROOT, "tools/lab"), *arguments], capture_output=True, text=True, timeout=60,
                          **more)


def lab_ok(*arguments, **more):
    done = lab(*arguments, **more)
    assert done.returncode == 0, done.stderr
    return done.stdout


def execute(name, node, *command, **more):
    return lab("exec", "--name", name, node, "--", *command, **more)


def namespaces(name):
    listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout.split()
    return sorted(word for word in listed if word in {f"{name}-{n}" for n in ("host", "host2", "gw", "inet")})


def pid_of(name, program="holdfastd@gw"):
    with open(f"{LABS}/{name}/pids/{program}") as file:
        return json.load(file)["pid"]


def is_running(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


@pytest.fixture
def new_name():
    """Names for labs of this test; whatever it leaves is taken down."""
    names = []

    def make():
        names.append(f"lt{os.getpid()}-{len(names)}")
        return names[-1]

    yield make
    for name in names:
        lab("down", "--name", name)


@pytest.fixture(scope="module")
def shared():
    """A lab for tests that leave it as they found it."""
    name = f"lt{os.getpid()}-shared"
    lab_ok("up", "--name", name)
    yield name
    lab("down", "--name", name)


def test_up_connects_the_nodes(shared):
    for node, address in (("host", "10.77.0.1"), ("host", "10.77.0.3"), ("host2", "10.77.0.2"),
                          ("host", "fd77::3"), ("host", "fd77::1"), ("inet", "203.0.113.1"),
                          ("inet", "2001:db8:77::1"), ("gw", "203.0.113.100"), ("gw", "2001:db8:77::100")):
        assert execute(shared, node, "ping", "-n", "-c1", "-W2", address).returncode == 0, (node, address)


def test_up_gives_inet_no_way_to_private_addresses(shared):
    assert "unreachable" in execute(shared, "inet", "ping", "-n", "-c1", "-W1", "10.77.0.2").stderr
    routes = execute(shared, "inet", "ip", "-6", "route").stdout
    assert "fd77::/64 via 2001:db8:77::1" in routes and "default" not in routes


def test_up_keeps_bridged_frames_out_of_the_ip_hooks(shared):
    found = execute(shared, "gw", "sysctl", "-e", "net.bridge.bridge-nf-call-iptables",
                    "net.bridge.bridge-nf-call-ip6tables").stdout
    assert "= 1" not in found


def test_up_existing_lab_is_refused(shared):
    done = lab("up", "--name", shared)
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and "exists already" in done.stderr
    assert is_running(pid_of(shared))


def test_up_two_labs_at_once(shared, new_name):
    name = new_name()
    lab_ok("up", "--name", name)
    assert len(namespaces(name)) == len(namespaces(shared)) == 4
    lab_ok("down", "--name", name)
    assert execute(shared, "host", "ping", "-n", "-c1", "-W2", "10.77.0.1").returncode == 0
    assert is_running(pid_of(shared))


def test_up_wrong_config_shows_the_complaint_and_leaves_nothing(new_name, tmp_path):
    name, config = new_name(), tmp_path / "wrong.conf"
    config.write_text('log-level = "info"\nserver {\n    no-such-directive = 1\n}\n')
    done = lab("up", "--name", name, "--config", str(config))
    assert done.returncode == 1
    assert "holdfastd.conf:3:" in done.stderr, "the lab's own settings must not move the lines"
    assert namespaces(name) == [] and not os.path.exists(f"{LABS}/{name}")


def test_up_own_config_keeps_state_in_the_lab(new_name, tmp_path):
    name, config = new_name(), tmp_path / "own.conf"
    config.write_text('server {\n    inside-interfaces = {"lan0"}\n    outside-interface = "wan0"\n}\n')
    lab_ok("up", "--name", name, "--config", str(config))
    assert os.listdir(f"{LABS}/{name}/state")
    assert execute(name, "gw", "holdfastctl", "status").returncode == 0


def test_exec_passes_input_output_and_status(shared):
    done = execute(shared, "host", "sh", "-c", "cat; echo oops >&2; exit 7", input="through\n")
    assert (done.stdout, done.stderr, done.returncode) == ("through\n", "oops\n", 7)


def test_exec_finds_programs_and_control_socket(shared):
    for program in ("holdfastd", "holdfastctl", "holdfast"):
        assert execute(shared, "host", program, "--version").returncode == 0
    socket_path = execute(shared, "gw", "printenv", "HOLDFAST_CONTROL").stdout.strip()
    assert socket_path == f"{LABS}/{shared}/control" and os.path.exists(socket_path)


def test_exec_unknown_node_or_lab_is_refused(shared):
    assert "is no node" in execute(shared, "nowhere", "true").stderr
    assert "does not exist" in execute("lt-never-made", "host", "true").stderr


def test_start_running_program_is_refused(shared):
    done = lab("start", "--name", shared)
    assert done.returncode == 1 and "already" in done.stderr


def test_kill_and_start_find_the_state_again(new_name):
    name = new_name()
    lab_ok("up", "--name", name)
    first = pid_of(name)
    granted = execute(name, "host", "holdfast", "map", "tcp", "8080", "--lifetime", "600")
    assert granted.returncode == 0, granted.stderr
    lab_ok("kill", "--name", name)
    assert not is_running(first)
    assert "does not run" in lab("kill", "--name", name).stderr
    lab_ok("start", "--name", name)
    assert pid_of(name) != first
    listed = json.loads(execute(name, "gw", "holdfastctl", "list", "--json").stdout)["mappings"]
    assert [mapping["internal"] for mapping in listed] == ["10.77.0.2:8080"]
    lab_ok("stop", "--name", name)
    assert namespaces(name) and lab("stop", "--name", name).returncode == 1


def test_start_failure_shows_the_last_words(new_name):
    name = new_name()
    lab_ok("up", "--name", name)
    lab_ok("stop", "--name", name)
    done = lab("start", "--name", name, "holdfastd", "--no-such-option")
    assert done.returncode == 1 and "ended before it was ready" in done.stderr and "--help" in done.stderr
    lab_ok("start", "--name", name)


def test_start_and_stop_other_programs(shared):
    lab_ok("start", "--name", shared, "sleep", "1000")
    lab_ok("start", "--name", shared, "--node", "inet", "sleep", "1000")
    at_host, at_inet = pid_of(shared, "sleep@host"), pid_of(shared, "sleep@inet")
    assert is_running(at_host) and is_running(at_inet)
    lab_ok("stop", "--name", shared, "sleep")
    assert not is_running(at_host) and is_running(at_inet)
    lab_ok("kill", "--name", shared, "--node", "inet", "sleep")
    assert not is_running(at_inet)


def test_kill_another_process_with_the_noted_pid_is_spared(shared):
    bystander = subprocess.Popen(["sleep", "1000"])
    try:
        with open(f"{LABS}/{shared}/pids/sleep@host", "w") as file:
            json.dump({"pid": bystander.pid, "start_time": 1}, file)
        done = lab("kill", "--name", shared, "sleep")
        assert done.returncode == 1 and "does not run" in done.stderr
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_down_removes_everything(new_name):
    name = new_name()
    lab_ok("up", "--name", name)
    daemon = pid_of(name)
    stubborn = subprocess.Popen([os.path.join(ROOT, "tools/lab"), "exec", "--name", name, "inet", "--",
                                 "sh", "-c", "trap '' TERM INT HUP; echo ready; while :; do sleep 1; done"],
                                stdout=subprocess.PIPE, text=True)
    stubborn.stdout.readline()
    disk = f"{LABS}/{name}/disk"
    os.mkdir(disk)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", disk], check=True)
    lab_ok("down", "--name", name)
    assert stubborn.wait(10) != 0 and not is_running(daemon)
    assert namespaces(name) == [] and not os.path.exists(f"{LABS}/{name}")
    with open("/proc/self/mounts") as mounts:
        assert disk not in mounts.read()


def test_down_half_a_lab_and_no_lab(new_name):
    name = new_name()
    subprocess.run(["ip", "netns", "add", f"{name}-inet"], check=True)
    assert "exists already" in lab("up", "--name", name).stderr
    lab_ok("down", "--name", name)
    assert namespaces(name) == []
    lab_ok("down", "--name", name)


def test_usage_errors():
    assert lab().returncode == 2 and lab("dance").returncode == 2
    assert "is no option here" in lab("up", "--nme", "x").stderr
    assert "is no lab name" in lab("up", "--name", "../x").stderr
    assert "wants a node" in lab("exec", "host").stderr
