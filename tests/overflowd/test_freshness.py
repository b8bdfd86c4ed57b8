"""A notice is taken once, while it is news."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from jfe_cni.overflowd.notices.notice import End, Notice
from jfe_cni.overflowd.receiver.freshness import AHEAD, OLDEST, Freshness, Stale
from tests.overflowd.test_notices import NOTICE

NOW = NOTICE.made
HOUR = 3_600_000_000


def made(at: int, nonce: str = "0123456789abcdef") -> Notice:
    return replace(NOTICE, made=at, nonce=nonce)


def test_what_came_before_is_not_taken_again() -> None:
    seen = Freshness()
    assert seen.take(NOTICE, NOW) is None
    assert seen.take(NOTICE, NOW + HOUR) is Stale.REPLAYED
    assert seen.take(replace(NOTICE, to=End.SOURCE), NOW) is None, "its other copy"
    assert seen.take(made(NOW, "another-nonce-16"), NOW) is None


def test_a_clock_that_is_an_hour_off_is_no_reason_to_hear_nothing() -> None:
    seen = Freshness()
    assert seen.take(made(NOW - HOUR, "an-hour-behind--"), NOW) is None
    assert seen.take(made(NOW + HOUR, "an-hour-ahead---"), NOW) is None
    assert seen.take(made(NOW + AHEAD + 1), NOW) is Stale.FROM_THE_FUTURE
    assert seen.take(made(NOW - OLDEST), NOW) is Stale.TOO_OLD


def test_where_another_remembers_what_is_late_is_taken() -> None:
    for backed, expected in ((False, Stale.TOO_OLD), (True, None)):
        seen = Freshness(most=2, backed=backed)
        for number in range(4):
            assert seen.take(made(NOW + number, f"nonce-{number:010}"), NOW) is None
        assert seen.take(made(NOW - HOUR, "it-was-sent-again"), NOW) is expected


@given(
    st.lists(st.tuples(st.integers(0, 40), st.integers(-30 * HOUR, 3 * HOUR), st.integers(0, 5 * HOUR)), max_size=60),
    st.integers(1, 6),
)
def test_nothing_is_taken_twice_however_little_is_remembered(told: list[tuple[int, int, int]], most: int) -> None:
    """Each nonce has one time of making, as it was signed; they come in any order, and again."""
    seen, now = Freshness(most), NOW
    first_made: dict[int, int] = {}
    taken: list[int] = []
    for nonce, offset, later in told:
        now += later
        at = first_made.setdefault(nonce, now + offset)
        if seen.take(made(at, f"nonce-{nonce:010}"), now) is None:
            taken.append(nonce)
        assert len(seen) <= most
    assert len(taken) == len(set(taken))
