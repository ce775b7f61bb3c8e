"""Promote: the only way by which an alias comes to name another version.

Reads the persisted verdict itself and believes no caller. The ledger's row is the decision; the registry's alias follows.
Going back is rollback.py, putting right what was cut short or edited by hand is reconcile.py.
"""

from zebra_assets.contracts.model_spec import ModelSpec
from zebra_assets.contracts.noun import now
from zebra_assets.contracts.ports import AuditLog, Ledger, Records, Registry
from zebra_assets.contracts.promotion import Promotion
from zebra_assets.contracts.run import Run
from zebra_assets.contracts.verdicts import GateDecision
from zebra_assets.errors import Conflict, GateClosed, NotFound, UsageError, did_you_mean
from zebra_assets.promotion.gates import decide
from zebra_assets.promotion.projection import project
from zebra_assets.promotion.reconcile import Healed, reconcile
from zebra_assets.promotion.rollback import rollback

__all__ = ["Healed", "promote", "reconcile", "rollback"]


def promote(
    run_id: str,
    alias: str,
    *,
    spec: ModelSpec,
    records: Records,
    ledger: Ledger,
    registry: Registry,
    audit: AuditLog,
    actor: str,
    reason: str = "",
) -> Promotion:
    """Move ``alias`` to the version of a run, if the newest decision about that run allows it and still holds.

    In this order: ledger row and audit entry in one transaction (from here on it is decided, and a rerun, or `reconcile`,
    finishes what is cut short), then the registry's alias, read back, then the row is marked done.

    A version that the alias names already is left there, whatever was decided since.

    Returns:
        The ledger's row, done.

    Raises:
        UsageError: no such alias in the spec, or the run is another model's.
        NotFound: no such run.
        GateClosed: no decision, one that says no, one that no longer follows from the report and the spec, one about
            other bytes or data, or one that was used before and rolled back.
        Conflict: the alias moved since the decision.
        Unavailable: decided, but the registry could not be told; see `projection.project`.
    """
    run = _run(run_id, alias, spec, records)
    head = ledger.head(spec.name, alias)
    if head is not None and (head.version, head.model_digest) == (run.version, run.model_digest):
        return head if head.state == "done" else project(spec.name, alias, ledger=ledger, registry=registry)
    try:
        decision = standing_decision(run, spec, records)
        _still_holds(decision, run, head, ledger.history(spec.name, alias), spec, alias)
        ledger.append(_row(run, alias, head, decision, actor, reason))
    except (GateClosed, Conflict) as no:
        facts = {"run_id": run.id, "version": run.version, "why": no.message}
        audit.append(actor, "alias.refused", f"{spec.name}/{alias}", facts)
        raise
    return project(spec.name, alias, ledger=ledger, registry=registry)


def _run(run_id: str, alias: str, spec: ModelSpec, records: Records) -> Run:
    known = [spec.promotion.alias_prod, spec.promotion.alias_staging]
    if alias not in known:
        raise UsageError(
            f"Model '{spec.name}' has no alias '{alias}'.{did_you_mean(alias, known)} Known: {', '.join(known)}.", fix=f"--to {known[0]}"
        )
    run = records.run(run_id)
    if run is None:
        raise NotFound(f"No run '{run_id}'.", fix="mlops list runs")
    if run.model != spec.name:
        raise UsageError(f"Run {run_id} is of model '{run.model}', not '{spec.name}'.", fix=f"mlops promote {run.model} --run {run_id}")
    return run


def standing_decision(run: Run, spec: ModelSpec, records: Records) -> GateDecision:
    """The newest decision about a run, if it allows, pins what the run made, and follows from its report under today's spec."""
    again = f"mlops eval {spec.name} --run {run.id}"
    decision, newest = records.decision_for(run.id), records.report_for(run.id)
    if decision is None:
        raise GateClosed(f"Nothing has decided about run {run.id} of {spec.name}.", fix=again)
    report = records.report(decision.report_id)
    if report is None or newest is None or newest.id != report.id:
        raise GateClosed(f"The decision about run {run.id} is not about its newest evaluation.", fix=again)
    pinned = (decision.model, decision.version, decision.model_digest, decision.manifest_id)
    if pinned[:3] != (spec.name, run.version, run.model_digest) or pinned[3] not in (run.manifest_id, *run.roles.values()):
        raise GateClosed(f"The decision about run {run.id} is about other bytes or data than the run's.", fix=again)
    if not decision.allowed:
        raise GateClosed(f"Version {run.version} of {spec.name} did not pass the gate: {'; '.join(decision.reasons)}.", fix=again)
    now_so = decide(spec, report)
    if (now_so.id, now_so.allowed) != (decision.id, True):
        why = "; ".join(now_so.reasons) if not now_so.allowed else "the report or the rules have changed"
        raise GateClosed(f"The decision about run {run.id} does not follow from its report and today's model.yaml: {why}.", fix=again)
    return decision


def _still_holds(decision: GateDecision, run: Run, head: Promotion | None, history: list[Promotion], spec: ModelSpec, alias: str) -> None:
    """The world is as the decision saw it: prod names the version it was compared with, and nobody has taken this promotion back."""
    if alias == spec.promotion.alias_prod and decision.champion_version != (head.version if head else None):
        saw, names = (f"v{v}" if v else "nothing" for v in (decision.champion_version, head.version if head else None))
        raise Conflict(
            f"{alias} of {spec.name} moved since this decision: it was compared with {saw}, {alias} names {names} now; evaluate again.",
            fix=f"mlops eval {spec.name} --run {run.id}",
        )
    back = next((row for row in history if row.kind == "rollback" and row.from_version == run.version), None)
    if back is not None and any(row.decision_id == decision.id and row.kind == "promote" for row in history):
        why = f": {back.reason}" if back.reason else ""
        raise GateClosed(
            f"{back.actor} took version {run.version} back from {alias}{why}. The decision that promoted it is spent.",
            fix=f"mlops rollback {spec.name} --to {run.id}",
        )


def _row(run: Run, alias: str, head: Promotion | None, decision: GateDecision, actor: str, reason: str) -> Promotion:
    assert run.version is not None and run.model_digest is not None
    return Promotion(
        model=run.model,
        alias=alias,
        seq=head.seq + 1 if head else 1,
        kind="promote",
        version=run.version,
        from_version=head.version if head else None,
        run_id=run.id,
        manifest_id=run.manifest_id,
        model_digest=run.model_digest,
        decision_id=decision.id,
        actor=actor,
        reason=reason,
        created_at=now(),
    )
