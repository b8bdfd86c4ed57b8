"""The log's chain, what is told of a log that was tampered with, and checkpoints."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from jfe_cni.errors import RequestError
from jfe_cni.ratelock.checkpoints import Checkpoint, sign, verified, verify_against
from jfe_cni.ratelock.log import GENESIS, Anchor, Break, LogVerdict, canonical, chained, verify
from jfe_cni.ratelock.store import LogEntry, OwnerAct

KEY = Ed25519PrivateKey.generate()
Entries = list[LogEntry]


def written(count: int, word: str = "") -> Entries:
    entries: Entries = []
    previous = GENESIS
    for number in range(1, count + 1):
        act = OwnerAct("bob", "check", f"secret-{number}", word)
        entries.append(chained(previous, number, 1000 * number, act))
        previous = entries[-1].hash
    return entries


def told(entries: Sequence[LogEntry], *anchors: Anchor) -> LogVerdict:
    return asyncio.run(verify(_each(entries), anchors))


async def _each(entries: Sequence[LogEntry]) -> AsyncIterator[LogEntry]:
    for entry in entries:
        yield entry


def anchor(entry: LogEntry) -> Anchor:
    return Anchor(entry.number, entry.hash, entry.at)


def rehashed(entry: LogEntry, **changes: object) -> LogEntry:
    """As somebody changes it who can compute hashes."""
    changed = dataclasses.replace(entry, **changes)  # type: ignore[arg-type]
    act = OwnerAct(changed.actor, changed.event, changed.subject, changed.detail)
    return chained(changed.previous, changed.number, changed.at, act)


def renumbered(entries: Sequence[LogEntry]) -> Entries:
    return [dataclasses.replace(entry, number=number) for number, entry in enumerate(entries, 1)]


def changed_at(index: int, change: Callable[[LogEntry], LogEntry]) -> Callable[[Entries], Entries]:
    return lambda log: [*log[:index], change(log[index]), *log[index + 1 :]]


def forged(number: int) -> LogEntry:
    return chained(b"f" * 32, number, 1000 * number, OwnerAct("eve", "check", "x"))


def test_the_canonical_text_is_one_line_of_ascii() -> None:
    text = canonical(7, 1000, OwnerAct("bób", "check", 'a"\n', "\x00\ud800"))
    assert text == b'[7,1000,"b\\u00f3b","check","a\\"\\n","\\u0000\\ud800"]'


@given(st.lists(st.text(), min_size=8, max_size=8))
def test_no_two_entries_have_the_same_text(words: list[str]) -> None:
    one, other = OwnerAct(*words[:4]), OwnerAct(*words[4:])
    assert (canonical(1, 2, one) == canonical(1, 2, other)) == (one == other)


def test_a_log_as_it_was_written_is_whole() -> None:
    log = written(9)
    assert told(log) == LogVerdict(9, anchor(log[-1]), 0, None)
    assert told(log, anchor(log[3]), anchor(log[6])) == LogVerdict(9, anchor(log[-1]), 7, None)
    assert told([]) == LogVerdict(0, Anchor(0, GENESIS, 0), 0, None)


@pytest.mark.parametrize(
    ("what", "tamper", "broken"),
    [
        ("text", changed_at(4, lambda e: dataclasses.replace(e, subject="x")), Break(5, 5, "changed")),
        ("the first", changed_at(0, lambda e: dataclasses.replace(e, actor="x")), Break(1, 1, "changed")),
        ("the last", changed_at(8, lambda e: dataclasses.replace(e, detail="x")), Break(9, 9, "changed")),
        ("time", changed_at(4, lambda e: dataclasses.replace(e, at=e.at + 1)), Break(5, 5, "changed")),
        ("hash", changed_at(4, lambda e: dataclasses.replace(e, hash=b"x" * 32)), Break(5, 5, "changed")),
        ("link", changed_at(4, lambda e: dataclasses.replace(e, previous=b"x" * 32)), Break(5, 5, "changed")),
        ("text, hash made to fit", changed_at(4, lambda e: rehashed(e, subject="x")), Break(5, 5, "changed")),
        ("one left out", lambda log: log[:4] + log[5:], Break(5, 5, "left out")),
        ("three left out", lambda log: log[:4] + log[7:], Break(5, 7, "left out")),
        ("the first left out", lambda log: log[1:], Break(1, 1, "left out")),
        ("left out, closed up", lambda log: renumbered(log[:4] + log[7:]), Break(5, 7, "left out")),
        ("put in", lambda log: renumbered([*log[:4], forged(5), *log[4:]]), Break(5, 5, "inserted")),
        ("exchanged", lambda log: [*log[:4], log[5], log[4], *log[6:]], Break(5, 6, "reordered")),
        (
            "exchanged, renumbered",
            lambda log: renumbered([*log[:4], log[5], log[4], *log[6:]]),
            Break(5, 6, "reordered"),
        ),
        ("moved to the end", lambda log: [*log[:4], *log[5:], log[4]], Break(5, 5, "left out")),
        ("twice", lambda log: [*log[:5], log[4], *log[5:]], Break(6, 6, "inserted")),
    ],
)
def test_what_was_done_to_it_is_told(what: str, tamper: Callable[[Entries], Entries], broken: Break) -> None:
    verdict = told(tamper(written(9)))
    assert verdict.broken == broken, what
    assert verdict.entries == broken.number - 1


@given(st.integers(0, 8), st.sampled_from(["number", "at", "actor", "event", "subject", "detail", "previous", "hash"]))
def test_no_field_of_no_entry_can_change_unseen(index: int, field: str) -> None:
    log = written(9)
    value: Any = getattr(log[index], field)
    other: Any = value + 1 if isinstance(value, int) else value + (b"x" if isinstance(value, bytes) else "x")
    log[index] = dataclasses.replace(log[index], **{field: other})
    broken = told(log).broken
    assert broken is not None
    assert broken.number == index + 1


def test_an_end_that_was_cut_off_is_told_by_a_checkpoint() -> None:
    log = written(9)
    assert told(log[:6]).broken is None, "the chain itself can't tell"
    assert told(log[:6], anchor(log[2]), anchor(log[7])).broken == Break(7, 8, "cut off")
    assert told([], anchor(log[7])).broken == Break(1, 8, "cut off")


def test_a_log_computed_anew_is_told_by_a_checkpoint() -> None:
    log, other = written(9), written(9, "other")
    assert told(other).broken is None, "the chain itself can't tell"
    anew = written(4)
    for entry in log[4:]:
        act = OwnerAct("eve", entry.event, entry.subject, entry.detail)
        anew.append(chained(anew[-1].hash, entry.number, entry.at, act))
    verdict = told(anew, anchor(log[2]), anchor(log[7]))
    assert verdict.broken == Break(4, 8, "changed"), "somewhere between the two checkpoints"
    assert verdict.anchored == 3


def test_a_checkpoint_is_one_line_and_verifies_under_its_key() -> None:
    log = written(9)
    checkpoint = sign(KEY, anchor(log[7]))
    read = Checkpoint.parse(checkpoint.text())
    assert read == checkpoint
    assert "\n" not in checkpoint.text()
    assert verified(KEY.public_key(), read) == anchor(log[7])
    assert asyncio.run(verify_against(_each(log), KEY.public_key(), [read])).anchored == 8


@pytest.mark.parametrize("field", ["number", "hash", "at"])
def test_a_checkpoint_that_was_changed_or_is_anothers_is_refused(field: str) -> None:
    checkpoint = sign(KEY, anchor(written(3)[2]))
    value: Any = bytes(32) if field == "hash" else getattr(checkpoint.anchor, field) + 1
    other = dataclasses.replace(checkpoint.anchor, **{field: value})
    with pytest.raises(RequestError, match="not signed by this key"):
        verified(KEY.public_key(), dataclasses.replace(checkpoint, anchor=other))
    with pytest.raises(RequestError, match="not signed by this key"):
        verified(Ed25519PrivateKey.generate().public_key(), checkpoint)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", "1", '["ratelock checkpoint 1", 1, 2, "zz", "AA=="]', "[1, 2, 3, 4, 5]"]
)
def test_what_is_no_checkpoint_is_refused(text: str) -> None:
    with pytest.raises(RequestError, match="no checkpoint"):
        Checkpoint.parse(text)
