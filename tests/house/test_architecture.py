"""The walls stand, every door has a sign, and no room has become a hall."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.house import REPO

MODULES = sorted(path for package in ("zebra_assets", "zebra_serving") for path in (REPO / package).rglob("*.py") if path.stat().st_size)
MOST_LINES = 300
# A room asks for a second door at 250 lines; one that may be longer is named here with its reason.
LONG: dict[str, str] = {}


def name_of(path: Path) -> str:
    return path.relative_to(REPO).as_posix()


def where(pattern: str) -> list[str]:
    """The lines of the two packages that hold ``pattern``, as ``file: line``."""
    found = re.compile(pattern)
    return [f"{name_of(path)}: {line.strip()}" for path in MODULES for line in path.read_text().splitlines() if found.search(line)]


def test_imports_point_down_the_floors() -> None:
    done = subprocess.run([str(Path(sys.executable).with_name("lint-imports"))], cwd=REPO, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:]
    assert "0 broken" in done.stdout


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_every_door_has_a_sign(path: Path) -> None:
    sign = ast.get_docstring(ast.parse(path.read_text()))
    assert sign, "a module says what lives here, what does not, and who calls"
    assert len(sign) >= 25, sign


def test_no_room_has_become_a_hall() -> None:
    lines = {name_of(path): len(path.read_text().splitlines()) for path in MODULES}
    assert not {name: count for name, count in lines.items() if count > MOST_LINES and name not in LONG}
    assert not [name for name in LONG if lines.get(name, 0) <= MOST_LINES], "no longer long: take it off the list"


def test_nothing_is_left_for_later() -> None:
    assert not where(r"\bNotImplementedError|\bTODO\b|\bFIXME\b|\bXXX\b")


def test_an_alias_is_moved_by_one_line_of_the_whole_house() -> None:
    assert len(where(r"\.set_registered_model_alias\(")) == 1, "the promotion ledger decides, one adapter carries it out"


def test_tests_hear_what_is_set_for_tests_and_nothing_else_from_the_keyboard() -> None:
    code = "import os, tests.conftest; print(sorted(name for name in os.environ if name.startswith('ZEBRA_')))"
    keyboard = {**os.environ, "ZEBRA_TEST_OUTAGE_S": "1", "ZEBRA_STATE_URL": "sqlite:///mine.db"}
    done = subprocess.run([sys.executable, "-c", code], cwd=REPO, env=keyboard, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['ZEBRA_TEST_OUTAGE_S']"


def environment_reads(path: Path) -> list[str]:
    """Names of `ZEBRA_*` variables a module reads: ``os.environ["..."]`` or ``os.environ.get("...")``."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        key = None
        if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Load) and ast.unparse(node.value) == "os.environ":
            key = node.slice
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in {"os.environ.get", "os.getenv"}:
            key = node.args[0]
        if isinstance(key, ast.Constant) and str(key.value).startswith("ZEBRA_"):
            found.append(str(key.value))
    return found


def test_only_settings_reads_the_platforms_own_variables() -> None:
    # Child processes are given an environment elsewhere; what configures the platform is read in one place.
    readers = {name_of(path): names for path in MODULES if (names := environment_reads(path))}
    # The SDK runs inside train.py, where the runner's contract is the environment.
    assert set(readers) <= {"zebra_assets/settings.py", "zebra_assets/training/sdk.py"}, readers


def test_no_room_is_called_utils() -> None:
    assert not [name_of(path) for path in MODULES if path.stem in {"utils", "helpers", "common", "misc"}]
