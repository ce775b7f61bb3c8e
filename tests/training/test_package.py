"""A model folder written without mlflow is what mlflow would have written, and holds only what is safe to open."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.compose import make_column_transformer
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import GradientBoostingClassifier, HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

from tests.training.bench import DTYPES, NULLABLE, rows
from zebra_assets.adapters.model_files import load_model
from zebra_assets.errors import TrainingFailed
from zebra_assets.training.package import write_model

FEATURES = ["age", "visits", "plan"]


@pytest.fixture(scope="module")
def values(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    path = tmp_path_factory.mktemp("data") / "train.parquet"
    pq.write_table(rows(), path)
    return {
        "label": {"column": "churn", "type": "binary", "positive": "Yes"},
        "features": FEATURES,
        "columns": {name: {"dtype": dtype, "nullable": name in NULLABLE} for name, dtype in DTYPES.items()},
        "pip_requirements": ["my-package==1.2"],
        "datasets": {"train": {"path": str(path)}},
    }


def columns(words: Any) -> Any:
    return make_column_transformer((make_pipeline(SimpleImputer(), StandardScaler()), ["age", "visits"]), (words, ["plan"]))


@pytest.mark.parametrize(
    "estimator",
    [
        make_pipeline(columns(OneHotEncoder()), LogisticRegression()),
        make_pipeline(columns(OneHotEncoder(handle_unknown="ignore")), RandomForestClassifier(5)),
        make_pipeline(columns(OrdinalEncoder()), GradientBoostingClassifier(n_estimators=3)),
        make_pipeline(columns(OrdinalEncoder()), HistGradientBoostingClassifier(max_iter=3, categorical_features=[2])),
        make_pipeline(columns(OrdinalEncoder()), KNeighborsClassifier()),
    ],
    ids=lambda e: type(e[-1]).__name__,
)
def test_common_models_come_back_as_they_were(estimator: Any, values: dict[str, Any], tmp_path: Path) -> None:
    table, fresh = rows(), rows(seed=7)
    estimator.fit(table.to_pandas()[FEATURES], table.column("churn").to_numpy())
    model = load_model(write_model(estimator, tmp_path / "model", values), None)
    predicted = model.predict(fresh)
    assert (predicted.labels == estimator.predict(fresh.to_pandas()[FEATURES])).all()
    assert np.array_equal(predicted.probabilities, estimator.predict_proba(fresh.to_pandas()[FEATURES]))


@pytest.mark.filterwarnings("ignore::UserWarning")  # mlflow's hint about integers
def test_the_signature_is_the_one_mlflow_infers(values: dict[str, Any], tmp_path: Path) -> None:
    from mlflow.models import Model, infer_signature

    frame = rows().to_pandas()[FEATURES]
    folder = write_model(
        make_pipeline(columns(OneHotEncoder()), LogisticRegression()).fit(frame, rows().column("churn").to_numpy()),
        tmp_path / "model",
        values,
    )
    found = Model.load(str(folder))
    assert found.signature.inputs == infer_signature(frame).inputs
    assert found.metadata["zebra"] == {"label": "churn", "task": "binary", "classes": ["No", "Yes"], "positive": "Yes"}
    assert list(found.load_input_example(str(folder)).columns) == FEATURES
    lines = (folder / "requirements.txt").read_text().splitlines()
    assert "my-package==1.2" in lines and any(line.startswith("skops==") for line in lines)


def test_rows_may_come_in_any_column_order_and_width(values: dict[str, Any], tmp_path: Path) -> None:
    table = rows()
    fitted = make_pipeline(columns(OneHotEncoder()), LogisticRegression()).fit(
        table.to_pandas()[FEATURES], table.column("churn").to_numpy()
    )
    model = load_model(write_model(fitted, tmp_path / "model", values), None)
    assert (model.predict(table.select(["plan", "id", "visits", "age"])).labels == model.predict(table).labels).all()


def test_a_regression_and_numpy_columns_work(values: dict[str, Any], tmp_path: Path) -> None:
    about = {**values, "label": {"column": "visits", "type": "regression", "positive": None}, "features": ["age"]}
    table = rows().drop_null()
    fitted = LinearRegression().fit(table.select(["age"]).to_pandas().to_numpy(), table.column("visits").to_numpy())
    model = load_model(write_model(fitted, tmp_path / "model", about), None)
    assert (model.task, model.classes, model.predict(table).scores) == ("regression", [], None)
    assert model.predict(table).labels.dtype == np.float64


def test_sorted_codes_stand_for_the_labels_words(values: dict[str, Any], tmp_path: Path) -> None:
    about = {**values, "label": {"column": "plan", "type": "multiclass", "positive": None}, "features": ["visits"]}
    table = rows()
    codes = np.unique(table.column("plan").to_numpy(), return_inverse=True)[1]
    model = load_model(write_model(DummyClassifier().fit(table.select(["visits"]).to_pandas(), codes), tmp_path / "m", about), None)
    assert model.classes == ["basic", "free", "gold"] and set(model.predict(table).labels) <= set(model.classes)


def test_classes_that_are_neither_labels_nor_codes_are_refused(values: dict[str, Any], tmp_path: Path) -> None:
    fitted = DummyClassifier().fit(rows().to_pandas()[["visits"]], np.where(rows().column("churn").to_numpy() == "Yes", "left", "stays"))
    with pytest.raises(TrainingFailed, match="left"):
        write_model(fitted, tmp_path / "model", values)
    assert not list(tmp_path.iterdir())


def test_a_model_fitted_on_derived_columns_cannot_be_served_and_says_so(values: dict[str, Any], tmp_path: Path) -> None:
    frame = rows().to_pandas().assign(age_squared=1.0)
    with pytest.raises(TrainingFailed, match="age_squared"):
        write_model(DummyClassifier().fit(frame[["visits", "age_squared"]], frame.churn), tmp_path / "model", values)


class Own(ClassifierMixin, BaseEstimator):
    classes_ = np.array(["No", "Yes"])


def test_a_class_of_ones_own_is_named_and_refused(values: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(TrainingFailed, match=r"test_package\.Own"):
        write_model(Own(), tmp_path / "model", values)


def test_the_written_folder_has_no_yaml_surprises(values: dict[str, Any], tmp_path: Path) -> None:
    folder = write_model(
        DummyClassifier().fit(rows().to_pandas()[["visits"]], rows().column("churn").to_numpy()), tmp_path / "model", values
    )
    text = (folder / "MLmodel").read_text()
    assert "&id" not in text and yaml.safe_load(text)["flavors"]["sklearn"]["serialization_format"] == "skops"
    assert json.loads((folder / "input_example.json").read_text())["columns"] == ["visits"]
    assert pa.table({"visits": [1]}).num_rows == len(load_model(folder, None).predict(pa.table({"visits": [1]})).labels)
