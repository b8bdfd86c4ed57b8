"""Settings that can't be are wrong usage, wherever they come from: one exit status, and one line."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

import click

from jfe_cni.errors import RequestError


class WrongUsage(click.UsageError):
    """Without the usage of a verb, which has a page of flags: the message says what to do."""

    def show(self, file: object = None) -> None:
        print(f"overflowd: {self.message}", file=sys.stderr)


@contextlib.contextmanager
def unfit_settings() -> Iterator[None]:
    """Makes RequestError wrong usage. Within all that is asked for comes from settings."""
    try:
        yield
    except RequestError as error:
        raise WrongUsage(str(error)) from error
