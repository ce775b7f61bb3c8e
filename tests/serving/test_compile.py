"""Compiled forms: the answers of scikit-learn, or no compiled form."""

import json
import math
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.serving import parts
from tests.serving.conftest import COLUMNS, MODEL, ROW, Bench, flip, rows
from zebra_assets.adapters.mlflow_alias import AliasReader
from zebra_assets.adapters.model_files import LoadedModel, load_model, model_digest
from zebra_assets.errors import NotFound, Unavailable
from zebra_assets.training.package import write_model
from zebra_serving.compile.check import _Bench, compiled
from zebra_serving.compile.form import FORM_FILE, GRAPH_FILE, TOLERANCE, write_form
from zebra_serving.compile.forms import NumpyModel, OnnxModel, Plain
from zebra_serving.compile.graph import graph_of, thresholds
from zebra_serving.compile.plan import CannotCompile, plan
from zebra_serving.compile.seal import SEAL_FILE, key_at, seal
from zebra_serving.compile.workshop import Made, Workshop
from zebra_serving.examples import EXAMPLE
from zebra_serving.fetch import LightSource
from zebra_serving.problems import InputInvalid
from zebra_serving.rows import Rows
from zebra_serving.schema import RowSchema

WORDS, NUMBERS = ["contract", "gender"], ["tenure", "monthly", "senior"]


def table(kind: str) -> pa.Table:
    """Customers with something to learn; the label by ``kind`` of task."""
    found = []
    for i, row in enumerate(rows(600)):
        row = {**row, "monthly": None if i % 17 == 0 else row["monthly"] + (i % 7) / 7}
        value = row["tenure"] - 0.3 * (row["monthly"] or 60) + 9 * (row["contract"] == "yearly") + i % 5
        label = {
            "binary": "Yes" if value < 9 else "No",
            "multiclass": ["low", "mid", "high"][int(value > 0) + int(value > 15)],
            "regression": value,
        }
        found.append({**row, "churn": label[kind]})
    return pa.Table.from_pylist(found)


def pipelines() -> dict[str, tuple[str, str, Callable[[], Any]]]:
    """Name -> (task, the form it should get, how to build it)."""
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.compose import ColumnTransformer, make_column_transformer
    from sklearn.decomposition import PCA
    from sklearn.ensemble import (
        GradientBoostingClassifier,
        HistGradientBoostingClassifier,
        HistGradientBoostingRegressor,
        RandomForestClassifier,
        RandomForestRegressor,
    )
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import MinMaxScaler, OneHotEncoder, OrdinalEncoder, PowerTransformer, StandardScaler
    from sklearn.svm import LinearSVC

    def ordinal(model: Any) -> Any:
        encode = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
        return make_pipeline(make_column_transformer((encode, WORDS), remainder="passthrough"), model)

    def scaled(*tail: Any, words: Any = None) -> Any:
        columns = ColumnTransformer(
            [
                ("numbers", make_pipeline(SimpleImputer(), StandardScaler()), NUMBERS),
                ("words", words or OneHotEncoder(handle_unknown="ignore"), WORDS),
            ]
        )
        return make_pipeline(columns, *tail)

    filled = make_column_transformer((SimpleImputer(strategy="median"), NUMBERS), (OneHotEncoder(drop="first"), WORDS))
    return {
        "boosted": ("binary", "onnx", lambda: ordinal(HistGradientBoostingClassifier(max_iter=40))),
        "boosted three ways": ("multiclass", "onnx", lambda: ordinal(HistGradientBoostingClassifier(max_iter=15))),
        "boosted value": ("regression", "onnx", lambda: ordinal(HistGradientBoostingRegressor(max_iter=30))),
        "filled boosted": ("binary", "onnx", lambda: scaled(HistGradientBoostingClassifier(max_iter=15), words=OrdinalEncoder())),
        "logistic": ("binary", "onnx", lambda: scaled(LogisticRegression())),
        "logistic three ways": ("multiclass", "onnx", lambda: scaled(LogisticRegression())),
        "strict about words": ("binary", "onnx", lambda: make_pipeline(filled, MinMaxScaler(), LogisticRegression())),
        "behind a projection": ("binary", "onnx", lambda: scaled(PCA(3), LogisticRegression())),
        "ridge": ("regression", "onnx", lambda: scaled(Ridge())),
        "forest": ("binary", "onnx", lambda: scaled(RandomForestClassifier(20, max_depth=6, random_state=0))),
        "forest value": ("regression", "onnx", lambda: scaled(RandomForestRegressor(10, max_depth=6, random_state=0))),
        "gradient boosting": ("binary", "onnx", lambda: scaled(GradientBoostingClassifier(n_estimators=20, random_state=0))),
        "no probabilities": ("binary", "scikit-learn on numpy", lambda: scaled(LinearSVC())),
        "no such step": (
            "binary",
            "scikit-learn",
            lambda: make_pipeline(
                make_column_transformer((make_pipeline(SimpleImputer(), PowerTransformer()), NUMBERS), (OneHotEncoder(), WORDS)),
                LogisticRegression(),
            ),
        ),
        "preprocessing inside": ("binary", "scikit-learn", lambda: CalibratedClassifierCV(scaled(LogisticRegression()), cv=2)),
    }


