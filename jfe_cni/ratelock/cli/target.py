"""Which service a verb speaks to, and as whom: RATELOCK_URL, RATELOCK_TOKEN, certificates; or what `serve --dev` left.

A token is no option: whoever lists processes would read it.
"""

from __future__ import annotations

import json
import os
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from jfe_cni.errors import RequestError

if TYPE_CHECKING:
    from jfe_cni.ratelock.client import Client

Verb = Callable[..., Any]


@dataclass(frozen=True)
class DevService:
    """What `serve --dev` leaves for the other verbs."""

    url: str
    owner: str = field(repr=False)
    caller: str = field(repr=False)

    def write(self, path: Path) -> None:
        """0600 from the first byte on, in a folder of 0700."""
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        beside = path.with_suffix(".new")
        beside.unlink(missing_ok=True)
        with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            json.dump({"url": self.url, "owner": self.owner, "caller": self.caller}, file)
        beside.replace(path)

    @classmethod
    def read(cls, path: Path) -> DevService | None:
        """None where there is none. Raises RequestError."""
        try:
            kept = json.loads(path.read_text())
            return cls(str(kept["url"]), str(kept["owner"]), str(kept["caller"]))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RequestError(
                f"{path} can't be read: {error}", remedy="remove it; `ratelock serve --dev` writes it"
            ) from error


def dev_file(environment: Mapping[str, str]) -> Path:
    """XDG Base Directory Specification: XDG_CONFIG_HOME, ~/.config where it is not set."""
    base = environment.get("XDG_CONFIG_HOME") or str(Path("~/.config").expanduser())
    return Path(base, "ratelock", "dev.json")


_FILE = click.Path(path_type=Path, dir_okay=False)


def _option(name: str, what: str, kind: click.Path | None = None) -> Callable[[Verb], Verb]:
    variable = "RATELOCK_" + name.replace("-", "_").upper()
    return click.option(f"--{name}", type=kind, envvar=variable, show_envvar=True, help=what)


def target_options(verb: Verb) -> Verb:
    for option in (
        _option("url", "http://, https://, or unix:PATH."),
        _option("ca", "PEM file of the service's roots.", _FILE),
        _option("certificate", "PEM file of this caller's certificates.", _FILE),
        _option("certificate-key", "PEM file of their key.", _FILE),
    ):
        verb = option(verb)
    return verb


def connected(
    role: str, url: str | None, ca: Path | None, certificate: Path | None, certificate_key: Path | None
) -> Client:
    """`role`: which of the tokens of `serve --dev` is used where RATELOCK_TOKEN is not set. Raises RequestError."""
    from jfe_cni.ratelock.client import Client

    token = os.environ.get("RATELOCK_TOKEN")
    if url is None:
        path = dev_file(os.environ)
        dev = DevService.read(path)
        if dev is None:
            raise RequestError(
                f"no service is named, and {path} is not there",
                remedy="set RATELOCK_URL, or start `ratelock serve --dev`",
            )
        url, token = dev.url, token or (dev.owner if role == "owner" else dev.caller)
    try:
        verify: ssl.SSLContext | bool = False
        if url.startswith("https:"):
            verify = ssl.create_default_context(cafile=ca)
            if certificate is not None:
                verify.load_cert_chain(certificate, certificate_key)
    except (OSError, ssl.SSLError) as error:
        raise RequestError(
            f"the certificates can't be used: {error}", remedy="give PEM files that belong together"
        ) from error
    return Client(url, token=token, verify=verify)
