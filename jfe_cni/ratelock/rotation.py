"""Rotation of the key-encryption key, with the service running:

1. every replica is given the new key as one that opens;
2. every replica seals with the new key, and opens with both;
3. `reseal`: everything is sealed anew; ended anywhere, it goes on where it was when it is called again;
4. the former key is given to nobody any more.
"""

from __future__ import annotations

from jfe_cni.ratelock.faults import KeyUnreachable, SealingError
from jfe_cni.ratelock.sealing import Label, Sealing
from jfe_cni.ratelock.store import Store, StoredSecret


async def reseal(store: Store, sealing: Sealing) -> int:
    """How many were sealed anew. When it returns, all that the store has is sealed under the key that seals. Raises
    SealingError where some do not open, after all others have been sealed anew; KeyUnreachable at once."""
    count = 0
    shut: dict[str, SealingError] = {}
    while former := await _former(store, sealing, shut):
        for stored in former:
            try:
                count += await seal_anew(store, sealing, stored)
            except KeyUnreachable:
                raise
            except SealingError as error:
                shut[stored.name] = error
    if shut:
        names = ", ".join(sorted(shut)[:5])
        raise SealingError(
            f"{len(shut)} secrets do not open, and stay as they are: {names}",
            remedy="keep the former key until they have been restored or removed",
        ) from next(iter(shut.values()))
    return count


async def seal_anew(store: Store, sealing: Sealing, stored: StoredSecret, opened: bytes | None = None) -> bool:
    """`opened`: what takes the place of what is sealed, where it is not the same. False where the secret changed or
    went meanwhile: then whoever changed it has sealed it."""
    if opened is None:
        opened = await sealing.open(stored.sealed, Label(stored.name, stored.kind, stored.version))
    sealed = await sealing.seal(opened, Label(stored.name, stored.kind, stored.version + 1))
    return await store.reseal(stored.name, sealed, expected_version=stored.version, changed=stored.changed)


async def _former(store: Store, sealing: Sealing, shut: dict[str, SealingError]) -> list[StoredSecret]:
    former = []
    for stored in await store.secrets():
        if stored.name in shut:
            continue
        try:
            if not sealing.is_current(stored.sealed, stored.name):
                former.append(stored)
        except SealingError as error:
            shut[stored.name] = error
    return former
