"""The three distances against scipy, on random tables, and the bins they are taken over."""

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon
from scipy.special import rel_entr
from scipy.stats import ks_2samp

from tests.drift.baselines import stats_of
from zebra_assets.drift.binning import MAX_GROUPS, MAX_VALUES, Binned, compare, compare_summaries
from zebra_assets.drift.metrics import METRICS, SMOOTHING, js, ks, psi


def _tables(seed: int, least: int = 0, count: int = 200) -> list[Binned]:
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        bins = int(rng.integers(2, 21))
        base, now = (rng.multinomial(rng.integers(2_000, 50_000), rng.dirichlet(np.ones(bins))) + least for _ in range(2))
        used = base + now > 0
        made.append(Binned("categorical", [str(i) for i in range(used.sum())], base[used], now[used]))
    return made


def _shares(counts: np.ndarray, padding: float = 0.0) -> np.ndarray:
    return (counts + padding) / (counts + padding).sum()


def test_psi_is_scipys_symmetric_relative_entropy_of_the_smoothed_shares() -> None:
    for table in _tables(1):
        base, now = _shares(table.baseline, SMOOTHING), _shares(table.window, SMOOTHING)
        assert psi(table) == pytest.approx(rel_entr(base, now).sum() + rel_entr(now, base).sum(), rel=1e-9, abs=1e-12)


def test_smoothing_moves_psi_by_less_than_a_hundredth_where_every_bin_holds_50_rows() -> None:
    for table in _tables(2, least=50):
        base, now = _shares(table.baseline), _shares(table.window)
        assert psi(table) == pytest.approx(rel_entr(base, now).sum() + rel_entr(now, base).sum(), rel=0.01)


def test_js_is_scipys_jensen_shannon_distance_in_base_2() -> None:
    for table in _tables(3):
        assert js(table) == pytest.approx(jensenshannon(table.baseline, table.window, base=2), rel=1e-9, abs=1e-7)


@pytest.mark.parametrize("seed", range(20))
def test_binned_ks_is_at_most_the_exact_one_and_short_of_it_by_at_most_one_bin(seed: int) -> None:
    rng = np.random.default_rng(seed)
    base = rng.normal(size=5_000)
    now = rng.normal(rng.uniform(-1, 1), rng.uniform(0.5, 2), size=1_000)
    table = compare(stats_of(base), list(now))
    assert table.fine is not None
    widest = max(_shares(side).max() for side in table.fine)
    exact = ks_2samp(base, now).statistic
    assert exact - widest <= ks(table) <= exact + 1e-12


@pytest.mark.parametrize("values", [[1.0, 2.5, 2.5, None, 9.0] * 100, ["a", "b", "b", None] * 100, [True, False, True] * 100])
def test_a_column_is_at_no_distance_from_itself(values: list[object]) -> None:
    table = compare(stats_of(values), values)
    assert [METRICS[name].distance(table) for name in ("psi", "js", "ks")] == [0.0, 0.0, 0.0]


def test_chances_share_is_what_windows_without_drift_show_on_average() -> None:
    rng = np.random.default_rng(5)
    base = rng.normal(size=20_000)
    stats = stats_of(base)
    tables = [compare(stats, list(rng.normal(size=300))) for _ in range(300)]
    for name in ("psi", "js"):
        metric = METRICS[name]
        seen = np.mean([metric.distance(t) ** metric.power for t in tables])
        assert seen == pytest.approx(metric.chance(MAX_GROUPS) * (1 / 300 + 1 / 20_000), rel=0.1)
    seen = np.mean([ks(t) ** 2 for t in tables])
    assert 0.8 < seen / (METRICS["ks"].chance(MAX_GROUPS) * (1 / 300 + 1 / 20_000)) < 1.05


def test_nulls_are_a_bin_of_their_own() -> None:
    stats = stats_of([float(i) for i in range(1000)])
    table = compare(stats, [float(i) for i in range(500)] + [None] * 250 + [float("nan")] * 250)
    assert table.labels[-1] == "(null)"
    assert (table.baseline[-1], table.window[-1]) == (0, 500)


