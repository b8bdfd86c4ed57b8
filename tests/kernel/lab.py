"""Throw-away hosts for the tests: namespaces joined by a link, programs started in them, what passes on the link."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from jfe_cni.kernel.cgroups import CgroupTree, MadeCgroup
from jfe_cni.kernel.forms import Form, Forms
from jfe_cni.kernel.namespace import Namespace
from jfe_cni.kernel.nft import Nft, Run
from jfe_cni.rules.model import Cgroup, Exemption, Mark, Mode, NamespaceIntent

HERE = Path(__file__).parent
MARK = Mark()
PATIENCE = 10.0
INVERTED = bytes(255 - byte for byte in range(256))

PREAMBLE = f"""
import errno, os, socket, struct, sys, threading, time
INVERTED = bytes(255 - byte for byte in range(256))
PATIENCE = {PATIENCE}
def family(address):
    return socket.AF_INET6 if ":" in address else socket.AF_INET
def open_socket(address):
    opened = socket.socket(family(address)); opened.settimeout(PATIENCE); return opened
def told(*words):
    print(*words, flush=True)
"""

ECHO = """
# Answers each message with the address that it came from and the message.
both = {"dualstack_ipv6": True} if address == "::" else {}
listener = socket.create_server((address, port), family=family(address), backlog=512, **both)
told("ready")
def answer(connection, peer):
    try:
        while data := connection.recv(65536):
            connection.sendall((peer[0].encode() + b" ").translate(table) + data)
    except OSError:
        pass
    connection.close()
while True:
    threading.Thread(target=answer, args=listener.accept(), daemon=True).start()
"""

CLOSE_FIRST = """
# Answers one message a connection, inverted or not, closes first, and so keeps TIME_WAIT; says each caller's port.
listener = socket.create_server((address, port), family=family(address))
told("ready")
while True:
    connection, caller = listener.accept()
    told(caller[1]); connection.sendall(connection.recv(100)); connection.close()
"""

CALL_FROM_ONE_PORT = """
for _ in range(turns):
    caller = open_socket(address); caller.settimeout(patience)
    caller.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); caller.bind(("", 4444))
    try:
        while True:
            try:
                caller.connect((address, port)); break
            except OSError as error:
                # While the last ACK of the turn before is under way, both ends' addresses and ports are taken.
                if error.errno != errno.EADDRNOTAVAIL:
                    raise
                time.sleep(0.01)
        caller.sendall(message)
        heard = caller.recv(100); told(heard == message and caller.recv(100) == b"")
    except OSError as error:
        told(type(error).__name__)
    caller.close()
"""

ASK = """
asker = open_socket(address)
try:
    exec(before)
    asker.connect((address, port)); asker.sendall(message); told(repr(asker.recv(65536)))
except OSError as error:
    told(type(error).__name__)
