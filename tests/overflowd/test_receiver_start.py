"""What a receiver says, or refuses, for how it was started."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from jfe_cni.errors import RequestError
from jfe_cni.overflowd.receiver.settings import ReceiverSettings
from jfe_cni.overflowd.receiver.store import open_store
from tests.overflowd.receiving import Authority, Publisher, client, laboratory, post, started
from tests.overflowd.web_server import nginx, of_docs


async def test_a_proxy_that_is_not_listed_is_told_of_once(
    tmp_path: Path, trusted: Authority, publisher: Publisher, caplog: pytest.LogCaptureFixture
) -> None:
    def warnings() -> list[str]:
        return [each.getMessage() for each in caplog.records if "--proxies" in each.getMessage()]

    headers = {"x-forwarded-for": "192.0.2.7"}
    async with started(laboratory(tmp_path, trusted, publisher, proxies=("127.0.0.1",))) as receiver:
        assert (await post(receiver.http, publisher.signed(), headers=headers)).status_code == 200
        assert warnings() == []
    async with started(laboratory(tmp_path, trusted, publisher)) as receiver:
        assert (await post(receiver.http, publisher.signed())).status_code == 200
        assert warnings() == []
        for _ in range(3):
            assert (await post(receiver.http, publisher.signed(), headers=headers)).status_code == 200
    assert len(warnings()) == 1
    assert warnings()[0].startswith("127.0.0.1 ")


async def test_that_notices_of_anything_are_taken_is_said_at_the_start(
    tmp_path: Path, trusted: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    def warnings() -> int:
        return sum("--own" in each.getMessage() for each in caplog.records)

    async with (
        started(laboratory(tmp_path, trusted, own=("203.0.113.0/24",))) as receiver,
        client(receiver.page) as http,
    ):
        assert (warnings(), "--own" in (await http.get("/")).text) == (0, False)
    async with started(laboratory(tmp_path, trusted)) as receiver, client(receiver.page) as http:
        assert (warnings(), "--own" in (await http.get("/")).text) == (1, True)


async def test_a_replica_that_publishes_another_key_is_not_started(
    tmp_path: Path, trusted: Authority, postgresql_url: str
) -> None:
    first = laboratory(tmp_path, trusted, store=postgresql_url)
    other = replace(first, keys=tmp_path / "others" / "keys.json")
    async with started(first), started(first):
        with pytest.raises(RequestError, match="publishes another key"):
            async with started(other):
                pass
        async with started(first):
            """As it was not started, it left nothing there."""
    async with started(other):
        """Nobody publishes the former any more."""


async def test_what_another_replica_had_no_room_for_is_asked_for_again(
    settings: ReceiverSettings, publisher: Publisher
) -> None:
    async with started(settings) as receiver:
        assert (await post(receiver.http, publisher.signed())).status_code == 200
        another = await open_store(settings.store)
        try:
            assert await another.unpin(publisher.domain)
        finally:
            await another.close()
        again = [(await post(receiver.http, publisher.signed())).status_code for _ in range(2)]
        assert again == [403, 200]
        assert publisher.asked == 2


async def test_behind_the_web_server_of_the_docs_each_network_has_its_own_share(
    tmp_path: Path, trusted: Authority, publisher: Publisher
) -> None:
    proxied = laboratory(tmp_path, trusted, publisher, source_notices=1, proxies=("127.0.0.1",))
    said = of_docs()
    assert f"http://{ReceiverSettings.http};" in said
    async with (
        started(proxied) as receiver,
        nginx(tmp_path, said.replace(f"http://{ReceiverSettings.http}", receiver.http)) as port,
    ):

        async def status(address: str, **headers: str) -> int:
            transport = httpx.AsyncHTTPTransport(local_address=address)
            return (
                await post(f"http://127.0.0.1:{port}", publisher.signed(), transport=transport, headers=headers)
            ).status_code

        assert [await status("127.0.1.1"), await status("127.0.2.1"), await status("127.0.1.2")] == [200, 200, 429]
        assert await status("127.0.1.3", **{"x-forwarded-for": "198.51.100.9"}) == 429, "whatever it says itself"
