"""Which addresses the receiver hears at, and answers from, on kernels with IPv6 and without."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from jfe_cni.overflowd.notices.messages import Challenge
from tests.overflowd.receiving import DEADLINE, Authority, Publisher, Sender, laboratory, started
from tests.overflowd.without_ipv6 import WITHOUT_IPV6

RECEIVE = "from jfe_cni.overflowd.cli.main import main\nsys.exit(main())\n"


@contextlib.asynccontextmanager
async def without_ipv6(folder: Path, udp: str, *given: str) -> AsyncIterator[asyncio.subprocess.Process]:
    flags = (f"--store=sqlite:///{folder}/received.db", f"--keys={folder}/keys.json", "--http=", "--page=127.0.0.1:0")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", WITHOUT_IPV6 + RECEIVE, "receive", *flags, f"--udp={udp}", *given),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


@pytest.mark.parametrize("udp", ["[::]:0", "0.0.0.0:0", "127.0.0.2:0"])
async def test_without_ipv6_it_is_started_and_answers_by_ipv4(tmp_path: Path, publisher: Publisher, udp: str) -> None:
    async with without_ipv6(tmp_path, udp, f"--key-ports={publisher.port}") as process:
        assert process.stdout is not None
        async with asyncio.timeout(DEADLINE):
            said = (await process.stdout.readline()).decode()
        # Its socket is connected: it hears what comes from that address alone.
        with Sender(int(said.removeprefix("udp   port ")), "127.0.0.2") as sender:
            assert isinstance(await sender.ask(publisher.signed()), Challenge)


async def test_an_address_of_ipv6_where_there_is_none_is_said_in_one_line(tmp_path: Path) -> None:
    async with without_ipv6(tmp_path, "[::1]:0") as process, asyncio.timeout(DEADLINE):
        _, said = await process.communicate()
        assert process.returncode == 1
        assert said.decode().splitlines()[-1] == (
            "overflowd: UDP port 0 of ::1 can't be opened: Address family not supported by protocol: "
            "name an IPv4 address, or have IPv6"
        )


@pytest.mark.parametrize(
    ("udp", "asked"), [("[::]:0", "127.0.0.2"), ("[::]:0", "::1"), ("0.0.0.0:0", "127.0.0.2"), ("[::1]:0", "::1")]
)
async def test_the_answer_comes_from_the_address_that_was_asked(
    tmp_path: Path, trusted: Authority, publisher: Publisher, udp: str, asked: str
) -> None:
    async with started(laboratory(tmp_path, trusted, publisher, udp=udp)) as receiver:
        with Sender(receiver.udp, asked) as sender:
            assert isinstance(await sender.ask(publisher.signed()), Challenge)
