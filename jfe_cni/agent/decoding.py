"""Reports from the agent's JSON back into their dataclasses, checked field by field against the annotations."""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from jfe_cni.agent.faults import AgentAnswerError

T = TypeVar("T")


def decode(report: type[T], value: object) -> T:
    """`value` (parsed JSON) as a `report`. Unknown fields are let through: a newer agent may say more.

    Raises AgentAnswerError where a field is absent or of another type."""
    return _decode_fields(report, value, report.__name__)


def _decode(wanted: Any, value: object, where: str) -> object:
    origin = typing.get_origin(wanted)
    if dataclasses.is_dataclass(wanted) and isinstance(wanted, type):
        return _decode_fields(wanted, value, where)
    if origin is tuple:
        element = typing.get_args(wanted)[0]
        return tuple(_decode(element, each, f"{where}[{index}]") for index, each in enumerate(_list(value, where)))
    if origin in (types.UnionType, typing.Union):
        (choice,) = (each for each in typing.get_args(wanted) if each is not type(None))
        return None if value is None else _decode(choice, value, where)
    if wanted is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    literal = origin is typing.Literal and value in typing.get_args(wanted)
    if literal or (wanted in (str, int, bool) and type(value) is wanted):
        return value
    raise _unfit(where, getattr(wanted, "__name__", str(wanted)))


def _list(value: object, where: str) -> list[object]:
    if isinstance(value, list):
        return value
    raise _unfit(where, "a list")


def _decode_fields(wanted: type[T], value: object, where: str) -> T:
    if not isinstance(value, Mapping):
        raise _unfit(where, "an object")
    hints = _hints(wanted)  # type: ignore[arg-type] # a class is hashable
    fields = {}
    for field in dataclasses.fields(wanted):  # type: ignore[arg-type]
        if field.name not in value and type(None) not in typing.get_args(hints[field.name]):
            raise _unfit(f"{where}.{field.name}", "present")
        fields[field.name] = _decode(hints[field.name], value.get(field.name), f"{where}.{field.name}")
    return wanted(**fields)


@functools.cache
def _hints(wanted: type) -> Mapping[str, Any]:
    """Worked out once a class: an upgrader may tell of thousands of connections a second."""
    return typing.get_type_hints(wanted)


def _unfit(where: str, wanted: str) -> AgentAnswerError:
    return AgentAnswerError(
        f"the agent's answer does not fit: {where} is not {wanted}",
        remedy="agent and command differ in version: restart the agent with the version installed",
    )
