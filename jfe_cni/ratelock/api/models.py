"""The shapes of requests and answers. Binary is base64 (RFC 4648, section 4); durations are seconds; what is secret has
no repr."""

from __future__ import annotations

import base64
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    Base64Bytes,
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    SecretStr,
    StringConstraints,
    WithJsonSchema,
)

from jfe_cni.errors import RequestError
from jfe_cni.ratelock.authorisation import check_pattern
from jfe_cni.ratelock.budgets import LONGEST_WINDOW, MOST_COUNT, MOST_LIMITS, Budget, Limit, MeterKind
from jfe_cni.ratelock.log import LogVerdict
from jfe_cni.ratelock.names import check_name
from jfe_cni.ratelock.store import LogEntry, Operation, Role, SecretKind, StoredBudget

SECOND = 1_000_000
# names.py, as a pattern of ECMA 262 that a client can check by.
NAME_PATTERN = r"^(?!.*\.\.)(spiffe://)?(?!.*//)[A-Za-z0-9][A-Za-z0-9._@:/+-]{0,254}$"
# A year and a day, as of budgets.
LONGEST_TOKEN = LONGEST_WINDOW / SECOND


def _named(name: str) -> str:
    try:
        return check_name(name, "it")
    except RequestError as error:
        raise ValueError(error.remedy) from error


def _pattern(pattern: str) -> str:
    try:
        return check_pattern(pattern)
    except RequestError as error:
        raise ValueError(error.remedy) from error


def _text(text: str) -> str:
    """JSON can write half of a surrogate pair (RFC 8259, section 8.2), which is no text."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError("write Unicode text, without lone surrogates") from error
    return text


def _hidden_text(hidden: SecretStr) -> SecretStr:
    _text(hidden.get_secret_value())
    return hidden


NAME_SCHEMA = {"type": "string", "pattern": NAME_PATTERN, "minLength": 1, "maxLength": 255}
SCOPE_SCHEMA = {"type": "string", "pattern": rf"^\\*$|{NAME_PATTERN[:-1]}\\*?$", "minLength": 1, "maxLength": 256}
Name = Annotated[str, StringConstraints(max_length=255), AfterValidator(_named), WithJsonSchema(NAME_SCHEMA)]
Scope = Annotated[str, StringConstraints(max_length=256), AfterValidator(_pattern), WithJsonSchema(SCOPE_SCHEMA)]
FieldName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._@:/+-]{0,127}$")]
Hidden = Annotated[SecretStr, AfterValidator(_hidden_text)]
Password = Annotated[Hidden, Field(min_length=1, max_length=1024)]
Algorithm = Annotated[str, StringConstraints(pattern=r"^[a-z0-9-]{1,40}$")]
TrustDomainName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9._-]{1,255}$")]
Binary = Annotated[
    bytes,
    PlainSerializer(lambda value: base64.b64encode(value).decode(), return_type=str),
    WithJsonSchema({"type": "string", "contentEncoding": "base64"}),
]


class Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class CheckRequest(Model):
    password: Password


class CheckAnswer(Model):
    valid: bool


class ReleaseRequest(Model):
    fields_: list[FieldName] = Field(alias="fields", min_length=1, max_length=256)


class ReleaseAnswer(Model):
    fields_: dict[str, str] = Field(alias="fields")


class MessageRequest(Model):
    message: Base64Bytes


class SignAnswer(Model):
    signature: Binary


class MacAnswer(Model):
    mac: Binary


class DecryptRequest(Model):
    ciphertext: Base64Bytes


class DecryptAnswer(Model):
    plaintext: Binary


class CertifyRequest(Model):
    csr: Annotated[str, StringConstraints(min_length=1, max_length=32_768), AfterValidator(_text)]
    node: Name


class CertifyAnswer(Model):
    certificates: str


class BundleAnswer(Model):
    """Roots, PEM: the one that signs first."""

    roots: str


class _NewSecret(Model):
    class_: Name | Literal[""] = Field("", alias="class")


class NewPassword(_NewSecret):
    kind: Literal["password"]
    password: Password


class NewRecord(_NewSecret):
    kind: Literal["record"]
    fields_: dict[FieldName, Hidden] = Field(alias="fields", min_length=1, max_length=256)


class NewKey(_NewSecret):
    kind: Literal["key"]
    algorithm: Algorithm


class NewAuthority(_NewSecret):
    """A key that signs certificates for one trust domain, with its root."""

    kind: Literal["authority"]
    trust_domain: TrustDomainName


NewSecret = Annotated[NewPassword | NewRecord | NewKey | NewAuthority, Field(discriminator="kind")]


class SecretAnswer(Model):
    """`public`: a key's public half, as PEM; an authority, which is a key, has its trust bundle there, and a password
    that is kept in a cloud its user's name."""

    name: str
    kind: SecretKind
    class_: str = Field(alias="class")
    public: str | None


