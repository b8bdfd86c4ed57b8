"""`overflowd`: the group of verbs, and the one place where an error is printed."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from importlib import import_module

import click

from jfe_cni.errors import JfeError
from jfe_cni.overflowd.cli.output import OutputError, standard_output

# sysexits.h, EX_USAGE; click's own is 2.
USAGE = 64
# What a shell reports for a program that SIGINT ended: 128 + 2 (bash(1), EXIT STATUS).
INTERRUPTED = 130
# Of pyproject.toml's `overflowd`, without which the agent alone is installed.
_OPTIONAL = frozenset({"numpy", "joserfc"})
# Where each verb is. It is imported when it is asked for: what one needs keeps no other waiting.
_VERBS: Mapping[str, str] = {
    name: f"jfe_cni.overflowd.cli.{name}" for name in ("read", "run", "keys", "alone", "receive", "tail")
}


class _ReaderGone(Exception):
    """Whoever read standard output has read enough (`| head`)."""


class _Verbs(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _VERBS:
            return None
        found: click.Command = getattr(import_module(_VERBS[cmd_name]), cmd_name)
        return found

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:
            # Of which click makes exit status 1.
            raise _ReaderGone from error


@click.group(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="jfe-cni", prog_name="overflowd")
def overflowd() -> None:
    """Those who suffer from a flood are told by the networks that carry it.

    Start with `overflowd read CAPTURE --flows`: what exporters say, in lines of JSON. Then let your routers export to
    `overflowd run --netflow :2055`, which prints the notices that it would send.

    Exit status: 0 done; 1 it could not be done; 64 wrong usage.
    """


def main() -> None:
    # None where whoever started this has closed it.
    if sys.stdout is not None:
        sys.stdout = standard_output(sys.stdout)
    try:
        overflowd.main(prog_name="overflowd", standalone_mode=False)
        # What waits in its buffer fails here, where that can be told.
        print(end="", flush=True)
    except click.UsageError as error:
        error.show()
        sys.exit(USAGE)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except JfeError as error:
        print(f"overflowd: {error}", file=sys.stderr)
        sys.exit(1)
    except ModuleNotFoundError as error:
        if error.name not in _OPTIONAL:
            raise
        print(f"overflowd: {error.name} is missing: pip install 'jfe-cni[overflowd]'", file=sys.stderr)
        sys.exit(1)
    except (KeyboardInterrupt, click.Abort):
        sys.exit(INTERRUPTED)
    except (_ReaderGone, BrokenPipeError):
        _leave_output()
        sys.exit(0)
    except OutputError as error:
        _leave_output()
        print(f"overflowd: standard output takes no more: {error.strerror}", file=sys.stderr)
        sys.exit(1)


def _leave_output() -> None:
    """The interpreter must not try to flush what is left."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    main()
