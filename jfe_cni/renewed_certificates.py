"""Certificates in files that somebody renews while they are served."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

from jfe_cni.errors import RequestError

# Between two looks. The shortest-lived leaves live for hours, and are renewed when a third of that is left.
SECONDS = 10.0


def load_pair(context: ssl.SSLContext, certificate: Path, key: Path | None) -> None:
    """Into a context that may be in use: connections from now on have it. Raises OSError, ssl.SSLError; what it had
    before is in it then."""
    # OpenSSL takes a certificate before it finds that the key is another's, and has no key then
    # (SSL_CTX_use_certificate(3), "NOTES").
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key)
    context.load_cert_chain(certificate, key)


@contextlib.asynccontextmanager
async def renewed(files: Sequence[Path], load: Callable[[], None], log: logging.Logger) -> AsyncIterator[None]:
    """Calls `load` within, soon after any of the files is another. What raises RequestError in it is logged once, and
    tried again at the next look: the former certificates are served meanwhile."""
    task = asyncio.create_task(_renew(files, load, log))
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def _renew(files: Sequence[Path], load: Callable[[], None], log: logging.Logger) -> None:
    seen, failed = _stamps(files), None
    while True:
        await asyncio.sleep(SECONDS)
        now = _stamps(files)
        if now == seen:
            continue
        try:
            load()
        except RequestError as error:
            # Halves of a pair that is being written don't fit: that is no fault unless it lasts.
            if failed == now:
                log.warning("%s; the former ones are served", error)
                seen = now
            failed = now
        else:
            seen = now


def _stamps(files: Sequence[Path]) -> list[tuple[int, int]]:
    stamps = []
    for path in files:
        with contextlib.suppress(OSError):
            status = path.stat()
            stamps.append((status.st_mtime_ns, status.st_ino))
    return stamps
