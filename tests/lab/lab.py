"""A lab of network namespaces as tests use it.

Processes are driven through tools/lab, as a person would. Test traffic does not need processes: a
socket belongs for ever to the namespace its maker was in, so `Node.udp_socket()` enters the
namespace, makes the socket and comes back.
"""

import contextlib
import ctypes
import itertools
import json
import os
import pathlib
import re
import select
import socket
import subprocess
import threading
import time
from socket import AF_INET, AF_INET6

import pcp

ROOT = pathlib.Path(__file__).resolve().parents[2]
TOOL = ROOT / "tools" / "lab"
LABS = pathlib.Path("/run/holdfast-lab")

GATEWAY = "10.77.0.1"
EXTERNAL = "203.0.113.1"
INET = "203.0.113.100"
ADDRESSES = {"gw": GATEWAY, "host": "10.77.0.2", "host2": "10.77.0.3", "inet": INET}
INET6 = "2001:db8:77::100"
ADDRESSES6 = {"gw": "fd77::1", "host": "fd77::2", "host2": "fd77::3", "inet": INET6}
PROTOCOL_NAMES = {
    pcp.ALL: "all",
    pcp.ICMP: "ICMP",
    pcp.TCP: "TCP",
    pcp.UDP: "UDP",
    pcp.DCCP: "DCCP",
    pcp.ICMPV6: "ICMPv6",
    pcp.SCTP: "SCTP",
    pcp.UDPLITE: "UDPLITE",
}

# Short lifetimes, a quota and a rate out of the way; tests that want something else say so.
SERVER_SETTINGS = {
    "inside-interfaces": ["lan0"],
    "outside-interface": "wan0",
    "masquerade": True,
    "lifetime-min": 1,
    "mappings-per-subscriber": 10000,
    "request-rate": 0,
}

CLONE_NEWNET = 0x40000000
libc = ctypes.CDLL(None, use_errno=True)
serial = itertools.count()


@contextlib.contextmanager
def network_namespace(name):
    """The calling thread is in the namespace while the block runs."""
    with open("/proc/thread-self/ns/net") as home, open(f"/run/netns/{name}") as away:
        enter(away)
        try:
            yield
        finally:
            enter(home)


