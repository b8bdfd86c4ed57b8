"""What operators see: log lines, metrics, health; and that nothing secret is among it."""

import asyncio
import contextlib
import io
import json
import logging
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from jfe_cni import structured_log
from jfe_cni.errors import StoreError
from jfe_cni.ratelock import AsyncClient, root
from jfe_cni.ratelock.api import problems
from jfe_cni.ratelock.api.health import KEPT_SECONDS, Readiness
from jfe_cni.ratelock.demo import postgresql
from jfe_cni.ratelock.faults import BudgetSpent, Unauthenticated
from tests.ratelock.served import OWNER, Served, served

SECRETS = ("hunter2", "4111-1111", "wrong-guess", "bWVzc2FnZQ")


async def busy(service: Served) -> None:
    """A bit of everything, with what must not be seen in every place where a request has one."""
    async with service.as_owner() as owner, service.as_caller() as caller:
        await owner.add_password("alice", "hunter2")
        await owner.add_record("card", {"number": "4111-1111"})
        await owner.add_key("key", "ed25519")
        assert await caller.check("alice", "hunter2")
        assert not await caller.check("alice", "wrong-guess")
        assert await caller.release("card", ["number"]) == {"number": "4111-1111"}
        await caller.sign("key", b"message")
        await caller.check("alice", "hunter2")
        with pytest.raises(BudgetSpent):
            await caller.check("alice", "hunter2")
    async with service.http(service.caller) as http:
        await http.post("/v1/secrets/alice/check", json={"password": {"nested": "hunter2"}})
        await http.post("/v1/secrets/alice/check", content=b'{"password": "hunter2"')
        await http.post("/v1/secrets/hunter2/check?password=hunter2", json={"passwort": "hunter2"})
        await http.get("/v1/hunter2")
        await http.put("/v1/secrets/alice", json={"kind": "hunter2"})
    async with AsyncClient(service.url, token="rl_" + "hunter2" * 6 + "x") as nobody:
        with pytest.raises(Unauthenticated):
            await nobody.secrets()


async def test_no_log_line_and_no_metric_has_anything_that_a_request_carried(service: Served) -> None:
    await busy(service)
    async with service.http(service.owner) as http:
        metrics = (await http.get("/metrics")).text
    for secret in (*SECRETS, service.owner, service.caller, "alice"):
        assert secret not in service.log.getvalue()
        assert secret not in metrics
    lines = [json.loads(line) for line in service.log.getvalue().splitlines()]
    requests = [line for line in lines if line["event"] == "request"]
    assert {"time", "level", "event", "operation", "outcome", "status", "milliseconds", "caller", "peer"} <= set(
        requests[0]
    )
    assert ("check", "valid", "shop") in {(each["operation"], each["outcome"], each["caller"]) for each in requests}
    assert ("check", "spent", "shop") in {(each["operation"], each["outcome"], each["caller"]) for each in requests}


async def test_metrics_count_operations_by_what_came_of_them(service: Served) -> None:
    await busy(service)
    async with service.http(service.owner) as http:
        lines = (await http.get("/metrics")).text.splitlines()
    assert 'ratelock_requests_total{operation="check",outcome="valid"} 2.0' in lines
    assert 'ratelock_requests_total{operation="check",outcome="wrong"} 1.0' in lines
    assert 'ratelock_requests_total{operation="check",outcome="spent"} 1.0' in lines
    assert 'ratelock_requests_total{operation="release",outcome="done"} 1.0' in lines
    assert 'ratelock_requests_total{operation="none",outcome="refused"} 1.0' in lines
    assert any(line.startswith('ratelock_request_seconds_count{operation="sign"} 1.0') for line in lines)


async def test_paths_and_methods_that_are_made_up_make_no_new_series(service: Served) -> None:
    async with service.http(service.caller) as http:
        for number in range(20):
            await http.request(f"MADE{number}UP", f"/v1/made/up/{number}")
    async with service.http(service.owner) as http:
        assert "made" not in (await http.get("/metrics")).text.lower()


async def test_the_address_for_metrics_serves_them_and_health_to_everybody_and_nothing_else(tmp_path: Path) -> None:
    async with served(tmp_path, metrics_listen=f"unix:{tmp_path / 'metrics.sock'}") as service:
        beside = Served(f"unix:{tmp_path / 'metrics.sock'}", "", "", service.assembled, service.log)
        async with beside.http() as http:
            statuses = [(await http.get(path)).status_code for path in ("/healthz", "/readyz", "/metrics")]
            assert statuses == [200, 200, 200]
            for path in ("/v1/secrets", "/openapi.json", "/"):
                assert (await http.get(path, headers={"authorization": f"Bearer {service.owner}"})).status_code == 404


