"""The policy that turns drift into one request for fresh data: edges, cool-down, budget, memory."""

import json
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.drift.baselines import BASELINE, NOON
from zebra_assets.contracts.model_spec import DriftSpec
from zebra_assets.contracts.verdicts import DriftReport
from zebra_assets.drift.retrain import Ask, Hold, RetrainMemory, consider, failed

DRIFT = DriftSpec()  # cool-down of 60 minutes, 7 asks a week


def _report(state: str, number: int, version: str = "1") -> DriftReport:
    return DriftReport(
        id=f"report-{number:04d}",
        model="churn",
        version=version,
        manifest_id=BASELINE,
        window_start=None,
        window_end=None,
        rows=500,
        state=state,  # type: ignore[arg-type]
        score=None if state == "unknown" else 0.5,
        columns=[],
        recommendation="retrain",
        reason=f"window {number}",
        created_at=NOON,
    )


class Loop:
    """A sensor in miniature: a log of reports, a cursor, a clock."""

    def __init__(self, **drift: Any) -> None:
        self.drift, self.log, self.now, self.cursor = DriftSpec(**drift), [], NOON, "{}"
        self.asks: list[Ask] = []
        self.last: Ask | Hold | None = None

    def seen(self, state: str, version: str = "1") -> "Loop":
        self.log.append(_report(state, len(self.log) + 1, version))
        return self.tick()

    def tick(self, minutes: float = 0) -> "Loop":
        self.now += timedelta(minutes=minutes)
        memory = RetrainMemory.model_validate(json.loads(self.cursor))
        for seq, report in enumerate(self.log, 1):
            if seq > memory.last_seq:
                self.last, memory = consider(report, seq, memory, self.drift, self.now)
                if isinstance(self.last, Ask):
                    self.asks.append(self.last)
        self.cursor = json.dumps(memory.model_dump(mode="json"))
        return self

    def ingest_failed(self) -> "Loop":
        self.cursor = failed(RetrainMemory.model_validate_json(self.cursor), self.asks[-1].run_key).model_dump_json()
        return self


def test_drift_that_lasts_all_night_asks_for_one_retrain() -> None:
    loop = Loop().seen("stable")
    for _ in range(12 * 10):
        loop.tick(minutes=5).seen("drifted")
    assert len(loop.asks) == 1
    assert isinstance(loop.last, Hold)
    assert "lasts; fresh data was asked for at 2026-11-21 12:05 UTC" in loop.last.reason


def test_a_first_report_that_is_drifted_is_an_edge_too() -> None:
    assert len(Loop().seen("drifted").asks) == 1


def test_unknown_neither_ends_a_drift_nor_begins_one() -> None:
    loop = Loop().seen("drifted")
    for state in ("unknown", "drifted", "unknown", "drifted"):
        loop.tick(minutes=120).seen(state)
    assert len(loop.asks) == 1
    assert Loop().seen("unknown").asks == []


def test_drift_that_ended_and_came_back_is_asked_for_again_after_the_cool_down() -> None:
    loop = Loop().seen("drifted").tick(minutes=10).seen("stable").tick(minutes=10).seen("drifted")
    assert len(loop.asks) == 1
    assert isinstance(loop.last, Hold)
    assert "cool-down until 2026-11-21 13:00 UTC" in loop.last.reason
    loop.tick(minutes=39)
    assert len(loop.asks) == 1
    loop.tick(minutes=1)  # no new report: the one that was held back is considered again
    assert [a.report_id for a in loop.asks] == ["report-0001", "report-0003"]


def test_drift_held_back_by_the_cool_down_and_over_since_is_not_asked_for() -> None:
    loop = Loop().seen("drifted").tick(minutes=10).seen("stable").tick(minutes=10).seen("drifted").tick(minutes=10).seen("stable")
    assert len(loop.tick(minutes=600).asks) == 1


