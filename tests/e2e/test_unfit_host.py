"""`jfe agent` where it can't work: it says what is missing and what to do, and nothing of it is left."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from tests.stage import Host, Stage, program
from tests.stage.footprint import changes, footprint

# The checkout may be closed to others: it is read while still root.
AS_NOBODY = """
import os
import jfe_cni.agent.daemon, jfe_cni.cni.namespaces_file, jfe_cni.cni.service
from jfe_cni.cli.main import main
os.setgroups([]); os.setresgid(65534, 65534, 65534); os.setresuid(65534, 65534, 65534)
main()
"""
AS_ROOT = "from jfe_cni.cli.main import main; main()"

# Each in a mount namespace of its own. What is covered by another mount would still be seen in /proc/self/mounts.
HIDE_NFT = """
IFS=:
for folder in $PATH:/usr/sbin:/sbin:/usr/bin:/bin; do
    if [ -x "$folder/nft" ]; then mount --bind /dev/null "$folder/nft"; fi
done
"""
NO_CGROUPS = "umount --recursive --lazy /sys/fs/cgroup"
ONLY_V1 = f"""
{NO_CGROUPS}
mount -t tmpfs none /sys/fs/cgroup
mkdir /sys/fs/cgroup/named
mount -t cgroup -o none,name=jfe-test none /sys/fs/cgroup/named
"""
MOUNT_V2 = ("systemd.unified_cgroup_hierarchy=1", "mount -t cgroup2 none /sys/fs/cgroup/unified")


@pytest.fixture(scope="module")
def bare() -> Iterator[Stage]:
    with Stage() as made:
        yield made


def agent(host: Host, start: str) -> list[str]:
    where = ("--state-dir", str(host.folder / "state"), "--socket", str(host.socket_path), "--node", host.name)
    return [sys.executable, "-c", start, "agent", *where]


def unsharing(script: str, command: list[str]) -> list[str]:
    return [program("unshare"), "--mount", "sh", "-c", f'set -e\n{script}\nunset IFS\nexec "$@"', "sh", *command]


@pytest.mark.parametrize(
    ("script", "start", "missing", "remedies"),
    [
        pytest.param(":", AS_NOBODY, "the agent needs root", ("sudo",), id="no root"),
        pytest.param(HIDE_NFT, AS_ROOT, "`nft` is not on this host", ("install the package `nftables`",), id="no nft"),
        pytest.param(ONLY_V1, AS_ROOT, "this host has cgroup version 1 alone", MOUNT_V2, id="cgroup v1 only"),
        pytest.param(NO_CGROUPS, AS_ROOT, "no cgroup hierarchy is mounted", MOUNT_V2, id="no cgroups"),
    ],
)
def test_an_agent_that_cant_work_here_says_why_and_leaves_nothing(
    bare: Stage, script: str, start: str, missing: str, remedies: tuple[str, ...]
) -> None:
    host = bare.a
    before = footprint(host)
    ended = host.run(unsharing(script, agent(host, start)), check=False)
    said = ended.stderr.decode()
    assert ended.returncode == 1, said
    assert said.count(missing) == 1
    assert all(remedy in said for remedy in remedies), said
    assert "Traceback" not in said
    assert changes(before, footprint(host)) == []
    assert host.cgroups() == []
    assert not host.socket_path.exists()
    assert {path.name for path in (host.folder / "state").glob("*")} <= {"agent.lock"}
    assert host.namespace.processes() == {}
