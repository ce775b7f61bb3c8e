"""The verbs: defaults, refusals, and what rests afterwards."""

from datetime import UTC, datetime
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.control.conftest import NAME
from zebra_assets.contracts.events import PredictionEvent
from zebra_assets.control import operations, queries
from zebra_assets.errors import GateClosed, NotFound, UsageError
from zebra_assets.loop.pages import evidently_key
from zebra_assets.parts import Parts


def test_the_verbs_name_the_next_command_when_something_must_come_first(fresh: Parts) -> None:
    for verb, fix in (
        (lambda: operations.train(fresh, NAME), f"mlops ingest {NAME}"),
        (lambda: operations.evaluate(fresh, NAME), f"mlops train {NAME}"),
        (lambda: operations.promote(fresh, NAME), f"mlops train {NAME}"),
        (lambda: operations.monitor(fresh, NAME), f"mlops promote {NAME} --to prod"),
    ):
        with pytest.raises(NotFound) as caught:
            verb()
        assert caught.value.fix == fix


def test_an_ingest_leaves_an_audit_entry(fresh: Parts) -> None:
    done = operations.ingest(fresh, NAME)
    assert done.created
    assert fresh.audit.append("test", "look", "audit", {}) == 2  # the ingest was entry 1


def test_promote_judges_a_run_that_nobody_judged_and_the_verdict_rests(trained: Parts) -> None:
    run = operations.chosen_run(trained, NAME, None)
    assert trained.records.decision_for(run.id) is None
    moved, decision = operations.promote(trained, NAME, to="staging", reason="first look")
    assert decision.allowed and (moved.alias, moved.version, moved.state) == ("staging", "1", "done")
    report = trained.records.report_for(run.id)
    assert report is not None and report.html_uri is not None
    page = Path(report.html_uri.removeprefix("file://"))
    assert "roc_auc" in page.read_text() and (page.parent / "evaluation.json").exists()


def test_a_run_of_another_model_is_refused_by_name(trained: Parts) -> None:
    folder = trained.settings.models_dir
    (folder / "other").mkdir(exist_ok=True)
    spec = (folder / NAME / "model.yaml").read_text().replace(f"name: {NAME}\n", "name: other\n", 1)
    (folder / "other" / "model.yaml").write_text(spec)
    (folder / "other" / "train.py").write_text("")
    run = operations.chosen_run(trained, NAME, None)
    with pytest.raises(UsageError, match=f"belongs to model '{NAME}'"):
        operations.evaluate(trained, "other", run.id)


@pytest.mark.parametrize("word", ["live", "production", "latest"])
def test_only_the_spec_s_two_aliases_can_be_moved(trained: Parts, word: str) -> None:
    with pytest.raises(UsageError, match="is no alias"):
        operations.promote(trained, NAME, to=word)


def test_the_champion_s_predictions_are_computed_once(trained: Parts) -> None:
    operations.evaluate(trained, NAME)
    before = list(trained.store.list("predictions/"))
    operations.evaluate(trained, NAME)
    assert list(trained.store.list("predictions/")) == before and len(before) == 1


def test_scores_on_training_rows_do_not_open_the_gate(trained: Parts) -> None:
    judged = operations.evaluate(trained, NAME, split="train")
    assert not judged.decision.allowed
    with pytest.raises(GateClosed):
        operations.promote(trained, NAME)
    assert operations.evaluate(trained, NAME).decision.allowed


def test_monitor_compares_with_the_baseline_and_a_drifted_window_leaves_one_event(trained: Parts) -> None:
    operations.evaluate(trained, NAME)
    operations.promote(trained, NAME)
    head = trained.ledger.head(NAME, "prod")
    manifest = trained.manifests.get(head.manifest_id)  # type: ignore[union-attr]
    train = pq.read_table([trained.store.fetch(a.key) for a in manifest.blobs("train")])
    # Only the largest nuclei come in from now on: real rows, another mix.
    large = [row for row in train.to_pylist() if row["radius"] > 15]
    features = manifest.columns.features()
    trained.events.append(
        [
            PredictionEvent(
                event_id=f"event-{n:05d}",
                ts=datetime.now(UTC),
                model=NAME,
                version="1",
                manifest_id=manifest.id,
                features={name: row[name] for name in features},
                prediction="malignant",
                score=0.9,
            )
            for n, row in enumerate(large * 3)
        ]
    )
    report = operations.monitor(trained, NAME)
    assert report.state == "drifted" and report.recommendation == "retrain"
    assert {"radius", "perimeter", "area"} <= {c.column for c in report.columns if c.drifted}
    assert report.prediction is not None and report.prediction.drifted
    assert report.html_uri is not None and Path(report.html_uri.removeprefix("file://")).exists()
    assert operations.monitor(trained, NAME).id == report.id
    assert trained.events.count(NAME, "drift_event") == 1


def test_evidentlys_page_stays_linked_when_the_same_window_is_looked_at_again(trained: Parts) -> None:
    if trained.ledger.head(NAME, "prod") is None:
        operations.evaluate(trained, NAME)
        operations.promote(trained, NAME)
    report = operations.monitor(trained, NAME)
    assert queries.evidently_uri(trained, report) is None
    trained.store.put(evidently_key(report), b"<p>drawn earlier</p>")
    assert operations.monitor(trained, NAME).id == report.id
    assert b'href="evidently.html"' in trained.store.get(evidently_key(report).replace("evidently", "drift"))
    assert str(queries.evidently_uri(trained, report)).endswith("evidently.html")


def test_monitor_keeps_its_verdict_when_the_pushgateway_is_away(trained: Parts, caplog: pytest.LogCaptureFixture) -> None:
    if trained.ledger.head(NAME, "prod") is None:
        operations.evaluate(trained, NAME)
        operations.promote(trained, NAME)
    away = Parts(trained.settings.model_copy(update={"pushgateway_url": "http://127.0.0.1:1"}))
    report = operations.monitor(away, NAME)
    assert away.records.drifts(NAME)[-1][1].id == report.id
    assert "Pushgateway" in caplog.text


def test_history_tells_every_move_newest_first(trained: Parts) -> None:
    rows = queries.history(trained, NAME)
    assert rows and [r.created_at for r in rows] == sorted((r.created_at for r in rows), reverse=True)
