"""How rounds of the benchmark become results."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import results
from bench.flow_measures import FLOW_MEASURES
from bench.machine import Circumstances
from bench.measures import MEASURES, Round
from bench.pods import PODS_MEASURES


def test_a_result_is_the_median_of_ratios_within_rounds() -> None:
    rounds = [Round(ratios={"bulk_vs_haproxy": value}) for value in (9.0, 1.0, 3.0)]
    result = results.summed_up(rounds, ["vaes"])["bulk_vs_haproxy"]
    assert (result.median, result.minimum, result.maximum, result.rounds) == (3.0, 1.0, 9.0, 3)


@pytest.mark.parametrize(
    ("flags", "key", "median", "met"),
    [
        (["aes", "vaes"], "bulk_vs_haproxy", 2.5, False),
        (["aes"], "bulk_vs_haproxy", 2.5, True),
        (["aes"], "round_trip_vs_haproxy", 0.9, True),
        (["aes"], "round_trip_vs_haproxy", 0.91, False),
    ],
)
def test_whether_a_target_is_met_depends_on_the_median_and_the_cpu(
    flags: list[str], key: str, median: float, met: bool
) -> None:
    assert results.summed_up([Round(ratios={key: median})], flags)[key].met is met


def test_every_measured_key_has_a_target_and_every_target_is_measured() -> None:
    measured = [key for measure in (*MEASURES, *PODS_MEASURES, *FLOW_MEASURES) for key in measure.keys]
    assert sorted(measured) == sorted(results.targets([]))


def test_figures_are_medians_by_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rounds = [Round(seen={("haproxy", "bulk MB/s"): value}) for value in (700.0, 900.0, 800.0)]
    figures = results.seen(rounds)
    assert figures == {"haproxy": {"bulk MB/s": 800.0}}
    monkeypatch.setattr(results, "RESULTS", tmp_path / "results.json")
    results.write({}, figures, Circumstances(("aes",), "bbr", 0.1))
    assert '"cpu_flags": [\n    "aes"\n  ]' in results.RESULTS.read_text()
