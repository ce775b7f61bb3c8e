"""What happened asks for what comes next, once."""

import json
from datetime import UTC, datetime

import dagster as dg
import pytest

from tests.defs.conftest import ingest
from zebra_assets.contracts.events import LabelEvent, PredictionEvent
from zebra_assets.contracts.noun import now
from zebra_assets.contracts.promotion import Promotion
from zebra_assets.contracts.route import Route
from zebra_assets.contracts.verdicts import DriftReport
from zebra_assets.defs.build import build_defs

pytestmark = pytest.mark.filterwarnings("ignore")

MODEL = "tabular-churn"


def tick(site, name, cursor=None, instance=None):
    """Evaluate a sensor of the project's definitions once."""
    sensor = build_defs(project_dir=site.folder).resolve_sensor_def(name)
    with instance or site.instance() as live:
        context = dg.build_sensor_context(instance=live, cursor=cursor, resources={"house": site.house()})
        result = sensor(context)
        return result, context.cursor


def add_fibre(site):
    script = site.python(f"models/{MODEL}/source.py", "--fibre", "--project", str(site.folder))
    assert script.returncode == 0, script.stderr


def drift(site, state, number):
    report = DriftReport(
        id=f"drift-{number:04d}", model=MODEL, version="1", manifest_id=site.manifest_id, window_start=None, window_end=None, rows=500,
        state=state, score=0.5, columns=[], recommendation="retrain" if state == "drifted" else "none", reason="tested", created_at=datetime.now(UTC),
    )  # fmt: skip
    site.parts.records.save(report)


def test_a_known_manifest_asks_for_nothing_and_a_new_one_for_one_run(site):
    skipped, _ = tick(site, "new_manifest_sensor")
    assert isinstance(skipped, dg.SkipReason)
    add_fibre(site)
    fresh = ingest(site.folder)
    assert fresh != site.manifest_id
    result, _ = tick(site, "new_manifest_sensor")
    assert [(r.partition_key, r.job_name) for r in result.run_requests] == [(fresh, "tabular_churn_loop")]
    assert [r.partition_keys for r in result.dynamic_partitions_requests] == [[fresh]]


def test_drift_that_lasts_asks_for_fresh_data_once_and_never_straight_for_training(site):
    drift(site, "stable", 1)
    drift(site, "drifted", 2)
    result, cursor = tick(site, "drift_sensor")
    assert [r.job_name for r in result.run_requests] == ["tabular_churn_ingest"]
    drift(site, "drifted", 3)
    again, cursor = tick(site, "drift_sensor", cursor)
    assert isinstance(again, dg.SkipReason), again
    quiet, _ = tick(site, "drift_sensor", cursor)
    assert isinstance(quiet, dg.SkipReason)


def test_an_ingest_that_failed_is_asked_for_again_under_another_key(site):
    path = site.folder / "models" / MODEL / "model.yaml"
    path.write_text(path.read_text() + "drift: {cooldown_minutes: 0}\n")
    drift(site, "drifted", 1)
    result, cursor = tick(site, "drift_sensor")
    first = result.run_requests[0]
    for source in (site.folder / ".zebraops" / "sources" / MODEL).iterdir():
        source.unlink()
    job = build_defs(project_dir=site.folder).resolve_job_def("tabular_churn_ingest")
    with site.instance() as instance:
        ran = job.execute_in_process(instance=instance, tags={**first.tags, "dagster/run_key": first.run_key}, raise_on_error=False)
        assert not ran.success
    again, _ = tick(site, "drift_sensor", cursor)
    assert [r.job_name for r in again.run_requests] == ["tabular_churn_ingest"]
    assert again.run_requests[0].run_key != first.run_key


def test_a_source_is_ingested_when_its_revision_changes_and_not_before(site):
    first, cursor = tick(site, "source_sensor")
    assert [r.job_name for r in first.run_requests] == ["tabular_churn_ingest"]
    same, cursor = tick(site, "source_sensor", cursor)
    assert isinstance(same, dg.SkipReason)
    add_fibre(site)
    changed, _ = tick(site, "source_sensor", cursor)
    assert len(changed.run_requests) == 1
    assert changed.run_requests[0].run_key != first.run_requests[0].run_key


