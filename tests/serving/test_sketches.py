"""Sketches: a few kilobytes that say of any number of predictions what the predictions themselves would."""

import datetime as dt
import math
import random
from collections import Counter
from pathlib import Path

import datasketches as ds
import numpy as np
import pytest

from tests.heap import allocated
from tests.serving.conftest import MODEL, Bench, rows, until
from zebra_assets.adapters.sketches import SqlSketches
from zebra_assets.adapters.state import migrate
from zebra_assets.contracts.sketch import ColumnSketch
from zebra_assets.errors import Unavailable
from zebra_serving import memory
from zebra_serving.capture import Capture, Recording
from zebra_serving.metrics import Metrics
from zebra_serving.rows import Listed
from zebra_serving.sketches import Numbers, Words, opened, spelled


def ranks(noun: ColumnSketch, at: list[float]) -> list[float]:
    import base64

    kll = ds.kll_doubles_sketch.deserialize(base64.b64decode(noun.sketch))
    return [kll.get_rank(x) for x in at]


def counts(noun: ColumnSketch) -> dict[str, int]:
    import base64

    items = ds.frequent_strings_sketch.deserialize(base64.b64decode(noun.sketch))
    return {text: count for text, count, *_ in items.get_frequent_items(ds.frequent_items_error_type.NO_FALSE_NEGATIVES)}


def test_numbers_keep_moments_exactly_and_ranks_within_the_stated_error() -> None:
    values = np.random.default_rng(3).lognormal(size=200_000)
    sketch = Numbers()
    for part in np.array_split(values, 77):
        sketch.add(Listed(part.tolist()))
    noun = sketch.noun()
    assert (noun.rows, noun.nulls) == (200_000, 0) and noun.mean is not None and noun.m2 is not None
    assert noun.mean == pytest.approx(values.mean(), rel=1e-12) and noun.m2 / 200_000 == pytest.approx(values.var(), rel=1e-9)
    at = np.quantile(values, [0.01, 0.1, 0.5, 0.9, 0.99]).tolist()
    exact = [float((values < x).mean()) for x in at]
    assert max(abs(a - b) for a, b in zip(ranks(noun, at), exact, strict=True)) < 0.0133 * 1.3  # both sides
    assert len(noun.to_json()) < 10_000


def test_what_is_no_number_counts_as_missing() -> None:
    sketch = Numbers()
    sketch.add(Listed([1, None, 2.5, math.nan, math.inf, True]))
    assert (sketch.noun().rows, sketch.noun().nulls, sketch.noun().mean) == (6, 3, 1.5)
    nothing = Numbers()
    nothing.add(Listed([None, None]))
    assert nothing.noun() == ColumnSketch(kind="numeric", rows=2, nulls=2)
    huge = Numbers()
    huge.add(Listed([1e300, -1e300]))
    assert huge.noun().mean is None and huge.noun().sketch  # squares overflow; quantiles do not


def test_lots_of_all_lengths_leave_nothing_behind_but_their_sketch() -> None:
    values = np.random.default_rng(3).normal(size=1024).tolist()
    gappy = [None if i % 7 == 0 else value for i, value in enumerate(values)]
    sketch = Numbers()
    sketch.add(Listed(values))
    before = allocated()
    for length in range(1, 200):
        sketch.add(Listed(values[:length]))
        sketch.add(Listed(gappy[:length]))
    assert allocated() - before < 60_000, "numpy keeps blocks of each length below 128 cells"


def test_words_are_counted_exactly_while_they_are_few_and_the_frequent_ones_when_they_are_many() -> None:
    sketch = Words()
    sketch.add(Listed(["a", "b", None, "a", True, dt.date(2026, 3, 1), dt.datetime(2026, 3, 1, 12), 3.0]))  # noqa: DTZ001 - as decoded
    assert counts(sketch.noun()) == {"a": 2, "b": 1, "true": 1, "2026-03-01": 1, "2026-03-01 12:00:00": 1, "3": 1}
    assert (sketch.noun().rows, sketch.noun().nulls) == (8, 1)
    many = Words()
    chance = random.Random(5)
    said = ["often"] * 3000 + [f"id-{chance.randrange(10**9)}" for _ in range(20_000)]
    chance.shuffle(said)
    for at in range(0, len(said), 500):
        many.add(Listed(said[at : at + 500]))
    assert max(counts(many.noun()).items(), key=lambda kv: kv[1])[0] == "often" and len(many.noun().to_json()) < 40_000
    assert len(spelled("x" * 10_000)) == 10_000  # cut where it is kept, not where it is spelled


