"""Joining the chain: the program into the runtime's folders, then the entry, by the way that the runtime honours.

Every call of `Installer.look` compares what is with what should be, and writes only the difference. What is to be added
is added before anything is removed, so that there is no moment without us.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, replace
from pathlib import Path

from jfe_cni.cni import chain, network_folder, placement
from jfe_cni.cni.chain import Document
from jfe_cni.cni.network_folder import NetworkFile, NetworkFolder
from jfe_cni.cni.way import Choice, Evidence, Way, way_wanted
from jfe_cni.cni.witness import Witness
from jfe_cni.errors import ConflictError, HostError, KernelError

DEFAULT_BIN_DIR = Path("/opt/cni/bin")
DEFAULT_CONFIG_DIR = Path("/etc/cni/net.d")
DEFAULT_DEADLINE_SECONDS = 20
DEFAULT_PROBE_SECONDS = 15.0
LOOK_SECONDS = 0.05
# For what others do to the folder meanwhile, on top of the time of the probe.
REST_SECONDS = 5.0


Stamp = tuple[int, int, int, int]


class NoNetworkError(HostError):
    """No network plugin has written its configuration yet. What we would write now would look like a network."""


@dataclass(frozen=True)
class Order:
    """What is to be installed, and where. `plugin`: the program; `deadline_seconds`: of each of its runs."""

    plugin: Path
    socket: Path
    bin_dirs: tuple[Path, ...] = (DEFAULT_BIN_DIR,)
    config_dir: Path = DEFAULT_CONFIG_DIR
    deadline_seconds: int = DEFAULT_DEADLINE_SECONDS
    choice: Choice = "auto"


@dataclass(frozen=True)
class Joined:
    """`written`: files that were changed for it; none where all was right. `moving`: a rival wrote meanwhile."""

    network: str
    file: Path
    way: Way
    written: tuple[Path, ...]
    moving: bool = False


class Installer:
    def __init__(self, order: Order, witness: Witness) -> None:
        self._order = order
        self._witness = witness
        self._entry = chain.plugin_entry(order.socket, order.deadline_seconds)
        # Of the programs when they were last compared: they are read again only where one has changed.
        self._stamps: list[Stamp | None] = []

    async def install(self, probe_seconds: float) -> Joined:
        """Once, until it stands. The runtime has `probe_seconds` to call by the drop-in; else the entry in the list
        stays alone. Raises NoNetworkError, KernelError where a rival gives no rest, and what `look` raises."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        written: dict[Path, None] = {}
        while True:
            waited = loop.time() - began
            try:
                joined = await self.look(probing=waited < probe_seconds)
            except KernelError:
                joined = None
            if joined is not None:
                written.update(dict.fromkeys(joined.written))
                if not joined.written and not joined.moving and joined.way is not Way.BOTH:
                    return Joined(joined.network, joined.file, joined.way, tuple(written))
            if waited > probe_seconds + REST_SECONDS:
                raise KernelError(
                    f"{self._order.config_dir} is rewritten by another again and again",
                    remedy="run `jfe cni install --watch`, which stays",
                )
            await asyncio.sleep(LOOK_SECONDS)

    async def look(self, *, probing: bool = True) -> Joined | None:
        """Mends what is not as it should be. None where the folder is just being written: look again.

        Raises NoNetworkError, RequestError where the way asked for can't be, ConflictError, HostError."""
        placed = await asyncio.to_thread(self.place_binaries)
        try:
            primary = (await asyncio.to_thread(self._read)).primary
            evidence = Evidence.UNKNOWN
            if primary is not None and self._order.choice == "auto" and primary.takes_drop_in and primary.takes_inline:
                evidence = await self._witness.evidence(primary.name)
            if not probing and evidence is not Evidence.PROVEN:
                evidence = Evidence.DISPROVEN
            joined = await asyncio.to_thread(self._join, None if primary is None else primary.name, evidence)
        except FileNotFoundError:
            # Read, and gone before it was changed.
            return None
        return None if joined is None else replace(joined, written=(*placed, *joined.written))

    def place_binaries(self) -> tuple[Path, ...]:
        """Those that were absent or others. Raises HostError."""
        paths = [folder / chain.PLUGIN_TYPE for folder in self._order.bin_dirs]
        stamps = [_stamp(path) for path in (self._order.plugin, *paths)]
        if stamps == self._stamps:
            return ()
        content = placement.read_program(self._order.plugin)
        placed = tuple(path for path in paths if placement.place_binary(path, content))
        if not placed:
            self._stamps = stamps
        return placed

    def _read(self) -> NetworkFolder:
        return network_folder.read(self._order.config_dir, time.time())

    def _join(self, asked_of: str | None, evidence: Evidence) -> Joined | None:
        """`evidence` is about the network `asked_of`."""
        folder = self._read()
        if folder.unsettled is not None:
            return None
        written = self._remove_stale_drop_ins(folder)
        network = folder.primary
        if network is None:
            raise NoNetworkError(
                f"no network is configured in {self._order.config_dir} yet: the program is in place, and in no chain",
                remedy="install a network plugin first, or run `jfe cni install --watch`, which joins it when it comes",
            )
        if network.name != asked_of:
            evidence = Evidence.UNKNOWN
        drop_in = network_folder.drop_in_path(self._order.config_dir, network.name)
        drop_in_there = network.takes_drop_in and drop_in.is_file()
        way = way_wanted(self._order.choice, network, evidence, drop_in_there=drop_in_there)
        moving = False
        if way.inline:
            moving |= self._write_list(network, self._entry, written)
        if way.drop_in:
            content = chain.serialised(chain.drop_in_entry(self._entry))
            if placement.place_drop_in(drop_in, content, like=_file_of(network)):
                written.append(drop_in)
            if not way.inline:
                moving |= self._write_list(network, None, written)
        elif drop_in_there:
            placement.remove_drop_in(drop_in)
            written.append(drop_in)
        return Joined(network.name, network.list_path, way, tuple(written), moving)

    def _write_list(self, network: NetworkFile, entry: Document | None, written: list[Path]) -> bool:
        """The list has `entry`, or none of ours. True where a rival wrote meanwhile, and has to be looked at again."""
        if not network.is_list:
            return self._promote(network, entry, written)
        if placement.update(network.path, lambda content: _changed_list(network.path, content, entry)):
            written.append(network.path)
        return False

    def _promote(self, network: NetworkFile, entry: Document | None, written: list[Path]) -> bool:
        """A single configuration becomes a list beside it, and only then goes. Until it does the runtime has both:
        containerd and CRI-O take `.conf` before `.conflist`, so the pods' network is what it was a moment longer."""
        promoted = chain.promoted(network.document)
        content = chain.serialised(promoted if entry is None else chain.joined(promoted, entry))
        if network.list_path.exists() or not placement.create(network.list_path, content, like=network.path):
            there = chain.parse(placement.read(network.list_path))
            if there is None or there.get("name") != network.name:
                raise ConflictError(
                    f"{network.path} and {network.list_path} are both there, and are different networks",
                    remedy="rename the one that the pods shall not have",
                )
            placement.update(network.list_path, lambda _: content)
        written += [network.list_path, network.path]
        return not placement.take_away(network.path, network.content)

    def _remove_stale_drop_ins(self, folder: NetworkFolder) -> list[Path]:
        """Those of networks that no file names any more, or of which we would be the only plugin. Without any network
        they stay: they are nothing to a runtime, and the file may be about to come back."""
        names = {network.name for network in folder.networks}
        removed = []
        for path in network_folder.drop_ins(self._order.config_dir):
            name = path.parent.name
            stale = name in folder.hollow or (bool(names) and name not in names)
            if stale and path.name == network_folder.DROP_IN:
                placement.remove_drop_in(path)
                removed.append(path)
        return removed


def _stamp(path: Path) -> Stamp | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_mtime_ns, status.st_ctime_ns


def _file_of(network: NetworkFile) -> Path:
    """One that is there: a single configuration may have been promoted since it was read."""
    return network.path if network.path.exists() else network.list_path


def _changed_list(path: Path, content: bytes, entry: Document | None) -> bytes | None:
    """None for what is no network (any more)."""
    network = network_folder.as_network(path, content)
    if network is None:
        return None
    document = network.document
    changed = chain.left(document) if entry is None else chain.joined(document, entry)
    if changed is None:
        return None
    return content if changed == document else chain.serialised(changed)
