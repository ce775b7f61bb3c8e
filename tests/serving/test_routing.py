"""Several versions answer: lots are fair and stay, a candidate never hurts a request, and a bad one goes back."""

import json
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.serving.conftest import MODEL, ROW, Bench, rows, until
from zebra_assets.adapters.audit_log import SqlAudit
from zebra_assets.adapters.routes import SqlRoutes
from zebra_assets.contracts.arm import ArmTally, Spread, by_arm
from zebra_assets.contracts.dataset_spec import DatasetSpec
from zebra_assets.contracts.events import LabelEvent
from zebra_assets.contracts.noun import now
from zebra_assets.contracts.route import Canary, Candidate, Guards, Route, Step, Verdict
from zebra_assets.loop import judge_route
from zebra_assets.parts import Parts
from zebra_serving.app import App
from zebra_serving.problems import ModelFailed
from zebra_serving.routing.canary import broken
from zebra_serving.routing.plan import Arm, Plan, champion
from zebra_serving.routing.seen import Seen
from zebra_serving.rows import Rows
from zebra_serving.served import Scored

SALT = "0123456789abcdef" * 2


def candidate(bench: Bench, version: str = "2", **more: Any) -> Candidate:
    about = {"version": version, "run_id": f"{MODEL}-run-000{version}", "manifest_id": f"{MODEL}-00000000000000a{version}"}
    return Candidate.model_validate({**about, "model_digest": bench.shelf.digests[version], **more})


def put(bench: Bench, *candidates: Candidate, **more: Any) -> Route:
    """Append to the log what `mlops route set` would have appended."""
    routes = SqlRoutes(bench.settings.state)
    head = routes.head(MODEL, "prod")
    values = {"model": MODEL, "alias": "prod", "seq": head.seq + 1 if head else 1, "kind": "set", "salt": SALT, "actor": "ada"}
    route = Route.model_validate({**values, "candidates": [c.model_dump() for c in candidates], "created_at": now(), **more})
    routes.append(route)
    return route


def ramp(bench: Bench, **guards: Any) -> Route:
    """A canary at half of the requests."""
    canary = Canary(candidate="candidate", steps=[Step(weight=0.5, minutes=0)], guards=Guards(**guards), started_at=now())
    return put(bench, candidate(bench), kind="canary", canary=canary.model_dump())


@contextmanager
def routed(bench: Bench) -> Iterator[tuple[App, httpx.Client]]:
    """A server of version 1 that has drawn up its plan."""
    bench.promote("1")
    app = bench.app()
    with bench.running(app) as client:
        until(lambda: app.loader.current and app.fleet.default.router.plan)
        yield app, client


def ask(client: httpx.Client, key: str | None = None, **headers: str) -> str:
    """The version that answers."""
    answer = client.post("/predict", json=ROW, headers={**({"x-user-id": key} if key else {}), **headers})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["version"])


def went_back(client: httpx.Client, meanwhile: Callable[[], object]) -> Any:
    """What is told of the route once its canary was sent back."""
    until(lambda: meanwhile() and client.get("/model").json()["route"]["kind"] == "rollback")
    return client.get("/model").json()["route"]


def metric(client: httpx.Client, name: str, **labels: str) -> float:
    said = client.get("/metrics").text
    inside = ",".join(f'{label}="{value}"' for label, value in sorted(labels.items()))
    wanted = f"{name}{{{inside}}} "
    return float(next((line.split()[-1] for line in said.splitlines() if line.startswith(wanted)), "0"))


def stored(bench: Bench, route: int = 1) -> dict[str, ArmTally]:
    return by_arm(SqlRoutes(bench.settings.state).tallies(MODEL, "prod", route))


def plan(*weights: float, salt: str = SALT) -> Plan:
    arms = [(weight, Arm(f"c{i}", str(i + 2), object(), Seen())) for i, weight in enumerate(weights)]  # type: ignore[arg-type]
    values = {"model": MODEL, "alias": "prod", "seq": 1, "kind": "set", "salt": salt, "actor": "ada", "created_at": now()}
    return Plan(Route.model_validate(values), champion("1", Seen()), arms, [])


