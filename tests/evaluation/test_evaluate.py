from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn import metrics as sk
from sklearn.linear_model import LogisticRegression

from zebra_assets.adapters.model_files import LoadedModel, Predictions
from zebra_assets.adapters.object_store import open_store
from zebra_assets.contracts.dataset_spec import LabelSpec, SplitSpec
from zebra_assets.contracts.digest import file_digest
from zebra_assets.contracts.manifest import Artifact, Column, Hashes, Manifest, Schema, Source, Stats
from zebra_assets.contracts.model_folder import ModelFeature
from zebra_assets.contracts.model_spec import ModelSpec
from zebra_assets.contracts.noun import now
from zebra_assets.contracts.ports import ObjectStore
from zebra_assets.contracts.promotion import Promotion
from zebra_assets.contracts.run import CodeRevision, Run
from zebra_assets.contracts.verdicts import EvalReport
from zebra_assets.errors import Conflict, NotFound, Refused, SpecInvalid, TrainingFailed
from zebra_assets.evaluation import evaluate as module
from zebra_assets.evaluation.evaluate import evaluate, predict

DIGEST = "a" * 64
BINARY = LabelSpec(column="churned", type="binary", positive="yes")
N = 400


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    return open_store((tmp_path / "objects").as_uri(), cache=tmp_path / "cache")


@pytest.fixture(scope="module")
def rows() -> pa.Table:
    rng = np.random.default_rng(5)
    x = rng.normal(size=N)
    sure = 1 / (1 + np.exp(-2 * x))
    labels = np.where(rng.random(N) < sure, "yes", "no")
    return pa.table({"id": np.arange(N), "x": x, "z": rng.normal(size=N), "churned": labels})


def manifest_of(table: pa.Table, store: ObjectStore, tmp_path: Path, label: LabelSpec | None = BINARY, split: str = "test") -> Manifest:
    path = tmp_path / "rows.parquet"
    pq.write_table(table, path)
    digest = file_digest(path)
    uri = store.put(f"datasets/{digest}.parquet", path)
    names = {"int64": "int64", "double": "float64", "string": "string"}
    return Manifest(
        id="churn-0123456789abcdef",
        dataset="churn",
        created_at=now(),
        source=Source(connector="files", location="x"),
        columns=Schema(
            columns=[Column(name=f.name, dtype=names[str(f.type)], nullable=False) for f in table.schema], key=["id"], label=label
        ),  # type: ignore[arg-type]
        splits=SplitSpec(),
        stats=Stats(rows=table.num_rows, rows_by_split={}, null_fraction={}, columns={}),
        artifacts=[Artifact(split=split, key=f"datasets/{digest}.parquet", uri=uri, digest=digest, bytes=1, rows=table.num_rows)],
        hashes=Hashes(content=DIGEST, blocks=[DIGEST], block_rows=1),
    )


def model_of(
    table: pa.Table, features: Sequence[str] = ("x", "z"), labels: Any = None, positive: Any = "yes", strength: float = 1.0
) -> LoadedModel:
    """A real scikit-learn model on bare arrays."""
    y = table["churned"].to_numpy(zero_copy_only=False) if labels is None else labels
    estimator = LogisticRegression(C=strength).fit(np.column_stack([table[f] for f in features]), y)
    wanted = [ModelFeature(name=f, dtype="float64") for f in features]
    return LoadedModel(
        wanted, "binary", [c.item() if hasattr(c, "item") else c for c in estimator.classes_], positive, "churned", DIGEST, estimator
    )


@dataclass(frozen=True)
class Says:
    """A model whose answers are given."""

    labels: Any
    scores: Any = None
    classes: Sequence[Any] = ()
    positive: Any = None
    features: Sequence[ModelFeature] = ()

    def predict(self, table: pa.Table) -> Predictions:
        at = table["id"].to_numpy()
        return Predictions(np.asarray(self.labels)[at], None if self.scores is None else np.asarray(self.scores)[at])


