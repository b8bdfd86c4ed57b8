"""Agent, broker and workers killed, at any moment, under traffic: closed meanwhile, and everything comes back."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator

import pytest

from tests.e2e.churn import Churn
from tests.e2e.confined import Confined, confined
from tests.e2e.killing import kill
from tests.stage import Host, eventually

# Seconds after the traffic has come back: in the middle of handshakes, transfers, and of what the killed one began.
MOMENTS = (0.0, 0.02)


def broker(host: Host) -> None:
    kill(host.upgrader()[0])


def workers(host: Host) -> None:
    kill(*host.upgrader()[1:])


def one_worker(host: Host) -> None:
    kill(host.upgrader()[-1])


def agent(host: Host) -> None:
    host.agent.stop(signal.SIGKILL)
    host.start_agent()


def everything(host: Host) -> None:
    host.agent.stop(signal.SIGKILL)
    kill(*host.upgrader())
    host.start_agent()


def covered(host: Host) -> bool:
    return {workload.state for workload in host.ask(lambda agent: agent.workloads())} == {"covered"}


KILLINGS = [broker, workers, agent, everything]


@pytest.fixture(scope="module", params=["namespace", "host"])
def host(request: pytest.FixtureRequest) -> Iterator[Confined]:
    with confined(request.param) as made:
        yield made


@pytest.mark.parametrize("killing", KILLINGS, ids=lambda killing: killing.__name__)
def test_nothing_in_clear_whoever_is_killed(host: Confined, killing: Callable[[Host], None]) -> None:
    """On the side that is called, and on the side that calls."""
    stage = host.stage
    moments = MOMENTS if killing not in (agent, everything) else MOMENTS[1:2]
    with Churn(host) as churn:
        churn.goes_on("at first")
        for victim in (stage.b, stage.a):
            for moment in moments:
                # No condition to wait for: any moment will do, and this is one of them.
                churn.rest(moment)
                killing(victim)
                churn.goes_on(f"after {killing.__name__} of {victim.name}")
    for each in stage.hosts:
        eventually(lambda h=each: covered(h), f"{each.name} says that its workload is covered")  # type: ignore[misc]
    assert stage.b.told(reason="mutual", direction="inbound")


@pytest.mark.parametrize("killing", [one_worker, workers], ids=lambda killing: killing.__name__)
def test_nothing_in_clear_where_there_are_several_workers(killing: Callable[[Host], None]) -> None:
    """Those that are left go on, and whoever takes the killed one's place serves with them."""
    with confined("namespace", "--workers", "4") as host, Churn(host) as churn:
        churn.goes_on("at first")
        for victim in host.stage.hosts:
            assert len(victim.upgrader()) == 1 + 4
            killing(victim)
            churn.goes_on(f"after {killing.__name__} of {victim.name}")
            eventually(lambda v=victim: len(v.upgrader()) == 1 + 4, "all workers are there again")  # type: ignore[misc]
        churn.goes_on("in the end")
