"""Secrets, sealed as they are stored, read in the transaction that counts an attempt on them, and remembered while
nobody has written anything else. For every kind of store."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from jfe_cni.ratelock.budgets import Meter
from jfe_cni.ratelock.store import Attempt, StoredSecret

_MOST_REMEMBERED = 10_000
# Bytes, of all together: records may be large.
_MOST_SEALED = 16_777_216


class Secrets:
    """For one thread at a time."""

    def __init__(self) -> None:
        self._remembered: dict[str, StoredSecret | None] = {}
        self._sealed = 0
        self._version = -1

    def of(
        self, version: int, names: Iterable[str], read: Callable[[Sequence[str]], Iterable[StoredSecret]]
    ) -> Mapping[str, StoredSecret | None]:
        """These secrets, None for those that are not there, and perhaps others. `version`: of the store, as the
        transaction has it. `read`: those of some names, in the same transaction."""
        if version != self._version or self._sealed > _MOST_SEALED or len(self._remembered) > _MOST_REMEMBERED:
            self._remembered = {}
            self._sealed = 0
            self._version = version
        missing = [name for name in dict.fromkeys(names) if name not in self._remembered]
        if missing:
            # Kept when all is read: what a lost connection leaves unread is not known to be absent.
            found = {secret.name: secret for secret in read(missing)}
            self._remembered.update((name, found.get(name)) for name in missing)
            self._sealed += sum(len(secret.sealed) for secret in found.values())
        return self._remembered

    def keep(self, version: int) -> None:
        """No secret was changed by the transaction that made this version."""
        self._version = version


def charged(attempt: Attempt, secret: StoredSecret | None) -> tuple[Meter, ...]:
    """Its own meters, and that of the secret's class."""
    if secret is None or not secret.secret_class:
        return attempt.meters
    return (*attempt.meters, Meter("class", secret.secret_class))
