"""overflowd: those who suffer from a flood are told by the networks that carry it.

Sampled flows are read, decoded, and, about one packet in a million, become signed notices to both ends.
"""