def test_an_absent_source_is_named_instead_of_counting_as_unchanged(site):
    for path in (site.folder / ".zebraops" / "sources" / MODEL).iterdir():
        path.unlink()
    skipped, _ = tick(site, "source_sensor")
    assert skipped.skip_message == f"0 sources unchanged; read on schedule only, absent or without a revision: {MODEL}"


def test_the_same_rows_again_end_the_loop_with_no_new_data(site):
    job = build_defs(project_dir=site.folder).resolve_job_def("tabular_churn_ingest")
    with site.instance() as instance:
        result = job.execute_in_process(instance=instance, tags={"zebra/cause": "drift"})
    said = [e.step_output_data.metadata["said"].value for e in result.all_events if e.is_successful_output]
    assert said == [f"drift seen, no new data: the source still gives {site.manifest_id}; nothing to train"]
    skipped, _ = tick(site, "new_manifest_sensor")
    assert isinstance(skipped, dg.SkipReason)


def test_every_sensor_and_schedule_is_running_without_a_click(site):
    defs = build_defs(project_dir=site.folder)
    repository = defs.get_repository_def()
    names = {s.name for s in repository.sensor_defs if s.default_status == dg.DefaultSensorStatus.RUNNING}
    assert names == {
        "new_manifest_sensor",
        "source_sensor",
        "monitor_sensor",
        "drift_sensor",
        "ledger_sensor",
        "verdict_sensor",
        "lease_sensor",
        "run_failure_audit",
    }
    assert all(s.default_status == dg.DefaultScheduleStatus.RUNNING for s in repository.schedule_defs)
    assert {s.cron_schedule for s in repository.schedule_defs} >= {"0 */6 * * *"}


def test_new_labels_of_routed_predictions_are_judged_once(site):
    skipped, _ = tick(site, "verdict_sensor")
    assert skipped.skip_message == "no model has candidates"
    known = {"model": MODEL, "manifest_id": site.manifest_id}
    about = {"alias": "prod", "seq": 1, "actor": "ada", "created_at": now()}
    run = {"run_id": "run-00000001", "model_digest": "a" * 64}
    parts = site.parts
    champion = {"kind": "promote", "version": "1", "from_version": None, "decision_id": "gate-1", "reason": ""}
    parts.ledger.append(Promotion.model_validate({**known, **about, **run, **champion}))
    candidate = {"version": "2", "manifest_id": site.manifest_id, "weight": 0.5, **run}
    parts.routes.append(Route.model_validate({**about, "model": MODEL, "kind": "set", "salt": "0" * 32, "candidates": [candidate]}))
    drawn = {"route": 1, "arm": "champion", "shares": {"1": 0.5, "2": 0.5}, "unit": "u"}
    said = {"event_id": "event-00001", "ts": now(), "version": "1", "features": {}, "prediction": "No", "score": 0.2, "drawn": drawn}
    event = PredictionEvent.model_validate({**known, **said})
    parts.events.append([event, LabelEvent(event_id="label-00001", ts=now(), model=MODEL, prediction_event_id="event-00001", label="No")])
    judged, cursor = tick(site, "verdict_sensor")
    assert "v2 against v1: more" in judged.skip_message
    verdict = parts.routes.verdict(MODEL, "prod", "1", "2")
    assert verdict is not None and verdict.rows == {"1": 1, "2": 0} and verdict.means == {"1": pytest.approx(0.96)}
    again, _ = tick(site, "verdict_sensor", cursor)
    assert again.skip_message == f"{MODEL}: no new labels"


def test_nothing_in_prod_means_nothing_to_monitor(site):
    skipped, cursor = tick(site, "monitor_sensor")
    assert "nothing in prod" in skipped.skip_message
    assert json.loads(cursor) == {}
