"""What a training process left behind: its model as a checked folder, its metrics, the files worth keeping.

A script may know nothing of ZebraOps. Its model is looked for as `model/`, `model.skops`, `model.joblib|pkl|pickle` in the
output folder, then in its MLflow run. Pickles are never opened here: a process of their own converts them to skops.
"""

import json
import math
import shutil
import sys
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from zebra_assets.contracts.model_folder import read_model_folder
from zebra_assets.contracts.module_folder import read_module_folder
from zebra_assets.contracts.ports import Launcher, Tracker
from zebra_assets.contracts.yaml_source import load
from zebra_assets.errors import NotFound, Refused, SpecInvalid, TrainingFailed
from zebra_assets.training.inputs import Inputs

_PICKLED = ("model.skops", "model.joblib", "model.pkl", "model.pickle")
_CONVERT_S = 300
_LOG_BYTES = 1024 * 1024


def collect_model(
    inputs: Inputs, tracker: Tracker, mlflow_run_id: str, since: datetime, launcher: Launcher, log: Callable[[str], Any]
) -> Path:
    """The run's model as a folder that passed `read_model_folder`.

    Raises:
        TrainingFailed: there is none, or it cannot be converted.
        Refused: the folder holds something that could run code.
    """
    found = _find(inputs.output) or tracker.logged_model(mlflow_run_id, since, inputs.folder / "logged")
    if found is None:
        raise TrainingFailed(
            f"The script ended well but left no model in {inputs.output}.",
            fix='`sdk.current().save_model(model)`, or joblib.dump(model, Path(os.environ["ZEBRA_OUTPUT_DIR"]) / "model.joblib")',
        )
    target = inputs.folder / "model"
    if _is_ours(found):
        found.rename(target)
    else:
        _convert(inputs, found, target, launcher, log)
    read_model_folder(target)
    return target


def collect_module(inputs: Inputs, code: str) -> Path:
    """The folder that `training.module` left, with the very code that the run names.

    Args:
        code: digest of the model folder's code when the run was planned.

    Raises:
        Refused: the folder is not as that process writes it, or holds other code.
    """
    target = inputs.folder / "model"
    (inputs.output / "model").rename(target)
    if read_module_folder(target).code_digest != code:
        raise Refused("The code of the model's folder changed while it was trained, so nothing was registered.", fix="mlops train it again")
    return target


def _find(output: Path) -> Path | None:
    if (output / "model" / "MLmodel").is_file():
        return output / "model"
    return next((output / name for name in _PICKLED if (output / name).is_file()), None)


def _is_ours(found: Path) -> bool:
    """Whether the folder came from the sdk and needs no conversion; `read_model_folder` checks the claim."""
    try:
        return found.is_dir() and "zebra" in (load(found / "MLmodel")[0]["metadata"] or {})
    except (NotFound, SpecInvalid, KeyError, TypeError):
        return False


def _convert(inputs: Inputs, found: Path, target: Path, launcher: Launcher, log: Callable[[str], Any]) -> None:
    log(f"converting {found.name} to skops")
    argv = [sys.executable, "-m", "zebra_assets.training.package", str(inputs.config), str(found), str(target)]
    code, tail = launcher.run(argv, env=inputs.env, cwd=inputs.folder, timeout_s=_CONVERT_S, log=log)
    if code:
        why = next((line.strip() for line in reversed(tail) if line.strip()), "no reason was given")
        raise TrainingFailed(
            f"{found.name} cannot be made a servable model: {why}",
            fix="save a scikit-learn pipeline fitted on the dataset's columns, best with `sdk.current().save_model(model)`",
        )


def collect_metrics(inputs: Inputs, logged: Mapping[str, float]) -> dict[str, float]:
    """Metrics the script logged to MLflow, overlaid with those of metrics.json; only finite ones.

    Raises:
        TrainingFailed: metrics.json is not a mapping of names to numbers.
    """
    own = _mapping(inputs.output / "metrics.json")
    if strange := [name for name, value in own.items() if isinstance(value, bool) or not isinstance(value, int | float)]:
        raise TrainingFailed(f"metrics.json: {', '.join(strange)} is not a number.", fix='write {"roc_auc": 0.84}')
    return {name: float(value) for name, value in {**logged, **own}.items() if math.isfinite(value)}


def collect_params(inputs: Inputs) -> dict[str, Any]:
    """Parameters the script logged through the sdk. Raises `TrainingFailed` when params.json is broken."""
    return _mapping(inputs.output / "params.json")


def _mapping(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text())
    except ValueError as error:
        raise TrainingFailed(f"{path.name} is not JSON: {error}.", fix=f"see {path}") from error
    if not isinstance(found, dict):
        raise TrainingFailed(f"{path.name} is not a mapping of names to values.", fix=f"see {path}")
    return found


def stage_artifacts(inputs: Inputs, code: Path, environment: Mapping[str, Any]) -> Path:
    """Gather what is kept with the run: config, spec, log, environment, and the output folder's files but for models."""
    stage = inputs.folder / "artifacts"
    shutil.rmtree(stage, ignore_errors=True)
    stage.mkdir()
    shutil.copyfile(inputs.config, stage / "config.yaml")
    if (code / "model.yaml").is_file():
        shutil.copyfile(code / "model.yaml", stage / "model.yaml")
    if inputs.log.is_file():
        with inputs.log.open("rb") as log:
            log.seek(max(0, inputs.log.stat().st_size - _LOG_BYTES))
            (stage / "train.log").write_bytes(log.read())
    (stage / "environment.json").write_text(json.dumps(environment, indent=2))
    (stage / "requirements.txt").write_text("\n".join(environment["distributions"]) + "\n")
    for path in sorted(inputs.output.rglob("*")):
        place = path.relative_to(inputs.output)
        # A link could carry any file of this machine into the artifact store.
        if path.is_symlink() or not path.is_file() or place.parts[0] in {"model", *_PICKLED}:
            continue
        target = stage / "output" / place
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    return stage
