"""The demonstration: two throw-away hosts, the same unmodified programs bare and under cover, and what a wire shows."""
