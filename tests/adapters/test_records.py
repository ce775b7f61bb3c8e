import pytest

from zebra_assets.adapters.records import SqlRecords
from zebra_assets.contracts.noun import now
from zebra_assets.contracts.run import CodeRevision, Run
from zebra_assets.contracts.verdicts import DriftReport, EvalReport, GateDecision, Rule, Scores

MANIFEST, DIGEST = "churn-0123456789abcdef", "a" * 64


def run(i: int, model: str = "churn", **more: object) -> Run:
    values = {
        "manifest_id": MANIFEST,
        "roles": {"train": MANIFEST},
        "spec_digest": DIGEST,
        "code": CodeRevision(digest=DIGEST),
        "created_at": now(),
    }
    return Run.model_validate({"id": f"{model}-run-{i:04d}", "model": model} | values | more)


def report(id: str, run_id: str = "churn-run-0001") -> EvalReport:
    scores = Scores(version="1", model_digest=DIGEST, metrics={"roc_auc": 0.8}, intervals={"roc_auc": (0.7, 0.9)})
    return EvalReport(
        id=id,
        model="churn",
        run_id=run_id,
        manifest_id=MANIFEST,
        split="test",
        rows=10,
        candidate=scores,
        difference=None,
        created_at=now(),
    )


def decision(id: str, run_id: str = "churn-run-0001") -> GateDecision:
    rule = Rule(name="rows", passed=True, value=1.0, bound=1.0, reason="fine")
    return GateDecision(
        id=id,
        model="churn",
        run_id=run_id,
        version="1",
        model_digest=DIGEST,
        manifest_id=MANIFEST,
        report_id="eval-1",
        champion_version=None,
        allowed=True,
        rules=[rule],
        created_at=now(),
    )


def drift(id: str, model: str = "churn", **more: object) -> DriftReport:
    values = {
        "version": "1",
        "manifest_id": MANIFEST,
        "window_start": None,
        "window_end": None,
        "rows": 0,
        "state": "unknown",
        "score": None,
        "columns": [],
        "recommendation": "wait",
        "reason": "no rows",
        "created_at": now(),
    }
    return DriftReport.model_validate({"id": id, "model": model} | values | more)


def test_every_kind_of_record_reads_back_equal(url: str) -> None:
    records = SqlRecords(url)
    nouns = [run(1), report("eval-1"), decision("gate-1"), drift("drift-1")]
    for noun in nouns:
        records.save(noun)
    assert [records.run(nouns[0].id), records.report("eval-1"), records.decision("gate-1")] == nouns[:3]
    assert [r for _, r in records.drifts("churn")] == nouns[3:]
    assert records.run("gate-1") is None and records.report("nothing") is None


def test_runs_come_newest_first_and_a_run_that_ends_keeps_its_place(url: str) -> None:
    records = SqlRecords(url)
    for i in range(1, 5):
        records.save(run(i))
    records.save(run(9, model="fraud"))
    records.save(run(2, state="finished", version="1"))
    assert [r.id[-1] for r in records.runs("churn")] == ["4", "3", "2", "1"]
    assert records.runs("churn")[2].state == "finished"
    assert [r.id[-1] for r in records.runs(limit=2)] == ["9", "4"]


def test_the_verdict_about_a_run_is_the_one_saved_last_also_when_it_was_known_before(url: str) -> None:
    records = SqlRecords(url)
    assert records.decision_for("churn-run-0001") is None
    for n in (1, 2):
        records.save(decision(f"gate-{n}"))
        records.save(report(f"eval-{n}"))
    records.save(decision("gate-3", run_id="churn-run-0002"))
    assert getattr(records.decision_for("churn-run-0001"), "id", None) == "gate-2"
    records.save(decision("gate-1"))
    records.save(report("eval-1"))
    assert getattr(records.decision_for("churn-run-0001"), "id", None) == "gate-1"
    assert getattr(records.report_for("churn-run-0001"), "id", None) == "eval-1"


def test_a_reader_that_remembers_its_place_sees_each_drift_report_once_in_order(url: str) -> None:
    records = SqlRecords(url)
    for i in range(5):
        records.save(drift(f"drift-{i}"))
        records.save(drift(f"other-{i}", model="fraud"))
    records.save(drift("drift-1", html_uri="file:///page.html"))
    seen, after = [], 0
    while page := records.drifts("churn", after=after, limit=2):
        seen += [r.id for _, r in page]
        after = page[-1][0]
    assert seen == [f"drift-{i}" for i in range(5)]
    assert records.drifts("churn")[1][1].html_uri == "file:///page.html"


@pytest.mark.parametrize("strange", ["'; DROP TABLE records; --", "ünï\u2028cøde", "a" * 60])
def test_strange_text_is_only_text(url: str, strange: str) -> None:
    records = SqlRecords(url)
    records.save(run(1, error=strange, params={strange: 1}))
    assert records.runs()[0].error == strange
