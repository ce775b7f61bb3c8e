"""What every test stands on: an environment without anybody's settings, and a small real project.

Fixtures of one room live in that room's conftest.
"""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from zebra_assets import telemetry

REPO = Path(__file__).parents[1]
EXAMPLE = "tabular-churn"

# At import, before any test module reads the environment: what the person at the keyboard has set must not decide a test,
# but for what is there to be set for tests.
for _name in [name for name in os.environ if name.startswith(("ZEBRA_", "MLFLOW_", "DAGSTER_", "AWS_"))]:
    if not _name.startswith("ZEBRA_TEST_"):
        del os.environ[_name]
telemetry.off()
# Of several test processes the workers ignore Ctrl-C, and what they start would inherit that and could not be stopped by it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def churn_rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the example's source drops before the fibre launch. Read only: copy it."""
    folder = tmp_path_factory.mktemp("churn-rows")
    script = REPO / "models" / EXAMPLE / "source.py"
    subprocess.run([sys.executable, str(script), "--project", str(folder)], check=True, capture_output=True)
    return folder


@pytest.fixture
def project(tmp_path: Path, churn_rows: Path) -> Path:
    """A fresh project: the shipped example, the instance file, the first rows at the source, and nothing that a run made."""
    folder = tmp_path / "project"
    for part in (f"models/{EXAMPLE}", f"manifests/{EXAMPLE}"):
        shutil.copytree(REPO / part, folder / part, ignore=shutil.ignore_patterns("__pycache__", "*.json"))
    for part in ("dagster_home/dagster.yaml", "workspace.yaml"):
        (folder / part).parent.mkdir(exist_ok=True)
        shutil.copyfile(REPO / part, folder / part)
    shutil.copytree(churn_rows, folder, dirs_exist_ok=True)
    return folder
