"""What this host has now, so that what a demonstration leaves behind is seen by comparison."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from pathlib import Path

from jfe_cni.rules.model import DEFAULT_TABLE

# Processes of a demonstration carry this in their environment, with its name as value.
MARK_VARIABLE = "JFE_DEMO"


@dataclass(frozen=True)
class Traces:
    """Each element is one thing as a person would name it: `namespace x`, `cgroup /sys/fs/cgroup/jfe/y`."""

    things: frozenset[str]

    def since(self, before: Traces) -> list[str]:
        return sorted(self.things - before.things)


async def traces(demo: str, files: tuple[Path, ...]) -> Traces:
    """What is of `demo`, or of nobody but us: namespaces, links, tables, policy rules, cgroups, processes, `files`.

    A busy host makes and removes things of its own meanwhile, so only what we could have made is looked at."""
    found = set()
    for kind, command, ours in (
        ("namespace", ("ip", "netns", "list"), demo),
        ("link", ("ip", "-oneline", "link", "show"), "jfe"),
        ("table", ("nft", "list", "tables"), "jfe"),
        ("policy rule", ("ip", "rule", "show"), f"lookup {DEFAULT_TABLE}"),
        ("policy rule (IPv6)", ("ip", "-6", "rule", "show"), f"lookup {DEFAULT_TABLE}"),
    ):
        found |= {f"{kind} {_name(kind, line)}" for line in await _lines(*command) if ours in line}
    found |= {f"cgroup {path}" for path in await asyncio.to_thread(cgroups) if demo in path or _is_unused_root(path)}
    found |= {f"process {line}" for line in await asyncio.to_thread(processes, demo)}
    found |= {f"file {path}" for path in files if path.exists()}
    return Traces(frozenset(found))


def _is_unused_root(cgroup: str) -> bool:
    """Whether it is the cgroup above all of ours, with nothing below it any more."""
    return Path(cgroup).name == "jfe" and not any(path.is_dir() for path in Path(cgroup).glob("*"))


def _name(kind: str, line: str) -> str:
    """What stays the same of a line while the thing it tells of does."""
    words = line.split()
    if kind == "namespace":
        return words[0]
    if kind == "link":
        # `7: eth0@if8: <…>`: state and counters come and go.
        return words[1].rstrip(":").partition("@")[0]
    return " ".join(words)


def cgroups() -> list[str]:
    """Cgroups of ours, on a pure cgroup v2 host and on one that has v1 beside it."""
    found = []
    for root in (Path("/sys/fs/cgroup/jfe"), Path("/sys/fs/cgroup/unified/jfe")):
        if root.is_dir():
            found += [str(root), *(str(path) for path in root.rglob("*") if path.is_dir())]
    return found


def processes(demo: str) -> list[str]:
    """`PID NAME` of each process that `demo` started, however far down."""
    wanted = f"{MARK_VARIABLE}={demo}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            if wanted in (entry / "environ").read_bytes().split(b"\0"):
                found.append(f"{entry.name} {(entry / 'comm').read_text().strip()}")
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            # It ended while it was being looked at, or has closed itself to others.
            continue
    return found


async def _lines(*command: str) -> list[str]:
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    printed, _ = await process.communicate()
    return [line for line in printed.decode(errors="replace").splitlines() if line.strip()]
