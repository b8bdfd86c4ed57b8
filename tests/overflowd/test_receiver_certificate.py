"""A certificate that is renewed in its files is shown without a restart; one that can't be used is not."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from jfe_cni.overflowd.receiver.service import Receiver
from tests.overflowd.receiving import DEADLINE, Authority, Publisher, laboratory, started, until


@pytest.fixture(autouse=True)
def looking_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jfe_cni.renewed_certificates.SECONDS", 0.05)


@contextlib.asynccontextmanager
async def secured(folder: Path, trusted: Authority, publisher: Publisher) -> AsyncIterator[Receiver]:
    certificate, key = trusted.issue("receiver.example")
    given = {"https": "127.0.0.1:0", "tls_certificate": certificate, "tls_key": key}
    async with started(laboratory(folder, trusted, publisher, **given)) as receiver:
        yield receiver


async def shown(receiver: Receiver) -> bytes:
    careless = ssl.create_default_context()
    careless.check_hostname, careless.verify_mode = False, ssl.CERT_NONE
    port = int(receiver.https.rpartition(":")[2])
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=careless)
    found: bytes = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        await writer.wait_closed()
    return found


async def until_another(receiver: Receiver, former: bytes) -> None:
    async with asyncio.timeout(DEADLINE):
        while await shown(receiver) == former:
            pass


async def test_a_renewed_certificate_is_shown_to_the_next(
    tmp_path: Path, trusted: Authority, publisher: Publisher
) -> None:
    async with secured(tmp_path, trusted, publisher) as receiver:
        before = await shown(receiver)
        trusted.issue("receiver.example")
        await until_another(receiver, before)


async def test_a_certificate_that_does_not_fit_its_key_is_told_of_once_and_the_former_is_shown(
    tmp_path: Path, trusted: Authority, publisher: Publisher, caplog: pytest.LogCaptureFixture
) -> None:
    async def warnings() -> int:
        return sum("the former ones are served" in each.getMessage() for each in caplog.records)

    async with secured(tmp_path, trusted, publisher) as receiver:
        before = await shown(receiver)
        another, _ = trusted.issue("another.example")
        (trusted.folder / "receiver.example.pem").write_bytes(another.read_bytes())
        await until(warnings)
        await asyncio.sleep(0.5)
        assert (await warnings(), await shown(receiver)) == (1, before)
        trusted.issue("receiver.example")
        await until_another(receiver, before)
