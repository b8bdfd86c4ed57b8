"""Rulesets in the kernel: loaded as text, one transaction each, and read back as `nft` prints them.

Text and not JSON, for some hosts' `nft` is built without it. `nft` is started by a thread that has entered the
namespace, which its child is in from the first: no `nsenter` before it, and not `ip netns exec`, which remounts `/sys`
so that no cgroup's path is found.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
from dataclasses import dataclass
from functools import partial

from jfe_cni.errors import CgroupGone, HostError, KernelError
from jfe_cni.kernel.namespace import Namespace, run_inside
from jfe_cni.rules.model import Ruleset

NFT_PACKAGE = "install the package `nftables`"

WORKLOAD_WORDS = re.compile(r"jfe workload ([a-z0-9-]+)")
WORKLOAD_TAG = re.compile(rf'comment "{WORKLOAD_WORDS.pattern}')


@dataclass(frozen=True)
class Table:
    """A table that exists: its family, its name, and the workloads that it is tagged with."""

    family: str
    name: str
    workloads: tuple[str, ...]


class Run:
    """Runs of `nft` one after the other, in the namespace of the thread that asks for them; any thread may `end` them.

    Raises HostError (no root), CgroupGone (a path does not exist), KernelError (all else, and having been ended)."""

    def __init__(self, nft: str) -> None:
        self._nft = nft
        self._ended = False
        self._process: subprocess.Popen[bytes] | None = None

    def load(self, text: str) -> None:
        """All of it or nothing."""
        self(["-f", "-"], text)

    def __call__(self, arguments: list[str], text: str = "") -> str:
        """What it prints."""
        with subprocess.Popen(
            [self._nft, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process:
            self._process = process
            if self._ended:
                process.kill()
            out, err = process.communicate(text.encode())
        if self._ended:
            raise KernelError("nft was ended", "try again")
        if process.returncode != 0:
            said = err.decode(errors="replace").strip()
            # One line a mistake, each with the rule below it and what of it is meant: the first is the cause.
            raise _fault(said.partition("\n")[0] or f"status {process.returncode}")
        return out.decode()

    def end(self) -> None:
        """Killed while loading, nft has either sent its one transaction or has not."""
        self._ended = True
        if self._process is not None:
            self._process.kill()


class Nft:
    """`nft`, found once. HostError where there is none; its errors else are those of `Run`."""

    def __init__(self, nft: str | None = None) -> None:
        self._nft = nft or locate("nft", NFT_PACKAGE)

    def run(self) -> Run:
        """For who is on a thread inside a namespace already."""
        return Run(self._nft)

    async def load(self, ruleset: Ruleset, namespace: Namespace | None = None) -> None:
        """All of `ruleset` or nothing. `namespace` absent: this process's own."""
        await self._run(["-f", "-"], namespace, ruleset.text)

    async def check(self, ruleset: Ruleset, namespace: Namespace | None = None) -> None:
        """Whether `ruleset` would load; nothing is changed."""
        await self._run(["-c", "-f", "-"], namespace, ruleset.text)

    async def listing(self, family: str, table: str, namespace: Namespace | None = None) -> str | None:
        """A table as `nft` prints it, without counters; None where there is none."""
        try:
            return await self._run(["-s", "list", "table", family, table], namespace)
        except KernelError as error:
            if "No such file or directory" in error.message:
                return None
            raise

    async def tables(self, namespace: Namespace | None = None) -> tuple[Table, ...]:
        """The tables of a namespace that are ours, by their names: `jfe` and those that begin with `jfe_`."""
        found = []
        for family, name in await self.names(namespace):
            if name == "jfe" or name.startswith("jfe_"):
                listed = await self.listing(family, name, namespace)
                if listed is not None:
                    found.append(Table(family, name, tuple(sorted(set(WORKLOAD_TAG.findall(listed))))))
        return tuple(found)

    async def names(self, namespace: Namespace | None = None) -> tuple[tuple[str, str], ...]:
        """Every table of a namespace, whoever's: family and name."""
        lines = [line.split() for line in (await self._run(["list", "tables"], namespace)).splitlines()]
        return tuple((family, name) for _, family, name in lines)

    async def _run(self, arguments: list[str], namespace: Namespace | None, text: str = "") -> str:
        run = self.run()
        with Namespace.own() if namespace is None else contextlib.nullcontext(namespace) as here:
            return await run_inside(here, partial(run, arguments, text), run.end)


def locate(program: str, remedy: str) -> str:
    """The path of `program`, also where PATH lacks the folders of root's programs. HostError if it is absent."""
    found = shutil.which(program) or shutil.which(program, path="/usr/sbin:/sbin:/usr/bin:/bin")
    if found is None:
        raise HostError(f"`{program}` is not on this host", remedy)
    return found


def _fault(said: str) -> HostError | CgroupGone | KernelError:
    if "Operation not permitted" in said:
        return HostError(f"nft may not load rules ({said})", "run as root, with CAP_NET_ADMIN")
    if "cgroupv2 path fails" in said:
        return CgroupGone(f"a rule names a cgroup that does not exist ({said})", "see whether its workload still runs")
    return KernelError(f"nft failed: {said}", "see `jfe doctor` for what the kernel must offer")
