"""`overflowd`: the group of verbs, and the one place where an error is printed."""

from __future__ import annotations

import os
import sys

import click

from jfe_cni.errors import JfeError
from jfe_cni.overflowd.cli.receive import receive
from jfe_cni.overflowd.cli.tail import tail

# Up to `selection.odds.LARGEST`, which only numpy's import would tell.
ODDS = click.FloatRange(0, 1e-2, min_open=True)
# sysexits.h, EX_USAGE; click's own is 2.
USAGE = 64
# What a shell reports for a program that SIGINT ended: 128 + 2 (bash(1), EXIT STATUS).
INTERRUPTED = 130


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="jfe-cni", prog_name="overflowd")
def overflowd() -> None:
    """Those who suffer from a flood are told by the networks that carry it.

    Start with `overflowd read CAPTURE --flows`: what exporters say, in lines of JSON.

    Exit status: 0 done; 1 it could not be done; 64 wrong usage.
    """


@overflowd.command()
@click.argument("capture", type=click.Path(exists=True, dir_okay=False))
@click.option("--flows", is_flag=True, help="Every record instead, a line of JSON each.")
@click.option("--odds", type=ODDS, default=1e-6, show_default=True, help="Of each packet.")
@click.option("--seed", type=click.IntRange(0), help="Draw the same each time.")
def read(capture: str, flows: bool, odds: float, seed: int | None) -> None:
    """Read NetFlow v5 and v9, IPFIX and sFlow v5 from a capture (pcap, pcapng, gzip or not): which notices would they
    make? A line of JSON for each, unsigned, and nothing is sent.
    """
    try:
        from jfe_cni.overflowd.cli.read import print_flows, print_notices
    except ModuleNotFoundError as error:
        if error.name not in {"numpy", "joserfc"}:
            raise
        raise click.ClickException(f"overflowd needs {error.name}: pip install 'jfe-cni[overflowd]'") from error
    if flows:
        print_flows(capture)
    else:
        print_notices(capture, odds, seed)


for _verb in (receive, tail):
    overflowd.add_command(_verb)


def main() -> None:
    try:
        overflowd.main(standalone_mode=False)
    except click.UsageError as error:
        error.show()
        sys.exit(USAGE)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except JfeError as error:
        print(f"overflowd: {error}", file=sys.stderr)
        sys.exit(1)
    except (KeyboardInterrupt, click.Abort):
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        # Whoever read has read enough (`| head`); the interpreter must not try to flush what is left.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)


if __name__ == "__main__":
    main()
