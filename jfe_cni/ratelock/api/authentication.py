"""Who asks: the bearer of a token (RFC 6750), or the SPIFFE id of a client certificate (X509-SVID, section 2)."""

from __future__ import annotations

import functools
import re
import time
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast, get_args

from cryptography import x509

from jfe_cni.errors import IdentityError, RequestError
from jfe_cni.identity.spiffe import SpiffeId
from jfe_cni.ratelock.api.service import Service
from jfe_cni.ratelock.authorisation import Caller
from jfe_cni.ratelock.faults import Unauthenticated
from jfe_cni.ratelock.names import check_name
from jfe_cni.ratelock.store import Operation, Role

_BEARER = re.compile(rb"(?i:bearer) +(rl_[A-Za-z0-9_-]{43})")
_REMEDY = "send a token that is valid, as Authorization: Bearer rl_…, or a certificate of an identity that is listed"


@dataclass(frozen=True)
class Grant:
    """`id`: a SPIFFE id, or a prefix of some that ends in `/*`."""

    id: str
    role: Role
    operations: frozenset[Operation] | None
    secrets: tuple[str, ...]

    def covers(self, identity: str) -> bool:
        return identity.startswith(self.id[:-1]) if self.id.endswith("*") else identity == self.id


class Identities:
    """SPIFFE ids and what each may do; the first that covers an id counts."""

    def __init__(self, grants: tuple[Grant, ...] = ()) -> None:
        self._grants = grants

    def caller(self, identity: str) -> Caller | None:
        for grant in self._grants:
            if grant.covers(identity):
                return Caller(identity, grant.role, grant.operations, grant.secrets)
        return None


def read_identities(path: Path) -> Identities:
    """TOML: `[[identity]]` with `id`, `role`, and, unless it may do all of the role, `operations` and `secrets`. Raises
    RequestError."""
    try:
        tables = tomllib.loads(path.read_text()).get("identity", [])
    except (OSError, ValueError) as error:
        raise RequestError(
            f"the identities in {path} can't be read: {error}", remedy="write TOML: [[identity]]"
        ) from error
    if not isinstance(tables, list):
        raise RequestError(f"{path} has one identity as a table", remedy="write [[identity]], in two brackets")
    return Identities(tuple(_grant(table, path) for table in tables))


def _grant(table: Mapping[str, Any], path: Path) -> Grant:
    if unknown := sorted(table.keys() - {"id", "role", "operations", "secrets"}):
        raise RequestError(f"{path}: unknown in an identity: {', '.join(unknown)}", remedy="see docs/ratelock.md")
    identity, role = table.get("id"), cast(Role, table.get("role"))
    operations, secrets = table.get("operations"), table.get("secrets", ["*"])
    if not isinstance(identity, str) or role not in get_args(Role):
        raise RequestError(f"{path}: an identity has an id and a role", remedy="choose the role owner or caller")
    try:
        SpiffeId.parse(f"{identity[:-1]}any" if identity.endswith("/*") else identity)
    except IdentityError as error:
        raise RequestError(f"{path}: {error.message}", remedy=error.remedy) from error
    if operations is not None and not set(operations) <= set(get_args(Operation)):
        raise RequestError(
            f"{path}: unknown operations for {identity}", remedy=f"choose of {', '.join(get_args(Operation))}"
        )
    if not isinstance(secrets, list) or not all(isinstance(each, str) for each in secrets):
        raise RequestError(f"{path}: secrets of {identity} are no list of names", remedy='write ["web/*"]')
    return Grant(identity, role, None if operations is None else frozenset(operations), tuple(secrets))


class Authentication:
    def __init__(self, service: Service, identities: Identities, wall_clock: Callable[[], float] = time.time) -> None:
        self._service = service
        self._identities = identities
        self._wall_clock = wall_clock

    async def caller(self, scope: Mapping[str, Any]) -> Caller:
        """`scope`: of ASGI. A token goes before a certificate. Raises Unauthenticated, and StoreError."""
        credentials = [value for name, value in scope["headers"] if name == b"authorization"]
        if credentials:
            matched = _BEARER.fullmatch(credentials[0].strip()) if len(credentials) == 1 else None
            caller = None if matched is None else await self._service.authenticate_token(matched[1].decode("ascii"))
        else:
            caller = self._certified(scope)
        if caller is None:
            raise Unauthenticated("no valid credential came with the request", remedy=_REMEDY)
        return caller

    def _certified(self, scope: Mapping[str, Any]) -> Caller | None:
        """TLS has verified the chain when the connection began; a certificate may have expired since."""
        chain = scope.get("extensions", {}).get("tls", {}).get("client_cert_chain", ())
        shown = next(iter(chain), None)
        if shown is None:
            return None
        identity, not_after = _read_certificate(shown)
        if identity is None or self._wall_clock() > not_after:
            return None
        return self._identities.caller(identity)


# One entry a connection that lives; reading takes longer than everything else that is done for a certificate.
@functools.lru_cache(maxsize=4096)
def _read_certificate(pem: str) -> tuple[str | None, float]:
    """The SPIFFE id, None unless there is exactly one URI (X509-SVID, section 2), it is one, and budgets can be named
    by it; when it expires."""
    certificate = x509.load_pem_x509_certificate(pem.encode())
    expires = certificate.not_valid_after_utc.timestamp()
    try:
        alternative = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        (uri,) = alternative.get_values_for_type(x509.UniformResourceIdentifier)
        return check_name(str(SpiffeId.parse(uri)), "a caller"), expires
    except (ValueError, x509.ExtensionNotFound, IdentityError, RequestError):
        return None, expires
