"""The odds are those of the formula, from one packet to more than there are, and what is drawn is distributed so."""

from __future__ import annotations

import math
from decimal import Decimal, getcontext

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jfe_cni.overflowd.selection.odds import DEFAULT, LARGEST, Draw, of_notice, packets_behind

getcontext().prec = 60


def exactly(packets: int, odds: float) -> Decimal:
    return 1 - (1 - Decimal(odds)) ** packets


@given(st.integers(1, 2**40), st.floats(1e-12, LARGEST))
def test_the_odds_are_those_of_the_formula(packets: int, odds: float) -> None:
    found = float(of_notice(np.array([packets], "f8"), odds)[0])
    assert found == pytest.approx(float(exactly(packets, odds)), rel=1e-12)


def test_the_smallest_and_the_largest() -> None:
    found = of_notice(np.array([0, 1, 2**63], "f8"), DEFAULT)
    assert found[0] == 0
    assert found[1] == pytest.approx(DEFAULT, rel=1e-12)
    assert found[2] == 1
    assert of_notice(np.array([1.0]), 1.0)[0] == pytest.approx(LARGEST), "never more than that"


def test_a_record_stands_for_the_packets_that_were_not_looked_at() -> None:
    found = packets_behind(np.array([3, 3, 2**63], "u8"), np.array([0, 1000, 2], "u4"))
    assert list(found) == [3, 3000, 2.0**64]


def test_what_is_drawn_is_as_often_as_the_odds_say() -> None:
    """χ² of ten sizes of flows, a million draws each; the seed makes it the same each time."""
    draw = Draw(seed=2016)
    statistic, freedom = 0.0, 10
    for packets in np.geomspace(1e3, 5e6, freedom):
        chance = float(of_notice(np.array([packets]), DEFAULT)[0])
        drawn = len(draw.chosen(np.full(1_000_000, chance)))
        expected = 1_000_000 * chance
        statistic += (drawn - expected) ** 2 / (expected * (1 - chance))
    # χ² with ten degrees of freedom: 29.59 is passed once in a thousand times.
    assert statistic < 29.59


def test_slices_of_one_flow_have_together_the_odds_of_the_whole() -> None:
    slices = of_notice(np.array([100.0, 250_000, 7]), DEFAULT)
    whole = of_notice(np.array([250_107.0]), DEFAULT)
    assert 1 - np.prod(1 - slices) == pytest.approx(float(whole[0]), rel=1e-12)


def test_the_first_notice_of_a_flood_comes_after_as_many_packets_as_the_odds_say() -> None:
    """Kolmogorov and Smirnov: of a thousand floods in slices of 5,000 packets, when each is first told of."""
    draw, per_slice = Draw(seed=7), 5_000
    chance = of_notice(np.full(2_000, float(per_slice)), DEFAULT)
    firsts = []
    for _ in range(1_000):
        chosen = draw.chosen(chance)
        firsts.append((int(chosen[0]) + 1 if len(chosen) else len(chance)) * per_slice)
    sizes = np.arange(1, len(chance) + 1, dtype=np.float64) * per_slice
    observed = np.searchsorted(np.sort(firsts), sizes, side="right") / len(firsts)
    expected = of_notice(sizes, DEFAULT)
    # Once in a thousand times it is further off: 1.95 / √n.
    assert float(np.max(np.abs(observed - expected))) < 1.95 / math.sqrt(len(firsts))
    even = math.log(0.5) / math.log1p(-DEFAULT)
    assert even == pytest.approx(693_147, rel=1e-5)
    assert float(of_notice(np.array([even]), DEFAULT)[0]) == pytest.approx(0.5, rel=1e-12)


def test_a_seed_makes_it_the_same_and_none_does_not() -> None:
    chances = np.full(1_000, 0.5)
    assert list(Draw(1).chosen(chances)) == list(Draw(1).chosen(chances))
    assert list(Draw().chosen(chances)) != list(Draw().chosen(chances))
