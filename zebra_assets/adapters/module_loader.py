"""The loader that a `module` model's MLmodel names: `mlflow.pyfunc.load_model` calls `_load_pyfunc`, which runs the team's code.

Calls the module's `initialization` once and its `predict` for each table. Only ever in a process of its own, started by whoever knows
where the folder came from.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from zebra_assets.contracts.module_folder import CODE, read_module_folder
from zebra_assets.kinds import module_at

if TYPE_CHECKING:
    import pandas as pd


class Module:
    """A team's module, initialised.

    Args:
        artifacts: what its `train` left.
    """

    def __init__(self, entrypoint: Path, artifacts: Path) -> None:
        self._module = module_at(entrypoint)
        self._refusal: Any = getattr(self._module, "ModelException", ValueError)
        self._initial = self._module.initialization(str(artifacts), {})

    def predict(self, frame: "pd.DataFrame", params: dict[str, Any] | None = None) -> Any:
        """The module's answers to the rows of ``frame``: one label a row, or columns `prediction` and `score`.

        Raises:
            ValueError: the module refuses the rows, in its own words. Whatever else it raises passes.
        """
        rows = frame.astype(object).where(frame.notna(), None).to_dict("records")
        try:
            said = self._module.predict({"input": rows}, self._initial, {})
        except self._refusal as error:
            raise ValueError(str(error) or type(error).__name__) from error
        if isinstance(said, dict):
            return {name: said[name] for name in ("prediction", "score") if said.get(name) is not None}
        return said


def _load_pyfunc(path: str) -> Module:
    artifacts = Path(path)
    folder = artifacts.parent
    return Module(folder / CODE / read_module_folder(folder).entrypoint, artifacts)
