"""Rollback: an alias returns to a version it has named before. Asks no gate, loads no model: it must work when both are broken."""

from zebra_assets.contracts.noun import now
from zebra_assets.contracts.ports import AuditLog, Ledger, Records, Registry
from zebra_assets.contracts.promotion import Promotion
from zebra_assets.errors import GateClosed, NotFound
from zebra_assets.promotion.projection import project


def rollback(
    model: str,
    alias: str,
    *,
    to_run_id: str | None = None,
    records: Records,
    ledger: Ledger,
    registry: Registry,
    audit: AuditLog,
    actor: str,
    reason: str = "",
) -> Promotion:
    """Point ``alias`` at the version it named before, or at that of a run it has named at any time.

    Each rollback goes one promotion further back, never forth: after 1, 2, 3 the first returns to 2, the second to 1. One
    that was cut short before the registry knew is finished, not repeated.

    Returns:
        The ledger's row, done.

    Raises:
        NotFound: the alias has never named anything, or nothing earlier; the model has no such run.
        GateClosed: the run's version has never been there, so nothing has ever let it in.
        Conflict: the alias moved meanwhile.
        Unavailable: decided, but the registry could not be told; see `projection.project`.
    """
    history = ledger.history(model, alias)
    if not history:
        raise NotFound(f"{alias} of {model} has never named a version.", fix=f"mlops promote {model} --to {alias}")
    head = history[0]
    unfinished = to_run_id is None and head.kind == "rollback" and head.state == "intent"
    target = head if unfinished else _target(history, to_run_id)
    if target is None:
        run = records.run(to_run_id) if to_run_id else None
        if run is None or run.model != model:
            raise NotFound(f"Model {model} has no run {to_run_id}.", fix=f"mlops history {model}")
        no = GateClosed(
            f"The model has run {to_run_id}, but {alias} of {model} has never named its version, and a rollback opens no gate.",
            fix=f"mlops promote {model} --run {to_run_id}",
        )
        audit.append(actor, "alias.refused", f"{model}/{alias}", {"run_id": to_run_id, "why": no.message})
        raise no
    if target.version != head.version:
        ledger.append(_row(target, head, actor, reason))
    elif head.state == "done":
        return head
    return project(model, alias, ledger=ledger, registry=registry)


def _target(history: list[Promotion], to_run_id: str | None) -> Promotion | None:
    if to_run_id is not None:
        return next((row for row in history if row.run_id == to_run_id), None)
    head, trail = history[0], _trail(history)
    if len(trail) < 2:
        later = next((row for row in history if row.version != head.version), None)
        raise NotFound(
            f"{head.alias} of {head.model} is at version {head.version}, and there is no earlier one to return to.",
            fix=f"mlops rollback {head.model} --to {later.run_id}, for version {later.version}, which was there later"
            if later
            else f"mlops promote {head.model} --to {head.alias}, for a newer version",
        )
    return trail[-2]


def _trail(history: list[Promotion]) -> list[Promotion]:
    """The promotions that still stand, oldest first: each rollback takes away everything after the version it returned to."""
    trail: list[Promotion] = []
    for row in reversed(history):
        if row.kind == "rollback":
            at = next((i for i in range(len(trail) - 1, -1, -1) if trail[i].version == row.version), None)
            if at is not None:
                del trail[at + 1 :]
                continue
        trail.append(row)
    return trail


def _row(target: Promotion, head: Promotion, actor: str, reason: str) -> Promotion:
    changed = {
        "seq": head.seq + 1,
        "kind": "rollback",
        "from_version": head.version,
        "actor": actor,
        "reason": reason,
        "state": "intent",
        "created_at": now(),
    }
    return target.model_copy(update=changed)
