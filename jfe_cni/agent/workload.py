"""A workload's life as values: its states, what leads from one to the next, and what is known of it. Pure."""

from __future__ import annotations

import dataclasses
import enum
from dataclasses import dataclass, field

from jfe_cni.agent.attachment import Container
from jfe_cni.agent.directory import Address
from jfe_cni.agent.messages import Listeners
from jfe_cni.agent.objects import Mode, Shape, Target, WorkloadSettings
from jfe_cni.errors import ConflictError
from jfe_cni.rules.model import Cgroup, ConnectionTuple, Proof


class State(enum.Enum):
    # Being brought under cover: not in the directory, and undone whole if a step fails.
    ENROLLING = "enrolling"
    # Rules loaded and proven, the upgrader listens.
    COVERED = "covered"
    # The upgrader is away or being replaced: the rules stand and let nothing through.
    CLOSED = "closed"
    # Its rules were changed by another than the agent, and are being loaded again.
    MENDING = "mending"
    # Its cgroup or unit is away for now; it is covered again when that comes back.
    ABSENT = "absent"
    RELEASING = "releasing"


class Event(enum.Enum):
    PROVEN = "proven"
    UPGRADER_LOST = "upgrader-lost"
    RULES_CHANGED = "rules-changed"
    VANISHED = "vanished"
    RELEASE = "release"


_NEXT: dict[tuple[State, Event], State] = {
    (State.ENROLLING, Event.PROVEN): State.COVERED,
    (State.ENROLLING, Event.RELEASE): State.RELEASING,
    (State.COVERED, Event.PROVEN): State.COVERED,
    (State.COVERED, Event.UPGRADER_LOST): State.CLOSED,
    (State.COVERED, Event.RULES_CHANGED): State.MENDING,
    (State.COVERED, Event.VANISHED): State.ABSENT,
    (State.COVERED, Event.RELEASE): State.RELEASING,
    (State.CLOSED, Event.PROVEN): State.COVERED,
    (State.CLOSED, Event.UPGRADER_LOST): State.CLOSED,
    (State.CLOSED, Event.RULES_CHANGED): State.CLOSED,
    (State.CLOSED, Event.VANISHED): State.ABSENT,
    (State.CLOSED, Event.RELEASE): State.RELEASING,
    (State.MENDING, Event.PROVEN): State.COVERED,
    (State.MENDING, Event.UPGRADER_LOST): State.CLOSED,
    (State.MENDING, Event.RULES_CHANGED): State.MENDING,
    (State.MENDING, Event.VANISHED): State.ABSENT,
    (State.MENDING, Event.RELEASE): State.RELEASING,
    (State.ABSENT, Event.PROVEN): State.COVERED,
    (State.ABSENT, Event.UPGRADER_LOST): State.ABSENT,
    (State.ABSENT, Event.VANISHED): State.ABSENT,
    (State.ABSENT, Event.RELEASE): State.RELEASING,
    # A release that failed half way can be asked for again.
    (State.RELEASING, Event.RELEASE): State.RELEASING,
}

# States in which peers must be told that this workload takes mutual TLS: once covered it never goes bare again before
# it is released, whatever happens to it meanwhile.
PUBLISHED = frozenset({State.COVERED, State.CLOSED, State.MENDING})


@dataclass(frozen=True)
class Certificate:
    """What is remembered of a certificate: seconds since the epoch, the roots it came with, the addresses that it
    names. Never its key."""

    renew_at: float
    expires: float
    roots: tuple[str, ...]
    addresses: frozenset[Address]


@dataclass(frozen=True)
class Workload:
    """`listener_ports`: where a host workload listens; `lent_ports`: those of them that are sockets which others made
    for it (socket activation). `cgroup`: of a host workload; `cgroup_number` only while it is there. `container`: what
    a container runtime told of it. `proof`: of a namespace's own rules, by which a later agent knows them again."""

    id: str
    target: Target
    mode: Mode
    identity: str
    settings: WorkloadSettings = field(default_factory=WorkloadSettings)
    state: State = State.ENROLLING
    addresses: frozenset[Address] = frozenset()
    listeners: Listeners | None = None
    certificate: Certificate | None = None
    cgroup: Cgroup | None = None
    cgroup_number: int | None = None
    namespace: tuple[int, int] | None = None
    listener_ports: tuple[int, ...] = ()
    lent_ports: tuple[int, ...] = ()
    bare: tuple[ConnectionTuple, ...] = ()
    container: Container | None = None
    proof: Proof | None = None
    trouble: str | None = None

    @property
    def shape(self) -> Shape:
        return self.target.shape

    @property
    def published(self) -> bool:
        return self.state in PUBLISHED

    def after(self, event: Event) -> Workload:
        """Raises ConflictError where `event` can't happen to a workload in this state: two callers at once."""
        state = _NEXT.get((self.state, event))
        if state is None:
            raise ConflictError(
                f"{self.id} is {self.state.value}: {event.value} can't be now", remedy="wait until that is done"
            )
        trouble = None if event is Event.PROVEN else self.trouble
        return dataclasses.replace(self, state=state, trouble=trouble)


def same_thing(one: Workload, other: Workload) -> bool:
    """Whether two enrolments mean one namespace, or one cgroup."""
    if one.namespace is not None or other.namespace is not None:
        return one.namespace == other.namespace
    return one.cgroup is not None and other.cgroup is not None and one.cgroup.path == other.cgroup.path
