"""Drift of any number of predictions without one of them stored: the sketches' verdicts beside the events' on the same people."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import numpy as np
import pytest

from tests.drift.baselines import BASELINE, NOON, OTHER_BASELINE, events, manifest, spec, stats_of, take, telco
from zebra_assets.contracts.manifest import Manifest
from zebra_assets.contracts.sketch import WindowSketch
from zebra_assets.drift.binning import compare
from zebra_assets.drift.monitor import monitor, monitor_sketches
from zebra_assets.drift.observed import Compared
from zebra_assets.drift.sketched import Sketched
from zebra_assets.errors import DataInvalid
from zebra_serving.rows import Listed
from zebra_serving.sketches import Numbers, Words

Columns = Mapping[str, Sequence[Any]]


def sketched(columns: Columns, hours: int = 3, *, manifest_id: str = BASELINE, version: str = "1") -> list[WindowSketch]:
    """What as many servers or hours would have kept of the rows."""
    windows = []
    for hour in range(hours):
        kept = {}
        for name, values in columns.items():
            part = list(values)[hour::hours]
            sketch = Words() if any(isinstance(v, str | bool) for v in values) else Numbers()
            sketch.add(Listed(part))
            kept[name] = sketch.noun()
        answers = Numbers()
        answers.add(Listed([0.5] * len(part)))
        at = NOON + timedelta(hours=hour)
        windows.append(
            WindowSketch(
                id=f"churn-1-{hour:08d}",
                model="churn",
                version=version,
                manifest_id=manifest_id,
                window_start=at,
                window_end=at,
                rows=len(part),
                sketched=len(part),
                columns=kept,
                prediction=answers.noun(),
            )
        )
    return windows


@pytest.fixture(scope="module")
def customers() -> dict[str, np.ndarray]:
    return telco()


@pytest.fixture(scope="module")
def without_fibre(customers: dict[str, np.ndarray]) -> Manifest:
    return manifest(take(customers, np.flatnonzero(customers["internet_service"] != "Fiber optic")))


def test_sketches_and_events_of_the_same_predictions_say_the_same(customers: dict[str, np.ndarray], without_fibre: Manifest) -> None:
    fibre = take(customers, np.flatnonzero(customers["internet_service"] == "Fiber optic")[:3000])
    one, other = monitor(spec(), without_fibre, "1", events(fibre)), monitor_sketches(spec(), without_fibre, "1", sketched(fibre))
    assert one.score == other.score == pytest.approx(15 / 19) and one.state == other.state == "drifted"
    assert (other.rows, other.predictions, other.source) == (3000, 3000, "sketches") and one.id != other.id
    assert (other.window_start, other.window_end) == (NOON, NOON + timedelta(hours=2))
    for exact, near in zip(one.columns, other.columns, strict=True):
        assert (exact.column, exact.drifted, exact.new_values) == (near.column, near.drifted, near.new_values)
        assert near.error == (0.0 if near.kind == "categorical" else pytest.approx(0.01652, abs=1e-4))
        assert near.psi == pytest.approx(exact.psi, rel=0.1, abs=0.02)
        theirs = {b.label: b.window for b in near.bins}
        # A group of bins is an interval, and an interval's bound is what the report states.
        assert max(abs(b.window - theirs.get(b.label, 0.0)) for b in exact.bins) <= near.error + 1e-9


def test_a_hundred_windows_of_the_same_people_raise_no_alarm(customers: dict[str, np.ndarray]) -> None:
    rng = np.random.default_rng(5)
    baseline = manifest(take(customers, rng.permutation(len(customers["tenure"]))[:5000]))
    for rows in (200, 500, 1000, 2000):
        for _ in range(25):
            window = take(customers, rng.choice(len(customers["tenure"]), rows))
            report = monitor_sketches(spec(), baseline, "1", sketched(window))
            assert report.state == "stable" and not any(c.drifted for c in report.columns)


@pytest.mark.parametrize(
    "draw",
    [
        lambda rng, n: rng.normal(size=n),
        lambda rng, n: rng.lognormal(sigma=2, size=n),
        lambda rng, n: np.where(rng.random(n) < 0.9, 0.0, rng.exponential(size=n)),
        lambda rng, n: rng.integers(0, 4, n).astype(float),
        lambda rng, n: np.where(rng.random(n) < 0.2, np.nan, rng.normal(size=n)),
    ],
    ids=["normal", "lognormal", "mostly zero", "few values", "with gaps"],
)
def test_rows_per_bin_are_within_the_stated_error_of_the_rows_themselves(draw: Any) -> None:
    rng = np.random.default_rng(11)
    stats = stats_of(draw(rng, 5000).tolist())
    for shift in (0.0, 0.5):
        values = [None if np.isnan(v) else v + shift for v in draw(rng, 60_000).tolist()]
        found = Sketched(sketched({"x": values}, 4), "1", BASELINE).column("x", stats)
        exact = compare(stats, values)
        assert isinstance(found, Compared) and found.table.window.sum() == exact.window.sum() == 60_000
        theirs, ours = (dict(zip(t.labels, t.window.tolist(), strict=True)) for t in (exact, found.table))
        off = [theirs.get(label, 0) - ours.get(label, 0) for label in theirs | ours]
        assert max(map(abs, off)) <= found.error * 60_000 <= 0.017 * 60_000


def test_what_lies_beyond_the_baselines_range_is_seen() -> None:
    stats = stats_of([0.0, 1.0] * 500)
    found = Sketched(sketched({"x": [-5.0] * 40 + [0.0] * 50 + [1.0] * 60 + [7.0] * 30}), "1", BASELINE).column("x", stats)
    assert isinstance(found, Compared) and found.error == 0.0
    assert dict(zip(found.table.labels, found.table.window.tolist(), strict=True)) == {"below 0": 40, "0 to <1": 50, "1": 60, "above 1": 30}


def test_beyond_what_a_sketch_keeps_the_rest_counts_as_other_and_the_error_says_so() -> None:
    rng = np.random.default_rng(2)
    common = rng.choice(["red", "green", "blue"], 30_000)
    baseline = manifest({"colour": common})
    window = list(common) + [f"tint-{i}" for i in rng.permutation(4000)]
    report = monitor_sketches(spec(), baseline, "1", sketched({"colour": window}))
    [colour] = report.columns
    assert 0 < colour.error < 0.01
    shares = {b.label: b.window for b in colour.bins}
    assert all(abs(shares[v] - window.count(v) / len(window)) <= colour.error + 1e-12 for v in ("red", "green", "blue"))
    assert shares["(other)"] + shares["(new)"] == pytest.approx(4000 / 34_000, abs=3 * colour.error + 1e-9)


def test_what_is_not_recorded_is_named_as_not_watched_and_counts_for_nothing() -> None:
    columns = {name: np.arange(400.0) for name in ("plain", "private", "unlisted", "unused", "retyped", "hashed")}
    declared = spec().model_copy(
        update={
            "sensitive": spec().sensitive.model_copy(update={"attributes": ["private"]}),
            "serving": spec().serving.model_copy(update={"fields": ["plain", "private", "unused", "retyped"], "hashed": ["hashed"]}),
        }
    )
    kept = {"plain": columns["plain"], "retyped": ["a", "b"] * 200, "hashed": ["hmac-0", "hmac-1"] * 200}
    report = monitor_sketches(declared, manifest(columns), "1", sketched(kept))
    assert [c.column for c in report.columns] == ["plain"] and (report.state, report.score) == ("stable", 0.0)
    assert report.not_watched.keys() == {"private", "unlisted", "unused", "retyped", "hashed"}
    assert "sensitive" in report.not_watched["private"] and "serving.fields" in report.not_watched["unlisted"]
    assert report.not_watched["retyped"] == "kept as categorical, numeric in the baseline"
    assert "keyed hash" in report.not_watched["hashed"]
    by_events = monitor(declared, manifest(columns), "1", events({"plain": columns["plain"]}))
    assert by_events.not_watched.keys() == report.not_watched.keys()


def test_too_few_predictions_or_those_of_others_are_unknown() -> None:
    columns = {"x": np.arange(400.0)}
    assert monitor_sketches(spec(), manifest(columns), "1", sketched({"x": columns["x"][:150]})).state == "unknown"
    for other in ({"manifest_id": OTHER_BASELINE}, {"version": "2"}):
        report = monitor_sketches(spec(), manifest(columns), "1", sketched(columns, **other))
        assert report.state == "unknown" and "400 more are of another version or baseline" in report.reason
    assert monitor_sketches(spec(), manifest(columns), "1", sketched(columns)).state == "stable"


def test_the_answers_are_measured_by_the_held_out_ones() -> None:
    columns = {"x": np.arange(600.0)}
    baseline, windows = manifest(columns), sketched(columns)
    near = monitor_sketches(spec(), baseline, "1", windows, prediction_baseline=stats_of([0.45, 0.5, 0.55] * 100))
    assert near.prediction is not None and near.prediction.drifted  # always 0.5 here
    other_kind = monitor_sketches(spec(), baseline, "1", windows, prediction_baseline=stats_of(["Yes", "No"] * 100))
    assert other_kind.prediction is None and other_kind.state == "stable"


def test_a_window_that_grew_is_another_report_and_the_same_one_is_not() -> None:
    columns = {"x": np.arange(900.0)}
    windows = sketched(columns)
    first, again = (monitor_sketches(spec(), manifest(columns), "1", w) for w in (windows, windows[::-1]))
    # Merging throws KLL's coin again, so a score may move within the error; which report it is may not.
    assert (first.id, first.state, first.rows) == (again.id, again.state, again.rows)
    grown = [windows[0].model_copy(update={"rows": windows[0].rows + 1}), *windows[1:]]
    assert monitor_sketches(spec(), manifest(columns), "1", grown).id != first.id


def test_a_damaged_sketch_is_told_with_its_window() -> None:
    columns = {"x": np.arange(900.0)}
    [window] = sketched(columns, 1)
    broken = window.model_copy(update={"columns": {"x": window.columns["x"].model_copy(update={"sketch": "AAAA"})}})
    with pytest.raises(DataInvalid, match="'x' in window churn-1-00000000"):
        monitor_sketches(spec(), manifest(columns), "1", [broken])
