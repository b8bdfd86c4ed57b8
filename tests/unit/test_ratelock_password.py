"""Passwords: Argon2id under a pepper, at a cost that only rises, few at once."""

from __future__ import annotations

import asyncio
import contextlib
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jfe_cni.errors import RequestError
from jfe_cni.ratelock.decoys import unknown_hash
from jfe_cni.ratelock.faults import Overloaded, SealingError
from jfe_cni.ratelock.secrets.hashing import Hashing
from jfe_cni.ratelock.secrets.password import (
    FLOOR,
    Cost,
    calibrate,
    check_length,
    cost_of,
    hash_password,
    measure,
    verify,
)

CHEAP = Cost(memory=64, iterations=1, lanes=1)
PEPPER = b"p" * 32
passwords = st.binary(min_size=1, max_size=1024)


@settings(max_examples=50, deadline=None)
@given(passwords, passwords)
def test_the_password_is_right_and_another_is_wrong(given_one: bytes, other: bytes) -> None:
    phc = hash_password(given_one, PEPPER, CHEAP)
    assert verify(given_one, phc, PEPPER, CHEAP) == "right"
    assert (verify(other, phc, PEPPER, CHEAP) == "right") == (other == given_one)


def test_bytes_are_taken_as_they_are() -> None:
    phc = hash_password(b"a\0b\xff", PEPPER, CHEAP)
    for other in (b"a", b"a\0b", b"a\0b\xff\0", b""):
        assert verify(other, phc, PEPPER, CHEAP) == "wrong"


def test_without_the_pepper_the_right_password_is_wrong() -> None:
    phc = hash_password(b"right", PEPPER, CHEAP)
    assert verify(b"right", phc, b"q" * 32, CHEAP) == "wrong"
    assert verify(b"right", phc, b"", CHEAP) == "wrong"
    assert PEPPER not in phc


def test_the_floor_is_the_second_recommended_option_of_rfc_9106() -> None:
    phc = hash_password(b"right", PEPPER, FLOOR)
    assert phc.startswith(b"$argon2id$v=19$m=65536,t=3,p=4$")
    assert cost_of(phc) == FLOOR
    assert verify(b"right", phc, PEPPER, FLOOR) == "right"


def test_equal_passwords_have_unequal_hashes() -> None:
    assert hash_password(b"right", PEPPER, CHEAP) != hash_password(b"right", PEPPER, CHEAP)


@pytest.mark.parametrize(
    ("now", "verdict"),
    [
        (Cost(64, 2, 1), "right, hash anew"),
        (Cost(128, 1, 1), "right, hash anew"),
        (Cost(64, 1, 1), "right"),
        (Cost(32, 1, 1), "right"),
    ],
)
def test_a_right_password_is_hashed_anew_where_the_cost_rose_and_only_there(now: Cost, verdict: str) -> None:
    phc = hash_password(b"right", PEPPER, CHEAP)
    assert verify(b"right", phc, PEPPER, now) == verdict
    assert verify(b"other", phc, PEPPER, now) == "wrong"


def test_passwords_are_bounded() -> None:
    check_length(bytes(1024))
    with pytest.raises(RequestError, match="1025 bytes"):
        hash_password(bytes(1025), PEPPER, CHEAP)
    with pytest.raises(RequestError, match="1025 bytes"):
        verify(bytes(1025), hash_password(b"right", PEPPER, CHEAP), PEPPER, CHEAP)
    with pytest.raises(RequestError, match="empty"):
        hash_password(b"", PEPPER, CHEAP)


@pytest.mark.parametrize(
    "phc", [b"", b"right", b"$argon2i$v=19$m=64,t=1,p=1$c2FsdHNhbHQ$c2FsdHNhbHQ", b"$argon2id$v=19$m=,t=1,p=1$a$b"]
)
def test_what_is_no_hash_is_a_fault_and_not_a_wrong_password(phc: bytes) -> None:
    with pytest.raises(SealingError):
        verify(b"right", phc, PEPPER, CHEAP)


def test_a_decoys_hash_costs_the_same_and_is_nobodys() -> None:
    phc = unknown_hash(CHEAP)
    assert cost_of(phc) == CHEAP
    assert len(phc) == len(hash_password(b"right", PEPPER, CHEAP))
    assert verify(b"right", phc, PEPPER, CHEAP) == "wrong"


@pytest.mark.parametrize(
    ("seconds_of_the_floor", "target", "iterations"), [(0.2, 0.2, 3), (0.2, 0.4, 6), (0.2, 0.5, 7), (0.2, 0.01, 3)]
)
def test_the_cost_is_as_many_iterations_as_the_target_pays_for(
    seconds_of_the_floor: float, target: float, iterations: int
) -> None:
    def measured(cost: Cost) -> float:
        return seconds_of_the_floor * cost.work / FLOOR.work

    assert calibrate(target, measured) == Cost(FLOOR.memory, iterations, FLOOR.lanes)


def test_calibrated_on_this_machine_a_longer_target_costs_more() -> None:
    assert measure(FLOOR) > 0
    assert calibrate(0.0001) == FLOOR
    assert calibrate(5.0).work > FLOOR.work


@pytest.mark.parametrize("cost", [(7, 1, 1), (64, 0, 1), (64, 1, 0), (64, 1001, 1)])
def test_a_cost_that_argon2_does_not_have_is_refused(cost: tuple[int, int, int]) -> None:
    with pytest.raises(RequestError, match="Argon2id can't cost"):
        Cost(*cost)


async def test_no_more_are_hashed_at_once_than_there_is_memory_for() -> None:
    hashing = Hashing(at_once=2, waiting=6)
    lock, most, running = threading.Lock(), 0, 0
    gate = threading.Event()

    def work() -> None:
        nonlocal most, running
        with lock:
            running += 1
            most = max(most, running)
        gate.wait(10)
        with lock:
            running -= 1

    async def one(caller: str) -> None:
        with hashing.place(caller):
            await hashing.run(work)

    tasks = [asyncio.create_task(one(caller)) for caller in ("shop", "till") for _ in range(4)]
    await asyncio.sleep(0)
    with pytest.raises(Overloaded), hashing.place("third"):
        pass
    gate.set()
    await asyncio.gather(*tasks)
    assert most == 2
    with hashing.place("third"):
        pass
    hashing.close()


def test_one_caller_leaves_half_of_the_places_to_others() -> None:
    hashing = Hashing(at_once=2, waiting=6)
    with contextlib.ExitStack() as held:
        for _ in range(4):
            held.enter_context(hashing.place("shop"))
        with pytest.raises(Overloaded), hashing.place("shop"):
            pass
        for _ in range(4):
            held.enter_context(hashing.place("till"))
    with hashing.place("shop"):
        pass
    hashing.close()


async def test_the_event_loop_runs_on_while_a_password_is_hashed() -> None:
    hashing = Hashing(at_once=1, waiting=0)
    hashed = asyncio.create_task(hashing.run(lambda: hash_password(b"right", PEPPER, FLOOR)))
    turns = 0
    while not hashed.done():
        await asyncio.sleep(0)
        turns += 1
    assert turns > 100
    hashing.close()
