"""What `jfe doctor` concludes from what a host says of itself."""

from pathlib import Path

import pytest

from jfe_cni.cli.host_offer import CAPABILITIES, lacking_capabilities, numbers, v2_mount


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
