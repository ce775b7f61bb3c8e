"""Run a notebook through Papermill, in a process of its own; the notebook stays untouched, its executed copy is kept.

Parameters arrive after the cell tagged `parameters`, or at the top where there is none: model_name, run_id, output_dir,
config_path, mlflow_tracking_uri, dataset_<role>_uri, and each hyper-parameter by its name.
"""

import json
import keyword
import sys
from pathlib import Path
from typing import Any

import yaml

from zebra_assets.contracts.model_spec import ModelSpec
from zebra_assets.training.inputs import Inputs

EXECUTED = "executed.ipynb"
_KERNEL = "zebra"


class Notebook:
    """Says how a notebook is started."""

    def command(self, spec: ModelSpec, folder: Path, inputs: Inputs) -> tuple[list[str], dict[str, str]]:
        """The argv, and an environment that makes the kernel this very interpreter, whatever kernels are installed."""
        jupyter = inputs.folder / "jupyter"
        kernel = jupyter / "kernels" / _KERNEL
        kernel.mkdir(parents=True, exist_ok=True)
        argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        (kernel / "kernel.json").write_text(json.dumps({"argv": argv, "display_name": _KERNEL, "language": "python"}))
        parameters = inputs.folder / "parameters.yaml"
        parameters.write_text(yaml.safe_dump(_parameters(inputs), sort_keys=False), encoding="utf-8")
        command = [sys.executable, "-m", "papermill", str(folder / spec.entrypoint), str(inputs.output / EXECUTED)]
        command += ["--log-output", "--no-progress-bar", "--kernel", _KERNEL, "--language", "python", "-f", str(parameters)]
        home = {"JUPYTER_PATH": jupyter, "JUPYTER_RUNTIME_DIR": jupyter / "runtime", "IPYTHONDIR": jupyter / "ipython"}
        return command, {name: str(path) for name, path in home.items()}


def _parameters(inputs: Inputs) -> dict[str, Any]:
    values = inputs.values
    # Only names that Python can assign; the others stay readable in the config file.
    own = {name: value for name, value in values["params"].items() if name.isidentifier() and not keyword.iskeyword(name)}
    given = {f"dataset_{role}_uri": one["uri"] for role, one in values["datasets"].items()}
    return own | {
        "model_name": values["model"],
        "run_id": values["run_id"],
        "output_dir": values["output_dir"],
        "config_path": str(inputs.config),
        "mlflow_tracking_uri": values["tracking"]["uri"],
        **given,
    }


KIND = Notebook
