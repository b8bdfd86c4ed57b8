"""Errors on their way over the API: by name and text on one side, the same class raised on the other."""

from __future__ import annotations

from typing import Any

from jfe_cni.errors import (
    AgentError,
    CgroupGone,
    ConflictError,
    HostError,
    IdentityError,
    JfeError,
    KernelError,
    NamespaceGone,
    PeerError,
    RequestError,
    RuleMatchError,
    UpgraderError,
)


class AgentUnreachableError(AgentError):
    """Nobody listens on the agent's socket, or who did went away before it answered."""


class AgentAnswerError(AgentError):
    """Something answers on the agent's socket that is not the agent of this version."""

    temporary = False


class AuthorityAway(IdentityError):
    """Whoever signs certificates can't be asked now. Those that are signed stay good."""

    temporary = True


class SigningBudgetSpent(IdentityError):
    """Whoever signs certificates has signed as many as this node, or all, may have in some time."""

    temporary = True


class UnknownWorkloadError(RequestError):
    """No workload of this id is enrolled."""

    def __init__(self, message: str, remedy: str = "see `jfe status` for the workloads of this node") -> None:
        super().__init__(message, remedy)

    @classmethod
    def named(cls, workload: str) -> UnknownWorkloadError:
        return cls(f"no workload {workload} is enrolled here")


# The HTTP status of each class; a subclass comes before its base.
_STATUS: tuple[tuple[type[JfeError], int], ...] = (
    (UnknownWorkloadError, 404),
    (ConflictError, 409),
    (RequestError, 400),
    (NamespaceGone, 410),
    (CgroupGone, 410),
    (RuleMatchError, 501),
    (HostError, 501),
    (SigningBudgetSpent, 429),
    (AuthorityAway, 503),
    (IdentityError, 422),
    (KernelError, 500),
    (UpgraderError, 503),
    (PeerError, 502),
    (AgentAnswerError, 502),
    (AgentError, 500),
)
_CLASSES = {fault.__name__: fault for fault, _ in _STATUS}


def status_of(error: JfeError) -> int:
    return next((status for fault, status in _STATUS if isinstance(error, fault)), 500)


def as_json(error: JfeError) -> dict[str, Any]:
    kind = next((fault.__name__ for fault, _ in _STATUS if isinstance(error, fault)), "AgentError")
    return {"kind": kind, "error": error.message, "remedy": error.remedy, "temporary": error.temporary}


def error_of_kind(kind: str, message: str, remedy: str) -> JfeError:
    """The error that an agent sent; of a kind that this version does not know, an AgentError with its text."""
    return _CLASSES.get(kind, AgentError)(message, remedy)
