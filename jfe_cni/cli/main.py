"""`jfe`: the group of verbs, and the one place where an error is printed."""

from __future__ import annotations

import os
import sys

import click

from jfe_cni.cli.agent import agent
from jfe_cni.cli.authority import ca
from jfe_cni.cli.cni import cni
from jfe_cni.cli.completion import completion
from jfe_cni.cli.connections import connections
from jfe_cni.cli.demo import demo
from jfe_cni.cli.directory import directory
from jfe_cni.cli.doctor import doctor
from jfe_cni.cli.enroll import enroll
from jfe_cni.cli.explain import explain
from jfe_cni.cli.rules import rules
from jfe_cni.cli.run import run
from jfe_cni.cli.status import status
from jfe_cni.cli.unenroll import unenroll
from jfe_cni.errors import JfeError

# What a shell reports for a program that SIGINT ended: 128 + 2 (bash(1), EXIT STATUS).
INTERRUPTED = 130


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="jfe-cni", prog_name="jfe")
def jfe() -> None:
    """Mutual TLS 1.3 between unmodified programs, with every address unchanged.

    Start with `jfe demo`, see what this host offers with `jfe doctor`, put one command under cover with
    `jfe run -- COMMAND`.
    """


for _verb in (
    demo,
    run,
    agent,
    enroll,
    unenroll,
    status,
    connections,
    rules,
    explain,
    directory,
    doctor,
    ca,
    cni,
    completion,
):
    jfe.add_command(_verb)


def main() -> None:
    """Runs one verb. Exit status: 0 done, 1 it could not be done (said once, with what to do), 2 wrong usage."""
    try:
        outcome = jfe.main(prog_name="jfe", standalone_mode=False)
    except JfeError as error:
        click.echo(f"jfe: {error.message}", err=True)
        if error.remedy:
            click.echo(f"     {error.remedy}", err=True)
        status = 1
    except click.ClickException as error:
        error.show()
        status = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("jfe: interrupted", err=True)
        status = INTERRUPTED
    except BrokenPipeError:
        # The reader of a listing has seen enough (`jfe rules | head`). What is still buffered must not be tried again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 0
    else:
        status = outcome if isinstance(outcome, int) else 0
    sys.exit(status)


if __name__ == "__main__":
    main()
