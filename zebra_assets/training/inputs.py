"""What a training process is given: one folder with a config file, an output folder, and the ZEBRA_* environment.

    <workdir>/<run id>/<try>/config.yaml   everything a script needs to know
                            /output/       where it writes: model, metrics.json, anything it wants to keep
                            /train.log     what it said

Each try has a folder of its own: a process that survived an earlier, killed try cannot write into this one.
"""

import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import yaml

from zebra_assets import telemetry
from zebra_assets.contracts.manifest import Manifest
from zebra_assets.contracts.model_spec import ModelSpec
from zebra_assets.contracts.names import safe_join
from zebra_assets.contracts.ports import ObjectStore
from zebra_assets.contracts.rows import files_of
from zebra_assets.contracts.run import Run
from zebra_assets.errors import DataInvalid, NotFound

SEED = 42


@dataclass(frozen=True)
class Inputs:
    """One try's folder and what is in it."""

    folder: Path
    config: Path
    output: Path
    values: dict[str, Any]
    env: dict[str, str]

    @property
    def log(self) -> Path:
        return self.folder / "train.log"


def write_inputs(
    spec: ModelSpec,
    run: Run,
    manifests: Mapping[str, Manifest],
    *,
    code: Path,
    store: ObjectStore,
    tracking_uri: str,
    workdir: Path,
) -> Inputs:
    """Fetch the splits and write the folder of a new try below ``workdir``; earlier tries' folders are removed.

    Args:
        code: the model's folder.

    Raises:
        NotFound: model.yaml names a requirements file that does not exist, or a role has no split to read.
        DataInvalid: the manifest has no label.
        Refused: a split's bytes differ from its digest.
    """
    base = safe_join(workdir, run.id)
    shutil.rmtree(base, ignore_errors=True)
    base.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=base, prefix="try-"))
    (folder / "output").mkdir()
    values = _values(spec, run, manifests, {role: _fetch(store, role, manifests[role], folder / "data") for role in spec.datasets.roles()})
    values["pip_requirements"] = _requirements(spec, code)
    values["output_dir"] = str(folder / "output")
    values["tracking"] = {
        "uri": without_credentials(tracking_uri),
        "experiment": spec.tracking.experiment_name,
        "run_id": run.mlflow_run_id,
    }
    config = folder / "config.yaml"
    config.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
    return Inputs(folder, config, folder / "output", values, _environment(values, config))


def _fetch(store: ObjectStore, role: str, manifest: Manifest, folder: Path) -> Path:
    """The local Parquet file of a role's split, or a folder of such files where it has several row blocks; bytes checked.

    Scripts get file:// URIs even when the store is S3; pandas, polars, DuckDB and Arrow read such a folder as one table.
    """
    files = files_of(manifest, role, store)
    if len(files) == 1:
        return files[0]
    (folder / role).mkdir(parents=True)
    for number, file in enumerate(files):
        (folder / role / f"part-{number:05d}.parquet").symlink_to(file)
    return folder / role


def _values(spec: ModelSpec, run: Run, manifests: Mapping[str, Manifest], files: Mapping[str, Path]) -> dict[str, Any]:
    schema = manifests["train"].columns
    if schema.label is None:
        raise DataInvalid(
            f"Manifest {manifests['train'].id} has no label, so there is nothing to learn.",
            fix=f"add `label` to manifests/{manifests['train'].dataset}/dataset.yaml",
        )
    return {
        "schema_version": 1,
        "model": spec.name,
        "run_id": run.id,
        "params": run.params,
        "seed": SEED,
        "label": schema.label.model_dump(),
        "key": list(schema.key),
        "features": schema.features(),
        "columns": {c.name: {"dtype": c.dtype, "nullable": c.nullable} for c in schema.columns},
        "datasets": {
            role: {
                "manifest": manifests[role].id,
                "uri": path.as_uri(),
                "path": str(path),
                "rows": manifests[role].stats.rows_by_split.get(role),
            }
            for role, path in files.items()
        },
    }


def _requirements(spec: ModelSpec, code: Path) -> list[str]:
    own = spec.env.pip_requirements
    if not isinstance(own, str):
        return own or []
    path = safe_join(code, own)
    if not path.is_file():
        raise NotFound(f"{path} does not exist, but model.yaml names it in env.pip_requirements.", fix=f"create {path}")
    return [line for raw in path.read_text().splitlines() if (line := raw.partition("#")[0].strip())]


def _environment(values: dict[str, Any], config: Path) -> dict[str, str]:
    """The contract's variables. What else of the machine a process may see is its launcher's decision."""
    tracking = values["tracking"]
    env = {
        "ZEBRA_MODEL_NAME": values["model"],
        "ZEBRA_RUN_ID": values["run_id"],
        "ZEBRA_OUTPUT_DIR": values["output_dir"],
        "ZEBRA_CONFIG": str(config),
        "MLFLOW_TRACKING_URI": tracking["uri"],
        "MLFLOW_EXPERIMENT_NAME": tracking["experiment"],
        "MLFLOW_RUN_ID": tracking["run_id"],
        **telemetry.OFF,
        "PYTHONHASHSEED": str(values["seed"]),
    }
    return env | {f"ZEBRA_DATASET_{role.upper()}_URI": one["uri"] for role, one in values["datasets"].items()}


def without_credentials(uri: str) -> str:
    """The URI without user and password: a training script never learns the registry's secrets."""
    parts = urlsplit(uri)
    return uri if "@" not in parts.netloc else urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
