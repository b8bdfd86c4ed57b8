"""Flags of a verb: one for each setting of its list."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from jfe_cni.settings_list import SettingsList, flag_of, shown_default

Verb = Callable[..., Any]
Settings = TypeVar("Settings")


def options_of(settings: SettingsList[Any]) -> Callable[[Verb], Verb]:
    def with_options(verb: Verb) -> Verb:
        for each in reversed(settings.fields):
            unit = f" {each.metadata['unit']}" if each.metadata["unit"] else ""
            default = shown_default(each).strip("`").replace("–", "none")
            # A switch may be given without a value.
            switch: dict[str, Any] = {"is_flag": False, "flag_value": "true"} if each.default is False else {}
            verb = click.option(
                flag_of(each.name),
                each.name,
                multiple=settings.is_repeated(each.name),
                help=f"{each.metadata['what']}. [{settings.environment_name(each.name)}; default: {default}{unit}]",
                **switch,
            )(verb)
        return click.option(
            "--config",
            type=click.Path(path_type=Path),
            envvar=f"{settings.prefix}CONFIG",
            show_envvar=True,
            help="TOML file of these.",
        )(verb)

    return with_options


def settings_given(
    settings: SettingsList[Settings], flags: Mapping[str, Any], environment: Mapping[str, str] = os.environ
) -> Settings:
    """Raises RequestError."""
    named = {name: value for name, value in flags.items() if name != "config"}
    return settings.read(named, environment, flags["config"])
