"""Windows of sketches in the state database: replaced by their id, found by model, version and time."""

import datetime as dt

from sqlalchemy import text

from tests.adapters.crowd import crowd
from zebra_assets.adapters import state
from zebra_assets.adapters.sketches import SqlSketches
from zebra_assets.contracts.sketch import ColumnSketch, WindowSketch

NOON = dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC)


def window(name: str, *, version: str = "1", hour: int = 0, rows: int = 1) -> WindowSketch:
    began = NOON + dt.timedelta(hours=hour)
    return WindowSketch(
        id=f"churn-{name}", model="churn", version=version, manifest_id="churn-0123456789abcdef", window_start=began, window_end=began,
        rows=rows, sketched=rows, columns={"tenure": ColumnSketch(kind="numeric", rows=rows, nulls=0, mean=0.5, m2=0.0, sketch="AA==")},
        prediction=ColumnSketch(kind="categorical", rows=rows, nulls=rows),
    )  # fmt: skip


def test_a_window_replaces_what_it_was_and_reads_back_equal(url: str) -> None:
    store = SqlSketches(url)
    for rows in (1, 7, 7, 30):
        store.save(window("noon", rows=rows))
    assert store.windows("churn") == [window("noon", rows=30)]


def test_windows_are_found_by_model_version_and_time_oldest_first(url: str) -> None:
    store = SqlSketches(url)
    for name, version, hour in (("later", "2", 3), ("first", "1", 0), ("second", "1", 1)):
        store.save(window(name, version=version, hour=hour))
    assert [w.id for w in store.windows("churn")] == ["churn-first", "churn-second", "churn-later"]
    assert [w.id for w in store.windows("churn", version="1", since=NOON + dt.timedelta(minutes=1))] == ["churn-second"]
    assert store.windows("other") == []


def _save(i: int, barrier: object, url: str) -> None:
    barrier.wait(30)  # type: ignore[attr-defined]
    for rows in range(20):
        SqlSketches(url).save(window(f"server-{i % 2}", rows=rows))


def test_servers_that_write_at_once_leave_one_row_each(any_url: str) -> None:
    state.migrate(any_url)
    crowd(4, _save, any_url)
    assert [(w.id, w.rows) for w in SqlSketches(any_url).windows("churn")] == [("churn-server-0", 19), ("churn-server-1", 19)]


def test_the_newest_hours_that_hold_enough_predictions_are_found_whole(url: str) -> None:
    store = SqlSketches(url)
    for name, hour, rows in (("hour-a", 0, 50), ("hour-b", 1, 30), ("hour-c", 1.4, 40), ("hour-d", 2.1, 10), ("hour-e", 2.2, 20)):
        began = NOON + dt.timedelta(hours=hour)
        store.save(window(name, rows=rows).model_copy(update={"window_start": began, "window_end": began}))
    store.save(window("other", version="2", hour=9, rows=1000))
    store.save(window("hour-e", rows=25).model_copy(update={"window_start": NOON + dt.timedelta(hours=2.2)}))
    assert store.made("churn", "1") == 155 and store.made("churn", "2") == 1000 and store.made("churn", "3") == 0
    for rows, names in ((1, "de"), (35, "de"), (36, "bcde"), (105, "bcde"), (106, "abcde"), (10_000, "abcde")):
        assert [w.id[-1] for w in store.newest("churn", "1", rows=rows)] == list(names)
    assert store.newest("churn", "3", rows=1) == []


def test_windows_written_before_their_rows_were_counted_are_counted_by_the_migration(url: str) -> None:
    for name, rows in (("early", 7), ("late", 30)):
        SqlSketches(url).save(window(name, rows=rows))
    with state.writing(state.engine(url)) as connection:
        connection.execute(text("ALTER TABLE sketches DROP COLUMN rows"))
        connection.execute(text("UPDATE alembic_version SET version_num = '0003'"))
    state._engines.pop(url).dispose()
    state.migrate(url)
    assert SqlSketches(url).made("churn", "1") == 37
