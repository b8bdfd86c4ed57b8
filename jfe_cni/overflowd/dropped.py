"""Why something that came is not decoded: each reason is what a counter counts, and a test asserts."""

from __future__ import annotations

from collections import Counter
from enum import StrEnum


class Dropped(StrEnum):
    """Of a capture: packets. Of what exporters send: datagrams, sets, records or samples."""

    NO_UDP = "no-udp"
    FRAGMENT = "fragment"
    CUT_OFF = "cut-off"
    """Shorter than it says of itself, be it a capture's packet or a record."""

    NOT_ALLOWED = "not-allowed"
    """Of an exporter that is not on the list."""

    UNKNOWN_VERSION = "unknown-version"
    MALFORMED = "malformed"
    TOO_MANY_EXPORTERS = "too-many-exporters"
    """What was forgotten of one, for there were too many; it is heard on."""

    TOO_MANY_TEMPLATES = "too-many-templates"
    """One was forgotten for another, or was not taken."""

    TOO_MANY_BATCHES = "too-many-batches"
    """Data of so many observation domains, agents or templates of one exporter at once that they would take the time of
    the others."""

    TOO_MANY_NOTICES = "too-many-notices"
    """Chosen of one exporter's flows at once, beyond its share."""

    UNFIT_TEMPLATE = "unfit-template"
    NO_ADDRESSES = "no-addresses"
    """Data whose template has neither a source nor a destination; a record that has but one of them, of which nobody is
    told."""

    NO_TEMPLATE = "no-template"
    """Data whose template had not come by the time that they were given up."""

    UNKNOWN_FORMAT = "unknown-format"
    """sFlow: counters, and samples of another kind than packets. NetFlow v9 and IPFIX: a set of a kind that is
    reserved. Of a capture: a block of a kind that is not known."""

    DISCARDED = "discarded"
    """sFlow: a sampled packet that the agent did not send on."""

    UNKNOWN_HEADER = "unknown-header"
    """A sampled packet that is of no IP."""


Drops = Counter[Dropped]
