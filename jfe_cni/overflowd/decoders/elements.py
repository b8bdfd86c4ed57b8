"""Information elements: what a field of a template is called and how its bytes are read.

`information-elements.csv` is IANA's registry, "IPFIX Information Elements", in the columns that are used here: up to
element 533. NetFlow v9's field types up to 127 are the same by design (RFC 7012, section 4).
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

# Of the copy that is here no date was kept. One that others publish, which says that the registry was last updated
# then, ends with the same element.
SAME_LAST_ELEMENT_AS_OF = "2026-09-11"
# RFC 5103, section 6.1: the reverse direction of IANA's own elements.
REVERSE = 29305
# NetFlow v9's scopes are numbered by themselves (RFC 3954, section 6.1).
V9_SCOPES = {1: "scopeSystem", 2: "scopeInterface", 3: "scopeLineCard", 4: "scopeCache", 5: "scopeTemplate"}


@dataclass(frozen=True, slots=True)
class Element:
    """`enterprise`: 0 for IANA's. `kind`: the abstract data type (RFC 7011, section 6.1), octetArray where the element
    is not known."""

    number: int
    enterprise: int
    name: str
    kind: str


@cache
def registry() -> dict[int, tuple[str, str]]:
    """IANA's: name and abstract data type by number."""
    text = files(__package__).joinpath("information-elements.csv").read_text(encoding="ascii")
    rows = list(csv.reader(text.splitlines()))[1:]
    return {int(number): (name, kind) for number, name, kind in rows}


@cache
def iana(number: int) -> Element:
    name, kind = registry().get(number, (f"element{number}", "octetArray"))
    return Element(number, 0, name, kind)


def element(number: int, enterprise: int) -> Element:
    if enterprise == 0:
        return iana(number)
    if enterprise == REVERSE:
        forward = iana(number)
        return Element(number, enterprise, f"reverse{forward.name[0].upper()}{forward.name[1:]}", forward.kind)
    return Element(number, enterprise, f"enterprise{enterprise}Element{number}", "octetArray")


V9_SCOPE = -1
"""No enterprise's number."""


def v9_scope(number: int) -> Element:
    """Of no enterprise that there is, so that it is taken for no element of IANA's."""
    return Element(number, V9_SCOPE, V9_SCOPES.get(number, f"scope{number}"), "unsigned64")


def elements_page() -> str:
    """What docs/information-elements.md is, as Markdown."""
    head = (
        "# Information elements that are known by name\n\n"
        f"IANA's registry, up to element {max(registry())}, which is also the last in a copy of it that is dated\n"
        f"{SAME_LAST_ELEMENT_AS_OF}. Others are called by their number and their enterprise's; elements of the\n"
        "reverse direction (RFC 5103) are these, with `reverse` before.\n\n"
        "| number | name | type |\n| --- | --- | --- |\n"
    )
    return head + "".join(f"| {number} | {name} | {kind} |\n" for number, (name, kind) in sorted(registry().items()))
