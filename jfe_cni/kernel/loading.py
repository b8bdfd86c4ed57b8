"""Rulesets put into the kernel: by `nft`, or as a form of what `nft` has made of the same one before."""

from __future__ import annotations

from functools import partial
from hashlib import blake2b

from jfe_cni.errors import JfeError, KernelError
from jfe_cni.kernel import tables
from jfe_cni.kernel.cgroups import NFT_ROOT
from jfe_cni.kernel.forms import Form, Forms, content
from jfe_cni.kernel.namespace import in_fresh_namespace
from jfe_cni.kernel.nft import Run
from jfe_cni.kernel.tables import TableState
from jfe_cni.rules.model import Cgroup, Ruleset

# Loading is begun again where another changed the namespace's tables in that moment.
_ATTEMPTS = 5


class Loader:
    """Any number of threads may load at the same time, each inside a namespace of its own."""

    def __init__(self, forms: Forms) -> None:
        self._forms = forms

    def load(self, ruleset: Ruleset, run: Run, empty: int | None = None) -> TableState:
        """By `nft`; and takes down what the kernel made of it: no more than that, for whatever is in it counts as ours
        from then on. A transaction of another in that moment would be seen by its generation.

        `empty`: the generation in which the table is there with the wanted comment and nothing else. To take a table
        away costs a grace period of RCU, 10 ms or more, when `nft` closes its socket (nft_rcv_nl_event, net/netfilter/
        nf_tables_api.c): nothing is, where nothing must be."""
        for _ in range(_ATTEMPTS):
            before = tables.generation()
            run.load(ruleset.addition if before == empty else ruleset.text)
            state = tables.state(ruleset.family, ruleset.table)
            if state is not None and state.generation == before + 1 and state.digest != tables.CHANGED:
                return state
        raise KernelError(
            f"the tables of the namespace change while {ruleset.family} {ruleset.table} is loaded",
            "see what else loads rules there (nft monitor), and try again",
        )

    def fill(self, ruleset: Ruleset, run: Run, empty: int, cgroup: Cgroup) -> TableState:
        """As `load`, by a form if that makes what `nft` makes. `cgroup`: the only one that the ruleset names.

        A form is the same in every namespace: the one device that is named is the loopback, whose number is 1 in all
        of them (LOOPBACK_IFINDEX, include/net/flow.h). It is made where nobody else has ever been: in a pod, another
        device could bear that name, and `nft` would take its number into the rules of all pods."""
        key = _key(ruleset, cgroup)
        make = partial(in_fresh_namespace, partial(_make, ruleset, run))
        try:
            form = None if key is None else self._forms.find(key, make)
        except JfeError:
            form = None  # what is wrong is told by `nft`, if it is wrong here, too
        to_blame = False
        if form is not None:
            state, to_blame = _put(form, ruleset, empty)
            if state is not None:
                return state
        loaded = self.load(ruleset, run, empty)
        if key is not None and to_blame:
            self._forms.refuse(key)
        return loaded


def _make(ruleset: Ruleset, run: Run) -> Form:
    run.load(ruleset.text)
    _, parts = tables.read(ruleset.family, ruleset.table)
    return Form.of(parts)


def _put(form: Form, ruleset: Ruleset, empty: int) -> tuple[TableState | None, bool]:
    """What the kernel has made of it; None where that is not what `nft` had made, or can't be told. Then also whether
    the form is to blame: not where another's transaction came between."""
    try:
        tables.add(ruleset.family, form.changes, empty)
    except JfeError:
        return None, tables.generation() == empty
    state = tables.state(ruleset.family, ruleset.table) if form.made is not None else None
    if state is not None and state.generation == empty + 1 and state.inner == form.made:
        # Numbers are given within a table, and its own number is no part of this: what is the same is the same whole.
        return state, False
    state, parts = tables.read(ruleset.family, ruleset.table)
    if state is None or state.generation != empty + 1:
        return None, False
    if state.digest == tables.CHANGED or content(parts) != form.content:
        return None, True
    form.made = state.inner
    return state, False


def _key(ruleset: Ruleset, cgroup: Cgroup) -> str | None:
    """Of all that `nft` makes a form from. None where the cgroup is away, which is for `nft` to say.

    A rule knows its cgroup by a number, which `nft` looks up by the path, and the path may be another's tomorrow. No
    number is given twice (__kernfs_new_node, fs/kernfs/dir.c: 64 bits, counted up): what `nft` makes while the cgroup
    is made anew is kept by a key that never comes again."""
    try:
        number = (NFT_ROOT / cgroup.path).stat().st_ino
    except OSError:
        return None
    return blake2b(f"{number} {ruleset.form}".encode(), digest_size=tables.DIGEST).hexdigest()
