"""The connection to the upgrader's broker: requests with their answers, and the events between them."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from jfe_cni.agent import messages
from jfe_cni.agent.faults import AgentAnswerError
from jfe_cni.agent.messages import Event, Word
from jfe_cni.errors import UpgraderError

# The broker answers within milliseconds; whoever takes longer hangs, and is replaced.
ANSWER_SECONDS = 10.0
# Bytes read in one turn: some two hundred events, which take milliseconds.
_SHARE = 1 << 16
_GONE = "the agent starts the upgrader again by itself; see its log beside the agent's state"


class Control:
    """One connection. `on_event` is called for each event, in order, from the event loop; `closed` is set when the
    connection has ended, for whatever reason, and every request then raises UpgraderError."""

    def __init__(self, connection: socket.socket, on_event: Callable[[Event], None]) -> None:
        connection.settimeout(0)
        self._socket = connection
        self._on_event = on_event
        self._seq = 0
        self._waiting: dict[int, asyncio.Future[Mapping[str, Any]]] = {}
        self._sending = asyncio.Lock()
        self.closed = asyncio.Event()
        self._reader = asyncio.create_task(self._read(), name="upgrader control")

    @classmethod
    async def connect(cls, path: Path, on_event: Callable[[Event], None]) -> Control:
        """Raises OSError where nobody listens."""
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            connection.settimeout(0)
            await asyncio.get_running_loop().sock_connect(connection, str(path))
        except BaseException:
            connection.close()
            raise
        return cls(connection, on_event)

    def peer_pid(self) -> int:
        """The broker's process id, as seen when it made its socket (unix(7), SO_PEERCRED)."""
        credentials = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        return int.from_bytes(credentials[:4], "little")

    async def ask(self, word: Word, descriptors: Sequence[int] = ()) -> Mapping[str, Any]:
        """Says `word`, with descriptors on the frame's first byte, and gives the answer as parsed JSON."""
        answer: asyncio.Future[Mapping[str, Any]] = asyncio.get_running_loop().create_future()
        # A task of its own: a caller that is cancelled must not leave half a frame behind.
        seq = await asyncio.shield(asyncio.create_task(self._say(word, descriptors, answer)))
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return await answer
        except TimeoutError as error:
            raise UpgraderError(
                f"the upgrader did not answer within {ANSWER_SECONDS:.0f} s", remedy="try again, or restart the agent"
            ) from error
        finally:
            self._waiting.pop(seq, None)

    async def _say(self, word: Word, descriptors: Sequence[int], answer: asyncio.Future[Mapping[str, Any]]) -> int:
        # Numbered and sent under one lock: the broker answers in the order in which it hears.
        async with self._sending:
            if self.closed.is_set():
                raise UpgraderError("the upgrader is not connected", remedy=_GONE)
            self._seq += 1
            frame = messages.frame(self._seq, word)
            self._waiting[self._seq] = answer
            try:
                await self._send(frame, descriptors)
            except OSError as error:
                self._waiting.pop(self._seq, None)
                self._end()
                raise UpgraderError(f"the upgrader went away: {error.strerror}", remedy=_GONE) from error
            return self._seq

    async def close(self) -> None:
        self._end()
        self._reader.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._reader

    async def _send(self, frame: bytes, descriptors: Sequence[int]) -> None:
        loop = asyncio.get_running_loop()
        sent = 0
        if descriptors:
            while sent == 0:
                try:
                    sent = socket.send_fds(self._socket, [frame], list(descriptors))
                except BlockingIOError:
                    await self._writable()
        await loop.sock_sendall(self._socket, memoryview(frame)[sent:])

    async def _writable(self) -> None:
        loop = asyncio.get_running_loop()
        ready = asyncio.Event()
        loop.add_writer(self._socket, ready.set)
        try:
            await ready.wait()
        finally:
            loop.remove_writer(self._socket)

    async def _read(self) -> None:
        loop = asyncio.get_running_loop()
        unread = bytearray()
        try:
            while part := await loop.sock_recv(self._socket, _SHARE):
                unread += part
                for frame in _frames(unread):
                    self._take(*messages.parse(frame))
                # What can be read at once is read without a pause: events without end would leave nobody else a turn.
                await asyncio.sleep(0)
        except (OSError, UpgraderError, AgentAnswerError):
            return
        finally:
            self._end()
            # Whoever is in the middle of sending learns first that the connection has ended.
            async with self._sending:
                self._socket.close()

    def _take(self, seq: int | None, message: Mapping[str, Any]) -> None:
        if seq is None:
            event = messages.event_of(message)
            if event is not None:
                self._on_event(event)
            return
        answer = self._waiting.get(seq)
        if answer is not None and not answer.done():
            answer.set_result(message)

    def _end(self) -> None:
        """Whoever waits for an answer learns that none comes."""
        if self.closed.is_set():
            return
        self.closed.set()
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(UpgraderError("the upgrader went away before it answered", remedy=_GONE))
        self._waiting.clear()
        # Ends what waits in the reader, which then closes the descriptor.
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)


def _frames(unread: bytearray) -> Iterator[bytes]:
    """The frames that are whole, taken out of `unread`. Raises AgentAnswerError for one that is longer than any."""
    start = 0
    try:
        while len(unread) - start >= 4:
            end = start + 4 + int.from_bytes(unread[start : start + 4], "big")
            if end - start - 4 > messages.FRAME_LIMIT:
                raise AgentAnswerError("the upgrader's frame is longer than any can be", remedy="restart the upgrader")
            if end > len(unread):
                return
            yield bytes(unread[start + 4 : end])
            start = end
    finally:
        del unread[:start]
