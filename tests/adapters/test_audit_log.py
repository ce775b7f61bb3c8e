import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
import rfc8785

from tests.adapters.crowd import crowd
from zebra_assets.adapters.audit_log import SqlAudit


def _append(i: int, barrier: object, url: str, times: int) -> list[int]:
    barrier.wait(30)  # type: ignore[attr-defined]
    audit = SqlAudit(url)
    return [audit.append(f"process {i}", "test.append", f"thing/{k}", {"k": k}) for k in range(times)]


def test_entries_read_back_with_what_was_said(url: str) -> None:
    audit = SqlAudit(url)
    assert [audit.append("ada", "test.a", "x", {"n": 1.0}), audit.append("bob", "test.b", "y", {"s": "ü"})] == [1, 2]
    first, second = audit.entries()
    assert (first.said()["actor"], first.said()["facts"], second.said()["facts"]) == ("ada", {"n": 1}, {"s": "ü"})
    assert [e.seq for e in audit.entries(subject="y")] == [2] and [e.seq for e in audit.entries(action="test.a")] == [1]
    assert [e.seq for e in audit.entries(after=1)] == [2]
    assert audit.verify() is None


def test_eight_processes_append_one_unforked_chain_without_gaps(url: str) -> None:
    said = crowd(8, _append, url, 40)
    assert sorted(n for s in said for n in s) == list(range(1, 321))
    assert SqlAudit(url).verify() is None


def test_a_fact_without_canonical_form_is_refused_and_nothing_is_written(url: str) -> None:
    with pytest.raises(rfc8785.CanonicalizationError):
        SqlAudit(url).append("a", "test.nan", "x", {"score": float("nan")})
    assert list(SqlAudit(url).entries()) == []


TAMPERING: dict[str, tuple[str, int]] = {
    "body rewritten": ("UPDATE audit SET body = CAST(replace(CAST(body AS TEXT), 'ada', 'eve') AS BLOB) WHERE seq = 3", 3),
    "actor's copy rewritten": ("UPDATE audit SET actor = 'eve' WHERE seq = 4", 4),
    "entry removed": ("DELETE FROM audit WHERE seq = 5", 5),
    "first removed": ("DELETE FROM audit WHERE seq = 1", 1),
    "two swapped": (
        "UPDATE audit SET seq = CASE seq WHEN 6 THEN -7 WHEN 7 THEN -6 END WHERE seq IN (6, 7); UPDATE audit SET seq = -seq WHERE seq < 0",
        6,
    ),
    "repeated at the end": ("INSERT INTO audit SELECT 11, actor, action, subject, body, prev, hash FROM audit WHERE seq = 10", 11),
    "link rewritten": ("UPDATE audit SET hash = zeroblob(32) WHERE seq = 8", 8),
}


@pytest.mark.parametrize("how", TAMPERING)
def test_tampering_is_found_at_the_first_entry_it_touched(tmp_path: Path, how: str) -> None:
    audit = SqlAudit(f"sqlite:///{tmp_path / 'state.db'}")
    for i in range(10):
        audit.append("ada", "test.step", "x", {"i": i})
    statement, first_bad = TAMPERING[how]
    raw = sqlite3.connect(tmp_path / "state.db")
    raw.executescript(statement)
    raw.close()
    assert audit.verify() == first_bad


def test_long_logs_are_read_a_page_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zebra_assets.adapters.audit_log._PAGE", 7)
    audit = SqlAudit(f"sqlite:///{tmp_path / 'state.db'}")
    append: Callable[[int], int] = lambda i: audit.append("a", "test.step", "x", {"i": i})  # noqa: E731
    assert [append(i) for i in range(20)] == [e.seq for e in audit.entries()]
