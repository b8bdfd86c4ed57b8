"""The way to an authority behind ratelock: one client, another when the credentials have changed."""

from __future__ import annotations

import contextlib
import ssl

from jfe_cni.agent.ca_address import CaAddress, CaCredentials
from jfe_cni.errors import IdentityError
from jfe_cni.ratelock.client import AsyncClient

# A workload's start waits for it. What is tried again is within it.
TIMEOUT_SECONDS = 5.0


class CaConnection:
    """A client of the service, another one once the credentials have changed."""

    def __init__(self, address: CaAddress, credentials: CaCredentials) -> None:
        credentials.check(address)
        self.address = address
        self._credentials = credentials
        self._client: AsyncClient | None = None
        self._stamps: list[tuple[int, int]] = []

    async def client(self) -> AsyncClient:
        """Raises IdentityError where the credentials can't be read."""
        stamps = self._stamps_now()
        if self._client is None or stamps != self._stamps:
            made = self._made()
            await self.close()
            self._client, self._stamps = made, stamps
        return self._client

    async def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    def _made(self) -> AsyncClient:
        credentials = self._credentials
        try:
            token = credentials.token
            if credentials.token_file is not None:
                token = credentials.token_file.read_text().strip()
            verify: ssl.SSLContext | bool = False
            if self.address.url.startswith("https:"):
                verify = ssl.create_default_context(cafile=credentials.roots)
                verify.minimum_version = ssl.TLSVersion.TLSv1_3
                if credentials.certificate is not None:
                    verify.load_cert_chain(credentials.certificate, credentials.key)
        except (OSError, ValueError) as error:
            raise IdentityError(
                f"this node's credential for ratelock can't be read: {error}", remedy="see the files that --ca-… name"
            ) from error
        return AsyncClient(self.address.url, token=token, verify=verify, timeout=TIMEOUT_SECONDS)

    def _stamps_now(self) -> list[tuple[int, int]]:
        stamps = []
        credentials = self._credentials
        for path in (credentials.token_file, credentials.certificate, credentials.key, credentials.roots):
            if path is not None:
                with contextlib.suppress(OSError):
                    status = path.stat()
                    stamps.append((status.st_mtime_ns, status.st_ino))
        return stamps
