"""`mlops demo`, whole, as a newcomer runs it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.e2e

REPO = Path(__file__).parents[2]


@pytest.mark.timeout(420)
def test_the_demo_closes_the_loop_by_its_sensors_and_drops_no_request(tmp_path):
    project = tmp_path / "clone"
    files = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=REPO, capture_output=True, text=True, check=True).stdout
    for name in files.splitlines():
        if name.split("/")[0] in {"models", "manifests", "dagster_home", "workspace.yaml", "infra"} and (REPO / name).exists():
            (project / name).parent.mkdir(parents=True, exist_ok=True)
            (project / name).write_bytes((REPO / name).read_bytes())
    done = subprocess.run(
        [sys.executable, "-m", "zebra_assets.cli.main", "--project", str(project), "--json", "demo"],
        capture_output=True, text=True, timeout=400, check=False, cwd=project,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    told = json.loads(done.stdout)
    assert len(set(told["manifests"])) == 2
    assert told["versions"] == ["1", "2"]
    assert told["sensor"] == "new_manifest_sensor"
    assert told["drift"]["state"] == "drifted"
    assert told["requests"] > 100
    assert told["failed"] == 0
