"""Distribution checks: what changed is told with its size, what did not or only seems to is not."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from scipy.stats import chi2_contingency, ks_2samp

from tests.datasets.conftest import recipe
from zebra_assets.contracts.dataset_spec import DatasetSpec
from zebra_assets.contracts.manifest import ColumnStats, Stats
from zebra_assets.datasets.distribution import chi_square, distribution_checks, ks, total_variation
from zebra_assets.datasets.summary import categorical, null_fractions, numeric, summarise
from zebra_assets.datasets.validate import Check, refuse_broken
from zebra_assets.errors import DataInvalid


def spec_of(table: pa.Table, *, sensitive: tuple[str, ...] = (), **distribution: Any) -> DatasetSpec:
    dtypes = {pa.float64(): "float64", pa.int64(): "int64", pa.string(): "string", pa.date32(): "date"}
    return recipe(
        columns={name: {"dtype": dtypes[table[name].type], "nullable": True} for name in table.column_names},
        key=[],
        label=None,
        sensitive=list(sensitive),
        expectations={"distribution": distribution},
    )


def checks(before: dict[str, Any], after: dict[str, Any], **said: Any) -> list[Check]:
    tables = [pa.table({name: pa.array(values) for name, values in side.items()}) for side in (before, after)]
    spec = spec_of(tables[0], **said)
    stats = [Stats(rows=t.num_rows, rows_by_split={}, null_fraction=null_fractions(t), columns=summarise(t, spec)) for t in tables]
    return distribution_checks(stats[0], stats[1], spec)


def broken(before: dict[str, Any], after: dict[str, Any], **said: Any) -> dict[str, Check]:
    return {f"{c.column}: {c.rule}": c for c in checks(before, after, **said) if not c.passed}


def column(values: Any) -> ColumnStats:
    array = pa.array(values)
    return (categorical if pa.types.is_string(array.type) else numeric)(pa.chunked_array([array]))


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("shape", ["normal", "counts", "mostly zero", "rounded", "large"])
def test_the_distance_of_summaries_is_at_most_that_of_the_rows_and_short_by_two_bins_at_most(seed: int, shape: str) -> None:
    rng = np.random.default_rng(seed)

    def draw(shift: float) -> np.ndarray:
        n = 200_000 if shape == "large" else 4000
        x = rng.normal(shift, 1, n)
        return {"counts": np.floor(x * 3), "mostly zero": np.where(rng.random(n) < 0.9, 0, np.exp(x)), "rounded": x.round(1)}.get(shape, x)

    before, after = draw(0), draw(seed / 8)
    seen, true = ks(column(before), column(after)), ks_2samp(before, after, method="asymp")
    slack = {"counts": 1e-9, "mostly zero": 0.05}.get(shape, 2 / 64 + 0.02)
    assert true.statistic - slack <= seen.distance <= true.statistic + 1e-9
    assert seen.p >= true.pvalue * 0.9 or shape == "large"
    if shape == "counts":
        assert seen.p == pytest.approx(true.pvalue, rel=0.2)


def test_what_the_sketches_may_be_off_is_taken_off_the_distance() -> None:
    before, after = column(np.arange(1000.0)), column(np.arange(300.0, 1300.0))
    told = ks(before.model_copy(update={"error": 0.01}), after.model_copy(update={"error": 0.02})).distance
    assert told == pytest.approx(ks(before, after).distance - 0.03)
    words = column(["a"] * 80 + ["b"] * 20), column(["a"] * 40 + ["b"] * 60)
    assert total_variation(words[0].model_copy(update={"error": 0.01}), words[1]).distance == pytest.approx(0.4 - 2 * 0.01)


def test_categories_are_compared_as_scipy_compares_them() -> None:
    before, after = ["a"] * 500 + ["b"] * 300 + ["c"] * 200, ["a"] * 400 + ["b"] * 420 + ["c"] * 180
    shift = total_variation(column(before), column(after))
    assert shift.distance == pytest.approx(0.12)
    assert shift.p == pytest.approx(chi2_contingency([[500, 300, 200], [400, 420, 180]], correction=False).pvalue)
    assert chi_square(np.array([[5.0, 0.0], [3.0, 0.0]])) == 1.0


@pytest.mark.parametrize("rows", [40, 400, 40_000, 400_000])
def test_rows_of_one_distribution_raise_no_alarm_however_few_or_many(rows: int) -> None:
    alarms = 0
    for seed in range(20 if rows < 10_000 else 3):
        rng = np.random.default_rng(seed)

        def draw(n: int, rng: np.random.Generator = rng) -> dict[str, Any]:
            zero = np.where(rng.random(n) < 0.8, 0, rng.lognormal(size=n))
            return {
                "x": rng.normal(size=n),
                "zero": zero,
                "n": rng.poisson(4, n),
                "null": np.where(rng.random(n) < 0.2, np.nan, 1.0),
                "few": rng.choice(["a", "b", "c"], n, p=[0.6, 0.3, 0.1]),
                "many": rng.zipf(1.5, n).astype(str),
                "id": [f"id{i}" for i in rng.integers(0, 10**9, n)],
            }

        alarms += len(broken(draw(rows), draw(rows // 2)))
    assert alarms == 0


def test_a_shift_is_told_with_its_size_and_warns_by_default() -> None:
    rng = np.random.default_rng(0)
    found = broken({"x": rng.normal(100, 5, 5000)}, {"x": rng.normal(103, 5, 5000)})
    check = found.pop("x: same distribution")
    assert not found and check.severity == "warn" and 0.15 < check.count / 5000 < 0.3
    assert "Kolmogorov-Smirnov distance from the manifest before 0.2" in check.detail
    assert "at most 0.1 is expected (p < 1e-9); mean 103" in check.detail
    refuse_broken([check], recipe())  # a warning stops nothing


def test_a_recipe_can_make_a_shift_stop_the_ingest() -> None:
    found = broken({"x": ["a"] * 500 + ["b"] * 500}, {"x": ["a"] * 900 + ["b"] * 100}, shifts="fail")
    assert [c.severity for c in found.values()] == ["error"]
    with pytest.raises(DataInvalid, match=r"column 'x': same categories: total variation distance from the manifest before 0\.400"):
        refuse_broken(list(found.values()), recipe())


def test_a_large_but_harmless_difference_is_below_the_threshold_and_a_small_significant_one_too() -> None:
    rng = np.random.default_rng(1)
    few = {"x": rng.normal(size=12)}, {"x": rng.normal(size=12) + 0.3}
    assert not broken(*few)
    many = {"x": ["a"] * 500_000 + ["b"] * 500_000}, {"x": ["a"] * 520_000 + ["b"] * 480_000}
    [check] = [c for c in checks(*many) if c.rule == "same categories"]
    assert check.passed and "0.020" in check.detail and "p < 1e-9" in check.detail
    assert broken(*many, categorical=0.01)


def test_nulls_that_became_more_are_told() -> None:
    before, after = [1.0] * 900 + [None] * 100, [1.0] * 700 + [None] * 300
    check = broken({"x": before}, {"x": after})["x: null increase"]
    assert (check.count, check.severity) == (200, "warn")
    assert check.detail.startswith("30.0% are null, 10.0% were before; at most 5.0% more is expected")
    assert not broken({"x": after}, {"x": before})
    assert not broken({"x": before}, {"x": after}, max_null_increase=0.3)


def test_new_and_vanished_categories_are_named() -> None:
    before, after = ["red"] * 500 + ["green"] * 490 + ["grey"] * 10, ["red"] * 495 + ["green"] * 498 + ["blue"] * 7
    found = broken({"x": before}, {"x": after})
    assert found["x: new categories"].detail == "1: 'blue' (7 rows)"
    assert found["x: vanished categories"].detail == "1: 'grey' (10 rows)"
    assert (found["x: new categories"].count, len(found)) == (7, 2)
    answers = broken({"x": before}, {"x": after}, new_categories="fail", vanished_categories="allow")
    assert [(c.rule, c.severity) for c in answers.values()] == [("new categories", "error")]


def test_categories_of_a_sensitive_column_are_masked_and_hidden_text_is_compared_by_its_nulls_alone() -> None:
    before, after = ["red"] * 500 + ["grey"] * 500, ["red"] * 500 + ["blue"] * 200 + [None] * 300
    assert set(broken({"x": before}, {"x": after}, sensitive=("x",))) == {"x: null increase"}
    listed = recipe(
        columns={"x": {"dtype": "string", "values": ["red", "grey", "blue"], "nullable": True}}, key=[], label=None, sensitive=["x"]
    )
    tables = [pa.table({"x": side}) for side in (before, after)]
    stats = [Stats(rows=1000, rows_by_split={}, null_fraction=null_fractions(t), columns=summarise(t, listed)) for t in tables]
    told = [c for c in distribution_checks(stats[0], stats[1], listed) if not c.passed]
    assert {c.rule for c in told} == {"null increase", "same categories", "new categories", "vanished categories"}
    assert not any(word in c.detail for c in told for word in ("red", "grey", "blue")) and any("***" in c.detail for c in told)


def test_what_a_list_of_the_most_frequent_leaves_out_is_not_called_new_or_vanished() -> None:
    rng = np.random.default_rng(2)
    before, after = ({"x": [f"v{i}" for i in rng.integers(0, 80, 20_000)]} for _ in range(2))
    assert not broken(before, after)
    names = ({"x": [f"{side}{i}" for i in range(40)]} for side in "ab")
    assert not [rule for rule in broken(*names) if "categories" in rule and "same" not in rule]


def test_a_new_value_is_named_but_no_alarm_where_many_stand_in_one_row_only() -> None:
    words = [f"w{i}" for i in range(20)]
    before, after = {"x": ["a"] * 100 + words}, {"x": ["a"] * 100 + words[:18] + ["new"]}
    [check] = [c for c in checks(before, after) if c.rule == "new categories"]
    assert check.passed and check.detail == "1: 'new' (1 row)"


def test_vanished_by_chance_is_not_vanished() -> None:
    assert not broken({"x": ["a"] * 9990 + ["b"] * 10}, {"x": ["a"] * 1000})


def test_dates_move_on_and_ignored_columns_may_do_what_they_like() -> None:
    days = np.arange(1000, dtype=np.int32)
    before, after = (pa.array(days // 50 + offset).cast(pa.date32()) for offset in (0, 20))
    assert not broken({"day": before}, {"day": after})
    counter = {"n": np.arange(5000)}, {"n": np.arange(5000, 10_000)}
    assert broken(*counter) and not broken(*counter, ignore=["n"])


def test_a_column_that_is_all_null_or_became_another_kind_is_compared_by_its_nulls() -> None:
    empty, full = pa.nulls(500, pa.float64()), pa.array(np.arange(500.0))
    assert not broken({"x": empty}, {"x": full})
    assert set(broken({"x": full}, {"x": empty})) == {"x: null increase"}
    numbers, words = ({"x": pa.array(v)} for v in ([1.0, 2.0] * 100, ["1", "2"] * 100))
    sides = [summarise(pa.table(side), spec_of(pa.table(side))) for side in (numbers, words)]
    stats = [Stats(rows=200, rows_by_split={}, null_fraction={"x": 0.0}, columns=c) for c in sides]
    assert [c.rule for c in distribution_checks(stats[0], stats[1], spec_of(pa.table(words)))] == ["null increase"]


def test_a_summary_written_before_there_were_sketches_is_compared_too() -> None:
    old = column(np.arange(1000.0)).model_copy(update={"distinct": None})
    assert ks(old, column(np.arange(1000.0))).distance == 0


def test_a_recipe_that_ignores_an_unknown_column_is_refused() -> None:
    with pytest.raises(ValueError, match=r"expectations.distribution.ignore names column 'nope'"):
        recipe(expectations={"distribution": {"ignore": ["nope"]}})
    with pytest.raises(ValueError, match=r"expectations.max_null_fractions names column 'nope'"):
        recipe(expectations={"max_null_fractions": {"nope": 0.5}})
