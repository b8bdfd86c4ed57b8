"""What the upgrader is told of the directory, in frames that it takes, and what follows where it does not answer."""

from __future__ import annotations

import asyncio
import ipaddress
import json
from collections.abc import Mapping
from typing import Any

import pytest

from jfe_cni.agent import messages
from jfe_cni.agent.directory import API, Directory
from jfe_cni.agent.messages import Word
from jfe_cni.agent.objects import LIST_LIMIT, DirectoryEntry
from jfe_cni.agent.publication import Publication, parts
from jfe_cni.errors import UpgraderError

PEER = DirectoryEntry(ipaddress.ip_network("10.2.0.9/32"), 80)


class Upgrader:
    """Does as it is told; while it is `deaf` it never says so."""

    def __init__(self) -> None:
        self.closed = asyncio.Event()
        self.deaf = False
        self.directory: set[str] = set()

    async def ask(self, word: Word) -> Mapping[str, Any]:
        body = json.loads(messages.frame(1, word)[4:])
        match body:
            case {"word": "add", "object": {"directory": entries}}:
                self.directory |= {entry["network"] for entry in entries}
            case {"word": "del", "name": {"directory": keys}}:
                self.directory -= {key["network"] for key in keys}
        if self.deaf:
            raise UpgraderError("the upgrader did not answer")
        return {"answer": "done"}


@pytest.fixture
def directory() -> Directory:
    return Directory()


async def begun(directory: Directory, upgrader: Upgrader) -> Publication:
    publication = Publication(directory)
    await publication.begin(upgrader)  # type: ignore[arg-type]
    return publication


def test_no_frame_is_longer_than_the_upgrader_takes() -> None:
    ports = tuple(range(65535, 65535 - LIST_LIMIT, -1))
    entries = [DirectoryEntry(ipaddress.ip_network(number), excluded_ports=ports) for number in range(3000)]
    split = list(parts(entries))
    assert [entry for part in split for entry in part] == entries
    assert sum(len(messages.frame(1, messages.add_directory(part))) for part in split) > messages.FRAME_LIMIT


def test_nothing_is_no_frame() -> None:
    assert list(parts([])) == []


async def test_what_was_put_and_not_answered_is_taken_out_when_it_is_wanted_no_more(directory: Directory) -> None:
    upgrader = Upgrader()
    publication = await begun(directory, upgrader)
    directory.put(API, [PEER])
    upgrader.deaf = True
    with pytest.raises(UpgraderError):
        await publication.publish()
    assert upgrader.directory == {"10.2.0.9/32"}
    upgrader.deaf = False
    directory.remove(API, [PEER.key])
    await publication.publish()
    assert upgrader.directory == set()


async def test_what_was_taken_out_and_not_answered_is_put_in_when_it_is_wanted_again(directory: Directory) -> None:
    upgrader = Upgrader()
    directory.put(API, [PEER])
    publication = await begun(directory, upgrader)
    directory.remove(API, [PEER.key])
    upgrader.deaf = True
    with pytest.raises(UpgraderError):
        await publication.publish()
    upgrader.deaf = False
    directory.put(API, [PEER])
    await publication.publish()
    assert upgrader.directory == {"10.2.0.9/32"}
