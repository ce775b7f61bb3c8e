from pathlib import Path

import pytest

from tests.adapters.crowd import crowd
from zebra_assets.adapters.audit_log import SqlAudit
from zebra_assets.adapters.ledger import SqlLedger
from zebra_assets.contracts.noun import now
from zebra_assets.contracts.promotion import Promotion
from zebra_assets.errors import Conflict


def row(seq: int, version: str, from_version: str | None, **more: object) -> Promotion:
    values = {
        "model": "churn",
        "alias": "prod",
        "seq": seq,
        "kind": "promote",
        "version": version,
        "from_version": from_version,
        "run_id": f"run-{version:0>8}",
        "manifest_id": "churn-0123456789abcdef",
        "model_digest": "a" * 64,
        "decision_id": f"gate-{version}",
        "actor": "ada",
        "reason": "better",
        "created_at": now(),
    }
    return Promotion.model_validate(values | more)


def test_what_was_appended_is_the_head_and_reads_back_equal(url: str) -> None:
    ledger = SqlLedger(url)
    assert ledger.head("churn", "prod") is None and ledger.heads() == []
    first, second, other = row(1, "1", None), row(2, "2", "1"), row(1, "1", None, alias="staging")
    for promotion in (first, second, other):
        ledger.append(promotion)
    assert ledger.head("churn", "prod") == second
    assert ledger.history("churn", "prod") == [second, first]
    assert ledger.heads() == [second, other]


@pytest.mark.parametrize(
    ("seq", "from_version"), [(2, "1"), (4, "2"), (3, "1"), (3, None), (1, None)], ids=["taken", "gap", "stale", "none", "first"]
)
def test_only_the_next_row_from_the_head_is_accepted(url: str, seq: int, from_version: str | None) -> None:
    ledger = SqlLedger(url)
    ledger.append(row(1, "1", None))
    ledger.append(row(2, "2", "1"))
    entries = len(list(SqlAudit(url).entries()))
    with pytest.raises(Conflict, match=r"moved by ada .now version 2, entry 2."):
        ledger.append(row(seq, "3", from_version))
    assert [r.seq for r in ledger.history("churn", "prod")] == [2, 1]
    assert len(list(SqlAudit(url).entries())) == entries, "a move that did not happen left an entry"


def test_each_row_and_its_completion_leave_one_audit_entry(url: str) -> None:
    ledger, audit = SqlLedger(url), SqlAudit(url)
    ledger.append(row(1, "1", None))
    ledger.append(row(2, "2", "1"))
    ledger.append(row(3, "1", "2", kind="rollback", actor="grace"))
    ledger.done("churn", "prod", 3, actor="sensor")
    ledger.done("churn", "prod", 3)
    said = [(e.action, e.actor, e.said()["facts"]["seq"]) for e in audit.entries(subject="churn/prod")]
    assert said == [
        ("alias.promote", "ada", 1),
        ("alias.promote", "ada", 2),
        ("alias.rollback", "grace", 3),
        ("alias.done", "sensor", 1),
        ("alias.done", "sensor", 2),
        ("alias.done", "sensor", 3),
    ]
    assert {r.state for r in ledger.history("churn", "prod")} == {"done"}
    assert audit.verify() is None


def _promote_what_it_can(i: int, barrier: object, url: str, rounds: int) -> list[tuple[int, bool]]:
    ledger = SqlLedger(url)
    said = []
    for _ in range(rounds):
        head = ledger.head("churn", "prod")
        barrier.wait(60)  # type: ignore[attr-defined]  # all have seen the same head
        seq = head.seq + 1 if head else 1
        try:
            ledger.append(row(seq, str(seq * 10 + i), head.version if head else None, actor=f"p{i}"))
            said.append((seq, True))
        except Conflict:
            said.append((seq, False))
        barrier.wait(60)  # type: ignore[attr-defined]  # nobody looks before all have tried
    return said


def test_of_eight_processes_that_saw_the_same_head_one_wins_each_time(url: str) -> None:
    SqlLedger(url).heads()
    said = crowd(8, _promote_what_it_can, url, 10)
    assert [len(s) for s in said] == [10] * 8, said
    winners = {seq: sum((seq, True) in s for s in said) for seq in range(1, 11)}
    assert winners == dict.fromkeys(range(1, 11), 1)
    history = SqlLedger(url).history("churn", "prod")[::-1]
    assert [r.seq for r in history] == list(range(1, 11))
    assert [r.from_version for r in history] == [None, *(r.version for r in history[:-1])]
    assert len(list(SqlAudit(url).entries())) == 10 and SqlAudit(url).verify() is None


def test_a_ledger_is_read_by_a_process_that_did_not_write_it(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'state.db'}"
    SqlLedger(url).append(row(1, "1", None))
    assert crowd(1, _head, url) == ["1"]


def _head(_i: int, _barrier: object, url: str) -> str | None:
    head = SqlLedger(url).head("churn", "prod")
    return head.version if head else None
