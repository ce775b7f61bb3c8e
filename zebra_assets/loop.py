"""The steps of the loop, each composed once: what the assets in `defs` and the verbs in `control` both do.

A step loads what its station needs through `Parts`, calls the station, and lets the result rest: records in the state
database, tables and HTML in the object store. It decides nothing itself. Imports no dagster and prints nothing.
"""

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from zebra_assets.contracts.digest import digest_of
from zebra_assets.contracts.events import DriftEvent, PredictionEvent
from zebra_assets.contracts.manifest import Bundle, Manifest
from zebra_assets.contracts.model_spec import ModelSpec
from zebra_assets.contracts.names import check_manifest_id, safe_join
from zebra_assets.contracts.promotion import Promotion
from zebra_assets.contracts.run import Run
from zebra_assets.contracts.verdicts import DriftReport, EvalReport, GateDecision
from zebra_assets.errors import NotFound, UsageError
from zebra_assets.parts import Parts

if TYPE_CHECKING:  # the stations are imported by the step that needs them: `mlops list` must not pay for sklearn
    from zebra_assets.training.train import Trained

Log = Callable[[str], Any]


def newest_key(parts: Parts, spec: ModelSpec) -> str:
    """The partition key of the newest data a model can be trained on; commits the bundle where roles name several datasets.

    Raises:
        NotFound: a dataset has no manifest yet.
    """
    newest: dict[str, str] = {}
    for dataset in spec.datasets.names():
        found = parts.manifests.list(dataset)
        if not found:
            raise NotFound(f"Model '{spec.name}' reads dataset '{dataset}', which has no manifest yet.", fix=f"mlops ingest {dataset}")
        newest[dataset] = found[0].id
    if len(newest) == 1:
        return next(iter(newest.values()))
    bundle = Bundle(model=spec.name, roles={role: newest[dataset] for role, dataset in spec.datasets.roles().items()})
    parts.manifests.commit_bundle(bundle)
    return bundle.id


def resolve(parts: Parts, spec: ModelSpec, key: str) -> dict[str, Manifest]:
    """Role name to manifest, for a partition key: a manifest id, or a bundle id where roles name several datasets.

    Raises:
        NotFound: no such manifest or bundle.
        UsageError: the key belongs to a dataset or model that this model does not read.
    """
    check_manifest_id(key)
    wanted = spec.datasets.roles()
    ids = dict.fromkeys(wanted, key) if len(spec.datasets.names()) == 1 else parts.manifests.bundle(key).roles
    if set(ids) != set(wanted):
        raise UsageError(f"Bundle {key} names the roles {', '.join(ids)}; '{spec.name}' has {', '.join(wanted)}.", fix=_ingest(spec))
    loaded = {one: parts.manifests.get(one) for one in dict.fromkeys(ids.values())}
    found = {role: loaded[ids[role]] for role in wanted}
    for role, manifest in found.items():
        if manifest.dataset != wanted[role]:
            raise UsageError(
                f"Manifest {manifest.id} belongs to dataset '{manifest.dataset}', but {role} of '{spec.name}' is '{wanted[role]}'.",
                fix=_ingest(spec),
            )
    return found


def _ingest(spec: ModelSpec) -> str:
    return " && ".join(f"mlops ingest {dataset}" for dataset in spec.datasets.names())


def train_candidate(
    parts: Parts, spec: ModelSpec, key: str, *, params: Mapping[str, Any] | None = None, again: bool = False, log: Log = print
) -> "Trained":
    """Train one candidate on the data a partition key names. Raises what `resolve` and `training.train` raise."""
    from zebra_assets.training.train import train

    return train(
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
        log=log,
    )


class Judged(NamedTuple):
    """A candidate's verdict: the report, and the decision it led to."""

    report: EvalReport
    decision: GateDecision


def held_out(roles: Mapping[str, Any]) -> str:
    """The role whose rows a candidate is judged on: test, or valid for a model without a test role."""
    return "test" if "test" in roles else "valid"


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
    report = _store_report(parts, spec, report, candidate, beside)
    parts.records.save(report)
    decision = decide(spec, report)
    parts.records.save(decision)
    return Judged(report, decision)


