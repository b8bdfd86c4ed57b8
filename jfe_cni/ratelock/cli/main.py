"""`ratelock`: the group of verbs, and the one place where an error is printed."""

from __future__ import annotations

import os
import sys

import click

from jfe_cni.errors import JfeError
from jfe_cni.ratelock.cli.add import add
from jfe_cni.ratelock.cli.bench import bench
from jfe_cni.ratelock.cli.budget import budget
from jfe_cni.ratelock.cli.ca import ca
from jfe_cni.ratelock.cli.calibrate import calibrate
from jfe_cni.ratelock.cli.check import check
from jfe_cni.ratelock.cli.demo import demo
from jfe_cni.ratelock.cli.function import function
from jfe_cni.ratelock.cli.log import log
from jfe_cni.ratelock.cli.release import release
from jfe_cni.ratelock.cli.reseal import reseal
from jfe_cni.ratelock.cli.serve import serve
from jfe_cni.ratelock.cli.token import token
from jfe_cni.ratelock.faults import BudgetSpent

# 1 is the answer `false`: who asks `if ratelock check …` must not take a service that is away for a wrong password.
SPENT = 2
NOT_DONE = 3
# sysexits.h, EX_USAGE; click's own is 2.
USAGE = 64
# What a shell reports for a program that SIGINT ended: 128 + 2 (bash(1), EXIT STATUS).
INTERRUPTED = 130


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="jfe-cni", prog_name="ratelock")
def ratelock() -> None:
    """Secrets and the rules for using them, in a service that its callers can't bypass.

    Start with `ratelock serve --dev`, add a password with `ratelock add NAME`, try it with `ratelock check NAME`.

    Exit status: 0 done, or true; 1 false; 2 the budget is spent; 3 it could not be done; 64 wrong usage.
    """


for _verb in (serve, add, check, release, budget, token, ca, log, reseal, calibrate, function, bench, demo):
    ratelock.add_command(_verb)


def main() -> None:
    """Runs one verb."""
    try:
        outcome = ratelock.main(prog_name="ratelock", standalone_mode=False)
    except BudgetSpent as error:
        after = "" if error.retry_after is None else f", next in {error.retry_after:.1f} s"
        click.echo(f"budget spent{after}", err=True)
        status = SPENT
    except JfeError as error:
        click.echo(f"ratelock: {error.message}", err=True)
        if error.remedy:
            click.echo(f"          {error.remedy}", err=True)
        status = NOT_DONE
    except click.ClickException as error:
        error.show()
        status = USAGE
    except (click.Abort, KeyboardInterrupt):
        click.echo("ratelock: interrupted", err=True)
        status = INTERRUPTED
    except BrokenPipeError:
        # The reader of a listing has seen enough. What is still buffered must not be tried again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 0
    else:
        status = outcome if isinstance(outcome, int) else 0
    sys.exit(status)


if __name__ == "__main__":
    main()
