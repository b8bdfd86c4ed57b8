"""Standard output: an error of its own where it takes no more, which no other file gives."""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


class OutputError(OSError):
    """Standard output takes no more: its disk is full. Where nobody reads it any more that is BrokenPipeError."""


def write(number: int, data: ReadableBuffer) -> int:
    """As write(2): how many octets it took. Raises OutputError, BrokenPipeError."""
    try:
        return os.write(number, data)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(error.errno, error.strerror) from error


class _Output(io.FileIO):
    def write(self, data: ReadableBuffer, /) -> int:
        return write(self.fileno(), data)


def standard_output(former: TextIO) -> TextIO:
    """In the place of `former`, which has the file. Raises as `write` does, where it is flushed."""
    file = _Output(former.fileno(), "w", closefd=False)
    return io.TextIOWrapper(
        io.BufferedWriter(file), encoding=former.encoding, errors=former.errors, line_buffering=former.isatty()
    )
