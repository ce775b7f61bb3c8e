import pytest

from tests.adapters.crowd import crowd, die, die_in, moments
from tests.promotion.conftest import VERSIONS, World
from zebra_assets.errors import Conflict, Unavailable
from zebra_assets.promotion.reconcile import drifted


def edit(world: World, version: str, alias: str = "prod") -> None:
    """As anybody can who reaches MLflow."""
    from mlflow import MlflowClient

    MlflowClient(world.tracking, world.tracking).set_registered_model_alias(world.spec.name, alias, version)


def linear(world: World) -> None:
    """What must hold whatever happened: one unbroken line of moves, and each of them in an unbroken audit log."""
    history = world.history()
    assert [r.seq for r in history] == list(range(1, len(history) + 1))
    assert [r.from_version for r in history] == [None, *(r.version for r in history)][: len(history)]
    said = [
        (e.action, e.said()["facts"]["seq"]) for e in world.audit.entries() if e.action in ("alias.promote", "alias.rollback", "alias.done")
    ]
    assert sorted(n for action, n in said if action != "alias.done") == [r.seq for r in history]
    assert sorted(n for action, n in said if action == "alias.done") == [r.seq for r in history if r.state == "done"]
    assert world.audit.verify() is None


def test_aliases_that_agree_need_nothing(world: World) -> None:
    assert world.reconcile() == []
    world.move(1)
    entries = world.said()
    assert world.reconcile() == [] and drifted(ledger=world.ledger, registry=world.registry) == []
    assert world.said() == entries


def test_an_alias_edited_by_hand_is_reported_audited_and_put_back(world: World) -> None:
    world.move(1)
    edit(world, "7")
    [lost] = drifted(ledger=world.ledger, registry=world.registry)
    assert (lost.cause, lost.version, lost.found) == ("moved by hand", "1", "7")
    assert str(lost).endswith("is version 1 by ledger entry 1, but the registry shows version 7 (moved by hand)")
    assert world.shown() == "7", "looking changes nothing"
    [healed] = world.reconcile()
    assert "somebody had moved it to version 7; put back to version 1" in str(healed)
    assert world.shown() == "1" and world.reconcile() == []
    entry = next(e for e in world.audit.entries(action="alias.drift"))
    assert (entry.actor, entry.said()["facts"]) == ("sensor", {"ledger": "1", "registry": "7", "seq": 1})
    linear(world)


def test_an_alias_deleted_by_hand_comes_back(world: World) -> None:
    from mlflow import MlflowClient

    world.move(1)
    MlflowClient(world.tracking, world.tracking).delete_registered_model_alias(world.spec.name, "prod")
    [healed] = world.reconcile()
    assert healed.found is None and world.shown() == "1"


def test_every_edit_is_an_audit_entry_and_none_stays(world: World) -> None:
    world.move(1)
    for i in range(12):
        edit(world, str(2 + i % 10))
        assert len(world.reconcile()) == 1 and world.shown() == "1"
    assert world.said().count("alias.drift") == 12
    linear(world)


def test_a_version_that_is_gone_is_a_problem_of_its_own_alias_only(world: World) -> None:
    from mlflow import MlflowClient

    world.move(1)
    world.judge(2)
    world.promote(2, "staging")
    MlflowClient(world.tracking, world.tracking).delete_model_version(world.spec.name, "1")
    edit(world, "3", "staging")
    first, second = world.reconcile()
    assert first.alias == "prod" and first.problem and "not mended" in str(first)
    assert second.alias == "staging" and second.problem is None and world.shown("staging") == "2"


def test_a_registry_that_cannot_be_read_is_not_agreement(world: World) -> None:
    world.move(1)
    with pytest.raises(Unavailable):
        world.with_(tracking="sqlite:////nowhere/mlflow.db").reconcile()


class Deadly:
    """A port that takes its process with it, right before or right after a call."""

    def __init__(self, port: object, call: str, when: str) -> None:
        self.port, self.call, self.when = port, call, when

    def __getattr__(self, name: str) -> object:
        method = getattr(self.port, name)
        if name != self.call:
            return method

        def deadly(*args: object, **more: object) -> None:
            if self.when == "after":
                method(*args, **more)
            die()

        return deadly


class _WrapDeadly:
    """Puts `Deadly` around the one port that has the call. (The audit log, which can append too, is never wrapped.)"""

    def __init__(self, call: str, when: str) -> None:
        self.call, self.when = call, when

    def __call__(self, port: object) -> object:
        return Deadly(port, self.call, self.when) if hasattr(port, self.call) else port


def _promote(_ready: object, world: World, version: int) -> None:
    world.promote(version)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("call", ["append", "set_alias", "done"])
def test_killed_at_any_step_reconcile_ends_where_the_ledger_decided(world: World, call: str, when: str) -> None:
    world.move(1)
    world.judge(2)
    assert die_in(_promote, world.with_(wrap=_WrapDeadly(call, when)), 2) == -9
    decided = "1" if (call, when) == ("append", "before") else "2"
    assert world.history()[-1].version == decided
    world.reconcile()
    assert world.shown() == decided and world.reconcile() == []
    assert {r.state for r in world.history()} == {"done"}
    linear(world)
    assert world.promote(2).version == "2", "a rerun completes"
    assert world.shown() == "2" and len(world.history()) == 2


def _back_and_forth(ready: object, world: World, first: int) -> None:
    ready()  # type: ignore[operator]
    for i in range(10_000):
        world.move(1 + (first + i) % VERSIONS)


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.slow), pytest.param(3, marks=pytest.mark.slow)])
def test_killed_at_random_moments_the_next_one_goes_on(world: World, seed: int) -> None:
    world.move(VERSIONS)
    for i, moment in enumerate(moments(4, 1.2, seed)):
        at = int(world.history()[-1].version)
        assert die_in(_back_and_forth, world, at, after_s=moment) == -9, f"kill {i} after {moment:.3f} s"
        world.reconcile()
        assert world.shown() == world.history()[-1].version and world.reconcile() == []
        linear(world)


def _race(i: int, barrier: object, world: World, rounds: int) -> list[str]:
    said = []
    for _ in range(rounds):
        head = world.history()[-1]
        mine = str(2 * i + 1 + (head.version == str(2 * i + 1)))  # one of two of its own that is not there already
        world.judge(mine)
        barrier.wait(60)  # type: ignore[attr-defined]  # all were compared with the same prod
        try:
            said.append(world.promote(mine).version)
        except Conflict:
            said.append("conflict")
        barrier.wait(60)  # type: ignore[attr-defined]
    return said


def test_of_eight_processes_with_the_same_champion_one_wins_each_round(world: World) -> None:
    world.move(VERSIONS)
    said = crowd(8, _race, world, 4, timeout_s=120)
    assert [len(s) for s in said] == [4] * 8, said
    for n, answers in enumerate(zip(*said, strict=True)):
        assert answers.count("conflict") == 7, (n, answers)
        assert world.history()[n + 1].version in answers
    assert len(world.history()) == 5 and world.shown() == world.history()[-1].version
    assert world.reconcile() == []
    linear(world)
