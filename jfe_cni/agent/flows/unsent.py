"""Why a flow is not told: each reason is what a counter counts, a log line says, and a test asserts."""

from __future__ import annotations

from collections import Counter
from enum import StrEnum


class Unsent(StrEnum):
    """Counted by flows where nothing else is said."""

    TOO_MANY = "too-many"
    """More in one turn than the agent keeps in memory."""

    TOO_MANY_CONNECTIONS = "too-many-connections"
    """Connections beyond those that the agent remembers."""

    NOT_SENT = "not-sent"
    """The kernel did not take the message: its buffer is full, or there is no way to the collector."""

    COLLECTOR_AWAY = "collector-away"
    """Nobody listens there (ICMP port unreachable), or its name leads nowhere."""

    UPGRADER_GONE = "upgrader-gone"
    """Connections whose upgrader or worker ended: what they carried since they were told of last."""

    EVENTS_LOST = "events-lost"
    """Events of connections that the upgrader gave up because the agent did not keep up."""

    BEGAN_UNSEEN = "began-unseen"
    """Connections whose end was told, and not their beginning: a former agent may have told of them."""

    ENDED_UNSEEN = "ended-unseen"
    """Connections and entries that are gone without anybody having told of their end."""

    UNCOUNTED = "uncounted"
    """Connections of an upgrader that does not count packets: an older one."""

    OVERRUN = "overrun"
    """Times that conntrack told of more ends than its socket could hold; how many nobody knows."""

    CUT_OFF = "cut-off"
    """Times that conntrack had more entries than are read in one turn; those that were not are told of at their end."""


class Absent(StrEnum):
    """Why conntrack's flows are not there at all."""

    SWITCHED_OFF = "switched-off"
    NO_CONNTRACK = "no-conntrack"
    """This kernel has none, or none that can be asked (CONFIG_NF_CT_NETLINK)."""

    NOT_PERMITTED = "not-permitted"
    NOT_ACCOUNTED = "not-accounted"
    """nf_conntrack_acct is off: entries have no counters."""

    NO_EVENTS = "no-events"
    """nf_conntrack_events is off: nobody tells what an entry had counted when it ended."""


Unsents = Counter[Unsent]
