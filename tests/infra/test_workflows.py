"""GitHub workflows, hooks and the CI script: they call the same targets, and give nothing away."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.infra import REPO

WORKFLOWS = sorted((REPO / ".github" / "workflows").glob("*.yml"))
TARGETS = set(re.findall(r"^([a-z][a-z%-]*):", (REPO / "Makefile").read_text(), re.M))


def load(path: Path) -> dict[str, Any]:
    data: dict[str, Any] = yaml.load(path.read_text(), Loader=yaml.BaseLoader)
    return data


def steps(path: Path) -> list[dict[str, Any]]:
    return [step for job in load(path)["jobs"].values() for step in job["steps"]]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda p: p.name)
def test_actions_are_pinned_to_a_commit(path: Path) -> None:
    for step in steps(path):
        if "uses" in step:
            assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", step["uses"]), step["uses"]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda p: p.name)
def test_a_job_may_read_the_repository_and_nothing_else(path: Path) -> None:
    workflow = load(path)
    assert workflow["permissions"] == {}
    for name, job in workflow["jobs"].items():
        assert job["permissions"] == {"contents": "read"}, name
        assert int(job["timeout-minutes"]) <= 60, name


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda p: p.name)
def test_no_step_keeps_the_token_or_writes_outside_words_into_a_script(path: Path) -> None:
    for step in steps(path):
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] == "false"
        assert "${{" not in step.get("run", ""), "a value goes through env, where the shell quotes it"


def test_workflows_and_the_ci_script_call_targets_that_exist() -> None:
    called = set()
    for text in [(REPO / ".ci/run").read_text(), *(step.get("run", "") for path in WORKFLOWS for step in steps(path))]:
        called |= set(re.findall(r"^\s*make ([a-z-]+)", text, re.M))
    assert {"setup", "lint", "test"} <= called <= TARGETS


def test_the_ci_job_takes_the_closed_gate_for_a_failure() -> None:
    environment = load(REPO / ".github/workflows/ci.yml")["jobs"]["train"]["env"]
    profile = yaml.safe_load((REPO / f"infra/profiles/{environment['ZEBRA_PROFILE']}.yaml").read_text())
    assert profile["gate_closed_fails"] is True


def test_the_ci_script_is_sound_bash() -> None:
    subprocess.run(["bash", "-n", str(REPO / ".ci/run")], check=True)


def test_hooks_run_the_locked_tools() -> None:
    hooks = [hook for repo in load(REPO / ".pre-commit-config.yaml")["repos"] for hook in repo["hooks"]]
    for hook in hooks:
        assert hook["language"] == "pygrep" or hook["entry"].startswith(".venv/bin/"), hook["id"]


def test_every_room_with_slow_proofs_is_proved_once_a_week() -> None:
    slow = load(REPO / ".github/workflows/slow.yml")
    rooms = {path.relative_to(REPO / "tests").parts[0] for path in (REPO / "tests").rglob("test_*.py") if "mark.slow" in path.read_text()}
    assert sorted(rooms) == sorted(slow["jobs"]["prove"]["strategy"]["matrix"]["room"])
    assert slow["on"]["schedule"]
