"""The demonstration from start to end: two hosts, the same programs bare and under cover, and what was found."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import secrets
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

from jfe_cni.agent.client import AgentClient
from jfe_cni.agent.objects import Enrolment, Target
from jfe_cni.agent.reports import ConnectionReport
from jfe_cni.demo.capture import Flow, legible, streams, tls_records
from jfe_cni.demo.hosts import Host, two_hosts
from jfe_cni.demo.programs import Program, ProgramEnded, Programs
from jfe_cni.demo.report import Costs, Expected, Findings, Half, Seal, Wire
from jfe_cni.demo.sweep import FOLDERS
from jfe_cni.errors import AgentError, HostError
from jfe_cni.identity.spiffe import TrustDomain, host_namespace

TRUST_DOMAIN = "jfe.demo"
PORT = 8080
# Its own port, so that the web server's log has nothing but the fetches in it.
MEASURE_PORT = 8081
PAGE = "letter.txt"
START_SECONDS = 30.0
STEP_SECONDS = 30.0
SETTLE_SECONDS = 0.3
READ_LIMIT = 160

STEPS = (
    "two hosts and a link",
    "a web server, unmodified",
    "bare: fetched with curl, captured on the link",
    "bare: measured",
    "an agent and an upgrader on each host",
    "both hosts under cover, strict",
    "under cover: fetched with curl, captured on the link",
    "under cover: measured",
    "taken away again",
)


@dataclass(frozen=True)
class Script:
    """One performance: `demo` names all that belongs to it, `folder` is its own, `pcap` where captures are kept;
    `step` is told when the next of STEPS begins."""

    demo: str
    folder: Path
    pcap: Path
    step: Callable[[], None]


def programs_missing() -> list[str]:
    return [name for name in ("ip", "nft", "nsenter", "tcpdump", "curl") if shutil.which(name) is None]


async def perform(script: Script) -> Findings:
    """Raises JfeError where a step failed. Whether the promises held is the findings' to say."""
    page = f"Dear reader, the word is {secrets.token_hex(8)}. Nobody else should know it.\n".encode()
    site = script.folder / "site"
    site.mkdir()
    (site / PAGE).write_bytes(page)
    script.step()
    async with (
        two_hosts(script.demo, script.folder) as (client, server),
        Programs(script.demo, script.folder) as programs,
    ):
        script.step()
        web = await start_server(programs, server, "web server", PORT, "-m", "http.server", "-d", str(site))
        await start_server(programs, server, "measuring server", MEASURE_PORT, "-m", "jfe_cni.demo.measure", "serve")
        hosts = Stage(script, client, server, programs, web, page)
        before = await hosts.half("before")
        script.step()
        expected = hosts.expected()
        await hosts.start_agents(expected)
        script.step()
        await hosts.enrol()
        async with hosts.connections_followed() as seen:
            after = await hosts.half("after")
        programs.check_alive()
        findings = Findings(expected, before, after, seal(seen, expected))
        script.step()
    return findings


async def start_server(programs: Programs, host: Host, name: str, port: int, *command: str) -> Program:
    """A Python program that is given its address and port last, and is waited for until it listens."""
    where = ("--bind", str(host.address), str(port)) if "http.server" in command else (str(host.address), str(port))
    program = await programs.start(host, name, sys.executable, *command, *where)
    async with asyncio.timeout(START_SECONDS):
        while not await programs.output(host, "ss", "ss", "-Hltn", f"sport = :{port}", seconds=STEP_SECONDS):
            program.check_alive()
            await asyncio.sleep(0.05)
    return program


