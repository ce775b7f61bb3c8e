"""Run a `module` model: a Python file with the functions `train`, `initialization` and `predict`, in a process of its own."""

import sys
from pathlib import Path

from zebra_assets.contracts.model_spec import ModelSpec
from zebra_assets.training.inputs import Inputs


class Module:
    """Says how a module's `train` is called; `training.module` calls it."""

    def command(self, spec: ModelSpec, folder: Path, inputs: Inputs) -> tuple[list[str], dict[str, str]]:
        """The argv and what its environment needs beyond the contract."""
        argv = [sys.executable, "-B", "-m", "zebra_assets.training.module", str(folder / spec.entrypoint), "--config", str(inputs.config)]
        return argv, {}


KIND = Module
