"""requirements.lock and the images' subsets of it: pinned, hashed, host-free, and telling the same story."""

import re
import tomllib
from pathlib import Path

import pytest

from tests.infra import REPO

MAIN = REPO / "requirements.lock"
IMAGES = [REPO / "infra/docker/serving.lock", REPO / "infra/docker/platform.lock"]
PIN = re.compile(r"^([a-z0-9][a-z0-9._-]*)(?:\[[\w,-]+\])?==(\S+?)(?: ;.*?)? \\$", re.M)
# Known exploits or broken combinations below these.
FLOORS = {"mlflow": "3.17.2", "pyarrow": "14.0.1", "skops": "0.13", "starlette": "0.49.1"}


def pins(path: Path) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for name, version in PIN.findall(path.read_text()):
        found.setdefault(name, set()).add(version)
    return found


@pytest.mark.parametrize("path", [MAIN, *IMAGES], ids=lambda p: p.name)
def test_a_lock_names_no_host(path: Path) -> None:
    assert not re.search(r"://|--(extra-)?index-url|--find-links|@ file", path.read_text())


@pytest.mark.parametrize("path", [MAIN, *IMAGES], ids=lambda p: p.name)
def test_every_line_of_a_lock_is_a_pin_with_hashes(path: Path) -> None:
    text = "\n".join(line for line in path.read_text().splitlines() if not line.lstrip().startswith("#"))
    for block in re.split(r"\n(?=\S)", text.strip()):
        assert PIN.match(block), block[:80]
        assert "--hash=sha256:" in block, block[:80]


@pytest.mark.parametrize("path", IMAGES, ids=lambda p: p.name)
def test_an_image_gets_the_versions_that_are_tested(path: Path) -> None:
    tested = pins(MAIN)
    other = {name: versions for name, versions in pins(path).items() if not versions <= tested.get(name, set())}
    assert not other, f"make lock; {path.name} has {other}"


def test_the_server_image_holds_no_corridor_and_no_station() -> None:
    assert not {"dagster", "evidently", "papermill", "mlflow"} & set(pins(IMAGES[0]))
    assert {"fastapi", "uvicorn", "mlflow-skinny", "scikit-learn", "psycopg2-binary", "lightshap"} <= set(pins(IMAGES[0]))


def test_every_dependency_the_project_declares_is_in_the_lock() -> None:
    project = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]
    declared = [*project["dependencies"], *(line for extra in project["optional-dependencies"].values() for line in extra)]
    names = {re.split(r"[\[<>=~!; ]", line, maxsplit=1)[0].lower() for line in declared} - {project["name"]}
    assert not names - set(pins(MAIN)), "make lock"


@pytest.mark.parametrize(("name", "floor"), FLOORS.items())
def test_no_pin_is_older_than_its_floor(name: str, floor: str) -> None:
    from packaging.version import Version

    assert all(Version(version) >= Version(floor) for version in pins(MAIN)[name])
