"""The time of a server that tells whole seconds, from any answers, on a machine whose clock drifts."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from jfe_cni.ratelock.stores.dynamodb.dates import SECOND, ServerDates, parsed

START = 1_767_225_600 * SECOND
# Microseconds until the next request, of its way there, and of its way back.
ANSWERS = st.lists(
    st.tuples(st.integers(0, 30 * SECOND), st.integers(0, 2 * SECOND), st.integers(0, 2 * SECOND)),
    min_size=1,
    max_size=30,
)


class Machine:
    """The server's true time, and a clock of ours that began elsewhere and is wrong by `drift` in a million."""

    def __init__(self, drift: int) -> None:
        self.passed = 0
        self._drift = drift

    @property
    def server(self) -> int:
        return START + self.passed

    def local(self) -> int:
        return 5 * SECOND + self.passed + self.passed * self._drift // 1_000_000


@given(ANSWERS, st.integers(-900, 900), st.integers(0, 3600 * SECOND))
def test_the_time_lies_between_the_bounds_whatever_was_answered_when(
    answers: list[tuple[int, int, int]], drift: int, afterwards: int
) -> None:
    machine = Machine(drift)
    dates = ServerDates(machine.local)
    for pause, there, back in answers:
        machine.passed += pause
        sent = machine.local()
        machine.passed += there
        date = machine.server // SECOND * SECOND
        machine.passed += back
        dates.observe(date, sent, machine.local())
        _holds(dates, machine)
    machine.passed += afterwards
    _holds(dates, machine)


def _holds(dates: ServerDates, machine: Machine) -> None:
    earliest, spread = dates.now()
    # A microsecond for what is rounded.
    assert earliest - 1 <= machine.server <= earliest + spread + 1


def test_a_second_that_begins_tells_the_time() -> None:
    machine = Machine(0)
    dates = ServerDates(machine.local)
    for _ in range(120):
        sent = machine.local()
        machine.passed += 10_000
        dates.observe(machine.server // SECOND * SECOND, sent, machine.local())
    assert dates.now()[1] <= 25_000


def test_a_server_that_is_set_back_does_not_take_the_time_back() -> None:
    machine = Machine(0)
    dates = ServerDates(machine.local)
    dates.observe(START, machine.local(), machine.local())
    machine.passed += 10 * SECOND
    before, _ = dates.now()
    dates.observe(START - 3600 * SECOND, machine.local(), machine.local())
    assert dates.now()[0] >= before


def test_a_server_that_is_set_forward_is_believed() -> None:
    machine = Machine(0)
    dates = ServerDates(machine.local)
    dates.observe(START, machine.local(), machine.local())
    dates.observe(START + 3600 * SECOND, machine.local(), machine.local())
    earliest, spread = dates.now()
    assert earliest == START + 3600 * SECOND
    assert spread <= SECOND


def test_a_date_is_read_as_rfc_9110_writes_it() -> None:
    assert parsed("Sun, 06 Nov 1994 08:49:37 GMT") == 784_111_777 * SECOND
