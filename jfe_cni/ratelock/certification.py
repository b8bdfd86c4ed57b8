"""Who may have which identities certified: a node those of its own workloads. Pure.

A node's credential is a caller whose name says of which node it is, be it a token's or a client certificate's:

    spiffe://DOMAIN/host/NODE, and all below, as spiffe://DOMAIN/host/NODE/agent

It may have certified `spiffe://DOMAIN/host/NODE/…`, its own name excepted: a credential that renews itself would
outlive being revoked. Pods' identities (`/ns/…`) have no node in them: a credential that may `certify-pods` may have
any of them certified, on its word that the pod is its own. Where it is known which pod is on which node, `granted` is
the place to ask.

The addresses are those that the node says its workload has.
"""

from __future__ import annotations

from jfe_cni.errors import IdentityError
from jfe_cni.identity.csr import Names
from jfe_cni.identity.spiffe import SpiffeId, TrustDomain
from jfe_cni.ratelock.authorisation import Caller, may
from jfe_cni.ratelock.faults import Forbidden


def granted(caller: Caller, node: str, wanted: Names) -> Names:
    """What a node that asks for `wanted` may have. Raises Forbidden, as `check_node` does."""
    domain = check_node(caller, node)
    identity = wanted.id
    if identity.domain != domain or str(identity) == caller.identity or not _is_its_own(caller, node, identity):
        raise Forbidden(
            f"{caller.identity} may not have {identity} certified",
            remedy=f"ask for an identity below spiffe://{domain}/host/{node}, or as the node that it belongs to",
        )
    return wanted


def check_node(caller: Caller, node: str) -> TrustDomain:
    """The trust domain of a node's credential. `node`: whose name it asks under. Raises Forbidden: it is that of
    another node, or of none."""
    domain, own = _node_of(caller)
    if node != own:
        raise Forbidden(
            f"{caller.identity} is the credential of node {own}, and asks as node {node}",
            remedy="give each node a credential of its own, or mend the node's name",
        )
    return domain


def _is_its_own(caller: Caller, node: str, identity: SpiffeId) -> bool:
    match identity.path:
        case ("host", name, _, *_):
            return name == node
        case ("ns", _, _, *_):
            return may(caller, "certify-pods")
        case _:
            return False


def _node_of(caller: Caller) -> tuple[TrustDomain, str]:
    try:
        identity = SpiffeId.parse(caller.identity)
    except IdentityError:
        identity = None
    match identity:
        case SpiffeId(domain=domain, path=("host", node, *_)):
            return domain, node
        case _:
            raise Forbidden(
                f"{caller.identity} is the credential of no node",
                remedy="name it for its node: ratelock token make spiffe://DOMAIN/host/NODE/agent --operation certify",
            )
