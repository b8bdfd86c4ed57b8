"""Programs that tests put under cover in the host's own namespace: by `jfe run`, or in a cgroup of the test's."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

from jfe_cni.kernel.cgroups import CgroupTree, MadeCgroup
from tests.stage import Host, Process, eventually

# Answers each connection with its peer's address and port, in a line, then with whatever it is sent.
SERVER = """
import socket, sys, threading
def answer(taken, peer):
    with taken:
        taken.sendall(f"{peer[0].removeprefix('::ffff:')} {peer[1]}\\n".encode())
        while part := taken.recv(65536):
            taken.sendall(part)
listener = socket.create_server(("::", int(sys.argv[1])), family=socket.AF_INET6, dualstack_ipv6=True)
while True:
    threading.Thread(target=answer, args=listener.accept(), daemon=True).start()
"""
# Prints the line that the server says, and whether a word comes back.
CLIENT = """
import socket, sys
address, port, word = sys.argv[1], int(sys.argv[2]), sys.argv[3].encode()
with socket.create_connection((address, port), 30) as talk:
    lines = talk.makefile("rb")
    print(lines.readline().decode().split()[0])
    talk.sendall(word)
    talk.shutdown(socket.SHUT_WR)
    sys.exit(0 if lines.read() == word else 9)
"""
# Listens, and gives the socket to a child that alone enters the cgroup: what systemd does for a socket unit.
ACTIVATED = """
import os, sys
port, procs = sys.argv[1:3]
import socket
listener = socket.create_server(("::", int(port)), family=socket.AF_INET6, dualstack_ipv6=True)
open(procs, "w").write(str(os.getpid()))
os.set_inheritable(listener.fileno(), True)
os.execv(sys.executable, [sys.executable, "-c", sys.argv[3], str(listener.fileno())])
"""
ACTIVATED_SERVER = """
import contextlib, socket, sys
listener = socket.socket(fileno=int(sys.argv[1]))
while True:
    taken, peer = listener.accept()
    with taken, contextlib.suppress(OSError):
        taken.sendall(f"{peer[0].removeprefix('::ffff:')} {peer[1]}\\n".encode())
        while part := taken.recv(65536):
            taken.sendall(part)
"""


def jfe(*words: str) -> list[str]:
    return [sys.executable, "-m", "jfe_cni.cli.main", *words]


def jfe_run(host: Host, name: str, *command: str, mode: str = "strict") -> list[str]:
    """As a person types it, with the host's agent."""
    return jfe("run", "--socket", str(host.socket_path), "--mode", mode, "--name", name, "--", *command)


def client(address: str, port: int, word: str = "word") -> list[str]:
    return [sys.executable, "-c", CLIENT, address, str(port), word]


def speaker(address: str, port: int, word: str) -> list[str]:
    """Says the word first, and fails where it does not come back."""
    script = (
        "import socket, sys; s = socket.create_connection((sys.argv[1], int(sys.argv[2])), 30);"
        "w = sys.argv[3].encode(); s.sendall(w); sys.exit(0 if s.recv(len(w), socket.MSG_WAITALL) == w else 9)"
    )
    return [sys.executable, "-c", script, address, str(port), word]


def identity(host: Host, name: str) -> str:
    return f"spiffe://jfe.test/host/{host.name}/run/{name}"


@contextlib.contextmanager
def served(host: Host, name: str, port: int, *, mode: str = "strict") -> Iterator[Process]:
    """The server under `jfe run`, once its listener is known to the agent; released at the end."""
    command = jfe_run(host, name, sys.executable, "-c", SERVER, str(port), mode=mode)
    process = host.spawn(command, ready=port, name=f"run-{name}")
    eventually(lambda: knows(host, name, port), f"the agent of {host.name} knows that {name} listens on {port}")
    yield process
    process.stop()


def knows(host: Host, name: str, port: int) -> bool:
    entries = host.ask(lambda agent: agent.directory())
    return any(
        each.port == port and each.source == "own" and (each.identity or "").endswith(f"/{name}") for each in entries
    )


@contextlib.contextmanager
def cgroup(host: Host, name: str) -> Iterator[MadeCgroup]:
    """`jfe/NODE/NAME`, and at the end nothing of it, nor in it."""
    made = CgroupTree.found().create(f"jfe/{host.name}/{name}")
    try:
        yield made
    finally:
        made.kill()
        made.remove()


def within(made: MadeCgroup, *command: str) -> list[str]:
    """The command, started in that cgroup."""
    return ["sh", "-c", f'echo $$ > {made.procs}; exec "$@"', "sh", *command]
