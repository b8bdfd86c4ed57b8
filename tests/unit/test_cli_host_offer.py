"""What `jfe doctor` concludes from what a host says of itself."""

import re
from pathlib import Path

import pytest

from jfe_cni.cli.host_offer import CAPABILITIES, LEAST_KERNEL, RULESETS, lacking_capabilities, numbers, v2_mount
from jfe_cni.rules.closed_link import closed_link_ruleset

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [("6.1.0-13-amd64", (6, 1, 0)), ("5.13", (5, 13)), ("6.18.44-fc-v595", (6, 18, 44)), ("", ()), ("unknown", ())],
)
def test_a_version_is_what_stands_before_the_first_other_letter(text: str, wanted: tuple[int, ...]) -> None:
    assert numbers(text) == wanted


def test_a_pure_cgroup_v2_host() -> None:
    assert v2_mount("cgroup2 /sys/fs/cgroup cgroup2 rw,nosuid 0 0\n") == Path("/sys/fs/cgroup")


def test_a_host_with_cgroup_v1_beside_v2() -> None:
    mounts = "tmpfs /sys/fs/cgroup tmpfs rw 0 0\ncgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\n"
    assert v2_mount(mounts) is None
    assert v2_mount(mounts + "cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n") == Path("/sys/fs/cgroup/unified")


def test_a_mount_point_with_a_space_in_it() -> None:
    assert v2_mount("none /a\\040b cgroup2 rw 0 0\n") == Path("/a b")


def test_each_capability_that_is_lacking_is_named() -> None:
    assert lacking_capabilities((1 << 41) - 1) == []
    assert lacking_capabilities(0) == list(CAPABILITIES)
    assert lacking_capabilities(((1 << 41) - 1) & ~(1 << 12)) == ["CAP_NET_ADMIN"]


def test_every_hook_by_which_a_link_is_closed_is_tried() -> None:
    wanted = re.findall(r"hook (\w+) device", closed_link_ruleset("lo").text)
    tried = [re.findall(r"table (\w+).*hook (\w+)", text, re.DOTALL)[0] for text in RULESETS.values()]
    assert {("netdev", hook) for hook in wanted} <= set(tried)


def test_one_kernel_is_asked_for_everywhere() -> None:
    least = ".".join(map(str, LEAST_KERNEL))
    for file in ("README.md", "jfe_cni/kernel/prove.py", "jfe_cni/kernel/cgroups.py", "jfe_cni/rules/closed_link.py"):
        assert f"Linux {least}" in (ROOT / file).read_text(), file
