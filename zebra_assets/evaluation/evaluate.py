"""Score a version on held-out rows: `predict` says what the model answers, `evaluate` what that is worth.

Two steps, because predictions are worth keeping: the champion's are computed once per data and compared with many
candidates. Deciding is `promotion/gates`'s job, showing is `adapters/reports`'s.
"""

from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from zebra_assets.contracts.dataset_spec import LabelSpec
from zebra_assets.contracts.digest import digest_of
from zebra_assets.contracts.manifest import Manifest
from zebra_assets.contracts.model_spec import ModelSpec
from zebra_assets.contracts.noun import now
from zebra_assets.contracts.ports import Model, ObjectStore
from zebra_assets.contracts.promotion import Promotion
from zebra_assets.contracts.rows import files_of
from zebra_assets.contracts.run import Run
from zebra_assets.contracts.verdicts import EvalReport, Scores
from zebra_assets.errors import Conflict, NotFound, Refused, TrainingFailed
from zebra_assets.evaluation.bootstrap import interval, replicates
from zebra_assets.evaluation.metrics import METRICS, Array, Metric, Scored, compute, metric

_BATCH = 65_536  # rows a model sees at once: bounds memory at some 50 MB for 100 columns
_TRUTH = {"binary": pa.int8(), "multiclass": pa.string(), "regression": pa.float64()}


def predict(model: Model, manifest: Manifest, split: str, store: ObjectStore) -> pa.Table:
    """What ``model`` answers for each row of a split.

    Returns:
        The key columns, then ``label`` and ``prediction`` (int8 1/0 for positive or not, text for multiclass, float64 for a
        regression) and ``score`` (float64 probability of the positive class, null where the model has none). A key column
        of such a name appears as ``key_<name>``. Rows in the manifest's order.

    Raises:
        NotFound: the manifest has no such split or no label.
        Refused: the model wants the label as a feature, its idea of "positive" is not the recipe's, or the rows differ from the manifest.
        DataInvalid: the rows lack a feature.
        TrainingFailed: the model of a number answers something else.
    """
    label = _label(manifest)
    table = _rows(model, manifest, split, store, label)
    positive = _positive(model, manifest, label)
    answers, scores = _ask(model, table)
    columns = {f"key_{k}" if k in ("label", "prediction", "score") else k: table[k] for k in manifest.columns.key}
    columns["label"] = _spelled(table[label.column].to_numpy(zero_copy_only=False), label, label.positive)
    columns["prediction"] = _spelled(answers, label, positive)
    columns["score"] = pa.nulls(len(answers), pa.float64()) if scores is None else pa.array(scores, pa.float64())
    return pa.table(columns)


def evaluate(
    spec: ModelSpec, run: Run, manifest: Manifest, split: str, candidate: pa.Table, champion: tuple[Promotion, pa.Table] | None
) -> EvalReport:
    """Score a run's version, and the champion on the same rows, with 95% intervals.

    Every metric that fits the label is computed, the spec's first; one that is not defined for these rows is left out, so a
    gate on it fails.

    Args:
        candidate: `predict` of the run's version on ``split`` of ``manifest``.
        champion: what prod names and its `predict` on the same rows; None where prod is empty or is this version.

    Raises:
        SpecInvalid: the spec names a metric that does not exist or does not fit the label.
        NotFound: the run has no registered version.
        Conflict: the two tables are not about the same rows.
    """
    label = _label(manifest)
    # The spec's own come first, also so that a wrong one is found before anything is computed.
    chosen = [metric(m.name, label.type) for m in spec.metrics]
    chosen += [m for m in METRICS.values() if label.type in m.tasks and m not in chosen]
    if run.version is None or run.model_digest is None:
        raise NotFound(f"Run {run.id} of {run.model} has no registered version ({run.state}).", fix=f"mlops train {run.model}")
    if champion is not None:
        _expect_same_rows(candidate, champion[1], spec, run)
    seed = {
        "run": run.id,
        "digest": run.model_digest,
        "manifest": manifest.id,
        "split": split,
        "champion": [champion[0].version, champion[0].model_digest] if champion else None,
    }
    digest = digest_of(seed)
    subjects = [_scored(candidate), *([_scored(champion[1])] if champion else [])]
    figures = replicates(chosen, subjects, int(digest[:16], 16)) if candidate.num_rows else np.empty((len(chosen), len(subjects), 0))
    scores = [
        _scores(v, d, chosen, s, figures[:, i], label) for i, ((v, d), s) in enumerate(zip(_who(run, champion), subjects, strict=True))
    ]
    return EvalReport(
        id=f"eval-{digest[:24]}",
        model=spec.name,
        run_id=run.id,
        manifest_id=manifest.id,
        split=split,
        rows=candidate.num_rows,
        candidate=scores[0],
        champion=scores[1] if champion else None,
        difference=_difference(scores, chosen[0].name, figures[0]) if champion else None,
        created_at=now(),
    )


