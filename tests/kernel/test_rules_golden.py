"""The golden files load on the real kernel."""

from __future__ import annotations

from pathlib import Path

import pytest

from jfe_cni.kernel.cgroups import CgroupTree, MadeCgroup
from jfe_cni.kernel.nft import Nft
from jfe_cni.rules.model import Ruleset
from jfe_cni.rules.removal import removal
from tests.kernel.lab import Host
from tests.unit.rules_examples import CGROUPS

GOLDEN = sorted((Path(__file__).parent.parent / "golden").glob("*.nft"))


@pytest.fixture
def named(tree: CgroupTree, cgroups: MadeCgroup) -> dict[str, str]:
    """The cgroups that the files name, made elsewhere, for another may own the real ones."""
    paths = {name: str(cgroups.path / name) for name in CGROUPS}
    for path in paths.values():
        tree.create(path)
    return {name: tree.cgroup(path).path for name, path in paths.items()}


@pytest.mark.parametrize("file", GOLDEN, ids=lambda file: file.stem)
async def test_it_loads_twice_and_is_taken_away(pod: Host, nft: Nft, named: dict[str, str], file: Path) -> None:
    text = file.read_text()
    for name, path in named.items():
        text = text.replace(f'"{name}"', f'"{path}"')
    _, _, family, table = [*text.splitlines()[0].split()]
    ruleset = Ruleset(table, family, text)
    with pod.open() as namespace:
        await nft.check(ruleset, namespace)
        await nft.load(ruleset, namespace)
        first = await nft.listing(family, table, namespace)
        await nft.load(ruleset, namespace)
        assert await nft.listing(family, table, namespace) == first
        assert first is not None
        await nft.load(removal(family, table), namespace)
        assert await nft.listing(family, table, namespace) is None
