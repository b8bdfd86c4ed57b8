"""Who follows connections is told what is new, whoever else asks for them meanwhile."""

from __future__ import annotations

import dataclasses

from jfe_cni.agent.connections import Connections
from jfe_cni.agent.reports import ConnectionReport
from tests.unit.test_agent_log import CONNECTION


def event(number: int, phase: str, bytes_sent: int = 0) -> ConnectionReport:
    return dataclasses.replace(CONNECTION, number=number, phase=phase, bytes_sent=bytes_sent)


class Upgrader:
    """Names what is open when somebody wants to know, before it answers."""

    def __init__(self, *named: ConnectionReport) -> None:
        self.named = named
        self.wanted = False
        self.connections = Connections(self.want)

    async def want(self, *, wanted: bool) -> None:
        self.wanted = wanted
        if wanted:
            self.name_all()

    def name_all(self) -> None:
        for report in self.named:
            # As the agent's stream does: what nobody wants is not kept.
            if self.connections.wanted:
                self.connections.take(report)


async def test_what_is_named_before_the_answer_comes_is_told_once() -> None:
    upgrader = Upgrader(event(1, "decided"), event(2, "open"))
    following = upgrader.connections.follow()
    assert [await anext(following) for _ in range(2)] == [event(1, "decided"), event(2, "open")]
    # For somebody else, who wants to know what they have carried.
    upgrader.named = (event(1, "decided", 500), event(2, "open"))
    upgrader.name_all()
    upgrader.connections.take(event(2, "decided"))
    assert await anext(following) == event(2, "decided")
    await following.aclose()
    assert not upgrader.wanted


async def test_those_open_now_are_shown_with_what_they_have_carried_by_now() -> None:
    upgrader = Upgrader(event(1, "decided", 100))
    following = upgrader.connections.follow()
    await anext(following)
    upgrader.named = (event(1, "decided", 900),)
    upgrader.name_all()
    assert await upgrader.connections.now() == [event(1, "decided", 900)]
    await following.aclose()


async def test_without_a_follower_nothing_is_wanted() -> None:
    upgrader = Upgrader(event(1, "decided"))
    assert not upgrader.connections.wanted
    assert await upgrader.connections.now() == [event(1, "decided")]
    assert not upgrader.connections.wanted
