"""Whether a URL may be a webhook's: said before anything is started, not when there is a flood to tell of. Pure."""

from __future__ import annotations

from ipaddress import ip_address
from urllib.parse import urlsplit

_LABEL = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-_")
_LONGEST_NAME = 253  # RFC 1035, section 2.3.4


def wrong_with(url: str) -> str | None:
    """In words, without the URL: it may have a secret in it. None: nothing."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return "it is no URL"
    if parts.scheme not in ("https", "http"):
        return "it is neither https nor http"
    if port == 0:
        return "there is no port 0"
    return None if _is_host(host) else f"{host!r} is no host"


def _is_host(host: str) -> bool:
    """An address; or a name as it is asked for (RFC 3490, section 4), the root's dot with it or without."""
    try:
        ip_address(host)
    except ValueError:
        pass
    else:
        return True
    try:
        # Raises for a label that is empty, or too long.
        name = host.encode("idna").decode("ascii").removesuffix(".")
    except UnicodeError:
        return False
    return 0 < len(name) <= _LONGEST_NAME and all(each and set(each.lower()) <= _LABEL for each in name.split("."))