def test_parts_merge_into_what_the_whole_would_have_been() -> None:
    chance = random.Random(7)
    values = [chance.gauss(10, 3) if chance.random() > 0.1 else None for _ in range(30_000)]
    words = [chance.choice(["red", "green", "blue", None]) for _ in range(30_000)]
    for kind, cells in ((Numbers, values), (Words, words)):
        merged = kind()
        for part in range(5):
            one = kind()
            one.add(Listed(cells[part::5]))
            merged.merge(ColumnSketch.model_validate_json(one.noun().to_json()))
        whole, noun = kind(), merged.noun()
        whole.add(Listed(cells))
        assert (noun.rows, noun.nulls) == (30_000, whole.noun().nulls)
        if kind is Words:
            assert counts(noun) == counts(whole.noun()) == Counter(w for w in words if w)
        else:
            found = [v for v in values if v is not None]
            assert noun.mean == pytest.approx(np.mean(found)) and noun.m2 == pytest.approx(np.var(found) * len(found))
            assert ranks(noun, [7.0, 10.0, 13.0]) == pytest.approx([np.mean([v < x for v in found]) for x in (7, 10, 13)], abs=0.02)
        assert opened(noun).noun().rows == 30_000


def test_every_prediction_is_in_the_sketches_and_a_sensitive_column_in_none(bench: Bench) -> None:
    spec = bench.settings.models_dir / MODEL / "model.yaml"
    spec.write_text(spec.read_text() + "serving: {sample_rate: 0.1}\n")
    bench.promote("1")
    customers = rows(900)
    with bench.client("1") as client:
        said = client.post("/predict", json={"rows": customers[:700]}).json()["predictions"]
        said += [client.post("/predict", json=row).json()["predictions"][0] for row in customers[700:800]]
        bench.promote("2")
        until(lambda: client.get("/model").json()["version"] == "2")
        client.post("/predict", json={"rows": customers[800:]})
    first, second = (SqlSketches(bench.settings.state).windows(MODEL, version=v) for v in ("1", "2"))
    assert sum(w.rows for w in first) == sum(w.sketched for w in first) == 800 and sum(w.rows for w in second) == 100
    [window] = first
    assert window.columns.keys() == {"tenure", "monthly", "contract", "senior"}
    assert counts(window.columns["contract"]) == Counter(r["contract"] for r in customers[:800])
    assert counts(window.columns["senior"]) == Counter(str(r["senior"]).lower() for r in customers[:800])
    assert window.columns["tenure"].mean == pytest.approx(np.mean([r["tenure"] for r in customers[:800]]))
    assert window.prediction.kind == "numeric" and window.prediction.mean == pytest.approx(np.mean([p["score"] for p in said]))
    assert bench.events.count(MODEL) < 200
    for file in bench.settings.home.glob("state.db*"):
        assert b"gender" not in file.read_bytes()


def test_beyond_the_budget_a_part_is_folded_and_the_rest_counted(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "BURST_ROWS", 1000)
    monkeypatch.setattr(memory, "ROWS_PER_S", 1)
    bench.promote("1")
    with bench.client("1") as client:
        for _ in range(4):
            client.post("/predict", json={"rows": rows(900)})
        client.post("/predict", json={"rows": rows(60)})
    [window] = SqlSketches(bench.settings.state).windows(MODEL)
    # 900 of the first request; 100 of the second would be too few to pay for, 60 of a small one are not.
    assert window.rows == 3660 and 960 <= window.sketched <= 990
    assert window.columns["tenure"].rows == window.sketched


def test_a_store_that_comes_back_gets_every_window_once(bench: Bench, tmp_path: Path) -> None:
    bench.promote("1")
    app = bench.app()
    app.loader.poll()
    served = app.loader.current
    assert served is not None
    away = [True]

    def reachable() -> None:
        if away[0]:
            raise Unavailable("The store is away.")

    capture = Capture(bench.events, Metrics(), Recording(), sketches=SqlSketches(bench.settings.state), reachable=reachable, flush_s=0.02)
    capture.start()
    ten = served.schema.convert(rows(10))
    for _ in range(5):
        assert capture.offer(served, ten, served.model.predict(ten), None) is None
    until(lambda: capture._away)
    away[0] = False
    capture.stop()
    assert [w.rows for w in SqlSketches(bench.settings.state).windows(MODEL)] == [50]


def test_a_window_written_again_replaces_itself(tmp_path: Path, bench: Bench) -> None:
    url = f"sqlite:///{tmp_path}/other.db"
    migrate(url)
    store = SqlSketches(url)
    bench.promote("1")
    with bench.client("1") as client:
        client.post("/predict", json={"rows": rows(5)})
    [window] = SqlSketches(bench.settings.state).windows(MODEL)
    for more in (5, 6, 7):
        store.save(window.model_copy(update={"rows": more}))
    assert [w.rows for w in store.windows(MODEL)] == [7]
    assert store.windows(MODEL, since=window.window_start) and not store.windows(MODEL, since=window.window_start + dt.timedelta(hours=1))
    assert store.windows(MODEL, version="2") == [] and store.windows("other") == []