def test_lots_are_uniform_and_fall_by_weight() -> None:
    drawn = plan(0.1, 0.3)
    count, cells = 100_000, 64
    lots = [drawn.lot(b"user-%d" % i) for i in range(count)]
    for which in ("arm", "shadow"):
        seen = Counter(int(getattr(lot, which) * cells) for lot in lots)
        chi2 = sum((seen[cell] - count / cells) ** 2 / (count / cells) for cell in range(cells))
        # 99.9 % of uniform draws lie below 103.4 with 63 degrees of freedom; the lots of fixed keys never change.
        assert chi2 < 103.4
    together = Counter((lot.arm < 0.5, lot.shadow < 0.5) for lot in lots)
    assert all(abs(cell / count - 0.25) < 0.01 for cell in together.values()), "the shadow's lot tells nothing about the arm's"
    shares = Counter(drawn.arm(lot.arm).name for lot in lots)
    assert {name: round(n / count, 2) for name, n in shares.items()} == {"champion": 0.6, "c0": 0.1, "c1": 0.3}


def test_a_key_keeps_its_lot_in_another_process_and_its_arm_while_weights_grow() -> None:
    code = "from tests.serving.test_routing import plan; p = plan(0.2);print([p.arm(p.lot(b'user-%d' % i).arm).name for i in range(200)])"
    repo = Path(__file__).parents[2]
    said = subprocess.run([sys.executable, "-c", code], cwd=repo, capture_output=True, text=True, check=True).stdout
    small, large, other = plan(0.2), plan(0.5), plan(0.2, salt="f" * 32)

    def arms(drawn: Plan) -> list[str]:
        return [drawn.arm(drawn.lot(b"user-%d" % i).arm).name for i in range(200)]

    assert said.strip() == str(arms(small))
    assert {i for i, name in enumerate(arms(small)) if name == "c0"} <= {i for i, name in enumerate(arms(large)) if name == "c0"}
    assert arms(other) != arms(small)


def test_a_lot_costs_microseconds() -> None:
    drawn = plan(0.5)

    def once() -> float:
        began = time.process_time()
        for i in range(2000):
            drawn.arm(drawn.lot(b"user-%d" % i).arm)
        return (time.process_time() - began) / 2000

    assert min(once() for _ in range(5)) < 10e-6  # 1.9 us measured; the bound leaves room for a busy machine


def test_without_a_route_every_request_goes_to_the_champion(bench: Bench) -> None:
    bench.promote("1")
    with bench.client("1") as client:
        assert {ask(client, f"user-{i}") for i in range(20)} == {"1"}
        assert client.get("/model").json()["route"] is None
        assert "zebra_arm_requests_total{" not in client.get("/metrics").text
        put(bench, candidate(bench, weight=1.0))
        until(lambda: ask(client) == "2")
        put(bench, kind="stop")
        until(lambda: ask(client) == "1")
        assert client.get("/model").json()["route"]["kind"] == "stop"


def test_keys_keep_their_version_events_their_lot_and_metrics_their_arm(bench: Bench) -> None:
    put(bench, candidate(bench, weight=0.5), sticky={"header": "x-user-id"}, force_header="x-model-experiment")
    with routed(bench) as (_, client):
        found = {f"user-{i}": ask(client, f"user-{i}") for i in range(60)}
        assert set(found.values()) == {"1", "2"}
        assert {key: ask(client, key) for key in found} == found
        for arm, version in (("candidate", "2"), ("champion", "1")):
            assert {ask(client, f"user-{i}", **{"x-model-experiment": arm}) for i in range(10)} == {version}
        assert {ask(client, key, **{"x-model-experiment": "nobody"}) for key in list(found)[:5]} <= {"1", "2"}
        count = Counter(found.values())
        assert metric(client, "zebra_arm_requests_total", arm="candidate", version="2") >= 2 * count["2"] + 10
        assert metric(client, "zebra_arm_weight", arm="champion", version="1") == 0.5
        assert metric(client, "zebra_arm_seconds_count", arm="candidate", version="2") >= 2 * count["2"] + 10
        assert metric(client, "zebra_arm_score_count", arm="champion", version="1") > 0
        if (promtool := shutil.which("promtool")) is not None:
            page = client.get("/metrics").text
            done = subprocess.run([promtool, "check", "metrics"], input=page, capture_output=True, text=True, timeout=30, check=False)
            assert done.returncode == 0, done.stdout + done.stderr
    events = bench.events.predictions(MODEL)
    drawn = [event for event in events if event.drawn]
    assert len(events) - len(drawn) == 20, "who names an arm has drawn no lot"
    assert all(event.drawn and event.drawn.shares == {"1": 0.5, "2": 0.5} for event in drawn)
    assert {(event.drawn.arm, event.version) for event in drawn if event.drawn} == {("champion", "1"), ("candidate", "2")}
    assert len({event.drawn.unit for event in drawn if event.drawn}) == 60
    assert {arm: tally.requests for arm, tally in stored(bench).items()}.keys() == {"candidate/2", "champion/1"}


