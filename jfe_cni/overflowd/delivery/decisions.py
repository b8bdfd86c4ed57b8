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

LONGEST_WAIT: Microseconds = 6 * 3_600 * 1_000_000
"""A quarter of what receivers take (a day), for clocks that are wrong; and what is older helps nobody."""

# Heard by a way to the address itself, it holds for all of them.
_FINAL = frozenset({Told.HOST_UNREACHABLE, Told.PROHIBITED, Told.NO_ROUTE})
_UNREACHABLE = frozenset({Told.HOST_UNREACHABLE, Told.PROHIBITED, Told.PORT_UNREACHABLE})


@dataclass(frozen=True)
class Tried:
    way: Way
    told: Told


@dataclass(frozen=True)
class Try:
    """The next step."""

    way: Way


def withheld(
    notice: Notice, address: Address, age: Microseconds, policy: Policy, cause: Cause | None, ways: Sequence[Way]
) -> Outcome | None:
    """None: it may be sent. `cause`: for which the address is left alone."""
    reason: Withheld | Spared | None = policy.withheld(address)
    if cause is Cause.ASKED:
        reason = Withheld.OPTED_OUT
    elif reason is None and cause is Cause.UNREACHABLE and Way.MAIL not in ways:
        reason = Spared.UNREACHABLE
    elif reason is None and age > LONGEST_WAIT:
        reason = Spared.TOO_OLD
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
    only_mail = cause is Cause.UNREACHABLE or any(each.told in _FINAL for each in tried)
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


def is_unreachable(tried: Sequence[Tried]) -> bool:
    """Whether the network has said of the address, by every way, that nobody is to be reached there."""
    direct = [each.told for each in tried if each.way is not Way.MAIL]
    return bool(direct) and all(told in _UNREACHABLE for told in direct)
