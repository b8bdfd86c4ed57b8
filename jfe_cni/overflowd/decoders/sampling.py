"""How many packets an exporter looks at, as it says in options, and who of its samplers a record is of. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from jfe_cni.overflowd.decoders.normalise import floating, unsigned
from jfe_cni.overflowd.decoders.templates import Columns

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
_NOT_TOLD = 0


@dataclass
class Sampling:
    """Of one observation domain. `by_sampler`: one in so many; `whole`: what was told without a sampler's name."""

    by_sampler: dict[int, int] = field(default_factory=dict)
    whole: int = _NOT_TOLD

    def learn(self, options: Columns) -> None:
        rates = _rates(options)
        if rates is None or not options.count:
            return
        samplers = next((found for each in _SAMPLERS if (found := unsigned(options, each)) is not None), None)
        if samplers is None:
            self.whole = int(rates[-1])
            return
        for sampler, rate in zip(samplers.tolist(), rates.tolist(), strict=True):
            if sampler in self.by_sampler or len(self.by_sampler) < _MOST_SAMPLERS:
                self.by_sampler[sampler] = rate

    def of(self, columns: Columns) -> npt.NDArray[np.uint32]:
        """Of each record: what it says itself, what its sampler was said to do, else what was said of the whole domain;
        where there is one sampler alone, it is that one's."""
        own = _rates(columns)
        if own is not None:
            return own.astype("u4")
        samplers = next((found for each in _SAMPLERS if (found := unsigned(columns, each)) is not None), None)
        if samplers is not None and self.by_sampler:
            numbers, where = np.unique(samplers, return_inverse=True)
            told = [self.by_sampler.get(number, self.whole) for number in numbers.tolist()]
            return np.array(told, "u4")[where]
        alone = next(iter(self.by_sampler.values())) if len(self.by_sampler) == 1 else _NOT_TOLD
        return np.full(columns.count, self.whole or alone, "u4")


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
