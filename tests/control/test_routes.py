"""`mlops route`: what may be routed, what is refused, and what labelled outcomes say about it."""

from datetime import timedelta

import numpy as np
import pytest
from click.testing import CliRunner

from tests.control.conftest import NAME
from zebra_assets.cli.main import cli
from zebra_assets.contracts.events import Drawn, Event, LabelEvent, PredictionEvent
from zebra_assets.contracts.noun import now
from zebra_assets.contracts.promotion import Promotion
from zebra_assets.contracts.route import Guards, Route
from zebra_assets.contracts.run import CodeRevision, Run
from zebra_assets.control import routes
from zebra_assets.errors import Conflict, GateClosed, NotFound, UsageError, ZebraError
from zebra_assets.parts import Parts


def run(version: str) -> Run:
    return Run(
        id=f"{NAME}-run-000{version}", model=NAME, manifest_id=f"{NAME}-0123456789abcdef", roles={}, spec_digest="0" * 64,
        code=CodeRevision(digest="1" * 64), created_at=now(), model_digest=version * 64, version=version, state="finished",
    )  # fmt: skip


def row(seq: int, version: str, from_version: str | None) -> Promotion:
    return Promotion(
        model=NAME, alias="prod", seq=seq, kind="promote", version=version, from_version=from_version, run_id=f"{NAME}-run-000{version}",
        manifest_id=f"{NAME}-0123456789abcdef", model_digest=version * 64, decision_id="gate-1", actor="ada", reason="", created_at=now(),
    )  # fmt: skip


@pytest.fixture
def parts(fresh: Parts) -> Parts:
    """Three versions; prod has named 1, then 2. Version 3 has never met the gate."""
    for version in "123":
        fresh.records.save(run(version))
    fresh.ledger.append(row(1, "1", None))
    fresh.ledger.append(row(2, "2", "1"))
    return fresh


def answered(parts: Parts, count: int, *, better: bool, route: Route, unit: str = "u") -> None:
    """Drawn predictions of both versions with their labels: the candidate, version 1, is right in 95 % or 40 %; the champion in 70 %."""
    rng = np.random.default_rng(1)
    facts: list[Event] = []
    right = {"1": 0.95 if better else 0.4, "2": 0.7}
    for i in range(count):
        version = "12"[rng.random() < 0.5]
        drawn = Drawn(route=route.seq, arm="candidate" if version == "1" else "champion", shares={"1": 0.5, "2": 0.5}, unit=f"{unit}{i}")
        event = PredictionEvent(
            event_id=f"event-{unit}-{i:05d}", ts=now(), model=NAME, version=version, manifest_id=f"{NAME}-0123456789abcdef",
            features={}, prediction="benign", drawn=drawn,
        )  # fmt: skip
        said = "benign" if rng.random() < right[version] else "malignant"
        label = LabelEvent(event_id=f"label-{unit}-{i:05d}", ts=now(), model=NAME, prediction_event_id=event.event_id, label=said)
        facts += [event, label]
    parts.events.append(facts)


def test_a_version_that_has_not_passed_the_gate_may_be_a_shadow_and_nothing_more(parts: Parts) -> None:
    with pytest.raises(GateClosed, match="must have passed the gate"):
        routes.share(parts, NAME, ["3=1%"])
    with pytest.raises(GateClosed):
        routes.canary(parts, NAME, "3", ["1%x10"], Guards())
    assert parts.routes.head(NAME, "prod") is None
    made = routes.share(parts, NAME, [], ["3=20%"])
    assert [(c.version, c.weight, c.shadow, c.model_digest) for c in made.candidates] == [("3", 0.0, 0.2, "3" * 64)]


def test_a_version_that_prod_once_named_may_answer_again(parts: Parts) -> None:
    made = routes.share(parts, NAME, ["old:1=12.5%"], ["3=20%"], sticky="header:X-User-Id", force_header="X-Model-Experiment", reason="try")
    assert [(c.name, c.version, c.weight, c.shadow) for c in made.candidates] == [("old", "1", 0.125, 0.0), ("v3", "3", 0.0, 0.2)]
    assert made.sticky is not None and made.sticky.header == "x-user-id" and made.force_header == "x-model-experiment"
    assert parts.routes.head(NAME, "prod") == made
    stopped = routes.stop(parts, NAME)
    assert (stopped.seq, stopped.candidates) == (2, [])
    assert routes.stop(parts, NAME) == stopped, "stopped twice is stopped once"
    assert [e.action for e in parts.audit.entries(subject=f"{NAME}/prod")][-2:] == ["route.set", "route.stop"]


