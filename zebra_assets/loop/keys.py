"""From a partition key to the manifests a model reads, and back: which data is newest, which rows are held out."""

from collections.abc import Mapping
from typing import Any

from zebra_assets.contracts.manifest import Bundle, Manifest
from zebra_assets.contracts.model_spec import ModelSpec
from zebra_assets.contracts.names import check_manifest_id
from zebra_assets.errors import NotFound, UsageError, did_you_mean, edit
from zebra_assets.parts import Parts


def newest_key(parts: Parts, spec: ModelSpec) -> str:
    """The partition key of the newest data a model can be trained on; commits the bundle where roles name several datasets.

    Raises:
        NotFound: a dataset has no recipe, or no manifest yet.
    """
    newest: dict[str, str] = {}
    for dataset in spec.datasets.names():
        found = parts.manifests.list(dataset)
        if not found:
            _has_recipe(parts, spec, dataset)
            raise NotFound(f"Model '{spec.name}' reads dataset '{dataset}', which has no manifest yet.", fix=f"mlops ingest {dataset}")
        newest[dataset] = found[0].id
    if len(newest) == 1:
        return next(iter(newest.values()))
    bundle = Bundle(model=spec.name, roles={role: newest[dataset] for role, dataset in spec.datasets.roles().items()})
    parts.manifests.commit_bundle(bundle)
    return bundle.id


def _has_recipe(parts: Parts, spec: ModelSpec, dataset: str) -> None:
    settings = parts.settings
    known = [path.parent.name for path in settings.manifests_dir.glob("*/dataset.yaml")]
    if dataset not in known:
        raise NotFound(
            f"Model '{spec.name}' reads dataset '{dataset}', which has no recipe at {settings.manifests_dir / dataset / 'dataset.yaml'}."
            f"{did_you_mean(dataset, known)}",
            fix=edit(settings.models_dir / spec.name / "model.yaml"),
        )


def resolve(parts: Parts, spec: ModelSpec, key: str) -> dict[str, Manifest]:
    """Role name to manifest, for a partition key: a manifest id, or a bundle id where roles name several datasets.

    Raises:
        NotFound: no such manifest or bundle.
        UsageError: the key belongs to a dataset or model that this model does not read.
    """
    check_manifest_id(key)
    wanted = spec.datasets.roles()
    ids = dict.fromkeys(wanted, key) if len(spec.datasets.names()) == 1 else parts.manifests.bundle(key).roles
    if set(ids) != set(wanted):
        raise UsageError(f"Bundle {key} names the roles {', '.join(ids)}; '{spec.name}' has {', '.join(wanted)}.", fix=_ingest(spec))
    loaded = {one: parts.manifests.get(one) for one in dict.fromkeys(ids.values())}
    found = {role: loaded[ids[role]] for role in wanted}
    for role, manifest in found.items():
        if manifest.dataset != wanted[role]:
            raise UsageError(
                f"Manifest {manifest.id} belongs to dataset '{manifest.dataset}', but {role} of '{spec.name}' is '{wanted[role]}'.",
                fix=_ingest(spec),
            )
    return found


def _ingest(spec: ModelSpec) -> str:
    return " && ".join(f"mlops ingest {dataset}" for dataset in spec.datasets.names())


def held_out(roles: Mapping[str, Any]) -> str:
    """The role whose rows a candidate is judged on: test, or valid for a model without a test role."""
    return "test" if "test" in roles else "valid"
