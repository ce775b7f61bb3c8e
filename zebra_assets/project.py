"""What a project declares: every `models/*/model.yaml` and `manifests/*/dataset.yaml`, read together.

All complaints are collected, so that one look at the message shows everything to mend. Called by `defs` and `control`.
"""

from dataclasses import dataclass
from pathlib import Path

from zebra_assets.contracts.dataset_spec import DatasetSpec, load_dataset_spec
from zebra_assets.contracts.model_spec import ModelSpec, load_model_spec
from zebra_assets.contracts.names import slug
from zebra_assets.errors import NotFound, SpecInvalid, ZebraError, did_you_mean


@dataclass(frozen=True)
class Project:
    """The specs of one project by name."""

    folder: Path
    models: dict[str, ModelSpec]
    datasets: dict[str, DatasetSpec]

    def model(self, name: str) -> ModelSpec:
        """Raises `NotFound` with the nearest known name."""
        if name not in self.models:
            raise NotFound(
                f"No model '{name}' in {self.folder / 'models'}.{did_you_mean(name, list(self.models))}", fix="mlops list models"
            )
        return self.models[name]

    def dataset(self, name: str) -> DatasetSpec:
        """Raises `NotFound` with the nearest known name."""
        if name not in self.datasets:
            raise NotFound(
                f"No dataset '{name}' in {self.folder / 'manifests'}.{did_you_mean(name, list(self.datasets))}", fix="mlops list datasets"
            )
        return self.datasets[name]


def load_project(folder: Path) -> Project:
    """Read every spec of the project in ``folder``.

    Raises:
        SpecInvalid: one or more specs are wrong, name a dataset that is not there, or differ only by '-' and '_'.
    """
    complaints: list[str] = []
    models: dict[str, ModelSpec] = {}
    datasets: dict[str, DatasetSpec] = {}
    for path in sorted((folder / "manifests").glob("*/dataset.yaml")):
        try:
            datasets[path.parent.name] = load_dataset_spec(path.parent)
        except ZebraError as error:
            complaints.append(error.message)
    for path in sorted((folder / "models").glob("*/model.yaml")):
        try:
            models[path.parent.name] = load_model_spec(path.parent)
        except ZebraError as error:
            complaints.append(error.message)
    broken = {p.parent.name for p in (folder / "manifests").glob("*/dataset.yaml")} - set(datasets)
    for name, spec in models.items():
        for role, dataset in spec.datasets.roles().items():
            if dataset not in datasets and dataset not in broken:
                complaints.append(
                    f"{folder / 'models' / name / 'model.yaml'}: datasets.{role} names '{dataset}', which has no recipe at "
                    f"{folder / 'manifests' / dataset / 'dataset.yaml'}.{did_you_mean(dataset, list(datasets))}"
                )
    for what, names in (("model", models), ("dataset", datasets)):
        complaints += _colliding(what, list(names))
    if complaints:
        raise SpecInvalid("\n".join(complaints), fix="mlops doctor")
    return Project(folder, models, datasets)


def _colliding(what: str, names: list[str]) -> list[str]:
    """Dagster spells 'a-b' and 'a_b' alike in the names of jobs and sensors."""
    seen: dict[str, str] = {}
    return [
        f"{what}s '{other}' and '{name}' differ only by '-' and '_'; rename one."
        for name in names
        if (other := seen.setdefault(slug(name), name)) != name
    ]
