"""Train, judge, promote, watch: each loads what its station needs, calls it, and lets the result rest.

Records go to the state database, tables and pages to the object store. Stations are imported by the step that needs them:
`mlops list` must not pay for sklearn.
"""

import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from zebra_assets.contracts.events import DriftEvent, PredictionEvent
from zebra_assets.contracts.model_spec import ModelSpec
from zebra_assets.contracts.names import safe_join
from zebra_assets.contracts.promotion import Promotion
from zebra_assets.contracts.run import Run
from zebra_assets.contracts.verdicts import DriftReport, EvalReport, GateDecision
from zebra_assets.errors import NotFound, ZebraError
from zebra_assets.loop import pages
from zebra_assets.loop.keys import held_out, resolve
from zebra_assets.loop.predictions import prediction_baseline, predictions
from zebra_assets.loop.window import covering_sketches
from zebra_assets.parts import Parts

if TYPE_CHECKING:
    from zebra_assets.training.train import Trained

Log = Callable[[str], Any]
log = logging.getLogger(__name__)


def train_candidate(
    parts: Parts,
    spec: ModelSpec,
    key: str,
    *,
    params: Mapping[str, Any] | None = None,
    again: bool = False,
    tags: Mapping[str, str] | None = None,
    log: Log = print,
    actor: str | None = None,
) -> "Trained":
    """Train one candidate on the data a partition key names, and leave an audit entry; ``tags`` go on its MLflow run.

    Args:
        actor: who asks for it, where that is not the person of the settings.

    Raises what `resolve` and `training.train` raise.
    """
    from zebra_assets.training.train import train

    done = train(
        spec,
        safe_join(parts.settings.models_dir, spec.name),
        resolve(parts, spec, key),
        key,
        store=parts.store,
        tracker=parts.tracker,
        registry=parts.registry,
        records=parts.records,
        locks=parts.locks,
        workdir=parts.settings.home / "runs",
        params=params,
        again=again,
        tags=tags,
        log=log,
    )
    if done.created:
        run = done.run
        facts = {"model": run.model, "version": run.version, "model_digest": run.model_digest}
        parts.audit.append(actor or parts.settings.who, "model.trained", f"run/{run.id}", facts)
    return done


class Judged(NamedTuple):
    """A candidate's verdict: the report, and the decision it led to."""

    report: EvalReport
    decision: GateDecision


def judge(parts: Parts, spec: ModelSpec, run: Run, split: str | None = None) -> Judged:
    """Score a run's version beside prod's on the same held-out rows, decide, and let report, HTML, predictions and decision rest.

    Args:
        split: the role whose rows are scored; default `held_out`.

    Raises:
        NotFound: the run has no registered version, or no such split.
    """
    from zebra_assets.evaluation.evaluate import evaluate
    from zebra_assets.promotion.gates import decide

    if run.version is None or run.model_digest is None:
        raise NotFound(f"Run {run.id} has no registered version (state: {run.state}).", fix=f"mlops train {run.model}")
    role = split or held_out(run.roles)
    if role not in run.roles:
        raise NotFound(f"Run {run.id} read no {role} rows; it has {', '.join(run.roles)}.", fix=f"mlops eval {run.model} --split valid")
    manifest = parts.manifests.get(run.roles[role])
    head = parts.ledger.head(spec.name, spec.promotion.alias_prod)
    champion = head if head is not None and head.version != run.version else None
    candidate = predictions(parts, spec.name, run.version, run.model_digest, manifest, role)
    beside = (champion, predictions(parts, spec.name, champion.version, champion.model_digest, manifest, role)) if champion else None
    report = evaluate(spec, run, manifest, role, candidate, beside)
    decision = decide(spec, report)
    report = pages.store_evaluation(parts, spec, report, decision, candidate, beside[1] if beside else None)
    parts.records.save(report)
    parts.records.save(decision)
    return Judged(report, decision)


def promote_run(parts: Parts, spec: ModelSpec, run_id: str, alias: str, reason: str = "", actor: str | None = None) -> Promotion:
    """Move an alias to a run's version; the gate is asked again inside. Raises what `promotion.promote` raises.

    Args:
        actor: who moves it, where that is not the person of the settings: a sensor, a schedule.
    """
    from zebra_assets.promotion.promote import promote

    return promote(
        run_id,
        alias,
        spec=spec,
        records=parts.records,
        ledger=parts.ledger,
        registry=parts.registry,
        audit=parts.audit,
        actor=actor or parts.settings.who,
        reason=reason,
    )


def watch(parts: Parts, spec: ModelSpec, *, evidently: Literal["never", "drifted", "always"] = "never") -> DriftReport | None:
    """Compare the newest window of predictions with prod's baseline; None while nothing is in prod.

    The window is read from sketches where they cover it, else from events (`covering_sketches`); the report says which.

    The verdict and its page rest before anything else is tried; where the Pushgateway or Evidently fails, a warning is
    logged and the verdict stands. A drifted window leaves one `drift_event`, however often it is looked at.

    Args:
        evidently: when to draw Evidently's page too, which costs some 10 CPU-seconds in a process of its own.
    """
    from zebra_assets.drift.monitor import monitor, monitor_sketches

    head = parts.ledger.head(spec.name, spec.promotion.alias_prod)
    if head is None:
        return None
    manifests = resolve(parts, spec, head.manifest_id)

    def events() -> list[PredictionEvent]:
        return parts.events.predictions(spec.name, version=head.version, limit=spec.drift.window_rows)

    answers = prediction_baseline(parts, spec.name, head.model_digest, manifests)
    baseline, sketched = manifests["train"], covering_sketches(parts, spec, head.version)
    if sketched:
        report = monitor_sketches(spec, baseline, head.version, sketched, prediction_baseline=answers, baseline_id=head.manifest_id)
    else:
        report = monitor(spec, baseline, head.version, events(), prediction_baseline=answers, baseline_id=head.manifest_id)
    report = pages.store_drift(parts, report)
    parts.records.save(report)
    if report.state == "drifted":
        event = DriftEvent(event_id=report.id, ts=report.created_at, model=spec.name, report_id=report.id, score=report.score or 0.0)
        parts.events.append([event])
    extras: list[Callable[[], object]] = [lambda: _push(parts, report)]
    if evidently == "always" or evidently == report.state:
        extras.append(lambda: pages.store_evidently(parts, report, spec=spec, baseline=baseline, window=events()))
    for extra in extras:
        try:
            extra()
        except ZebraError as error:
            log.warning("%s", error)
    return report


def _push(parts: Parts, report: DriftReport) -> None:
    from zebra_assets.adapters.prometheus import push

    push(report, parts.settings.pushgateway_url)
