"""Rulesets in the kernel: loaded as text, one transaction each, and read back as `nft` prints them.

Text and not JSON, for some hosts' `nft` is built without it; `nsenter --net` and not `ip netns exec`, which remounts
`/sys` so that no cgroup's path is found.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import shutil
from dataclasses import dataclass

from jfe_cni.errors import CgroupGone, HostError, KernelError, NamespaceGone
from jfe_cni.kernel.namespace import Namespace
from jfe_cni.rules.model import Ruleset

NFT_PACKAGE = "install the package `nftables`"
NSENTER_PACKAGE = "install the package `util-linux`"

TABLE_COMMENT = re.compile(r'^\tcomment "([^"]*)"$', re.MULTILINE)
WORKLOAD_WORDS = re.compile(r"jfe workload ([a-z0-9-]+)")
WORKLOAD_TAG = re.compile(rf'comment "{WORKLOAD_WORDS.pattern}')


@dataclass(frozen=True)
class Table:
    """A table that exists: its family, its name, and the workloads that it is tagged with."""

    family: str
    name: str
    workloads: tuple[str, ...]


class Nft:
    """`nft`, found once. Its errors: HostError (no nft, no root), CgroupGone (a path does not exist), KernelError."""

    def __init__(self, nft: str | None = None, nsenter: str | None = None) -> None:
        self._nft = nft or locate("nft", NFT_PACKAGE)
        self._nsenter = nsenter or locate("nsenter", NSENTER_PACKAGE)

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

    async def delete(self, family: str, table: str, namespace: Namespace | None = None) -> None:
        """Take a table away; none there is none to take."""
        await self._run(["-f", "-"], namespace, f"add table {family} {table}\ndelete table {family} {table}\n")

    async def _run(self, arguments: list[str], namespace: Namespace | None, text: str = "") -> str:
        command = [self._nft, *arguments]
        if namespace is not None:
            command = [self._nsenter, f"--net={namespace.path}", "--", *command]
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            out, err = await process.communicate(text.encode())
        except asyncio.CancelledError:
            # Killed while loading, nft has either sent its one transaction or has not.
            await end(process)
            raise
        if process.returncode != 0:
            said = err.decode(errors="replace").strip()
            # One line a mistake, each with the rule below it and what of it is meant: the first is the cause.
            raise _fault(said.partition("\n")[0] or f"status {process.returncode}", namespace)
        return out.decode()


def table_comment(listing: str) -> str:
    """The comment of the table whose `nft list table` this is; empty if it has none."""
    found = TABLE_COMMENT.search(listing)
    return found.group(1) if found else ""


async def end(process: asyncio.subprocess.Process) -> None:
    """Kills it and waits for its end, be it that it has ended already."""
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    await process.wait()


def locate(program: str, remedy: str) -> str:
    """The path of `program`, also where PATH lacks the folders of root's programs. HostError if it is absent."""
    found = shutil.which(program) or shutil.which(program, path="/usr/sbin:/sbin:/usr/bin:/bin")
    if found is None:
        raise HostError(f"`{program}` is not on this host", remedy)
    return found


def _fault(said: str, namespace: Namespace | None) -> HostError | CgroupGone | KernelError | NamespaceGone:
    if "Operation not permitted" in said:
        return HostError(f"nft may not load rules ({said})", "run as root, with CAP_NET_ADMIN")
    if "cgroupv2 path fails" in said:
        return CgroupGone(f"a rule names a cgroup that does not exist ({said})", "see whether its workload still runs")
    if "nsenter" in said and "No such file" in said:
        return NamespaceGone(
            f"{namespace.origin if namespace else 'the namespace'} is gone", "see whether it still runs"
        )
    return KernelError(f"nft failed: {said}", "see `jfe doctor` for what the kernel must offer")