class Stage:
    """The two hosts and what runs in them."""

    def __init__(
        self, script: Script, client: Host, server: Host, programs: Programs, web: Program, page: bytes
    ) -> None:
        self._script = script
        self._client = client
        self._server = server
        self._programs = programs
        self._web = web
        self._page = page

    def expected(self) -> Expected:
        # Those that an agent gives by itself: the directories can so name them before anybody is enrolled.
        domain = TrustDomain.parse(TRUST_DOMAIN)
        identities = {host: str(host_namespace(domain, host.name, role)) for host, role in self._roles.items()}
        return Expected(
            client_address=str(self._client.address),
            server_address=str(self._server.address),
            server_port=PORT,
            client_identity=identities[self._client],
            server_identity=identities[self._server],
            page=self._page,
        )

    @property
    def _roles(self) -> dict[Host, str]:
        """Each host, and what its workload is called."""
        return {self._client: "client", self._server: "server"}

    async def half(self, name: str) -> Half:
        self._script.step()
        answered = len(logged_addresses(self._web.log))
        file = self._script.pcap / f"{name}.pcap"
        async with self._captured(file):
            page = await self._fetch()
        await self._web.until(
            lambda: len(logged_addresses(self._web.log)) > answered, "to log the request", STEP_SECONDS
        )
        wire = wire_of(await asyncio.to_thread(file.read_bytes), self._page)
        self._script.step()
        return Half(wire, logged_addresses(self._web.log)[-1], page, await self._measure())

    @contextlib.asynccontextmanager
    async def _captured(self, file: Path) -> AsyncIterator[None]:
        """On the server's end of the link, whole packets, each written at once."""
        command = (
            "tcpdump",
            "-i",
            "eth0",
            "-s",
            "0",
            "-U",
            "--immediate-mode",
            "-Z",
            "root",
            "-w",
            str(file),
            f"tcp port {PORT}",
        )
        tcpdump = await self._programs.start(self._server, f"tcpdump {file.stem}", *command)
        await tcpdump.said("listening on", START_SECONDS)
        yield
        await _settled(file)
        await self._programs.end(tcpdump, signal.SIGINT)

    async def _fetch(self) -> bytes:
        url = f"http://{self._server.address}:{PORT}/{PAGE}"
        return await self._programs.output(
            self._client, "curl", "curl", "--silent", "--show-error", "--fail", "-m", "20", url, seconds=STEP_SECONDS
        )

    async def _measure(self) -> Costs:
        command = (sys.executable, "-m", "jfe_cni.demo.measure", "client", str(self._server.address), str(MEASURE_PORT))
        printed = await self._programs.output(self._client, "the measuring client", *command, seconds=STEP_SECONDS)
        return Costs(**json.loads(printed))

    async def start_agents(self, expected: Expected) -> None:
        """One after the other: the first makes the authority that both share."""
        peers = {
            self._client: (expected.server_address, expected.server_identity),
            self._server: (expected.client_address, expected.client_identity),
        }
        for host, (address, identity) in peers.items():
            directory = host.folder / "directory.json"
            directory.write_text(json.dumps({"entries": [{"network": f"{address}/32", "identity": identity}]}))
            agent = await self._programs.start(
                host,
                f"agent {host.name}",
                *(sys.executable, "-m", "jfe_cni.cli.main", "agent", "--on-exit", "remove", "--workers", "1"),
                *("--state-dir", str(host.folder), "--socket", str(host.socket), "--node", host.name),
                *("--trust-domain", TRUST_DOMAIN, "--authority-dir", str(self._script.folder / "authority")),
                *("--directory", str(directory)),
            )
            await self._answers(host, agent)

    async def _answers(self, host: Host, agent: Program) -> None:
        try:
            async with asyncio.timeout(START_SECONDS):
                while True:
                    agent.check_alive()
                    with contextlib.suppress(AgentError):
                        async with AgentClient(host.socket) as asked:
                            if (await asked.status()).upgrader_connected:
                                return
                    await asyncio.sleep(0.05)
        except TimeoutError as error:
            raise ProgramEnded(
                f"{agent.name} was given {START_SECONDS:.0f} s to start: {agent.last_words()}",
                remedy="run `jfe doctor`, then the demonstration again",
            ) from error

    async def enrol(self) -> None:
        for host, role in self._roles.items():
            async with AgentClient(host.socket) as agent:
                await agent.enrol(Enrolment(Target("netns", str(host.namespace)), "strict", name=role))

    @contextlib.asynccontextmanager
    async def connections_followed(self) -> AsyncIterator[dict[Host, list[ConnectionReport]]]:
        """What each host's agent tells of its connections while the body runs."""
        seen: dict[Host, list[ConnectionReport]] = {host: [] for host in self._roles}

        async def follow(host: Host) -> None:
            async with AgentClient(host.socket) as agent:
                async for report in agent.follow_connections():
                    seen[host].append(report)

        tasks = [asyncio.create_task(follow(host)) for host in self._roles]
        try:
            yield seen
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def _settled(file: Path) -> None:
    """Until the file has not grown for a while: tcpdump drops what it has not yet read when it is told to end."""
    size = -1
    while (now := file.stat().st_size) != size:
        size = now
        await asyncio.sleep(SETTLE_SECONDS)


