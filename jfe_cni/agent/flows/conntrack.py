"""conntrack of the agent's own namespace as a source of flows: whether it is there, and reading it.

Its functions wait for the kernel, and are called on a thread that has never left the agent's namespace, one at a
time."""

from __future__ import annotations

import contextlib
import itertools
import logging
from collections.abc import Callable
from typing import Literal

from jfe_cni.agent.flows.flow import Flow, Milliseconds
from jfe_cni.agent.flows.tracked import MOST_ENTRIES, Tracked
from jfe_cni.agent.flows.unsent import Absent, Unsent, Unsents
from jfe_cni.agent.log import fields
from jfe_cni.errors import HostError, JfeError
from jfe_cni.kernel import conntrack

Use = Literal["off", "read", "account"]
"""off: it is not asked. read: it is asked where it counts. account: it is made to count, until the agent ends."""

_MOST_READ = 2 * MOST_ENTRIES
"""Entries of one dump, some ten microseconds each to read, and ten more where there is something to tell."""


_MOST_ENDED = MOST_ENTRIES // 2
"""Taken at once; more wait in the socket."""


class Conntrack:
    def __init__(self, tracked: Tracked, unsent: Unsents, use: Use, log: logging.Logger) -> None:
        self._tracked = tracked
        self._unsent = unsent
        self._use = use
        self._log = log
        self._endings: conntrack.Endings | None = None
        self._switched_on = False
        self.absent: Absent | None = None

    def __len__(self) -> int:
        return len(self._tracked)

    def look(self, at: Milliseconds) -> list[Flow]:
        """What each entry has counted since the last look. What is missing is looked for again each time."""
        return self._asked(lambda: self._look(at))

    def ended(self, at: Milliseconds) -> list[Flow]:
        """What has ended since the last time."""
        return [] if self._endings is None else self._asked(lambda: self._ended(at))

    def close(self) -> None:
        """Accounting is as it was."""
        if self._endings is not None:
            self._endings.close()
            self._endings = None
        if self._switched_on:
            self._switched_on = False
            with contextlib.suppress(JfeError):
                conntrack.account(on=False)

    def _asked(self, ask: Callable[[], list[Flow]]) -> list[Flow]:
        try:
            return ask()
        except HostError:
            self._say(Absent.NOT_PERMITTED)
        except JfeError as error:
            self._say(Absent.NO_CONNTRACK, error)
        return []

    def _look(self, at: Milliseconds) -> list[Flow]:
        absent = self._absent()
        if absent not in (None, Absent.NO_EVENTS):
            self._say(absent)
            return []
        if self._endings is None:
            # First, so that what ends while the table is read is not missed.
            self._endings = conntrack.Endings()
            try:
                self._tracked.begin(conntrack.Dump(_MOST_READ), at)
            except JfeError:
                self._endings.close()
                self._endings = None
                raise
            flows = []
        else:
            flows = self._tracked.look(conntrack.Dump(_MOST_READ), at)
        self._say(absent)
        return flows

    def _ended(self, at: Milliseconds) -> list[Flow]:
        if self._endings is None:
            return []
        overruns = self._endings.overruns
        entries = itertools.islice(self._endings.take(), _MOST_ENDED)
        flows = list(self._tracked.ended(entries, at))
        self._unsent[Unsent.OVERRUN] += self._endings.overruns - overruns
        return flows

    def _absent(self) -> Absent | None:
        if self._use == "off":
            return Absent.SWITCHED_OFF
        accounts = conntrack.accounts()
        if accounts is None:
            return Absent.NO_CONNTRACK
        if not accounts:
            if self._use != "account":
                return Absent.NOT_ACCOUNTED
            try:
                conntrack.account(on=True)
            except JfeError as error:
                # A container's /proc/sys may be for reading alone.
                self._say(Absent.NOT_ACCOUNTED, error)
                return Absent.NOT_ACCOUNTED
            self._switched_on = True
        return None if conntrack.tells_of_ends() else Absent.NO_EVENTS

    def _say(self, absent: Absent | None, error: JfeError | None = None) -> None:
        """Once, when it changes."""
        if absent is self.absent:
            return
        self.absent = absent
        match absent:
            case None:
                self._log.info("conntrack is read")
            case Absent.SWITCHED_OFF:
                self._log.info("no flows of conntrack", extra=fields(reason=absent))
            case _:
                why = None if error is None else str(error)
                self._log.warning("no flows of conntrack", extra=fields(reason=absent, error=why))
