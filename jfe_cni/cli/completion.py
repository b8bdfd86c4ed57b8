"""`jfe completion`: what a shell needs to complete verbs and options."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from jfe_cni.errors import RequestError


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the completion script for SHELL.

    bash: `eval "$(jfe completion bash)"`; zsh the same; fish: `jfe completion fish | source`.
    """
    kind = get_completion_class(shell)
    if kind is None:
        raise RequestError(f"no completion for {shell}", remedy="choose bash, zsh or fish")
    root = context.find_root()
    click.echo(kind(root.command, {}, "jfe", "_JFE_COMPLETE").source())