def test_a_column_decides_and_many_rows_have_one_version(bench: Bench) -> None:
    put(bench, candidate(bench, weight=0.5), sticky={"column": "tenure"})
    with routed(bench) as (_, client):
        many = rows(40)
        alone = {row["tenure"]: client.post("/predict", json=row).json()["version"] for row in many}
        assert set(alone.values()) == {"1", "2"}
        for start in range(0, 40, 10):
            part = many[start : start + 10]
            said = client.post("/predict", json={"rows": part}).json()
            assert said["version"] == alone[part[0]["tenure"]]
            assert [(p["prediction"], p["score"]) for p in said["predictions"]] == bench.shelf.score(said["version"], part)


def test_a_bad_candidate_never_joins_and_the_reason_is_told(bench: Bench) -> None:
    put(bench, candidate(bench, "4", weight=0.5, name="flipped"), candidate(bench, "2", weight=0.2, name="good"))
    with routed(bench) as (app, client):
        assert {ask(client, f"user-{i}") for i in range(40)} <= {"1", "2"}
        view = client.get("/model").json()["route"]
        bad, good = view["candidates"]
        assert (bad["serving"], good["serving"]) == (False, True)
        assert "digest" in bad["problem"] or "differ" in bad["problem"]
        assert app.fleet.default.router.plan is not None
        assert app.fleet.default.router.plan.shares == {"1": 0.8, "2": 0.2}


class Breaking:
    """A model that answers no row with a tenure above 30."""

    form, quick = "breaking", True

    def __init__(self, inner: Any, slow_s: float = 0.0, until: threading.Event | None = None) -> None:
        self._inner, self._slow_s, self._until = inner, slow_s, until

    def predict(self, batch: Rows) -> Scored:
        time.sleep(self._slow_s)
        if self._until:
            self._until.wait(60)
        if any(row[0] > 30 for row in batch.values):
            raise ModelFailed("It broke.")
        return self._inner.predict(batch)  # type: ignore[no-any-return]


def sabotage(app: App, **how: Any) -> None:
    """Let the candidate's model break from now on, as a model may that passed every test."""
    served = next(arm.served for arm in app.fleet.default.router.plan.arms() if arm.served)  # type: ignore[union-attr]
    object.__setattr__(served, "model", Breaking(served.model, **how))


def test_what_a_candidate_fails_the_champion_answers_and_the_canary_goes_back(bench: Bench) -> None:
    ramp(bench, errors=0.05, min_requests=100)
    with routed(bench) as (app, client):
        sabotage(app)
        old = {**ROW, "tenure": 59}
        said = [client.post("/predict", json=old) for _ in range(8)]
        assert {answer.status_code for answer in said} == {200}
        assert {answer.json()["version"] for answer in said} == {"1"}
        wrong = client.post("/predict", json={**ROW, "tenure": "x"})
        assert wrong.status_code == 422, "a client's mistake stays the client's"
        # Six failures are more than 5 % of 100, long before 100 requests came.
        view = went_back(client, lambda: [client.post("/predict", json=old) for _ in range(4)])
        assert view["reason"].startswith("errors: failed")
        assert metric(client, "zebra_canary_rollbacks_total", cause="errors") == 1
        assert metric(client, "zebra_arm_errors_total", arm="candidate", version="2") >= 6
        assert {ask(client, f"user-{i}") for i in range(20)} == {"1"}
    head = SqlRoutes(bench.settings.state).head(MODEL, "prod")
    assert head is not None and (head.seq, head.kind, head.actor) == (2, "rollback", "serving")
    assert [c.weight for c in head.candidates] == [0.0]
    entry = list(SqlAudit(bench.settings.state).entries(subject=f"{MODEL}/prod"))[-1]
    assert (entry.action, entry.actor) == ("route.rollback", "serving")
    assert all(event.version == "1" for event in bench.events.predictions(MODEL) if event.features["tenure"] == 59)


def test_a_slow_candidate_goes_back(bench: Bench) -> None:
    ramp(bench, p99_ms=20, min_requests=10)
    with routed(bench) as (app, client):
        sabotage(app, slow_s=0.04)
        assert went_back(client, lambda: ask(client))["reason"].startswith("latency: p99 of")


