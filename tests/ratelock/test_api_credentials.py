"""Who may do what: every route with every credential."""

import asyncio
from dataclasses import dataclass
from typing import Any

import pytest

from jfe_cni.ratelock.api.app import description
from tests.ratelock.served import ALL, OWNER, Served

ABSENT_DIGEST = "0" * 64


@dataclass(frozen=True)
class Route:
    method: str
    path: str
    content: dict[str, Any] | None = None
    # What who may do it gets here, where there is no secret, no budget and no such token.
    done: int = 200

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


LIMITS = {"limits": [{"count": 1, "window": 1}]}
FOR_CALLERS = (
    Route("POST", "/v1/secrets/a/check", {"password": "x"}),
    Route("POST", "/v1/secrets/a/release", {"fields": ["x"]}),
    # A key that is not there is one that this caller may not use, and a ciphertext opens with none.
    Route("POST", "/v1/secrets/a/sign", {"message": "eA=="}, done=403),
    Route("POST", "/v1/secrets/a/mac", {"message": "eA=="}, done=403),
    Route("POST", "/v1/secrets/a/decrypt", {"ciphertext": "eA=="}, done=422),
    Route("POST", "/v1/secrets/a/certify", {"csr": "x", "node": "n"}, done=403),
    Route("GET", "/v1/secrets/a/bundle", done=403),
)
FOR_OWNERS = (
    Route("GET", "/v1/secrets"),
    Route("PUT", "/v1/secrets/a", {"kind": "password", "password": "x"}, done=201),
    Route("PUT", "/v1/secrets/a", {"kind": "record", "fields": {"x": "y"}}, done=201),
    Route("PUT", "/v1/secrets/a", {"kind": "key", "algorithm": "ed25519"}, done=201),
    Route("PUT", "/v1/secrets/a", {"kind": "authority", "trust_domain": "jfe.test"}, done=201),
    Route("POST", "/v1/secrets/a/rotation", {"step": "begin"}, done=404),
    Route("DELETE", "/v1/secrets/a", done=404),
    Route("GET", "/v1/budgets"),
    Route("GET", "/v1/budgets/all", done=404),
    Route("PUT", "/v1/budgets/all", LIMITS),
    Route("DELETE", "/v1/budgets/all", done=204),
    Route("GET", "/v1/budgets/secret/a", done=404),
    Route("PUT", "/v1/budgets/caller/a", LIMITS),
    Route("DELETE", "/v1/budgets/class/a", done=204),
    Route("POST", "/v1/tokens", {"identity": "a", "role": "caller"}, done=201),
    Route("DELETE", f"/v1/tokens/{ABSENT_DIGEST}", done=404),
    Route("GET", "/v1/log"),
    Route("GET", "/v1/log/verification"),
    Route("POST", "/v1/log/checkpoint"),
    Route("GET", "/metrics"),
)
FOR_ALL = (Route("GET", "/healthz"), Route("GET", "/readyz"), Route("GET", "/openapi.json"))


async def status_of(service: Served, route: Route, token: str | None) -> int:
    async with service.http(token) as http:
        return (await http.request(route.method, route.path, json=route.content)).status_code


def test_the_lists_here_have_every_route_that_is_described() -> None:
    described = {(method.upper(), path) for path, methods in description()["paths"].items() for method in methods}
    listed = {
        (route.method, path)
        for route in (*FOR_CALLERS, *FOR_OWNERS)
        for path in (
            route.path.replace("/a/", "/{name}/").replace("/secrets/a", "/secrets/{name}"),
            "/v1/budgets/{kind}/{name}" if route.path.startswith("/v1/budgets/") and route.path.count("/") == 4 else "",
            "/v1/tokens/{digest}" if ABSENT_DIGEST in route.path else "",
        )
    }
    assert described <= listed


