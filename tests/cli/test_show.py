"""`mlops show MANIFEST` and `mlops list datasets`: where rows came from, who asked for them, and what they look like."""

from datetime import timedelta
from pathlib import Path

import pytest

from tests.cli.conftest import NAME, Mlops
from zebra_assets.cli.show_data import age, bars, density, distribution, size
from zebra_assets.contracts.manifest import ColumnStats
from zebra_assets.contracts.noun import now


@pytest.fixture(scope="module")
def twice(mlops: Mlops, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A project whose dataset was ingested seven times, always to the same manifest."""
    from zebra_assets.cli.init import write_project

    folder = tmp_path_factory.mktemp("shown") / NAME
    write_project(folder, NAME, "tabular")
    for _ in range(7):
        made = mlops("ingest", NAME, "--json", project=folder).json["manifest"]["id"]
    return folder, made


def test_a_manifest_tells_its_source_its_makers_and_its_columns(mlops: Mlops, twice: tuple[Path, str]) -> None:
    folder, made = twice
    said = mlops("show", made, project=folder)
    assert said.code == 0
    for words in (
        f"source    files data/{NAME}.csv",
        "revision ",
        "created yes",
        "and 2 times in between",
        "569 rows, 12 columns",
        "69.2%",
    ):
        assert words in said.out, words
    assert said.out.count("ingested  ") == 5
    radius = next(line for line in said.out.splitlines() if line.startswith("radius"))
    assert "█" in radius and len(radius.split()) >= 9
    assert "benign 6" in said.out, "the label's shares"


def test_the_json_has_the_manifest_and_every_shown_ingest(mlops: Mlops, twice: tuple[Path, str]) -> None:
    folder, made = twice
    found = mlops("show", made, "--json", project=folder).json
    assert found["manifest"]["id"] == made and len(found["ingests"]) == 5
    assert found["ingests"][0]["facts"]["created"] and not found["ingests"][1]["facts"]["created"]


def test_sensitive_columns_show_no_value(mlops: Mlops, twice: tuple[Path, str]) -> None:
    folder, made = twice
    recipe = folder / "manifests" / NAME / "dataset.yaml"
    text = recipe.read_text()
    try:
        recipe.write_text(text + "sensitive: [radius]\n")
        lines = {line.split(" ")[0]: line for line in mlops("show", made, project=folder).out.splitlines() if line}
    finally:
        recipe.write_text(text)
    assert lines["radius"].count("***") == 5 and "█" not in lines["radius"]
    assert "***" not in lines["texture"]


def test_datasets_are_listed_with_rows_size_and_age(mlops: Mlops, twice: tuple[Path, str]) -> None:
    folder, made = twice
    head, row = mlops("list", "datasets", project=folder).out.strip().splitlines()
    assert head.split()[-3:] == ["rows", "size", "age"]
    assert made in row and " kB " in row and row.endswith((" s", " min"))


def test_a_density_is_drawn_from_quantile_bins_and_from_single_values() -> None:
    flat = ColumnStats(kind="numeric", rows=120, nulls=0, edges=[0.0, 6.0, 12.0], counts=[60, 60])
    assert density(flat) == pytest.approx([10] * 12) and distribution(flat) == "█" * 12
    coin = ColumnStats(kind="numeric", rows=100, nulls=0, edges=[0.0, 1.0, 1.0], counts=[99, 1])
    assert density(coin) == [99, *[0] * 10, 1] and distribution(coin) == "█" + " " * 10 + "▁"
    assert distribution(ColumnStats(kind="numeric", rows=3, nulls=3)) == ""
    words = ColumnStats(kind="categorical", rows=10, nulls=0, values=["a" * 30, "b"], counts=[5, 3], other=2)
    assert distribution(words) == "aaaaaaaaaaaaaaaaa... 50%, b 30%, ..."


def test_sizes_and_ages_are_short() -> None:
    assert [size(n) for n in (0, 999, 1000, 26_131, 5 * 10**9, 3 * 10**12)] == ["0 B", "999 B", "1 kB", "26.1 kB", "5 GB", "3 TB"]
    ages = (timedelta(0), timedelta(seconds=75), timedelta(hours=30), timedelta(days=400))
    assert [age(now() - ago) for ago in ages] == ["0 s", "1 min", "1 d", "400 d"]
    assert bars([]) == "" and bars([0, 0]) == "  "
