"""The receiver put together: what takes in, what keeps, what shows, what tells."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import secrets
import ssl
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.types import ASGIApp

from jfe_cni.errors import JfeError, RequestError
from jfe_cni.http_server import host_and_port
from jfe_cni.overflowd.datagrams import Microseconds
from jfe_cni.overflowd.delivery.destinations import Policy
from jfe_cni.overflowd.receiver import key_fetching, own_keys
from jfe_cni.overflowd.receiver.api.intake import intake_application
from jfe_cni.overflowd.receiver.api.watching import watching_application
from jfe_cni.overflowd.receiver.believed import Believed
from jfe_cni.overflowd.receiver.challenges import Challenges
from jfe_cni.overflowd.receiver.complaints import Complaints
from jfe_cni.overflowd.receiver.following import Following
from jfe_cni.overflowd.receiver.intake import Intake, Scope, Taken
from jfe_cni.overflowd.receiver.key_fetching import KeyFetcher, Resolve, trusted_roots
from jfe_cni.overflowd.receiver.limits import Limit, Sources
from jfe_cni.overflowd.receiver.observed import Metrics
from jfe_cni.overflowd.receiver.own_keys import OwnKeys, Published
from jfe_cni.overflowd.receiver.reception import Reception
from jfe_cni.overflowd.receiver.refreshing import Refreshing
from jfe_cni.overflowd.receiver.retention import TOGETHER
from jfe_cni.overflowd.receiver.serving import OF_A_NETWORK, load_certificate, server_tls, serving
from jfe_cni.overflowd.receiver.settings import ReceiverSettings
from jfe_cni.overflowd.receiver.store import Store, open_store
from jfe_cni.overflowd.receiver.udp import UdpIntake
from jfe_cni.overflowd.receiver.webhooks import BACKOFF, Webhooks
from jfe_cni.renewed_certificates import renewed

log = logging.getLogger("overflowd")

_MINUTE: Microseconds = 60 * 1_000_000
_DAY: Microseconds = 86_400 * 1_000_000
# Seconds between two looks for what is kept no longer.
_UPKEEP = 60.0
# A replica that has not said so for so long publishes its key no more: some times `_UPKEEP`.
_ALIVE: Microseconds = 4 * _MINUTE
_SHORTEST_SECRET = 16
Clock = Callable[[], Microseconds]


@dataclass(frozen=True)
class Receiver:
    """Where it listens; empty and 0, where it does not."""

    udp: int
    http: str
    https: str
    page: str

    def lines(self) -> list[str]:
        """For a person who has started it."""
        named = {"udp": self.udp and f"port {self.udp}", "http": self.http, "https": self.https, "page": self.page}
        return [f"{name:<6}{where}" for name, where in named.items() if where]


def wall_clock() -> Microseconds:
    return time.time_ns() // 1_000


def monotonic_clock() -> Microseconds:
    return time.monotonic_ns() // 1_000


@contextlib.asynccontextmanager
async def receiving(
    settings: ReceiverSettings,
    clock: Clock = wall_clock,
    resolving: Resolve = key_fetching.resolve,
    backoff: Sequence[float] = BACKOFF,
    monotonic: Clock = monotonic_clock,
) -> AsyncIterator[Receiver]:
    """Takes in within; what came is kept, and answered, on the way out. `backoff`: of webhooks. `monotonic`: never set.
    Raises JfeError."""
    keys = own_keys.read_or_make(settings.keys)
    secret, roots = _secret(settings.webhook_secret), _roots(settings.key_roots)
    metrics, stopping, complaints = Metrics(), asyncio.Event(), Complaints(log, monotonic)
    async with contextlib.AsyncExitStack() as stack:
        store = await open_store(settings.store)
        stack.push_async_callback(store.close)
        for domain in settings.repin:
            await store.unpin(domain)
        await stack.enter_async_context(_published(store, keys, clock))
        webhooks = Webhooks(settings.webhooks, secret, store, metrics, clock, monotonic, complaints, backoff)
        await stack.enter_async_context(_running(webhooks.run()))
        following = Following(store, clock, webhooks.tell, webhooks.tell_of_change, complaints)
        await following.catch_up()
        await stack.enter_async_context(_running(following.run()))
        await stack.enter_async_context(_running(_keep_up(store, settings, keys, clock)))
        believed = Believed()
        await believed.load(store)
        fetcher = KeyFetcher(Policy(told=settings.networks_of_keys), monotonic, roots, resolving)
        stack.push_async_callback(fetcher.close)
        challenges = Challenges(secrets.token_bytes(32))
        scope = Scope(settings.own_networks, settings.ports_of_keys)
        intake = Intake(believed.keys, believed.freshness, challenges, scope, keys.opening)
        spoofable, proven = (
            Sources(Limit(settings.source_notices, _MINUTE), Limit(settings.all_notices, _MINUTE)) for _ in range(2)
        )
        refreshing = Refreshing(believed, fetcher, store, metrics, clock, monotonic, complaints)
        await stack.enter_async_context(_running(refreshing.run()))
        opted_out = keys.ring.signing if settings.opt_out else None
        reception = Reception(
            intake,
            believed,
            fetcher,
            store,
            spoofable,
            proven,
            metrics,
            clock,
            monotonic,
            _took(following, refreshing),
            opted_out,
        )
        page = ""
        if settings.page:
            names, anything = settings.names_of_page, not settings.own
            watching = watching_application(store, following, metrics, clock, stopping, complaints, names, anything)
            page = await stack.enter_async_context(serving(watching, settings.page))
        stack.callback(_stop_events, stopping, following)
        app = intake_application(reception, Published(settings.keys, keys, complaints), metrics, complaints)
        http = https = ""
        if settings.http:
            http = await stack.enter_async_context(
                serving(app, settings.http, None, settings.proxies, each=OF_A_NETWORK)
            )
        if settings.https and settings.tls_certificate is not None and settings.tls_key is not None:
            https = await stack.enter_async_context(
                _serving_securely(app, settings, settings.tls_certificate, settings.tls_key)
            )
        udp = 0
        if settings.udp:
            datagrams = UdpIntake(*host_and_port(settings.udp), reception, metrics, complaints)
            stack.push_async_callback(datagrams.close)
            datagrams.start()
            udp = datagrams.port
        _warn(settings)
        yield Receiver(udp, http, https, page)


@contextlib.asynccontextmanager
async def _serving_securely(
    app: ASGIApp, settings: ReceiverSettings, certificate: Path, key: Path
) -> AsyncIterator[str]:
    tls = server_tls(certificate, key)
    load = functools.partial(load_certificate, tls, certificate, key)
    async with (
        renewed((certificate, key), load, log),
        serving(app, settings.https, tls, settings.proxies, each=OF_A_NETWORK) as url,
    ):
        yield url


def _took(following: Following, refreshing: Refreshing) -> Callable[[Taken], None]:
    def took(taken: Taken) -> None:
        following.wake()
        refreshing.heard(taken.publisher)

    return took


def _warn(settings: ReceiverSettings) -> None:
    if not settings.own:
        log.warning("notices of any address are taken: the floods that are shown need not be ours; see --own")


def _stop_events(stopping: asyncio.Event, following: Following) -> None:
    """Who reads them would be waited for."""
    stopping.set()
    following.readers.tell()


@contextlib.asynccontextmanager
async def _running(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """What ends for a fault of its own ends all: `receiving` raises it."""
    task, parent = asyncio.create_task(work), asyncio.current_task()
    assert parent is not None

    def ended(done: asyncio.Task[None]) -> None:
        if not done.cancelled() and done.exception() is not None:
            parent.cancel()

    task.add_done_callback(ended)
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def _keep_up(store: Store, settings: ReceiverSettings, keys: OwnKeys, clock: Clock) -> None:
    while True:
        # A store that is away is told of where it is asked for something.
        with contextlib.suppress(JfeError):
            if await store.publish(keys.sealing.thumbprint(), clock(), _ALIVE):
                # It was started when this one had just said nothing.
                log.warning("another receiver on this store publishes another key: give all of them the same --keys")
            while await store.prune(clock(), round(settings.age * _DAY), settings.most) >= TOGETHER:
                pass
        await asyncio.sleep(_UPKEEP)


@contextlib.asynccontextmanager
async def _published(store: Store, keys: OwnKeys, clock: Clock) -> AsyncIterator[None]:
    """The others on this store know within that it is. Raises RequestError: one publishes another key. What is sealed
    to that could not be opened here, nor there what is sealed to ours."""
    key = keys.sealing.thumbprint()
    others = await store.publish(key, clock(), _ALIVE)
    try:
        if others:
            raise RequestError(
                f"another receiver on this store publishes another key ({', '.join(others)}; here it is {key})",
                remedy="give all of them the same files of keys (--keys); "
                f"or wait {_ALIVE // _MINUTE} minutes, if that one has gone",
            )
        yield
    finally:
        # Others that publish the same say so again.
        with contextlib.suppress(JfeError):
            await store.withdraw(key)


def _secret(path: Path | None) -> bytes:
    if path is None:
        return b""
    try:
        secret = path.read_bytes().strip()
    except OSError as error:
        raise RequestError(f"{path} can't be read: {error.strerror}", remedy="see --webhook-secret") from error
    if len(secret) < _SHORTEST_SECRET:
        raise RequestError(f"the secret in {path} is too short", remedy=f"give {_SHORTEST_SECRET} bytes at least")
    return secret


def _roots(path: Path | None) -> ssl.SSLContext:
    try:
        return trusted_roots(str(path or ""))
    except (OSError, ssl.SSLError) as error:
        raise RequestError(f"the roots in {path} can't be read: {error}", remedy="see --key-roots") from error