"""

REFUSED = "ConnectionRefusedError"
RESET = "ConnectionResetError"
ABORTED = "ConnectionAbortedError"
TIMEOUT = "TimeoutError"


@dataclass
class Host:
    """A network namespace: `name` as `ip netns` knows it, its device, its addresses."""

    name: str
    device: str
    ipv4: str
    ipv6: str
    children: list[subprocess.Popen[str]] = field(default_factory=list)

    @property
    def path(self) -> Path:
        return Path("/run/netns") / self.name

    @property
    def enter(self) -> str:
        """The command that brings a person here, for failures."""
        return f"nsenter --net={self.path}"

    def open(self) -> Namespace:
        return Namespace.open_path(self.path)

    def command(self, *words: str) -> str:
        """Run a program here to its end; what it printed."""
        done = subprocess.run(
            ["nsenter", f"--net={self.path}", "--", *words], check=False, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, f"{self.enter} -- {' '.join(words)}: {done.stdout}{done.stderr}"
        return done.stdout

    def start(self, *words: str, cgroup: MadeCgroup | None = None) -> subprocess.Popen[str]:
        """Start a program here, in `cgroup` if one is given; it is ended with the test."""
        join = ["sh", "-c", 'echo 0 > "$0" && exec "$@"', str(cgroup.procs)] if cgroup else []
        process = subprocess.Popen(
            ["nsenter", f"--net={self.path}", "--", *join, *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.children.append(process)
        return process

    def python(self, code: str, *, cgroup: MadeCgroup | None = None, **names: object) -> subprocess.Popen[str]:
        """Start Python `code` here; `names` are its variables."""
        given = "".join(f"{name} = {value!r}\n" for name, value in names.items())
        return self.start(sys.executable, "-I", "-u", "-c", PREAMBLE + given + textwrap.dedent(code), cgroup=cgroup)

    def run(self, code: str, *, cgroup: MadeCgroup | None = None, **names: object) -> str:
        """Run Python `code` here to its end; what it printed."""
        process = self.python(code, cgroup=cgroup, **names)
        out, _ = process.communicate(timeout=60)
        return out.strip()

    def echo(
        self, address: str, port: int, *, inverted: bool = False, cgroup: MadeCgroup | None = None
    ) -> subprocess.Popen[str]:
        """A server; `inverted` speaks as the wire side of the stand-in does."""
        table = INVERTED if inverted else bytes(range(256))
        return ready(self.python(ECHO, cgroup=cgroup, address=address, port=port, table=table))

    def ask(
        self, address: str, port: int, message: bytes, *, before: str = "pass", cgroup: MadeCgroup | None = None
    ) -> bytes | str:
        """One question: the answer, or the name of the error. `before` is done with `asker` before it connects."""
        out = self.run(ASK, cgroup=cgroup, address=address, port=port, message=message, before=before)
        return bytes(eval(out)) if out.startswith("b") else out

    def rules(self) -> str:
        return self.command("nft", "-s", "list", "ruleset")

    def state(self) -> str:
        """What an enrolment may change here, as text."""
        sysctls = ("net.ipv4.tcp_fwmark_accept", "net.ipv4.fwmark_reflect", "net.ipv6.fwmark_reflect")
        return "\n".join(
            [
                self.rules(),
                *(self.command("ip", version, "rule") for version in ("-4", "-6")),
                *(self.command("ip", version, "route", "show", "table", "all") for version in ("-4", "-6")),
                self.command("sysctl", *sysctls),
                self.command("ip", "-o", "link", "show", "lo"),
            ]
        )


@dataclass
class Listeners:
    """The ports of the upgrader's listeners."""

    outbound: int
    inbound: int


@dataclass
class StandIn(Listeners):
    """The stand-in for the upgrader, running."""

    process: subprocess.Popen[str]

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


@dataclass
class Upgrader:
    """Its cgroup, and how rules name it."""

    made: MadeCgroup
    exemption: Exemption

    def start(self, host: Host, *, outbound: int = 0, inbound: int = 0) -> StandIn:
        process = host.start(
            sys.executable,
            str(HERE / "stand_in_upgrader.py"),
            f"--cgroup={self.made.path}",
            f"--mark={MARK.bit:#x}",
            f"--outbound-port={outbound}",
            f"--inbound-port={inbound}",
        )
        ports = json.loads(first_line(process))
        return StandIn(ports["outbound"], ports["inbound"], process)

    def intent(self, listeners: Listeners, mode: Mode = Mode.STRICT, **more: object) -> NamespaceIntent:
        return NamespaceIntent(
            "w1",
            MARK,
            listeners.outbound,
            listeners.inbound,
            True,
            mode,
            self.exemption,
            **more,  # type: ignore[arg-type]
        )


class CountedNft(Nft):
    """`nft`, and how many rulesets it was given to load."""

    def __init__(self) -> None:
        super().__init__()
        self.loads = 0

    def run(self) -> Run:
        return _CountedRun(self, self._nft)


class _CountedRun(Run):
    def __init__(self, counted: CountedNft, nft: str) -> None:
        super().__init__(nft)
        self._counted = counted

    def load(self, text: str) -> None:
        self._counted.loads += 1
        super().load(text)


