"""Options that several verbs have, each written once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from jfe_cni.agent.settings import DEFAULT_SOCKET
from jfe_cni.cni.installer import DEFAULT_BIN_DIR, DEFAULT_CONFIG_DIR

Verb = Callable[..., Any]

socket_option: Callable[[Verb], Verb] = click.option(
    "--socket",
    type=click.Path(path_type=Path),
    default=DEFAULT_SOCKET,
    envvar="JFE_SOCKET",
    show_default=True,
    show_envvar=True,
    help="The agent's socket.",
)

json_option: Callable[[Verb], Verb] = click.option("--json", "as_json", is_flag=True, help="Print JSON.")

mode_option: Callable[[Verb], Verb] = click.option(
    "--mode",
    type=click.Choice(["permissive", "strict"]),
    default="permissive",
    show_default=True,
    help="strict: no plaintext byte leaves or arrives.",
)

bin_dir_option: Callable[[Verb], Verb] = click.option(
    "--bin-dir",
    type=click.Path(path_type=Path, file_okay=False),
    multiple=True,
    default=[DEFAULT_BIN_DIR],
    show_default=True,
    help="The runtime's folder of plugins; may be given more than once.",
)

config_dir_option: Callable[[Verb], Verb] = click.option(
    "--config-dir",
    type=click.Path(path_type=Path, file_okay=False),
    default=DEFAULT_CONFIG_DIR,
    show_default=True,
    help="The runtime's folder of network configurations.",
)


def ports(_context: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> tuple[int, ...]:
    """Callback of an option that takes ports: `80,443`, and may be given more than once."""
    found: list[int] = []
    for value in values:
        for word in filter(None, value.split(",")):
            if not (word.isascii() and word.isdigit() and 1 <= int(word) <= 65535):
                raise click.BadParameter(f"{word!r} is no port (1 to 65535)", param=parameter)
            found.append(int(word))
    return tuple(found)


def ports_option(name: str, help_text: str) -> Callable[[Verb], Verb]:
    return click.option(name, multiple=True, metavar="PORTS", callback=ports, help=help_text)
