"""The clients. Errors are those of `faults.py`, made again from the problem documents of the service: `BudgetSpent`
carries `retry_after`. What can be sent again without being counted again is; what can't is not.

    with Client("https://ratelock.example:8750", token=token) as ratelock:
        if ratelock.check("alice", password): ...
"""

from __future__ import annotations

import asyncio
import base64
import ssl
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, cast

import httpx

from jfe_cni.ratelock import exchange
from jfe_cni.ratelock.budgets import Budget, Meter
from jfe_cni.ratelock.exchange import PAUSES, Call, ServiceUnreachable, attempt
from jfe_cni.ratelock.store import Operation, Role

__all__ = ["AsyncClient", "Client", "ServiceUnreachable"]

# Below it the service itself gives up (`request_timeout`), and says so.
TIMEOUT_SECONDS = 35.0
MONTH = 30 * 86_400.0


class _Requests:
    """The calls of both clients, each by name. `verify`: roots, and a certificate of one's own for mutual TLS:
    `ssl.create_default_context(cafile=…)` with `load_cert_chain`."""

    def __init__(self, url: str, token: str | None, verify: ssl.SSLContext | bool, timeout: float) -> None:
        self.url = url
        self._socket = url.removeprefix("unix:") if url.startswith("unix:") else None
        self._options: dict[str, Any] = {
            "base_url": "http://ratelock" if self._socket is not None else url,
            "headers": {} if token is None else {"authorization": f"Bearer {token}"},
            "timeout": timeout,
        }
        self._transport: dict[str, Any] = {"uds": self._socket, "verify": verify}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url!r})"


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


