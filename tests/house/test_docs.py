"""The documentation says what the code does: generated pages are fresh, links lead somewhere, marked blocks run."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.house import REPO
from tests.house.blocks import Block, blocks

PAGES = sorted([*REPO.glob("*.md"), *(REPO / "docs").rglob("*.md")])
RUN = [page for page in PAGES if any(block.how == "run" for block in blocks(page, REPO))]
EXAMPLES = [block for page in PAGES for block in blocks(page, REPO) if block.how.endswith(".yaml")]


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_generate", REPO / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_generated_pages_say_what_the_code_says(generator: ModuleType) -> None:
    stale = [
        path.relative_to(REPO).as_posix()
        for path, text in generator.pages().items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    ]
    assert not stale, "make docs"


def test_nothing_else_lies_among_the_generated_pages(generator: ModuleType) -> None:
    made = set(generator.pages())
    assert {*(REPO / "docs/reference").iterdir(), *(REPO / "docs/schemas").iterdir()} == made


@pytest.mark.parametrize(("noun", "path"), [("model", "models/*/model.yaml"), ("dataset", "manifests/*/dataset.yaml")])
def test_the_published_schemas_accept_the_shipped_specs(noun: str, path: str) -> None:
    import jsonschema
    import yaml

    schema = json.loads((REPO / f"docs/schemas/{noun}.schema.json").read_text())
    shipped = sorted(REPO.glob(path))
    assert shipped
    for spec in shipped:
        data = yaml.safe_load(spec.read_text())
        jsonschema.validate(data, schema)
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**data, "no_such_field": 1}, schema)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(REPO).as_posix())
def test_every_link_into_the_repository_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if not re.match(r"[a-z]+:|#", target):
            assert (page.parent / target.partition("#")[0]).exists(), target


def test_every_decision_is_listed_and_has_the_four_parts() -> None:
    index = (REPO / "docs/adr/README.md").read_text()
    numbers = []
    for page in sorted((REPO / "docs/adr").glob("0*.md")):
        text = page.read_text()
        numbers.append(page.name[:4])
        assert text.startswith(f"# {page.name[:4]}: "), page.name
        assert all(f"## {part}" in text for part in ("Context", "Decision", "Consequences")), page.name
        assert f"]({page.name})" in index, f"{page.name} is not in docs/adr/README.md"
    assert numbers == [f"{n:04}" for n in range(1, len(numbers) + 1)]


@pytest.mark.parametrize("page", RUN, ids=lambda p: p.relative_to(REPO).as_posix())
def test_marked_blocks_of_a_page_do_what_they_show(page: Path, project: Path) -> None:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "HOME": str(project), "ZEBRA_ACTOR": "reader"}
    for block in blocks(page, REPO):
        if block.how == "run":
            done = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", block.code],
                cwd=project,
                env=environment,
                capture_output=True,
                text=True,
                timeout=240,
                check=False,
            )
            assert done.returncode == block.exit_code, f"{block}\n{block.code}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"


@pytest.mark.parametrize("block", EXAMPLES, ids=str)
def test_specs_shown_in_the_documentation_are_valid(block: Block, tmp_path: Path) -> None:
    import yaml

    from zebra_assets.contracts.dataset_spec import load_dataset_spec
    from zebra_assets.contracts.model_spec import load_model_spec

    folder = tmp_path / yaml.safe_load(block.code)["name"]
    folder.mkdir()
    (folder / block.how).write_text(block.code)
    (load_model_spec if block.how == "model.yaml" else load_dataset_spec)(folder)