async def test_nobody_comes_in_without_a_credential_that_is_known(service: Served) -> None:
    tokens = ("rl_short", "rl_" + "A" * 43, service.owner[:-1], service.owner + "A", f"{service.owner} {service.owner}")
    credentials = ("", "Basic eDp5", "Bearer", service.owner, *(f"Bearer {token}" for token in tokens))
    async with service.http() as http:
        for route in (*FOR_CALLERS, *FOR_OWNERS, Route("GET", "/v1/unknown"), Route("GET", "/")):
            for headers in ({}, *({"authorization": credential} for credential in credentials)):
                answer = await http.request(route.method, route.path, json=route.content, headers=headers)
                assert answer.status_code == 401, (route, headers)
                assert answer.headers["www-authenticate"].startswith("Bearer")


async def test_a_caller_may_nothing_of_what_owners_may(service: Served) -> None:
    before = [entry async for entry in service.assembled.store.entries()]
    statuses = {str(route): await status_of(service, route, service.caller) for route in FOR_OWNERS}
    assert set(statuses.values()) == {403}, statuses
    assert [entry async for entry in service.assembled.store.entries()] == before


@pytest.mark.parametrize("route", FOR_OWNERS, ids=str)
async def test_an_owner_may_what_owners_may(service: Served, route: Route) -> None:
    assert await status_of(service, route, service.owner) == route.done


async def test_an_owner_uses_no_secret(service: Served) -> None:
    assert [await status_of(service, route, service.owner) for route in FOR_CALLERS] == [403] * len(FOR_CALLERS)


@pytest.mark.parametrize("route", FOR_CALLERS, ids=str)
async def test_a_caller_may_what_callers_may(service: Served, route: Route) -> None:
    assert await status_of(service, route, service.caller) == route.done


async def test_a_token_reaches_no_further_than_its_secrets(service: Served) -> None:
    narrow = await service.assembled.service.make_token(OWNER, "narrow", "caller", ALL, ("b*",), 60)
    assert [await status_of(service, route, narrow) for route in FOR_CALLERS] == [403] * len(FOR_CALLERS)


async def test_a_token_reaches_no_further_than_its_operations(service: Served) -> None:
    narrow = await service.assembled.service.make_token(OWNER, "narrow", "caller", frozenset({"check"}), ("*",), 60)
    check, *others = FOR_CALLERS
    assert [await status_of(service, route, narrow) for route in others] == [403] * len(others)
    assert await status_of(service, check, narrow) == 200


async def test_everybody_may_ask_whether_it_lives_and_how_to_speak_to_it(service: Served) -> None:
    assert [await status_of(service, route, None) for route in FOR_ALL] == [200, 200, 200]


async def test_a_token_that_has_expired_or_was_revoked_is_none(service: Served) -> None:
    short = await service.assembled.service.make_token(OWNER, "short", "caller", frozenset({"check"}), ("*",), 0.2)
    async with service.as_owner() as owner:
        made = await owner.make_token("gone")
        assert await status_of(service, FOR_CALLERS[0], made["token"]) == 200
        await owner.revoke_token(made["digest"])
    assert await status_of(service, FOR_CALLERS[0], made["token"]) == 401
    await asyncio.sleep(0.3)
    assert await status_of(service, FOR_CALLERS[0], short) == 401


async def test_two_credentials_in_one_request_are_none(service: Served) -> None:
    async with service.http() as http:
        fields = [("authorization", f"Bearer {service.owner}"), ("authorization", f"Bearer {service.caller}")]
        assert (await http.get("/v1/secrets", headers=fields)).status_code == 401


async def test_a_wrong_password_and_a_name_that_nobody_has_are_answered_alike(service: Served) -> None:
    async with service.as_owner() as owner:
        await owner.add_password("alice", "right")
    async with service.http(service.caller) as http:
        wrong = await http.post("/v1/secrets/alice/check", json={"password": "wrong"})
        absent = await http.post("/v1/secrets/nobody/check", json={"password": "wrong"})
    assert (wrong.status_code, wrong.content) == (absent.status_code, absent.content) == (200, b'{"valid":false}')
    assert [name for name in wrong.headers if name != "date"] == [name for name in absent.headers if name != "date"]