class Shop:
    """Each pipeline trained, stored and compiled once."""

    def __init__(self, root: Path) -> None:
        self.root, self.recipes = root, pipelines()
        self._done: dict[str, tuple[LoadedModel, Made, Path]] = {}

    def get(self, name: str) -> tuple[LoadedModel, Made, Path]:
        if name not in self._done:
            task, _, build = self.recipes[name]
            train = table(task)
            path = self.root / f"{task}.parquet"
            pq.write_table(train, path)
            frame = train.to_pandas()
            model = build().fit(frame[list(COLUMNS)], frame["churn"])
            label = {"column": "churn", "type": task, "positive": "Yes"}
            dtype = "float64" if task == "regression" else "string"
            values = {
                "columns": {**COLUMNS, "churn": {"dtype": dtype, "nullable": False}}, "features": list(COLUMNS), "label": label,
                "datasets": {"train": {"path": str(path)}}, "pip_requirements": [],
            }  # fmt: skip
            folder = write_model(model, self.root / name.replace(" ", "-"), values)
            loaded = load_model(folder, model_digest(folder))
            form, graph = compiled(loaded, folder / EXAMPLE)
            schema = RowSchema(loaded.features)
            ran: Any = OnnxModel(form, graph) if graph else Plain(loaded)
            if form.form == "scikit-learn on numpy":
                from dataclasses import replace

                ran = NumpyModel(form, replace(loaded, estimator=plan(loaded).tail))
            self._done[name] = loaded, Made(schema, ran, form.checked, form.refused, form.golden), folder
        return self._done[name]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    return Shop(tmp_path_factory.mktemp("shop"))


@pytest.mark.parametrize("name", list(pipelines()))
def test_each_pipeline_gets_the_quickest_form_that_is_equal(shop: Shop, name: str) -> None:
    _, made, _ = shop.get(name)
    assert made.model.form == shop.recipes[name][1], made.refused


def test_a_slower_form_says_why(shop: Shop) -> None:
    assert (
        "SimpleImputer" in shop.get("no such step")[1].refused["onnx"] or "PowerTransformer" in shop.get("no such step")[1].refused["onnx"]
    )
    assert "ColumnTransformer" in shop.get("preprocessing inside")[1].refused["scikit-learn on numpy"]
    assert set(shop.get("no probabilities")[1].refused) == {"onnx"}
    assert shop.get("boosted")[1].refused == {}


floats = st.one_of(st.none(), st.floats(allow_nan=False, allow_infinity=False), st.floats(-200, 200), st.integers(0, 120).map(float))
customer = st.tuples(
    st.one_of(st.integers(0, 80), st.integers(-(2**63), 2**63 - 1)),
    floats,
    st.one_of(st.sampled_from(["monthly", "yearly"]), st.text(max_size=4)),
    st.booleans(),
    st.sampled_from(["F", "M", "X", ""]),
)


