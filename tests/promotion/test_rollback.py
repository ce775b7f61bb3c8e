import pytest

from tests.promotion.conftest import World
from zebra_assets.errors import GateClosed, NotFound, Unavailable
from zebra_assets.promotion.rollback import rollback


def test_rollback_restores_the_previous_version_and_says_so_in_the_audit_log(world: World) -> None:
    first = world.move(1)
    world.move(2)
    back = world.rollback(reason="complaints")
    assert (back.seq, back.kind, back.version, back.from_version, back.state) == (3, "rollback", "1", "2", "done")
    assert (back.run_id, back.model_digest, back.manifest_id) == (first.run_id, first.model_digest, first.manifest_id)
    assert world.shown() == "1"
    entry = next(e for e in world.audit.entries(action="alias.rollback"))
    facts = entry.said()["facts"]
    assert (entry.actor, facts["version"], facts["from_version"], facts["reason"]) == ("grace", "1", "2", "complaints")
    assert world.audit.verify() is None


def test_each_rollback_goes_further_back_and_never_forth_again(world: World) -> None:
    for version in (1, 2, 3):
        world.move(version)
    assert [world.rollback().version, world.rollback().version] == ["2", "1"]
    with pytest.raises(NotFound, match="at version 1, and there is no earlier one"):
        world.rollback()
    assert world.shown() == "1"


def test_a_promotion_after_a_rollback_returns_to_where_it_left(world: World) -> None:
    for version in (1, 2):
        world.move(version)
    world.rollback()
    world.move(3)
    assert world.rollback().version == "1"


def test_rollback_to_a_named_run_takes_any_version_that_was_there(world: World) -> None:
    for version in (1, 2, 3):
        world.move(version)
    assert world.rollback(to=1).version == "1"
    assert world.rollback(to=3).version == "3", "also forth, when it is named"
    assert world.rollback(to=3).seq == 5, "and twice is once"
    assert world.rollback().version == "1"


def test_a_version_that_was_never_there_cannot_be_rolled_back_to(world: World) -> None:
    world.move(1)
    world.judge(2, auc=0.5)
    with pytest.raises(GateClosed, match="has never named its version, and a rollback opens no gate") as caught:
        world.rollback(to=2)
    assert "mlops promote" in str(caught.value.fix)
    assert world.shown() == "1" and world.said()[-1] == "alias.refused"


def test_a_run_that_does_not_exist_is_said_so(world: World) -> None:
    world.move(1)
    world.move(2)
    with pytest.raises(NotFound, match="has no run nobody-0007") as caught:
        rollback(
            world.spec.name,
            "prod",
            to_run_id="nobody-0007",
            records=world.records,
            ledger=world.ledger,
            registry=world.registry,
            audit=world.audit,
            actor="grace",
        )
    assert caught.value.fix == f"mlops history {world.spec.name}"


def test_after_the_last_step_back_the_fix_names_the_way_forth(world: World) -> None:
    world.move(1)
    world.move(2)
    world.rollback()
    with pytest.raises(NotFound, match="no earlier one") as caught:
        world.rollback()
    assert f"--to {world.run(2).id}" in str(caught.value.fix)


def test_nothing_to_roll_back_is_said(world: World) -> None:
    with pytest.raises(NotFound, match="has never named a version"):
        world.rollback()
    world.move(1)
    with pytest.raises(NotFound, match="no earlier one"):
        world.rollback()


def test_rollback_asks_neither_gate_nor_model(world: World) -> None:
    """The failing version may be broken, its run and verdicts gone: everything needed is in the ledger."""
    import sqlite3

    world.move(1)
    world.move(2)
    raw = sqlite3.connect(world.url.removeprefix("sqlite:///"))
    raw.execute("DELETE FROM records")
    raw.commit()
    raw.close()
    assert world.rollback().version == "1" and world.shown() == "1"


def test_a_rollback_cut_short_is_finished_not_repeated(world: World) -> None:
    for version in (1, 2, 3):
        world.move(version)
    with pytest.raises(Unavailable):
        world.rollback(registry=world.with_(tracking="sqlite:////nowhere/mlflow.db").registry)
    assert world.shown() == "3" and world.history()[-1].state == "intent"
    assert (world.rollback().version, world.shown(), len(world.history())) == ("2", "2", 4)


def test_what_was_rolled_back_is_not_promoted_again_by_the_same_decision(world: World) -> None:
    world.move(1)
    world.judge(2)
    world.promote(2)
    world.rollback(reason="complaints")
    with pytest.raises(GateClosed, match="grace took version 2 back from prod: complaints") as caught:
        world.promote(2)
    assert caught.value.fix == f"mlops rollback {world.spec.name} --to {world.run(2).id}"
    assert world.shown() == "1"
    assert world.rollback(to=2).version == "2", "a person can"
