"""What the documents say can be done, and what they point to, is there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted(path for path in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")))
NAMED_TEST = re.compile(
    r"`((?:unit|golden|kernel|interop|e2e|docs|cni|cri|ratelock|overflowd|upgrader)/[\w/]+\.(?:py|rs))(?:::(\w+))?`"
)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_within_the_project_leads_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)", document.read_text()):
        if "://" not in target:
            assert (document.parent / target).exists(), target


def test_every_test_that_the_threat_model_names_exists() -> None:
    named = NAMED_TEST.findall((ROOT / "THREAT-MODEL.md").read_text())
    assert named
    absent = [f"{file}::{test}" for file, test in named if not is_there(file, test)]
    assert absent == []


def is_there(file: str, test: str) -> bool:
    path = ROOT / file if file.endswith(".rs") else ROOT / "tests" / file
    keyword = "fn" if path.suffix == ".rs" else "def"
    return path.is_file() and (not test or f"{keyword} {test}(" in path.read_text())


def test_every_statement_of_the_threat_model_names_a_test_or_says_that_it_has_none() -> None:
    body = (ROOT / "THREAT-MODEL.md").read_text().partition("## The wire")[2]
    for statement in re.split(r"\n- ", body)[1:]:
        said = statement.partition("\n\n")[0]
        assert NAMED_TEST.search(said) or "*Not held*" in said or "no test" in said.lower(), said


def test_the_readme_is_short_enough_to_be_read() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150
