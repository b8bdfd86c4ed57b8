"""`jfe cni`: the verbs that put this node's runtime under cover, and release it."""

from __future__ import annotations

import click

from jfe_cni.cli.cni_install import install
from jfe_cni.cli.cni_uninstall import uninstall


@click.group()
def cni() -> None:
    """Join or leave the chain of this node's container network (CNI)."""


cni.add_command(install)
cni.add_command(uninstall)
