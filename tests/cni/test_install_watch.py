"""`jfe cni install --watch`: what another changes is mended, and it is no fight that anybody loses."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from tests.cni.installation import BRIDGE, Calls, Installation, network
from tests.cni.rival import Reader, Rival
from tests.e2e.command import jfe
from tests.stage import Process, eventually

# What is promised is about this long, and a rival that writes as often as `Rival` does.
RIVALRY_SECONDS = 10.0
CHAIN = ["bridge", "portmap", "jfe"]


@pytest.fixture
def made(tmp_path: Path) -> Installation:
    return Installation(tmp_path)


def let_pass(seconds: float) -> None:
    threading.Event().wait(seconds)


def test_a_rival_that_rewrites_the_list_all_the_time_leaves_us_in_it_and_us_its_last_word(made: Installation) -> None:
    path = made.write("10-net.conflist", network())
    with made.watching(), Reader(made) as reader:
        with Rival(path, network()) as rival:
            let_pass(RIVALRY_SECONDS)
        eventually(lambda: made.types("10-net.conflist") == CHAIN, "we are in the chain", otherwise=path.read_text)
    assert made.read("10-net.conflist")["generation"] == rival.generation
    assert made.files() == ["10-net.conflist"]
    # We were in the chain again and again, not at the end alone, and the reader has seen it.
    assert len(reader.states[True]) > 20
    assert len(reader.states[False]) > 20


def test_one_that_writes_in_place_has_its_last_word_too(made: Installation) -> None:
    path = made.write("10-net.conflist", network())
    with made.watching():
        with Rival(path, network(), in_place=True, period=0.01) as rival:
            let_pass(3)
        eventually(lambda: made.types("10-net.conflist") == CHAIN, "we are in the chain", otherwise=path.read_text)
    assert made.read("10-net.conflist")["generation"] == rival.generation
    assert made.files() == ["10-net.conflist"]


class Slow(Rival):
    """Never gets beyond the first half."""

    def work(self) -> None:
        self._path.write_text('{"cniVersion": "1.0.0", "name": "net", "plu')


def test_while_the_first_file_is_being_written_we_do_not_take_another_for_the_network(made: Installation) -> None:
    path = made.write("10-net.conflist", "")
    other = made.write("20-other.conflist", network("other"))
    with Slow(path, {}), made.watching() as watch:
        eventually(made.program.exists, "the watch has looked")
        let_pass(1)
        path.unlink()
        path = made.write("05-net.conflist", network())
        watch.says("joined")
    assert made.types("05-net.conflist") == CHAIN
    assert json.loads(other.read_text()) == network("other")


def test_one_that_writes_a_single_configuration_all_the_time_is_promoted_each_time(made: Installation) -> None:
    path = made.write("10-net.conf", {"name": "net", **BRIDGE})
    with made.watching(), Reader(made):
        with Rival(path, {"name": "net", **BRIDGE}) as rival:
            let_pass(3)
        eventually(
            lambda: made.files() == ["10-net.conflist"], "there is one list", otherwise=lambda: f"{made.files()}"
        )
    found = made.read("10-net.conflist")
    assert [plugin["type"] for plugin in found["plugins"]] == ["bridge", "jfe"]
    assert found["plugins"][0]["generation"] == rival.generation


def test_where_the_drop_in_is_proven_the_rival_is_left_alone(made: Installation) -> None:
    path = made.write("10-net.conflist", network())
    with Calls(made, honours_drop_ins=True), made.watching() as watch:
        watch.says("chain=drop-in")
        with Reader(made) as reader:
            reader.expect_us("10-net.conflist", "net")
            with Rival(path, network()):
                let_pass(2)
        assert reader.states[True] == set()
        assert "mended" not in watch.output().partition("chain=drop-in")[2]


def test_the_network_is_joined_when_its_plugin_comes_after_us(made: Installation) -> None:
    with made.watching() as watch:
        watch.says("no network is configured")
        assert made.files() == []
        assert made.program.exists()
        made.write("10-net.conflist", network())
        watch.says("chain=inline")
        assert made.types("10-net.conflist") == CHAIN
        made.write("05-first.conflist", network("first"))
        eventually(lambda: made.types("05-first.conflist") == CHAIN, "the network that comes first now is joined")


def test_a_folder_that_is_not_there_yet_is_made_and_one_that_is_made_anew_is_found(made: Installation) -> None:
    made.config.rmdir()
    with made.watching() as watch:
        watch.says("no network is configured")
        made.config.rename(made.folder / "gone")
        made.config.mkdir()
        made.write("10-net.conflist", network())
        eventually(lambda: made.types("10-net.conflist") == CHAIN, "it is joined", otherwise=watch.output)
        refused = made.uninstall()
        assert refused.returncode == 1, "the lock is that of the new folder"


@pytest.mark.parametrize("harm", ["removed", "replaced", "mode"])
def test_the_program_is_put_in_place_again(made: Installation, harm: str) -> None:
    made.write("10-net.conflist", network())
    with made.watching() as watch:
        watch.says("joined")
        match harm:
            case "removed":
                made.program.unlink()
            case "replaced":
                made.program.write_text("another")
            case _:
                made.program.chmod(0o600)

        def whole() -> bool:
            return (
                made.program.exists()
                and made.program.read_bytes() == made.plugin.read_bytes()
                and made.program.stat().st_mode & 0o777 == 0o755
            )

        eventually(whole, "the program is there")


def test_a_newer_program_takes_the_place_of_the_older(made: Installation) -> None:
    made.write("10-net.conflist", network())
    with made.watching() as watch:
        watch.says("joined")
        newer = made.folder / "newer"
        newer.write_text("#!/bin/sh\necho newer\n")
        newer.chmod(0o755)
        newer.rename(made.plugin)
        eventually(lambda: "newer" in made.program.read_text(), "the newer is in place")


def test_while_a_watch_runs_nobody_else_installs_or_uninstalls(made: Installation) -> None:
    made.write("10-net.conflist", network())
    with made.watching() as watch:
        watch.says("joined")
        for refused in (made.uninstall(), made.install()):
            assert refused.returncode == 1
            assert "stop it first" in refused.stderr
        second = Process(jfe(*made.install_words(), "--watch"), made.folder / "second.log")
        assert second.wait() == 1
        assert "another `jfe cni` is at work" in second.output()
        assert made.types("10-net.conflist") == CHAIN
    assert made.uninstalled()["left"] == [str(made.path("10-net.conflist"))]


def test_what_can_not_be_done_is_said_once_and_done_when_it_can(made: Installation) -> None:
    made.write("10-net.conf", {"name": "net", **BRIDGE})
    made.write("10-net.conflist", network("other"))
    with made.watching("--json") as watch:
        watch.says("different networks")
        let_pass(1)
        made.path("10-net.conflist").unlink()
        watch.says('"joined"')
        assert made.types("10-net.conflist") == ["bridge", "jfe"]
    events = [json.loads(line)["event"] for line in watch.output().splitlines()]
    assert events.count("not joined") == 1
