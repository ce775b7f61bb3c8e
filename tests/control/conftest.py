"""A small real project, its parts, and candidates trained by the real station."""

import os
from pathlib import Path

import pytest

from zebra_assets.cli.init import write_project
from zebra_assets.control import operations
from zebra_assets.parts import Parts
from zebra_assets.settings import load_settings

NAME = "nuclei"


@pytest.fixture(autouse=True, scope="session")
def _no_settings_from_outside() -> None:
    for name in [n for n in os.environ if n.startswith("ZEBRA_") or n == "DAGSTER_HOME"]:
        os.environ.pop(name)


@pytest.fixture
def fresh(tmp_path: Path) -> Parts:
    """A project with nothing in it yet."""
    write_project(tmp_path / NAME, NAME, "tabular")
    return Parts(load_settings(tmp_path / NAME))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Parts:
    """A project with one manifest and one candidate, nothing judged."""
    folder = tmp_path_factory.mktemp("trained") / NAME
    write_project(folder, NAME, "tabular")
    parts = Parts(load_settings(folder))
    operations.ingest(parts, NAME)
    operations.train(parts, NAME)
    return parts