class NoForms(Forms):
    """`nft` loads each ruleset."""

    def find(self, key: str, make: Callable[[], Form]) -> None:
        return None


def first_line(process: subprocess.Popen[str]) -> str:
    """What a program says when it is ready."""
    assert process.stdout is not None
    line = process.stdout.readline().strip()
    assert line, f"it ended with status {process.wait()} before it was ready"
    return line


def ready(process: subprocess.Popen[str]) -> subprocess.Popen[str]:
    assert first_line(process) == "ready"
    return process


def until(holds: Callable[[], bool], what: str) -> None:
    """Wait for what must come in the end."""
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


@dataclass
class Capture:
    """What passes at a device, to be searched for clear text."""

    process: subprocess.Popen[bytes]
    file: Path
    fence: Callable[[], None]

    def payload(self) -> bytes:
        """All bytes seen so far. A marker datagram sent last has been seen first, so nothing is missed."""
        self.fence()
        until(lambda: FENCE in self.file.read_bytes(), "the capture does not see the marker")
        return self.file.read_bytes()


FENCE = b"the-capture-has-come-this-far"


@contextlib.contextmanager
def capture(at: Host, sender: Host, file: Path) -> Iterator[Capture]:
    """Everything that reaches the device of `at`, which is the far end of the link of `sender`."""
    process = subprocess.Popen(
        ["nsenter", f"--net={at.path}", "--", "tcpdump", "-i", at.device, "-U", "-Z", "root", "-w", str(file)],
        stderr=subprocess.PIPE,
    )
    try:
        assert process.stderr is not None
        said = process.stderr.readline()
        while b"listening on" not in said:
            assert said, f"tcpdump ended with status {process.wait()}"
            said = process.stderr.readline()

        def fence() -> None:
            sender.run(
                "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(word, (address, 9))",
                word=FENCE,
                address=at.ipv4,
            )

        yield Capture(process, file, fence)
    finally:
        process.terminate()
        process.wait()
        assert process.stderr is not None
        process.stderr.close()


@contextlib.contextmanager
def hosts(count: int = 2) -> Iterator[list[Host]]:
    """Namespaces on one link (two: a veth pair), IPv4 and IPv6, gone afterwards with all that runs in them."""
    names = ("pod", "peer")[:count]
    unique = f"{os.getpid():x}-{next(_serial)}"
    made = [
        Host(f"jfe-{name}-{unique}", "eth0", f"10.99.0.{number}", f"fd99::{number}")
        for number, name in enumerate(names, 1)
    ]
    try:
        for host in made:
            _ip("netns", "add", host.name)
            host.command("ip", "link", "set", "lo", "up")
            # Link-local addresses at once, too, so that no route appears in the middle of a test.
            host.command("sysctl", "-qw", "net.ipv6.conf.default.accept_dad=0")
        ends = [word for host in made for word in ("netns", host.name)]
        _ip("link", "add", "eth0", *ends[:2], "type", "veth", "peer", "name", "eth0", *ends[2:])
        for host in made:
            host.command("ip", "address", "add", f"{host.ipv4}/24", "dev", "eth0")
            host.command("ip", "address", "add", f"{host.ipv6}/64", "dev", "eth0", "nodad")
            host.command("ip", "link", "set", "eth0", "up")
        yield made
    finally:
        for host in made:
            end(host)
            subprocess.run(["ip", "netns", "delete", host.name], check=False, stderr=subprocess.DEVNULL)


def end(host: Host) -> None:
    """End what was started in it."""
    for process in host.children:
        process.kill()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()
        process.wait()
    host.children.clear()


def _count() -> Iterator[int]:
    number = 0
    while True:
        yield number
        number += 1


_serial = _count()


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, timeout=60)


def own_tree() -> CgroupTree:
    return CgroupTree.found()


def named(tree: CgroupTree, made: MadeCgroup) -> Cgroup:
    return tree.cgroup(str(made.path))