def test_values_outside_the_baselines_range_are_seen_even_where_the_baseline_is_one_value() -> None:
    table = compare(stats_of([5.0] * 1000), [7.0] * 500)
    assert table.labels == ["5", "above 5"]
    assert psi(table) > 5
    assert ks(table) == 1.0


def test_infinity_is_above_everything_and_text_in_a_number_is_null() -> None:
    table = compare(stats_of([0.0, 1.0] * 100), [float("inf")] * 3 + ["much"] * 2 + [0.0])
    assert dict(zip(table.labels, table.window, strict=True)) == {"0 to 1": 1, "above 1": 3, "(null)": 2}


def test_a_value_never_seen_is_new_unless_the_baseline_kept_a_rest() -> None:
    few = compare(stats_of(["dsl"] * 500 + ["none"] * 500), ["fibre"] * 200)
    assert few.new_values == ["fibre"]
    assert "(new)" in few.labels
    many = compare(stats_of([f"city {i}" for i in range(500)]), ["fibre"] * 200)
    assert many.new_values == []
    assert many.labels == ["(other)"]


def test_booleans_and_whole_numbers_meet_themselves_after_json() -> None:
    assert psi(compare(stats_of([True, False] * 500), [True, False] * 100)) == pytest.approx(0, abs=1e-3)
    assert compare(stats_of(["1", "2"] * 500), [1, 2.0] * 100).new_values == []


def test_bins_are_few_and_hold_at_least_five_expected_rows() -> None:
    rng = np.random.default_rng(0)
    numbers, words = stats_of(rng.lognormal(size=10_000)), stats_of([f"v{int(v)}" for v in rng.exponential(20, 10_000)])
    for rows in (20, 50, 200, 5000):
        table = compare(numbers, list(rng.lognormal(size=rows)))
        inner = table.baseline > 0
        assert inner.sum() <= MAX_GROUPS
        assert (table.baseline[inner] / 10_000 * rows).min() >= 5
        assert len(compare(words, ["v1"] * rows).labels) <= MAX_VALUES + 2


def test_lists_where_a_value_was_expected_are_counted_not_crashed_on() -> None:
    assert compare(stats_of(["a", "b"] * 50), [["a"], {"b": 1}, "a", None]).window.sum() == 4


@pytest.mark.parametrize("seed", range(10))
def test_two_summaries_are_as_far_apart_as_a_summary_and_the_rows(seed: int) -> None:
    rng = np.random.default_rng(seed)
    base, now = rng.normal(size=20_000), rng.normal(rng.uniform(-1, 1), rng.uniform(0.5, 2), size=20_000)
    within = np.clip(now, base.min(), base.max())
    rows, summaries = compare(stats_of(base), list(within)), compare_summaries(stats_of(base), stats_of(now))
    assert summaries is not None
    assert psi(summaries) == pytest.approx(psi(rows), rel=0.25, abs=0.002)
    assert js(summaries) == pytest.approx(js(rows), rel=0.05, abs=0.01)


@pytest.mark.parametrize(
    ("before", "after"),
    [([0.0, 1.0, 1.0, None] * 200, [0.0, 0.0, 1.0, 2.0] * 200), (["a", "b", "b", None] * 200, ["a", "b", "c", "c"] * 200)],
)
def test_few_values_are_compared_exactly(before: list[object], after: list[object]) -> None:
    table = compare_summaries(stats_of(before), stats_of(after))
    assert table is not None and psi(table) == psi(compare(stats_of(before), after))


def test_a_number_and_a_word_or_hidden_words_cannot_be_compared() -> None:
    words, numbers = stats_of(["a", "b"]), stats_of([1.0, 2.0])
    hidden = words.model_copy(update={"values": [], "counts": [], "other": 2})
    assert compare_summaries(words, numbers) is None
    assert compare_summaries(hidden, words) is None and compare_summaries(words, hidden) is None
