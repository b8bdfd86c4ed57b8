"""Fails where a source file of ours has more lines than one sitting can hold (CONTRIBUTING.md)."""

import subprocess
import sys
from pathlib import Path

MOST_LINES = 600
SUFFIXES = {".py", ".rs", ".sh"}


def main() -> int:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        capture_output=True,
        check=True,
        text=True,
    )
    too_long = 0
    for name in filter(None, listed.stdout.split("\0")):
        path = Path(name)
        if path.suffix not in SUFFIXES or not path.is_file():
            continue
        lines = len(path.read_text().splitlines())
        if lines > MOST_LINES:
            print(f"{name}: {lines} lines, {MOST_LINES} is the most: split it by what changes for different reasons.")
            too_long += 1
    return 1 if too_long else 0


if __name__ == "__main__":
    sys.exit(main())
