"""HTML by one function, which escapes all that it is given: what reporters write stands on the page. Pure."""

from __future__ import annotations

from html import escape


class Markup(str):
    """Made by `element` and `together` alone: it is escaped already."""

    __slots__ = ()


Content = Markup | str | int
_VOID = frozenset({"link", "meta"})


def element(name: str, /, *content: Content, **attributes: str | int | None) -> Markup:
    """`attributes`: `class_` for `class`, `_` for `-`; None: left out."""
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Markup(f"<{name}{given}>" if name in _VOID else f"<{name}{given}>{together(*content)}</{name}>")


def together(*content: Content) -> Markup:
    return Markup("".join(each if isinstance(each, Markup) else escape(str(each)) for each in content))
