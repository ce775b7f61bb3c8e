"""`mlops why`: from any id of a walked loop, back to the source and on to what it led to."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import NAME, Mlops, walk
from zebra_assets.parts import Parts
from zebra_assets.settings import load_settings


def below(links: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for link in links:
        yield link
        yield from below(link["links"])


def kinds(links: list[dict[str, Any]]) -> list[str]:
    return [link["kind"] for link in below(links)]


@pytest.fixture(scope="module")
def walked(tmp_path_factory: pytest.TempPathFactory, mlops: Mlops, prepared: Path) -> Path:
    """A project of this module's own: its history is what the claims are about."""
    return walk(tmp_path_factory.mktemp("why") / NAME, mlops, prepared)


@pytest.fixture(scope="module")
def ids(walked: Path, mlops: Mlops) -> dict[str, str]:
    """One id of each kind."""
    parts = Parts(load_settings(walked))
    drift = mlops("monitor", NAME, "--json", project=walked).json["report"]["id"]
    run = next(r for r in parts.records.runs(NAME) if r.version == "1")
    report, decision = parts.records.report_for(run.id), parts.records.decision_for(run.id)
    assert report and decision
    return {
        "manifest": run.manifest_id, "run": run.id, "version": f"{NAME}:1", "report": report.id, "decision": decision.id,
        "alias": f"{NAME}@prod", "drift": drift,
    }  # fmt: skip


BACK = ["decision", "report", "run", "manifest", "source"]


@pytest.mark.parametrize(("what", "steps"), [("alias", 5), ("decision", 4), ("report", 3), ("run", 2), ("version", 2), ("manifest", 1)])
def test_every_id_leads_back_to_the_source_and_on_to_the_drift_report(
    mlops: Mlops, walked: Path, ids: dict[str, str], what: str, steps: int
) -> None:
    found = mlops("why", ids[what], "--json", project=walked).json
    assert kinds(found["came_of"]) == BACK[-steps:]
    source = list(below(found["came_of"]))[-1]
    assert source["id"].endswith(f"data/{NAME}.csv") and source["facts"]["revision"]
    assert source["facts"]["ingested"][0]["created"] and source["facts"]["ingested"][0]["by"]
    led = {link["kind"]: link["id"] for link in below(found["led_to"])}
    assert led["drift report"] == ids["drift"]
    said = mlops("why", ids[what], project=walked)
    assert said.code == 0 and said.err == "" and "came of" in said.out and "led to" in said.out
    assert all(link["id"] in said.out for link in (*below(found["came_of"]), *below(found["led_to"])))


def test_a_drift_report_names_the_move_that_put_its_version_in_prod(mlops: Mlops, walked: Path, ids: dict[str, str]) -> None:
    found = mlops("why", ids["drift"], "--json", project=walked).json
    assert kinds(found["came_of"]) == ["promote", *BACK] and found["led_to"] == []


def test_a_run_says_code_spec_parameters_and_environment(mlops: Mlops, walked: Path, ids: dict[str, str]) -> None:
    facts = mlops("why", ids["run"], "--json", project=walked).json["of"]["facts"]
    assert {"spec_digest", "code", "environment", "params", "manifest_id", "version", "model_digest"} <= facts.keys()


def test_a_later_move_ends_an_earlier_one_and_is_not_told_twice(mlops: Mlops, ready: Path) -> None:
    for words in (("ingest",), ("train",), ("promote",), ("train", "--again"), ("eval",), ("promote",), ("rollback", "--reason", "late")):
        assert mlops(words[0], NAME, *words[1:], project=ready).code == 0
    found = mlops("why", f"{NAME}:1", "--json", project=ready).json
    moves = [(link["kind"], link["id"]) for link in below(found["led_to"]) if "#" in link["id"]]
    assert moves == [("promote", f"{NAME}@prod #1"), ("ended by", f"{NAME}@prod #2"), ("rollback", f"{NAME}@prod #3")]
    assert mlops("why", f"{NAME}@prod", "--json", project=ready).json["of"]["facts"]["reason"] == "late"


@pytest.mark.parametrize(
    ("asked", "meant"), [(f"{NAME}@prd", f"{NAME}@prod"), (f"{NAME}:7", f"{NAME}:1"), ("../../etc/passwd", None), ("%", None)]
)
def test_an_unknown_id_is_exit_code_4_with_the_nearest(mlops: Mlops, walked: Path, asked: str, meant: str | None) -> None:
    said = mlops("why", asked, project=walked)
    assert said.code == 4 and "fix:" in said.err
    assert f"Did you mean '{meant}'?" in said.err if meant else "Did you mean" not in said.err


def test_a_mistyped_digit_of_any_id_is_guessed(mlops: Mlops, walked: Path, ids: dict[str, str]) -> None:
    for one in ("manifest", "run", "report", "decision", "drift"):
        wrong = ids[one][:-1] + ("0" if ids[one][-1] != "0" else "1")
        assert f"'{ids[one]}'" in mlops("why", wrong, project=walked).err