def enter(file):
    if libc.setns(file.fileno(), CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def wait_for(condition, timeout=10.0, what="condition"):
    """The first true value of `condition()`, asked again and again until the deadline."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not come true within {timeout} s")
        time.sleep(0.02)


def setting_text(value):
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):
        return f'"{value}"'
    return "{" + ", ".join(setting_text(item) for item in value) + "}"


def configuration(top=None, **server):
    """A holdfastd.conf; underscores in names stand for hyphens, None leaves a setting out.

    `statics`: name -> settings of a section `static`.
    """
    statics = server.pop("statics", {})
    lines = [f"{name} = {setting_text(value)}" for name, value in (top or {}).items()]
    settings = dict(SERVER_SETTINGS)
    settings.update({name.replace("_", "-"): value for name, value in server.items()})
    lines.append("server {")
    lines += [f"    {n} = {setting_text(v)}" for n, v in settings.items() if v is not None]
    lines.append("}")
    for name, static in statics.items():
        lines.append(f"static {name} {{")
        lines += [f"    {n.replace('_', '-')} = {setting_text(v)}" for n, v in static.items()]
        lines.append("}")
    return "\n".join(lines) + "\n"


class Node:
    def __init__(self, lab, name):
        self.lab = lab
        self.name = name
        self.namespace = f"{lab.name}-{name}"
        self.address = ADDRESSES[name]
        self.address6 = ADDRESSES6[name]

    def socket(self, kind, family=AF_INET):
        with network_namespace(self.namespace):
            return socket.socket(family, kind)

    def socket_address(self, address, port):
        """What bind() and sendto() take; an interface behind a `%` is looked up in the node."""
        with network_namespace(self.namespace):
            return socket.getaddrinfo(address, port, flags=socket.AI_NUMERICHOST)[0][4]

    def udp_socket(self, bound=("", 0), family=None):
        family = family or (AF_INET6 if ":" in bound[0] else AF_INET)
        new = self.socket(socket.SOCK_DGRAM, family)
        new.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        new.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        if family == AF_INET6:
            new.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        new.bind(bound)
        return new

    def tcp_listener(self, port, family=AF_INET):
        new = self.socket(socket.SOCK_STREAM, family)
        new.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        new.bind(("", port))
        new.listen(16)
        new.settimeout(5.0)
        return new

    def tcp_connect(self, target, timeout=3.0, port=0):
        """A connected socket; OSError when nobody answers in time."""
        family = AF_INET6 if ":" in target[0] else AF_INET
        new = self.socket(socket.SOCK_STREAM, family)
        new.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        new.settimeout(timeout)
        try:
            if port:
                new.bind(("", port))
            new.connect(target)
        except OSError:
            new.close()
            raise
        return new

    def link_local(self):
        """Its link-local address on eth0 (lan0 at the gateway), with the interface."""
        device = "lan0" if self.name == "gw" else "eth0"
        done = self.run("ip", "-j", "-6", "address", "show", "dev", device, "scope", "link")
        addresses = [each for link in json.loads(done.stdout) for each in link.get("addr_info", [])]
        return next(each["local"] for each in addresses if "local" in each) + "%" + device

    def ip(self, *words):
        self.run("ip", *words)

    def run(self, *command, check=True, **options):
        """A command in the node through `tools/lab exec`."""
        return self.lab.tool("exec", self.name, "--", *command, check=check, **options)

    def client(self, address=None):
        return pcp.Client(self, address_=address)

    def client6(self):
        return self.client(self.address6)


class Lab:
    def __init__(self, prefix="hft"):
        self.name = f"{prefix}{os.getpid()}x{next(serial)}"
        self.folder = LABS / self.name
        self.host, self.host2 = Node(self, "host"), Node(self, "host2")
        self.gateway, self.inet = Node(self, "gw"), Node(self, "inet")
        self.config_path = self.folder / "holdfastd.conf"
        self.log_path = self.folder / "logs" / "holdfastd@gw.log"
        self.state = self.folder / "state"
        self.is_up = False

    def tool(self, command, *arguments, check=True, timeout=60, **options):
        done = subprocess.run(
            [str(TOOL), command, "--name", self.name, *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            **options,
        )
        if check and done.returncode != 0:
            raise AssertionError(f"{command} {arguments}: {done.returncode}\n{done.stderr}")
        return done

    # ---- life

    def up(self, config):
        path = pathlib.Path(f"/tmp/{self.name}.conf")
        path.write_text(config)
        try:
            self.tool("up", "--config", path, timeout=300)
        finally:
            path.unlink()
        self.is_up = True
        return self

    def down(self):
        self.tool("down")
        self.is_up = False

    def start(self, *arguments, check=True):
        program = ["holdfastd", *arguments] if arguments else []
        return self.tool("start", *program, check=check)

    def stop(self):
        self.tool("stop")

    def kill(self):
        self.tool("kill")

    def pid(self):
        """The daemon's pid as tools/lab noted it; None when it does not run."""
        try:
            noted = json.loads((self.folder / "pids" / "holdfastd@gw").read_text())
            os.kill(noted["pid"], 0)
        except (OSError, ValueError):
            return None
        return noted["pid"]

    def log(self):
        try:
            return self.log_path.read_text(errors="replace")
        except OSError:
            return ""

    def build_folder(self):
        return pathlib.Path((self.folder / "build").read_text())

    def reconfigure(self, config):
        """Replaces the configuration file, the lab's own places kept in front of line 1."""
        own = re.match(r'(?:(?:state-directory|control-socket) = "[^"]*" )*', self.config_text())
        self.config_path.write_text(own.group(0) + config)

    def config_text(self):
        return self.config_path.read_text()

    # ---- what the daemon says

    def ctl(self, *arguments, check=True):
        return self.gateway.run("holdfastctl", *arguments, check=check)

    def ctl_json(self, *arguments):
        return json.loads(self.ctl("--json", *arguments).stdout)

    def mappings(self, **filters):
        words = [f"--{name.replace('_', '-')}={value}" for name, value in filters.items()]
        return self.ctl_json("list", *words)["mappings"]

    def mapping(self, protocol, internal, kind=None):
        """The one listed mapping of an internal endpoint ("address:port"), or None.

        PEER mappings are only looked at when they are asked for, as there may be several.
        """
        name = PROTOCOL_NAMES[protocol]
        found = [
            m
            for m in self.mappings()
            if m["internal"] == internal
            and m["protocol"] == name
            and (m["kind"] == kind if kind else m["kind"] != "PEER")
        ]
        assert len(found) <= 1, found
        return found[0] if found else None

    def status(self):
        return self.ctl_json("status")

    # ---- what the kernel says

    def nft(self, *words, check=True):
        """nft(8) in the gateway, an independent reader."""
        command = ["ip", "netns", "exec", self.gateway.namespace, "nft", *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
        if check and done.returncode != 0:
            raise AssertionError(f"{words}: {done.stderr}")
        return done

    def kernel_table(self):
        """Name -> list of (key, data, expires) of the sets and maps of our table; {} without it."""
        done = self.nft("-j", "list", "table", "inet", "holdfast", check=False)
        if done.returncode != 0:
            return {}
        sets = {}
        for entry in json.loads(done.stdout)["nftables"]:
            for kind in ("set", "map"):
                if kind in entry:
                    elements = entry[kind].get("elem", [])
                    sets[entry[kind]["name"]] = [read_element(kind, e) for e in elements]
        return sets

    def kernel_mappings(self):
        """(protocol, external endpoint) -> (internal endpoint, expires) of the inbound map."""
        return {
            (key[0].upper(), f"{key[1]}:{key[2]}"): (f"{data[0]}:{data[1]}", expires)
            for key, data, expires in self.kernel_table().get("map4", [])
        }

    def assert_kernel_equals_list(self):
        """Every listed mapping is in the kernel, in every set it belongs to, and nothing else is.

        Gives (protocol, external endpoint) -> internal endpoint of the inbound map of ports.
        """
        expected = {name: {} for name in MAPPING_SETS}
        for mapping in self.mappings():
            for name, (key, data) in elements_of(mapping).items():
                expected[name][key] = data
        table = self.kernel_table()
        found = {
            name: {comparable(key): comparable(data) for key, data, _ in table[name]}
            for name in MAPPING_SETS
        }
        assert found == expected
        return {
            (key[0].upper(), f"{key[1]}:{key[2]}"): f"{data[0]}:{data[1]}"
            for key, data, _ in table["map4"]
        }

    def conntrack(self, *words):
        return self.gateway.run("conntrack", *words, check=False)


MAPPING_SETS = [
    role + scope
    for role in ("map4", "rev4", "live4", "live6")
    for scope in ("", "_peer", "_proto", "_all")
]


def split_endpoint(text):
    address, port = text.rsplit(":", 1)
    return address.strip("[]"), int(port)


def protocol_number(name):
    for number, known in PROTOCOL_NAMES.items():
        if known.lower() == str(name).lower():
            return number
    known = {"ipv6-icmp": pcp.ICMPV6, "gre": 47, "esp": 50, "ah": 51}
    return known.get(name) or int(name)


def comparable(key):
    """Protocols as numbers: nft(8) writes some by name and some not."""
    if not isinstance(key, tuple):
        return key
    is_protocol = "." not in str(key[0]) and ":" not in str(key[0])
    return (protocol_number(key[0]), *key[1:]) if is_protocol else key


def elements_of(mapping):
    """Set name -> (key, data) of the elements a listed mapping has, filters aside."""
    protocol = protocol_number(mapping["protocol"])
    internal, external = (split_endpoint(mapping[side]) for side in ("internal", "external"))
    remote = split_endpoint(mapping["remote"]) if mapping["kind"] == "PEER" else ()
    if remote:
        scope = "_peer"
    elif internal[1] != 0:
        scope = ""
    else:
        scope = "_proto" if protocol else "_all"
    whole = internal[1] == 0

    def key(endpoint):
        if whole:
            return (protocol, endpoint[0]) if protocol else endpoint[0]
        return (protocol, *endpoint, *remote)

    def data(endpoint):
        return endpoint[0] if whole else endpoint

    if ":" in internal[0]:
        return {f"live6{scope}": (key(internal), None)}
    return {
        f"map4{scope}": (key(external), data(internal)),
        f"rev4{scope}": (key(internal), data(external)),
        f"live4{scope}": (key(internal), None),
    }


def read_element(kind, element):
    key, data = element if kind == "map" else (element, None)
    expires = None
    if isinstance(key, dict) and "elem" in key:
        expires = key["elem"].get("expires")
        key = key["elem"]["val"]
    return plain(key), plain(data), expires


def plain(value):
    if isinstance(value, dict) and "concat" in value:
        return tuple(plain(item) for item in value["concat"])
    if isinstance(value, dict) and "prefix" in value:
        return (value["prefix"]["addr"], value["prefix"]["len"])
    return value


# ---- traffic


class UdpFlow:
    """Datagrams from `sender` to `target` that must, or must not, come out at `receiver`."""

    def __init__(self, sender, target, receiver):
        self.sender, self.target, self.receiver = sender, target, receiver
        self.serial = itertools.count()

    def passes(self, timeout=3.0):
        """The source as the receiver saw it, or None when nothing came through in time."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            token = f"{id(self)}-{next(self.serial)}".encode()
            self.sender.sendto(token, self.target)
            end = time.monotonic() + 0.2
            while (left := end - time.monotonic()) > 0:
                if not select.select([self.receiver], [], [], left)[0]:
                    break
                data, source = self.receiver.recvfrom(2048)
                if data == token:
                    return source[:2]
        return None

    def is_blocked(self, tries=3):
        """Several datagrams, none of which arrives although each had time to."""
        token = f"{id(self)}-blocked".encode()
        for _ in range(tries):
            self.sender.sendto(token, self.target)
            end = time.monotonic() + 0.1
            while (left := end - time.monotonic()) > 0:
                if not select.select([self.receiver], [], [], left)[0]:
                    break
                if self.receiver.recvfrom(2048)[0] == token:
                    return False
        return True


class Transfer:
    """A TCP stream through the gateway that runs until told to end.

    The server is in `host`, the reader outside; every octet is counted and checked by its value.
    """

    CHUNK = bytes(range(256)) * 64

    def __init__(self, listener, connect):
        self.ending = threading.Event()
        self.sent = 0
        self.received = 0
        self.error = None
        self.threads = [
            threading.Thread(target=self.serve, args=(listener,), daemon=True),
            threading.Thread(target=self.read, args=(connect,), daemon=True),
        ]
        for thread in self.threads:
            thread.start()

    def serve(self, listener):
        try:
            with listener.accept()[0] as stream:
                stream.settimeout(10.0)
                while not self.ending.is_set():
                    stream.sendall(self.CHUNK)
                    self.sent += len(self.CHUNK)
                    self.ending.wait(0.005)
        except OSError as error:
            self.error = self.error or error

    def read(self, connect):
        try:
            with connect() as stream:
                while data := stream.recv(65536):
                    offset = self.received % 256
                    expected = self.CHUNK[offset:] + self.CHUNK * (len(data) // len(self.CHUNK) + 1)
                    if data != expected[: len(data)]:
                        raise OSError("octets changed on the way")
                    self.received += len(data)
        except OSError as error:
            self.error = self.error or error

    def assert_progress(self, octets=200_000):
        goal = self.received + octets
        wait_for(lambda: self.error or self.received >= goal, what="progress of the transfer")
        assert self.error is None, self.error

    def finish(self):
        self.ending.set()
        for thread in self.threads:
            thread.join(10.0)
            assert not thread.is_alive()
        assert self.error is None, self.error
        assert self.received == self.sent