def _label(manifest: Manifest) -> LabelSpec:
    if manifest.columns.label is None:
        raise NotFound(
            f"Dataset {manifest.dataset} declares no label, so nothing can be evaluated on {manifest.id}.",
            fix=f"add `label:` to manifests/{manifest.dataset}/dataset.yaml, then: mlops ingest {manifest.dataset}",
        )
    return manifest.columns.label


def _rows(model: Model, manifest: Manifest, split: str, store: ObjectStore, label: LabelSpec) -> pa.Table:
    wanted = [f.name for f in model.features]
    if label.column in wanted:
        raise Refused(
            f"The model reads the label '{label.column}' as a feature.", fix="leave the label column out in train.py, and train again"
        )
    files = files_of(manifest, split, store)
    present = {c.name for c in manifest.columns.columns}  # what is missing, the model itself complains about
    return pq.read_table(files, columns=list(dict.fromkeys([*manifest.columns.key, label.column, *(w for w in wanted if w in present)])))


def _positive(model: Model, manifest: Manifest, label: LabelSpec) -> Any:
    """The value by which the model says "positive": the recipe's own, or its code for it (1, True) where it never saw the recipe's."""
    if label.type != "binary":
        return None
    if label.positive not in model.classes:
        return label.positive if model.positive is None else model.positive
    if model.positive not in (None, label.positive):
        raise Refused(
            f"The model's scores are about {model.positive!r}, but the positive label of {manifest.dataset} is {label.positive!r}.",
            fix=f"save the model with positive={label.positive!r}, and train again",
        )
    return label.positive


def _ask(model: Model, table: pa.Table) -> tuple[NDArray[Any], Array | None]:
    if table.num_rows == 0:
        return np.empty(0, dtype=object), None
    parts = [model.predict(table.slice(start, _BATCH)) for start in range(0, table.num_rows, _BATCH)]
    scores = [p.scores for p in parts if p.scores is not None]
    return np.concatenate([p.labels for p in parts]), np.concatenate(scores) if len(scores) == len(parts) else None


def _spelled(values: NDArray[Any], label: LabelSpec, positive: Any) -> pa.Array:
    if label.type == "binary":
        return pa.array((values.astype(object) == positive).astype(np.int8))
    try:
        return pa.array(values.astype(str if label.type == "multiclass" else float), _TRUTH[label.type])
    except (ValueError, TypeError) as error:
        raise TrainingFailed(
            f"The model answers something that is no number: {error}.", fix="predict numbers for a regression label"
        ) from error


def _scored(table: pa.Table) -> Scored:
    score = table["score"].to_numpy()
    finite = table.num_rows > 0 and table["score"].null_count == 0 and bool(np.isfinite(score).all())
    columns = [table[name].to_numpy() for name in ("label", "prediction")]
    truth, answer = (c.astype(float) if c.dtype.kind in "iuf" else c for c in columns)
    return Scored(truth, answer, score if finite else None)


def _expect_same_rows(candidate: pa.Table, champion: pa.Table, spec: ModelSpec, run: Run) -> None:
    shared = [n for n in candidate.column_names if n not in ("prediction", "score")]
    if not candidate.select(shared).equals(champion.select(shared)):
        raise Conflict(
            f"Candidate and prod of {spec.name} were not scored on the same rows, so they cannot be compared.",
            fix=f"mlops eval {spec.name} --run {run.id}",
        )


def _who(run: Run, champion: tuple[Promotion, pa.Table] | None) -> list[tuple[str, str]]:
    first = (cast(str, run.version), cast(str, run.model_digest))
    return [first] if champion is None else [first, (champion[0].version, champion[0].model_digest)]


def _scores(version: str, digest: str, chosen: list[Metric], rows: Scored, figures: Array, label: LabelSpec) -> Scores:
    values = {m.name: compute(m.name, label.type, rows) for m in chosen}
    # JSON has no NaN, and a gate must not find a figure where there is none.
    values = {name: value for name, value in values.items() if np.isfinite(value)}
    found = {m.name: interval(drawn) for m, drawn in zip(chosen, figures, strict=True) if m.name in values}
    return Scores(version=version, model_digest=digest, metrics=values, intervals={k: v for k, v in found.items() if v is not None})


def _difference(scores: list[Scores], name: str, drawn: Array) -> tuple[float, float, float] | None:
    """(low, point, high) of candidate minus champion in one metric, replicate by replicate on the same rows."""
    bounds = interval(drawn[0] - drawn[1])
    if bounds is None or any(name not in s.metrics for s in scores):
        return None
    return bounds[0], scores[0].metrics[name] - scores[1].metrics[name], bounds[1]
