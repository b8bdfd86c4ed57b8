"""JSON and TOML objects read field by field: what comes out is typed, and what is left over is an error."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from jfe_cni.errors import RequestError


class Fields:
    """The fields of one object, each taken once. `what` names the object in errors: "the enrolment", "entry 3"."""

    def __init__(self, value: object, what: str) -> None:
        if not isinstance(value, Mapping):
            raise RequestError(
                f"{what} is not an object but {kind_of(value)}", remedy="write it as an object with named fields"
            )
        self._fields: dict[str, object] = {str(name): field for name, field in value.items()}
        self.what = what

    @staticmethod
    def of_bytes(body: bytes, what: str) -> Fields:
        """The one object that `body` (UTF-8 JSON) holds."""
        try:
            value: object = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise RequestError(f"{what} is not JSON: {error}", remedy="send one JSON object in UTF-8") from error
        return Fields(value, what)

    def text(self, name: str) -> str:
        value = self.optional_text(name)
        if value is None:
            raise self._missing(name)
        return value

    def optional_text(self, name: str) -> str | None:
        value = self._fields.pop(name, None)
        if value is None or isinstance(value, str):
            return value
        raise self._wrong(name, "a string", value)

    def integer(self, name: str) -> int:
        value = self.optional_integer(name)
        if value is None:
            raise self._missing(name)
        return value

    def optional_integer(self, name: str) -> int | None:
        value = self._fields.pop(name, None)
        if value is None or (isinstance(value, int) and not isinstance(value, bool)):
            return value
        raise self._wrong(name, "a whole number", value)

    def optional_number(self, name: str) -> float | None:
        value = self._fields.pop(name, None)
        if value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
            return value
        raise self._wrong(name, "a number", value)

    def flag(self, name: str, *, default: bool = False) -> bool:
        value = self._fields.pop(name, None)
        if value is None:
            return default
        if isinstance(value, bool):
            return value
        raise self._wrong(name, "true or false", value)

    def port(self, name: str) -> int | None:
        value = self.optional_integer(name)
        return None if value is None else self._port(name, value)

    def ports(self, name: str, most: int | None = None) -> tuple[int, ...]:
        ports: list[int] = []
        for value in self.elements(name, most):
            if not isinstance(value, int) or isinstance(value, bool):
                raise self._wrong(name, "a list of ports", value)
            ports.append(self._port(name, value))
        return tuple(ports)

    def texts(self, name: str, most: int | None = None) -> tuple[str, ...]:
        texts: list[str] = []
        for value in self.elements(name, most):
            if not isinstance(value, str):
                raise self._wrong(name, "a list of strings", value)
            texts.append(value)
        return tuple(texts)

    def elements(self, name: str, most: int | None = None) -> list[Any]:
        """The list under `name`, of at most so many elements; empty where it is absent."""
        value = self._fields.pop(name, None)
        if value is None:
            return []
        if not isinstance(value, list):
            raise self._wrong(name, "a list", value)
        if most is not None and len(value) > most:
            raise RequestError(
                f"{name} of {self.what} has {len(value)} elements, more than {most}", remedy=f"give {most} at most"
            )
        return value

    def nested(self, name: str) -> Fields | None:
        value = self._fields.pop(name, None)
        return None if value is None else Fields(value, f"{name} of {self.what}")

    def objects(self) -> Iterator[tuple[str, Fields]]:
        """What is left, each an object under a name that the caller does not know beforehand."""
        for name in list(self._fields):
            yield name, Fields(self._fields.pop(name), f"{name} of {self.what}")

    def done(self) -> None:
        """Everything must have been taken: an unknown field is a misspelt one."""
        if self._fields:
            unknown = ", ".join(sorted(self._fields))
            raise RequestError(f"{self.what} has unknown fields: {unknown}", remedy="remove them or mend the spelling")

    def _port(self, name: str, value: int) -> int:
        if not 1 <= value <= 65535:
            raise self._wrong(name, "a port from 1 to 65535", value)
        return value

    def _missing(self, name: str) -> RequestError:
        return RequestError(f"{self.what} lacks {name}", remedy=f"add the field {name}")

    def _wrong(self, name: str, wanted: str, value: object) -> RequestError:
        return RequestError(
            f"{name} of {self.what} is {kind_of(value)}, not {wanted}", remedy=f"give {wanted} for {name}"
        )


def kind_of(value: object) -> str:
    """What a value is, in words for an error; never the value of a string, which may be a secret."""
    match value:
        case None:
            return "nothing"
        case bool():
            return "true" if value else "false"
        case int() | float():
            return f"the number {value}"
        case str():
            return "a string"
        case list():
            return "a list"
        case _:
            return "an object"
