"""Writes what is generated for overflowd: docs/information-elements.md, and the table of `overflowd run`'s settings."""

from __future__ import annotations

import re
from pathlib import Path

from jfe_cni.overflowd.decoders.elements import elements_page
from jfe_cni.overflowd.settings import SETTINGS

DOCS = Path(__file__).parents[1] / "docs"
SETTINGS_PAGE = DOCS / "overflowd-collector.md"


def main() -> None:
    (DOCS / "information-elements.md").write_text(elements_page())
    pattern = r"(<!-- settings of run -->\n).*?(<!-- end of settings of run -->)"
    text = SETTINGS_PAGE.read_text()
    SETTINGS_PAGE.write_text(
        re.sub(pattern, lambda found: f"{found[1]}\n{SETTINGS.table()}\n{found[2]}", text, flags=re.DOTALL)
    )


if __name__ == "__main__":
    main()
