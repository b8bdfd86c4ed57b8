"""Hostile text in every string of every request: of SQL, of DynamoDB, of logs, of terminals, over-long, no UTF-8."""

import io
import json
import sqlite3
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from jfe_cni.ratelock.api import problems
from tests.ratelock.served import OWNER, Served

HOSTILE = (
    "' OR '1'='1",
    "'; DROP TABLE secrets; --",
    '"; DROP TABLE "secrets"; --',
    "a\\'; SELECT pg_sleep(10); --",
    "alice' UNION SELECT sealed FROM secrets --",
    "attribute_exists(name) OR :v = :v",
    '{"S": "alice"}',
    "#n = :n, SET #c = if_not_exists(#c, :zero)",
    "alice\n2030-01-01T00:00:00Z info request operation=check outcome=valid",
    "alice\r\nset-cookie: x=y",
    "\x1b[2J\x1b]0;owned\x07",
    "a\x00b",
    "../../etc/passwd",
    "..%2f..%2fetc%2fpasswd",
    "%s%s%s%n{0.__class__}${jndi:ldap://x}",
    "\u202egnp.exe",
    "\ud800",
    "a" * 60_000,
    "",
    " ",
)
UNKNOWN = "0" * 64


def places(hostile: str) -> list[tuple[str, str, Any, dict[str, str]]]:
    """A request for each place where one has text; a path can't have what is no UTF-8."""
    segment = quote(hostile, safe="", errors="surrogatepass")[:3000]
    key = {"idempotency-key": hostile.strip()} if hostile.isprintable() and hostile.isascii() else {}
    return [
        ("POST", f"/v1/secrets/{segment}/check", {"password": "x"}, {}),
        ("POST", "/v1/secrets/a/check", {"password": hostile}, {}),
        ("POST", "/v1/secrets/a/check", {"password": "x", hostile: hostile}, {}),
        ("POST", "/v1/secrets/a/check", {"password": "x"}, key),
        ("POST", f"/v1/secrets/{segment}/release", {"fields": ["x"]}, {}),
        ("POST", "/v1/secrets/a/release", {"fields": [hostile, "x"]}, {}),
        ("POST", "/v1/secrets/a/sign", {"message": hostile}, {}),
        ("POST", "/v1/secrets/a/mac", {"message": hostile}, {}),
        ("POST", "/v1/secrets/a/decrypt", {"ciphertext": hostile}, {}),
        ("POST", "/v1/secrets/a/certify", {"csr": hostile, "node": "n"}, {}),
        ("POST", "/v1/secrets/a/certify", {"csr": "x", "node": hostile}, {}),
        ("PUT", f"/v1/secrets/{segment}", {"kind": "password", "password": "x"}, {}),
        ("PUT", "/v1/secrets/b", {"kind": hostile, "password": "x"}, {}),
        ("PUT", "/v1/secrets/c", {"kind": "password", "password": "x", "class": hostile}, {}),
        ("PUT", "/v1/secrets/d", {"kind": "record", "fields": {hostile: "x"}}, {}),
        ("PUT", "/v1/secrets/e", {"kind": "record", "fields": {"x": hostile}}, {}),
        ("PUT", "/v1/secrets/f", {"kind": "key", "algorithm": hostile}, {}),
        ("DELETE", f"/v1/secrets/{segment}", None, {}),
        ("PUT", f"/v1/budgets/caller/{segment}", {"limits": [{"count": 1, "window": 1}]}, {}),
        ("GET", f"/v1/budgets/{segment}/x", None, {}),
        ("POST", "/v1/tokens", {"identity": hostile, "role": "caller"}, {}),
        ("POST", "/v1/tokens", {"identity": "x", "role": hostile}, {}),
        ("POST", "/v1/tokens", {"identity": "x", "role": "caller", "operations": [hostile]}, {}),
        ("POST", "/v1/tokens", {"identity": "x", "role": "caller", "secrets": [hostile]}, {}),
        ("DELETE", f"/v1/tokens/{segment}", None, {}),
        ("GET", f"/v1/log?first={segment}", None, {}),
    ]


@pytest.mark.parametrize("hostile", HOSTILE, ids=lambda text: ascii(text)[:24])
async def test_hostile_text_is_text(service: Served, hostile: str, tmp_path: Path) -> None:
    async with service.as_owner() as owner:
        await owner.add_password("alice", "right")
    uris = {each.uri for each in problems.TYPES}
    async with service.http() as http:
        for method, path, content, headers in places(hostile):
            spends = method == "POST" and path.startswith("/v1/secrets")
            answer = await http.request(
                method,
                path,
                content=None if content is None else json.dumps(content),
                headers={
                    "authorization": f"Bearer {service.caller if spends else service.owner}",
                    "content-type": "application/json",
                    **headers,
                },
            )
            assert answer.status_code < 500, (method, path, answer.text)
            assert "set-cookie" not in answer.headers
            if answer.is_error:
                assert answer.json()["type"] in uris
    async with service.as_caller() as caller:
        assert await caller.check("alice", "right")
    assert_log_is_whole(service.log)
    entries = [entry async for entry in service.assembled.service.log(OWNER)]
    assert all(f"{entry.actor}{entry.event}{entry.subject}".isprintable() for entry in entries)
    assert (await service.assembled.service.verify_log(OWNER)).broken is None
    tables = sqlite3.connect(tmp_path / "store.db").execute("SELECT count(*) FROM sqlite_master").fetchone()
    assert tables[0] > 3


def assert_log_is_whole(log: io.StringIO) -> None:
    """Each line is one event, in plain ASCII."""
    for line in log.getvalue().splitlines():
        assert line.isascii()
        assert line.isprintable()
        assert json.loads(line)["event"] in ("request", "Invalid HTTP request received.")


async def test_a_record_gives_back_what_it_was_given_however_it_looks(service: Served) -> None:
    looks = {f"f{number}": text for number, text in enumerate(HOSTILE) if text not in ("\ud800", "a" * 60_000)}
    async with service.as_owner() as owner, service.as_caller() as caller:
        await owner.add_record("r", looks)
        assert await caller.release("r", list(looks)) == looks


@pytest.mark.parametrize("path", ["%ff", "%c0%af", "%ed%a0%80", "a%00b", "%2e%2e", "a%0d%0ab", "%"])
async def test_a_path_that_is_no_utf_8_is_no_name(service: Served, path: str) -> None:
    async with service.http(service.caller) as http:
        answer = await http.post(f"/v1/secrets/{path}/check", json={"password": "x"})
    assert answer.status_code in (404, 405, 422)
    assert answer.headers["content-type"] == problems.MEDIA_TYPE
