"""Seals a store anew, as a process that can be killed: STORE FORMER NEW [SEALINGS-UNTIL-KILLED], the keys in base64."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

from jfe_cni.ratelock.keys.local import LocalKey, decode
from jfe_cni.ratelock.sealing import Sealing
from tests.ratelock.services import OWNER, service_on, store_at


class Mortal:
    """The key, until it has wrapped so many data keys: the process is gone before what that one seals is stored."""

    def __init__(self, key: LocalKey, left: int) -> None:
        self._key = key
        self._left = left
        self.id = key.id

    async def wrap(self, data_key: bytes, context: Mapping[str, str]) -> bytes:
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return await self._key.wrap(data_key, context)

    async def unwrap(self, wrapped: bytes, context: Mapping[str, str]) -> bytes:
        return await self._key.unwrap(wrapped, context)


async def main(path: Path, former: str, new: str, left: int) -> None:
    sealing = Sealing(Mortal(decode(new, "an argument"), left), [decode(former, "an argument")])
    async with store_at(path) as store, service_on(store, sealing) as service:
        print(await service.reseal(OWNER))


if __name__ == "__main__":
    _, path, former, new, *left = sys.argv
    asyncio.run(main(Path(path), former, new, int(left[0]) if left else 0))