class Client(_Requests):
    """Waits for answers. Not for several threads at once."""

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        verify: ssl.SSLContext | bool = True,
        timeout: float = TIMEOUT_SECONDS,
    ) -> None:
        """`url`: http://, https://, or unix:PATH. `timeout`: seconds for each try."""
        super().__init__(url, token, verify, timeout)
        self._http = httpx.Client(transport=httpx.HTTPTransport(**self._transport), **self._options)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def check(self, name: str, password: str, *, idempotency_key: str | None = None) -> bool:
        answer = self.call(attempt(name, "check", {"password": password}, idempotency_key))
        return cast(bool, answer["valid"])

    def release(self, name: str, fields: Sequence[str], *, idempotency_key: str | None = None) -> dict[str, str]:
        answer = self.call(attempt(name, "release", {"fields": list(fields)}, idempotency_key))
        return cast(dict[str, str], answer["fields"])

    def sign(self, name: str, message: bytes, *, idempotency_key: str | None = None) -> bytes:
        answer = self.call(attempt(name, "sign", {"message": _base64(message)}, idempotency_key))
        return base64.b64decode(answer["signature"])

    def mac(self, name: str, message: bytes, *, idempotency_key: str | None = None) -> bytes:
        answer = self.call(attempt(name, "mac", {"message": _base64(message)}, idempotency_key))
        return base64.b64decode(answer["mac"])

    def decrypt(self, name: str, ciphertext: bytes, *, idempotency_key: str | None = None) -> bytes:
        answer = self.call(attempt(name, "decrypt", {"ciphertext": _base64(ciphertext)}, idempotency_key))
        return base64.b64decode(answer["plaintext"])

    def certify(self, name: str, csr_pem: str, node: str, *, idempotency_key: str | None = None) -> str:
        answer = self.call(attempt(name, "certify", {"csr": csr_pem, "node": node}, idempotency_key))
        return cast(str, answer["certificates"])

    def add_password(self, name: str, password: str, secret_class: str = "") -> None:
        self.call(_add(name, "password", secret_class, {"password": password}))

    def add_record(self, name: str, fields: Mapping[str, str], secret_class: str = "") -> None:
        self.call(_add(name, "record", secret_class, {"fields": dict(fields)}))

    def add_key(self, name: str, algorithm: str, secret_class: str = "") -> str | None:
        """The public key, PEM; None for an algorithm without."""
        return cast(str | None, self.call(_add(name, "key", secret_class, {"algorithm": algorithm}))["public"])

    def remove(self, name: str) -> None:
        self.call(Call("DELETE", f"/v1/secrets/{exchange.segment(name)}"))

    def secrets(self) -> list[dict[str, Any]]:
        return cast(list[dict[str, Any]], self.call(Call("GET", "/v1/secrets", repeatable=True))["secrets"])

    def budgets(self) -> list[dict[str, Any]]:
        return cast(list[dict[str, Any]], self.call(Call("GET", "/v1/budgets", repeatable=True))["budgets"])

    def set_budget(self, meter: Meter, budget: Budget | None) -> dict[str, Any] | None:
        """What holds, and what will; None: no budget any more."""
        path = exchange.meter_path(meter)
        call = Call("DELETE", path) if budget is None else Call("PUT", path, exchange.budget_content(budget))
        return cast(dict[str, Any] | None, self.call(call))

    def make_token(
        self,
        identity: str,
        role: Role = "caller",
        operations: Sequence[Operation] | None = None,
        secrets: Sequence[str] = ("*",),
        expires_in: float = MONTH,
    ) -> dict[str, str]:
        """`token` and `digest`."""
        content = exchange.token_content(identity, role, operations, secrets, expires_in)
        return cast(dict[str, str], self.call(Call("POST", "/v1/tokens", content)))

    def revoke_token(self, digest: str) -> None:
        self.call(Call("DELETE", f"/v1/tokens/{exchange.segment(digest)}"))

    def log(self, first: int = 1) -> dict[str, Any]:
        """`entries`, and the number to ask for `next`."""
        return cast(dict[str, Any], self.call(Call("GET", "/v1/log", query={"first": first}, repeatable=True)))

    def verify_log(self) -> dict[str, Any]:
        return cast(dict[str, Any], self.call(Call("GET", "/v1/log/verification", repeatable=True)))

    def checkpoint(self) -> dict[str, str]:
        """`checkpoint`, one line; `public_key`, PEM."""
        return cast(dict[str, str], self.call(Call("POST", "/v1/log/checkpoint", repeatable=True)))

    def call(self, call: Call) -> Any:
        for pause in (*PAUSES, None):
            try:
                response = self._http.request(
                    call.method, call.path, json=call.content, params=call.query or None, headers=call.headers
                )
            except httpx.TransportError as error:
                if pause is None or not call.may_repeat(error):
                    raise exchange.unreachable(self.url, error) from error
            else:
                if pause is None or not call.may_repeat(response):
                    return exchange.answer_of(response)
            time.sleep(pause)
        raise AssertionError("the last try ends by return or error")


