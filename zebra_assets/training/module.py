"""``python -m zebra_assets.training.module models/<name>/model.py --config PATH``: call a module's `train`, write its model folder.

    train(data=…, folder_path=…, secrets={}) -> metadata      writes what `predict` needs into folder_path
    initialization(artifact_folder, secrets) -> init_object   called once wherever the model runs
    predict(data, init_object, secrets) -> answers            data: {"input": [{column: value, …}, …]}

``data`` holds the run's params, seed, label, features, columns, key and datasets (each with the path of its Parquet file). Numbers
that `train` returns become the run's metrics, the rest its params. Started by the runner `module`; what it wrote is checked by
`collect`.
"""

import json
import platform
import shutil
import sys
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow.parquet as pq
import yaml

from zebra_assets.contracts.model_code import code_digest, code_files
from zebra_assets.contracts.model_folder import TO_MLFLOW
from zebra_assets.contracts.module_folder import ARTIFACTS, CODE, FLAVOUR, SAYS
from zebra_assets.errors import TrainingFailed, ZebraError
from zebra_assets.kinds import module_at
from zebra_assets.training.package import feature_of, installed, some_rows, write_example, write_requirements

SHAPE = ("train", "initialization", "predict")
_GIVEN = ("params", "seed", "label", "features", "columns", "key", "datasets", "run_id", "model")


def train_module(entrypoint: Path, values: Mapping[str, Any]) -> Path:
    """Call ``train`` and write the model folder below the run's output; visible only when complete.

    Raises:
        TrainingFailed: the module lacks a function, refused with its ModelException, wrote nothing, or returned something else than
            a mapping. Whatever else `train` raises passes.
    """
    output = Path(values["output_dir"])
    scratch = output / f".module-{uuid.uuid4().hex[:8]}"
    (scratch / ARTIFACTS).mkdir(parents=True)
    try:
        _copy_code(entrypoint.parent, scratch / CODE)
        # What runs is the copy that is kept: an edit in the meantime changes neither.
        returned = _trained(_imported(scratch / CODE / entrypoint.name), values, scratch / ARTIFACTS)
        if not any(path.is_file() for path in (scratch / ARTIFACTS).rglob("*")):
            raise TrainingFailed(
                f"{entrypoint.name}: train() wrote nothing into folder_path.", fix="write what initialization() reads into folder_path"
            )
        _write_about(scratch, entrypoint.name, values)
        _write_returned(output, returned)
        return scratch.rename(output / "model")
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _copy_code(folder: Path, target: Path) -> None:
    for path in code_files(folder):
        place = target / path.relative_to(folder)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, place)


def _imported(entrypoint: Path) -> ModuleType:
    module = module_at(entrypoint)
    if missing := [name for name in SHAPE if not callable(getattr(module, name, None))]:
        raise TrainingFailed(
            f"{entrypoint.name} has no function {', '.join(missing)}.",
            fix="train(data, folder_path, secrets), initialization(artifact_folder, secrets), predict(data, init_object, secrets)",
        )
    return module


def _trained(module: ModuleType, values: Mapping[str, Any], artifacts: Path) -> dict[str, Any]:
    refusal: Any = getattr(module, "ModelException", TrainingFailed)
    data = {name: values[name] for name in _GIVEN}
    try:
        returned = module.train(data=data, folder_path=str(artifacts), secrets={})
    except refusal as error:
        raise TrainingFailed(f"{module.__name__}.train refused: {error}", fix="see its data; mlops train again") from error
    if not isinstance(returned, Mapping | None):
        raise TrainingFailed(f"{module.__name__}.train returned {type(returned).__name__}.", fix='return {"accuracy": 0.84}, or nothing')
    return dict(returned or {})


def _write_returned(output: Path, returned: Mapping[str, Any]) -> None:
    plain = {str(name): value.item() if hasattr(value, "item") else value for name, value in returned.items()}
    numbers = {name: value for name, value in plain.items() if isinstance(value, int | float) and not isinstance(value, bool)}
    try:
        (output / "metrics.json").write_text(json.dumps(numbers))
        (output / "params.json").write_text(json.dumps({name: value for name, value in plain.items() if name not in numbers}))
    except TypeError as error:
        raise TrainingFailed(f"What train() returned has no JSON form: {error}.", fix="return numbers, text, lists and mappings") from error


def _write_about(folder: Path, entrypoint: str, values: Mapping[str, Any]) -> None:
    """MLmodel, example and requirements."""
    features = [feature_of(name, values["columns"][name]) for name in values["features"]]
    label, classes = values["label"], _classes(values)
    answer = {bool: "boolean", int: "long", str: "string"}.get(type(classes[0]), "double") if classes else "double"
    about = {"label": label["column"], "task": label["type"], "classes": classes, "positive": label.get("positive")}
    write_example(folder, features, some_rows(values))
    write_requirements(folder, values["pip_requirements"])
    document = {
        "flavors": {
            FLAVOUR: {
                **SAYS,
                "entrypoint": entrypoint,
                "code_digest": code_digest(folder / CODE),
                "env": {"conda": "conda.yaml", "virtualenv": "python_env.yaml"},
                "python_version": platform.python_version(),
            }
        },
        "metadata": {"zebra": about},
        "mlflow_version": installed("mlflow") or installed("mlflow-skinny"),
        "model_uuid": uuid.uuid4().hex,
        "signature": {
            "inputs": json.dumps([{"type": TO_MLFLOW[f.dtype], "name": f.name, "required": f.required} for f in features]),
            "outputs": json.dumps([{"type": answer, "required": True}]),
            "params": None,
        },
        "utc_time_created": datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S.%f"),
    }
    (folder / "MLmodel").write_text(yaml.safe_dump(document), encoding="utf-8")


def _classes(values: Mapping[str, Any]) -> list[Any]:
    """The label's values in the train rows, sorted; the positive one of two last. None for a regression."""
    label = values["label"]
    if label["type"] == "regression":
        return []
    column = pq.read_table(values["datasets"]["train"]["path"], columns=[label["column"]]).column(0)
    words = sorted(column.drop_null().unique().to_pylist())
    return words if label["type"] != "binary" else [*(w for w in words if w != label["positive"]), label["positive"]]


def main(entrypoint: str, config: str) -> int:
    """Train; the reason of a refusal goes to stderr."""
    try:
        train_module(Path(entrypoint), yaml.safe_load(Path(config).read_text(encoding="utf-8")))
    except ZebraError as error:
        sys.stderr.write(f"{error.fix}\n{error.message}\n")  # the last line is what the run is remembered by
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[3]))