def test_a_verdict_against_it_sends_a_canary_back_on_every_server_and_once(bench: Bench) -> None:
    ramp(bench)
    verdict = {
        "model": MODEL, "alias": "prod", "champion": "1", "candidate": "2", "decision": "keep", "because": "the candidate is worse",
        "metric": "brier", "alpha": 0.05, "margin": 0.0, "rows": {}, "means": {}, "difference": (-0.2, -0.1, -0.05), "evidence": (0.0, 99.0),
        "more": None, "created_at": now(),
    }  # fmt: skip
    with routed(bench) as (one, client), bench.running(bench.app()) as second:
        until(lambda: second.get("/model").json()["route"])
        loose = Verdict.model_validate(verdict | {"alpha": 0.4})
        SqlRoutes(bench.settings.state).save_verdict(loose)
        time.sleep(0.3)
        assert one.fleet.default.router.plan is not None, "a verdict with a greater error rate than asked for does not count"
        SqlRoutes(bench.settings.state).save_verdict(Verdict.model_validate(verdict))
        for server in (client, second):
            until(lambda s=server: s.get("/model").json()["route"]["kind"] == "rollback")
            assert {ask(server, f"user-{i}") for i in range(10)} == {"1"}
    assert [route.kind for route in SqlRoutes(bench.settings.state).history(MODEL, "prod")] == ["rollback", "canary"]


def test_labels_of_what_a_real_server_answered_send_a_worse_canary_back(bench: Bench) -> None:
    ramp(bench)
    column = {"dtype": "string"}
    recipe = {
        "name": MODEL, "source": {"connector": "files", "path": "none.csv"}, "columns": {"contract": column, "churn": column},
        "label": {"column": "churn", "type": "binary", "positive": "Yes"},
    }  # fmt: skip
    with routed(bench) as (_, client):
        asked = {}
        for row in rows(240):
            said = client.post("/predict", json=row).json()
            asked[said["predictions"][0]["event_id"]] = "Yes" if row["tenure"] < 20 else "No"
        until(lambda: bench.events.count(MODEL) == len(asked))
        truths = [LabelEvent(event_id=f"label-{of}", ts=now(), model=MODEL, prediction_event_id=of, label=y) for of, y in asked.items()]
        bench.events.append([*truths])
        (found,) = judge_route(Parts(bench.settings), DatasetSpec.model_validate(recipe), MODEL, "prod")
        assert (found.decision, found.metric, sum(found.rows.values())) == ("keep", "brier", 240)
        assert went_back(client, lambda: True)["reason"].startswith("verdict: keep version 1: the candidate is worse")


def test_a_router_that_was_stopped_starts_again(bench: Bench) -> None:
    put(bench, candidate(bench, weight=1.0, shadow=1.0))
    with routed(bench) as (app, client):
        router = app.fleet.default.router
        router.stop()
        assert ask(client) == "1"
        router.start()
        until(lambda: ask(client) == "2")


def test_a_canary_stops_growing_while_the_log_is_away(bench: Bench, tmp_path: Path) -> None:
    put(bench, candidate(bench, weight=1.0))
    with routed(bench) as (app, client):
        steps = [Step(weight=1e-9, minutes=5 / 60), Step(weight=1.0, minutes=1)]
        canary = Canary(candidate="candidate", steps=steps, started_at=now())
        put(bench, candidate(bench), kind="canary", canary=canary.model_dump())
        until(lambda: ask(client) == "1")
        bench.move_state(tmp_path / "away")
        until(lambda: canary.weight(now()) == 1.0)
        time.sleep(0.3)
        assert ask(client) == "1"
        assert app.fleet.default.router.plan is not None
        bench.move_state(tmp_path / "away", back=True)
        until(lambda: ask(client) == "2")


def test_a_canary_goes_on_after_a_restart_and_while_the_log_is_away(bench: Bench, tmp_path: Path) -> None:
    begun = now() - timedelta(minutes=30)
    canary = Canary(candidate="candidate", steps=[Step(weight=0.01, minutes=20), Step(weight=1.0, minutes=40)], started_at=begun)
    put(bench, candidate(bench), kind="canary", canary=canary.model_dump())
    bench.promote("1")
    with bench.client("1") as client:
        until(lambda: ask(client) == "2")
        bench.move_state(tmp_path / "away")
        time.sleep(0.3)
        assert ask(client) == "2"
        bench.move_state(tmp_path / "away", back=True)
    with bench.client("1") as client:  # another process knows the same
        until(lambda: ask(client) == "2")
        left = client.get("/model").json()["route"]["canary_minutes_left"]
        assert 29 < left < 30
    assert stored(bench)["candidate/2"].requests >= 2


