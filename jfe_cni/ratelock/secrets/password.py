"""Passwords: Argon2id (RFC 9106) under a pepper, which is its secret value K. What is kept is a PHC string.

The pepper is sealed apart from the hashes: whoever opens one hash and not the pepper has nothing to try passwords on.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from cryptography.exceptions import InvalidKey
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from jfe_cni.errors import RequestError
from jfe_cni.ratelock.faults import SealingError

LONGEST = 1024
# RFC 9106, section 4: 128 bits of salt, 256 of tag.
_SALT = 16
_TAG = 32
_PHC = re.compile(rb"\$argon2id\$v=19\$m=([0-9]{1,10}),t=([0-9]{1,10}),p=([0-9]{1,8})\$[A-Za-z0-9+/]+\$[A-Za-z0-9+/]+")
# RFC 9106, section 3.1: passes and memory go up to 2³² - 1. A target that asks for more than this is a mistake.
_MOST_ITERATIONS = 1000

Verdict = Literal["right", "right, hash anew", "wrong"]


@dataclass(frozen=True)
class Cost:
    """`memory`: KiB."""

    memory: int
    iterations: int
    lanes: int

    def __post_init__(self) -> None:
        if self.memory < 8 * self.lanes or self.lanes < 1 or not 1 <= self.iterations <= _MOST_ITERATIONS:
            raise RequestError(
                f"Argon2id can't cost {self}", remedy="give 1 to 1000 iterations, and 8 KiB or more for every lane"
            )

    @property
    def work(self) -> int:
        """KiB written in all, which what it costs to try a password goes by."""
        return self.memory * self.iterations


# RFC 9106, section 4, the second recommended option: 64 MiB, three passes. Where the first does not fit.
FLOOR = Cost(memory=65_536, iterations=3, lanes=4)


def hash_password(password: bytes, pepper: bytes, cost: Cost) -> bytes:
    """A PHC string. `password`: 1 to 1024 bytes, or RequestError. Takes `cost.memory` and a good part of a second."""
    if not password:
        raise RequestError("an empty password is none", remedy="give one")
    check_length(password)
    return _argon2(pepper, cost).derive_phc_encoded(password).encode()


def verify(password: bytes, phc: bytes, pepper: bytes, cost: Cost) -> Verdict:
    """Compares in constant time. "right, hash anew" where `cost` has risen above what it was hashed at; a wrong one
    costs `cost` there, too. Raises RequestError: too long; SealingError: not a PHC string of Argon2id."""
    check_length(password)
    stored = cost_of(phc)
    try:
        Argon2id.verify_phc_encoded(password, phc.decode("ascii"), secret=pepper)
    except InvalidKey:
        make_up(password, stored, cost)
        return "wrong"
    # Only ever upwards: two replicas that were calibrated apart would hash in turn for ever.
    return "right, hash anew" if cost.work > stored.work else "right"


def make_up(password: bytes, stored: Cost, cost: Cost) -> None:
    """The work by which `cost` has risen, for nothing but its time: else a password of long ago is quicker than a name
    that nobody has, which costs what passwords cost today."""
    missing = round((cost.work - stored.work) / cost.memory)
    if missing > 0:
        _argon2(bytes(_TAG), Cost(cost.memory, missing, cost.lanes)).derive(password)


def cost_of(phc: bytes) -> Cost:
    match = _PHC.fullmatch(phc)
    if match is None:
        raise SealingError("what was opened as a password's hash is none", remedy="remove the secret and add it anew")
    memory, iterations, lanes = (int(number) for number in match.groups())
    return Cost(memory, iterations, lanes)


def check_length(password: bytes) -> None:
    if len(password) > LONGEST:
        raise RequestError(f"a password of {len(password)} bytes", remedy=f"{LONGEST} bytes are the most")


def _argon2(pepper: bytes, cost: Cost) -> Argon2id:
    return Argon2id(
        salt=os.urandom(_SALT),
        length=_TAG,
        iterations=cost.iterations,
        lanes=cost.lanes,
        memory_cost=cost.memory,
        secret=pepper,
    )


def measure(cost: Cost) -> float:
    """Seconds that one verification takes here, alone."""
    started = time.perf_counter()
    hash_password(b"calibration", bytes(_TAG), cost)
    return time.perf_counter() - started


def calibrate(target: float, measured: Callable[[Cost], float] = measure) -> Cost:
    """As many iterations as `target` (seconds) pays for, never fewer than `FLOOR`. The memory stays: how much a flood
    can take is a matter of the machine, not of its speed. Takes three measurements, and the quickest."""
    quickest = min(measured(FLOOR) for _ in range(3))
    affordable = int(FLOOR.iterations * target / quickest)
    return Cost(FLOOR.memory, min(max(FLOOR.iterations, affordable), _MOST_ITERATIONS), FLOOR.lanes)
