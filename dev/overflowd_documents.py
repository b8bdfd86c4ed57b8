"""Writes what is generated for overflowd: docs/information-elements.md."""

from __future__ import annotations

from pathlib import Path

from jfe_cni.overflowd.decoders.elements import elements_page

PAGE = Path(__file__).parents[1] / "docs/information-elements.md"

if __name__ == "__main__":
    PAGE.write_text(elements_page())
