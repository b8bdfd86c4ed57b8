"""Certificates are renewed and the authority is rotated while connections live and are made."""

from __future__ import annotations

import contextlib
import sqlite3
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.command import jfe
from tests.e2e.hello import TlsTalk, context
from tests.e2e.talk import Echo, Load, dialled, goes_on
from tests.stage import Host, Stage, eventually

PORT = 7801


@pytest.fixture
def covered(stage: Stage) -> Stage:
    """With agents whose end takes nothing along. A stranger's TLS shows b's certificate."""
    for host in stage.hosts:
        host.start_agent(on_exit="keep")
        host.enrol("strict", strangers_tls=True)
    stage.introduce(stage.a, to=stage.b)
    stage.introduce(stage.b, to=stage.a)
    return stage


@pytest.fixture
def load(covered: Stage) -> Iterator[Load]:
    """Fails at its end where one of its connections was dropped, or one of its exchanges went wrong."""
    with Echo(covered.b, PORT), Load(covered.a, covered.b.ipv4, PORT) as made:
        yield made


def shown_to_strangers(stage: Stage, trust: ssl.SSLContext) -> bytes:
    """b's certificate. ssl.SSLCertVerificationError where `trust` has not its root."""
    with dialled(stage.stranger, stage.b.ipv4, PORT) as connection:
        talk = TlsTalk(connection, trust, stage.b.ipv4)
        talk.shake_hands()
        assert talk.ask(b"word") == b"word"
        return talk.certificate()


def bundle(host: Host) -> str:
    return host.ask(lambda agent: agent.authority()).trust_bundle


def renewals(host: Host) -> int:
    return sum(log.read_text().count('"certificate renewed"') for log in host.folder.glob("agent-*.log"))


def renewed(host: Host, before: int) -> None:
    eventually(lambda: renewals(host) > before, f"{host.name} has a new certificate")


def test_the_authority_is_rotated_under_traffic(covered: Stage, load: Load) -> None:
    """Each step is taken on a, whose agent shares the authority with b's."""
    first = context(bundle(covered.b))
    goes_on(load, "before")
    shown_to_strangers(covered, first)
    for step, phase, roots in (("begin", "introduced", 2), ("switch", "switched", 2), ("retire", "single", 1)):
        before = {host: renewals(host) for host in covered.hosts}
        covered.a.run(jfe("ca", "rotate", step, "--socket", str(covered.a.socket_path)))
        for host in covered.hosts:
            renewed(host, before[host])
            authority = host.ask(lambda agent: agent.authority())
            assert (authority.phase, len(authority.roots)) == (phase, roots)
        goes_on(load, f"after {step}")
        if step == "begin":
            shown_to_strangers(covered, first)
        else:
            shown_to_strangers(covered, context(bundle(covered.b)))
            with pytest.raises(ssl.SSLCertVerificationError):
                shown_to_strangers(covered, first)
    assert {c.reason for c in covered.a.connections() if c.ended} == {"mutual"}


def test_a_certificate_is_renewed_under_traffic(covered: Stage, load: Load) -> None:
    """Two thirds of its life are hours: what the agent has noted of them is brought forward while it is away."""
    trust = context(bundle(covered.b))
    before = shown_to_strangers(covered, trust)
    report = covered.b.ask(lambda agent: agent.workload(covered.b.name))
    covered.b.stop_agent()
    state = covered.b.folder / "workloads.db"
    # Not at once: the takeover would renew it.
    _due(state, time.time() + 8)
    covered.b.start_agent()
    goes_on(load, "with the certificate of before")
    renewed(covered.b, 0)
    goes_on(load, "with the new certificate")
    assert shown_to_strangers(covered, trust) != before
    after = covered.b.ask(lambda agent: agent.workload(covered.b.name))
    assert report.certificate_expires is not None
    assert after.certificate_expires is not None
    assert after.certificate_expires > report.certificate_expires


def _due(state: Path, when: float) -> None:
    with contextlib.closing(sqlite3.connect(state)) as database, database:
        database.execute("UPDATE workload SET state = json_set(state, '$.certificate.renew_at', ?)", (when,))
