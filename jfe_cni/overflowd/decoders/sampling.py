"""How many packets an exporter looks at, as it says in options, and who of its samplers a record is of. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from jfe_cni.overflowd.decoders.normalise import unsigned
from jfe_cni.overflowd.decoders.templates import Columns

# Elements: samplerId and selectorId name a sampler. One in so many: samplingInterval, samplerRandomInterval. So many,
# then so many not (RFC 5477, section 8.2): samplingPacketInterval, samplingPacketSpace. A part: samplingProbability.
_SAMPLERS = (48, 302)
_ONE_IN = (34, 50)
_INTERVAL, _SPACE = 305, 306
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
        own = next((found for each in _ONE_IN if (found := unsigned(columns, each)) is not None), None)
        if own is None:
            own = _spaced(columns)
        if own is not None:
            return own.clip(0, 2**32 - 1).astype("u4")
        samplers = next((found for each in _SAMPLERS if (found := unsigned(columns, each)) is not None), None)
        if samplers is not None and self.by_sampler:
            numbers, where = np.unique(samplers, return_inverse=True)
            told = [self.by_sampler.get(number, self.whole) for number in numbers.tolist()]
            return np.array(told, "u4")[where]
        alone = next(iter(self.by_sampler.values())) if len(self.by_sampler) == 1 else _NOT_TOLD
        return np.full(columns.count, self.whole or alone, "u4")


def _rates(options: Columns) -> npt.NDArray[np.uint64] | None:
    for number in _ONE_IN:
        found = unsigned(options, number)
        if found is not None:
            return found.clip(0, 2**32 - 1)
    return _spaced(options)


def _spaced(columns: Columns) -> npt.NDArray[np.uint64] | None:
    interval, space = unsigned(columns, _INTERVAL), unsigned(columns, _SPACE)
    if interval is None or space is None:
        return None
    taken = np.maximum(interval, np.uint64(1))
    return ((taken + space) // taken).clip(0, 2**32 - 1)
