"""Whose a domain is, about: many names cost nothing where one is had, so that what a reporter may be is counted by the
domain that somebody has registered. Pure.

There is no list of public suffixes here (publicsuffix.org): it would be of the day of a release. Hence an
approximation: the last two labels, or three below a country code with one of the second-level labels that registries
use. Whoever gets names below another suffix that is shared (`DOMAIN.github.io`) shares the bound with its other users;
and who has a name like `co.de` for itself has as many as it wants.
"""

from __future__ import annotations

# ISO 3166-1 alpha-2: no other top-level domain is as short (ICANN, gTLD Applicant Guidebook, 2.2.1.3.2).
_COUNTRY_CODE = 2

_SECOND_LEVEL = frozenset(
    {
        *("ac", "co", "com", "ed", "edu", "go", "gob", "gouv", "gov", "ltd", "mil", "ne", "net", "nom", "or", "org"),
        *("plc", "re", "sch"),
    }
)


def registrable(domain: str) -> str:
    """`a.b.example.co.uk`: `example.co.uk`; `a.example.net`: `example.net`."""
    labels = domain.split(".")
    shared = len(labels) > 2 and len(labels[-1]) == _COUNTRY_CODE and labels[-2] in _SECOND_LEVEL
    return ".".join(labels[-3 if shared else -2 :])