async def test_it_is_not_ready_where_the_store_is_away_and_lives_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jfe_cni.ratelock.api.health.KEPT_SECONDS", 0.0)
    with postgresql.server() as database:
        async with served(tmp_path, store=database.database()) as service, service.http() as http:
            assert (await http.get("/readyz")).json() == {"status": "ready"}
            await asyncio.to_thread(database.stop)
            away = await http.get("/readyz")
            assert (away.status_code, away.json()["type"]) == (503, problems.STORE.uri)
            assert (await http.get("/healthz")).status_code == 200
            answer = await http.get("/v1/secrets", headers={"authorization": f"Bearer {service.owner}"})
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
            await asyncio.to_thread(database.start)
            async with asyncio.timeout(30):
                while (await http.get("/readyz")).status_code != 200:
                    pass


async def test_it_is_not_ready_where_the_store_can_be_read_and_takes_no_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A standby of PostgreSQL, or a database that an operator has made read-only."""
    monkeypatch.setattr("jfe_cni.ratelock.api.health.KEPT_SECONDS", 0.0)
    with postgresql.server() as database:
        url = database.database()
        async with served(tmp_path, store=url) as service, service.http() as http:
            assert (await http.get("/readyz")).status_code == 200
            with psycopg.connect(url, autocommit=True) as operator:
                name = sql.Identifier(operator.info.dbname)
                operator.execute(sql.SQL("ALTER DATABASE {} SET default_transaction_read_only = on").format(name))
                operator.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE pid <> pg_backend_pid() AND datname = current_database()"
                )
            refused = await http.get("/readyz")
            assert (refused.status_code, refused.json()["type"]) == (503, problems.STORE.uri)
            assert await service.assembled.store.secret(root.NAME) is not None


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """Of two megabytes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "ratelock", folder], check=True)
    yield folder
    subprocess.run(["umount", folder], check=True)


async def test_it_is_not_ready_where_the_disk_is_full(
    disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jfe_cni.ratelock.api.health.KEPT_SECONDS", 0.0)
    async with served(tmp_path, store=f"sqlite:///{disk}/store.db") as service, service.http() as http:
        assert (await http.get("/readyz")).status_code == 200
        filled = disk / "everything-else"
        with filled.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(4096))
        async with asyncio.timeout(30):
            # There may be room in the log of what was written before.
            while (full := await http.get("/readyz")).status_code == 200:
                pass
        assert (full.status_code, full.json()["type"]) == (503, problems.STORE.uri)
        filled.unlink()
        assert (await http.get("/readyz")).status_code == 200


async def test_a_good_look_at_the_store_is_kept_for_a_while_and_a_bad_one_is_not() -> None:
    looks, now = 0, 0.0

    async def look() -> None:
        nonlocal looks
        looks += 1
        if looks == 1:
            raise StoreError("the store is away")

    readiness = Readiness(look, lambda: now)
    now = 100.0
    with pytest.raises(StoreError):
        await readiness.look()
    await asyncio.gather(*(readiness.look() for _ in range(10)))
    assert looks == 2
    now += KEPT_SECONDS
    await readiness.look()
    assert looks == 3


async def test_what_runs_when_it_is_stopped_is_ended_and_what_comes_is_refused(tmp_path: Path) -> None:
    context = served(tmp_path)
    service = await context.__aenter__()
    await service.assembled.service.add_password(OWNER, "alice", b"right")
    reader, writer = await asyncio.open_unix_connection(service.url.removeprefix("unix:"))
    head = f"POST /v1/secrets/alice/check HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {service.caller}\r\n"
    writer.write(head.encode() + b"content-type: application/json\r\ncontent-length: 20\r\n\r\n")
    await writer.drain()
    async with service.http() as http:
        while "ratelock_requests_running 1" not in await running(service):
            await http.get("/healthz")
    stopping = asyncio.create_task(context.__aexit__(None, None, None))
    async with asyncio.timeout(10):
        while await accepts(service):
            pass
    writer.write(b'{"password":"right"}')
    answer = await reader.read()
    assert answer.startswith(b"HTTP/1.1 200")
    assert answer.endswith(b'{"valid":true}')
    writer.close()
    await stopping


async def running(service: Served) -> str:
    async with service.http(service.owner) as http:
        # This request is one that runs, too.
        return (await http.get("/metrics")).text.replace("ratelock_requests_running 2.0", "ratelock_requests_running 1")


async def accepts(service: Served) -> bool:
    try:
        _, writer = await asyncio.open_unix_connection(service.url.removeprefix("unix:"))
    except (ConnectionError, FileNotFoundError):
        return False
    writer.close()
    return True


@pytest.mark.parametrize("form", ["json", "text"])
def test_a_line_is_one_event_whatever_came(form: Any) -> None:
    stream = io.StringIO()
    log = structured_log.configure("ratelock", form, stream)
    hostile = 'x\n2030-01-01T00:00:00Z info forged \x1b[2J\r\u2028 "quoted" \udcff'
    log.info("request", extra=structured_log.fields(caller=hostile))
    log.warning(hostile)
    try:
        raise ValueError("hunter2")
    except ValueError:
        log.exception("failed")
    logging.getLogger("asyncio").error("lost\nfuture: <Task exception=ValueError('hunter2')>")
    text = stream.getvalue()
    assert len(text.splitlines()) == 4
    assert "\x1b" not in text
    assert "hunter2" not in text
    assert "ValueError" in text