def seal(seen: dict[Host, list[ConnectionReport]], expected: Expected) -> Seal:
    """What both ends say of the fetch under cover. HostError where one of them says nothing."""
    server = f"{expected.server_address}:{expected.server_port}"
    outbound, inbound = (
        next((r for each in seen.values() for r in each if _upgraded(r, direction, server)), None)
        for direction in ("outbound", "inbound")
    )
    if outbound is None or inbound is None:
        silent = "the client's" if outbound is None else "the server's"
        raise HostError(f"{silent} agent has not told of an upgraded connection", remedy="run the demonstration again")
    return Seal(
        tls_version=outbound.tls_version or "",
        cipher=outbound.cipher or "",
        key_exchange=outbound.key_exchange or "",
        client_identity=inbound.peer or "",
        server_identity=outbound.peer or "",
    )


def _upgraded(report: ConnectionReport, direction: str, server: str) -> bool:
    return report.direction == direction and report.destination == server and report.decision == "upgrade"


def logged_addresses(log: Path) -> list[str]:
    """The client of each request, as the web server itself has logged it."""
    return re.findall(r'^(\S+) - - \[[^]]*\] "GET ', log.read_text(errors="replace"), re.MULTILINE)


def wire_of(capture: bytes, page: bytes) -> Wire:
    """What an eavesdropper gets out of a capture of one fetch of `page`."""
    found = streams(capture)
    everything = b"\n".join(found.values())
    clear_text = page.strip() in everything or f"GET /{PAGE}".encode() in everything
    records = [tls_records(stream) for stream in found.values()]
    connections = {(str(flow.source), str(flow.destination)) for flow in found if flow.destination_port == PORT}
    return Wire(
        clear_text=clear_text,
        all_tls=bool(records) and all(records),
        connections=tuple(sorted(connections)),
        read=_read(found, page) if clear_text else _unread(found),
    )


def _read(found: dict[Flow, bytes], page: bytes) -> str:
    """The request's first line and the page, as they lie on the wire."""
    request = next((s for f, s in found.items() if f.destination_port == PORT), b"")
    answer = next((s for f, s in found.items() if f.source_port == PORT), b"")
    return f"{legible(request, 80).splitlines()[0]} … {legible(answer[answer.find(page[:12]) :], READ_LIMIT)}"


def _unread(found: dict[Flow, bytes]) -> str:
    sizes: dict[str, int] = {}
    for stream in found.values():
        for content, length in tls_records(stream):
            sizes[content] = sizes.get(content, 0) + length
    if not sizes:
        return f"{sum(map(len, found.values()))} bytes of no known form"
    return "TLS: " + ", ".join(f"{size:,} bytes of {content}" for content, size in sorted(sizes.items()))


def new_name() -> str:
    return f"jfe-demo-{os.getpid()}"


def new_folder(demo: str) -> Path:
    """Root only (0700), short enough for a Unix socket's path (unix(7): 107 bytes)."""
    return Path(tempfile.mkdtemp(prefix=f"{demo}-", dir=FOLDERS))
