"""What must go though a demonstration ended badly: its processes, cgroups, namespaces and folders."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import time
from pathlib import Path

from jfe_cni.demo.hosts import NAMESPACES, ip
from jfe_cni.demo.traces import cgroups, processes

NAME = re.compile(r"jfe-demo-(\d+)")
GONE_SECONDS = 5.0
FOLDERS = Path("/tmp")  # noqa: S108 (folders are made by mkdtemp, 0700)


async def sweep(demo: str) -> None:
    """Takes away all that is left of `demo`; what is gone already does no harm."""
    for line in processes(demo):
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(line.split()[0]), signal.SIGKILL)
    deadline = time.monotonic() + GONE_SECONDS
    # The deepest first: a cgroup goes only when nothing is below it.
    for path in sorted((path for path in cgroups() if demo in path), reverse=True):
        _remove_cgroup(Path(path), deadline)
    for root in {Path(path) for path in cgroups() if Path(path).name == "jfe"}:
        # Another agent's may be below.
        with contextlib.suppress(OSError):
            root.rmdir()
    for namespace in NAMESPACES.glob(f"{demo}-*"):
        await ip("netns", "delete", namespace.name)
    for folder in FOLDERS.glob(f"{demo}-*"):
        # Everybody may make files there: only what is a folder of ours goes, and no link is followed.
        if folder.lstat().st_uid == os.geteuid():
            shutil.rmtree(folder, ignore_errors=True)


async def sweep_the_dead() -> None:
    """Takes away what demonstrations left that were killed before they could do it themselves."""
    found = {NAME.match(path.name) for path in (*NAMESPACES.glob("jfe-demo-*"), *FOLDERS.glob("jfe-demo-*"))}
    for demo in {match.group() for match in found if match and not Path("/proc", match.group(1)).exists()}:
        await sweep(demo)


def _remove_cgroup(path: Path, deadline: float) -> None:
    """cgroup.kill came with Linux 5.14; a cgroup stays busy until its last process is reaped."""
    kill = path / "cgroup.kill"
    with contextlib.suppress(OSError):
        kill.write_text("1")
    while True:
        try:
            path.rmdir()
        except FileNotFoundError:
            return
        except OSError:
            if time.monotonic() > deadline:
                return
            time.sleep(0.02)
        else:
            return
