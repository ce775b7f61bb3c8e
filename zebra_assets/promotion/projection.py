"""Make the registry's alias say what the ledger says. Called after a decision, and again by whoever finds it undone.

The only place in the house that moves an alias in the registry, and it never decides to where.
"""

from zebra_assets.contracts.ports import Ledger, Registry
from zebra_assets.contracts.promotion import Promotion
from zebra_assets.errors import Unavailable, ZebraError

# A second round means that somebody else decided or set the alias meanwhile; twenty, that something sets it all the time.
_ROUNDS = 20


def project(model: str, alias: str, *, ledger: Ledger, registry: Registry, actor: str | None = None) -> Promotion:
    """Point the alias at the ledger's head, read it back, mark the row done; the head that was projected.

    The head is read again afterwards: of two processes that set the alias at once, the one that set it last also sees
    the newer head and sets it once more. So the alias ends at the head, unless a process dies; then reconcile finds it.

    Raises:
        Unavailable: the registry did not take it, or goes on showing something else. The ledger stands.
    """
    head, shown = ledger.head(model, alias), None
    for _ in range(_ROUNDS):
        assert head is not None, "projected before anything was decided"
        shown, newest = _set(head, registry), ledger.head(model, alias)
        if newest is not None and newest.seq == head.seq and shown == head.version:
            ledger.done(model, alias, head.seq, actor=actor)
            return head.model_copy(update={"state": "done"})
        head = newest
    assert head is not None
    raise _undone(head, f"after {_ROUNDS} attempts it reads {shown or 'nothing'}")


def _set(head: Promotion, registry: Registry) -> str | None:
    try:
        registry.set_alias(head.model, head.alias, head.version)
        return registry.alias(head.model, head.alias)
    except ZebraError as error:
        raise _undone(head, error.message.rstrip(".")) from error


def _undone(head: Promotion, why: str) -> Unavailable:
    return Unavailable(
        f"The ledger has decided that {head.alias} of {head.model} is version {head.version} (entry {head.seq}), "
        f"and the server follows it; the registry's alias could not be moved: {why}.",
        fix="mlops reconcile",
    )
