"""The agent comes and goes, in order or killed; connections do not notice."""

from __future__ import annotations

import signal

import pytest

from tests.e2e.talk import Echo, Load, goes_both_ways, goes_on, is_turned_away, talking
from tests.stage import Host, Stage

PORT = 7601


def kept(stage: Stage) -> None:
    """As `Stage.cover`, with agents whose end takes nothing along."""
    for host in stage.hosts:
        host.start_agent(on_exit="keep")
        host.enrol("strict")
    stage.introduce(stage.a, to=stage.b)
    stage.introduce(stage.b, to=stage.a)


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_an_agent_restart_under_load_drops_nothing(stage: Stage, end: signal.Signals) -> None:
    kept(stage)
    with Echo(stage.b, PORT) as echo, Load(stage.a, stage.b.ipv4, PORT) as load, stage.capture() as wire:
        goes_on(load, "before")
        for host in stage.hosts:
            upgrader = host.upgrader()
            listeners = _listeners(host)
            assert host.stop_agent(end) == (0 if end is signal.SIGTERM else -signal.SIGKILL)
            goes_on(load, f"while {host.name} has no agent")
            host.start_agent(on_exit="remove")
            assert host.upgrader() == upgrader, "it was taken over, not replaced"
            assert _listeners(host) == listeners
            assert host.ask(lambda agent: agent.status()).upgrader_restarts == 0
            goes_on(load, f"with the new agent of {host.name}")
        assert {peer[0] for peer in echo.seen} == {stage.a.ipv4}
    # Nothing but TLS all the while; connections that are older than the capture are seen from a later record.
    openings = {stream[:3] for stream in wire.streams(PORT).values()}
    assert openings <= {b"\x16\x03\x01", b"\x16\x03\x03", b"\x14\x03\x03", b"\x17\x03\x03"}


def _listeners(host: Host) -> tuple[int | None, int | None]:
    report = host.ask(lambda agent: agent.workload(host.name))
    assert report.state == "covered"
    return report.outbound_port, report.inbound_port


def test_what_was_unenrolled_before_a_restart_stays_so_and_the_rest_comes_back(stage: Stage) -> None:
    kept(stage)
    stage.b.unenrol()
    stage.b.stop_agent(signal.SIGKILL)
    stage.b.start_agent()
    assert stage.b.ask(lambda agent: agent.workloads()) == []
    with talking(stage.stranger, stage.b, PORT) as talk:
        assert goes_both_ways(talk)
    stage.a.stop_agent(signal.SIGKILL)
    stage.a.start_agent()
    # The directory that was pushed is remembered: b is still expected to be covered, and is not.
    with Echo(stage.b, PORT, banner=b"in clear"):
        assert is_turned_away(stage.a, stage.b.ipv4, PORT)
    assert stage.a.told(direction="outbound", reason="peer-not-tls", decision="refuse")


def test_a_second_agent_is_turned_away_while_one_runs(stage: Stage) -> None:
    kept(stage)
    words = stage.a.agent.command[3:]
    ended = stage.a.run(words, check=False)
    assert ended.returncode == 1
    assert b"another agent runs" in ended.stderr
    with talking(stage.a, stage.b, PORT) as talk:
        assert goes_both_ways(talk)
