"""The service: for a caller, authorise → admit → open → answer; for an owner, authorise → change and log in one.

An attempt is counted, durably, before anything of the secret is opened; what is opened is what the transaction that
counted it has read. A name that nobody has is charged like any other and answered from a decoy. Only a class, which is
charged too, it does not have: where a refusal that names a class would say too much, tell no budgets.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import hashlib
import hmac
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from secrets import randbits
from typing import assert_never, get_args

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from jfe_cni.errors import ConflictError, RequestError, StoreError
from jfe_cni.ratelock import certification, root, rotation, tokens
from jfe_cni.ratelock.authorisation import Caller, authorise, authorise_owner, check_pattern, may_not
from jfe_cni.ratelock.budgets import Budget, Meter
from jfe_cni.ratelock.checkpoints import Checkpoint, verify_against
from jfe_cni.ratelock.checkpoints import sign as sign_checkpoint
from jfe_cni.ratelock.decoys import KIND, Decoys, is_decoy
from jfe_cni.ratelock.faults import BudgetSpent, KeyReusedError, SealingError, UnknownSecret, UnknownToken
from jfe_cni.ratelock.log import LogVerdict
from jfe_cni.ratelock.names import check_idempotency_key, check_name
from jfe_cni.ratelock.sealing import Label, Sealing
from jfe_cni.ratelock.secrets import authority, key, password, record
from jfe_cni.ratelock.secrets.elsewhere import Elsewhere
from jfe_cni.ratelock.secrets.hashing import Hashing
from jfe_cni.ratelock.store import (
    Admitted,
    Attempt,
    KeyReused,
    LogEntry,
    Operation,
    OwnerAct,
    Role,
    SecretKind,
    Spent,
    Store,
    StoredBudget,
    StoredSecret,
    StoredToken,
)

__all__ = ["Caller", "Ratelock", "SecretView"]

_log = logging.getLogger("ratelock")

# What the log has of those who are no owners.
_OF_CALLERS = frozenset({*get_args(Operation), "refused"})
# Of the 63 that the stores have: changes are counted on from there.
_FIRST_VERSION_BITS = 48
READING_SECONDS = 600.0
LONGEST_TOKEN_LIFE = 10 * 366 * 86_400.0


@dataclass(frozen=True)
class SecretView:
    """All that an owner sees of a secret. `public`: PEM, for keys that have a public half; the cloud's user, of a
    password that is kept there."""

    name: str
    kind: SecretKind
    secret_class: str
    public: str | None


class Ratelock:
    """Make one with `Ratelock.open`. Without state of its own: replicas on one store are one service."""

    def __init__(
        self,
        store: Store,
        sealing: Sealing,
        keys: root.RootKeys,
        answers_for_unknown: Decoys,
        hashing: Hashing,
        *,
        cost: password.Cost,
        tell_budget: bool,
        clock: Callable[[], datetime],
        elsewhere: Elsewhere | None,
    ) -> None:
        self._store = store
        self._sealing = sealing
        self._keys = keys
        self._decoys = answers_for_unknown
        self._hashing = hashing
        self._cost = cost
        self._tell_budget = tell_budget
        self._clock = clock
        self._elsewhere = elsewhere
        # When each owner's reading of the log was last told.
        self._read: dict[str, float] = {}

    @classmethod
    async def open(
        cls,
        store: Store,
        sealing: Sealing,
        hashing: Hashing,
        *,
        cost: password.Cost = password.FLOOR,
        tell_budget: bool = True,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        elsewhere: Elsewhere | None = None,
    ) -> Ratelock:
        """`cost`: of passwords from now on. Replicas are given the same, or they hash each other's anew. `tell_budget`:
        False, a caller whose budget is spent is answered as if it were wrong, in the same time; nothing is counted.
        `clock`: of this host, which certificates go by, as those do who verify them. `elsewhere`: where passwords are
        kept that are added from now on; None, in the store.

        Raises SealingError: the store belongs to another key-encryption key; StoreError."""
        keys = await root.load(store, sealing)
        return cls(
            store,
            sealing,
            keys,
            Decoys(sealing, cost, elsewhere),
            hashing,
            cost=cost,
            tell_budget=tell_budget,
            clock=clock,
            elsewhere=elsewhere,
        )

    # What callers do. All raise Forbidden and RequestError before anything is counted; BudgetSpent; KeyReusedError;
    # StoreError; SealingError, after the attempt was counted.

    async def check(self, caller: Caller, name: str, given: bytes, *, idempotency_key: str | None = None) -> bool:
        """Whether it is the password. Raises Overloaded."""
        password.check_length(given)
        authorise(caller, "check", check_name(name, "a secret"))
        with self._hashing.place(caller.identity):
            secret = await self._admitted(caller, "check", name, [given], idempotency_key)
            phc = await self._opened(secret)
            if secret.kind == "walliam":
                cloud = self._kept_elsewhere(secret.name)
                checked = await cloud.check(phc, given, self._keys.pepper, self._cost)
                if checked.anew is not None:
                    await self._keep_anew(secret, checked.anew)
                return checked.right
            verdict = await self._hashing.run(partial(password.verify, given, phc, self._keys.pepper, self._cost))
            if verdict == "right, hash anew":
                hashed = partial(password.hash_password, given, self._keys.pepper, self._cost)
                await self._keep_anew(secret, await self._hashing.run(hashed))
        return verdict != "wrong"

    async def release(
        self, caller: Caller, name: str, fields: Sequence[str], *, idempotency_key: str | None = None
    ) -> dict[str, str]:
        """Those of the fields that there are; for a name that nobody has, none. One attempt, however many fields."""
        record.check_fields(fields)
        authorise(caller, "release", check_name(name, "a secret"))
        secret = await self._admitted(caller, "release", name, [each.encode() for each in fields], idempotency_key)
        opened = await self._opened(secret)
        return {} if is_decoy(secret) else record.release(opened, fields)

    async def sign(self, caller: Caller, name: str, message: bytes, *, idempotency_key: str | None = None) -> bytes:
        """Raises Forbidden after the attempt was counted, where no key that signs is called so."""
        signature = await self._use(caller, "sign", name, message, idempotency_key)
        if signature is None:
            raise may_not(caller, "sign", name)
        return signature

    async def mac(self, caller: Caller, name: str, message: bytes, *, idempotency_key: str | None = None) -> bytes:
        """Raises Forbidden after the attempt was counted, where no key that makes MACs is called so."""
        code = await self._use(caller, "mac", name, message, idempotency_key)
        if code is None:
            raise may_not(caller, "mac", name)
        return code

    async def decrypt(
        self, caller: Caller, name: str, ciphertext: bytes, *, idempotency_key: str | None = None
    ) -> bytes:
        """Raises RequestError after the attempt was counted, where the ciphertext was not made for a key
        of this name."""
        plaintext = await self._use(caller, "decrypt", name, ciphertext, idempotency_key)
        if plaintext is None:
            raise RequestError(
                f"the ciphertext does not open with {name}", remedy="encrypt with its public key, by its algorithm"
            )
        return plaintext

    async def certify(
        self, caller: Caller, name: str, csr_pem: str, node: str, *, idempotency_key: str | None = None
    ) -> str:
        """The certificate, PEM, for a request (PKCS#10, PEM) of one of the node's workloads: see `certification.py`.
        Raises Forbidden after the attempt was counted, where no authority is called so; RequestError, the same, where
        the request is not signed by its own key, or for another trust domain."""
        authorise(caller, "certify", check_name(name, "a secret"))
        domain = certification.check_node(caller, node)
        names = certification.granted(caller, node, authority.asked(csr_pem))
        content = [csr_pem.encode(), node.encode()]
        # A node may have, and certify, several identities: one budget for all of them.
        of_node = Meter("caller", f"spiffe://{domain}/host/{node}")
        secret = await self._admitted(caller, "certify", name, content, idempotency_key, of_node)
        opened = await self._opened(secret)
        # `trust_bundle` tells whether there is such an authority, and this need not hide it.
        certificate = None
        if not is_decoy(secret):
            certificate = await asyncio.to_thread(authority.certify, opened, csr_pem, names, self._clock())
        if certificate is None:
            raise may_not(caller, "certify", name)
        return certificate

    async def trust_bundle(self, caller: Caller, name: str) -> str:
        """The roots of an authority, PEM, for whoever may have certificates of it. Public, and so counted nowhere.
        Raises Forbidden: there is no such authority."""
        authorise(caller, "certify", check_name(name, "a secret"))
        secret = await self._store.secret(name)
        bundle = None if secret is None else secret.public
        if bundle is None or not authority.is_bundle(bundle):
            raise may_not(caller, "certify", name)
        return bundle

    async def authenticate_token(self, token: str) -> Caller | None:
        """None: unknown, revoked or expired."""
        digest = tokens.digest(token)
        stored = None if digest is None else await self._store.token(digest)
        if stored is None or stored.expires <= await self._store.now():
            return None
        operations = stored.operations if stored.role == "caller" else None
        return Caller(stored.identity, stored.role, operations, stored.secrets)

    # What owners do. All raise Forbidden; RequestError; StoreError. All are in the log.

    async def add_password(
        self, owner: Caller, name: str, given: bytes, secret_class: str = "", *, replace: bool = False
    ) -> None:
        """Raises ConflictError: there is such a secret, or, to be replaced, none of this kind; Overloaded."""
        authorise_owner(owner)
        with self._hashing.place(owner.identity):
            if self._elsewhere is not None:
                await self._add_elsewhere(self._elsewhere, owner, name, given, secret_class, replace)
                return
            phc = await self._hashing.run(partial(password.hash_password, given, self._keys.pepper, self._cost))
        await self._add(owner, SecretView(name, "password", secret_class, None), phc, replace)

    async def add_record(
        self, owner: Caller, name: str, fields: Mapping[str, str], secret_class: str = "", *, replace: bool = False
    ) -> None:
        """Raises ConflictError, as `add_password` does."""
        authorise_owner(owner)
        await self._add(owner, SecretView(name, "record", secret_class, None), record.encode(fields), replace)

    async def add_key(
        self, owner: Caller, name: str, algorithm: str, secret_class: str = "", *, replace: bool = False
    ) -> str | None:
        """The public key, PEM; None for an algorithm without. Raises ConflictError, as `add_password` does."""
        authorise_owner(owner)
        made = await self._hashing.run(partial(key.generate, algorithm))
        await self._add(owner, SecretView(name, "key", secret_class, made.public), made.opened, replace)
        return made.public

    async def add_authority(
        self, owner: Caller, name: str, trust_domain: str, secret_class: str = "", *, replace: bool = False
    ) -> str:
        """A key that signs certificates, with its root: the trust bundle, PEM. Raises ConflictError, as `add_password`
        does."""
        authorise_owner(owner)
        made = await asyncio.to_thread(authority.make, trust_domain, self._clock())
        await self._add(owner, SecretView(name, "key", secret_class, made.bundle), made.opened, replace)
        return made.bundle

    async def rotate_authority(self, owner: Caller, name: str, step: str) -> str:
        """The trust bundle after `begin`, `switch` or `retire`. Raises UnknownSecret: no authority is called so;
        ConflictError: another owner was quicker; RequestError: not the next step."""
        authorise_owner(owner)
        secret = await self._store.secret(check_name(name, "a secret"))
        opened = b"" if secret is None or secret.kind != "key" else await self._opened(secret)
        rotated = await asyncio.to_thread(authority.rotate, opened, step, self._clock())
        if secret is None or rotated is None:
            raise UnknownSecret.named(name)
        version = secret.version + 1
        sealed = await self._sealing.seal(rotated.opened, Label(name, secret.kind, version))
        changed = dataclasses.replace(secret, sealed=sealed, public=rotated.bundle, version=version)
        act = OwnerAct(owner.identity, "authority.rotate", name, step)
        await self._store.put_secret(changed, act, expected_version=secret.version)
        return rotated.bundle

    async def remove(self, owner: Caller, name: str) -> None:
        """Raises UnknownSecret."""
        authorise_owner(owner)
        act = OwnerAct(owner.identity, "secret.remove", check_name(name, "a secret"))
        stored = await self._store.secret(name)
        if stored is not None and stored.kind == "walliam":
            # First there: whoever ends in between leaves nobody who can log in, and can be removed again.
            await self._kept_elsewhere(name).remove(await self._opened(stored))
        if not await self._store.remove_secret(name, act):
            raise UnknownSecret.named(name)

    async def list_secrets(self, owner: Caller) -> Sequence[SecretView]:
        authorise_owner(owner)
        await self._store.append(OwnerAct(owner.identity, "secret.list", "all"))
        return [
            SecretView(stored.name, stored.kind, stored.secret_class, stored.public)
            for stored in await self._store.secrets()
            if stored.name != root.NAME
        ]

    async def budget(self, owner: Caller, meter: Meter) -> StoredBudget | None:
        """None: none of its own."""
        authorise_owner(owner)
        await self._store.append(OwnerAct(owner.identity, "budget.read", _subject(meter)))
        return await self._store.budget(meter)

    async def budgets(self, owner: Caller) -> Sequence[StoredBudget]:
        authorise_owner(owner)
        await self._store.append(OwnerAct(owner.identity, "budget.list", "all"))
        return await self._store.budgets()

    async def set_budget(self, owner: Caller, meter: Meter, budget: Budget | None) -> StoredBudget | None:
        """What holds, and what will. At once where it tightens; where it loosens, after the former budget's delay."""
        authorise_owner(owner)
        event = "budget.remove" if budget is None else "budget.set"
        act = OwnerAct(owner.identity, event, _subject(meter), "" if budget is None else _told(budget))
        return await self._store.set_budget(meter, budget, act)

    async def make_token(
        self,
        owner: Caller,
        identity: str,
        role: Role,
        operations: frozenset[Operation],
        secrets: tuple[str, ...],
        expires_in: float,
    ) -> str:
        """Shown once. `expires_in`: seconds. An owner's has neither operations nor secrets to be narrowed to: who adds
        tokens could add a wider one."""
        authorise_owner(owner)
        check_name(identity, "a caller")
        if role == "owner" and (operations or secrets not in {(), ("*",)}):
            raise RequestError("an owner's token has no scope", remedy="leave operations and secrets out")
        if role == "caller" and not (operations and secrets):
            raise RequestError("a caller's token is for no operation, or no secret", remedy="name some of both")
        for pattern in secrets:
            check_pattern(pattern)
        return await self._make_token(owner.identity, identity, role, operations, secrets or ("*",), expires_in)

    async def revoke_token(self, owner: Caller, digest: bytes) -> None:
        """Raises UnknownToken."""
        authorise_owner(owner)
        if len(digest) != tokens.DIGEST_SIZE or not await self._store.remove_token(
            digest, OwnerAct(owner.identity, "token.revoke", digest.hex())
        ):
            raise UnknownToken("no token has this digest", remedy="see the log for the tokens that were made")

    async def bootstrap(self, expires_in: float = LONGEST_TOKEN_LIFE, *, again: bool = False) -> str | None:
        """The first owner's token, for a store that no owner has used yet; else None. Not asked by anybody: for who
        starts the service, and so holds store and key. `again`: one that was made before is no reason for None, and is
        revoked; whoever made it may have ended before anybody saw it."""
        former = await self._first_tokens()
        if former is None or (former and not again):
            return None
        for digest in former:
            await self._revoke_first(digest)
        token = await self._make_token(root.SERVICE, "owner", "owner", frozenset(), ("*",), expires_in)
        made = tokens.digest(token)
        assert made is not None
        if (await self._first_tokens() or [b""])[0] == made:
            return token
        # Another replica, started at the same time, was quicker: its token is the first.
        await self._revoke_first(made)
        return None

    async def _first_tokens(self) -> list[bytes] | None:
        """Digests of those that the service itself has made and not revoked; None where an owner has done something."""
        made: list[bytes] = []
        async for entry in self._store.entries():
            if entry.actor != root.SERVICE:
                # Callers that have certificates may come before any owner does.
                if entry.event not in _OF_CALLERS:
                    return None
            elif entry.event == "token.make":
                made.append(bytes.fromhex(entry.detail.split()[0]))
            elif entry.event == "token.revoke":
                made = [digest for digest in made if digest.hex() != entry.subject]
        return made

    async def _revoke_first(self, digest: bytes) -> None:
        await self._store.remove_token(digest, OwnerAct(root.SERVICE, "token.revoke", digest.hex()))

    async def reseal(self, owner: Caller) -> int:
        """How many secrets were sealed anew under the key that seals now: all that were not. Raises SealingError."""
        authorise_owner(owner)
        await self._store.append(OwnerAct(owner.identity, "secret.reseal", "all"))
        return await rotation.reseal(self._store, self._sealing)

    def log(self, owner: Caller, first: int = 1) -> AsyncIterator[LogEntry]:
        """In the log, this and verifying are one entry in `READING_SECONDS` for each owner: whoever follows the log
        would else fill it by that."""
        authorise_owner(owner)
        return self._read_log(owner, first)

    async def _read_log(self, owner: Caller, first: int) -> AsyncIterator[LogEntry]:
        told = await self._tell_of_reading(owner)
        async for entry in self._store.entries(first):
            # What is read is what was there before it was asked for.
            if told is not None and entry.number >= told.number:
                return
            yield entry

    async def _tell_of_reading(self, owner: Caller) -> LogEntry | None:
        now, last = time.monotonic(), self._read.get(owner.identity)
        if last is not None and now < last + READING_SECONDS:
            return None
        # A store that takes nothing more is where the log is wanted most.
        with contextlib.suppress(StoreError):
            told = await self._store.append(OwnerAct(owner.identity, "log.read", "all"))
            self._read[owner.identity] = now
            return told
        return None

    async def verify_log(self, owner: Caller, checkpoints: Sequence[Checkpoint] = ()) -> LogVerdict:
        """Of the whole log, against its chain and checkpoints that were kept elsewhere. Raises RequestError: a
        checkpoint that this service has not signed."""
        authorise_owner(owner)
        await self._tell_of_reading(owner)
        return await verify_against(self._store.entries(), self._keys.checkpoints.public_key(), checkpoints)

    async def checkpoint(self, owner: Caller) -> Checkpoint:
        """Of the log's last entry, once all before it has been verified; to be kept where the store's holder can't
        reach. Raises SealingError: the log is damaged."""
        authorise_owner(owner)
        await self._store.append(OwnerAct(owner.identity, "log.checkpoint", "all"))
        verdict = await self.verify_log(owner)
        if verdict.broken is not None:
            raise SealingError(f"the log is not as it was written: {verdict.broken}", remedy="see who can write there")
        return sign_checkpoint(self._keys.checkpoints, verdict.head)

    @property
    def checkpoint_key(self) -> str:
        """What verifies checkpoints, PEM: to be kept with them."""
        public = self._keys.checkpoints.public_key()
        return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()

    async def _admitted(
        self,
        caller: Caller,
        operation: Operation,
        name: str,
        content: Sequence[bytes],
        idempotency_key: str | None,
        *more: Meter,
    ) -> StoredSecret:
        """What to answer from, once the attempt has been counted: the secret, or a decoy."""
        digest = b""
        if idempotency_key is not None:
            check_idempotency_key(idempotency_key)
            digest = self._request_digest(operation, name, content)
        decoy = await self._decoys.of(operation)
        meters = (Meter("all"), Meter("caller", caller.identity), *more, Meter("secret", name))
        attempt = Attempt(caller.identity, operation, name, meters, idempotency_key, digest)
        match await self._store.admit(attempt):
            case Admitted(secret=secret):
                return secret if secret is not None and _fits(secret, operation) else decoy
            case Spent(meter, limit, retry_after):
                if self._tell_budget:
                    raise BudgetSpent(meter, limit, retry_after / 1e6)
                return decoy
            case KeyReused():
                raise KeyReusedError
            case other:
                assert_never(other)

    async def _opened(self, secret: StoredSecret) -> bytes:
        return await self._sealing.open(secret.sealed, Label(secret.name, secret.kind, secret.version))

    async def _use(
        self, caller: Caller, operation: Operation, name: str, message: bytes, idempotency_key: str | None
    ) -> bytes | None:
        key.check_message(message)
        authorise(caller, operation, check_name(name, "a secret"))
        secret = await self._admitted(caller, operation, name, [message], idempotency_key)
        answer = key.use(await self._opened(secret), operation, message)
        return None if is_decoy(secret) else answer

    def _kept_elsewhere(self, name: str) -> Elsewhere:
        if self._elsewhere is None:
            raise SealingError(f"{name} is checked by a cloud that was not named", remedy="give the setting walliam")
        return self._elsewhere

    async def _add_elsewhere(
        self, elsewhere: Elsewhere, owner: Caller, name: str, given: bytes, secret_class: str, replace: bool
    ) -> None:
        check_name(name, "a secret")
        former = await self._store.secret(name)
        if (former is not None) != replace:
            raise ConflictError(f"the secret {name} is there already, or is not", remedy="list the secrets")
        kept = await elsewhere.add(given, self._keys.pepper, self._cost)
        added = False
        try:
            await self._add(owner, SecretView(name, elsewhere.kind, secret_class, kept.user), kept.content, replace)
            added = True
        finally:
            if not added:
                await asyncio.shield(self._abandon(elsewhere, name, kept.user))
        if former is not None and former.public is not None:
            # The new password holds already: that the former's user can't be removed is for the log.
            await elsewhere.abandon(former.public)

    async def _abandon(self, elsewhere: Elsewhere, name: str, user: str) -> None:
        """Of whom it is not known whether the store has it: a commit's answer may have been lost."""
        try:
            stored = await self._store.secret(name)
        except StoreError as error:
            _log.warning("whether the cloud's user %s belongs to a secret is not known: see the list (%s)", user, error)
            return
        if stored is None or stored.public != user:
            await elsewhere.abandon(user)

    async def _keep_anew(self, secret: StoredSecret, content: bytes) -> None:
        # The answer is known. Where the store is away, the next right password does it.
        with contextlib.suppress(StoreError):
            await rotation.seal_anew(self._store, self._sealing, secret, content)

    async def _add(self, owner: Caller, secret: SecretView, opened: bytes, replace: bool) -> None:
        check_name(secret.name, "a secret")
        if secret.secret_class:
            check_name(secret.secret_class, "a class")
        former = await self._store.secret(secret.name) if replace else None
        if replace and (former is None or former.kind != secret.kind):
            raise ConflictError(f"there is no {secret.kind} {secret.name} to replace", remedy="add it")
        # From anywhere: what was removed and added again is not taken for what it was by who had read that before.
        version = randbits(_FIRST_VERSION_BITS) if former is None else former.version + 1
        sealed = await self._sealing.seal(opened, Label(secret.name, secret.kind, version))
        await self._store.put_secret(
            StoredSecret(secret.name, secret.kind, secret.secret_class, sealed, secret.public, version),
            OwnerAct(
                owner.identity,
                "secret.add" if former is None else "secret.replace",
                secret.name,
                f"{secret.kind} class={secret.secret_class}",
            ),
            expected_version=None if former is None else former.version,
        )

    async def _make_token(
        self,
        actor: str,
        identity: str,
        role: Role,
        operations: frozenset[Operation],
        secrets: tuple[str, ...],
        expires_in: float,
    ) -> str:
        if not 0 < expires_in <= LONGEST_TOKEN_LIFE:
            raise RequestError(f"a token for {expires_in:g} s", remedy="choose up to ten years")
        token = tokens.new_token()
        digest = tokens.digest(token)
        assert digest is not None
        expires = await self._store.now() + int(expires_in * 1e6)
        scope = f"{role} operations={','.join(sorted(operations))} secrets={','.join(secrets)} expires={expires}"
        await self._store.put_token(
            StoredToken(digest, identity, role, operations, secrets, expires),
            OwnerAct(actor, "token.make", identity, f"{digest.hex()} {scope}"),
        )
        return token

    def _request_digest(self, operation: Operation, name: str, content: Sequence[bytes]) -> bytes:
        # Each part behind its length: one text for one request.
        request = hmac.new(self._keys.requests, digestmod=hashlib.sha256)
        for part in (operation.encode(), name.encode(), *content):
            request.update(len(part).to_bytes(8, "big") + part)
        return request.digest()


def _fits(secret: StoredSecret, operation: Operation) -> bool:
    return secret.kind == KIND[operation] or (operation == "check" and secret.kind == "walliam")


def _subject(meter: Meter) -> str:
    """Raises RequestError: of a name that nobody can have."""
    if meter.kind == "all":
        if meter.name:
            raise RequestError("the budget of all has no name", remedy="leave it out")
        return "all"
    return f"{meter.kind}:{check_name(meter.name, f'a {meter.kind}')}"


def _told(budget: Budget) -> str:
    limits = " and ".join(f"{limit.count}/{limit.window / 1e6:g}s" for limit in budget.limits)
    return f"{limits} loosening-delay={budget.loosening_delay / 1e6:g}s"
