"""Joining by the drop-in folder: only where a call has come by it, and never with a moment outside the chain."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cni.installation import BRIDGE, Calls, Installation, network
from tests.cni.rival import Reader
from tests.stage import eventually

DROP_IN = "net/zz-jfe.conf"


@pytest.fixture
def made(tmp_path: Path) -> Installation:
    return Installation(tmp_path)


@pytest.fixture
def modern(made: Installation) -> Iterator[Calls]:
    """Calls of a runtime that honours drop-ins."""
    with Calls(made, honours_drop_ins=True) as calls:
        yield calls


@pytest.fixture
def old(made: Installation) -> Iterator[Calls]:
    with Calls(made, honours_drop_ins=False) as calls:
        yield calls


def test_where_a_call_comes_by_it_the_drop_in_stays_and_the_list_is_as_it_was(
    made: Installation, modern: Calls
) -> None:
    made.write("10-net.conflist", network())
    said = made.installed()
    assert said["chain"] == "drop-in"
    assert made.read("10-net.conflist") == network()
    assert made.read(DROP_IN) == {
        "type": "jfe",
        "capabilities": {"io.kubernetes.cri.pod-annotations": True, "cgroupPath": True},
        "agentSocket": str(made.socket),
        "deadlineSeconds": 20,
        "dropIn": True,
    }
    assert made.files() == ["10-net.conflist", DROP_IN]
    assert modern.asked


def test_where_none_comes_in_time_the_entry_in_the_list_stays_alone(made: Installation, old: Calls) -> None:
    made.write("10-net.conflist", network())
    said = made.installed("--probe-seconds", "1")
    assert said["chain"] == "inline"
    assert made.types("10-net.conflist") == ["bridge", "portmap", "jfe"]
    assert not made.path("net").exists()
    assert str(made.path(DROP_IN)) in said["written"]
    assert old.asked


def test_without_an_agent_who_could_tell_the_list_is_the_way_at_once(made: Installation) -> None:
    made.write("10-net.conflist", network())
    said = made.installed()
    assert (said["chain"], said["written"]) == ("inline", [str(made.program), str(made.path("10-net.conflist"))])
    assert not made.path("net").exists()


def test_a_drop_in_that_can_not_be_proven_any_more_is_no_reason_to_stay_out_of_the_list(made: Installation) -> None:
    made.write("10-net.conflist", network())
    made.installed("--chain", "drop-in")
    assert made.types("10-net.conflist") == ["bridge", "portmap"]
    with Reader(made) as reader:
        reader.expect_us("10-net.conflist", "net")
        said = made.installed("--probe-seconds", "0")
    assert said["chain"] == "inline"
    assert made.types("10-net.conflist") == ["bridge", "portmap", "jfe"]
    assert made.files() == ["10-net.conflist"]


def test_a_network_that_loads_no_drop_ins_is_not_probed(made: Installation, modern: Calls) -> None:
    made.write("10-net.conflist", network(loadOnlyInlinedPlugins=True))
    assert made.installed()["chain"] == "inline"
    assert made.files() == ["10-net.conflist"]
    assert not modern.asked


def test_a_single_configuration_is_promoted_first_for_it_loads_no_drop_ins(made: Installation, modern: Calls) -> None:
    single = {"name": "net", **BRIDGE}
    made.write("10-net.conf", single)
    assert made.installed()["chain"] == "drop-in"
    assert made.read("10-net.conflist") == {"name": "net", "plugins": [single]}
    assert made.files() == ["10-net.conflist", DROP_IN]


def test_a_network_whose_plugins_are_all_drop_ins_is_joined_as_one_of_them(made: Installation) -> None:
    made.write("10-net.conflist", {"cniVersion": "1.1.0", "name": "net"})
    made.path("net").mkdir()
    made.write("net/10-main.conf", BRIDGE)
    assert made.installed()["chain"] == "drop-in"
    assert made.files() == ["10-net.conflist", "net/10-main.conf", DROP_IN]
    made.uninstalled()
    assert made.files() == ["10-net.conflist", "net/10-main.conf"]


def test_the_watch_changes_over_when_the_proof_comes_and_a_rival_changes_nothing_about_it(
    made: Installation, old: Calls
) -> None:
    made.write("10-net.conflist", network())
    with made.watching() as watch:
        watch.says("chain=both")
        assert made.path(DROP_IN).exists()
        assert made.types("10-net.conflist") == ["bridge", "portmap", "jfe"]
        with Reader(made) as reader:
            reader.expect_us("10-net.conflist", "net")
            old.honours_drop_ins = True
            watch.says("chain=drop-in")
        assert made.read("10-net.conflist") == network()
        rewritten = made.write("10-net.conflist", network("net", BRIDGE))
        before = rewritten.read_bytes()
        made.path(DROP_IN).unlink()
        eventually(made.path(DROP_IN).exists, "the drop-in is back")
        assert rewritten.read_bytes() == before


def test_under_another_name_the_network_is_joined_anew_and_the_old_drop_in_goes(
    made: Installation, modern: Calls
) -> None:
    made.write("10-net.conflist", network())
    with made.watching() as watch:
        watch.says("chain=drop-in")
        made.write("10-net.conflist", network("renamed"))
        eventually(lambda: made.files() == ["10-net.conflist", "renamed/zz-jfe.conf"], "the change-over is complete")
        assert not made.path("net").exists()
        eventually(lambda: made.read("10-net.conflist") == network("renamed"), "the new name is proven, too")


def test_an_agent_that_goes_away_leaves_the_watch_as_it_is(made: Installation) -> None:
    made.write("10-net.conflist", network())
    with made.watching() as watch:
        watch.says("chain=inline")
        with Calls(made, honours_drop_ins=True):
            watch.says("chain=drop-in")
        made.write("10-net.conflist", network("net", BRIDGE))
        made.path(DROP_IN).unlink()
        eventually(made.path(DROP_IN).exists, "the drop-in is back")
        assert made.types("10-net.conflist") == ["bridge"]
