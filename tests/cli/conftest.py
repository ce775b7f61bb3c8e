"""The CLI under test: in this process for speed, as a process of its own where that is the claim."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from zebra_assets.cli.init import write_project
from zebra_assets.cli.main import cli

NAME = "nuclei"


@dataclass(frozen=True)
class Said:
    """What one command answered."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one document on stdout."""
        return json.loads(self.out)


Mlops = Callable[..., Said]


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [n for n in os.environ if n.startswith("ZEBRA_") or n == "DAGSTER_HOME"]:
        monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def mlops() -> Mlops:
    """Call `mlops` in this process: ``mlops("list", "models", project=folder)``."""

    def call(*words: str, project: Path | None = None) -> Said:
        before = ["--project", str(project)] if project else []
        result = CliRunner().invoke(cli, [*before, *words])
        return Said(result.exit_code, result.stdout, result.stderr)

    return call


@pytest.fixture(scope="session")
def process() -> Mlops:
    """Call `mlops` as a process of its own."""

    def call(*words: str, project: Path | None = None, **env: str) -> Said:
        argv = [sys.executable, "-m", "zebra_assets.cli.main", *words]
        done = subprocess.run(argv, cwd=project, env={**os.environ, **env}, capture_output=True, text=True, timeout=120, check=False)
        return Said(done.returncode, done.stdout, done.stderr)

    return call


@pytest.fixture
def fresh(tmp_path: Path) -> Path:
    """A new project as `mlops init` writes it, nothing ingested."""
    write_project(tmp_path / NAME, NAME, "tabular")
    return tmp_path / NAME


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database with its tables made: 5 s of migrations, paid once."""
    from zebra_assets.adapters.mlflow import prepare

    folder = tmp_path_factory.mktemp("mlflow")
    prepare(f"sqlite:///{folder / 'mlflow.db'}", folder.as_uri())
    return folder / "mlflow.db"


@pytest.fixture
def ready(fresh: Path, prepared: Path) -> Path:
    """A new project whose MLflow store is made already."""
    (fresh / ".zebraops").mkdir()
    shutil.copyfile(prepared, fresh / ".zebraops" / "mlflow.db")
    return fresh


@pytest.fixture(scope="session")
def walked(tmp_path_factory: pytest.TempPathFactory, mlops: Mlops, prepared: Path) -> Path:
    """A project whose loop was walked up to prod, by commands alone. Tests add versions to it: count on none but the first."""
    return walk(tmp_path_factory.mktemp("walked") / NAME, mlops, prepared)


def walk(folder: Path, mlops: Mlops, prepared: Path) -> Path:
    """Walk the loop of a new project up to prod."""
    write_project(folder, NAME, "tabular")
    (folder / ".zebraops").mkdir()
    shutil.copyfile(prepared, folder / ".zebraops" / "mlflow.db")
    for words in (("ingest", NAME), ("train", NAME), ("eval", NAME), ("promote", NAME)):
        said = mlops(*words, project=folder)
        assert said.code == 0, said.err
    return folder


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below ``folder`` with its bytes, to see that nothing changed."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
