"""Whether a copy of a notice is sent, by which way next, and what has become of it. Pure: what is known in, a step out.

Never a weapon: all that is sent for a notice, by every way and in every try, is together less than what it answers to.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jfe_cni.overflowd.datagrams import Address, Microseconds
from jfe_cni.overflowd.delivery.destinations import Policy, Withheld, expected_amplification, is_smaller_than_the_flow
from jfe_cni.overflowd.delivery.outcomes import Cause, Outcome, Spared, State, Told, Way
from jfe_cni.overflowd.notices.notice import Notice
from jfe_cni.overflowd.notices.xarf import Untold, untold

LONGEST_WAIT: Microseconds = 6 * 3_600 * 1_000_000
"""A quarter of what receivers take (a day), for clocks that are wrong; and what is older helps nobody."""

FIRST_ALONE: Microseconds = 5 * 60 * 1_000_000
LONGEST_ALONE: Microseconds = 86_400 * 1_000_000
"""A day: of a filter that is there for good a second try a day is no burden, and of a host that was down it is soon."""

_LONGER = 4
_UNREACHABLE = frozenset({Told.HOST_UNREACHABLE, Told.PROHIBITED, Told.PORT_UNREACHABLE})
_BY_TCP = frozenset({Way.HTTPS, Way.HTTP})


@dataclass(frozen=True)
class Tried:
    way: Way
    told: Told


@dataclass(frozen=True)
class Try:
    """The next step."""

    way: Way


@dataclass(frozen=True)
class Alone:
    """An address that could not be reached: from when, until when it is left alone; at once, where it is suspected."""

    since: Microseconds
    until: Microseconds


def ways_for(notice: Notice, ways: Sequence[Way]) -> tuple[Way, ...]:
    """Mail is for what there is a report of."""
    return tuple(way for way in ways if way is not Way.MAIL or untold(notice) is None)


def withheld(
    notice: Notice, address: Address, age: Microseconds, policy: Policy, cause: Cause | None, ways: Sequence[Way]
) -> Outcome | None:
    """None: it may be sent. `cause`: for which the address is left alone. `ways`: of `ways_for`."""
    reason: Withheld | Spared | Untold | None = policy.withheld(address)
    if cause is Cause.ASKED:
        reason = Withheld.OPTED_OUT
    elif reason is None and cause is Cause.UNREACHABLE and Way.MAIL not in ways:
        reason = Spared.UNREACHABLE
    elif reason is None and age > LONGEST_WAIT:
        reason = Spared.TOO_OLD
    elif reason is None and not ways:
        # None but mail, which there is no report for.
        reason = untold(notice)
    return None if reason is None else Outcome(State.WITHHELD, reason)


def answers_to(notice: Notice, octets: int) -> bool:
    """Whether so many octets, to each of two ends, are together less than what the notice answers to: the flow itself,
    or, where the odds are small, the packets that one notice stands for."""
    flow = notice.flow
    if is_smaller_than_the_flow(octets, flow.octets, flow.sampling):
        return True
    if not flow.packets or not flow.octets:
        return False
    return expected_amplification(octets, notice.odds, flow.octets / flow.packets) < 1


def next_step(
    notice: Notice, ways: Sequence[Way], tried: Sequence[Tried], cost: Mapping[Way, int], cause: Cause | None = None
) -> Try | Outcome:
    """`ways`: in their order. `cost`: octets of each, at most. Each way is tried once."""
    last = tried[-1] if tried else None
    if last is not None and last.told in {Told.TAKEN, Told.OPTED_OUT}:
        return Outcome(State.SENT, None if last.told is Told.TAKEN else last.told, last.way)
    if last is not None and last.told is Told.NOT_NOW:
        return Outcome(State.FAILED, last.told, last.way)
    spent = sum(cost[each.way] for each in tried)
    only_mail = cause is Cause.UNREACHABLE or any(map(_holds_for_all, tried))
    too_large = False
    for way in ways:
        if any(each.way is way for each in tried) or (only_mail and way is not Way.MAIL):
            continue
        if answers_to(notice, spent + cost[way]):
            return Try(way)
        too_large = True
    if last is not None:
        return Outcome(State.FAILED, last.told, last.way)
    return Outcome(State.WITHHELD, Spared.LARGER_THAN_ITS_FLOW if too_large else Spared.UNREACHABLE)


def _holds_for_all(tried: Tried) -> bool:
    """Whether what was heard by a way to the address itself holds for all of them. By UDP anybody may have sent such an
    ICMP, who need only guess a port (RFC 5927); of a connection it must quote the sequence number, too."""
    if tried.told is Told.NO_ROUTE:
        return True
    return tried.way in _BY_TCP and tried.told in {Told.HOST_UNREACHABLE, Told.PROHIBITED}


def is_unreachable(tried: Sequence[Tried]) -> bool:
    """Whether the network has said of the address, by every way, that nobody is to be reached there."""
    direct = {each.told for each in tried if each.way is not Way.MAIL}
    # To TCP the kernel says the same of an ICMP as of a route that isn't there; where another way got out, it was one.
    return bool(direct & _UNREACHABLE) and direct <= _UNREACHABLE | {Told.NO_ROUTE}


def is_confirmed(tried: Sequence[Tried]) -> bool:
    """Whether that was said to a connection, and so by somebody who saw it."""
    return any(each.way in _BY_TCP for each in tried)


def alone(at: Microseconds, former: Alone | None, *, confirmed: bool) -> Alone:
    """How long an address is left alone that can't be reached: for minutes, and for longer each time in succession, to
    `LONGEST_ALONE`. Where it is not `confirmed`, only if that was heard before, of another notice, minutes ago.
    `former`: as it was the last time."""
    if former is None or former.until + LONGEST_ALONE <= at:
        return Alone(at, at + FIRST_ALONE if confirmed else at)
    lasted = former.until - former.since
    if confirmed and not lasted:
        return Alone(at, at + FIRST_ALONE)
    if at < former.since + max(lasted, FIRST_ALONE):
        # Of the same minutes: it says nothing that was not known.
        return former
    return Alone(at, at + min(max(_LONGER * lasted, FIRST_ALONE), LONGEST_ALONE))