def said(model: Any, given_rows: Rows) -> tuple[list[Any], list[float] | None] | None:
    """The answer, or None for a refusal."""
    try:
        found = model.predict(given_rows)
    except (InputInvalid, ValueError):
        return None
    return found.labels, found.scores


@pytest.mark.parametrize("name", [n for n, (_, form, _) in pipelines().items() if form != "scikit-learn"])
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batch=st.lists(customer, min_size=1, max_size=20))
def test_any_rows_get_the_models_own_answer_or_are_refused_by_both(shop: Shop, name: str, batch: list[tuple[Any, ...]]) -> None:
    loaded, made, _ = shop.get(name)
    given_rows = Rows(made.schema, batch)
    with np.errstate(all="ignore"):
        ours, own = said(made.model, given_rows), said(Plain(loaded), given_rows)
    assert (ours is None) == (own is None), (ours, own)
    if ours is None or own is None:
        return
    if loaded.task == "regression":
        assert ours[0] == pytest.approx(own[0], rel=TOLERANCE, abs=TOLERANCE)
        return
    if ours[1] is not None:
        assert ours[1] == pytest.approx(own[1], abs=TOLERANCE)
        certain = [abs(score - 0.5) > TOLERANCE for score in ours[1]]
    else:
        certain = [True] * len(batch)
    assert [a for a, sure in zip(ours[0], certain, strict=True) if sure] == [b for b, sure in zip(own[0], certain, strict=True) if sure]


def test_few_rows_and_many_are_encoded_alike(shop: Shop) -> None:
    for name in ("boosted", "logistic"):
        _, made, _ = shop.get(name)
        encode = made.model._encode  # type: ignore[attr-defined]
        values = [tuple(r.values()) for r in rows(40)]
        together = encode(Rows(made.schema, values))
        apart = np.vstack([encode(Rows(made.schema, [v])) for v in values])
        assert (together == apart).all()


def test_thresholds_rounded_to_float32_are_caught_and_float64_ones_are_not(shop: Shop) -> None:
    loaded, _, folder = shop.get("boosted")
    bench = _Bench(loaded, folder / EXAMPLE)
    bench.take_apart()
    rounded = graph_of(bench.plan.tail, len(bench.plan.slots), "float32")
    assert thresholds(rounded)
    with pytest.raises(CannotCompile, match="rows"):
        bench.compare_graph(rounded, "float32")
    bench.compare_graph(graph_of(bench.plan.tail, len(bench.plan.slots), "float64"), "float64")


def test_a_word_never_seen_is_named_where_the_pipeline_would_refuse_it(shop: Shop) -> None:
    _, made, _ = shop.get("strict about words")
    with pytest.raises(InputInvalid) as refused:
        made.model.predict(Rows(made.schema, [tuple(ROW.values()), (5, 70.0, "weekly", True, "F")]))
    [error] = refused.value.errors
    assert (error.row, error.field, error.got) == (1, "contract", "weekly") and "yearly" in error.expected


def test_infinity_is_refused_where_a_step_of_the_pipeline_refuses_it(shop: Shop) -> None:
    row = Rows(shop.get("boosted")[1].schema, [(5, math.inf, "monthly", False, "F")])
    assert shop.get("boosted")[1].model.predict(row).labels  # trees alone take it
    for name in ("filled boosted", "logistic"):
        with pytest.raises(InputInvalid, match="too large"):
            shop.get(name)[1].model.predict(row)


def test_the_profile_of_the_benchmark_finds_the_parts_of_both_forms(shop: Shop) -> None:
    loaded, made, _ = shop.get("filled boosted")
    asked = [{**row, "monthly": 70.5} for row in rows(64)]
    for found in (parts.bulk(made, asked), parts.uncompiled(loaded, asked)):
        assert len(found) >= 5 and all(took > 0 for _, *each in found for took in each)


