import sqlite3
from pathlib import Path

import pytest

from tests.adapters.crowd import crowd, die_in
from zebra_assets.adapters.event_store import SqlEvents
from zebra_assets.contracts.events import Event, IncidentEvent, LabelEvent, PredictionEvent
from zebra_assets.contracts.noun import now


def prediction(i: int, version: str = "1", model: str = "churn") -> PredictionEvent:
    return PredictionEvent(
        event_id=f"event-{i:08d}",
        ts=now(),
        model=model,
        version=version,
        manifest_id="churn-0123456789abcdef",
        features={"tenure": i, "plan": "fibre", "fee": 0.1 * i, "gone": None},
        prediction="yes",
        score=0.25,
    )


def test_an_event_sent_twice_is_stored_once(url: str) -> None:
    store = SqlEvents(url)
    batch: list[Event] = [prediction(i) for i in range(10)]
    assert store.append(batch[:6]) == 6
    assert store.append(batch) == 4
    assert store.append(batch) == 0
    assert store.append([]) == 0
    assert store.count("churn") == 10


def test_twins_within_one_batch_are_stored_once(url: str) -> None:
    assert SqlEvents(url).append([prediction(1), prediction(1), prediction(2)]) == 2


def test_events_read_back_equal_and_oldest_first(url: str) -> None:
    store = SqlEvents(url)
    sent = [prediction(i) for i in range(2500)]
    assert store.append(list(sent)) == 2500
    assert store.predictions("churn") == sent
    assert store.predictions("churn", limit=100) == sent[-100:]


def test_predictions_are_told_apart_by_model_and_version_and_from_other_events(url: str) -> None:
    store = SqlEvents(url)
    label = LabelEvent(event_id="label-000001", ts=now(), model="churn", prediction_event_id="event-00000001", label="no")
    incident = IncidentEvent(event_id="incident-0001", ts=now(), model="churn", severity="info", summary="x")
    store.append([prediction(1), prediction(2, version="2"), prediction(3, model="fraud"), label, incident])
    assert [e.event_id for e in store.predictions("churn")] == ["event-00000001", "event-00000002"]
    assert [e.event_id for e in store.predictions("churn", version="2")] == ["event-00000002"]
    assert (store.count("churn"), store.count("churn", version="2"), store.count("churn", "label_event")) == (2, 1, 1)


def _send_the_same(i: int, barrier: object, url: str) -> int:
    barrier.wait(30)  # type: ignore[attr-defined]
    store = SqlEvents(url)
    # Half of what each sends, its neighbour sends too, in other batches.
    return sum(store.append([prediction(k) for k in range(start, start + 25)]) for start in range(i * 50, i * 50 + 100, 25))


def test_processes_that_send_the_same_events_at_once_store_each_exactly_once(url: str) -> None:
    new = crowd(6, _send_the_same, url)
    assert sum(new) == 350, new
    assert SqlEvents(url).count("churn") == 350


def _send_until_killed(ready: object, url: str, log: str) -> None:
    store, told = SqlEvents(url), Path(log)
    ready()  # type: ignore[operator]
    with told.open("a") as file:
        for i in range(100_000):
            store.append([prediction(2 * i), prediction(2 * i + 1)])
            file.write(f"{i}\n")
            file.flush()


@pytest.mark.parametrize("after_s", [0.02, 0.05, 0.11])
def test_what_was_acknowledged_before_a_kill_is_there_and_batches_are_whole(tmp_path: Path, after_s: float) -> None:
    url, log = f"sqlite:///{tmp_path / 'state.db'}", tmp_path / "acknowledged"
    SqlEvents(url).count("churn")
    assert die_in(_send_until_killed, url, str(log), after_s=after_s) == -9
    acknowledged = len(log.read_text().splitlines())
    stored = SqlEvents(url).count("churn")
    assert stored % 2 == 0, "half a batch"
    assert stored in (2 * acknowledged, 2 * acknowledged + 2)


def test_the_newest_predictions_are_found_by_index_not_by_reading_all(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'state.db'}"
    SqlEvents(url).count("churn")
    with sqlite3.connect(tmp_path / "state.db") as raw:
        for where in ("", "AND version = '1'"):
            query = f"EXPLAIN QUERY PLAN SELECT body FROM events WHERE model = 'm' AND type = 't' {where} ORDER BY seq DESC LIMIT 5"
            plan = " ".join(row[3] for row in raw.execute(query))
            assert "USING INDEX" in plan and "TEMP B-TREE" not in plan, plan
    raw.close()
