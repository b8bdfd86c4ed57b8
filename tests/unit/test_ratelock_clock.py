"""The store's time, from a machine's clocks and from a server's."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from jfe_cni.ratelock.stores.clock import Moment, Reading, ServerClock, advanced, this_machine

DAY = 86_400_000_000
READINGS = st.builds(Reading, st.sampled_from("ab"), st.integers(0, 10 * DAY), st.integers(0, 10 * DAY))


def test_a_new_store_begins_with_the_wall_clock() -> None:
    assert advanced(Moment(0), Reading("a", 5, 1000), DAY) == Moment(1000, "a", 5, 1000)


def test_within_a_boot_the_wall_clock_counts_for_nothing() -> None:
    last = Moment(1000, "a", 5, 1000)
    for wall in (0, 1000, 99 * DAY):
        assert advanced(last, Reading("a", 12, wall), DAY).at == 1007


def test_across_boots_the_wall_clock_is_believed_up_to_a_bound() -> None:
    last = Moment(1000, "a", 500, 1000)
    assert advanced(last, Reading("b", 3, 1060), DAY).at == 1060
    assert advanced(last, Reading("b", 3, 999), DAY).at == 1000
    assert advanced(last, Reading("b", 3, 1000 + 9 * DAY), DAY).at == 1000 + DAY


@given(st.lists(READINGS, min_size=2))
def test_it_never_goes_back(readings: list[Reading]) -> None:
    moment = Moment(1)
    for reading in readings:
        following = advanced(moment, reading, DAY)
        assert following.at >= moment.at
        if reading.boot_id == moment.boot_id:
            assert following.at - moment.at <= max(0, reading.boottime - moment.boottime)
        else:
            assert following.at - moment.at <= DAY
        moment = following


def test_a_servers_clock_is_held_where_it_goes_back() -> None:
    assert ServerClock().moment(Moment(1000), 1001) == Moment(1001)
    assert ServerClock().moment(Moment(1000), 400) == Moment(1000)


def test_this_machines_clocks_are_read() -> None:
    read = this_machine()
    first, second = read(), read()
    assert first.boot_id == second.boot_id
    assert len(first.boot_id) == 36
    assert second.boottime >= first.boottime > 0
    assert first.wall > first.boottime
