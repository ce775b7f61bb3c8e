"""Run a script: ``python models/<name>/train.py --config <path>``, standing in the model's folder."""

import sys
from pathlib import Path

from zebra_assets.contracts.model_spec import ModelSpec
from zebra_assets.training.inputs import Inputs


class Python:
    """Says how a Python script is started. Where, is the launcher's matter."""

    def command(self, spec: ModelSpec, folder: Path, inputs: Inputs) -> tuple[list[str], dict[str, str]]:
        """The argv and what its environment needs beyond the contract."""
        return [sys.executable, str(folder / spec.entrypoint), "--config", str(inputs.config)], {}


KIND = Python
