"""The loader: what the ledger names is served, nothing else is, and nobody notices the change."""

import gc
import itertools
import os
import sys
import threading
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.serving.conftest import MODEL, ROW, Bench, flip, rows, served, until
from zebra_assets.adapters.records import SqlRecords
from zebra_assets.contracts.noun import now
from zebra_assets.contracts.verdicts import EvalReport, Scores
from zebra_assets.settings import Settings


def version(client: httpx.Client) -> Any:
    return client.get("/model").json()["version"]


@pytest.mark.slow  # test_storm's short form swaps under load with every run of the tests
def test_twenty_promotions_under_load_fail_no_request_and_no_answer_mixes_versions(bench: Bench) -> None:
    customers = rows(5)
    own = {v: bench.shelf.score(v, customers) for v in ("1", "2", "3")}
    bench.promote("1")
    seen: Counter[str] = Counter()
    wrong: list[Any] = []
    done = threading.Event()

    def ask(url: str) -> None:
        with httpx.Client(base_url=url, timeout=30) as client:
            while not done.is_set():
                try:
                    answer = client.post("/predict", json={"rows": customers})
                    said = answer.json()
                    pairs = [(p["prediction"], p["score"]) for p in said["predictions"]]
                    if pairs != own[said["version"]] or said["manifest_id"] != f"{MODEL}-00000000000000a{said['version']}":
                        wrong.append(said)
                    seen[said["version"]] += 1
                except Exception as error:
                    wrong.append(repr(error))

    with bench.server() as (_, client):
        threads = [threading.Thread(target=ask, args=(str(client.base_url),)) for _ in range(3)]
        for thread in threads:
            thread.start()
        try:
            # 1 -> 2 -> 3 -> 1 is never the version kept warm, so each one is loaded; 3 -> 2 -> 3 always is.
            for name in itertools.islice(itertools.cycle(("2", "3", "1", "2", "3", "2", "3", "1")), 20):
                bench.promote(name)
                until(lambda name=name: version(client) == name)
        finally:
            done.set()
            for thread in threads:
                thread.join()
            print(dict(seen), client.get("/model").text)
        reloads = next(line for line in client.get("/metrics").text.splitlines() if line.startswith("zebra_reloads_total"))
    assert wrong == [] and set(seen) == {"1", "2", "3"} and sum(seen.values()) > 60
    assert reloads == "zebra_reloads_total 21.0"


@pytest.mark.parametrize(
    ("bad", "reason", "says"), [("4", "refused", "bytes were changed"), ("5", "self_test", "senior"), ("9", "download", "no version 9")]
)
def test_a_bad_candidate_leaves_the_old_version_serving_and_says_why(bench: Bench, bad: str, reason: str, says: str) -> None:
    bench.promote("1")
    with bench.client("1") as client:
        bench.promote(bad, digest=None if bad in bench.shelf.digests else "f" * 64)
        failure = until(lambda: client.get("/model").json()["last_reload_failure"])
        assert (failure["version"], failure["reason"]) == (bad, reason) and says in failure["message"]
        assert client.post("/predict", json=ROW).json()["version"] == "1"
        assert client.get("/ready").status_code == 200
        assert f'zebra_reload_failures_total{{reason="{reason}"}}' in client.get("/metrics").text
        bench.promote("2")
        until(lambda: version(client) == "2")
        assert client.get("/model").json()["last_reload_failure"] is None
    kept = {p.name.partition("-")[0] for p in (bench.settings.home / "serving" / "cache" / MODEL).glob("[!.]*")}
    assert kept == {"1", "2"} | ({bad} if reason == "self_test" else set())  # the bytes are the right ones; downloaded anew they would be


def test_a_bad_candidate_is_tried_again_but_not_at_every_poll(bench: Bench) -> None:
    bench.promote("4")
    app = replace(bench, settings=bench.settings.model_copy(update={"reload_interval_s": 15.0})).app()
    for _ in range(20):
        app.loader.poll()
    first = app.loader.standing.failure
    assert first is not None and first.attempts == 1 and first.retry_at > time.monotonic() + 15
    app.loader.standing = replace(app.loader.standing, failure=replace(first, retry_at=0.0))
    for _ in range(20):
        app.loader.poll()
    again = app.loader.standing.failure
    assert again is not None and again.attempts == 2 and again.retry_at > first.retry_at + 15


