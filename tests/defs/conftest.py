"""A real project whose chain was walked once by the dagster command line, as CI would."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import pytest

from zebra_assets.contracts.promotion import Promotion
from zebra_assets.defs.build import build_defs
from zebra_assets.defs.resources import House
from zebra_assets.parts import Parts
from zebra_assets.settings import load_settings

REPO = Path(__file__).parents[2]
MODEL = "tabular-churn"


@dataclass
class Site:
    """A project folder, its manifest, and ways to run things on it."""

    folder: Path
    manifest_id: str

    @property
    def env(self) -> dict[str, str]:
        return {**os.environ, "ZEBRA_PROJECT_DIR": str(self.folder), "DAGSTER_HOME": str(self.folder / "dagster_home")}

    @property
    def parts(self) -> Parts:
        return Parts(load_settings(self.folder))

    @property
    def head(self) -> Promotion | None:
        return self.parts.ledger.head(MODEL, "prod")

    def instance(self) -> dg.DagsterInstance:
        return dg.DagsterInstance.from_config(str(self.folder / "dagster_home"))

    def house(self) -> House:
        return House(project_dir=str(self.folder))

    def python(self, *argv: str, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *argv], cwd=self.folder, env={**self.env, **env}, capture_output=True, text=True, timeout=180, check=False
        )

    def materialize(self, select: str, **env: str) -> subprocess.CompletedProcess[str]:
        argv = ["-m", "dagster", "asset", "materialize", "-m", "zebra_assets.defs.definitions", "--select", select]
        return self.python(*argv, "--partition", self.manifest_id, **env)

    def run(self, *steps: str, raise_on_error: bool = True) -> dg.ExecuteInProcessResult:
        """Run steps of the chain in this process, on the project's own instance."""
        defs = build_defs(project_dir=self.folder)
        job = defs.resolve_implicit_global_asset_job_def()
        keys = [dg.AssetKey([MODEL, step]) for step in steps]
        with self.instance() as instance:
            return job.execute_in_process(
                instance=instance, partition_key=self.manifest_id, asset_selection=keys, raise_on_error=raise_on_error
            )


def make_project(folder: Path) -> Path:
    """A copy of the example with its first rows at the source."""
    for part in (f"models/{MODEL}", f"manifests/{MODEL}", "dagster_home"):
        shutil.copytree(
            REPO / part, folder / part, ignore=shutil.ignore_patterns("__pycache__", "*.json", "history", "schedules", "storage")
        )
    shutil.copyfile(REPO / "workspace.yaml", folder / "workspace.yaml")
    subprocess.run([sys.executable, f"models/{MODEL}/source.py", "--project", str(folder)], cwd=folder, check=True, capture_output=True)
    return folder


def ingest(folder: Path) -> str:
    """Ingest the example's source; the manifest id."""
    from zebra_assets.datasets.ingest import ingest as station
    from zebra_assets.project import load_project

    parts = Parts(load_settings(folder))
    done = station(load_project(folder).dataset(MODEL), project=folder, store=parts.store, manifests=parts.manifests)
    return done.manifest.id


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """The example, ingested and initialised by the commands CI uses; copied, never worked in."""
    folder = make_project(tmp_path_factory.mktemp("template") / "project")
    site = Site(folder, ingest(folder))
    init = site.python("-m", "zebra_assets.defs.initialise")
    assert init.returncode == 0, init.stderr
    return site


@pytest.fixture(scope="session")
def walked(template: Site, tmp_path_factory: pytest.TempPathFactory) -> tuple[Site, subprocess.CompletedProcess[str]]:
    """A copy after `dagster asset materialize` of the whole group."""
    site = Site(shutil.copytree(template.folder, tmp_path_factory.mktemp("walked") / "project"), template.manifest_id)
    return site, site.materialize("group:tabular_churn")


@pytest.fixture
def site(template: Site, tmp_path: Path) -> Site:
    """A private copy in which nothing was trained yet."""
    return Site(shutil.copytree(template.folder, tmp_path / "site"), template.manifest_id)