def spec_of(*metrics: dict[str, Any]) -> ModelSpec:
    declared = list(metrics) or [{"name": "roc_auc", "direction": "maximize", "threshold": 0.7}]
    return ModelSpec.model_validate(
        {
            "name": "churn",
            "type": "python",
            "entrypoint": "train.py",
            "datasets": {"train": "churn", "valid": "churn", "test": "churn"},
            "tracking": {"experiment_name": "churn"},
            "metrics": declared,
        }
    )


def run_of(**more: Any) -> Run:
    values = {"id": "churn-run-1", "model": "churn", "manifest_id": "churn-0123456789abcdef", "roles": {}, "spec_digest": DIGEST}
    values |= {"code": CodeRevision(digest=DIGEST), "created_at": now(), "version": "2", "model_digest": DIGEST, "state": "finished"}
    return Run.model_validate(values | more)


def prod(version: str = "1") -> Promotion:
    values = {
        "model": "churn",
        "alias": "prod",
        "seq": 1,
        "kind": "promote",
        "version": version,
        "from_version": None,
        "run_id": "churn-run-0",
    }
    values |= {
        "manifest_id": "churn-0123456789abcdef",
        "model_digest": "b" * 64,
        "decision_id": "d",
        "actor": "a",
        "reason": "",
        "created_at": now(),
    }
    return Promotion.model_validate(values)


def test_predictions_carry_key_truth_answer_and_score(rows: pa.Table, store: ObjectStore, tmp_path: Path) -> None:
    model = model_of(rows)
    table = predict(model, manifest_of(rows, store, tmp_path), "test", store)
    assert table.schema.equals(pa.schema({"id": pa.int64(), "label": pa.int8(), "prediction": pa.int8(), "score": pa.float64()}))
    assert (table["label"].to_numpy() == (rows["churned"].to_numpy(zero_copy_only=False) == "yes")).all()
    assert table["score"].to_numpy() == pytest.approx(model.estimator.predict_proba(np.column_stack([rows["x"], rows["z"]]))[:, 1])


