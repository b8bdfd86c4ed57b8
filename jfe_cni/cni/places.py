"""Where container runtimes keep their things, and what the plugin is called there."""

from __future__ import annotations

from pathlib import Path

DEFAULT_RESULTS = Path("/var/lib/cni/results")
"""libcni's CacheDir; containerd, CRI-O and podman leave it as it is."""

PLUGIN = "jfe"
"""The plugin's type in a network's chain, and its file's name (CNI SPEC, "type")."""
