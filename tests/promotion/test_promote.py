from collections.abc import Callable
from typing import Any

import pytest

from tests.promotion.conftest import World
from zebra_assets.contracts.digest import digest_of
from zebra_assets.contracts.model_spec import ModelSpec
from zebra_assets.errors import Conflict, GateClosed, NotFound, Unavailable, UsageError


def test_an_open_gate_moves_alias_ledger_and_audit_log_together(world: World) -> None:
    decision = world.judge(1)
    moved = world.promote(1, reason="first")
    assert (moved.seq, moved.kind, moved.version, moved.from_version, moved.state) == (1, "promote", "1", None, "done")
    assert (moved.decision_id, moved.model_digest, moved.actor, moved.reason) == (decision.id, digest_of("1"), "ada", "first")
    assert world.shown() == "1" and world.history() == [moved]
    assert world.said() == ["alias.promote", "alias.done"] and world.audit.verify() is None


def test_a_closed_gate_leaves_the_prod_alias_alone(world: World) -> None:
    world.move(1)
    world.judge(2, auc=0.701)
    with pytest.raises(GateClosed, match=r"roc_auc 0.701 is below the threshold 0.780") as caught:
        world.promote(2)
    assert caught.value.fix == f"mlops eval {world.spec.name} --run {world.run(2).id}"
    assert world.shown() == "1" and [r.version for r in world.history()] == ["1"]
    assert world.said()[-1] == "alias.refused"


def test_promoting_alone_later_is_refused_as_well(world: World) -> None:
    world.move(1)
    world.judge(2, auc=0.7)
    for alias in ("prod", "staging", "prod"):
        with pytest.raises(GateClosed):
            world.promote(2, alias)
    assert (world.shown(), world.shown("staging")) == ("1", None)


def test_nothing_decided_is_a_no(world: World) -> None:
    with pytest.raises(GateClosed, match="Nothing has decided") as caught:
        world.promote(1)
    assert "mlops eval" in str(caught.value.fix) and world.shown() is None and world.history() == []


def _forged_yes(world: World) -> None:
    no = world.judge(1, auc=0.5)
    world.records.save(no.model_copy(update={"allowed": True, "rules": [r.model_copy(update={"passed": True}) for r in no.rules]}))


def _vetoed(world: World) -> None:
    yes = world.judge(1)
    world.records.save(yes.model_copy(update={"allowed": False}))


def _other_bytes(world: World) -> None:
    world.judge(1)
    world.records.save(world.run(1).model_copy(update={"model_digest": "f" * 64}))


def _other_data(world: World) -> None:
    world.judge(1)
    world.records.save(world.run(1).model_copy(update={"manifest_id": "churn-ffffffffffffffff", "roles": {}}))


def _other_version(world: World) -> None:
    world.judge(1)
    world.records.save(world.run(1).model_copy(update={"version": "2"}))


def _newer_evaluation(world: World) -> None:
    decision = world.judge(1)
    world.judge(1, auc=0.1)
    world.records.save(decision)


def _rewritten_report(world: World) -> None:
    decision = world.judge(1)
    report = world.records.report(decision.report_id)
    assert report is not None
    better = report.candidate.model_copy(update={"metrics": {"roc_auc": 0.99}})
    world.records.save(report.model_copy(update={"candidate": better}))


def _training_rows(world: World) -> None:
    world.judge(1, split="train")


@pytest.mark.parametrize(
    "trick", [_forged_yes, _vetoed, _other_bytes, _other_data, _other_version, _newer_evaluation, _rewritten_report, _training_rows]
)
def test_a_yes_that_is_not_about_this_or_does_not_follow_is_a_no(world: World, trick: Callable[[World], None]) -> None:
    trick(world)
    with pytest.raises(GateClosed):
        world.promote(1)
    assert world.shown() is None and world.history() == []


