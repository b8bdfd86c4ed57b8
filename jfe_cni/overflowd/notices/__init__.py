"""Notices: what is said to the two ends of a flow, signed. Pure, but for the folder that keys are kept in."""
