from datetime import timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from zebra_assets.adapters.audit_log import SqlAudit
from zebra_assets.adapters.routes import SqlRoutes
from zebra_assets.contracts.arm import SECONDS, ArmTally, Differences, Spread, by_arm, quantile
from zebra_assets.contracts.noun import now
from zebra_assets.contracts.route import Canary, Candidate, Route, Step, Verdict
from zebra_assets.errors import Conflict

CANDIDATE = Candidate(version="2", run_id="churn-run-0002", manifest_id="churn-0123456789abcdef", model_digest="a" * 64, weight=0.1)


def route(seq: int, **more: Any) -> Route:
    values = {"model": "churn", "alias": "prod", "seq": seq, "kind": "set", "salt": "5a17" * 4, "actor": "ada", "created_at": now()}
    return Route.model_validate({**values, "candidates": [CANDIDATE], **more})


def tally(server: str, **more: Any) -> ArmTally:
    values = {"id": f"churn-prod-1-2-{server}", "model": "churn", "alias": "prod", "route": 1, "name": "candidate", "version": "2"}
    return ArmTally.model_validate(values | more)


def test_the_newest_route_is_in_force_and_each_leaves_an_audit_entry(url: str) -> None:
    routes, audit = SqlRoutes(url), SqlAudit(url)
    assert routes.head("churn", "prod") is None
    first, second = route(1), route(2, kind="rollback", candidates=[], actor="server", reason="errors")
    routes.append(first)
    routes.append(second)
    assert routes.head("churn", "prod") == second
    assert routes.history("churn", "prod") == [second, first]
    assert routes.head("churn", "staging") is None
    said = [(e.action, e.actor, e.said()["facts"]["reason"]) for e in audit.entries(subject="churn/prod")]
    assert said == [("route.set", "ada", ""), ("route.rollback", "server", "errors")]
    assert audit.verify() is None


@pytest.mark.parametrize("seq", [1, 3])
def test_of_two_servers_that_roll_back_at_once_one_does_it(url: str, seq: int) -> None:
    routes = SqlRoutes(url)
    routes.append(route(1))
    with pytest.raises(Conflict, match="by ada"):
        routes.append(route(seq, kind="rollback"))
    assert len(routes.history("churn", "prod")) == 1
    assert len(list(SqlAudit(url).entries())) == 1


def test_what_servers_saw_of_an_arm_adds_up_and_is_replaced_as_it_goes_on(url: str) -> None:
    routes = SqlRoutes(url)
    routes.save_tally(tally("a", requests=5))
    deltas = Spread(counts=[3, 1], total=0.2)
    routes.save_tally(tally("a", requests=7, errors=1, shadow=Differences(rows=4, flips=1, deltas=deltas)))
    routes.save_tally(tally("b", requests=10, shadow=Differences(rows=6, deltas=deltas, drift=-0.5)))
    routes.save_tally(tally("c", route=2, requests=1000))
    (found,) = by_arm(routes.tallies("churn", "prod", 1)).values()
    assert (found.requests, found.errors) == (17, 1)
    assert found.shadow == Differences(rows=10, flips=1, deltas=Spread(counts=[6, 2], total=0.4), drift=-0.5)


def test_the_last_verdict_on_two_versions_counts(url: str) -> None:
    routes = SqlRoutes(url)
    values = {
        "model": "churn", "alias": "prod", "champion": "1", "candidate": "2", "decision": "more", "because": "few", "metric": "brier",
        "alpha": 0.05, "margin": 0.0, "rows": {"1": 5, "2": 5}, "means": {"1": 0.7, "2": 0.8}, "difference": (-0.5, 0.1, 0.6),
        "evidence": (1.0, 1.0), "more": 900, "created_at": now(),
    }  # fmt: skip
    first, last = Verdict.model_validate(values), Verdict.model_validate(values | {"decision": "keep", "more": None})
    for verdict in (first, last, first.model_copy(update={"candidate": "3"})):
        routes.save_verdict(verdict)
    assert routes.verdict("churn", "prod", "1", "2") == last
    assert routes.verdict("churn", "prod", "2", "1") is None


def test_a_canary_is_where_its_clock_says() -> None:
    start = now()
    steps = [Step(weight=0.01, minutes=10), Step(weight=0.1, minutes=30), Step(weight=0.5, minutes=0)]
    canary = Canary(candidate="candidate", steps=steps, started_at=start)
    at = {minute: canary.weight(start + timedelta(minutes=minute)) for minute in (-1, 0, 9.99, 10, 39, 40, 10_000)}
    assert at == {-1: 0.01, 0: 0.01, 9.99: 0.01, 10: 0.1, 39: 0.1, 40: 0.5, 10_000: 0.5}
    assert canary.ends_in(start) == 40 and canary.ends_in(start + timedelta(hours=9)) == 0
    ramp = route(1, kind="canary", canary=canary)
    assert ramp.weights(start) == {"candidate": 0.01}


@pytest.mark.parametrize(
    ("candidates", "why"),
    [
        ([CANDIDATE, CANDIDATE], "names and versions"),
        ([CANDIDATE, CANDIDATE.model_copy(update={"name": "other"})], "names and versions"),
        ([CANDIDATE.model_copy(update={"name": "champion"})], "champion"),
        ([CANDIDATE, CANDIDATE.model_copy(update={"name": "b", "version": "3", "weight": 0.95})], "more than 1"),
    ],
)
def test_a_route_that_does_not_add_up_is_refused(candidates: list[Candidate], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        route(1, candidates=[c.model_dump() for c in candidates])


def test_a_quantile_is_its_buckets_upper_bound() -> None:
    counts = [0] * (len(SECONDS) + 1)
    counts[5], counts[9] = 98, 2
    assert quantile(Spread(counts=counts), SECONDS, 0.98) == SECONDS[5]
    assert quantile(Spread(counts=counts), SECONDS, 0.99) == SECONDS[9]
    counts[-1] = 50
    assert quantile(Spread(counts=counts), SECONDS, 0.99) == float("inf")
    assert quantile(Spread(), SECONDS, 0.99) is None
