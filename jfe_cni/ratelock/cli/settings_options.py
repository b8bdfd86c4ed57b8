"""The flags of the service: one for each setting of `settings.py`."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import click

from jfe_cni.ratelock.settings import Settings, environment_name, flag_of, read_settings

Verb = Callable[..., Any]


def settings_options(verb: Verb) -> Verb:
    for each in reversed(fields(Settings)):
        unit = f", {each.metadata['unit']}" if each.metadata["unit"] else ""
        default = "none" if each.default in (None, "") else str(each.default)
        verb = click.option(
            flag_of(each.name),
            each.name,
            help=f"{each.metadata['what']}. [{environment_name(each.name)}; default: {default}{unit}]",
        )(verb)
    return click.option(
        "--config",
        type=click.Path(path_type=Path),
        envvar="RATELOCK_CONFIG",
        show_envvar=True,
        help="TOML file of these.",
    )(verb)


def given_settings(flags: Mapping[str, Any], environment: Mapping[str, str] = os.environ) -> Settings:
    """Raises RequestError."""
    return read_settings(
        {name: value for name, value in flags.items() if name != "config"}, environment, flags["config"]
    )
