"""What the docs say of the receiver is so."""

from __future__ import annotations

from pathlib import Path

from jfe_cni.overflowd.receiver import freshness, key_fetching, webhooks
from jfe_cni.overflowd.receiver.aggregation import MANY, QUIET
from jfe_cni.overflowd.receiver.freshness import AHEAD, OLDEST
from jfe_cni.overflowd.receiver.key_fetching import NEGATIVE
from jfe_cni.overflowd.receiver.pins import MOST_OF_ONE, MOST_REPORTERS
from jfe_cni.overflowd.receiver.reception import INTRODUCTIONS
from jfe_cni.overflowd.receiver.settings import SETTINGS

MINUTE = 60 * 1_000_000
DOCUMENT = " ".join(
    path.read_text()
    for path in sorted((Path(__file__).parents[2] / "docs").glob("*overflowd*.md"))
)  # fmt: skip


def test_the_table_of_settings_is_the_list() -> None:
    assert SETTINGS.table() in DOCUMENT


def test_the_figures_are_those_of_the_program() -> None:
    said = " ".join(DOCUMENT.split())
    for figure in (
        f"left alone for {_word(NEGATIVE // MINUTE)} minutes",
        f"{_word(key_fetching.OF_A_DOMAIN.count)} times an hour at most it is asked",
        f"{key_fetching.IN_ALL.count} a minute all are",
        f"has {INTRODUCTIONS.count} keys fetched in a day",
        f"until {QUIET // MINUTE} minutes without a notice",
        f"or of {_word(MANY)} notices",
        f"tried {_word(len(webhooks.BACKOFF) + 1)} times within "
        f"{sum(webhooks.BACKOFF) + webhooks.PATIENCE * (len(webhooks.BACKOFF) + 1):.0f} s",
        f"told of {webhooks.MOST_TOLD.count} floods an hour",
        f"{webhooks.MOST_OF_ONE.count} of those that one domain alone tells of",
        f"{MOST_REPORTERS:,} reporters",
        f"{MOST_OF_ONE} names below one domain",
        f"Of {freshness.MOST_REMEMBERED:,} that came digests are remembered, of one domain {freshness.MOST_OF_ONE:,}",
    ):
        assert figure in said, figure
    assert (OLDEST, AHEAD) == (24 * 60 * MINUTE, 2 * 60 * MINUTE), "a day, two hours"


def _word(number: int) -> str:
    return {5: "five", 6: "six", 10: "ten"}[number]
