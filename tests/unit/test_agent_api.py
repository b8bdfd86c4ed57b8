"""The agent's API and its client, over a real Unix socket: what goes in, what comes out, which errors are raised."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import json
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio

from jfe_cni.agent import listening
from jfe_cni.agent.api import Api
from jfe_cni.agent.client import AgentClient
from jfe_cni.agent.connections import Connections
from jfe_cni.agent.directory import API, Directory, Key
from jfe_cni.agent.faults import AgentUnreachableError, UnknownWorkloadError
from jfe_cni.agent.objects import DirectoryEntry, Enrolment, Target, WorkloadSettings
from jfe_cni.agent.reports import ConnectionReport, WorkloadReport
from jfe_cni.errors import ConflictError, IdentityError, KernelError, RequestError
from tests.unit.report_examples import WEB

TOO_MANY = b",".join([b"80"] * 1025)


class Recorder:
    """Does what the API asks for by writing it down; `fault` is what it meets."""

    def __init__(self) -> None:
        self.enrolments: list[Enrolment] = []
        self.unenrolled: list[str] = []
        self.directory = Directory()
        self.fault: Exception | None = None

    async def enrol(self, enrolment: Enrolment) -> WorkloadReport:
        if self.fault is not None:
            raise self.fault
        self.enrolments.append(enrolment)
        return WEB

    async def unenrol(self, workload: str) -> None:
        if workload != "web":
            raise UnknownWorkloadError.named(workload)
        self.unenrolled.append(workload)

    async def push(self, entries: list[DirectoryEntry]) -> None:
        self.directory.put(API, entries)

    async def withdraw(self, keys: list[Key]) -> None:
        self.directory.remove(API, keys)

    async def rotate(self, step: str) -> None:
        raise IdentityError(f"no {step} now", remedy="later")

    async def metrics(self) -> bytes:
        return b"jfe_workloads 1\n"


class Served:
    def __init__(self, recorder: Recorder, connections: Connections, socket: Path, wanted: asyncio.Queue[bool]) -> None:
        self.recorder = recorder
        self.connections = connections
        self.socket = socket
        self.wanted = wanted

    async def raw(self, method: str, path: str, body: bytes = b"") -> tuple[int, object]:
        connector = aiohttp.UnixConnector(path=str(self.socket))
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            session.request(method, f"http://agent{path}", data=body) as answer,
        ):
            return answer.status, json.loads(await answer.read())


@pytest_asyncio.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    asked: asyncio.Queue[bool] = asyncio.Queue()

    async def want(*, wanted: bool) -> None:
        await asked.put(wanted)

    recorder, connections = Recorder(), Connections(want)
    # No view of a real node is asked for here.
    api = Api(recorder, None, connections, logging.getLogger("jfe.test"))  # type: ignore[arg-type]
    runner = await listening.serve(api.application(), listening.unix_listener(tmp_path / "agent.sock"))
    yield Served(recorder, connections, tmp_path / "agent.sock", asked)
    await runner.cleanup()


@pytest_asyncio.fixture
async def client(served: Served) -> AsyncIterator[AgentClient]:
    async with AgentClient(served.socket) as agent:
        yield agent


async def test_the_socket_is_for_its_owner_alone(served: Served) -> None:
    assert served.socket.stat().st_mode & 0o777 == 0o600


async def test_a_second_agent_on_a_socket_that_answers_is_refused(served: Served) -> None:
    with pytest.raises(ConflictError, match="answers"):
        listening.unix_listener(served.socket)


async def test_a_socket_that_nobody_answers_on_is_replaced(tmp_path: Path) -> None:
    listening.unix_listener(tmp_path / "s").close()
    listening.unix_listener(tmp_path / "s").close()


async def test_an_enrolment_arrives_as_it_was_asked_for(served: Served, client: AgentClient) -> None:
    enrolment = Enrolment(
        Target("netns", "/run/netns/web"),
        "strict",
        "web",
        "spiffe://jfe.local/x",
        WorkloadSettings((22,), (53,), (ipaddress.ip_network("10.0.0.0/8"),), (443,), (80,), (25,), True, False),
    )
    assert await client.enrol(enrolment) == WEB
    assert served.recorder.enrolments == [enrolment]


async def test_an_error_of_the_agent_is_raised_again_with_its_text_and_remedy(
    served: Served, client: AgentClient
) -> None:
    served.recorder.fault = ConflictError("web is enrolled already", remedy="unenrol it first")
    with pytest.raises(ConflictError) as refused:
        await client.enrol(Enrolment(Target("pid", "1")))
    assert (refused.value.message, refused.value.remedy) == ("web is enrolled already", "unenrol it first")


async def test_what_the_kernel_refuses_the_agent_is_told_as_that(served: Served, client: AgentClient) -> None:
    served.recorder.fault = OSError(errno.EMFILE, "Too many open files")
    with pytest.raises(KernelError, match="Too many open files"):
        await client.enrol(Enrolment(Target("pid", "1")))


async def test_an_unknown_workload_is_an_error_of_its_own(client: AgentClient) -> None:
    with pytest.raises(UnknownWorkloadError, match="no workload other"):
        await client.unenrol("other")


async def test_a_name_with_a_slash_is_one_name(served: Served, client: AgentClient) -> None:
    with pytest.raises(UnknownWorkloadError, match=r"no workload \.\./web"):
        await client.unenrol("../web")
    assert served.recorder.unenrolled == []


async def test_entries_are_pushed_and_withdrawn(served: Served, client: AgentClient) -> None:
    entry = DirectoryEntry(ipaddress.ip_network("10.2.0.9/32"), 80, "spiffe://jfe.local/y")
    await client.add_to_directory([entry])
    assert served.recorder.directory.of_source(API) == (entry,)
    await client.remove_from_directory([("10.2.0.9/32", 80)])
    assert served.recorder.directory.of_source(API) == ()


@pytest.mark.parametrize(
    ("path", "body", "said"),
    [
        ("/v1/workloads", b"", "not JSON"),
        ("/v1/workloads", b"[" * 50_000, "not JSON"),
        ("/v1/workloads", b"[]", "not an object but a list"),
        ("/v1/workloads", b"{}", "nothing to enrol"),
        ("/v1/workloads", b'{"target": {"netns": "/x", "pid": "1"}}', "names 2 things"),
        ("/v1/workloads", b'{"target": {"pid": "0"}}', "not a process id"),
        ("/v1/workloads", b'{"target": {"pid": 1}}', "not a string"),
        ("/v1/workloads", b'{"target": {"netns": "/x"}, "mode": "off"}', "is no mode"),
        ("/v1/workloads", b'{"target": {"netns": "/x"}, "name": "Web"}', "Web"),
        ("/v1/workloads", b'{"target": {"netns": "/x"}, "nmae": "web"}', "nmae"),
        ("/v1/workloads", b'{"target": {"netns": "/x"}, "settings": {"await_hello_ports": [0]}}', "port"),
        (
            "/v1/workloads",
            b'{"target": {"netns": "/x"},'
            b' "settings": {"application_tls_ports": [1], "application_plaintext_ports": [1]}}',
            "port 1",
        ),
        (
            "/v1/workloads",
            b'{"target": {"netns": "/x"}, "settings": {"await_hello_ports": [%s]}}' % TOO_MANY,
            "await_hello_ports of settings of the enrolment has 1025 elements, more than 1024",
        ),
        (
            "/v1/directory",
            b'{"entries": [{"network": "10.2.0.9/32", "excluded_ports": [%s]}]}' % TOO_MANY,
            "excluded_ports of entry 1 has 1025 elements, more than 1024",
        ),
        (
            "/v1/directory",
            b'{"entries": [{"network": "10.2.0.9/32", "identity": "spiffe://d/%s"}]}' % (b"x" * 2048),
            "longer than 2048 bytes",
        ),
        ("/v1/directory", b'{"entries": [{"network": "10.2.0.9/8"}]}', "entry 1"),
        ("/v1/ca/rotate", b"{}", "lacks step"),
    ],
)
async def test_a_bad_request_is_refused_before_anything_is_done(
    served: Served, path: str, body: bytes, said: str
) -> None:
    status, answer = await served.raw("POST", path, body)
    assert status == 400
    assert isinstance(answer, dict)
    assert said in answer["error"]
    assert answer["kind"] == "RequestError"
    assert answer["remedy"]
    assert answer["temporary"] is False
    assert served.recorder.enrolments == []


async def test_what_is_not_there_and_what_is_too_large_have_answers_in_the_same_form(served: Served) -> None:
    for method, path, body, wanted in (
        ("GET", "/v1/nothing", b"", 404),
        ("PUT", "/v1/workloads", b"", 405),
        ("POST", "/v1/directory", b" " * (9 << 20), 413),
    ):
        status, answer = await served.raw(method, path, body)
        assert status == wanted
        assert isinstance(answer, dict)
        assert {"kind", "error", "remedy", "temporary"} == set(answer)


async def test_where_no_agent_is_the_client_says_what_to_do(tmp_path: Path) -> None:
    async with AgentClient(tmp_path / "nobody.sock") as agent:
        with pytest.raises(AgentUnreachableError) as refused:
            await agent.status()
    assert "jfe agent" in refused.value.remedy
    assert refused.value.temporary


async def test_a_fault_of_identity_keeps_its_class(client: AgentClient) -> None:
    with pytest.raises(IdentityError, match="no begin now"):
        await client.rotate("begin")


async def test_metrics_are_text(client: AgentClient) -> None:
    assert await client.metrics() == "jfe_workloads 1\n"


def connection(number: int, phase: str = "open") -> ConnectionReport:
    return ConnectionReport(
        number, phase, "w", "outbound", "10.1.0.5:4", "10.2.0.9:80", None, None, None, None, None, None, 0, 0, None
    )


async def test_a_follower_sees_what_is_open_then_what_happens_and_nobody_reports_when_it_is_gone(
    served: Served, client: AgentClient
) -> None:
    following = client.follow_connections()
    first = asyncio.ensure_future(anext(following))
    assert await served.wanted.get() is True
    served.connections.take(connection(1))
    assert (await first).number == 1
    async with AgentClient(served.socket) as second:
        late = second.follow_connections()
        assert (await anext(late)).number == 1
        await late.aclose()
    served.connections.take(connection(1, "closed"))
    assert (await anext(following)).phase == "closed"
    assert served.wanted.empty()
    await following.aclose()
    assert await served.wanted.get() is False


async def test_a_list_of_connections_is_asked_for_and_then_wanted_no_more(served: Served, client: AgentClient) -> None:
    asking = asyncio.create_task(client.connections())
    assert await served.wanted.get() is True
    served.connections.take(connection(2))
    served.connections.take(connection(1))
    served.connections.take(connection(2, "closed"))
    assert [each.number for each in await asking] == [1]
    assert await served.wanted.get() is False


async def test_a_request_error_of_the_client_itself_is_one(client: AgentClient) -> None:
    with pytest.raises(RequestError):
        await client.enrol(Enrolment(Target("netns", "")))
