"""Whatever goes wrong is told as a problem document, in headers that say when to come again, and quotes nothing."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from jfe_cni.errors import ConflictError, JfeError
from jfe_cni.ratelock import exchange
from jfe_cni.ratelock.api import problems
from jfe_cni.ratelock.budgets import Limit, Meter
from jfe_cni.ratelock.faults import BudgetSpent
from tests.ratelock.served import Served, served
from tests.ratelock.standing_still import standing_still

URIS = {each.uri: each for each in problems.TYPES}


def assert_problem(answer: httpx.Response, expected: problems.ProblemType) -> dict[str, Any]:
    document: dict[str, Any] = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["cache-control"] == "no-store"
    assert (document["type"], document["status"], document["title"]) == (expected.uri, expected.status, expected.title)
    assert answer.status_code == expected.status
    return document


async def test_what_is_not_there_and_what_can_t_be_done_there(service: Served) -> None:
    async with service.http(service.owner) as http:
        assert_problem(await http.get("/v1/unknown"), problems.NO_RESOURCE)
        assert_problem(await http.get("/"), problems.NO_RESOURCE)
        document = assert_problem(await http.patch("/v1/secrets"), problems.NO_METHOD)
        assert "detail" not in document
        assert "GET" in (await http.patch("/v1/secrets")).headers["allow"]
        assert_problem(await http.get("/v1/secrets/a/check"), problems.NO_METHOD)


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[" * 30_000, b'{"password": "\xff"}', b"\xff\xfe", b'{"password": NaN}', b"null", b'"x"']
)
async def test_a_body_that_is_no_json_or_no_object(service: Served, body: bytes) -> None:
    async with service.http(service.caller) as http:
        answer = await http.post("/v1/secrets/a/check", content=body, headers={"content-type": "application/json"})
    assert_problem(answer, URIS[answer.json()["type"]])
    assert answer.status_code in (400, 422)


async def test_what_is_unfit_is_pointed_to_and_not_quoted(service: Served) -> None:
    async with service.http(service.caller) as http:
        answer = await http.post("/v1/secrets/a/check", json={"password": ["hunter2"], "more": "hunter3"})
    document = assert_problem(answer, problems.UNFIT)
    assert [error["pointer"] for error in document["errors"]] == ["#/password", "#/more"]
    assert "hunter" not in answer.text


async def test_a_body_that_is_too_long_is_not_read(service: Served) -> None:
    async with service.http(service.caller) as http:
        told = await http.post("/v1/secrets/a/check", content=b"x" * 65_537)
        assert_problem(told, problems.TOO_LARGE)

        async def endless() -> AsyncIterator[bytes]:
            for _ in range(1024):
                yield b"x" * 65_536

        untold = await http.post("/v1/secrets/a/check", content=endless())
        assert_problem(untold, problems.TOO_LARGE)
        fits = json.dumps({"password": "x"}).encode().ljust(65_536)
        assert (await http.post("/v1/secrets/a/check", content=fits)).status_code in (200, 422)


async def test_an_address_that_is_too_long(service: Served) -> None:
    async with service.http(service.caller) as http:
        assert_problem(await http.post(f"/v1/secrets/{'a' * 2000}/check", json={"password": "x"}), problems.TOO_LONG)
        assert_problem(await http.post(f"/v1/secrets/{'a' * 256}/check", json={"password": "x"}), problems.UNFIT)
        assert (await http.post(f"/v1/secrets/{'a' * 255}/check", json={"password": "x"})).status_code == 200


@pytest.mark.parametrize(
    "sent",
    [
        b"nonsense\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nhost: x\r\nx: \x00\r\n\r\n",
        b"POST /v1/secrets HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n",
        b"POST /v1/secrets HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nhost: x\r\nx: " + b"y" * 400_000 + b"\r\n\r\n",
    ],
)
async def test_what_is_no_http_is_told_so_in_the_same_form(service: Served, sent: bytes) -> None:
    status, head, body = await exchanged(service, sent)
    assert status == 400
    assert b"application/problem+json" in head
    assert json.loads(body)["type"] == problems.MALFORMED.uri


async def exchanged(service: Served, sent: bytes) -> tuple[int, bytes, bytes]:
    reader, writer = await asyncio.open_unix_connection(service.url.removeprefix("unix:"))
    writer.write(sent)
    answer = b""
    # The service may have ended the connection before it has read all: then there is nothing after the answer.
    with contextlib.suppress(ConnectionError):
        while read := await reader.read(65_536):
            answer += read
    writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), head, body


async def test_a_request_that_does_not_arrive_in_time(tmp_path: Path) -> None:
    async with served(tmp_path, request_timeout=0.3) as service:
        head = f"POST /v1/secrets/a/check HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {service.caller}\r\n"
        status, _, body = await exchanged(service, head.encode() + b"content-length: 20\r\n\r\n{")
    assert status == 408
    assert json.loads(body)["type"] == problems.SLOW.uri


async def test_a_store_that_stands_still_is_no_fault_of_who_asks(tmp_path: Path, postgresql_url: str) -> None:
    whole = served(tmp_path, store=postgresql_url, request_timeout=0.5)
    async with whole as service, service.http(service.owner) as http:
        assert (await http.get("/v1/secrets")).status_code == 200
        with standing_still(postgresql_url):
            answers = [await http.get("/v1/secrets"), await http.post("/v1/secrets/a/check", json={})]
    for answer in answers:
        assert (answer.status_code, answer.json()["type"]) == (503, problems.TIMEOUT.uri)
        assert answer.headers["retry-after"] == "1"


async def test_a_head_that_does_not_arrive_in_time_ends_the_connection(tmp_path: Path) -> None:
    async with served(tmp_path, keep_alive_timeout=1) as service:
        for sent in (b"", b"GET /healthz HT"):
            reader, writer = await asyncio.open_unix_connection(service.url.removeprefix("unix:"))
            writer.write(sent)
            assert await reader.read() == b""
            writer.close()


async def test_more_requests_than_may_be_are_told_to_come_again(tmp_path: Path) -> None:
    async with served(tmp_path, most_requests=1) as service, service.http(service.caller) as http:
        reader, writer = await asyncio.open_unix_connection(service.url.removeprefix("unix:"))
        head = f"POST /v1/secrets/a/check HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {service.caller}\r\n"
        writer.write(head.encode() + b"content-type: application/json\r\ncontent-length: 16\r\n\r\n")
        await writer.drain()
        busy = await http.post("/v1/secrets/b/check", json={"password": "x"})
        while busy.status_code == 200:
            busy = await http.post("/v1/secrets/b/check", json={"password": "x"})
        assert_problem(busy, problems.BUSY)
        assert busy.headers["retry-after"] == "1"
        writer.write(b'{"password":"x"}')
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        writer.close()


async def test_a_spent_budget_says_which_and_when_to_come_again(service: Served) -> None:
    async with service.http(service.caller) as http:
        for _ in range(3):
            fine = await http.post("/v1/secrets/alice/check", json={"password": "x"})
            assert "retry-after" not in fine.headers
        spent = await http.post("/v1/secrets/alice/check", json={"password": "x"})
    document = assert_problem(spent, problems.SPENT)
    assert document["violated-policies"] == ["secret"]
    assert document["limit"] == {"count": 3, "window": 10.0}
    assert 0 < document["retry_after"] <= 10
    seconds = int(spent.headers["retry-after"])
    assert document["retry_after"] <= seconds < document["retry_after"] + 1
    assert spent.headers["ratelimit-policy"] == '"secret";q=3;w=10'
    assert spent.headers["ratelimit"] == f'"secret";r=0;t={seconds}'
    assert "alice" not in spent.text


async def test_a_class_that_is_spent_is_not_named_to_the_caller(service: Served) -> None:
    async with service.as_owner() as owner, service.http(service.caller) as http:
        await owner.add_password("alice", "right", "payroll")
        await owner.call(exchange.Call("PUT", "/v1/budgets/class/payroll", {"limits": [{"count": 1, "window": 0.5}]}))
        await http.post("/v1/secrets/alice/check", json={"password": "x"})
        spent = await http.post("/v1/secrets/alice/check", json={"password": "x"})
    document = assert_problem(spent, problems.SPENT)
    assert document["violated-policies"] == ["class"]
    assert spent.headers["ratelimit-policy"] == '"class";q=1'
    assert "payroll" not in spent.text


async def test_a_service_that_does_not_tell_answers_a_spent_budget_like_a_wrong_password(tmp_path: Path) -> None:
    async with served(tmp_path, tell_budget=False) as service:
        async with service.as_owner() as owner:
            await owner.add_password("alice", "right")
        async with service.http(service.caller) as http:
            answers = [await http.post("/v1/secrets/alice/check", json={"password": "right"}) for _ in range(4)]
    assert [answer.json()["valid"] for answer in answers] == [True, True, True, False]
    assert {tuple(answer.headers) for answer in answers[:1]} == {tuple(answer.headers) for answer in answers[3:]}


async def test_what_is_there_already(service: Served) -> None:
    async with service.http(service.owner) as http:
        assert (await http.put("/v1/secrets/a", json={"kind": "password", "password": "x"})).status_code == 201
        assert_problem(await http.put("/v1/secrets/a", json={"kind": "password", "password": "y"}), problems.CONFLICT)
        assert (await http.delete("/v1/secrets/a")).status_code == 204
        assert_problem(await http.delete("/v1/secrets/a"), problems.NO_SECRET)


@pytest.mark.parametrize("kind", problems.TYPES, ids=lambda kind: kind.name)
def test_every_problem_is_an_error_of_the_clients(kind: problems.ProblemType) -> None:
    document = problems.Problem(kind, "what is wrong", "what to do").document()
    fault = exchange.fault_of(json.loads(json.dumps(document)), kind.status)
    assert isinstance(fault, JfeError)
    assert fault.temporary == (kind.status in (429, 503)), kind
    if kind is not problems.SPENT:
        assert (fault.message, fault.remedy) == ("what is wrong", "what to do")


def test_a_spent_budget_is_the_same_error_on_both_sides() -> None:
    raised = BudgetSpent(Meter("class", "payroll"), Limit(3, 10_000_000), 9.125)
    document = problems.problem_of(raised).document()
    found = exchange.fault_of(document, 429)
    assert isinstance(found, BudgetSpent)
    assert (found.meter.kind, found.limit, found.retry_after) == ("class", raised.limit, 9.125)
    untold = exchange.fault_of(problems.problem_of(BudgetSpent(Meter("all"), Limit(1, 1), None)).document(), 429)
    assert isinstance(untold, BudgetSpent)
    assert untold.retry_after is None


def test_what_the_store_says_of_its_troubles_is_not_told() -> None:
    class Unheard(JfeError):
        pass

    assert problems.problem_of(Unheard("/var/lib/secret is gone")).document() == {
        "type": problems.INTERNAL.uri,
        "title": problems.INTERNAL.title,
        "status": 500,
    }
    assert problems.problem_of(ConflictError("it is there")).document()["detail"] == "it is there"
