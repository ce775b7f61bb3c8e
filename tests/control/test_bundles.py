"""A model whose roles name several datasets is keyed by a bundle of their newest manifests."""

import shutil
from pathlib import Path

import pytest

from tests.control.conftest import NAME
from zebra_assets import loop
from zebra_assets.control import operations, queries
from zebra_assets.errors import UsageError
from zebra_assets.parts import Parts


@pytest.fixture
def two(fresh: Parts) -> Parts:
    """`nuclei` trains on one dataset and is validated and tested on another."""
    root = fresh.settings.project_dir
    shutil.copytree(root / "manifests" / NAME, root / "manifests" / "later")
    recipe = root / "manifests" / "later" / "dataset.yaml"
    # The same source, divided by another salt: other rows in each split, so another manifest.
    text = recipe.read_text().replace(f"name: {NAME}\n", "name: later\n").replace("strategy: hash", "strategy: hash\n  salt: later")
    recipe.write_text(text)
    spec = root / "models" / NAME / "model.yaml"
    spec.write_text(spec.read_text().replace(f"valid: {NAME}, test: {NAME}", "valid: later, test: later"))
    operations.ingest(fresh, NAME)
    operations.ingest(fresh, "later")
    return fresh


def test_the_newest_key_is_a_bundle_that_resolves_to_each_role_s_manifest(two: Parts) -> None:
    spec = queries.model_spec(two, NAME)
    key = loop.newest_key(two, spec)
    assert key == loop.newest_key(two, spec)
    assert [b.id for b in two.manifests.bundles(NAME)] == [key]
    assert {role: m.dataset for role, m in loop.resolve(two, spec, key).items()} == {"train": NAME, "valid": "later", "test": "later"}


def test_a_bundled_model_trains_is_judged_on_its_test_dataset_and_promoted(two: Parts) -> None:
    done = operations.train(two, NAME)
    assert done.run.manifest_id == loop.newest_key(two, queries.model_spec(two, NAME))
    report, decision = operations.evaluate(two, NAME)
    assert report.manifest_id == done.run.roles["test"] != done.run.roles["train"]
    assert decision.allowed, decision.reasons
    moved, _ = operations.promote(two, NAME)
    assert moved.manifest_id == done.run.manifest_id
    assert operations.monitor(two, NAME).manifest_id == done.run.manifest_id


def test_a_manifest_of_another_dataset_is_refused(fresh: Parts) -> None:
    root = fresh.settings.project_dir
    shutil.copytree(root / "manifests" / NAME, root / "manifests" / "later")
    recipe: Path = root / "manifests" / "later" / "dataset.yaml"
    recipe.write_text(recipe.read_text().replace(f"name: {NAME}\n", "name: later\n"))
    other = operations.ingest(fresh, "later").manifest
    with pytest.raises(UsageError, match="belongs to dataset 'later'") as caught:
        operations.train(fresh, NAME, other.id)
    assert caught.value.fix == f"mlops ingest {NAME}"
