"""Summaries: the drift baseline equals numpy's own, and leaves people out."""

import json

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.datasets.conftest import Bench, csv_bytes, people, recipe
from zebra_assets.datasets.summary import bin_edges, categorical, null_fractions, numeric, summarise


@settings(max_examples=80, deadline=None)
@given(st.lists(st.floats(allow_nan=False, allow_infinity=False, width=32), min_size=1, max_size=300))
def test_bins_are_numpys_histogram_of_all_rows(cells: list[float]) -> None:
    stats = numeric(pa.chunked_array([pa.array(cells, pa.float64())]))
    assert stats.edges == sorted(stats.edges)
    assert len(stats.edges) == len(stats.counts) + 1 <= 66
    assert sum(stats.counts) == len(cells)
    assert stats.counts == np.histogram(np.array(cells), bins=np.array(stats.edges))[0].tolist()
    assert (stats.edges[0], stats.edges[-1]) == (min(cells), max(cells)) == (stats.min, stats.max)
    assert stats.mean == pytest.approx(np.mean(cells), rel=1e-9, abs=1e-9)


def test_quantiles_are_numpys() -> None:
    cells = np.sort(np.random.default_rng(3).normal(size=10_001))
    assert bin_edges(cells) == pytest.approx(np.quantile(cells, np.linspace(0, 1, 65)), rel=1e-12)


def test_each_of_few_values_is_a_bin_of_its_own() -> None:
    stats = numeric(pa.chunked_array([pa.array([0, 1, 0, 0, None], pa.int64())]))
    assert (stats.edges, stats.counts, stats.rows, stats.nulls) == ([0, 1, 1], [3, 1], 5, 1)
    constant = numeric(pa.chunked_array([pa.array([7.0, 7.0])]))
    assert (constant.edges, constant.counts) == ([7, 7], [2])


def test_infinite_and_missing_numbers_do_not_reach_the_json() -> None:
    column = pa.chunked_array([pa.array([1.0, float("inf"), float("nan"), None, 2.0, 1e308, 1.7e308])])
    stats = numeric(column)
    assert (stats.nulls, stats.max, sum(stats.counts)) == (2, 1.7e308, 4)
    assert type(stats).model_validate_json(stats.to_json()) == stats
    assert "NaN" not in stats.to_json()
    assert numeric(pa.chunked_array([pa.array([None, None], pa.float64())])).edges == []


def test_rare_values_are_counted_together() -> None:
    values = [f"v{i:03d}" for i in range(60) for _ in range(60 - i)]
    stats = categorical(pa.chunked_array([pa.array([*values, None])]))
    assert (len(stats.values), stats.values[0], stats.counts[0], stats.nulls) == (50, "v000", 60, 1)
    assert stats.other == sum(range(1, 11))
    assert categorical(pa.chunked_array([pa.array([True, False, True])])).values == ["true", "false"]


def test_keys_and_sensitive_text_stay_out_of_the_manifest(bench: Bench) -> None:
    bench.put("a.csv", csv_bytes(people()))
    done = bench.ingest(recipe(sensitive=["name"]))
    stats = done.manifest.stats.columns
    assert "id" not in stats
    assert (stats["name"].values, stats["name"].counts) == ([], [])
    assert stats["name"].other + stats["name"].nulls == stats["name"].rows == done.manifest.stats.rows_by_split["train"]
    text = json.dumps(done.manifest.model_dump(mode="json"))
    assert "Zoë" not in text
    assert "p00001" not in text


def test_the_summary_is_of_the_train_split_only(bench: Bench) -> None:
    bench.put("a.csv", csv_bytes(people()))
    done = bench.ingest()
    train = bench.split(done, "train")
    assert summarise(train, recipe()) == done.manifest.stats.columns
    assert done.manifest.stats.null_fraction == null_fractions(people())
