"""Log lines of the services: one an event, as JSON or text, on standard error. What a request carried is in none: no
body, no header, no address with a secret's name; of an error no more than its class and where it was raised, for its
text may quote what came."""

from __future__ import annotations

import json
import logging
import sys
import time
import traceback
from collections.abc import Mapping
from typing import Literal, TextIO

# Servers' own remarks take the same way; their access logs are not asked for.
_OTHERS = ("uvicorn", "aiohttp", "asyncio")


def configure(name: str, form: Literal["json", "text"], stream: TextIO | None = None) -> logging.Logger:
    """Sends what the logger `name`, and those of libraries, say to `stream` (standard error), and nowhere else."""
    handler = logging.StreamHandler(stream if stream is not None else sys.stderr)
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    for each, level in ((name, logging.INFO), *((other, logging.WARNING) for other in _OTHERS)):
        logger = logging.getLogger(each)
        logger.handlers[:] = [handler]
        logger.setLevel(level)
        logger.propagate = False
    return logging.getLogger(name)


def fields(**named: object) -> Mapping[str, Mapping[str, object]]:
    """`extra` of a log call: `log.info("request", extra=fields(status=200))`."""
    return {"structured_fields": named}


class JsonFormatter(logging.Formatter):
    """`{"time": "2030-01-01T00:00:00Z", "level": "info", "event": …}` and the fields. Control characters of what came
    are escaped, so that a line is one event."""

    def format(self, record: logging.LogRecord) -> str:
        line = {"time": _time(record), "level": record.levelname.lower(), "event": _event(record)}
        return json.dumps(line | _fields(record), default=str, ensure_ascii=True)


class TextFormatter(logging.Formatter):
    """`2030-01-01T00:00:00Z info request status=200`; a value with blanks or quotes is quoted as JSON."""

    def format(self, record: logging.LogRecord) -> str:
        words = [f"{name}={_word(value)}" for name, value in _fields(record).items() if value is not None]
        return " ".join([_time(record), record.levelname.lower(), _event(record), *words])


def _fields(record: logging.LogRecord) -> dict[str, object]:
    named = dict(getattr(record, "structured_fields", {}))
    if record.exc_info and record.exc_info[0] is not None:
        frames = traceback.extract_tb(record.exc_info[2])
        named["error"] = record.exc_info[0].__name__
        named["trace"] = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames]
    return named


def _time(record: logging.LogRecord) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(record.created))


def _word(value: object) -> str:
    text = str(value)
    plain = text and text.isprintable() and not any(letter in ' "=' for letter in text)
    return text if plain else json.dumps(text)


def _event(record: logging.LogRecord) -> str:
    """The first line: in those that follow, asyncio quotes the text of errors."""
    first = record.getMessage().partition("\n")[0]
    return first if first.isprintable() else json.dumps(first)