def test_slices_of_rows_change_nothing(rows: pa.Table, store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest, model = manifest_of(rows, store, tmp_path), model_of(rows)
    whole = predict(model, manifest, "test", store)
    monkeypatch.setattr(module, "_BATCH", 37)
    sliced = predict(model, manifest, "test", store)
    assert sliced.drop(["score"]).equals(whole.drop(["score"]))
    # Some processors' BLAS sums a block of 37 rows in another order than one of 400: the last bit of a score is its own.
    assert sliced["score"].to_numpy() == pytest.approx(whole["score"].to_numpy(), rel=1e-14, abs=0)


def test_a_model_trained_on_codes_is_scored_like_one_trained_on_the_labels(rows: pa.Table, store: ObjectStore, tmp_path: Path) -> None:
    manifest = manifest_of(rows, store, tmp_path)
    codes = (rows["churned"].to_numpy(zero_copy_only=False) == "yes").astype(int)
    assert predict(model_of(rows, labels=codes, positive=1), manifest, "test", store).equals(
        predict(model_of(rows), manifest, "test", store)
    )


def test_a_model_whose_positive_is_the_other_class_is_refused(rows: pa.Table, store: ObjectStore, tmp_path: Path) -> None:
    with pytest.raises(Refused, match="scores are about 'no', but the positive label of churn is 'yes'"):
        predict(model_of(rows, positive="no"), manifest_of(rows, store, tmp_path), "test", store)


def test_a_model_that_reads_the_label_is_refused(rows: pa.Table, store: ObjectStore, tmp_path: Path) -> None:
    cheat = Says(["yes"] * N, features=[ModelFeature(name="churned", dtype="string")])
    with pytest.raises(Refused, match="reads the label 'churned'"):
        predict(cheat, manifest_of(rows, store, tmp_path), "test", store)


def test_rows_that_are_not_the_manifests_are_refused(rows: pa.Table, store: ObjectStore, tmp_path: Path) -> None:
    manifest = manifest_of(rows, store, tmp_path)
    other = tmp_path / "other.parquet"
    pq.write_table(rows.slice(1), other)
    store.put(manifest.artifacts[0].key, other, overwrite=True)
    with pytest.raises(Refused, match="not those that churn-0123456789abcdef names"):
        predict(model_of(rows), manifest, "test", store)


def test_a_missing_split_or_label_is_explained(rows: pa.Table, store: ObjectStore, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="has no split 'valid'; it has test"):
        predict(model_of(rows), manifest_of(rows, store, tmp_path), "valid", store)
    with pytest.raises(NotFound, match="declares no label"):
        predict(model_of(rows), manifest_of(rows, store, tmp_path, label=None), "test", store)


def test_key_columns_with_our_names_keep_their_values(rows: pa.Table, store: ObjectStore, tmp_path: Path) -> None:
    renamed = rows.append_column("score", rows["id"])
    manifest = manifest_of(renamed, store, tmp_path)
    manifest = manifest.model_copy(update={"columns": manifest.columns.model_copy(update={"key": ["id", "score"]})})
    table = predict(model_of(rows), manifest, "test", store)
    assert table.column_names == ["id", "key_score", "label", "prediction", "score"]
    assert table["key_score"].equals(rows["id"])


def test_a_regression_that_answers_words_is_a_failed_training(rows: pa.Table, store: ObjectStore, tmp_path: Path) -> None:
    manifest = manifest_of(rows, store, tmp_path, label=LabelSpec(column="z", type="regression"))
    with pytest.raises(TrainingFailed, match="no number"):
        predict(Says(["much"] * N), manifest, "test", store)


def test_the_report_has_the_specs_metrics_first_then_all_that_fit(rows: pa.Table, store: ObjectStore, tmp_path: Path) -> None:
    manifest = manifest_of(rows, store, tmp_path)
    table = predict(model_of(rows), manifest, "test", store)
    spec = spec_of({"name": "f1", "direction": "maximize"}, {"name": "roc_auc", "direction": "maximize"})
    report = evaluate(spec, run_of(), manifest, "test", table, None)
    assert list(report.candidate.metrics)[:2] == ["f1", "roc_auc"] and len(report.candidate.metrics) == 8
    assert report.candidate.metrics["roc_auc"] == pytest.approx(sk.roc_auc_score(table["label"], table["score"]))
    for name, (low, high) in report.candidate.intervals.items():
        assert low <= report.candidate.metrics[name] <= high
    assert (report.rows, report.champion, report.difference, report.candidate.version) == (N, None, None, "2")
    assert EvalReport.model_validate_json(report.to_json()) == report


def test_a_better_candidate_shows_in_a_paired_interval_above_zero(rows: pa.Table, store: ObjectStore, tmp_path: Path) -> None:
    manifest = manifest_of(rows, store, tmp_path)
    good, poor = (predict(model_of(rows, features=f), manifest, "test", store) for f in (["x"], ["z"]))
    report = evaluate(spec_of(), run_of(), manifest, "test", good, (prod(), poor))
    assert report.champion is not None and report.difference is not None
    low, point, high = report.difference
    assert 0 < low < point < high
    assert point == pytest.approx(report.candidate.metrics["roc_auc"] - report.champion.metrics["roc_auc"])
    assert (report.champion.version, report.champion.model_digest) == ("1", "b" * 64)


def test_the_same_model_twice_differs_by_nothing(rows: pa.Table, store: ObjectStore, tmp_path: Path) -> None:
    manifest = manifest_of(rows, store, tmp_path)
    table = predict(model_of(rows), manifest, "test", store)
    assert evaluate(spec_of(), run_of(), manifest, "test", table, (prod(), table)).difference == (0.0, 0.0, 0.0)


def test_the_same_inputs_give_the_same_report_and_any_other_input_another_id(rows: pa.Table, store: ObjectStore, tmp_path: Path) -> None:
    manifest = manifest_of(rows, store, tmp_path)
    table = predict(model_of(rows), manifest, "test", store)

    def report(run: Run = run_of(), split: str = "test", champion: str | None = "1") -> EvalReport:  # noqa: B008
        return evaluate(spec_of(), run, manifest, split, table, (prod(champion), table) if champion else None)

    first = report()
    assert report().model_copy(update={"created_at": first.created_at}) == first
    ids = [r.id for r in (first, report(run_of(id="churn-run-2")), report(run_of(model_digest="c" * 64)), report(split="valid"))]
    ids += [report(champion=None).id, report(champion="3").id]
    assert len(set(ids)) == 6


def test_a_metric_that_is_not_defined_is_left_out_of_the_report(rows: pa.Table, store: ObjectStore, tmp_path: Path) -> None:
    manifest = manifest_of(rows, store, tmp_path)
    labels = rows["churned"].to_numpy(zero_copy_only=False)
    for broken in (None, np.full(N, np.nan)):
        table = predict(Says(labels, broken, classes=["no", "yes"], positive="yes"), manifest, "test", store)
        report = evaluate(spec_of(), run_of(), manifest, "test", table, None)
        assert set(report.candidate.metrics) == {"accuracy", "precision", "recall", "f1"}
        assert EvalReport.model_validate_json(report.to_json()) == report


def test_no_rows_give_a_report_without_figures(rows: pa.Table, store: ObjectStore, tmp_path: Path) -> None:
    manifest = manifest_of(rows.slice(0, 0), store, tmp_path)
    report = evaluate(spec_of(), run_of(), manifest, "test", predict(model_of(rows), manifest, "test", store), None)
    assert (report.rows, report.candidate.metrics) == (0, {})


def test_multiclass_and_regression_labels_are_scored(rows: pa.Table, store: ObjectStore, tmp_path: Path) -> None:
    words = manifest_of(rows, store, tmp_path, label=LabelSpec(column="churned", type="multiclass"))
    said = np.where(np.arange(N) % 4 == 0, "no", rows["churned"].to_numpy(zero_copy_only=False))
    spec = spec_of({"name": "accuracy", "direction": "maximize"})
    report = evaluate(spec, run_of(), words, "test", predict(Says(said), words, "test", store), None)
    assert report.candidate.metrics == {"accuracy": float((said == rows["churned"].to_numpy(zero_copy_only=False)).mean())}
    numbers = manifest_of(rows, store, tmp_path, label=LabelSpec(column="z", type="regression"))
    spec = spec_of({"name": "rmse", "direction": "minimize"})
    report = evaluate(spec, run_of(), numbers, "test", predict(Says(rows["x"].to_numpy()), numbers, "test", store), None)
    assert report.candidate.metrics["rmse"] == pytest.approx(sk.root_mean_squared_error(rows["z"], rows["x"]))


def test_mistakes_in_the_spec_or_the_run_are_named(rows: pa.Table, store: ObjectStore, tmp_path: Path) -> None:
    manifest = manifest_of(rows, store, tmp_path)
    table = predict(model_of(rows), manifest, "test", store)
    with pytest.raises(SpecInvalid, match=r"no metric 'rocauc'. Did you mean 'roc_auc'"):
        evaluate(spec_of({"name": "rocauc", "direction": "maximize"}), run_of(), manifest, "test", table, None)
    with pytest.raises(NotFound, match="no registered version"):
        evaluate(spec_of(), run_of(version=None), manifest, "test", table, None)
    with pytest.raises(Conflict, match="not scored on the same rows"):
        evaluate(spec_of(), run_of(), manifest, "test", table, (prod(), table.slice(1)))
