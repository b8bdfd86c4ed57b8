"""Every error that a person may meet, grouped by who is at fault and whether trying again can help.

`str()` of each says what is wrong and what to do about it. Code that can do something about a fault catches its class;
nobody catches more than `JfeError`.
"""

from __future__ import annotations

from typing import ClassVar


class JfeError(Exception):
    """What is wrong (`message`, no full stop) and what to do about it (`remedy`, an imperative, or empty)."""

    temporary: ClassVar[bool] = False
    """Whether the same request may succeed later with nothing changed by a person."""

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message, remedy)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message}: {self.remedy}" if self.remedy else self.message


class RequestError(JfeError):
    """The caller asked for something that cannot be: a bad argument, an unknown workload, a file of another kind."""


class ConflictError(RequestError):
    """The caller asked for what is being done, or has been done, otherwise: two enrolments of one namespace."""


class BusyError(ConflictError):
    """The same is being done, or undone, this moment."""

    temporary = True


class HostError(JfeError):
    """This host lacks something: root, `nft`, cgroup v2, a part of the kernel."""


class RuleMatchError(HostError):
    """Rules load on this host and do not match (another cgroup namespace, an old kernel): nothing counts as covered."""


class NamespaceGone(JfeError):
    """The network namespace has vanished: what was in it has gone with it, and there is nothing left to cover."""


class CgroupGone(JfeError):
    """A cgroup, or the process that should be in it, has vanished."""


class PeerError(JfeError):
    """The other end of a connection is at fault."""


class IdentityError(JfeError):
    """A key, a certificate or a trust bundle cannot be used: unreadable, expired, for another name."""


class StoreError(JfeError):
    """A service's store is away, or has refused. Whether what was asked for was done is not known."""

    temporary = True


class KernelError(JfeError):
    """The kernel refused what it should have done; whatever had been done for the same request is undone."""

    temporary = True


class UpgraderError(JfeError):
    """The upgrader is gone, starting, or has refused."""

    temporary = True


class AgentError(JfeError):
    """The agent cannot be reached or has ended before it answered."""

    temporary = True