def test_rules_made_stricter_since_the_decision_count(world: World) -> None:
    world.judge(1, auc=0.8)
    stricter = ModelSpec.model_validate(
        world.spec.model_dump() | {"metrics": [{"name": "roc_auc", "direction": "maximize", "threshold": 0.9}]}
    )
    with pytest.raises(GateClosed, match=r"today's model.yaml: roc_auc 0.800 is below the threshold 0.900"):
        world.promote(1, spec=stricter)


def test_a_decision_made_before_prod_moved_is_a_conflict(world: World) -> None:
    world.judge(2)
    world.move(1)
    with pytest.raises(Conflict, match="moved since this decision: it was compared with nothing, prod names v1 now; evaluate again"):
        world.promote(2)
    assert world.shown() == "1"
    assert world.move(2).from_version == "1"


def test_promoting_what_is_there_already_changes_nothing(world: World) -> None:
    first = world.move(1)
    entries = world.said()
    assert world.promote(1) == first and world.move(1) == first
    assert (world.said(), len(world.history())) == (entries, 1)


def test_staging_takes_a_version_while_prod_keeps_another(world: World) -> None:
    world.move(1)
    world.judge(2)
    world.promote(2, "staging")
    assert (world.shown("prod"), world.shown("staging")) == ("1", "2")
    assert world.promote(2, "prod").from_version == "1"


def test_words_that_do_not_fit_are_explained(world: World) -> None:
    with pytest.raises(UsageError, match=r"no alias 'prodd'. Did you mean 'prod'?"):
        world.promote(1, "prodd")
    other = world.spec.model_copy(update={"name": "fraud"})
    with pytest.raises(UsageError, match="is of model 'churn-"):
        world.promote(1, spec=other)
    with pytest.raises(NotFound, match="No run 'nothing-at-all'"):
        from zebra_assets.promotion.promote import promote

        ports = {"records": world.records, "ledger": world.ledger, "registry": world.registry, "audit": world.audit}
        promote("nothing-at-all", "prod", spec=world.spec, actor="ada", **ports)  # type: ignore[arg-type]


def test_a_registry_that_cannot_be_reached_leaves_the_decision_standing_and_a_rerun_completes(world: World) -> None:
    world.judge(1)
    away = world.with_(tracking="sqlite:////nowhere/at/all/mlflow.db")
    with pytest.raises(Unavailable, match=r"The ledger has decided that prod of .* is version 1 .entry 1.") as caught:
        world.promote(1, registry=away.registry)
    assert caught.value.fix == "mlops reconcile"
    assert [(r.version, r.state) for r in world.history()] == [("1", "intent")] and world.shown() is None
    assert world.promote(1).state == "done"
    assert world.shown() == "1" and world.said() == ["alias.promote", "alias.done"]


def test_an_audit_log_that_cannot_be_written_stops_the_promotion(world: World) -> None:
    import sqlite3

    world.judge(1)
    raw = sqlite3.connect(world.url.removeprefix("sqlite:///"))
    raw.execute("CREATE TRIGGER full BEFORE INSERT ON audit BEGIN SELECT RAISE(ABORT, 'disk full'); END")
    raw.commit()
    with pytest.raises(Exception, match="disk full"):
        world.promote(1)
    assert world.history() == [] and world.shown() is None
    raw.execute("DROP TRIGGER full")
    raw.commit()
    raw.close()
    assert world.promote(1).state == "done"


class Interfering:
    """A registry beside which somebody else moves the alias once, right after we set it."""

    def __init__(self, registry: Any, version: str) -> None:
        self.registry, self.version = registry, version

    def alias(self, model: str, alias: str) -> str | None:
        return self.registry.alias(model, alias)

    def set_alias(self, model: str, alias: str, version: str) -> None:
        self.registry.set_alias(model, alias, version)
        if self.version:
            self.registry.set_alias(model, alias, self.version)
            self.version = ""


def test_an_alias_that_somebody_sets_meanwhile_is_set_once_more(world: World) -> None:
    world.judge(1)
    assert world.promote(1, registry=Interfering(world.registry, "9")).state == "done"
    assert world.shown() == "1"
