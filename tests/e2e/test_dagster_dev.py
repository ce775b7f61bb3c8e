"""`dagster dev` with the repository's workspace.yaml and nothing else touched."""

import sys
import time

import pytest

from tests.defs.conftest import MODEL, Site, make_project
from zebra_assets.control.processes import Service, free_port
from zebra_assets.defs.initialise import initialise
from zebra_assets.settings import load_settings

pytestmark = [pytest.mark.e2e, pytest.mark.filterwarnings("ignore")]


def wait_for_version(site: Site, version: str, seconds: float, dagster: Service):
    end = time.monotonic() + seconds
    while time.monotonic() < end and dagster.alive:
        head = site.head
        if head is not None and head.version == version and head.state == "done":
            return head
        time.sleep(1)
    pytest.fail(f"v{version} was not promoted within {seconds:.0f} s:\n{dagster.log.read_text()[-4000:]}")


@pytest.mark.timeout(420)
def test_new_rows_at_the_source_end_in_a_new_prod_version_by_themselves(tmp_path):
    folder = make_project(tmp_path / "project")
    initialise(load_settings(folder))
    site = Site(folder, "")
    argv = [sys.executable, "-m", "dagster", "dev", "-w", "workspace.yaml", "-h", "127.0.0.1", "-p", str(free_port())]
    env = {**site.env, "ZEBRA_SENSOR_INTERVAL_S": "3"}
    with Service("dagster dev", argv, env=env, log=tmp_path / "dagster.log", cwd=folder) as dagster:
        first = wait_for_version(site, "1", 180, dagster)
        script = site.python(f"models/{MODEL}/source.py", "--fibre", "--project", str(folder))
        assert script.returncode == 0, script.stderr
        second = wait_for_version(site, "2", 180, dagster)
    assert first.manifest_id != second.manifest_id
    assert "dagster run" in second.reason
    assert site.parts.registry.alias(MODEL, "prod") == "2"
