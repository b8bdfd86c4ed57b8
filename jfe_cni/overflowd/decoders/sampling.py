"""How many packets an exporter looks at, as it says in options, and who of its samplers a record is of. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from jfe_cni.overflowd.datagrams import Microseconds
from jfe_cni.overflowd.decoders.elements import V9_SCOPE
from jfe_cni.overflowd.decoders.normalise import floating, unsigned
from jfe_cni.overflowd.decoders.templates import LIFETIME, Columns

# Elements: samplerId and selectorId name a sampler. One in so many: samplingInterval, samplerRandomInterval. So many,
# then so many not: samplingPacketInterval, samplingPacketSpace. So many of so many: samplingSize, samplingPopulation.
# Each with a probability: samplingProbability (RFC 5477, section 8.2).
_SAMPLERS = (48, 302)
_ONE_IN = (34, 50)
_INTERVAL, _SPACE = 305, 306
_SIZE, _POPULATION = 309, 310
_PROBABILITY = 311
_MOST = 2**32 - 1
_MOST_SAMPLERS = 1_024


# Scopes of options that are about one interface: ingressInterface, egressInterface (RFC 7011); v9's own (RFC 3954,
# section 6.1).
_INGRESS, _EGRESS = 10, 14
_INTERFACES = ((0, _INGRESS), (0, _EGRESS), (V9_SCOPE, 2))

Rates = npt.NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Told:
    """`rate`: one in so many. `at`: when it was told, by the clock here."""

    rate: int
    at: Microseconds


@dataclass
class Sampling:
    """Of one observation domain; `whole`: what was told without the name of a sampler or an interface."""

    by_sampler: dict[int, Told] = field(default_factory=dict)
    by_interface: dict[int, Told] = field(default_factory=dict)
    whole: Told | None = None

    @property
    def size(self) -> int:
        return len(self.by_sampler) + len(self.by_interface)

    def learn(self, options: Columns, at: Microseconds) -> None:
        rates = _rates(options)
        if rates is None or not options.count:
            return
        interfaces = _of_scope(options)
        samplers = next((found for each in _SAMPLERS if (found := unsigned(options, each)) is not None), None)
        if samplers is not None:
            _learn(self.by_sampler, samplers, rates, at)
        elif interfaces is not None:
            _learn(self.by_interface, interfaces, rates, at)
        else:
            self.whole = Told(int(rates[-1]), at)

    def of(self, columns: Columns, at: Microseconds) -> npt.NDArray[np.uint32]:
        """Of each record: what it says itself, what its sampler was said to do, or its interface, else what was said of
        the whole domain; where there is one sampler alone, it is that one's. What was told too long ago is not true any
        more: who samples says so again and again."""
        own = _rates(columns)
        found = np.zeros(columns.count, "u8") if own is None else own
        samplers = next((known for each in _SAMPLERS if (known := unsigned(columns, each)) is not None), None)
        if samplers is not None:
            found = _filled(found, self.by_sampler, samplers, at)
        for element in (_INGRESS, _EGRESS):
            interfaces = unsigned(columns, element) if self.by_interface else None
            if interfaces is not None:
                found = _filled(found, self.by_interface, interfaces, at)
        alone = next(iter(self.by_sampler.values())) if samplers is None and len(self.by_sampler) == 1 else None
        rest = _rate(self.whole, at) or _rate(alone, at)
        return np.where(found == 0, rest, found).astype("u4") if rest else found.astype("u4")


def _of_scope(options: Columns) -> Rates | None:
    for described in options.template.fields[: options.template.scopes]:
        if (key := (described.element.enterprise, described.element.number)) in _INTERFACES:
            return unsigned(options, key[1], key[0])
    return None


def _learn(told: dict[int, Told], numbers: Rates, rates: Rates, at: Microseconds) -> None:
    for number, rate in zip(numbers.tolist(), rates.tolist(), strict=True):
        if number in told or len(told) < _MOST_SAMPLERS:
            told[number] = Told(rate, at)


def _filled(rates: Rates, told: Mapping[int, Told], numbers: Rates, at: Microseconds) -> Rates:
    """Where nothing is known yet."""
    if not told or rates.all():
        return rates
    distinct, where = np.unique(numbers, return_inverse=True)
    known = np.array([_rate(told.get(number), at) for number in distinct.tolist()], "u8")
    filled: Rates = np.where(rates == 0, known[where], rates)
    return filled


def _rate(told: Told | None, at: Microseconds) -> int:
    return 0 if told is None or abs(at - told.at) > LIFETIME else told.rate


def _rates(columns: Columns) -> npt.NDArray[np.uint64] | None:
    """One in so many, of each record; None, they say nothing of it."""
    for number in _ONE_IN:
        found = unsigned(columns, number)
        if found is not None:
            return found.clip(0, _MOST)
    for found in (_spaced(columns), _of_population(columns), _by_chance(columns)):
        if found is not None:
            return found
    return None


def _spaced(columns: Columns) -> npt.NDArray[np.uint64] | None:
    interval, space = unsigned(columns, _INTERVAL), unsigned(columns, _SPACE)
    if interval is None or space is None:
        return None
    taken = np.maximum(interval, np.uint64(1))
    return ((taken + space) // taken).clip(0, _MOST)


def _of_population(columns: Columns) -> npt.NDArray[np.uint64] | None:
    size, population = unsigned(columns, _SIZE), unsigned(columns, _POPULATION)
    if size is None or population is None:
        return None
    return _whole(np.divide(population, size, out=np.zeros(columns.count), where=size > 0))


def _by_chance(columns: Columns) -> npt.NDArray[np.uint64] | None:
    probability = floating(columns, _PROBABILITY)
    if probability is None:
        return None
    # More than 1, less than 0, and what is no number is not told.
    known = (probability > 0) & (probability <= 1)
    return _whole(np.divide(1, probability, out=np.zeros(columns.count), where=known))


def _whole(parts: npt.NDArray[np.float64]) -> npt.NDArray[np.uint64]:
    rounded: npt.NDArray[np.uint64] = np.rint(parts.clip(0, _MOST)).astype("u8")
    return rounded
