"""Takes notices in, and is nobody's weapon: what comes may be forged, said again, or from a clock that is wrong."""
