"""One partition axis per dataset: its manifests. A model whose roles name several datasets has an axis of bundles.

One Dagster run allows one partitions definition, so a dataset and the models that read it share an axis; that is what
lets dataset -> ... -> promotion be one run (docs/adr/0001). Keys are manifest ids and nothing else.
"""

import dagster as dg

from zebra_assets.contracts.model_spec import ModelSpec
from zebra_assets.contracts.names import slug
from zebra_assets.parts import Parts
from zebra_assets.project import Project


def dataset_axis(dataset: str) -> dg.DynamicPartitionsDefinition:
    """The manifests of one dataset."""
    return dg.DynamicPartitionsDefinition(name=f"manifests_{slug(dataset)}")


def model_axis(spec: ModelSpec) -> dg.DynamicPartitionsDefinition:
    """The axis of what a model reads: its one dataset's, or its own bundles."""
    names = spec.datasets.names()
    return dataset_axis(names[0]) if len(names) == 1 else dg.DynamicPartitionsDefinition(name=f"bundles_{slug(spec.name)}")


def known_keys(project: Project, parts: Parts) -> dict[str, list[str]]:
    """Axis name to the keys that stand on disk, oldest first: what every instance must know."""
    keys: dict[str, list[str]] = {}
    for dataset in project.datasets:
        keys[str(dataset_axis(dataset).name)] = [m.id for m in reversed(parts.manifests.list(dataset))]
    for spec in project.models.values():
        if len(spec.datasets.names()) > 1:
            keys[str(model_axis(spec).name)] = [b.id for b in parts.manifests.bundles(spec.name)]
    return keys
