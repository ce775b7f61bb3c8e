"""The spec that a name means: one model's or one dataset's, read when it is asked for. Imports little, for `ingest` begins here."""

from pathlib import Path
from typing import TYPE_CHECKING

from zebra_assets.contracts.dataset_spec import DatasetSpec, load_dataset_spec
from zebra_assets.contracts.names import check_name, safe_join
from zebra_assets.errors import NotFound, did_you_mean
from zebra_assets.parts import Parts

if TYPE_CHECKING:
    from zebra_assets.contracts.model_spec import ModelSpec


def model_spec(parts: Parts, model: str) -> "ModelSpec":
    """The spec of one model. Other models' mistakes do not matter here.

    Raises:
        UsageError: not a legal name.
        NotFound: no such model; the message knows the nearest.
        SpecInvalid: its model.yaml is wrong.
    """
    from zebra_assets.contracts.model_spec import load_model_spec

    check_name(model, "model")
    folder = safe_join(parts.settings.models_dir, model)
    if not (folder / "model.yaml").is_file():
        known = declared(parts.settings.models_dir, "model.yaml")
        raise NotFound(f"No model '{model}' in {parts.settings.models_dir}.{did_you_mean(model, known)}", fix="mlops list models")
    return load_model_spec(folder)


def dataset_spec(parts: Parts, dataset: str) -> DatasetSpec:
    """The recipe of one dataset; raises like `model_spec`."""
    check_name(dataset, "dataset")
    folder = safe_join(parts.settings.manifests_dir, dataset)
    if not (folder / "dataset.yaml").is_file():
        known = declared(parts.settings.manifests_dir, "dataset.yaml")
        raise NotFound(
            f"No dataset '{dataset}' in {parts.settings.manifests_dir}.{did_you_mean(dataset, known)}", fix="mlops list datasets"
        )
    return load_dataset_spec(folder)


def declared(folder: Path, file: str) -> list[str]:
    """The names of the folders in ``folder`` that hold ``file``, sorted."""
    return sorted(path.parent.name for path in folder.glob(f"*/{file}"))
