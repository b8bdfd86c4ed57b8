"""What is saved is there for the next agent, however the one before it ended, and whoever it was."""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import resource
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from jfe_cni.agent.objects import DirectoryEntry
from jfe_cni.agent.state_file import SavedDirectory
from jfe_cni.agent.workload import Event
from jfe_cni.errors import HostError
from tests.unit.saved_state import saving
from tests.unit.test_agent_workload import POD, UNIT

VERSION_1 = {
    "version": 1,
    "workloads": [
        {
            "id": "pod",
            "target": {"netns": "/run/netns/pod"},
            "mode": "strict",
            "identity": "spiffe://jfe.local/x/pod",
            "settings": {},
            "state": "enrolling",
            "addresses": [],
            "listeners": None,
            "certificate": None,
            "cgroup": None,
            "cgroup_number": None,
            "namespace": [4, 77],
            "listener_ports": [],
            "lent_ports": [],
            "bare": [],
        }
    ],
    "directory": [],
    "directory_file": {"entries": [{"network": "fd00::/64"}]},
}


def test_what_an_agent_saved_that_was_killed_comes_back(tmp_path: Path) -> None:
    program = """
import logging, os, sys
from pathlib import Path
from jfe_cni.agent.state_file import StateFile
from tests.unit.test_agent_workload import POD
file = StateFile(Path(sys.argv[1]), logging.getLogger("jfe.test"))
file.load()
file.save([POD])
os.kill(os.getpid(), 9)
"""
    killed = subprocess.run([sys.executable, "-c", program, str(tmp_path / "workloads.db")], check=False)
    assert killed.returncode == -9
    with saving(tmp_path) as file:
        assert file.load() == ([POD], SavedDirectory())


def test_a_workload_that_is_no_more_is_in_no_state(tmp_path: Path) -> None:
    with saving(tmp_path) as file:
        file.save([POD, UNIT])
        file.save([UNIT])
    with saving(tmp_path) as file:
        assert file.load() == ([UNIT], SavedDirectory())
        changed = UNIT.after(Event.RELEASE)
        file.save([changed])
        assert file.load() == ([changed], SavedDirectory())


def test_no_state_is_no_workload(tmp_path: Path) -> None:
    with saving(tmp_path) as file:
        assert file.load() == ([], SavedDirectory())


def test_what_an_older_agent_saved_is_taken_over_once(tmp_path: Path) -> None:
    former = tmp_path / "workloads.json"
    former.write_text(json.dumps(VERSION_1))
    wanted = ([POD], SavedDirectory((), (DirectoryEntry(ipaddress.ip_network("fd00::/64"), source="file"),)))
    with saving(tmp_path) as file:
        assert file.load() == wanted
    assert not former.exists()
    former.write_text("rubbish that nobody reads any more")
    with saving(tmp_path) as file:
        assert file.load() == wanted


@pytest.mark.parametrize(
    "rubbish",
    ["", "{", "[]", '{"version": 2}', '{"version": 1, "workloads": [{}]}', '{"version": 1, "surprise": 1}'],
)
def test_a_state_of_an_older_agent_that_cannot_be_read_is_refused_with_what_to_do(tmp_path: Path, rubbish: str) -> None:
    (tmp_path / "workloads.json").write_text(rubbish)
    with saving(tmp_path) as file, pytest.raises(HostError) as refused:
        file.load()
    assert str(tmp_path) in refused.value.message
    assert refused.value.remedy


@pytest.mark.parametrize("left", [0, 100, 5000])
def test_a_file_that_a_loss_of_power_cut_off_does_not_stop_the_agent(tmp_path: Path, left: int) -> None:
    with saving(tmp_path) as file:
        file.save([POD, UNIT])
    whole = tmp_path / "workloads.db"
    os.truncate(whole, left)
    with saving(tmp_path) as file:
        assert file.load() == ([], SavedDirectory())
        file.save([POD])
    with saving(tmp_path) as file:
        assert file.load() == ([POD], SavedDirectory())
    # What was in it is kept for whoever wants to see.
    assert (tmp_path / "workloads.db.unreadable").exists() == (left > 0)


def test_a_state_of_a_later_version_is_refused(tmp_path: Path) -> None:
    with saving(tmp_path):
        pass
    with contextlib.closing(sqlite3.connect(tmp_path / "workloads.db")) as database:
        database.execute("PRAGMA user_version = 3")
    with pytest.raises(HostError, match="another version"), saving(tmp_path):
        pass


def test_a_state_that_cannot_be_written_is_said_and_the_former_one_stands(tmp_path: Path) -> None:
    with saving(tmp_path) as file:
        file.save([POD])
    with saving(tmp_path) as file:
        file.load()
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
        try:
            with pytest.raises(HostError, match="can't be written"):
                file.save([UNIT])
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
    with saving(tmp_path) as file:
        assert file.load() == ([POD], SavedDirectory())
