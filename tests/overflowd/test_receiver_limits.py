"""How often something may be, exactly; and that cookies are nobody else's."""

from __future__ import annotations

from ipaddress import ip_address

from hypothesis import given
from hypothesis import strategies as st

from jfe_cni.overflowd.receiver.challenges import SLOT, Challenges, Ledger
from jfe_cni.overflowd.receiver.limits import Buckets, Limit, Sources

NOW = 1_800_000_000_000_000
ADDRESS, NEIGHBOUR, OTHER = ip_address("198.51.100.1"), ip_address("198.51.100.200"), ip_address("203.0.113.1")


@given(
    st.integers(1, 7),
    st.integers(1, 1_000),
    st.lists(st.integers(0, 600), max_size=80),
)
def test_a_bucket_gives_as_much_as_a_whole_one_and_what_has_come_since(
    count: int, window: int, pauses: list[int]
) -> None:
    """Against a bucket of rational numbers, in units of 1 / window of a permission."""
    buckets, full, level, now = Buckets[str](Limit(count, window)), count * window, count * window, NOW
    for pause in pauses:
        now += pause
        level = min(level + pause * count, full)
        expected = level >= window
        assert buckets.take("a", now) is expected
        level -= window if expected else 0


def test_a_source_that_is_refused_takes_nothing_from_the_others() -> None:
    sources = Sources(Limit(2, 60_000_000), Limit(3, 60_000_000))
    assert [sources.take(ADDRESS, NOW) for _ in range(9)] == [True, True, *[False] * 7]
    assert not sources.take(NEIGHBOUR, NOW), "of the same network"
    assert sources.take(OTHER, NOW), "the last of those in all"
    assert not sources.take(ip_address("2001:db8::1"), NOW)
    assert sources.take(ADDRESS, NOW + 30_000_000)


def test_no_more_is_remembered_than_may_be() -> None:
    buckets = Buckets[int](Limit(1, 60_000_000), most=100)
    for name in range(1_000):
        assert buckets.take(name, NOW)
    assert len(buckets) == 100
    assert not buckets.take(999, NOW)


def test_a_cookie_is_of_one_address_port_key_and_time() -> None:
    challenges = Challenges(b"secret" * 6)
    cookie = challenges.cookie(ADDRESS, 5, "key", NOW)
    assert challenges.echoed(cookie, ADDRESS, 5, "key", NOW)
    assert challenges.echoed(cookie, ADDRESS, 5, "key", NOW + SLOT)
    assert not challenges.echoed(cookie, ADDRESS, 5, "key", NOW + 2 * SLOT)
    assert not challenges.echoed(cookie, NEIGHBOUR, 5, "key", NOW)
    assert not challenges.echoed(cookie, ADDRESS, 6, "key", NOW)
    assert not challenges.echoed(cookie, ADDRESS, 5, "another", NOW)
    just_booted = challenges.cookie(ADDRESS, 5, "key", 1)
    assert challenges.echoed(just_booted, ADDRESS, 5, "key", 1), "a clock that has just begun"
    assert not challenges.echoed("", ADDRESS, 5, "key", NOW)
    assert not Challenges(b"another" * 6).echoed(cookie, ADDRESS, 5, "key", NOW)


def test_no_more_is_fetched_for_an_address_than_it_has_sent() -> None:
    ledger = Ledger(most=2)
    ledger.received(ADDRESS, 900)
    ledger.received(ADDRESS, 100)
    assert ledger.credit(ADDRESS) == 1_000
    assert ledger.draw(ADDRESS) == 1_000
    assert ledger.credit(ADDRESS) == 0
    assert ledger.draw(ADDRESS) == 0, "it is under way"
    ledger.received(ADDRESS, 400)
    for address in (OTHER, NEIGHBOUR):
        ledger.received(address, 1)
    assert len(ledger) == 2
    assert ledger.draw(ADDRESS) == 0
