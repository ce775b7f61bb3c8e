"""Write a fitted scikit-learn model as a model folder: MLflow's format, skops bytes, a signature in the data's own words.

The MLmodel file is written here, not by mlflow: importing mlflow.sklearn costs a training process 2 s, and its default
refuses every tree model. Called by the sdk inside the training process. As ``python -m zebra_assets.training.package CONFIG
SOURCE TARGET`` it converts what a script left as a pickle, in a process that may be harmed by it.
"""

import json
import platform
import shutil
import sys
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from zebra_assets.contracts.model_folder import MODEL_FILE, TO_MLFLOW, TRUSTED_TYPES, ModelFeature
from zebra_assets.errors import TrainingFailed, ZebraError

# They travel with the model: the server tests itself on them, and explains a row by comparing it with them.
_EXAMPLE_ROWS = 32
# Parts of the training data that they are taken from: the first rows alone would be the oldest customers, or one shop's.
_EXAMPLE_PARTS = 8


def write_model(estimator: Any, folder: Path, values: Mapping[str, Any], example: pa.Table | None = None) -> Path:
    """Write ``estimator`` to ``folder``; visible only when complete.

    Args:
        estimator: fitted on the dataset's own columns; encoding belongs into its pipeline.
        values: the content of the run's config file.
        example: rows to keep as the input example; default some from all over the train split.

    Raises:
        TrainingFailed: fitted on columns the dataset does not have, or made of classes that cannot be loaded safely.
    """
    features = _features(estimator, values)
    scratch = folder.with_name(f".{folder.name}-{uuid.uuid4().hex[:8]}")
    scratch.mkdir(parents=True)
    try:
        _write_skops(estimator, scratch / MODEL_FILE)
        write_example(scratch, features, some_rows(values) if example is None else example)
        write_requirements(scratch, values["pip_requirements"])
        document = _mlmodel(estimator, features, values, (scratch / MODEL_FILE).stat().st_size)
        (scratch / "MLmodel").write_text(yaml.safe_dump(document), encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        scratch.rename(folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return folder


def _features(estimator: Any, values: Mapping[str, Any]) -> list[ModelFeature]:
    columns = values["columns"]
    names = [str(name) for name in getattr(estimator, "feature_names_in_", values["features"])]
    if strange := [name for name in names if name not in columns]:
        raise TrainingFailed(
            f"The model was fitted on columns that the dataset does not have: {', '.join(strange[:5])}.",
            fix="encode and derive columns inside a sklearn Pipeline, so that raw rows can be predicted",
        )
    if (width := getattr(estimator, "n_features_in_", len(names))) != len(names):
        raise TrainingFailed(
            f"The model was fitted on {width} unnamed columns; the dataset has {len(names)} features.",
            fix="fit on a DataFrame with the dataset's columns",
        )
    return [feature_of(name, columns[name]) for name in names]


def feature_of(name: str, column: Mapping[str, Any]) -> ModelFeature:
    """A column of the config file as the model will read it."""
    # pandas has no missing integer: such a column reaches the model as float.
    dtype = "float64" if column["dtype"] == "int64" and column["nullable"] else column["dtype"]
    return ModelFeature(name=name, dtype=dtype, required=not column["nullable"])


def _write_skops(estimator: Any, path: Path) -> None:
    from skops.io import dump, get_untrusted_types

    dump(estimator, path)
    if strange := sorted(set(get_untrusted_types(file=path)) - TRUSTED_TYPES):
        raise TrainingFailed(
            f"The model holds types that cannot be loaded safely: {', '.join(strange)}.",
            fix="build it from scikit-learn's own classes (FunctionTransformer takes numpy functions)",
        )


def some_rows(values: Mapping[str, Any]) -> pa.Table:
    """Rows of the train split, evenly spread over a few of its row groups: the same ones each time."""
    path = Path(values["datasets"]["train"]["path"])
    files = [pq.ParquetFile(file) for file in _spread(sorted(path.glob("*.parquet")) if path.is_dir() else [path], _EXAMPLE_PARTS)]
    groups = [(file, n) for file in files for n in range(file.num_row_groups)]
    parts = _spread([(file, n) for file, n in groups if file.metadata.row_group(n).num_rows], _EXAMPLE_PARTS)
    if not parts:
        return files[0].schema_arrow.empty_table()
    tables = [file.read_row_group(n) for file, n in parts]
    share = -(-_EXAMPLE_ROWS // len(tables))
    return pa.concat_tables([table.take(_spread(list(range(len(table))), share)) for table in tables])


def _spread(things: list[Any], most: int) -> list[Any]:
    """At most so many of them, from the first on at even distances."""
    return things if len(things) <= most else [things[i * len(things) // most] for i in range(most)]


def write_example(folder: Path, features: list[ModelFeature], rows: pa.Table) -> None:
    """Write the input example. Raises `TrainingFailed` when ``rows`` lack a feature."""
    names = [f.name for f in features]
    if missing := [name for name in names if name not in rows.column_names]:
        raise TrainingFailed(f"The example lacks the columns {', '.join(missing)}.", fix="pass rows with every feature, or none")
    listed = rows.select(names).slice(0, _EXAMPLE_ROWS).to_pylist()
    split = {"columns": names, "data": [[_plain(row[name]) for name in names] for row in listed]}
    (folder / "input_example.json").write_text(json.dumps(split))
    (folder / "serving_input_example.json").write_text(json.dumps({"dataframe_split": split}))


def _plain(value: Any) -> Any:
    return value.isoformat() if hasattr(value, "isoformat") else value


def write_requirements(folder: Path, own: list[str]) -> None:
    """Write what this environment has, and the team's own lines, in the forms that MLflow reads."""
    lines = [f"{name}=={found}" for name in ("scikit-learn", "skops", "numpy", "pandas", "mlflow") if (found := installed(name))]
    lines += own
    python = platform.python_version()
    (folder / "requirements.txt").write_text("\n".join(lines) + "\n")
    (folder / "python_env.yaml").write_text(
        yaml.safe_dump({"python": python, "build_dependencies": ["pip", "setuptools", "wheel"], "dependencies": ["-r requirements.txt"]})
    )
    conda = {"name": "mlflow-env", "channels": ["conda-forge"], "dependencies": [f"python={python}", "pip", {"pip": lines}]}
    (folder / "conda.yaml").write_text(yaml.safe_dump(conda))


def installed(name: str) -> str | None:
    """A distribution's version, None where it is absent."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _mlmodel(estimator: Any, features: list[ModelFeature], values: Mapping[str, Any], size: int) -> dict[str, Any]:
    label = values["label"]
    classes = _classes(estimator, values)
    inputs = [{"type": TO_MLFLOW[f.dtype], "name": f.name, "required": f.required} for f in features]
    answers = {bool: "boolean", int: "long", str: "string"}
    output = answers.get(type(classes[0]), "double") if classes else "double"
    about: dict[str, Any] = {"label": label["column"], "task": label["type"], "classes": classes}
    if label["type"] == "binary":
        about["positive"] = label["positive"]
    return {
        "flavors": {
            "python_function": {
                "env": {"conda": "conda.yaml", "virtualenv": "python_env.yaml"},
                "loader_module": "mlflow.sklearn",
                "model_path": MODEL_FILE,
                "predict_fn": "predict",
                "python_version": platform.python_version(),
            },
            "sklearn": {
                "code": None,
                "pickled_model": MODEL_FILE,
                "serialization_format": "skops",
                "sklearn_version": installed("scikit-learn"),
                "skops_trusted_types": sorted(TRUSTED_TYPES),
            },
        },
        "metadata": {"zebra": about},
        "mlflow_version": installed("mlflow") or installed("mlflow-skinny"),
        "model_size_bytes": size,
        "model_uuid": uuid.uuid4().hex,
        "saved_input_example_info": {
            "artifact_path": "input_example.json",
            "pandas_orient": "split",
            "serving_input_path": "serving_input_example.json",
            "type": "dataframe",
        },
        "signature": {"inputs": json.dumps(inputs), "outputs": json.dumps([{"type": output, "required": True}]), "params": None},
        "utc_time_created": datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S.%f"),
    }


def _classes(estimator: Any, values: Mapping[str, Any]) -> list[Any]:
    """The label's values in the order of the estimator's classes.

    A script may have encoded the label: two classes 0 and 1 then mean (negative, positive), and k classes 0..k-1 mean the
    sorted values, as LabelEncoder gives them.
    """
    known = [getattr(c, "item", lambda c=c: c)() for c in getattr(estimator, "classes_", [])]
    label = values["label"]
    if label["type"] == "regression" or not known:
        return []
    column = pq.read_table(values["datasets"]["train"]["path"], columns=[label["column"]]).column(0)
    words = sorted(column.unique().to_pylist())
    if set(known) <= set(words):
        return known
    if label["type"] == "binary" and len(words) == 2:
        words = [w for w in words if w != label["positive"]] + [label["positive"]]
    if [int(c) for c in known if isinstance(c, int | float)] == list(range(len(words))):
        return words
    raise TrainingFailed(
        f"The model knows the classes {known}, the label column '{label['column']}' has {words[:10]}.",
        fix="fit on the label column as it is, or encode it as 0..k-1 in sorted order",
    )


def _open(source: Path) -> Any:
    """Load whatever a script left. Runs code of that file: only ever in a process of its own."""
    if source.is_dir():
        flavour = yaml.safe_load((source / "MLmodel").read_text())["flavors"].get("sklearn")
        if flavour is None:
            raise TrainingFailed("The MLflow model has no sklearn flavour.", fix="log it with mlflow.sklearn.log_model")
        source = source / Path(flavour["pickled_model"]).name
    if source.suffix == ".skops":
        from skops.io import get_untrusted_types, load

        return load(source, trusted=get_untrusted_types(file=source))
    import joblib

    return joblib.load(source)


def main(config: str, source: str, target: str) -> int:
    """Convert; the reason goes to stderr."""
    try:
        write_model(_open(Path(source)), Path(target), yaml.safe_load(Path(config).read_text()))
    except ZebraError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    except (AttributeError, ImportError) as error:
        sys.stderr.write(f"{Path(source).name} needs a class that only its script knows: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
