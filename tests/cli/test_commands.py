"""The loop by commands alone: what each prints, in words and as JSON, and with which exit code it ends."""

import shutil
from pathlib import Path

import pytest

from tests.cli.conftest import NAME, Mlops

READING = [("list", "models"), ("list", "datasets"), ("list", "runs"), ("history", NAME)]


def test_the_loop_from_rows_to_prod_answers_in_json(mlops: Mlops, walked: Path) -> None:
    listed = mlops("list", "models", "--json", project=walked).json["models"]
    assert [(m["name"], m["prod"], m["latest_run"]["state"]) for m in listed] == [(NAME, "1", "finished")]
    assert listed[0]["spec_digest"] and listed[0]["datasets"] == [NAME]
    dataset = mlops("list", "datasets", "--json", project=walked).json["datasets"][0]
    assert dataset["manifests"] == 1 and dataset["newest"]["stats"]["rows"] == 569
    runs = mlops("list", "runs", "--json", "--model", NAME, project=walked).json["runs"]
    assert [r["version"] for r in runs] == ["1"]
    history = mlops("history", NAME, "--json", project=walked).json["history"]
    assert [(p["alias"], p["kind"], p["version"], p["state"]) for p in history] == [("prod", "promote", "1", "done")]


@pytest.mark.parametrize("words", READING)
def test_each_list_is_a_table_for_people(mlops: Mlops, walked: Path, words: tuple[str, ...]) -> None:
    said = mlops(*words, project=walked)
    assert said.code == 0 and said.err == ""
    header, *rows = said.out.splitlines()
    assert rows and NAME in said.out and header.strip()


def test_show_tells_where_the_rows_came_from(mlops: Mlops, walked: Path) -> None:
    manifest = mlops("list", "datasets", "--json", project=walked).json["datasets"][0]["newest"]["id"]
    said = mlops("show", manifest, project=walked)
    assert said.code == 0
    assert "569 rows" in said.out and "source    files" in said.out and "diagnosis" in said.out and "label" in said.out
    assert mlops("show", manifest, "--json", project=walked).json["manifest"]["id"] == manifest


def test_the_same_rows_again_are_the_same_manifest(mlops: Mlops, walked: Path) -> None:
    said = mlops("ingest", NAME, project=walked)
    assert said.code == 0 and "same manifest" in said.out
    assert not mlops("ingest", NAME, "--json", project=walked).json["created"]


def test_the_same_inputs_again_are_the_same_run(mlops: Mlops, walked: Path) -> None:
    said = mlops("train", NAME, "--json", project=walked)
    assert said.code == 0 and not said.json["created"] and said.json["run"]["version"] == "1"
    assert said.err == ""


def test_eval_shows_candidate_beside_prod_with_intervals_and_every_rule(mlops: Mlops, walked: Path) -> None:
    said = mlops("eval", NAME, project=walked)
    assert said.code == 0, said.err
    for word in ("candidate v1", "95%", "roc_auc", "gate rule", "bound", "gate open for version 1", "report file://"):
        assert word in said.out, word


def test_monitor_without_predictions_says_unknown_not_stable(mlops: Mlops, walked: Path) -> None:
    said = mlops("monitor", NAME, "--json", project=walked)
    assert said.code == 0, said.err
    assert said.json["report"]["state"] == "unknown" and said.json["report"]["recommendation"] == "wait"
    assert "unknown" in mlops("monitor", NAME, project=walked).out


def test_a_second_version_is_compared_promoted_and_rolled_back(mlops: Mlops, walked: Path) -> None:
    trained = mlops("train", NAME, "c=10", "--json", project=walked)
    assert trained.code == 0, trained.out
    assert trained.json["run"]["version"] == "2" and trained.json["run"]["params"] == {"c": 10}

    judged = mlops("eval", NAME, "--json", project=walked).json
    assert judged["report"]["champion"]["version"] == "1" and len(judged["report"]["difference"]) == 3
    assert judged["decision"]["rules"]
    assert judged["allowed"], judged["decision"]["rules"]

    moved = mlops("promote", NAME, "--reason", "better calibrated", project=walked)
    assert moved.code == 0 and f"{NAME} prod: v1 -> v2" in moved.out

    back = mlops("rollback", NAME, "--reason", "complaints", "--json", project=walked)
    assert back.code == 0 and back.json["promotion"]["version"] == "1" and back.json["promotion"]["kind"] == "rollback"
    versions = [p["version"] for p in mlops("history", NAME, "--json", project=walked).json["history"]]
    assert versions == ["1", "2", "1"]


def test_a_closed_gate_is_a_result_of_eval_and_exit_code_7_of_promote(mlops: Mlops, ready: Path) -> None:
    spec = ready / "models" / NAME / "model.yaml"
    spec.write_text(spec.read_text().replace("threshold: 0.9", "threshold: 0.9999"))
    for words in (("ingest", NAME), ("train", NAME)):
        assert mlops(*words, project=ready).code == 0
    judged = mlops("eval", NAME, project=ready)
    assert judged.code == 0 and "gate closed for version 1" in judged.out and "FAIL" in judged.out
    refused = mlops("promote", NAME, project=ready)
    assert refused.code == 7 and "below the threshold" in refused.err and "fix:" in refused.err
    assert mlops("list", "models", "--json", project=ready).json["models"][0]["prod"] is None
    (ready / ".env").write_text("ZEBRA_GATE_CLOSED_FAILS=true\n")
    assert mlops("eval", NAME, project=ready).code == 7


def test_the_notebook_template_trains_too(mlops: Mlops, tmp_path: Path, prepared: Path) -> None:
    assert mlops("init", "nb", "--template", "notebook", project=tmp_path).code == 0
    folder = tmp_path / "nb"
    (folder / ".zebraops").mkdir()
    shutil.copyfile(prepared, folder / ".zebraops" / "mlflow.db")
    assert mlops("ingest", "nb", project=folder).code == 0
    said = mlops("train", "nb", "--json", project=folder)
    assert said.code == 0, said.out
    assert said.json["run"]["metrics"]["valid_roc_auc"] > 0.9


def test_progress_goes_to_stderr_as_plain_lines_when_nobody_watches(mlops: Mlops, fresh: Path) -> None:
    said = mlops("ingest", NAME, project=fresh)
    assert said.code == 0
    assert said.err.startswith(f"ingest {NAME}: ") and "\x1b" not in said.err + said.out


def test_commands_as_processes_end_with_the_code_of_their_error(process: Mlops, fresh: Path) -> None:
    assert process("list", "models", project=fresh).code == 0
    assert process("train", NAME, project=fresh).code == 4  # nothing ingested
    assert process("train", "../x", project=fresh).code == 2
    assert process("nonsense", project=fresh).code == 2
