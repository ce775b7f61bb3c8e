"""`mlops diff`: two versions of real data, as a table, as JSON and as a page."""

from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.cli.conftest import NAME, Mlops


@pytest.fixture(scope="module")
def grown(mlops: Mlops, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """A project whose source lost its first 20 rows, had one cell corrected and every radius measured in other units."""
    from zebra_assets.cli.init import write_project

    folder = tmp_path_factory.mktemp("grown") / NAME
    write_project(folder, NAME, "tabular")
    first = mlops("ingest", NAME, "--json", project=folder).json["manifest"]["id"]
    source = folder / "data" / f"{NAME}.csv"
    header, *rows = source.read_text().splitlines()
    cells = [row.split(",") for row in rows[20:]]
    at = header.split(",").index("radius")
    for row in cells:
        row[at] = str(float(row[at]) * 2.54)
    cells[0][-1] = "benign"
    source.write_text("\n".join([header, *map(",".join, cells)]) + "\n")
    return folder, first, mlops("ingest", NAME, "--json", project=folder).json["manifest"]["id"]


def test_rows_cells_and_distributions_are_told(mlops: Mlops, grown: tuple[Path, str, str]) -> None:
    folder, first, second = grown
    found = mlops("diff", first, second, "--json", project=folder).json["diff"]
    assert (found["added"], found["removed"], found["changed"], found["by"]) == (0, 20, 549, "key")
    columns = {c["name"]: c for c in found["columns"]}
    assert columns["radius"]["cells"] == 549 and columns["radius"]["shifted"] and columns["radius"]["psi"] > 1
    assert columns["texture"]["cells"] == 0 and not columns["texture"]["shifted"] and columns["texture"]["psi"] < 0.1
    said = mlops("diff", first, second, project=folder)
    assert said.code == 0 and "0 rows added, 20 removed, 549 changed" in said.out and "SHIFTED" in said.out


def test_the_page_is_whole_self_contained_and_says_the_same(mlops: Mlops, grown: tuple[Path, str, str], tmp_path: Path) -> None:
    folder, first, second = grown
    page = tmp_path / "diff.html"
    assert mlops("diff", first, second, "--html", str(page), project=folder).code == 0
    text = page.read_text()
    assert "20 removed" in text and "shifted" in text and "http" not in text and "<script" not in text
    assert len(text) < 45_000 and text.count("<svg") == 11
    ElementTree.fromstring(text[text.index("<body") : text.index("</html>")])
    assert mlops("diff", first, second, "--html", str(tmp_path / "no" / "where.html"), project=folder).code == 2


def test_the_same_manifest_twice_is_the_same_rows(mlops: Mlops, grown: tuple[Path, str, str]) -> None:
    folder, first, _ = grown
    said = mlops("diff", first, first, project=folder)
    assert said.code == 0 and "The same rows under the same definitions." in said.out


def test_sensitive_cells_are_masked_and_everything_is_where_the_recipe_is_gone(mlops: Mlops, grown: tuple[Path, str, str]) -> None:
    folder, first, second = grown
    recipe = folder / "manifests" / NAME / "dataset.yaml"
    text = recipe.read_text()
    try:
        recipe.write_text(text + "sensitive: [radius]\n")
        changed = mlops("diff", first, second, "--json", project=folder).json["diff"]["examples"][-1]
        assert changed["cells"]["radius"] == ["***", "***"] and changed["key"]["sample"] != "***"
        recipe.unlink()
        assert mlops("diff", first, second, "--json", project=folder).json["diff"]["examples"][0]["key"] == {"sample": "***"}
    finally:
        recipe.write_text(text)
