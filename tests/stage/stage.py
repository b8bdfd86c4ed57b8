"""The stage: two hosts, a stranger and the link, and what must be gone at the end."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from jfe_cni.agent.objects import Mode
from tests.stage.capture import Capture
from tests.stage.deadline import eventually
from tests.stage.footprint import changes, footprint
from tests.stage.host import Host
from tests.stage.namespace import NetworkNamespace, ip
from tests.stage.place import Place

DEVICE = "eth0"
BRIDGE = "br0"
# RFC 2544 set 198.18.0.0/15 apart for tests between devices, RFC 4193 fd00::/8 for local use.
IPV4 = "198.18.7.{}"
IPV6 = "fd00:7::{}"
NUMBERS = {"a": 10, "b": 20, "stranger": 30}

_counter = itertools.count()


class Stage:
    """Made bare: no agent runs. `close()` (or the end of `with`) takes everything away and tells what was left."""

    def __init__(self) -> None:
        # Short, since it becomes a node's name and part of a Unix socket's path.
        self.name = f"jfe-t{os.getpid()}-{next(_counter)}"
        self.folder = Path(tempfile.mkdtemp(prefix=f"{self.name}-"))
        # Servers that give up root must get at what lies in it.
        self.folder.chmod(0o711)
        self._namespaces: list[NetworkNamespace] = []
        self._captures = itertools.count()
        self.covered = False
        self._last_words: str | None = None
        try:
            self.link = self._namespace("link")
            ip("-n", self.link.name, "link", "add", BRIDGE, "type", "bridge")
            # The link itself says nothing on it.
            self.link.inside(lambda: Path("/proc/sys/net/ipv6/conf/all/disable_ipv6").write_text("1"))
            ip("-n", self.link.name, "link", "set", BRIDGE, "up")
            self.a = self._host("a")
            self.b = self._host("b")
            self.stranger = Place(self._joined("stranger"), self._own_folder("stranger"), *addresses("stranger"))
            self._before = {host: footprint(host) for host in self.hosts}
        except BaseException:
            self._remove()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def hosts(self) -> tuple[Host, Host]:
        return self.a, self.b

    def capture(self, filter: str = "tcp") -> Capture:  # noqa: A002 - tcpdump's own word
        """`with stage.capture() as wire:`; `filter` as pcap-filter(7)."""
        return Capture(self.link, BRIDGE, self.folder / f"link-{next(self._captures)}.pcap", filter)

    def start_agents(self, *options: str) -> None:
        """One after the other: the first makes the authority that both share. `options` are those of `jfe agent`."""
        for host in self.hosts:
            host.start_agent(*options)

    def introduce(self, host: Host, to: Host) -> None:
        """`to` gets to know that `host` is covered, and as whom."""
        to.know(host, identity=host.identity)

    def cover(self, *options: str, mode_a: Mode = "strict", mode_b: Mode = "strict", **settings: Any) -> None:
        """Agents on both, both namespaces enrolled, each in the other's directory; `settings` as `Host.enrol`."""
        self.start_agents(*options)
        for host, mode in zip(self.hosts, (mode_a, mode_b), strict=True):
            host.enrol(mode, **settings)
        self.introduce(self.a, to=self.b)
        self.introduce(self.b, to=self.a)
        self.covered = True

    def diagnosis(self) -> str:
        """For whoever reads a failed test: how to enter, and all logs; once closed, as they were then."""
        if self._last_words is not None:
            return self._last_words
        places = [("host a", self.a), ("host b", self.b), ("stranger", self.stranger)]
        return "\n\n".join(f"== {title} ==\n{place.diagnosis()}" for title, place in places)

    def close(self) -> None:
        """AssertionError where anything was left behind, after it has been taken away."""
        try:
            left = list(self._left_behind())
        finally:
            self._last_words = self.diagnosis()
            self._remove()
        assert not left, "left behind:\n" + "\n".join(left)

    def _left_behind(self) -> Iterator[str]:
        for place in (self.stranger, self.a, self.b):
            place.stop_all()
        for host in self.hosts:
            if host.released:
                yield from (f"{host.name}: {change}" for change in changes(self._before[host], footprint(host)))
                yield from (f"cgroup {path}" for path in host.cgroups())
        with contextlib.suppress(AssertionError):
            # Servers' children end after their parents.
            eventually(lambda: not any(n.processes() for n in self._namespaces), "processes have ended", seconds=5)
        for namespace in self._namespaces:
            yield from (f"process {pid} in {namespace.name}: {it}" for pid, it in namespace.processes().items())

    def _remove(self) -> None:
        for namespace in self._namespaces:
            for pid in namespace.processes():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            eventually(lambda n=namespace: not n.processes(), f"nothing runs in {namespace.name}")  # type: ignore[misc]
        for host in (place for place in (getattr(self, "a", None), getattr(self, "b", None)) if place):
            for path in host.cgroups():
                eventually(lambda p=path: _removed(p), f"the cgroup {path} can be removed")  # type: ignore[misc]
        for namespace in self._namespaces:
            namespace.delete()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _namespace(self, name: str) -> NetworkNamespace:
        namespace = NetworkNamespace(f"{self.name}-{name}")
        self._namespaces.append(namespace)
        return namespace

    def _joined(self, name: str) -> NetworkNamespace:
        """A namespace with both addresses on the link."""
        namespace = self._namespace(name)
        ip(
            *("link", "add", DEVICE, "netns", namespace.name, "type", "veth"),
            *("peer", "name", name, "netns", self.link.name),
        )
        ip("-n", self.link.name, "link", "set", "dev", name, "master", BRIDGE, "up")
        ipv4, ipv6 = addresses(name)
        ip("-n", namespace.name, "address", "add", f"{ipv4}/24", "dev", DEVICE)
        # Addresses are usable at once: nobody else on this link could have them (RFC 4862, section 5.4).
        namespace.inside(lambda: Path("/proc/sys/net/ipv6/conf", DEVICE, "accept_dad").write_text("0"))
        ip("-n", namespace.name, "address", "add", f"{ipv6}/64", "dev", DEVICE, "nodad")
        ip("-n", namespace.name, "link", "set", DEVICE, "up")
        eventually(lambda: _settled(namespace), f"{namespace.name} has its link-local address")
        return namespace

    def _host(self, name: str) -> Host:
        return Host(self._joined(name), self._own_folder(name), *addresses(name), self.folder / "authority")

    def _own_folder(self, name: str) -> Path:
        folder = self.folder / name
        folder.mkdir(mode=0o711)
        return folder


def addresses(name: str) -> tuple[str, str]:
    return IPV4.format(NUMBERS[name]), IPV6.format(NUMBERS[name])


def _settled(namespace: NetworkNamespace) -> bool:
    """The kernel makes a link-local address, and its route, a moment after the link has come up."""
    return "local fe80:" in ip("-n", namespace.name, "-6", "route", "show", "table", "local")


def _removed(cgroup: Path) -> bool:
    with contextlib.suppress(FileNotFoundError):
        try:
            cgroup.rmdir()
        except OSError:
            # Busy until its last process is reaped.
            return False
    return True
