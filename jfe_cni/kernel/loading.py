"""Rulesets put into the kernel: by `nft`, or as a form of what `nft` has made of the same one elsewhere."""

from __future__ import annotations

from hashlib import blake2b

from jfe_cni.errors import JfeError, KernelError
from jfe_cni.kernel import tables
from jfe_cni.kernel.cgroups import NFT_ROOT
from jfe_cni.kernel.forms import Form, Forms, content
from jfe_cni.kernel.nft import Run
from jfe_cni.kernel.tables import Part, TableState
from jfe_cni.rules.model import Cgroup, Ruleset

# Loading is begun again where another changed the namespace's tables in that moment.
_ATTEMPTS = 5


class Loader:
    """Any number of threads may load at the same time, each inside a namespace of its own."""

    def __init__(self) -> None:
        self._forms = Forms()

    def load(
        self, ruleset: Ruleset, run: Run, *, empty: int | None = None, only_cgroup: Cgroup | None = None
    ) -> TableState:
        """Loads, and takes down what the kernel made of it: no more than that, for whatever is in it counts as ours
        from then on. A transaction of another in that moment would be seen by its generation.

        `empty`: the generation in which the table is there with the wanted comment and nothing else. To take a table
        away costs a grace period of RCU, 10 ms or more, when `nft` closes its socket (nft_rcv_nl_event, net/netfilter/
        nf_tables_api.c): nothing is, where nothing must be.

        `only_cgroup`: the ruleset names this cgroup and no other, and will be wanted again, but for its comment: a form
        of it is kept, and put where the table is empty. It is the same in every namespace, for the one device that it
        may name is the loopback, whose number is 1 everywhere (LOOPBACK_IFINDEX, include/net/flow.h)."""
        key = None if only_cgroup is None else _key(ruleset, only_cgroup)
        if key is None or only_cgroup is None:
            return _load(ruleset, run, empty)[0]
        form = None if empty is None else self._forms.find(key)
        to_blame = False
        if form is not None and empty is not None:
            found, to_blame = _put(form, ruleset, empty)
            if found is not None:
                return found
        state, parts = _load(ruleset, run, empty)
        if to_blame:
            self._forms.refuse(key)
        elif self._forms.wanted(key) and key == _key(ruleset, only_cgroup):
            # The cgroup was not made anew meanwhile: `nft` has seen the one that the key names.
            self._forms.keep(key, Form.of(parts))
        return state


def _load(ruleset: Ruleset, run: Run, empty: int | None) -> tuple[TableState, list[Part]]:
    """By `nft`."""
    for _ in range(_ATTEMPTS):
        before = tables.generation()
        run.load(ruleset.addition if before == empty else ruleset.text)
        state, parts = tables.read(ruleset.family, ruleset.table)
        if state is not None and state.generation == before + 1 and state.digest != tables.CHANGED:
            return state, parts
    raise KernelError(
        f"the tables of the namespace change while {ruleset.family} {ruleset.table} is loaded",
        "see what else loads rules there (nft monitor), and try again",
    )


def _put(form: Form, ruleset: Ruleset, empty: int) -> tuple[TableState | None, bool]:
    """What the kernel has made of it; None where that is not what `nft` had made, or can't be told. Then also whether
    the form is to blame: not where another's transaction came between."""
    try:
        tables.add(ruleset.family, form.changes, empty)
    except JfeError:
        return None, tables.generation() == empty
    state, parts = tables.read(ruleset.family, ruleset.table)
    if state is None or state.generation != empty + 1:
        return None, False
    if state.digest == tables.CHANGED or content(parts) != form.content:
        return None, True
    return state, False


def _key(ruleset: Ruleset, cgroup: Cgroup) -> str | None:
    """Of all that `nft` makes a form from. None where the cgroup is away, which is for `nft` to say.

    The kernel knows a cgroup by its number, and a path may be another's tomorrow; no number is given twice
    (kernfs_get_inode, kernfs_id: fs/kernfs/dir.c counts them up in 64 bits)."""
    try:
        number = (NFT_ROOT / cgroup.path).stat().st_ino
    except FileNotFoundError:
        return None
    return blake2b(f"{number} {ruleset.form}".encode(), digest_size=tables.DIGEST).hexdigest()
