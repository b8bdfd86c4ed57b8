"""From a courier to a receiver, each as it is: a key that is not known yet, proven, fetched and pinned on the way."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Sequence
from pathlib import Path

import pytest
from sqlalchemy import make_url

from jfe_cni.overflowd.delivery.outcomes import State
from jfe_cni.overflowd.notices.notice import Notice
from tests.overflowd.couriers import delivering, ended, settings
from tests.overflowd.receiving import Publisher, authority, laboratory, publishing, started
from tests.overflowd.test_courier import OWN, free_port, to


def news(publisher: Publisher, count: int) -> Sequence[Notice]:
    """Of this reporter."""
    flow = to("127.0.0.1")[0].flow
    return [publisher.notice(flow=flow) for _ in range(count)]


def port_of(url: str) -> int:
    return make_url(url).port or 80


@pytest.mark.parametrize("sealing", ["never", "always"])
async def test_a_notice_gets_to_a_receiver_that_has_never_heard_of_the_reporter(
    sealing: str, sqlite_url: str, tmp_path: Path
) -> None:
    trusted = authority(tmp_path)
    certificate, key = trusted.issue("receiver.example")
    async with contextlib.AsyncExitStack() as stack:
        publisher = await stack.enter_async_context(publishing(trusted))
        by_tls = {"https": "127.0.0.1:0", "tls_certificate": certificate, "tls_key": key}
        receiver = await stack.enter_async_context(started(laboratory(tmp_path, trusted, publisher, **by_tls)))
        wanted = settings(
            sqlite_url, tmp_path, udp_port=receiver.udp, https_port=port_of(receiver.https), sealing=sealing,
            concurrency=1,
        )  # fmt: skip
        async with delivering(wanted, ring=publisher.ring) as (delivery, _):
            await delivery.outbox.put(news(publisher, 2))
            assert await ended(sqlite_url, 4) == {OWN: 2, (State.SENT, None, "udp"): 2}
    assert publisher.asked == 1, "its key is fetched once, when its address is proven"


async def test_by_http_it_is_sealed_to_the_receivers_own_key_and_read(sqlite_url: str, tmp_path: Path) -> None:
    trusted = authority(tmp_path)
    async with publishing(trusted) as publisher, started(laboratory(tmp_path, trusted, publisher)) as receiver:
        wanted = settings(
            sqlite_url, tmp_path, ways=("udp", "http"), udp_port=receiver.udp, http_port=port_of(receiver.http)
        )
        async with delivering(wanted, ring=publisher.ring) as (delivery, _):
            # By UDP the receiver learns the key: HTTP has no way to prove an address to it.
            await delivery.outbox.put(news(publisher, 1))
            await ended(sqlite_url, 2)
        by_http = dataclasses.replace(wanted, ways=("udp", "http"), udp_port=free_port())
        async with delivering(by_http, ring=publisher.ring) as (delivery, _):
            await delivery.outbox.put(news(publisher, 1))
            assert (await ended(sqlite_url, 4))[(State.SENT, None, "http")] == 1


async def test_a_receiver_that_opts_out_is_told_once(state_url: str, tmp_path: Path) -> None:
    trusted = authority(tmp_path)
    async with (
        publishing(trusted) as publisher,
        started(laboratory(tmp_path, trusted, publisher, opt_out=True)) as receiver,
    ):
        wanted = settings(state_url, tmp_path, udp_port=receiver.udp, concurrency=1)
        async with delivering(wanted, ring=publisher.ring) as (delivery, _):
            await delivery.outbox.put(news(publisher, 2))
            found = await ended(state_url, 4)
    assert found[(State.SENT, "opted-out", "udp")] == 1
    assert found[(State.WITHHELD, "opted-out", None)] == 1
