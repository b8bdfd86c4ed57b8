"""Which file is the pods' network: as containerd and CRI-O choose it. And by which way it is joined."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from jfe_cni.cni import network_folder
from jfe_cni.cni.network_folder import NetworkFile
from jfe_cni.cni.way import Choice, Evidence, Way, way_wanted
from jfe_cni.errors import RequestError

LATER = time.time() + 3600
BRIDGE = {"type": "bridge"}
OURS = {"type": "jfe"}


def network(label: str, *plugins: dict[str, Any], **more: object) -> dict[str, Any]:
    return {"cniVersion": "1.0.0", "name": label, "plugins": list(plugins), **more}


def write(folder: Path, **files: object) -> None:
    """`a_conflist=…`: the last underscore stands for the dot."""
    for name, content in files.items():
        path = folder / ".".join(name.rsplit("_", 1))
        path.write_text(content if isinstance(content, str) else json.dumps(content))


def primary(folder: Path) -> str | None:
    found = network_folder.read(folder, LATER).primary
    return None if found is None else found.path.name


def test_the_first_name_by_its_bytes_is_the_network(tmp_path: Path) -> None:
    write(tmp_path, b_conflist=network("b", BRIDGE), a_conflist=network("a", BRIDGE), Z_conflist=network("z", BRIDGE))
    assert primary(tmp_path) == "Z.conflist"


def test_a_single_configuration_comes_before_a_list_of_the_same_name(tmp_path: Path) -> None:
    write(tmp_path, a_conflist=network("a", BRIDGE), a_conf={"name": "a", **BRIDGE}, a_json={"name": "a", **BRIDGE})
    assert primary(tmp_path) == "a.conf"


@pytest.mark.parametrize(
    "no_network",
    [
        "",
        "{",
        {"plugins": [BRIDGE]},
        {"name": "", "plugins": [BRIDGE]},
        {"name": 7, "plugins": [BRIDGE]},
        {"name": "a", "plugins": []},
        {"name": "a", "plugins": {}},
        {"name": "a", "plugins": [BRIDGE, {}]},
        {"name": "a", "plugins": [BRIDGE, "portmap"]},
        {"name": "a", "cniVersion": 1, "plugins": [BRIDGE]},
        {"name": "a"},
        network("a", OURS),
    ],
)
def test_what_is_no_network_is_passed_over(tmp_path: Path, no_network: object) -> None:
    write(tmp_path, a_conflist=no_network)
    assert primary(tmp_path) is None
    write(tmp_path, b_conflist=network("b", BRIDGE))
    assert primary(tmp_path) == "b.conflist"


def test_a_list_in_a_file_for_one_plugin_is_passed_over(tmp_path: Path) -> None:
    write(tmp_path, a_conf=network("a", BRIDGE), b_conf={"name": "b", **BRIDGE})
    assert primary(tmp_path) == "b.conf"


def test_other_endings_folders_and_an_absent_folder_are_nothing(tmp_path: Path) -> None:
    write(tmp_path, a_bak=network("a", BRIDGE))
    (tmp_path / "b.conflist").mkdir()
    os.mkfifo(tmp_path / "c.conflist")
    assert primary(tmp_path) is None
    assert primary(tmp_path / "absent") is None


def test_a_file_that_is_just_being_written_is_waited_for(tmp_path: Path) -> None:
    write(tmp_path, a_conflist='{"name": "a", "plu', b_conflist=network("b", BRIDGE))
    now = (tmp_path / "a.conflist").stat().st_mtime
    assert network_folder.read(tmp_path, now + 0.1).unsettled == tmp_path / "a.conflist"
    assert network_folder.read(tmp_path, now + network_folder.SETTLE_SECONDS).unsettled is None


def test_a_broken_file_after_the_network_is_nobodys_concern(tmp_path: Path) -> None:
    write(tmp_path, a_conflist=network("a", BRIDGE), b_conflist="{")
    assert network_folder.read(tmp_path, time.time()).unsettled is None


def test_a_network_of_drop_ins_is_one_where_another_than_us_is_among_them(tmp_path: Path) -> None:
    write(tmp_path, a_conflist={"name": "a"})
    (tmp_path / "a").mkdir()
    write(tmp_path / "a", own_conf=OURS)
    assert primary(tmp_path) is None
    assert network_folder.read(tmp_path, LATER).hollow == {"a"}
    write(tmp_path / "a", main_conf=BRIDGE)
    assert primary(tmp_path) == "a.conflist"


def a_network(**fields: object) -> NetworkFile:
    document = network("net", BRIDGE, **fields)
    found = network_folder.as_network(Path("/a/net.conflist"), json.dumps(document).encode())
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("choice", "evidence", "there", "way"),
    [
        ("auto", Evidence.UNKNOWN, False, Way.INLINE),
        ("auto", Evidence.UNKNOWN, True, Way.BOTH),
        ("auto", Evidence.UNPROVEN, False, Way.BOTH),
        ("auto", Evidence.PROVEN, True, Way.DROP_IN),
        ("auto", Evidence.PROVEN, False, Way.DROP_IN),
        ("auto", Evidence.DISPROVEN, True, Way.INLINE),
        ("inline", Evidence.PROVEN, True, Way.INLINE),
        ("drop-in", Evidence.UNKNOWN, False, Way.DROP_IN),
    ],
)
def test_the_way_follows_from_what_is_asked_and_known(
    choice: Choice, evidence: Evidence, there: bool, way: Way
) -> None:
    assert way_wanted(choice, a_network(), evidence, drop_in_there=there) is way


@pytest.mark.parametrize("said", [True, "true", "True"])
def test_a_network_that_takes_no_drop_ins_is_joined_in_its_list(said: object) -> None:
    refusing = a_network(loadOnlyInlinedPlugins=said)
    assert way_wanted("auto", refusing, Evidence.PROVEN, drop_in_there=True) is Way.INLINE
    with pytest.raises(RequestError, match="takes no drop-ins"):
        way_wanted("drop-in", refusing, Evidence.PROVEN, drop_in_there=True)


@pytest.mark.parametrize("name", ["..", "a/b", ".hidden", "-x"])
def test_a_name_that_is_no_folders_has_no_drop_ins(name: str) -> None:
    assert not a_network(name=name).takes_drop_in


def test_where_all_plugins_are_drop_ins_we_are_one_for_in_the_list_we_would_come_first(tmp_path: Path) -> None:
    write(tmp_path, a_conflist={"name": "a"})
    (tmp_path / "a").mkdir()
    write(tmp_path / "a", main_conf=BRIDGE)
    found = network_folder.read(tmp_path, LATER).primary
    assert found is not None
    assert way_wanted("auto", found, Evidence.UNKNOWN, drop_in_there=False) is Way.DROP_IN
    with pytest.raises(RequestError, match="drop-ins only"):
        way_wanted("inline", found, Evidence.UNKNOWN, drop_in_there=False)
