"""The outbox of a dry run: a line each."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Callable, Sequence

from jfe_cni.overflowd.cli.output import write
from jfe_cni.overflowd.collector.service import CutShort
from jfe_cni.overflowd.notices.notice import Notice, encode


class Printed:
    """`number`: of the file that is written to. `line`: what is written of a notice, of JSON. By a thread that nobody
    waits for in the end: write(2) to a pipe whose reader has stalled does not return, and nothing ends it but the
    process."""

    def __init__(self, number: int, line: Callable[[Notice], bytes] = encode) -> None:
        self._number = number
        self._line = line
        self._cut_short = False

    async def put(self, notices: Sequence[Notice]) -> None:
        """Raises CutShort: it was cancelled, and nothing is printed from then on, but perhaps the line that was under
        way; OutputError, BrokenPipeError: there is nowhere to print any more."""
        if self._cut_short:
            raise CutShort(notices)
        loop, left = asyncio.get_running_loop(), deque(notices)
        ended: asyncio.Future[OSError | None] = loop.create_future()

        def tell(error: OSError | None) -> None:
            if not ended.done():
                ended.set_result(error)

        def print_all() -> None:
            found = None
            try:
                self._print(left)
            except OSError as error:
                found = error
            # Of a loop that has ended meanwhile.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(tell, found)

        threading.Thread(target=print_all, name="printing", daemon=True).start()
        try:
            error = await ended
        except asyncio.CancelledError:
            self._cut_short = True
            raise CutShort(tuple(left)) from None
        if error is not None:
            raise error

    def _print(self, left: deque[Notice]) -> None:
        """Takes out what is printed."""
        while left and not self._cut_short:
            line = memoryview(self._line(left[0]) + b"\n")
            while line:
                line = line[write(self._number, line) :]
            left.popleft()
