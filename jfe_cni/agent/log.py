"""The agent's log: one line an event, as text or as JSON. A secret can't get in, since none has a repr."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Mapping
from typing import Literal, TextIO

from jfe_cni.agent.reports import ConnectionReport

LOGGER = "jfe"


def configure(form: Literal["json", "text"], stream: TextIO | None = None) -> logging.Logger:
    """Sends the logger `jfe` to `stream` (standard error), and nowhere else."""
    logger = logging.getLogger(LOGGER)
    handler = logging.StreamHandler(stream if stream is not None else sys.stderr)
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    logger.handlers[:] = [handler]
    logger.setLevel(logging.INFO)
    logger.propagate = False
    return logger


def fields(**named: object) -> Mapping[str, Mapping[str, object]]:
    """`extra` of a log call: `log.info("enrolled", extra=fields(workload="w1"))`."""
    return {"jfe_fields": named}


def connection_fields(connection: ConnectionReport) -> Mapping[str, Mapping[str, object]]:
    """Everything that one line about a connection says; no byte of what it carried."""
    return fields(
        workload=connection.workload,
        direction=connection.direction,
        source=connection.source,
        destination=connection.destination,
        decision=connection.decision,
        reason=connection.reason,
        peer=connection.peer,
        tls=connection.tls_version,
        bytes_sent=connection.bytes_sent,
        bytes_received=connection.bytes_received,
    )


class JsonFormatter(logging.Formatter):
    """`{"time": "2030-01-01T00:00:00Z", "level": "info", "event": …}` and the fields."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **_fields(record),
        }
        return json.dumps(line, default=str, ensure_ascii=False)


class TextFormatter(logging.Formatter):
    """`2030-01-01T00:00:00Z info enrolled workload=w1`; a value with blanks or quotes is quoted as JSON."""

    def format(self, record: logging.LogRecord) -> str:
        words = [f"{name}={_word(value)}" for name, value in _fields(record).items() if value is not None]
        return " ".join([_time(record), record.levelname.lower(), record.getMessage(), *words])


def _fields(record: logging.LogRecord) -> dict[str, object]:
    named = dict(getattr(record, "jfe_fields", {}))
    if record.exc_info:
        named["trace"] = logging.Formatter().formatException(record.exc_info)
    return named


def _time(record: logging.LogRecord) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(record.created))


def _word(value: object) -> str:
    text = str(value)
    plain = text and text.isprintable() and not any(letter in ' "=' for letter in text)
    return text if plain else json.dumps(text, ensure_ascii=False)