class AsyncClient(_Requests):
    """As `Client`, for asyncio."""

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        verify: ssl.SSLContext | bool = True,
        timeout: float = TIMEOUT_SECONDS,
    ) -> None:
        """`url`: http://, https://, or unix:PATH. `timeout`: seconds for each try."""
        super().__init__(url, token, verify, timeout)
        self._http = httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(**self._transport), **self._options)

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        await self._http.aclose()

    async def check(self, name: str, password: str, *, idempotency_key: str | None = None) -> bool:
        answer = await self.call(attempt(name, "check", {"password": password}, idempotency_key))
        return cast(bool, answer["valid"])

    async def release(self, name: str, fields: Sequence[str], *, idempotency_key: str | None = None) -> dict[str, str]:
        answer = await self.call(attempt(name, "release", {"fields": list(fields)}, idempotency_key))
        return cast(dict[str, str], answer["fields"])

    async def sign(self, name: str, message: bytes, *, idempotency_key: str | None = None) -> bytes:
        answer = await self.call(attempt(name, "sign", {"message": _base64(message)}, idempotency_key))
        return base64.b64decode(answer["signature"])

    async def mac(self, name: str, message: bytes, *, idempotency_key: str | None = None) -> bytes:
        answer = await self.call(attempt(name, "mac", {"message": _base64(message)}, idempotency_key))
        return base64.b64decode(answer["mac"])

    async def decrypt(self, name: str, ciphertext: bytes, *, idempotency_key: str | None = None) -> bytes:
        answer = await self.call(attempt(name, "decrypt", {"ciphertext": _base64(ciphertext)}, idempotency_key))
        return base64.b64decode(answer["plaintext"])

    async def certify(self, name: str, csr_pem: str, node: str, *, idempotency_key: str | None = None) -> str:
        answer = await self.call(attempt(name, "certify", {"csr": csr_pem, "node": node}, idempotency_key))
        return cast(str, answer["certificates"])

    async def add_password(self, name: str, password: str, secret_class: str = "") -> None:
        await self.call(_add(name, "password", secret_class, {"password": password}))

    async def add_record(self, name: str, fields: Mapping[str, str], secret_class: str = "") -> None:
        await self.call(_add(name, "record", secret_class, {"fields": dict(fields)}))

    async def add_key(self, name: str, algorithm: str, secret_class: str = "") -> str | None:
        """The public key, PEM; None for an algorithm without."""
        return cast(str | None, (await self.call(_add(name, "key", secret_class, {"algorithm": algorithm})))["public"])

    async def remove(self, name: str) -> None:
        await self.call(Call("DELETE", f"/v1/secrets/{exchange.segment(name)}"))

    async def secrets(self) -> list[dict[str, Any]]:
        return cast(list[dict[str, Any]], (await self.call(Call("GET", "/v1/secrets", repeatable=True)))["secrets"])

    async def budgets(self) -> list[dict[str, Any]]:
        return cast(list[dict[str, Any]], (await self.call(Call("GET", "/v1/budgets", repeatable=True)))["budgets"])

    async def set_budget(self, meter: Meter, budget: Budget | None) -> dict[str, Any] | None:
        """What holds, and what will; None: no budget any more."""
        path = exchange.meter_path(meter)
        call = Call("DELETE", path) if budget is None else Call("PUT", path, exchange.budget_content(budget))
        return cast(dict[str, Any] | None, await self.call(call))

    async def make_token(
        self,
        identity: str,
        role: Role = "caller",
        operations: Sequence[Operation] | None = None,
        secrets: Sequence[str] = ("*",),
        expires_in: float = MONTH,
    ) -> dict[str, str]:
        """`token` and `digest`."""
        content = exchange.token_content(identity, role, operations, secrets, expires_in)
        return cast(dict[str, str], await self.call(Call("POST", "/v1/tokens", content)))

    async def revoke_token(self, digest: str) -> None:
        await self.call(Call("DELETE", f"/v1/tokens/{exchange.segment(digest)}"))

    async def log(self, first: int = 1) -> dict[str, Any]:
        """`entries`, and the number to ask for `next`."""
        return cast(dict[str, Any], await self.call(Call("GET", "/v1/log", query={"first": first}, repeatable=True)))

    async def verify_log(self) -> dict[str, Any]:
        return cast(dict[str, Any], await self.call(Call("GET", "/v1/log/verification", repeatable=True)))

    async def checkpoint(self) -> dict[str, str]:
        """`checkpoint`, one line; `public_key`, PEM."""
        return cast(dict[str, str], await self.call(Call("POST", "/v1/log/checkpoint", repeatable=True)))

    async def call(self, call: Call) -> Any:
        for pause in (*PAUSES, None):
            try:
                response = await self._http.request(
                    call.method, call.path, json=call.content, params=call.query or None, headers=call.headers
                )
            except httpx.TransportError as error:
                if pause is None or not call.may_repeat(error):
                    raise exchange.unreachable(self.url, error) from error
            else:
                if pause is None or not call.may_repeat(response):
                    return exchange.answer_of(response)
            await asyncio.sleep(pause)
        raise AssertionError("the last try ends by return or error")


def _add(name: str, kind: str, secret_class: str, content: Mapping[str, object]) -> Call:
    return Call("PUT", f"/v1/secrets/{exchange.segment(name)}", {"kind": kind, "class": secret_class, **content})