@pytest.mark.parametrize(
    ("error", "shares", "words"),
    [
        (Conflict, ["2=10%"], "what prod names already"),
        (Conflict, ["prod=10%"], "what prod names already"),
        (NotFound, ["9=10%"], "no version 9"),
        (NotFound, ["staging=10%"], "no version staging"),
        (UsageError, ["1=0.1"], "no share of the requests"),
        (UsageError, ["1=101%"], "no share of the requests"),
        (UsageError, ["1"], "no share"),
        (UsageError, ["champion:1=10%"], "'champion' is taken"),
        (UsageError, ["somewhere=10%"], "no alias"),
    ],
)
def test_a_route_that_cannot_be_is_refused_in_words(parts: Parts, error: type[ZebraError], shares: list[str], words: str) -> None:
    with pytest.raises(error, match=words) as said:
        routes.share(parts, NAME, shares)
    assert said.value.fix
    assert parts.routes.head(NAME, "prod") is None


@pytest.mark.parametrize("steps", [["10%"], ["1%x10", "50%x60", "100%"]])
def test_a_canary_starts_at_its_first_step(parts: Parts, steps: list[str]) -> None:
    made = routes.canary(parts, NAME, "1", steps, Guards())
    assert made.canary is not None
    assert made.weights(now()) == {"candidate": 0.1 if len(steps) == 1 else 0.01}
    assert made.weights(now() + timedelta(days=1)) == {"candidate": 0.1 if len(steps) == 1 else 1.0}


@pytest.mark.parametrize("steps", [["50%x10", "10%x10"], ["0%x10"], ["x10"], ["10%x"]])
def test_a_ramp_that_is_none_is_refused(parts: Parts, steps: list[str]) -> None:
    with pytest.raises(UsageError):
        routes.canary(parts, NAME, "1", steps, Guards())


@pytest.mark.parametrize(("better", "decision"), [(True, "promote"), (False, "keep")])
def test_labels_decide_about_a_candidate_and_the_verdict_rests(parts: Parts, better: bool, decision: str) -> None:
    made = routes.share(parts, NAME, ["1=50%"])
    answered(parts, 20, better=better, route=made)
    (early,) = routes.verdict(parts, NAME)
    assert (early.decision, early.metric, sum(early.rows.values())) == ("more", "accuracy", 20)
    answered(parts, 700, better=better, route=made, unit="v")
    (found,) = routes.verdict(parts, NAME)
    assert found.decision == decision
    assert (found.champion, found.candidate) == ("2", "1")
    assert parts.routes.verdict(NAME, "prod", "2", "1") == found
    assert routes.show(parts, NAME).verdicts == [found]


def test_of_one_key_only_the_first_outcome_counts_and_what_no_lot_decided_does_not(parts: Parts) -> None:
    made = routes.share(parts, NAME, ["1=50%"])
    answered(parts, 30, better=True, route=made)
    again = Drawn(route=1, arm="champion", shares={"1": 0.5, "2": 0.5}, unit="u0")
    for number, drawn in enumerate([again, None, again.model_copy(update={"shares": {"2": 1.0}, "unit": "w"})]):
        event = PredictionEvent(
            event_id=f"other-{number:05d}", ts=now(), model=NAME, version="2", manifest_id=f"{NAME}-0123456789abcdef", features={},
            prediction="benign", drawn=drawn,
        )  # fmt: skip
        label = LabelEvent(event_id=f"truth-{number:05d}", ts=now(), model=NAME, prediction_event_id=event.event_id, label="benign")
        parts.events.append([event, label])
    (found,) = routes.verdict(parts, NAME)
    assert sum(found.rows.values()) == 30


def test_people_see_the_route_and_the_numbers_behind_the_verdict(parts: Parts) -> None:
    def mlops(*words: str) -> str:
        done = CliRunner().invoke(cli, ["--project", str(parts.settings.project_dir), "route", *words], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.output

    assert "every request goes to version 2" in mlops("show", NAME)
    assert "candidate v1: 0.01" in mlops("canary", NAME, "1", "--step", "1%x10", "--step", "50%x60", "--max-p99-ms", "20")
    answered(parts, 800, better=True, route=parts.routes.history(NAME, "prod")[0])
    said = mlops("verdict", NAME)
    assert "promote: the candidate is better" in said and "error rate 0.025" in said
    said = mlops("show", NAME)
    assert "70 min to go" in said and "evidence for promote" in said
    assert "champion: 1 of the requests" in mlops("stop", NAME, "--reason", "lunch")
