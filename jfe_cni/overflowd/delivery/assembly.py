"""The delivery as the settings say: opened in order and closed in the other."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from prometheus_client import CollectorRegistry

from jfe_cni.errors import RequestError
from jfe_cni.overflowd.delivery.budgets import Budgets, EmbeddedBudgets, HeldBudgets
from jfe_cni.overflowd.delivery.counts import Counts
from jfe_cni.overflowd.delivery.courier import PATIENCE, Courier
from jfe_cni.overflowd.delivery.database import open_database
from jfe_cni.overflowd.delivery.http import Ports, open_http
from jfe_cni.overflowd.delivery.mail import MailServer, MailWay
from jfe_cni.overflowd.delivery.optouts import LeavingAlone
from jfe_cni.overflowd.delivery.outbox import Outbox
from jfe_cni.overflowd.delivery.outcomes import Way
from jfe_cni.overflowd.delivery.rdap import Rdap, read_bootstrap
from jfe_cni.overflowd.delivery.receiver_keys import ReceiverKeys
from jfe_cni.overflowd.delivery.settings import DeliverySettings
from jfe_cni.overflowd.delivery.udp import UdpWay
from jfe_cni.overflowd.delivery.ways import Ways
from jfe_cni.overflowd.notices.keys import KeyRing
from jfe_cni.ratelock.client import AsyncClient
from jfe_cni.ratelock.stores import open_store

_DAY = 86_400 * 1_000_000


@dataclass(frozen=True)
class Delivery:
    outbox: Outbox
    courier: Courier
    left_alone: LeavingAlone


@contextlib.asynccontextmanager
async def open_delivery(
    settings: DeliverySettings, ring: KeyRing, registry: CollectorRegistry, patience: Sequence[float] = PATIENCE
) -> AsyncIterator[Delivery]:
    """`ring`: its first key signs. `registry`: what is counted is counted there. `patience`: of the courier. Raises
    RequestError: unfit settings; StoreError: a database that can't be reached."""
    collector, counts = settings.collector or socket.gethostname(), Counts(registry)
    async with contextlib.AsyncExitStack() as stack:
        database = await stack.enter_async_context(open_database(settings.state))
        budgets = await _open_budgets(settings, collector)
        stack.push_async_callback(budgets.close)
        http = await stack.enter_async_context(open_http(Ports(settings.https_port, settings.http_port)))
        order, mail = settings.delivery_ways(), None
        if Way.MAIL in order:
            session = await stack.enter_async_context(
                aiohttp.ClientSession(auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar())
            )
            rdap = Rdap(session, read_bootstrap([Path(each) for each in settings.rdap]))
            # However slow its server, most slots are left to the other ways.
            mail = MailWay(_mail_server(settings), rdap, budgets, max(1, settings.concurrency // 8))
            stack.callback(mail.close)
        retention = round(settings.retention * _DAY)
        outbox = Outbox(database, counts, collector, ring, settings.outbox_limit, retention)
        left_alone = LeavingAlone(database)
        udp = UdpWay(settings.udp_port)
        yield Delivery(
            outbox,
            Courier(
                outbox,
                left_alone,
                budgets,
                Ways(order, udp, http, mail, ReceiverKeys(), budgets, settings.sealing),
                settings.delivery_policy(),
                ring,
                counts,
                concurrency=settings.concurrency,
                stop_seconds=settings.delivery_timeout,
                patience=patience,
            ),
            left_alone,
        )


async def _open_budgets(settings: DeliverySettings, collector: str) -> Budgets:
    if settings.ratelock:
        return HeldBudgets(AsyncClient(settings.ratelock, token=_token(settings.ratelock_token)))
    embedded = EmbeddedBudgets(await open_store(settings.budgets), settings.wanted_budgets(), collector)
    async with contextlib.AsyncExitStack() as failed:
        failed.push_async_callback(embedded.close)
        await embedded.start()
        failed.pop_all()
    return embedded


def _token(path: Path | None) -> str | None:
    try:
        return None if path is None else path.read_text().strip()
    except (OSError, ValueError) as error:
        raise RequestError(f"the token in {path} can't be read", "see the file, and who may read it") from error


def _mail_server(settings: DeliverySettings) -> MailServer:
    host, colon, port = settings.smtp.rpartition(":")
    if not colon or not port.isdecimal():
        raise RequestError(f"--smtp can't be {settings.smtp}", "write HOST:PORT")
    return MailServer(host.strip("[]"), int(port), settings.mail_from, settings.smtp_security == "starttls")
