"""Leaving the chain, and only then the program: a runtime that was about to call us must find something that answers.

What stays under our name answers DEL, CHECK and VERSION, so that no pod that was added with us is stuck.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from jfe_cni.cni import chain, network_folder, placement
from jfe_cni.cni.chain import Document
from jfe_cni.cni.references import references
from jfe_cni.errors import ConflictError, KernelError

# Of rewritings by a rival that are followed.
ROUNDS = 20


@dataclass(frozen=True)
class Departure:
    """`left`: files that named us; `retired`: programs that only answer from now on."""

    left: tuple[Path, ...]
    retired: tuple[Path, ...]


def uninstall(*, config_dir: Path, bin_dirs: Iterable[Path], cache_dir: Path, retired: Path) -> Departure:
    """Idempotent: nothing where nothing is installed. `retired`: the program that stays under our name.

    Raises KernelError where a rival puts us back again and again, HostError."""
    left = leave(config_dir)
    content = placement.read_program(retired)
    needed = bool(left or references(config_dir, cache_dir))
    programs = [folder / chain.PLUGIN_TYPE for folder in bin_dirs]
    placed = [path for path in programs if (needed or path.exists()) and placement.place_binary(path, content)]
    return Departure(left, tuple(placed))


def purge(*, config_dir: Path, bin_dirs: Iterable[Path], cache_dir: Path) -> tuple[Path, ...]:
    """Removes the programs that an uninstall left. Raises ConflictError where something still names us."""
    found = references(config_dir, cache_dir)
    if found:
        others = f", and {len(found) - 1} more" if len(found) > 1 else ""
        raise ConflictError(
            f"the program stays, for it is still named by {found[0]}{others}",
            remedy="delete the pods that were added with it, then purge again",
        )
    programs = [folder / chain.PLUGIN_TYPE for folder in bin_dirs]
    return tuple(path for path in programs if placement.remove(path))


def leave(config_dir: Path) -> tuple[Path, ...]:
    """Takes us out of every file, the pods' network's and others'. A single configuration that was promoted to a list
    stays one: to every runtime a list of one is the same, and the name of a list sorts where the other did."""
    changed: dict[Path, None] = {}
    for _ in range(ROUNDS):
        found = [*_own_lists(config_dir), *_own_drop_ins(config_dir)]
        if not found:
            return tuple(changed)
        for path in found:
            _leave_file(path, is_drop_in=path.parent != config_dir)
            changed[path] = None
    raise KernelError(
        f"{config_dir} is rewritten by another that puts us back", remedy="stop what does that, then uninstall again"
    )


def _own_lists(config_dir: Path) -> list[Path]:
    return [path for path in network_folder.configuration_files(config_dir) if _matches(path, chain.has_own)]


def _own_drop_ins(config_dir: Path) -> list[Path]:
    return [path for path in network_folder.drop_ins(config_dir) if _matches(path, chain.is_own)]


def _matches(path: Path, ours: Callable[[Document], bool]) -> bool:
    document = chain.parse(network_folder.read_file(path) or b"")
    return document is not None and ours(document)


def _leave_file(path: Path, *, is_drop_in: bool) -> None:
    try:
        content = placement.read(path)
        document = chain.parse(content)
        if is_drop_in:
            placement.remove_drop_in(path)
        elif document is not None and chain.left(document) is None:
            placement.take_away(path, content)
        else:
            placement.update(path, _without_us)
    except (FileNotFoundError, KernelError):
        # A rival removed it, or was quicker each time: to be looked at again.
        return


def _without_us(content: bytes) -> bytes | None:
    document = chain.parse(content)
    remaining = None if document is None else chain.left(document)
    if remaining is None:
        return None
    return content if remaining == document else chain.serialised(remaining)
