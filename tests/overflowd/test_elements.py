"""Names of elements: the registry's, and the page of the documents that lists them."""

from __future__ import annotations

from pathlib import Path

from jfe_cni.overflowd.decoders.elements import element, elements_page, registry, v9_scope

PAGE = Path(__file__).parents[2] / "docs/information-elements.md"


def test_the_page_of_the_documents_is_of_the_registry() -> None:
    assert PAGE.read_text() == elements_page(), "run python dev/overflowd_documents.py"


def test_elements_have_the_registrys_names_and_types() -> None:
    assert registry()[8] == ("sourceIPv4Address", "ipv4Address")
    assert registry()[152] == ("flowStartMilliseconds", "dateTimeMilliseconds")
    assert len({name for name, _ in registry().values()}) == len(registry())


def test_what_is_not_in_it_is_called_by_its_number() -> None:
    assert element(32_000, 0).name == "element32000"
    assert element(5, 9).name == "enterprise9Element5"
    assert element(1, 29305).name == "reverseOctetDeltaCount"
    assert v9_scope(2).name == "scopeInterface"
    assert v9_scope(2).enterprise != element(2, 0).enterprise, "no packets"
