"""A drift check reads sketches where they cover the newest predictions, and events where they do not."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.control.conftest import NAME
from zebra_assets.contracts.events import PredictionEvent
from zebra_assets.contracts.sketch import WindowSketch
from zebra_assets.control import operations
from zebra_assets.loop import predictions_made
from zebra_assets.parts import Parts
from zebra_serving.rows import Listed
from zebra_serving.sketches import Numbers

NOW = datetime(2026, 11, 21, 12, 30, tzinfo=UTC)


@pytest.fixture(scope="module")
def large(trained: Parts) -> list[dict[str, Any]]:
    """In prod, and asked about the largest nuclei only."""
    operations.evaluate(trained, NAME)
    manifest = trained.manifests.get(operations.promote(trained, NAME)[0].manifest_id)
    train = pq.read_table([trained.store.fetch(a.key) for a in manifest.blobs("train")])
    features = manifest.columns.features()
    return [{name: row[name] for name in features} for row in train.to_pylist() if row["radius"] > 15] * 3


def window(parts: Parts, rows: list[dict[str, Any]], *, id: str = "window-1", until: datetime = NOW) -> WindowSketch:
    columns = {name: Numbers() for name in rows[0]}
    for name, sketch in columns.items():
        sketch.add(Listed([row[name] for row in rows]))
    scores = Numbers()
    scores.add(Listed([0.9] * len(rows)))
    return WindowSketch(
        id=id, model=NAME, version="1", manifest_id=parts.ledger.head(NAME, "prod").manifest_id,  # type: ignore[union-attr]
        window_start=until - timedelta(minutes=20), window_end=until, rows=len(rows), sketched=len(rows),
        columns={name: sketch.noun() for name, sketch in columns.items()}, prediction=scores.noun(),
    )  # fmt: skip


def events(parts: Parts, rows: list[dict[str, Any]], *, prefix: str = "event", at: datetime = NOW) -> None:
    manifest_id = parts.ledger.head(NAME, "prod").manifest_id  # type: ignore[union-attr]
    parts.events.append(
        [
            PredictionEvent(
                event_id=f"{prefix}-{n:05d}", ts=at, model=NAME, version="1", manifest_id=manifest_id, features=row,
                prediction="malignant", score=0.9,
            )
            for n, row in enumerate(rows)
        ]
    )  # fmt: skip


def test_the_check_reads_what_covers_the_newest_predictions_and_says_which(trained: Parts, large: list[dict[str, Any]]) -> None:
    trained.sketches.save(window(trained, large))
    alone = operations.monitor(trained, NAME)
    assert (alone.source, alone.state, alone.rows, alone.predictions) == ("sketches", "drifted", len(large), len(large))
    assert trained.events.predictions(NAME) == [] and predictions_made(trained, NAME, "1") == len(large)
    page = trained.store.get(f"reports/{NAME}/{alone.id}/drift.html").decode()
    assert f"from sketches of {len(large)} (shares within 1.7% of the rows, 99 times in 100)" in page

    events(trained, large)
    assert operations.monitor(trained, NAME).id == alone.id
    # The server has not written its newest sketches yet: fewer predictions than events, or older than the newest of them.
    trained.sketches.save(window(trained, large[:200]))
    by_events = operations.monitor(trained, NAME)
    assert (by_events.source, by_events.predictions, by_events.state) == ("events", None, "drifted")
    assert by_events.prediction is not None and alone.prediction is not None
    # A column whose score is at the threshold may fall on either side of it.
    clear = [c.column for c in by_events.columns if abs(c.score - c.threshold) > 0.1]
    verdicts = [{c.column: c.drifted for c in r.columns if c.column in clear} for r in (by_events, alone)]
    assert verdicts[0] == verdicts[1] and len(clear) >= 6
    trained.sketches.save(window(trained, large))
    events(trained, large[:1], prefix="later", at=NOW + timedelta(minutes=5))
    assert operations.monitor(trained, NAME).source == "events"
    trained.sketches.save(window(trained, large, id="window-2", until=NOW + timedelta(minutes=5)))
    assert operations.monitor(trained, NAME).source == "sketches"
    assert predictions_made(trained, NAME, "1") == 2 * len(large)
