"""Where an authority behind ratelock is, and by what this node is known there."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

from jfe_cni.errors import RequestError


@dataclass(frozen=True)
class CaAddress:
    """`url`: of the service, as its client takes it. `secret`: the authority's name there."""

    url: str
    secret: str

    @classmethod
    def parse(cls, text: str) -> CaAddress:
        """`ratelock://HOST:PORT/NAME`, by TLS; `ratelock+unix://SOCKET/NAME`, SOCKET a path with its slashes written as
        %2F. Raises RequestError."""
        parts = urlsplit(text)
        secret = unquote(parts.path.removeprefix("/"))
        if secret and parts.netloc and not (parts.query or parts.fragment or "@" in parts.netloc):
            if parts.scheme == "ratelock+unix" and unquote(parts.netloc).startswith("/"):
                return cls(f"unix:{unquote(parts.netloc)}", secret)
            with contextlib.suppress(ValueError):
                if parts.scheme == "ratelock" and parts.hostname and parts.port:
                    return cls(f"https://{parts.netloc}", secret)
        raise RequestError(
            f"{text!r} is no authority behind ratelock",
            remedy="write ratelock://HOST:PORT/NAME, or ratelock+unix://%2Frun%2Fratelock.sock/NAME",
        )


@dataclass(frozen=True)
class CaCredentials:
    """A token, from a file or given; or a certificate and its key, PEM. `roots`: by which the service's own certificate
    is verified, PEM; None: the system's. Files are read again when they change."""

    token_file: Path | None = None
    token: str | None = field(default=None, repr=False)
    certificate: Path | None = None
    key: Path | None = None
    roots: Path | None = None

    def check(self, address: CaAddress) -> None:
        """Raises RequestError: not exactly one credential, or one that is of no use there."""
        given = [self.token_file, self.token, self.certificate]
        if sum(each is not None for each in given) != 1 or (self.certificate is None) != (self.key is None):
            raise RequestError(
                "ratelock has to know this node by one credential",
                remedy="give a token (--ca-token-file, or JFE_CA_TOKEN), or --ca-certificate and --ca-key",
            )
        if address.url.startswith("unix:") and (self.certificate is not None or self.roots is not None):
            raise RequestError("there is no TLS over a Unix socket", remedy="give a token and no certificates")
