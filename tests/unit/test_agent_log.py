"""Logs, metrics and settings: what they say, and that they say no secret."""

from __future__ import annotations

import io
import json
import logging
from datetime import UTC, datetime
from pathlib import Path

import pytest

from jfe_cni.agent import binaries, log
from jfe_cni.agent.messages import Counter, Counters, Identity
from jfe_cni.agent.metrics import KEPT_SECONDS, Metrics
from jfe_cni.agent.reports import ConnectionReport
from jfe_cni.agent.settings import Settings
from jfe_cni.errors import HostError, RequestError
from jfe_cni.identity import spiffe
from jfe_cni.identity.authority import open_authority
from jfe_cni.identity.csr import Names
from jfe_cni.identity.spiffe import TrustDomain
from tests.unit.report_examples import WEB

CONNECTION = ConnectionReport(
    number=7,
    phase="closed",
    workload="web",
    direction="inbound",
    source="10.1.0.5:40000",
    destination="10.2.0.9:80",
    decision="upgrade",
    reason="mutual",
    peer="spiffe://jfe.local/x",
    tls_version="TLSv1.3",
    cipher="TLS_AES_128_GCM_SHA256",
    key_exchange="X25519MLKEM768",
    bytes_sent=10,
    bytes_received=20,
    handshake_microseconds=900,
)


def logged(form: str, *records: tuple[str, dict[str, object]]) -> list[str]:
    stream = io.StringIO()
    logger = log.configure("json" if form == "json" else "text", stream)
    for message, named in records:
        logger.info(message, extra=log.fields(**named))
    return stream.getvalue().splitlines()


def test_a_json_line_has_time_level_event_and_fields() -> None:
    (line,) = logged("json", ("enrolled", {"workload": "web", "port": 80}))
    said = json.loads(line)
    assert (said["level"], said["event"], said["workload"], said["port"]) == ("info", "enrolled", "web", 80)
    assert said["time"].endswith("Z")


def test_a_text_line_quotes_what_could_be_taken_for_something_else() -> None:
    (line,) = logged("text", ("failed", {"error": 'a "b" c\nforged=1', "workload": "web", "absent": None}))
    assert line.endswith(r'info failed error="a \"b\" c\nforged=1" workload=web')


def test_a_connection_is_one_line_and_says_who_what_and_why() -> None:
    stream = io.StringIO()
    logger = log.configure("json", stream)
    logger.info("connection", extra=log.connection_fields(CONNECTION))
    (line,) = stream.getvalue().splitlines()
    said = json.loads(line)
    assert (said["decision"], said["reason"], said["peer"]) == ("upgrade", "mutual", "spiffe://jfe.local/x")


@pytest.mark.parametrize("form", ["json", "text"])
def test_no_key_gets_into_a_log_even_where_its_holder_is_logged_whole(form: str, tmp_path: Path) -> None:
    authority = open_authority(tmp_path / "ca", TrustDomain.parse("jfe.local"), lambda: datetime.now(UTC))
    leaf = authority.issue(Names(spiffe.host_run(authority.trust_domain, "n1", "web"), frozenset()))
    identity = Identity("spiffe://jfe.local/x", leaf.certificates, leaf.key, authority.bundle.pem())
    lines = logged(form, ("all of it", {"leaf": leaf, "identity": identity, "authority": vars(authority)}))
    assert "PRIVATE" not in "\n".join(lines)
    assert leaf.key[60:100] not in "\n".join(lines)


def test_metrics_name_what_the_documentation_promises() -> None:
    metrics = Metrics(list)
    metrics.take(Counters((Counter("web", "inbound", "upgrade", "mutual", 3, 10, 20, 3, 2_500_000),)))
    text = metrics.text().decode()
    connections = 'jfe_connections_total{decision="upgrade",direction="inbound",reason="mutual",workload="web"} 3.0'
    assert connections in text
    assert 'jfe_bytes_total{direction_of_bytes="sent",workload="web"} 10.0' in text
    assert 'jfe_handshake_seconds_sum{workload="web"} 2.5' in text
    assert 'jfe_handshake_seconds_count{workload="web"} 3.0' in text
    for name in ("jfe_workloads", "jfe_certificate_expiry_seconds", "jfe_rules_mended", "jfe_upgrader_restarts"):
        assert f"# TYPE {name}" in text


def test_metrics_of_a_workload_that_has_gone_are_read_once_more_and_then_forgotten() -> None:
    there = [WEB]
    metrics = Metrics(lambda: there)
    for workload in ("web", "job"):
        metrics.take(Counters((Counter(workload, "inbound", "upgrade", "mutual", 3, 10, 20, 3, 2_500_000),)))
    metrics.sweep(0.0)
    metrics.sweep(KEPT_SECONDS - 1)
    assert 'workload="job"' in metrics.text().decode()
    metrics.sweep(KEPT_SECONDS)
    text = metrics.text().decode()
    assert 'workload="job"' not in text
    assert 'jfe_connections_total{decision="upgrade",direction="inbound",reason="mutual",workload="web"} 3.0' in text
    # One that comes back counts anew.
    metrics.take(Counters((Counter("job", "inbound", "upgrade", "mutual", 1, 10, 20, 1, 1),)))
    assert 'workload="job"} 1.0' in metrics.text().decode()


@pytest.mark.parametrize(
    "wrong",
    [
        {"mark": 0},
        {"mark": 3},
        {"mark": 1 << 32},
        {"table": 254},
        {"table": 0},
        {"workers": 0},
        {"workers": 257},
        {"node": ""},
        {"node": "a/b"},
        {"node": "x" * 65},
        {"socket": Path("/" + "x" * 107)},
        {"state_dir": Path("/" + "x" * 100)},
    ],
)
def test_settings_that_cannot_be_are_refused_with_what_to_do(wrong: dict[str, object]) -> None:
    with pytest.raises(RequestError) as refused:
        Settings(**wrong)  # type: ignore[arg-type]
    assert refused.value.remedy


def test_a_program_that_is_named_must_be_one(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="no program"):
        binaries.find(named=tmp_path / "absent")
    program = tmp_path / "jfe-upgrader"
    program.write_text("#!/bin/sh\n")
    with pytest.raises(HostError, match="no program"):
        binaries.find(named=program)
    program.chmod(0o755)
    assert binaries.find(named=program) == program


def test_a_program_that_is_nowhere_is_told_how_to_get_it() -> None:
    with pytest.raises(HostError, match="not installed") as refused:
        binaries.find("no-such-program-of-jfe")
    assert "build" in refused.value.remedy


@pytest.fixture(autouse=True)
def _restore_logger() -> object:
    logger = logging.getLogger(log.LOGGER)
    before = (logger.handlers[:], logger.propagate)
    yield None
    logger.handlers[:], logger.propagate = before
    return None
