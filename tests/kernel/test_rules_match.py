"""The proof that rules match, and the cgroups that they name."""

from __future__ import annotations

import sys

import pytest

from jfe_cni.errors import HostError, RequestError, RuleMatchError
from jfe_cni.kernel.cgroups import CgroupTree, MadeCgroup
from jfe_cni.kernel.nft import Nft
from jfe_cni.kernel.prove import prove_rules_match
from jfe_cni.rules.model import Cgroup, Exemption
from tests.kernel.lab import MARK, Host, Upgrader, end, until

PROVE = """
import asyncio, os, sys
from jfe_cni.errors import RuleMatchError
from jfe_cni.kernel.cgroups import CgroupTree
from jfe_cni.kernel.nft import Nft
from jfe_cni.kernel.prove import prove_rules_match
from jfe_cni.rules.model import Mark
os.unshare(0x02000000) if hasattr(os, "unshare") else __import__("ctypes").CDLL(None).unshare(0x02000000)
try:
    asyncio.run(prove_rules_match(Nft(), CgroupTree.found(), sys.argv[1], Mark()))
except RuleMatchError as error:
    print(error)
"""


async def test_rules_match_on_this_kernel(nft: Nft, tree: CgroupTree, upgrader: Upgrader) -> None:
    await prove_rules_match(nft, tree, str(upgrader.made.path), MARK)


async def test_a_rule_that_names_the_wrong_level_is_found_out(
    nft: Nft, tree: CgroupTree, upgrader: Upgrader, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = Exemption(upgrader.exemption.path, upgrader.exemption.level + 1)
    monkeypatch.setattr(CgroupTree, "exemption", lambda *_: wrong)
    with pytest.raises(RuleMatchError, match="does not match"):
        await prove_rules_match(nft, tree, str(upgrader.made.path), MARK)


async def test_an_agent_in_a_cgroup_namespace_of_its_own_is_told_so(
    pod: Host, cgroups: MadeCgroup, upgrader: Upgrader, tree: CgroupTree
) -> None:
    """From there rules load and never match: a level counts from that namespace's root."""
    inner = tree.create(str(cgroups.path / "container"))
    process = pod.start(sys.executable, "-c", PROVE, str(upgrader.made.path), cgroup=inner)
    out, _ = process.communicate(timeout=60)
    assert "match" in out


def test_a_cgroup_is_named_as_nft_names_it(tree: CgroupTree, cgroups: MadeCgroup) -> None:
    named = tree.cgroup(str(cgroups.path))
    assert named == Cgroup(str(cgroups.path.relative_to("/sys/fs/cgroup")), 2)
    assert tree.folder_of(named) == cgroups.path


def test_pure_and_hybrid_hosts_are_told_apart_and_version_1_alone_is_refused() -> None:
    pure = "cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n"
    hybrid = "cgroup /sys/fs/cgroup/cpu cgroup rw 0 0\ncgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n"
    assert CgroupTree.found(pure).exemption("jfe/n/upgrader") == Exemption("jfe/n/upgrader", 3)
    assert CgroupTree.found(hybrid).exemption("/jfe/n/upgrader") == Exemption("unified/jfe/n/upgrader", 3)
    with pytest.raises(HostError, match="version 1 alone"):
        CgroupTree.found("cgroup /sys/fs/cgroup/cpu cgroup rw 0 0\n")
    with pytest.raises(HostError, match="no cgroup hierarchy"):
        CgroupTree.found("proc /proc proc rw 0 0\n")


@pytest.mark.parametrize("path", ["", "/", "..", "a/../../b"])
def test_no_cgroup_lies_outside_the_hierarchy(tree: CgroupTree, path: str) -> None:
    with pytest.raises(RequestError):
        tree.path(path)


def test_a_cgroup_is_emptied_and_removed_with_all_below_it(pod: Host, tree: CgroupTree, cgroups: MadeCgroup) -> None:
    made = tree.create(str(cgroups.path / "a" / "b"))
    child = tree.create(str(made.path / "c"))
    process = pod.start("sleep", "1000", cgroup=child)
    until(lambda: made.processes() != (), "the process never came")
    assert tree.of_process(process.pid) == str(child.path.relative_to(tree.root))
    made.kill()
    assert made.processes() == ()
    end(pod)
    top = MadeCgroup(tree.root, cgroups.path / "a")
    top.remove()
    top.remove()
    assert not (cgroups.path / "a").exists()
    assert not cgroups.path.exists(), "the one above it was left empty"
