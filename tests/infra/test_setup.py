"""`make setup`: what it says to an unfit Python, what it refuses, and that it costs nothing when there is nothing to do."""

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.infra import REPO

BOOTSTRAP = REPO / "infra" / "bootstrap.py"
# What an editable install of a project without dependencies needs.
NEEDED = ("uv", "hatchling", "packaging", "pathspec", "pluggy", "tomlkit", "trove-classifiers")
PYPROJECT = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
[project]
name = "small"
version = "1"
[project.scripts]
mlops = "small:main"
[tool.hatch.build]
dev-mode-dirs = ["."]
[tool.hatch.build.targets.wheel]
packages = ["small"]
"""


def blocks() -> dict[str, str]:
    found = re.findall(r"^(([a-z0-9._-]+)==.*?)(?=^\S|\Z)", (REPO / "requirements.lock").read_text(), re.M | re.S)
    return {name: text for text, name in found}


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A project with a lock of seven packages."""
    lock = blocks()
    (tmp_path / "infra").mkdir()
    (tmp_path / "small").mkdir()
    (tmp_path / "small/__init__.py").write_text("def main():\n    print('small')\n")
    shutil.copyfile(BOOTSTRAP, tmp_path / "infra/bootstrap.py")
    (tmp_path / "pyproject.toml").write_text(PYPROJECT)
    (tmp_path / "requirements.lock").write_text("".join(lock[name] for name in NEEDED))
    return tmp_path


def setup(project: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "infra/bootstrap.py"], cwd=project, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("version", [(3, 9, 18), (3, 10, 1), (3, 14, 0)])
def test_an_unfit_python_is_told_which_one_is_needed(version: tuple[int, ...]) -> None:
    code = f"import runpy, sys; sys.version_info = {(*version, 'final', 0)}; runpy.run_path({str(BOOTSTRAP)!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "needs Python 3.11" in done.stderr
    assert "fix: make setup PYTHON=" in done.stderr


def test_make_without_a_python_says_what_to_do(tmp_path: Path) -> None:
    done = subprocess.run(["make", "setup", "PYTHON="], cwd=REPO, capture_output=True, text=True, check=False)
    assert done.returncode
    assert "fix: make setup PYTHON=" in done.stderr


@pytest.mark.skipif(not (REPO / ".venv/zebra-setup").exists(), reason="this environment was not made by make setup")
def test_setup_of_a_current_environment_costs_less_than_a_second() -> None:
    started = time.perf_counter()
    done = setup(REPO)
    assert (done.returncode, done.stdout) == (0, "")
    assert time.perf_counter() - started < 1


@pytest.mark.slow
def test_two_setups_at_once_with_misleading_variables_make_one_environment(small: Path) -> None:
    misleading = {"VIRTUAL_ENV": "/nowhere", "PYTHONPATH": "/nowhere", "PIP_TARGET": "/nowhere", "UV_SYSTEM_PYTHON": "1"}
    words = [sys.executable, "infra/bootstrap.py"]
    both = [subprocess.Popen(words, cwd=small, env={**os.environ, **misleading}, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate(timeout=280)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sum("creating .venv" in text for text in said) == 1
    assert subprocess.check_output([small / ".venv/bin/mlops"], text=True) == "small\n"
    assert setup(small).stdout == "", "current"


@pytest.mark.slow
def test_without_uv_pip_installs_by_the_same_lock(small: Path) -> None:
    done = setup(small, UV_OFFLINE="1", UV_CACHE_DIR=str(small / "empty-cache"))
    assert "the same with pip" in done.stdout
    assert done.returncode == 0, done.stderr
    assert subprocess.check_output([small / ".venv/bin/mlops"], text=True) == "small\n"


@pytest.mark.slow
def test_other_bytes_than_the_lock_names_are_refused_and_the_environment_is_not_called_current(small: Path) -> None:
    lock = small / "requirements.lock"
    lock.write_text(re.sub(r"(sha256:)[0-9a-f]{4}", r"\g<1>0000", lock.read_text()))
    done = setup(small)
    assert done.returncode == 1
    assert "fix:" in done.stderr
    assert not (small / ".venv/zebra-setup").exists()
