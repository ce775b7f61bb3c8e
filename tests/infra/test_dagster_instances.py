"""The SQLite instance and its Postgres/S3 twin: both are read by Dagster itself, and differ only where they must."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.infra import REPO

LOCAL = REPO / "dagster_home" / "dagster.yaml"
SHARED = REPO / "infra" / "dagster" / "dagster.yaml"


def test_the_two_instances_differ_only_in_storage_and_compute_logs() -> None:
    local, shared = (yaml.safe_load(path.read_text()) for path in (LOCAL, SHARED))
    assert {key: shared.pop(key) for key in ("storage", "compute_logs")}
    assert shared == local


def test_dagster_accepts_the_sqlite_instance_and_runs_two_at_a_time(tmp_path: Path) -> None:
    import dagster as dg

    shutil.copyfile(LOCAL, tmp_path / "dagster.yaml")
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        runs = instance.get_concurrency_config().run_queue_config
        assert runs is not None
        assert runs.max_concurrent_runs == 2
        assert [limit["key"] for limit in runs.tag_concurrency_limits] == ["zebra/model"]
        assert instance.run_retries_enabled
        assert not instance.telemetry_enabled


def test_dagster_accepts_the_shared_instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dagster._core.instance.config import dagster_instance_config

    for name, value in _variables(yaml.safe_load(SHARED.read_text())).items():
        monkeypatch.setenv(name, value)
    shutil.copyfile(SHARED, tmp_path / "dagster.yaml")
    config, _ = dagster_instance_config(str(tmp_path))
    assert config["storage"]["postgres"]["postgres_url"] == {"env": "ZEBRA_DAGSTER_PG_URL"}


def test_the_s3_log_manager_takes_what_the_shared_instance_gives_it() -> None:
    from dagster._config import process_config, resolve_to_config_type
    from dagster_aws.s3.compute_log_manager import S3ComputeLogManager

    said = yaml.safe_load(SHARED.read_text())["compute_logs"]
    assert said["class"] == S3ComputeLogManager.__name__
    given = {key: "x" if isinstance(value, dict) else value for key, value in said["config"].items()}
    result = process_config(resolve_to_config_type(S3ComputeLogManager.config_type()), given)
    assert result.success, result.errors


def test_dg_check_defs_accepts_the_shipped_project(tmp_path: Path) -> None:
    shutil.copyfile(LOCAL, tmp_path / "dagster.yaml")
    environment = {**os.environ, "DAGSTER_HOME": str(tmp_path)}
    words = [str(Path(sys.executable).with_name("dg")), "check", "defs"]
    done = subprocess.run(words, cwd=REPO, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "All definitions loaded successfully" in done.stdout + done.stderr


def test_every_variable_of_the_shared_instance_is_set_in_compose() -> None:
    # An unset one aborts every command that opens the instance.
    compose = yaml.safe_load((REPO / "docker-compose.yml").read_text())
    for name in ("init", "code-location", "dagster", "daemon"):
        assert set(_variables(yaml.safe_load(SHARED.read_text()))) <= set(compose["services"][name]["environment"]), name


def test_both_workspaces_name_the_same_code_location() -> None:
    local = yaml.safe_load((REPO / "workspace.yaml").read_text())["load_from"][0]["python_module"]
    shared = yaml.safe_load((REPO / "infra/dagster/workspace.yaml").read_text())["load_from"][0]["grpc_server"]
    assert local["location_name"] == shared["location_name"] == "zebra"
    compose = yaml.safe_load((REPO / "docker-compose.yml").read_text())["services"]
    assert {local["module_name"], str(shared["port"])} <= set(compose[shared["host"]]["command"])


def _variables(node: Any) -> dict[str, str]:
    """Every `{env: NAME}` below a node."""
    if isinstance(node, dict):
        if set(node) == {"env"}:
            return {node["env"]: "postgresql+psycopg2://u:p@127.0.0.1/d"}
        return {name: value for child in node.values() for name, value in _variables(child).items()}
    return {}