def test_a_new_version_that_drifts_from_its_own_baseline_is_a_new_question() -> None:
    loop = Loop().seen("drifted", "1").tick(minutes=90).seen("drifted", "2").tick(minutes=90).seen("drifted", "2")
    assert len(loop.asks) == 2


def test_a_failed_ingest_can_be_asked_for_again() -> None:
    loop = Loop().seen("drifted").ingest_failed()
    loop.tick(minutes=30)
    assert len(loop.asks) == 1, "the cool-down holds for a broken source too"
    loop.tick(minutes=30)
    assert [a.report_id for a in loop.asks] == ["report-0001", "report-0001"]
    assert len({a.run_key for a in loop.asks}) == 2, "Dagster would swallow a run key it has seen fail"


def test_a_failure_that_is_not_of_the_open_ask_changes_nothing() -> None:
    memory = RetrainMemory.model_validate_json(Loop().seen("drifted").cursor)
    assert failed(memory, "drift:churn:another:1") == memory
    closed = RetrainMemory.model_validate_json(Loop().seen("drifted").seen("stable").cursor)
    assert failed(closed, "drift:churn:report-0001:1") == closed


def test_a_source_that_always_fails_is_tried_within_the_budget_and_not_once_more() -> None:
    loop = Loop(budget_per_week=3).seen("drifted")
    for _ in range(6 * 24):
        loop.ingest_failed().tick(minutes=60)
    assert len(loop.asks) == 3
    assert isinstance(loop.last, Hold)
    assert "3 of 3 asks of this week are used up" in loop.last.reason
    loop.ingest_failed().tick(minutes=24 * 60 + 60)
    assert len(loop.asks) == 4, "a week later the budget is there again"


def test_a_budget_of_nothing_never_asks() -> None:
    assert Loop(budget_per_week=0).seen("drifted").tick(minutes=10_000).asks == []


def test_a_tick_that_is_repeated_asks_for_the_same_run() -> None:
    first, _ = consider(_report("drifted", 1), 1, RetrainMemory(), DRIFT, NOON)
    again, _ = consider(_report("drifted", 1), 1, RetrainMemory(), DRIFT, NOON + timedelta(seconds=30))
    assert isinstance(first, Ask)
    assert isinstance(again, Ask)
    assert first.run_key == again.run_key == "drift:churn:report-0001:1"


def test_a_report_that_was_considered_changes_nothing() -> None:
    _, memory = consider(_report("drifted", 1), 1, RetrainMemory(), DRIFT, NOON)
    answer, after = consider(_report("drifted", 1), 1, memory, DRIFT, NOON + timedelta(days=1))
    assert isinstance(answer, Hold)
    assert after == memory


def test_memory_survives_a_restart_as_json_and_stays_small() -> None:
    loop = Loop(cooldown_minutes=0, budget_per_week=100)
    for _ in range(200):
        loop.tick(minutes=60 * 20).seen("drifted").seen("stable")
    assert RetrainMemory.model_validate_json(loop.cursor).asked == 200
    assert len(loop.cursor) < 2000


@pytest.mark.parametrize("cooldown", [0, 45])
@given(st.lists(st.tuples(st.sampled_from(["stable", "drifted", "unknown"]), st.sampled_from("12"), st.integers(0, 90)), max_size=60))
def test_whatever_happens_asks_keep_their_distance_and_their_budget(cooldown: int, history: list[tuple[str, str, int]]) -> None:
    loop = Loop(cooldown_minutes=cooldown, budget_per_week=4)
    for state, version, minutes in history:
        loop.tick(minutes=minutes).seen(state, version)
    times = [a.at for a in loop.asks]
    assert all(later - earlier >= timedelta(minutes=cooldown) for earlier, later in pairwise(times))
    assert len(times) <= 4
    assert len({a.run_key for a in loop.asks}) == len(loop.asks)
    assert all(loop.log[a.seq - 1].state == "drifted" for a in loop.asks)
