"""The agent's API as seen by the command line: one coroutine a verb, the agent's own errors raised again here."""

from __future__ import annotations

import dataclasses
import json
import urllib.parse
from collections.abc import AsyncGenerator
from pathlib import Path
from types import TracebackType
from typing import Any

import aiohttp

from jfe_cni.agent.decoding import decode
from jfe_cni.agent.faults import AgentAnswerError, AgentUnreachableError, error_of_kind
from jfe_cni.agent.objects import DirectoryEntry, Enrolment
from jfe_cni.agent.reports import (
    AuthorityReport,
    CniCallsReport,
    ConnectionReport,
    DirectoryReport,
    ExplainReport,
    RulesReport,
    RunningReport,
    StatusReport,
    WorkloadReport,
)
from jfe_cni.agent.settings import DEFAULT_SOCKET

# Enrolment waits for the upgrader (10 s) and for one probe connection (see kernel.cover); nothing else takes as long.
ANSWER_SECONDS = 60.0
# Of some hundreds of pods, one after the other.
ALL_SECONDS = 600.0


class AgentClient:
    """`async with AgentClient(path) as agent: await agent.workloads()`.

    Every verb raises AgentUnreachableError where nobody listens, and otherwise the class of error that the agent met,
    with its text and remedy."""

    def __init__(self, socket: Path = DEFAULT_SOCKET) -> None:
        self.socket = socket
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> AgentClient:
        self._session = aiohttp.ClientSession(connector=aiohttp.UnixConnector(path=str(self.socket)))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def enrol(self, enrolment: Enrolment) -> WorkloadReport:
        return decode(WorkloadReport, await self._ask("POST", "workloads", body=enrolment.as_json()))

    async def enrol_running(self) -> RunningReport:
        """Pods that ran before the agent did, as far as their runtime tells where they are."""
        return decode(RunningReport, await self._ask("POST", "cni/enrol-running", seconds=ALL_SECONDS))

    async def unenrol(self, workload: str) -> None:
        await self._ask("DELETE", f"workloads/{_quoted(workload)}")

    async def workloads(self) -> list[WorkloadReport]:
        return [decode(WorkloadReport, each) for each in self._list(await self._ask("GET", "workloads"))]

    async def workload(self, workload: str) -> WorkloadReport:
        return decode(WorkloadReport, await self._ask("GET", f"workloads/{_quoted(workload)}"))

    async def status(self) -> StatusReport:
        return decode(StatusReport, await self._ask("GET", "status"))

    async def connections(self) -> list[ConnectionReport]:
        """The connections open now."""
        return [decode(ConnectionReport, each) for each in self._list(await self._ask("GET", "connections"))]

    async def follow_connections(self) -> AsyncGenerator[ConnectionReport, None]:
        """First the connections open now, then each as it opens, is decided or ends, until the caller stops."""
        try:
            async with self._request("GET", "connections", query={"follow": "1"}, seconds=None) as response:
                await self._check(response)
                async for line in response.content:
                    if line.strip():
                        yield decode(ConnectionReport, _json_of(line))
        except aiohttp.ClientError as error:
            raise self._unreachable(error) from error

    async def rules(self, name: str | None = None) -> list[RulesReport]:
        """Every ruleset in force, or that of one workload."""
        path = "rules" if name is None else f"rules/{_quoted(name)}"
        return [decode(RulesReport, each) for each in self._list(await self._ask("GET", path))]

    async def explain(self, destination: str, workload: str | None = None) -> list[ExplainReport]:
        """What would happen to a connection to `ADDRESS[:PORT]` (IPv6 with a port in brackets), a report a workload."""
        query = {"destination": destination} | ({} if workload is None else {"workload": workload})
        return [decode(ExplainReport, each) for each in self._list(await self._ask("GET", "explain", query=query))]

    async def directory(self) -> list[DirectoryReport]:
        return [decode(DirectoryReport, each) for each in self._list(await self._ask("GET", "directory"))]

    async def add_to_directory(self, entries: list[DirectoryEntry]) -> None:
        """Entries replace those of the same (network, port) that came by this API."""
        await self._ask("POST", "directory", body={"entries": [entry.as_json() for entry in entries]})

    async def remove_from_directory(self, keys: list[tuple[str, int | None]]) -> None:
        """Keys are (network, port); only entries that came by this API can be removed by it."""
        body = {"keys": [{"network": network, "port": port} for network, port in keys]}
        await self._ask("DELETE", "directory", body=body)

    async def authority(self) -> AuthorityReport:
        return decode(AuthorityReport, await self._ask("GET", "ca"))

    async def rotate(self, step: str) -> AuthorityReport:
        """`step`: begin, switch or retire, in this order."""
        return decode(AuthorityReport, await self._ask("POST", "ca/rotate", body={"step": step}))

    async def cni_calls(self) -> CniCallsReport:
        return decode(CniCallsReport, await self._ask("GET", "cni/calls"))

    async def metrics(self) -> str:
        """Prometheus' text format."""
        try:
            async with self._request("GET", "metrics") as response:
                await self._check(response)
                return await response.text()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise self._unreachable(error) from error

    async def _ask(
        self,
        method: str,
        path: str,
        *,
        query: dict[str, str] | None = None,
        body: dict[str, Any] | None = None,
        seconds: float = ANSWER_SECONDS,
    ) -> object:
        try:
            async with self._request(method, path, query=query, body=body, seconds=seconds) as response:
                await self._check(response)
                return _json_of(await response.read() or b"null")
        except (aiohttp.ClientError, TimeoutError) as error:
            raise self._unreachable(error) from error

    def _request(
        self,
        method: str,
        path: str,
        *,
        query: dict[str, str] | None = None,
        body: dict[str, Any] | None = None,
        seconds: float | None = ANSWER_SECONDS,
    ) -> aiohttp.client._RequestContextManager:
        if self._session is None:
            raise RuntimeError("AgentClient is used outside its `async with`")
        return self._session.request(
            method,
            f"http://agent/v1/{path}",
            params=query,
            json=body,
            timeout=aiohttp.ClientTimeout(total=seconds),
        )

    async def _check(self, response: aiohttp.ClientResponse) -> None:
        if response.status < 400:
            return
        match _json_of(await response.read()):
            case {"kind": str(kind), "error": str(text), "remedy": str(remedy)}:
                raise error_of_kind(kind, text, remedy)
            case _:
                raise AgentAnswerError(
                    f"{self.socket} answered {response.status} in no form known here",
                    remedy="see whether another program than the agent listens there",
                )

    def _unreachable(self, error: BaseException) -> AgentUnreachableError:
        return AgentUnreachableError(
            f"no agent answers on {self.socket}: {error or type(error).__name__}",
            remedy="start one with `jfe agent`, or name its socket with --socket",
        )

    @staticmethod
    def _list(value: object) -> list[object]:
        if isinstance(value, list):
            return value
        raise AgentAnswerError(
            "the agent's answer is not a list", remedy="restart the agent with the version installed"
        )


def report_json(report: Any) -> dict[str, Any]:
    """A report as the object that the API sends and `--json` prints."""
    return dataclasses.asdict(report)


def _json_of(body: bytes) -> object:
    try:
        value: object = json.loads(body)
    except ValueError as error:
        raise AgentAnswerError(
            "the agent's answer is not JSON", remedy="see whether another program than the agent listens there"
        ) from error
    return value


def _quoted(name: str) -> str:
    return urllib.parse.quote(name, safe="")
