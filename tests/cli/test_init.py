"""A new project is complete, valid, and written whole or not at all."""

import csv
import json
from pathlib import Path

import pytest

from tests.cli.conftest import Mlops, tree
from zebra_assets.cli.init import env_example, write_project
from zebra_assets.project import load_project
from zebra_assets.settings import Settings, load_settings

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(("template", "entrypoint"), [("tabular", "train.py"), ("notebook", "train.ipynb")])
def test_a_new_project_passes_its_own_contracts(tmp_path: Path, mlops: Mlops, template: str, entrypoint: str) -> None:
    said = mlops("init", "churn", "--template", template, "--json", project=tmp_path)
    assert said.code == 0, said.err
    folder = tmp_path / "churn"
    assert said.json["project"] == str(folder)
    assert (
        set(said.json["files"])
        == set(tree(folder))
        >= {
            ".env.example",
            ".gitignore",
            "dagster_home/dagster.yaml",
            "manifests/churn/dataset.yaml",
            "models/churn/model.yaml",
            f"models/churn/{entrypoint}",
            "workspace.yaml",
        }
    )
    project = load_project(folder)
    assert project.model("churn").entrypoint == entrypoint
    assert project.model("churn").datasets.names() == ["churn"] == list(project.datasets)
    source = (folder / "models" / "churn" / entrypoint).read_text()
    if template == "notebook":
        assert all(cell["source"] for cell in json.loads(source)["cells"])
    else:
        compile(source, entrypoint, "exec")


def test_the_rows_of_a_new_project_are_real_and_fit_its_recipe(fresh: Path) -> None:
    with (fresh / "data" / "nuclei.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    recipe = load_project(fresh).dataset("nuclei")
    assert list(rows[0]) == list(recipe.columns)
    counts = {value: sum(r["diagnosis"] == value for r in rows) for value in ("malignant", "benign")}
    assert counts == {"malignant": 212, "benign": 357}  # the published counts of the set
    assert len({r["sample"] for r in rows}) == len(rows) == 569


def test_a_folder_with_files_in_it_is_left_alone(tmp_path: Path, mlops: Mlops) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("three years")
    before = tree(tmp_path)
    said = mlops("init", "mine", project=tmp_path)
    assert said.code == 8 and "fix:" in said.err
    assert tree(tmp_path) == before


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "workspace.yaml" in write_project(tmp_path / "empty", "empty", "tabular")
    assert [p.name for p in tmp_path.iterdir()] == ["empty"]


def test_env_example_mirrors_every_setting() -> None:
    text = (ROOT / ".env.example").read_text()
    # What compose reads follows below the settings.
    assert text.startswith(env_example()), "run: python -c 'from zebra_assets.cli.init import env_example; print(env_example())'"
    for field, info in Settings.model_fields.items():
        assert f"# {info.description}\n# ZEBRA_{field.upper()}=" in text


def test_uncommenting_env_example_changes_nothing_but_what_it_says(fresh: Path) -> None:
    lines = [line.removeprefix("# ") for line in env_example().splitlines() if line.startswith("# ZEBRA_") and line[-1] != "="]
    before = load_settings(fresh)
    (fresh / ".env").write_text("\n".join(line for line in lines if "PROFILE" not in line))
    assert load_settings(fresh) == before


@pytest.mark.parametrize("profile", sorted(p.stem for p in (ROOT / "infra" / "profiles").glob("*.yaml")))
def test_every_shipped_profile_is_valid(profile: str) -> None:
    assert load_settings(ROOT, profile).profile == profile


def test_shipped_templates_agree_with_the_repository_s_own_files() -> None:
    common = ROOT / "zebra_assets" / "cli" / "templates" / "common"
    import yaml

    for name in ("workspace.yaml", "dagster_home/dagster.yaml"):
        assert yaml.safe_load((common / f"{name}.tmpl").read_text()) == yaml.safe_load((ROOT / name).read_text()), name