def test_opening_a_version_leaves_nothing_to_the_garbage_collector(bench: Bench) -> None:
    """Tuned for requests, it comes for cycles once in some dozens of versions, and holds everybody up for 20 ms when it does."""
    staging = bench.app().loader._staging
    one, two = bench.promote("1"), bench.promote("2")
    first = staging.prepare(one)
    staging.prepare(two)
    left = []
    gc.disable()
    try:
        for _ in range(5):  # other threads leave some, too, now and then
            gc.collect()
            for _ in range(10):
                assert staging.prepare(two).schema is first.schema  # the same columns: the same classes
            left.append(gc.collect())
    finally:
        gc.enable()
    assert min(left) < 100, left  # ten openings left 400 when they asked for four libraries' versions


def test_versions_that_come_back_take_no_new_places_in_the_interpreters_table_of_strings(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    intern, new = sys.intern, list[str]()

    def seen(text: str) -> str:
        copy = "".join(list(text))
        if len(text) > 1 and intern(copy) is copy:  # nobody held such a string; single characters there are only once
            new.append(text)
        return intern(text)

    monkeypatch.setattr(sys, "intern", seen)
    app = bench.app()
    for _ in range(2):
        new.clear()
        for name in "123":
            bench.promote(name)
            app.loader.poll()
            assert served(app) == name
    assert new == []


def test_a_rollback_needs_no_loading(bench: Bench) -> None:
    bench.promote("1")
    app = bench.app()
    app.loader.poll()
    bench.promote("2")
    app.loader.poll()
    first = app.loader.previous
    assert first is not None
    bench.promote("1")
    app.loader.poll()
    assert served(app) == "1" and app.loader.current.model is first.model  # type: ignore[union-attr]
    assert app.loader.current.promotion.seq == 3  # type: ignore[union-attr]


def test_an_alias_edited_in_mlflow_is_reported_and_not_served(bench: Bench) -> None:
    bench.promote("1")
    registry = bench.shelf.registry
    registry.set_alias(MODEL, "prod", "1")
    with bench.client("1") as client:
        until(lambda: client.get("/model").json()["alias_unknown"] is None)
        assert client.get("/model").json()["alias_drift"] is None
        registry.set_alias(MODEL, "prod", "2")
        drift = until(lambda: client.get("/model").json()["alias_drift"])
        assert (drift["mlflow"], drift["ledger"]) == ("2", "1")
        assert "zebra_alias_drift 1.0" in client.get("/metrics").text
        assert client.post("/predict", json=ROW).json()["version"] == "1"
        registry.set_alias(MODEL, "prod", "1")
        until(lambda: client.get("/model").json()["alias_drift"] is None)


def test_a_ledger_moved_away_is_reported_while_the_last_version_goes_on(bench: Bench, tmp_path: Path) -> None:
    bench.promote("1")
    with bench.client("1") as client:
        assert client.get("/ready").json()["stale_since"] is None
        bench.move_state(tmp_path / "away")
        ready = until(lambda: (r := client.get("/ready").json())["stale_since"] and r)
        assert "state.db is not there" in ready["stale_reason"] and ready["ledger_age_s"] >= 0
        assert client.post("/predict", json=ROW).status_code == 200
        assert not (bench.settings.home / "state.db").exists()
        bench.move_state(tmp_path / "away", back=True)
        until(lambda: client.get("/ready").json()["stale_since"] is None)
        bench.promote("2")
        until(lambda: version(client) == "2")


def twin_of(bench: Bench, folder: Path) -> Bench:
    """A bench with another state database, below ``folder``/twin."""
    return Bench(Settings(**{**bench.settings.model_dump(), "state_url": f"sqlite:///{folder}/twin/state.db"}), bench.shelf)


def test_a_ledger_replaced_by_another_copy_is_read_anew(bench: Bench, tmp_path: Path) -> None:
    bench.promote("1")
    twin = twin_of(bench, tmp_path)
    twin.promote("1")
    twin.promote("2")
    with bench.client("1") as client:
        bench.move_state(tmp_path / "away")
        until(lambda: client.get("/ready").json()["stale_since"])
        bench.move_state(tmp_path / "twin", back=True)
        until(lambda: version(client) == "2")


def test_an_emptied_ledger_takes_nothing_away(bench: Bench, tmp_path: Path) -> None:
    bench.promote("1")
    with bench.client("1") as client:
        bench.move_state(tmp_path / "away")
        until(lambda: client.get("/ready").json()["stale_since"])
        assert twin_of(bench, tmp_path).ledger.heads() == []
        bench.move_state(tmp_path / "twin", back=True)
        until(lambda: "no row" in client.get("/ready").json()["stale_reason"])
        assert client.post("/predict", json=ROW).json()["version"] == "1"


def test_a_server_starts_without_ledger_and_mlflow_from_what_it_served_last(bench: Bench, tmp_path: Path) -> None:
    bench.promote("2")
    with bench.client("2"):
        pass
    bench.move_state(tmp_path / "away")
    alone = Settings(**{**bench.settings.model_dump(), "mlflow_tracking_uri": "http://127.0.0.1:9"})
    with Bench(alone, bench.shelf).client("2") as client:
        assert client.get("/ready").json()["stale_since"]
        said = client.post("/predict", json=ROW).json()
        assert [(p["prediction"], p["score"]) for p in said["predictions"]] == bench.shelf.score("2", [ROW])
        bench.move_state(tmp_path / "away", back=True)
        until(lambda: client.get("/ready").json()["stale_since"] is None)


def test_damaged_files_in_the_cache_are_fetched_again_and_never_served(bench: Bench, tmp_path: Path) -> None:
    bench.promote("1")
    with bench.client("1"):
        pass
    cached = next((bench.settings.home / "serving" / "cache" / MODEL).glob("[!.]*")) / "model.skops"
    good = cached.read_bytes()
    flip(cached)
    with bench.client("1"):
        assert cached.read_bytes() == good
    flip(cached)
    bench.move_state(tmp_path / "away")
    alone = Settings(**{**bench.settings.model_dump(), "mlflow_tracking_uri": "http://127.0.0.1:9"})
    with Bench(alone, bench.shelf).client() as client:
        until(lambda: "cannot be served" in client.get("/ready").json()["error"])  # at first it is being loaded
        assert client.get("/ready").status_code == 503


def test_the_evaluation_of_the_version_in_force_is_shown(bench: Bench) -> None:
    scores = Scores(version="1", model_digest=bench.shelf.digests["1"], metrics={"roc_auc": 0.84})
    report = EvalReport(
        id="report-1", model=MODEL, run_id=f"{MODEL}-run-0001", manifest_id=f"{MODEL}-00000000000000a1", split="test", rows=9,
        candidate=scores, created_at=now(),
    )  # fmt: skip
    SqlRecords(bench.settings.state).save(report)
    bench.promote("1")
    with bench.client("1") as client:
        assert client.get("/model").json()["metrics"] == {"roc_auc": 0.84}


def test_old_versions_and_abandoned_downloads_leave_the_cache(bench: Bench) -> None:
    cache = bench.settings.home / "serving" / "cache" / MODEL
    for number in range(8):
        (cache / f"{90 + number}-old").mkdir(parents=True)
        os.utime(cache / f"{90 + number}-old", (number, number))
    for name, age in ((".download-young", 0), (".download-old", 7200)):
        (cache / name).mkdir()
        os.utime(cache / name, (time.time() - age,) * 2)
    bench.promote("1")
    bench.app().loader.poll()
    kept = {p.name for p in cache.iterdir() if p.suffix != ".used"}
    assert kept == {f"1-{bench.shelf.digests['1'][:12]}", "94-old", "95-old", "96-old", "97-old", ".download-young"}


def test_nothing_promoted_yet_is_healthy_not_ready_and_says_what_to_do(bench: Bench) -> None:
    bench.events.count(MODEL)
    with bench.client() as client:
        assert client.get("/health").status_code == 200
        for answer in (client.get("/ready"), client.post("/predict", json=ROW)):
            assert answer.status_code == 503 and answer.headers["retry-after"] == "1"
            assert answer.json()["fix"] == f"mlops promote {MODEL} --to prod"
        assert version(client) is None
        bench.promote("3", alias="staging")
        bench.promote("1")
        until(lambda: client.get("/ready").status_code == 200)
        about = client.get("/model").json()
    assert (about["version"], about["digest"], about["run_id"]) == ("1", bench.shelf.digests["1"], f"{MODEL}-run-0001")
    assert [c["name"] for c in about["columns"]] == list(ROW) and "32 example rows" in about["self_test"]
