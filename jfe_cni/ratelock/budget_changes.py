"""How a budget changes: at once where less is let through, after the former budget's own delay where more is. Pure."""

from __future__ import annotations

from jfe_cni.ratelock.budgets import DEFAULT, Budget, Meter, Microseconds
from jfe_cni.ratelock.store import StoredBudget


def without_one(meter: Meter) -> Budget | None:
    """What holds where no budget was set: the default for each secret, nothing for the others."""
    return DEFAULT if meter.kind == "secret" else None


def settled(stored: StoredBudget | None, now: Microseconds) -> StoredBudget | None:
    """What is set at `now`: a pending change whose time has come has taken the former's place."""
    if stored is None or stored.pending_from is None or now < stored.pending_from:
        return stored
    return None if stored.pending is None else StoredBudget(stored.meter, stored.pending)


def in_force(meter: Meter, stored: StoredBudget | None, now: Microseconds) -> Budget | None:
    """None: attempts are not charged to this meter."""
    current = settled(stored, now)
    return without_one(meter) if current is None else current.budget


def most_remembered(meter: Meter, stored: StoredBudget | None) -> int:
    """As many of the last attempts as what holds, or what is pending, may look at."""
    default = without_one(meter)
    budgets = (stored.budget, stored.pending or default) if stored is not None else (default,)
    return max((budget.most for budget in budgets if budget is not None), default=0)


def changed(meter: Meter, stored: StoredBudget | None, wanted: Budget | None, now: Microseconds) -> StoredBudget | None:
    """What to keep when an owner sets `wanted`; None: nothing. A removal that waits has `pending_from`, but no
    `pending`. The owner's last word replaces a change that was still pending."""
    stored = settled(stored, now)
    former = in_force(meter, stored, now)
    following = without_one(meter) if wanted is None else wanted
    if former is not None and (following is None or following.loosens(former)) and former.loosening_delay:
        return StoredBudget(meter, former, wanted, now + former.loosening_delay)
    return None if wanted is None else StoredBudget(meter, wanted)
