"""What becomes of a copy of a notice, and why: each name is a log field, a label of a metric, a column's value."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from jfe_cni.overflowd.delivery.destinations import Withheld
from jfe_cni.overflowd.notices.notice import Unfit
from jfe_cni.overflowd.notices.xarf import Untold


class State(StrEnum):
    WAITING = "waiting"
    SENDING = "sending"
    SENT = "sent"
    WITHHELD = "withheld"
    FAILED = "failed"
    UNKNOWN = "unknown"
    """Its sending was interrupted. It is never sent again."""

    DROPPED = "dropped"
    """Too many waited, and it was the oldest."""


ENDED = frozenset({State.SENT, State.WITHHELD, State.FAILED, State.UNKNOWN, State.DROPPED})


class Way(StrEnum):
    UDP = "udp"
    HTTPS = "https"
    HTTP = "http"
    MAIL = "mail"


class Spared(StrEnum):
    """Why a notice is not sent, whoever it is for."""

    TOO_OLD = "too-old"
    LARGER_THAN_ITS_FLOW = "larger-than-its-flow"
    ADDRESS_BUDGET = "address-budget"
    PREFIX_BUDGET = "prefix-budget"
    CONTACT_BUDGET = "contact-budget"
    TOTAL_BUDGET = "total-budget"
    UNREACHABLE = "unreachable"


class Cause(StrEnum):
    """For which an address is left alone, the strongest first."""

    ASKED = "asked"
    UNREACHABLE = "unreachable"


class Told(StrEnum):
    """What one way has heard."""

    TAKEN = "taken"
    OPTED_OUT = "opted-out"
    NO_ANSWER = "no-answer"
    PORT_UNREACHABLE = "port-unreachable"
    HOST_UNREACHABLE = "host-unreachable"
    PROHIBITED = "prohibited"
    NO_ROUTE = "no-route"
    """From here: nothing was sent."""

    REFUSED = "refused"
    NOT_NOW = "not-now"
    TOO_LARGE = "too-large"
    NO_CONTACT = "no-contact"


class Broken(StrEnum):
    """What keeps a copy from being sent as it should, on this side."""

    INTERRUPTED = "interrupted"
    OUTNUMBERED = "outnumbered"


Reason = Withheld | Spared | Told | Broken | Unfit | Untold


@dataclass(frozen=True)
class Outcome:
    """`way`: the last that was tried. `reason`: None, where it was taken."""

    state: State
    reason: Reason | None = None
    way: Way | None = None
