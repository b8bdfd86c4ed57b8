"""The clients: an attempt that is sent again is not counted again, and a change is not made twice."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from jfe_cni.errors import ConflictError, RequestError
from jfe_cni.ratelock import AsyncClient, Client
from jfe_cni.ratelock.budgets import Budget, Limit, Meter
from jfe_cni.ratelock.client import ServiceUnreachable
from jfe_cni.ratelock.faults import BudgetSpent, Forbidden, KeyReusedError, UnknownSecret, UnknownToken
from tests.ratelock.served import OWNER, Served


@contextlib.asynccontextmanager
async def losing_answers(service: Served, folder: Path, lost: int) -> AsyncIterator[str]:
    """A proxy that takes requests to the service, and loses the first `lost` of its answers."""
    connections = 0

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        loses = connections <= lost
        up_reader, up_writer = await asyncio.open_unix_connection(service.url.removeprefix("unix:"))

        async def onward() -> None:
            while sent := await reader.read(65_536):
                up_writer.write(sent)

        onwards = asyncio.create_task(onward())
        while answered := await up_reader.read(65_536):
            if loses:
                break
            writer.write(answered)
        onwards.cancel()
        up_writer.close()
        writer.close()

    server = await asyncio.start_unix_server(pass_on, folder / "losing.sock")
    async with server:
        yield f"unix:{folder / 'losing.sock'}"


async def counted(service: Served, event: str) -> int:
    return sum([entry.event == event async for entry in service.assembled.service.log(OWNER)])


async def test_an_attempt_whose_answer_was_lost_is_answered_and_counted_once(service: Served, tmp_path: Path) -> None:
    await service.assembled.service.add_password(OWNER, "alice", b"right")
    async with losing_answers(service, tmp_path, 2) as url, AsyncClient(url, token=service.caller) as caller:
        assert await caller.check("alice", "right")
    assert await counted(service, "check") == 1
    async with service.as_caller() as caller:
        assert await caller.check("alice", "right")
        assert await caller.check("alice", "right")
        with pytest.raises(BudgetSpent):
            await caller.check("alice", "right")


async def test_a_change_whose_answer_was_lost_is_not_made_again(service: Served, tmp_path: Path) -> None:
    async with losing_answers(service, tmp_path, 1) as url, AsyncClient(url, token=service.owner) as owner:
        with pytest.raises(ServiceUnreachable):
            await owner.make_token("shop")
    assert await counted(service, "token.make") == 3


async def test_an_idempotency_key_stands_for_one_request_with_quotes_or_without(service: Served) -> None:
    await service.assembled.service.add_password(OWNER, "alice", b"right")
    async with service.http(service.caller) as http:
        for key in ('"once"', "once", '"once"', '"once"', '"once"'):
            answer = await http.post(
                "/v1/secrets/alice/check", json={"password": "right"}, headers={"idempotency-key": key}
            )
            assert answer.json() == {"valid": True}
        for unfit in ("", '""', '"', "a b", "x" * 129, '"' + "x" * 129 + '"', "a\tb", "';--"):
            answer = await http.post(
                "/v1/secrets/alice/check", json={"password": "right"}, headers={"idempotency-key": unfit}
            )
            assert answer.status_code == 422, unfit
    async with service.as_caller() as caller:
        with pytest.raises(KeyReusedError):
            await caller.check("alice", "wrong", idempotency_key="once")
    assert await counted(service, "check") == 1


async def test_a_spent_budget_says_when_to_come_again(service: Served) -> None:
    async with service.as_owner() as owner:
        await owner.set_budget(Meter("secret", "alice"), Budget((Limit(1, 500_000),)))
    async with service.as_caller() as caller:
        assert not await caller.check("alice", "x")
        with pytest.raises(BudgetSpent) as spent:
            await caller.check("alice", "x")
        assert spent.value.retry_after is not None
        assert 0 < spent.value.retry_after <= 0.5
        assert spent.value.limit == Limit(1, 500_000)
        await asyncio.sleep(spent.value.retry_after)
        assert not await caller.check("alice", "x")


async def test_every_call_of_both_clients(service: Served) -> None:
    def all_of_them() -> None:
        with Client(service.url, token=service.owner) as owner, Client(service.url, token=service.caller) as caller:
            owner.add_password("p/a", "right", "people")
            owner.add_record("r", {"card": "4111", "name": "A"})
            owner.add_key("s", "ed25519")
            assert owner.add_key("m", "hmac-sha256") is None
            assert "PUBLIC KEY" in (owner.add_key("d", "rsa-oaep-3072") or "")
            names = {each["name"]: (each["kind"], each["class"]) for each in owner.secrets()}
            assert names["p/a"] == ("password", "people")
            assert caller.check("p/a", "right")
            assert caller.release("r", ["card", "absent"]) == {"card": "4111"}
            assert len(caller.sign("s", b"message")) == 64
            assert len(caller.mac("m", b"message")) == 32
            with pytest.raises(RequestError):
                caller.decrypt("d", b"no ciphertext")
            with pytest.raises(Forbidden):
                caller.certify("s", "x", "node")
            stored = owner.set_budget(Meter("all"), Budget((Limit(1000, 1_000_000),), 60_000_000))
            assert stored is not None
            assert stored["budget"] == {"limits": [{"count": 1000, "window": 1.0}], "loosening_delay": 60.0}
            looser = owner.set_budget(Meter("all"), Budget((Limit(2000, 1_000_000),), 60_000_000))
            assert looser is not None
            assert looser["pending"]["limits"][0]["count"] == 2000
            removed = owner.set_budget(Meter("all"), None)
            assert removed is not None
            assert (removed["pending"], removed["pending_from"] is None) == (None, False)
            assert [each["kind"] for each in owner.budgets()] == ["all"]
            made = owner.make_token("other", operations=["check"], secrets=["p/*"], expires_in=60)
            with Client(service.url, token=made["token"]) as other, pytest.raises(Forbidden):
                other.release("r", ["card"])
            owner.revoke_token(made["digest"])
            with pytest.raises(UnknownToken):
                owner.revoke_token(made["digest"])
            owner.remove("p/a")
            with pytest.raises(UnknownSecret):
                owner.remove("p/a")
            with pytest.raises(ConflictError):
                owner.add_record("r", {"x": "y"})
            log = owner.log()
            assert log["entries"][0]["number"] == 1
            assert owner.verify_log()["intact"]
            assert owner.verify_log()["entries"] >= len(log["entries"])

    await asyncio.to_thread(all_of_them)


async def test_a_name_with_slashes_is_one_name_however_it_is_written(service: Served) -> None:
    async with service.as_owner() as owner:
        await owner.add_password("a/check", "right")
    async with service.http(service.caller) as http:
        for path in ("/v1/secrets/a/check/check", "/v1/secrets/a%2Fcheck/check"):
            assert (await http.post(path, json={"password": "right"})).json() == {"valid": True}


async def test_nobody_there_is_said_with_what_to_do(tmp_path: Path) -> None:
    async with AsyncClient(f"unix:{tmp_path / 'nobody.sock'}", token="rl_x") as client:
        with pytest.raises(ServiceUnreachable) as gone:
            await client.check("alice", "x")
    assert "serve --dev" in gone.value.remedy


async def test_another_service_is_told_from_this_one(tmp_path: Path) -> None:
    async def other(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 3\r\nconnection: close\r\n\r\n<p>")
        writer.close()

    server = await asyncio.start_unix_server(other, tmp_path / "other.sock")
    async with server, AsyncClient(f"unix:{tmp_path / 'other.sock'}", token="rl_x") as client:
        with pytest.raises(ServiceUnreachable, match="is not ratelock"):
            await client.check("alice", "x")


def test_a_client_s_repr_has_no_token() -> None:
    client = Client("http://127.0.0.1:1", token="rl_secret")
    assert "rl_secret" not in repr(client)
