"""The trust bundle of an authority that is elsewhere, kept so that an agent can start while that is away."""

from __future__ import annotations

import json
import logging
from pathlib import Path

from jfe_cni import private_file
from jfe_cni.agent.log import fields
from jfe_cni.errors import IdentityError
from jfe_cni.identity.bundle import TrustBundle


class BundleCache:
    """`source`: whose bundle it is; that of another is none. In a folder that only root can write to: whoever writes
    it says whom workloads trust."""

    def __init__(self, path: Path, source: str, log: logging.Logger) -> None:
        self._path = path
        self._source = source
        self._log = log

    def load(self) -> TrustBundle | None:
        try:
            kept = json.loads(self._path.read_text())
            return TrustBundle.parse(kept["roots"]) if kept["source"] == self._source else None
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, AttributeError, IdentityError) as error:
            self._log.warning("trust bundle unreadable", extra=fields(path=str(self._path), error=str(error)))
            return None

    def save(self, bundle: TrustBundle) -> None:
        """Whole or not at all. A disk that is full is no reason to refuse certificates: the next start needs the
        authority, then."""
        kept = json.dumps({"source": self._source, "roots": bundle.pem()})
        try:
            private_file.put(self._path, kept.encode(), replace=True)
        except OSError as error:
            self._log.warning("trust bundle not kept", extra=fields(path=str(self._path), error=str(error)))
