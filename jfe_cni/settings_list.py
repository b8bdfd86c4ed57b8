"""Settings as one list: a frozen dataclass, each of whose fields says of itself what it is (`about`), of which flags,
the environment, a TOML file and a table in the docs are made. A flag goes before the environment, the environment
before the file.

A field is a str, int, float, bool, Path or None, Literal, or a tuple of str: that one is a flag to be given several
times, a text with commas in the environment, and an array in the file.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, dataclass, fields
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar, get_args, get_origin, get_type_hints

from jfe_cni.errors import RequestError

Settings = TypeVar("Settings")


def about(what: str, *, reason: str, unit: str = "") -> Mapping[str, str]:
    """A field's metadata. `reason`: why the default is what it is."""
    return {"what": what, "unit": unit, "reason": reason}


def flag_of(name: str) -> str:
    return "--" + name.replace("_", "-")


@dataclass(frozen=True)
class SettingsList(Generic[Settings]):
    """`kind`: the dataclass. `prefix`: of the environment's names; what else begins with it is left alone."""

    kind: Callable[..., Settings]
    prefix: str

    @property
    def fields(self) -> tuple[Field[Any], ...]:
        return fields(self.kind)  # type: ignore[arg-type]

    def environment_name(self, name: str) -> str:
        return self.prefix + name.upper()

    def is_repeated(self, name: str) -> bool:
        return get_origin(get_type_hints(self.kind)[name]) is tuple

    def read(self, flags: Mapping[str, object], environment: Mapping[str, str], file: Path | None = None) -> Settings:
        """`flags`: by field name; None, or an empty tuple, where not given. Raises RequestError: unknown name in the
        file, unfit value."""
        filed = {} if file is None else self._read_file(file)
        kinds = get_type_hints(self.kind)
        given: dict[str, Any] = {}
        for each in self.fields:
            flag = flags.get(each.name)
            for source, value in (
                (flag_of(each.name), None if flag == () else flag),
                (self.environment_name(each.name), environment.get(self.environment_name(each.name))),
                (f"{each.name} in {file}", filed.get(each.name)),
            ):
                if value is not None:
                    given[each.name] = _converted(source, value, kinds[each.name])
                    break
        return self.kind(**given)

    def table(self) -> str:
        """What the docs have, as Markdown."""
        lines = ["| flag | environment | default | what | why this default |", "| --- | --- | --- | --- | --- |"]
        for each in self.fields:
            unit = f" {each.metadata['unit']}" if each.metadata["unit"] else ""
            lines.append(
                f"| `{flag_of(each.name)}` | `{self.environment_name(each.name)}` | {shown_default(each)}{unit} "
                f"| {each.metadata['what']} | {each.metadata['reason']} |"
            )
        return "\n".join(lines) + "\n"

    def _read_file(self, path: Path) -> dict[str, object]:
        try:
            filed = tomllib.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise RequestError(
                f"the settings in {path} can't be read: {error}", remedy="write TOML: name = value"
            ) from error
        known = {each.name for each in self.fields}
        if unknown := sorted(filed.keys() - known):
            raise RequestError(
                f"{path} has unknown settings: {', '.join(unknown)}", remedy=f"known: {', '.join(sorted(known))}"
            )
        return filed


def shown_default(each: Field[Any]) -> str:
    assert each.default is not MISSING
    if each.default in (None, "", ()):
        return "–"
    if isinstance(each.default, bool):
        return f"`{str(each.default).lower()}`"
    return f"`{', '.join(each.default) if isinstance(each.default, tuple) else each.default}`"


def _converted(source: str, value: object, kind: Any) -> object:
    """A value of a TOML file has its type already; text from elsewhere is read as the setting's."""
    if get_origin(kind) is Literal:
        return _chosen(source, value, get_args(kind))
    if get_origin(kind) is tuple:
        return _several(source, value)
    if kind is bool:
        return value if isinstance(value, bool) else _chosen(source, value, ("true", "false")) == "true"
    if kind in (int, float):
        return _number(source, value, kind)
    if not isinstance(value, str | Path):
        raise RequestError(f"{source} can't be {value!r}", remedy="give a text")
    if kind is str:
        return str(value)
    return Path(value) if str(value) or kind is Path else None


def _number(source: str, value: object, kind: Any) -> int | float:
    """One that there is: TOML and float() have others."""
    try:
        number: int | float = kind(value)
        if math.isfinite(number):
            return number
        wrong: Exception | None = None
    except (TypeError, ValueError, OverflowError) as error:
        wrong = error
    raise RequestError(f"{source} can't be {value!r}", remedy="give a number") from wrong


def _chosen(source: str, value: object, choices: tuple[object, ...]) -> object:
    if value in choices:
        return value
    raise RequestError(f"{source} can't be {value!r}", remedy=f"choose one of {', '.join(map(str, choices))}")


def _several(source: str, value: object) -> tuple[str, ...]:
    """In each text commas may stand between several."""
    given = (value,) if isinstance(value, str) else value
    if not isinstance(given, tuple | list) or not all(isinstance(each, str) for each in given):
        raise RequestError(f"{source} can't be {value!r}", remedy="give texts")
    return tuple(part.strip() for each in given for part in each.split(",") if part.strip())
