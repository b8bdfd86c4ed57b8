"""Who may do what. Pure: a credential says all of it, and nothing is looked up."""

from __future__ import annotations

from dataclasses import dataclass

from jfe_cni.ratelock.faults import Forbidden
from jfe_cni.ratelock.names import check_name
from jfe_cni.ratelock.store import Operation, Role

ALL_SECRETS = "*"


@dataclass(frozen=True)
class Caller:
    """Who asks, as its credential has it. An owner sets budgets and adds secrets, and uses none; a caller uses them,
    and changes nothing. `operations`: None, all. `secrets`: names, prefixes that end in `*`, or `*` for all."""

    identity: str
    role: Role
    operations: frozenset[Operation] | None
    secrets: tuple[str, ...]


def authorise(caller: Caller, operation: Operation, name: str) -> None:
    """Raises Forbidden."""
    if caller.role != "caller":
        raise Forbidden(
            f"{caller.identity} is an owner, who uses no secret", remedy="give a caller's credential for this"
        )
    if not may(caller, operation):
        raise Forbidden(f"{caller.identity} may not {operation}", remedy="ask an owner for a token that may")
    if not any(_matches(pattern, name) for pattern in caller.secrets):
        raise may_not(caller, operation, name)


def may(caller: Caller, operation: Operation) -> bool:
    """Whether the credential is for this, whatever the secret."""
    return caller.operations is None or operation in caller.operations


def authorise_owner(owner: Caller) -> None:
    """Raises Forbidden."""
    if owner.role != "owner":
        raise Forbidden(
            f"{owner.identity} is a caller, who changes nothing", remedy="give an owner's credential for this"
        )


def may_not(caller: Caller, operation: Operation, name: str) -> Forbidden:
    """One text, whether the credential says so, no secret is called so, or it is of another kind."""
    return Forbidden(
        f"{caller.identity} may not {operation} with {name}", remedy="see its name; ask an owner for a token that may"
    )


def check_pattern(pattern: str) -> str:
    """Raises RequestError; gives the pattern back."""
    if pattern != ALL_SECRETS:
        check_name(pattern.removesuffix("*"), "a pattern of secrets")
    return pattern


def _matches(pattern: str, name: str) -> bool:
    return name.startswith(pattern[:-1]) if pattern.endswith("*") else name == pattern
