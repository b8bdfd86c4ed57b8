"""Names that are guesses, and what was counted of them: they go when nobody can ask for it again."""

from __future__ import annotations

from sqlalchemy import bindparam, delete, func, select

from jfe_cni.ratelock.stores.ledger import Transaction
from jfe_cni.ratelock.stores.schema import attempts, meters, secrets

# A day: whoever asks again before then finds the name as it left it, like one that there is.
_KEPT = 86_400_000_000
# Of one transaction: others wait meanwhile.
_MOST_AT_ONCE = 256

_LAST = select(func.max(attempts.c.at)).where(attempts.c.meter == meters.c.id).scalar_subquery()
_NAMES = (
    select(meters, secrets.c.version.label("secret"), _LAST.label("last"))
    .outerjoin(secrets, secrets.c.name == meters.c.name)
    .where(meters.c.id > bindparam("after"))
    .order_by(meters.c.id)
    .limit(_MOST_AT_ONCE)
)
_DELETE_ATTEMPTS = delete(attempts).where(attempts.c.meter == bindparam("of"))
_DELETE_METER = delete(meters).where(meters.c.id == bindparam("of"))


def forget(transaction: Transaction, after: int) -> int:
    """Names that nobody gave to a secret, nor a budget, are only ever guesses: what was counted of them is forgotten
    when nobody has asked for `_KEPT`, which is longer than the default's windows. Looks at some meters that follow
    `after`; gives the last of them, 0 where there are no more."""
    rows = transaction.connection.execute(_NAMES, {"after": after}).all()
    idle = [
        {"of": row.id}
        for row in rows
        if row.kind == "secret"
        and row.secret is None
        and row.budget is None
        and (row.last or 0) <= transaction.now - _KEPT
    ]
    transaction.write(_DELETE_ATTEMPTS, idle)
    transaction.write(_DELETE_METER, idle)
    return rows[-1].id if len(rows) == _MOST_AT_ONCE else 0
