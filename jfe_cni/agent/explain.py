"""What the upgrader would do with an outbound connection, and why, without making one. Mirrors
upgrader/decide/src/outbound.rs, whose table this follows line by line."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from jfe_cni.agent.directory import Address, Directory
from jfe_cni.agent.objects import DirectoryEntry, Mode, WorkloadSettings
from jfe_cni.agent.reports import Decision, ExplainReport
from jfe_cni.errors import RequestError


@dataclass(frozen=True)
class Destination:
    address: Address
    port: int | None

    @classmethod
    def parse(cls, text: str) -> Destination:
        """`10.2.0.9`, `10.2.0.9:5432`, `fd00::9`, `[fd00::9]:5432`."""
        host, port = text, None
        if text.startswith("["):
            host, closed, rest = text[1:].partition("]")
            if not closed or (rest and not rest.startswith(":")):
                raise _unreadable(text)
            port = rest[1:] or None
        elif text.count(":") == 1:
            host, _, port = text.partition(":")
        try:
            address = ipaddress.ip_address(host)
        except ValueError as error:
            raise _unreadable(text) from error
        if port is not None and not (port.isascii() and port.isdigit() and 1 <= int(port) <= 65535):
            raise _unreadable(text)
        return cls(address, None if port is None else int(port))

    def __str__(self) -> str:
        if self.port is None:
            return str(self.address)
        return f"[{self.address}]:{self.port}" if self.address.version == 6 else f"{self.address}:{self.port}"


@dataclass(frozen=True)
class Caller:
    """The workload that would connect: what of it the decision looks at. `own`: addresses that never leave it."""

    id: str
    mode: Mode
    settings: WorkloadSettings
    own: frozenset[Address]


@dataclass(frozen=True)
class _Judgement:
    decision: Decision
    reason: str
    because: str


def explain(caller: Caller, directory: Directory, destination: Destination) -> ExplainReport:
    entry = directory.find(destination.address, destination.port)
    judgement = _excluded(caller, destination) or (
        _stranger(caller.mode) if entry is None else _enrolled(caller.mode, entry)
    )
    upgrade = judgement.decision == "upgrade"
    return ExplainReport(
        workload=caller.id,
        destination=str(destination),
        decision=judgement.decision,
        reason=judgement.reason,
        encrypted=upgrade,
        peer=entry.identity if upgrade and entry is not None else None,
        entry=None if entry is None else described(entry),
        because=judgement.because,
    )


def _excluded(caller: Caller, destination: Destination) -> _Judgement | None:
    because = None
    if destination.address.is_loopback or destination.address in caller.own:
        because = "it is the workload's own address, and never leaves the host"
    elif destination.port in caller.settings.excluded_outbound_ports:
        because = f"the workload's settings exclude port {destination.port}"
    for network in caller.settings.excluded_outbound_networks:
        if destination.address in network:
            because = f"the workload's settings exclude {network}"
    return None if because is None else _Judgement("pass_through", "excluded", because)


def _enrolled(mode: Mode, entry: DirectoryEntry) -> _Judgement:
    if entry.cover == "covered":
        whom = entry.identity or "an identity of this trust domain whose certificate names the address"
        return _Judgement(
            "upgrade", "mutual", f"the directory calls it covered; mutual TLS 1.3 with {whom}, or an error"
        )
    wished = "it should be covered and is not yet"
    if mode == "permissive":
        return _Judgement("pass_through", "not-covered-yet", f"{wished}; permissive goes bare")
    return _Judgement("refuse", "not-covered-yet", f"{wished}; strict waits 10 s, then refuses")


def _stranger(mode: Mode) -> _Judgement:
    unknown = "the directory does not know it"
    if mode == "permissive":
        return _Judgement("pass_through", "stranger", f"{unknown}; permissive lets strangers through")
    return _Judgement(
        "refuse",
        "plaintext-to-stranger",
        f"{unknown}; strict refuses at the first byte, unless the application speaks TLS itself",
    )


def described(entry: DirectoryEntry) -> str:
    port = "all ports" if entry.port is None else f"port {entry.port}"
    return f"{entry.network}, {port}, {entry.cover}, from {entry.source}"


def _unreadable(text: str) -> RequestError:
    return RequestError(f"{text!r} is no destination", remedy="write ADDRESS, ADDRESS:PORT or [ADDRESS]:PORT")
