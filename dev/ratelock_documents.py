"""Writes what is generated for ratelock: docs/ratelock-openapi.json, and the tables of docs/ratelock.md."""

from __future__ import annotations

import json
import re
from pathlib import Path

from jfe_cni.ratelock.api.app import description
from jfe_cni.ratelock.api.problems import types_table
from jfe_cni.ratelock.settings import SETTINGS

DOCS = Path(__file__).parents[1] / "docs"


def main() -> None:
    (DOCS / "ratelock-openapi.json").write_text(json.dumps(description(), indent=2) + "\n")
    page = DOCS / "ratelock.md"
    text = page.read_text()
    for name, table in (("settings", SETTINGS.table()), ("problems", types_table())):
        pattern = rf"(<!-- {name} -->\n).*?(<!-- end of {name} -->)"
        text = re.sub(pattern, lambda found, table=table: f"{found[1]}\n{table}\n{found[2]}", text, flags=re.DOTALL)
    page.write_text(text)


if __name__ == "__main__":
    main()