class SecretsAnswer(Model):
    secrets: list[SecretAnswer]


class RotationRequest(Model):
    step: Literal["begin", "switch", "retire"]


class LimitModel(Model):
    count: int = Field(ge=1, le=MOST_COUNT)
    window: float = Field(ge=1 / SECOND, le=LONGEST_WINDOW / SECOND, description="seconds, to the microsecond")


class BudgetModel(Model):
    limits: list[LimitModel] = Field(min_length=1, max_length=MOST_LIMITS)
    loosening_delay: float = Field(0, ge=0, le=LONGEST_WINDOW / SECOND, description="seconds")

    def budget(self) -> Budget:
        limits = tuple(Limit(each.count, round(each.window * SECOND)) for each in self.limits)
        return Budget(limits, round(self.loosening_delay * SECOND))

    @classmethod
    def of(cls, budget: Budget) -> BudgetModel:
        limits = [LimitModel(count=each.count, window=each.window / SECOND) for each in budget.limits]
        return cls(limits=limits, loosening_delay=budget.loosening_delay / SECOND)


class BudgetAnswer(Model):
    """`pending` holds from `pending_from` on, in seconds since the epoch by the store's clock; null with a time: the
    budget is removed then."""

    kind: MeterKind
    name: str
    budget: BudgetModel
    pending: BudgetModel | None
    pending_from: float | None

    @classmethod
    def of(cls, stored: StoredBudget) -> BudgetAnswer:
        pending_from = None if stored.pending_from is None else stored.pending_from / SECOND
        return cls(
            kind=stored.meter.kind,
            name=stored.meter.name,
            budget=BudgetModel.of(stored.budget),
            pending=None if stored.pending is None else BudgetModel.of(stored.pending),
            pending_from=pending_from,
        )


class BudgetsAnswer(Model):
    budgets: list[BudgetAnswer]


class TokenRequest(Model):
    """Of a caller; `operations` left out: all. `secrets`: names, or prefixes that end in `*`. An owner has no scope."""

    identity: Name
    role: Role
    operations: list[Operation] | None = Field(None, max_length=16)
    secrets: list[Scope] = Field(["*"], min_length=1, max_length=256)
    expires_in: float = Field(30 * 86_400, gt=0, le=LONGEST_TOKEN, description="seconds")


class TokenAnswer(Model):
    """`token` is shown this once. `digest` names it: SHA-256, in hexadecimal."""

    token: str
    digest: str


class EntryAnswer(Model):
    """`at`: microseconds since the epoch. `previous`, `hash`: SHA-256, in hexadecimal."""

    number: int
    at: int
    actor: str
    event: str
    subject: str
    detail: str
    previous: str
    hash: str

    @classmethod
    def of(cls, entry: LogEntry) -> EntryAnswer:
        return cls(
            number=entry.number,
            at=entry.at,
            actor=entry.actor,
            event=entry.event,
            subject=entry.subject,
            detail=entry.detail,
            previous=entry.previous.hex(),
            hash=entry.hash.hex(),
        )


class LogAnswer(Model):
    """`next`: the number to ask for next; null where there is no more yet."""

    entries: list[EntryAnswer]
    next: int | None


class BreakAnswer(Model):
    """`number`: the entry that is damaged, missing or too many; `last`: of the stretch where it must lie."""

    number: int
    last: int
    damage: str


class VerificationAnswer(Model):
    """`entries`: how many are as they were written, from the first on. `head`: hash of the last of them."""

    intact: bool
    entries: int
    head: str
    broken: BreakAnswer | None

    @classmethod
    def of(cls, verdict: LogVerdict) -> VerificationAnswer:
        found = verdict.broken
        broken = None if found is None else BreakAnswer(number=found.number, last=found.last, damage=found.damage)
        return cls(intact=found is None, entries=verdict.entries, head=verdict.head.hash.hex(), broken=broken)


class CheckpointAnswer(Model):
    """`checkpoint`: one line, for `ratelock log verify --checkpoints`. `public_key`: what verifies it, PEM."""

    checkpoint: str
    public_key: str
