"""`jfe cni install` on folders as runtimes have them: once, again, and against what may be in the way."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

import pytest

from tests.cni.installation import BRIDGE, PORTMAP, Installation, network

ENTRY = {
    "type": "jfe",
    "capabilities": {"io.kubernetes.cri.pod-annotations": True, "cgroupPath": True},
    "deadlineSeconds": 20,
}


@pytest.fixture
def made(tmp_path: Path) -> Installation:
    return Installation(tmp_path)


def test_our_entry_is_the_last_and_all_else_is_as_it_was(made: Installation) -> None:
    made.write("10-net.conflist", network(disableCheck=True, unknown={"kept": [1, None]}))
    said = made.installed()
    entry = {**ENTRY, "agentSocket": str(made.socket)}
    assert made.read("10-net.conflist") == network(
        "net", BRIDGE, PORTMAP, entry, disableCheck=True, unknown={"kept": [1, None]}
    )
    assert made.files() == ["10-net.conflist"]
    assert (said["network"], said["chain"], said["file"]) == ("net", "inline", str(made.path("10-net.conflist")))


def test_the_program_is_placed_in_every_folder_and_can_be_started(made: Installation) -> None:
    made.write("10-net.conflist", network())
    elsewhere = made.folder / "not" / "yet" / "there"
    made.installed("--bin-dir", str(elsewhere))
    for program in (made.program, elsewhere / "jfe"):
        assert program.read_bytes() == made.plugin.read_bytes()
        assert stat.S_IMODE(program.stat().st_mode) == 0o755
        assert subprocess.run([program], capture_output=True, check=True).stdout == b"jfe-cni-plugin\n"
        assert [path.name for path in program.parent.iterdir()] == ["jfe"]


def test_a_second_installation_writes_nothing(made: Installation) -> None:
    made.write("10-net.conflist", network())
    made.installed()
    before, program = made.contents(), made.program.stat()
    assert made.installed()["written"] == []
    assert made.contents() == before
    assert made.program.stat() == program or made.program.stat().st_ino == program.st_ino


def test_what_is_right_in_another_layout_is_left_in_it(made: Installation) -> None:
    entry = {**ENTRY, "agentSocket": str(made.socket)}
    made.write("10-net.conflist", network("net", BRIDGE, entry))
    before = made.contents()
    made.installed()
    assert made.contents() == before


def test_an_older_entry_of_ours_is_replaced_where_it_stands(made: Installation) -> None:
    made.write("10-net.conflist", network("net", BRIDGE, {"type": "jfe", "old": True}, PORTMAP))
    made.installed("--deadline", "7")
    assert made.types("10-net.conflist") == ["bridge", "jfe", "portmap"]
    assert made.read("10-net.conflist")["plugins"][1] == {
        **ENTRY,
        "agentSocket": str(made.socket),
        "deadlineSeconds": 7,
    }


def test_mode_and_owner_of_the_file_stay(made: Installation) -> None:
    path = made.write("10-net.conflist", network())
    path.chmod(0o640)
    os.chown(path, 12, 34)
    made.installed()
    found = path.stat()
    assert (stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid) == (0o640, 12, 34)


def test_of_a_link_what_it_leads_to_is_changed(made: Installation, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere.conflist"
    made.write("10-net.conflist", network()).rename(elsewhere)
    link = made.config / "10-net.conflist"
    link.symlink_to(elsewhere)
    made.installed()
    assert link.is_symlink()
    assert "jfe" in elsewhere.read_text()


@pytest.mark.parametrize("suffix", ["conf", "json"])
def test_a_single_configuration_becomes_a_list_with_its_mode(made: Installation, suffix: str) -> None:
    single = {"cniVersion": "0.4.0", "name": "net", **BRIDGE}
    made.write(f"10-net.{suffix}", single).chmod(0o600)
    said = made.installed()
    assert made.files() == ["10-net.conflist"]
    assert said["file"] == str(made.path("10-net.conflist"))
    entry = {**ENTRY, "agentSocket": str(made.socket)}
    assert made.read("10-net.conflist") == {"cniVersion": "0.4.0", "name": "net", "plugins": [single, entry]}
    assert stat.S_IMODE(made.path("10-net.conflist").stat().st_mode) == 0o600


def test_a_single_configuration_that_its_plugin_writes_again_counts_and_is_promoted_again(made: Installation) -> None:
    made.write("10-net.conf", {"name": "net", **BRIDGE})
    made.installed()
    made.write("10-net.conf", {"name": "net", **BRIDGE, "bridge": "other"})
    made.installed()
    assert made.files() == ["10-net.conflist"]
    assert made.read("10-net.conflist")["plugins"][0]["bridge"] == "other"
    assert made.types("10-net.conflist") == ["bridge", "jfe"]


def test_a_list_of_another_network_is_not_written_over_by_a_promotion(made: Installation) -> None:
    made.write("10-net.conf", {"name": "net", **BRIDGE})
    made.write("10-net.conflist", network("other"))
    before = made.contents()
    refused = made.install()
    assert refused.returncode == 1
    assert "different networks" in refused.stderr
    assert made.contents() == before


def test_the_network_is_the_first_that_a_runtime_would_take_and_no_other_is_touched(made: Installation) -> None:
    made.write("05-broken.conflist", "{")
    os.utime(made.path("05-broken.conflist"), (0, 0))
    made.write("10-net.conflist", network())
    made.write("20-other.conflist", network("other"))
    made.installed()
    assert made.types("10-net.conflist") == ["bridge", "portmap", "jfe"]
    assert made.types("20-other.conflist") == ["bridge", "portmap"]
    assert made.path("05-broken.conflist").read_text() == "{"


def test_a_plugin_that_delegates_is_chained_behind(made: Installation) -> None:
    made.write("00-multus.conf", {"name": "multus-cni-network", "type": "multus", "delegates": [network()]})
    made.write("10-net.conflist", network())
    made.installed()
    assert made.files() == ["00-multus.conflist", "10-net.conflist"]
    assert made.types("00-multus.conflist") == ["multus", "jfe"]


def test_before_any_network_the_program_is_placed_and_nothing_that_could_be_taken_for_one(made: Installation) -> None:
    found = made.install()
    assert found.returncode == 1
    assert "no network is configured" in found.stderr
    assert "--watch" in found.stderr
    assert made.program.exists()
    assert made.files() == []


def test_without_a_folder_of_configurations_it_is_the_same_and_none_is_made(made: Installation) -> None:
    made.config.rmdir()
    found = made.install()
    assert found.returncode == 1
    assert "no network is configured" in found.stderr
    assert not made.config.exists()


def test_what_a_killed_run_left_is_swept(made: Installation) -> None:
    made.write("10-net.conflist", network())
    made.write(".jfe-k1lled.tmp", "half")
    made.bin.mkdir()
    (made.bin / ".jfe-k1lled.tmp").write_text("half")
    made.installed()
    assert made.files() == ["10-net.conflist"]
    assert [path.name for path in made.bin.iterdir()] == ["jfe"]


def test_a_program_that_is_named_and_absent_is_said_before_anything_is_done(made: Installation) -> None:
    made.write("10-net.conflist", network())
    found = made.install("--plugin", str(made.folder / "absent"))
    assert found.returncode == 1
    assert "absent is no program" in found.stderr
    assert made.types("10-net.conflist") == ["bridge", "portmap"]
