"""`jfe cni uninstall`: out of every chain, a program that answers left behind, and nothing else."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from tests.cni.installation import BRIDGE, Installation, network
from tests.cni.rival import Reader, Rival


@pytest.fixture
def made(tmp_path: Path) -> Installation:
    return Installation(tmp_path)


def record(made: Installation, config: dict[str, Any]) -> Path:
    """As libcni keeps it for a pod that was added by `config`."""
    results = made.cache / "results"
    results.mkdir(parents=True, exist_ok=True)
    path = results / f"{config['name']}-3f1c-eth0"
    content = base64.b64encode(json.dumps(config).encode()).decode()
    path.write_text(json.dumps({"kind": "cniCacheV1", "containerId": "3f1c", "config": content, "ifName": "eth0"}))
    return path


def test_installed_and_uninstalled_the_list_is_as_it_was_and_the_program_only_answers(made: Installation) -> None:
    made.write("10-net.conflist", network(unknown=[1]))
    made.installed()
    said = made.uninstalled()
    assert made.read("10-net.conflist") == network(unknown=[1])
    assert made.files() == ["10-net.conflist"]
    assert made.program.read_bytes() == made.retired.read_bytes()
    assert made.program.stat().st_mode & 0o777 == 0o755
    assert said == {"left": [str(made.path("10-net.conflist"))], "retired": [str(made.program)], "removed": []}


def test_installed_again_it_is_as_after_the_first_time(made: Installation) -> None:
    made.write("10-net.conflist", network())
    with Reader(made):
        made.installed()
        first = made.read("10-net.conflist")
        for _ in range(2):
            made.uninstalled()
            made.installed()
    assert made.read("10-net.conflist") == first
    assert made.program.read_bytes() == made.plugin.read_bytes()


def test_every_file_is_left_not_the_pods_network_alone(made: Installation) -> None:
    made.write("10-net.conflist", network())
    made.installed("--chain", "drop-in")
    made.write("20-other.conflist", network("other", BRIDGE, {"type": "jfe"}))
    made.write("30-own.conflist", network("own", {"type": "jfe"}))
    made.write("40-own.conf", {"name": "own", "type": "jfe"})
    made.path("else").mkdir()
    made.write("else/50-own.conf", {"type": "jfe"})
    made.write("else/10-main.conf", BRIDGE)
    made.uninstalled()
    assert made.files() == ["10-net.conflist", "20-other.conflist", "else/10-main.conf"]
    assert made.read("20-other.conflist") == network("other", BRIDGE)
    assert not made.path("net").exists()


def test_a_single_configuration_that_was_promoted_stays_a_list(made: Installation) -> None:
    single = {"name": "net", **BRIDGE}
    made.write("10-net.conf", single)
    made.installed()
    made.uninstalled()
    assert made.files() == ["10-net.conflist"]
    assert made.read("10-net.conflist") == {"name": "net", "plugins": [single]}


def test_where_nothing_is_installed_it_is_done(made: Installation) -> None:
    made.write("10-net.conflist", network())
    before = made.contents()
    assert made.uninstalled() == {"left": [], "retired": [], "removed": []}
    assert made.uninstalled("--purge") == {"left": [], "retired": [], "removed": []}
    assert made.contents() == before
    assert not made.bin.exists()


def test_a_second_time_there_is_nothing_left_to_do(made: Installation) -> None:
    made.write("10-net.conflist", network())
    made.installed()
    made.uninstalled()
    before, program = made.contents(), made.program.stat()
    assert made.uninstalled() == {"left": [], "retired": [], "removed": []}
    assert made.contents() == before
    assert made.program.stat().st_ino == program.st_ino


def test_a_program_that_is_gone_while_pods_need_it_is_put_there_to_answer(made: Installation) -> None:
    record(made, network("net", BRIDGE, {"type": "jfe"}))
    made.uninstalled()
    assert made.program.read_bytes() == made.retired.read_bytes()


def test_purge_removes_the_program_where_nothing_names_it(made: Installation) -> None:
    made.write("10-net.conflist", network())
    made.installed()
    record(made, network("net", BRIDGE))
    said = made.uninstalled("--purge")
    assert (said["retired"], said["removed"]) == ([], [str(made.program)])
    assert list(made.bin.iterdir()) == []


def test_purge_is_refused_while_a_pod_was_added_with_us(made: Installation) -> None:
    made.write("10-net.conflist", network())
    made.installed()
    pod = record(made, made.read("10-net.conflist"))
    refused = made.uninstall("--purge")
    assert refused.returncode == 1
    assert str(pod) in refused.stderr
    assert made.read("10-net.conflist") == network()
    assert made.program.read_bytes() == made.retired.read_bytes()
    pod.unlink()
    assert made.uninstalled("--purge")["removed"] == [str(made.program)]


@pytest.mark.parametrize(
    "content",
    [{"type": "multus", "delegates": [network("net", BRIDGE, {"type": "jfe"})]}, '{"plugins": [{"type": "jfe"'],
)
def test_purge_is_refused_while_a_configuration_may_name_us(made: Installation, content: object) -> None:
    made.write("10-net.conflist", network())
    made.installed()
    named = made.write("00-multus.conf", content)
    refused = made.uninstall("--purge")
    assert refused.returncode == 1
    assert str(named) in refused.stderr
    assert made.program.exists()


@pytest.mark.parametrize("content", ["", "{", '{"config": 7}', '{"config": "%%%"}', '{"config": "e30="}', "[]"])
def test_a_record_of_another_form_is_nobodys(made: Installation, content: str) -> None:
    made.write("10-net.conflist", network())
    made.installed()
    record(made, network()).write_text(content)
    assert made.uninstalled("--purge")["removed"] == [str(made.program)]


def test_a_rival_that_writes_meanwhile_loses_nothing_and_no_file_is_ever_half_written(made: Installation) -> None:
    path = made.write("10-net.conflist", network("net", BRIDGE, {"type": "jfe", "old": True}))
    with Reader(made) as reader, Rival(path, network("net", BRIDGE), period=0.02) as rival:
        # Once alone can't last against a rival that does not stop: whether it did is said by its status.
        tried = made.install()
        assert tried.returncode == 0 or "jfe cni install --watch" in tried.stderr
        made.uninstalled()
    assert made.types("10-net.conflist") == ["bridge"]
    assert made.read("10-net.conflist")["generation"] == rival.generation
    assert made.files() == ["10-net.conflist"]
    assert reader.states[True]
    assert reader.states[False]