def test_the_child_compiles_once_and_damage_is_compiled_away(shop: Shop, tmp_path: Path) -> None:
    loaded, _, folder = shop.get("boosted")
    workshop = Workshop(tmp_path / "compiled")
    made = workshop.open(folder, loaded.digest)
    assert made.model.form == "onnx" and "agree" in made.checked
    graph = tmp_path / "compiled" / loaded.digest / GRAPH_FILE
    before = (graph.stat().st_ino, graph.read_bytes())
    assert workshop.open(folder, loaded.digest).model.form == "onnx"
    assert graph.stat().st_ino == before[0]
    flip(graph)
    assert workshop.open(folder, loaded.digest).model.form == "onnx"
    assert graph.read_bytes() == before[1]
    assert [p.name for p in (tmp_path / "compiled").iterdir()] == [loaded.digest]
    # Somebody who can write to the store, and not read the key, puts another model in its place.
    _, _, other = shop.get("logistic")
    strange = tmp_path / "compiled" / loaded.digest
    shutil.rmtree(strange)
    write_form(strange, *compiled(shop.get("logistic")[0], other / EXAMPLE))
    seal(strange, loaded.digest, secrets.token_bytes(32))
    again = workshop.open(folder, loaded.digest)
    few = Rows(made.schema, [tuple(r.values()) for r in rows(9)])
    assert again.model.predict(few) == made.model.predict(few) and graph.read_bytes() == before[1]


def test_a_compiler_that_fails_costs_speed_and_not_the_version(shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded, _, folder = shop.get("boosted")
    monkeypatch.setattr("sys.executable", "/bin/false")
    made = Workshop(tmp_path / "compiled").open(folder, loaded.digest)
    assert made.model.form == "scikit-learn" and "the compiler gave nothing" in made.refused["onnx"]


def reseal(folder: Path, digest: str, form: bytes, key: bytes) -> None:
    """Put another form into a folder, as somebody who has the key could."""
    (folder / SEAL_FILE).unlink()
    (folder / FORM_FILE).write_bytes(form)
    seal(folder, digest, key)


def test_a_form_that_answers_otherwise_than_where_it_was_compiled_does_not_serve(bench: Bench) -> None:
    bench.promote("1")
    app = bench.app()
    app.loader.poll()
    store = bench.shelf.compiled / bench.shelf.digests["1"]
    good = (store / "form.json").read_bytes()
    document = json.loads(good)
    document["golden"]["scores"][0] += 0.01
    reseal(store, bench.shelf.digests["1"], json.dumps(document).encode(), key_at(bench.shelf.compiled.with_name("compiled.key")))
    try:
        second = bench.app()
        second.loader.poll()
        assert second.loader.current is None and second.loader.standing.failure is not None
        assert second.loader.standing.failure.reason == "self_test" and "off by 0.01" in second.loader.standing.failure.message
    finally:
        reseal(store, bench.shelf.digests["1"], good, key_at(bench.shelf.compiled.with_name("compiled.key")))


def test_the_form_and_what_was_refused_are_shown(bench: Bench) -> None:
    bench.promote("1")
    with bench.client("1") as client:
        about = client.get("/model").json()
    assert (about["form"], about["refused_forms"]) == ("onnx", {}) and "rows agree" in about["form_checked"]


def test_aliases_are_read_without_mlflow_as_mlflow_reads_them(bench: Bench, tmp_path: Path) -> None:
    registry, light = bench.shelf.registry, AliasReader(bench.shelf.uri)
    registry.set_alias(MODEL, "shadow", "3")
    for model, alias in ((MODEL, "shadow"), (MODEL, "nobody"), ("unknown", "prod")):
        assert light.alias(model, alias) == registry.alias(model, alias), (model, alias)
    with pytest.raises(Unavailable):
        AliasReader(f"sqlite:///{tmp_path}/none.db").alias(MODEL, "prod")
    assert not (tmp_path / "none.db").exists()
    with pytest.raises(Unavailable):
        AliasReader("http://127.0.0.1:9").alias(MODEL, "prod")


def test_a_download_through_the_child_gives_the_same_bytes_and_the_same_errors(bench: Bench, tmp_path: Path) -> None:
    source = LightSource(bench.shelf.uri)
    assert model_digest(source.download(MODEL, "1", tmp_path / "a")) == bench.shelf.digests["1"]
    with pytest.raises(NotFound, match="no version 99"):
        source.download(MODEL, "99", tmp_path / "b")