def predictions(parts: Parts, model: str, version: str, digest: str, manifest: Manifest, split: str) -> pa.Table:
    """A version's predictions on a split: computed once per model bytes and manifest, then read back from the store.

    Raises:
        Refused: the version's files differ from ``digest``.
    """
    from zebra_assets.adapters.model_files import load_model
    from zebra_assets.evaluation.evaluate import predict

    key = f"predictions/{model}/{digest_of([digest, manifest.id, split])[:32]}.parquet"
    if parts.store.exists(key):
        return pq.read_table(parts.store.fetch(key))
    loaded = load_model(parts.registry.download(model, version, parts.settings.home / "cache" / "models"), digest)
    with tempfile.TemporaryDirectory(prefix="zebra-") as scratch:
        table = predict(loaded, manifest, split, parts.store)
        path = Path(scratch) / "predictions.parquet"
        pq.write_table(table, path, compression="zstd")
        # Overwrites: two evaluators at once may differ in the last bit of a score, and either answer is right.
        parts.store.put(key, path, overwrite=True)
    return table


def _store_report(
    parts: Parts, spec: ModelSpec, report: EvalReport, candidate: pa.Table, beside: tuple[Promotion, pa.Table] | None
) -> EvalReport:
    from zebra_assets.adapters.reports import evaluation_html

    html = evaluation_html(spec, report, candidate, beside[1] if beside else None)
    uri = parts.store.put(f"reports/{spec.name}/{report.id}/evaluation.html", html.encode(), overwrite=True)
    report = report.model_copy(update={"html_uri": uri})
    parts.store.put(f"reports/{spec.name}/{report.id}/evaluation.json", report.to_json().encode(), overwrite=True)
    return report


def promote_run(parts: Parts, spec: ModelSpec, run_id: str, alias: str, reason: str = "") -> Promotion:
    """Move an alias to a run's version; the gate is asked again inside. Raises what `promotion.promote` raises."""
    from zebra_assets.promotion.promote import promote

    return promote(
        run_id,
        alias,
        spec=spec,
        records=parts.records,
        ledger=parts.ledger,
        registry=parts.registry,
        audit=parts.audit,
        actor=parts.settings.who,
        reason=reason,
    )


def watch(parts: Parts, spec: ModelSpec, *, html: bool = False) -> DriftReport | None:
    """Compare the newest window of predictions with prod's baseline; None while nothing is in prod.

    The summary page is always stored; ``html`` asks for Evidently's page too, which costs seconds of import. A drifted
    window leaves one `drift_event`, however often it is looked at.
    """
    from zebra_assets.drift.monitor import monitor

    head = parts.ledger.head(spec.name, spec.promotion.alias_prod)
    if head is None:
        return None
    baseline = resolve(parts, spec, head.manifest_id)["train"]
    window = parts.events.predictions(spec.name, version=head.version, limit=spec.drift.window_rows)
    report = monitor(spec, baseline, head.version, window, baseline_id=head.manifest_id)
    report = report.model_copy(update={"html_uri": _drift_page(parts, spec, report, baseline, window, full=html)})
    parts.records.save(report)
    if report.state == "drifted":
        event = DriftEvent(event_id=report.id, ts=report.created_at, model=spec.name, report_id=report.id, score=report.score or 0.0)
        parts.events.append([event])
    if parts.settings.pushgateway_url:
        from zebra_assets.adapters.prometheus import push

        push(report, parts.settings.pushgateway_url)
    return report


def _drift_page(
    parts: Parts, spec: ModelSpec, report: DriftReport, baseline: Manifest, window: list[PredictionEvent], *, full: bool
) -> str:
    """Store the page people look at and return its URI: our own summary, or with ``full`` Evidently's."""
    from zebra_assets.adapters.evidently_report import drift_html, drift_summary_html

    folder = f"reports/{spec.name}/{report.id}"
    uri = parts.store.put(f"{folder}/drift.html", drift_summary_html(report).encode(), overwrite=True)
    train = baseline.artifact("train")
    if not full or not window or train is None:
        return uri
    with tempfile.TemporaryDirectory(prefix="zebra-") as scratch:
        out = Path(scratch) / "evidently.html"
        features = pa.Table.from_pylist([event.features for event in window])
        drift_html(pq.read_table(parts.store.fetch(train.key), columns=features.column_names), features, out)
        return parts.store.put(f"{folder}/evidently.html", out, overwrite=True)
