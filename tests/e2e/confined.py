"""A program of host b in a cgroup of its own, as root or as nobody with the capability that containers get."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from typing import Literal

from jfe_cni.agent.objects import Target
from jfe_cni.kernel.cgroups import CgroupTree, MadeCgroup
from tests.stage import Process, Stage

Shape = Literal["bare", "namespace", "host"]
# What the programs of the tests find. Numbers that no module of Python's has are from the headers that are named.
PREAMBLE = """
import ctypes, json, os, socket, struct, sys, threading, time
given = json.loads(sys.argv[1])
here, there, port, words = given["here"], given["there"], given["port"], given["words"].encode()
FAMILY = socket.AF_INET6 if ":" in there else socket.AF_INET
# linux/in.h IP_TRANSPARENT, linux/in6.h IPV6_TRANSPARENT, asm-generic/socket.h SO_MARK, linux/in.h IPPROTO_MPTCP
TRANSPARENT = (socket.IPPROTO_IPV6, 75) if FAMILY == socket.AF_INET6 else (socket.SOL_IP, 19)
SO_MARK, IPPROTO_MPTCP = 36, 262
def become_nobody():
    # CAP_NET_RAW alone is kept, as Docker gives it to every container (capabilities(7), prctl(2)).
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(8, 1, 0, 0, 0)
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
    sets = (ctypes.c_uint32 * 6)(*(1 << 13,) * 2, *(0,) * 4)
    if libc.capset((ctypes.c_uint32 * 2)(0x20080522, 0), sets):
        raise OSError(ctypes.get_errno(), "capset")
def stream(protocol=0):
    made = socket.socket(FAMILY, socket.SOCK_STREAM, protocol)
    made.settimeout(given["patience"])
    return made
def speak(caller):
    # All of it is tried, whatever comes of it: the capture is what judges.
    try:
        caller.connect((there, port)); caller.sendall(words); caller.recv(100)
    except OSError as error:
        print(type(error).__name__, flush=True)
    caller.close()
"""


class Confined:
    """`shape` says how host b is under cover: not at all, whole, or this cgroup of it alone."""

    def __init__(self, stage: Stage, cgroup: MadeCgroup, shape: Shape) -> None:
        self.stage = stage
        self.shape = shape
        self.cgroup = cgroup

    @property
    def covered(self) -> bool:
        return self.shape != "bare"

    def command(self, code: str, *, there: str, port: int, words: bytes = b"", patience: float = 10) -> list[str]:
        """`code` follows PREAMBLE; it finds `here`, `there` (the same IP version), `port` and `words`."""
        return [*self.enter, *self.beside(code, there=there, port=port, words=words, patience=patience)]

    def beside(self, code: str, *, there: str, port: int, words: bytes = b"", patience: float = 10) -> list[str]:
        """The same for a program of host b that is not of this cgroup."""
        host = self.stage.b
        given = {"here": host.address(6 if ":" in there else 4), "there": there, "port": port}
        given |= {"words": words.decode(), "patience": patience}
        whole = PREAMBLE + textwrap.dedent(code)
        return [sys.executable, "-I", "-u", "-c", whole, json.dumps(given)]

    @property
    def enter(self) -> list[str]:
        return ["sh", "-c", 'echo 0 > "$0" && exec "$@"', str(self.cgroup.procs)]

    def run(
        self, code: str, *, there: str, port: int, words: bytes, patience: float = 10
    ) -> subprocess.CompletedProcess[bytes]:
        return self.stage.b.run(self.command(code, there=there, port=port, words=words, patience=patience))

    def start(self, code: str, *, there: str, port: int, words: bytes = b"", patience: float = 10) -> Process:
        """Runs on; it has said that it is ready."""
        command = self.command(code, there=there, port=port, words=words, patience=patience)
        process = self.stage.b.spawn(command, name="confined")
        process.says("ready")
        return process

    def cover(self, *options: str) -> None:
        """Host a whole, and b by `shape`; each knows the other."""
        for host in self.stage.hosts:
            host.start_agent(*options)
        self.stage.a.enrol("strict")
        self.enrol()
        self.stage.introduce(self.stage.a, to=self.stage.b)
        self.stage.introduce(self.stage.b, to=self.stage.a)
        self.stage.covered = True

    def enrol(self) -> None:
        b = self.stage.b
        target = Target("cgroup", str(self.cgroup.path)) if self.shape == "host" else None
        b.enrol("strict", target=target, identity=b.identity)


@contextlib.contextmanager
def confined(shape: Shape, *options: str) -> Iterator[Confined]:
    """A stage of its own; `options` are those of `jfe agent`. What has not ended by itself is ended."""
    with Stage() as stage:
        cgroup = CgroupTree.found().create(f"jfe-test/{stage.name}")
        try:
            made = Confined(stage, cgroup, shape)
            if made.covered:
                made.cover(*options)
            yield made
        except BaseException:
            print(stage.diagnosis())
            raise
        finally:
            stage.b.stop_all()
            cgroup.kill()
            cgroup.remove()