def test_a_promoted_candidate_is_the_champion_and_no_arm(bench: Bench) -> None:
    put(bench, candidate(bench, weight=0.5))
    with routed(bench) as (app, client):
        bench.promote("2")
        until(lambda: app.fleet.default.router.plan is None)
        assert {ask(client) for _ in range(10)} == {"2"}


def test_a_shadow_is_compared_and_neither_its_failures_nor_its_slowness_are_seen(bench: Bench) -> None:
    put(bench, candidate(bench, shadow=1.0))
    with routed(bench) as (app, client):
        young = [{**row, "tenure": row["tenure"] % 30} for row in rows(50)]
        for row in young:
            assert client.post("/predict", json=row).json()["version"] == "1"
        until(lambda: metric(client, "zebra_shadow_rows_total", arm="candidate", version="2", outcome="compared") == 50)
        ones, twos = (bench.shelf.score(version, young) for version in "12")
        flips = sum(a[0] != b[0] for a, b in zip(ones, twos, strict=True))
        assert metric(client, "zebra_shadow_flips_total", arm="candidate", version="2") == flips > 0
        assert metric(client, "zebra_shadow_score_distance_count", arm="candidate", version="2") == 50
        answered = threading.Event()
        sabotage(app, until=answered)
        for _ in range(8):  # while the shadow hangs
            client.post("/predict", json={"rows": [{**row, "tenure": 50} for row in rows(500)]}).raise_for_status()
        assert metric(client, "zebra_shadow_rows_total", arm="candidate", version="2", outcome="failed") == 0
        answered.set()
        assert metric(client, "zebra_shadow_rows_total", arm="candidate", version="2", outcome="dropped") >= 500
        until(lambda: metric(client, "zebra_shadow_rows_total", arm="candidate", version="2", outcome="failed") >= 1000)
    assert bench.events.count(MODEL, version="2") == 0, "a shadow's answers are no predictions"
    kept = stored(bench)["candidate/2"].shadow
    assert (kept.rows, kept.flips) == (50, flips)
    assert kept.deltas.total == pytest.approx(sum(abs(a[1].expected - b[1].expected) for a, b in zip(ones, twos, strict=True)), abs=1e-3)


def test_the_other_doors_are_routed_too_and_a_version_in_the_path_is_not(bench: Bench) -> None:
    put(bench, candidate(bench, weight=1.0))
    tensors = [
        {"name": name, "datatype": kind, "shape": [1], "data": [value]}
        for (name, value), kind in zip(ROW.items(), ("INT64", "FP64", "BYTES", "BOOL", "BYTES"), strict=True)
    ]
    with routed(bench) as (_, client):
        assert client.post(f"/v2/models/{MODEL}/infer", json={"inputs": tensors}).json()["model_version"] == "2"
        pinned = client.post(f"/v2/models/{MODEL}/versions/1/infer", json={"inputs": tensors})
        assert pinned.json()["model_version"] == "1"
        assert client.post("/invocations", json={"dataframe_records": [ROW]}).status_code == 200


@pytest.mark.parametrize(
    ("requests", "errors", "cause"), [(10, 1, None), (10, 2, "errors"), (1000, 10, None), (1000, 11, "errors"), (5000, 50, None)]
)
def test_errors_are_judged_as_if_enough_requests_had_come(requests: int, errors: int, cause: str | None) -> None:
    tally = ArmTally(id="a-tally-", model=MODEL, alias="prod", route=1, name="candidate", version="2", requests=requests, errors=errors)
    found = broken(Guards(errors=0.01, min_requests=100), tally, None)
    assert (found.cause if found else None) == cause


def test_a_latency_of_few_requests_says_nothing() -> None:
    counts = [0] * 27
    counts[-1] = 50
    tally = ArmTally(id="a-tally-", model=MODEL, alias="prod", route=1, name="c", version="2", requests=50, seconds=Spread(counts=counts))
    assert broken(Guards(p99_ms=10, min_requests=51), tally, None) is None
    found = broken(Guards(p99_ms=10, min_requests=50), tally, None)
    assert found is not None and found.cause == "latency"


@pytest.mark.slow
def test_a_server_of_its_own_follows_the_route(bench: Bench) -> None:
    bench.promote("1")
    put(bench, candidate(bench, weight=1.0))
    with bench.server() as (_, client):
        until(lambda: ask(client) == "2")
        assert json.loads(client.get("/model").text)["route"]["candidates"][0]["serving"]
