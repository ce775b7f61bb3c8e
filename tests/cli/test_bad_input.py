"""Bad input: a non-zero exit, a fix to paste, and nothing changed."""

import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import NAME, Mlops, Said, tree
from zebra_assets.cli.models import parse_params
from zebra_assets.control.processes import free_port
from zebra_assets.errors import UsageError

Prepare = Callable[[Path], None]


def misspell(project: Path) -> None:
    path = project / "models" / NAME / "model.yaml"
    path.write_text(path.read_text().replace("entrypoint:", "entrypont:"))


def misname(project: Path) -> None:
    path = project / "models" / NAME / "model.yaml"
    path.write_text(path.read_text().replace("train: nuclei", "train: nuclie"))


def malform(project: Path) -> None:
    (project / "models" / NAME / "model.yaml").write_text("name: [unclosed\n")


def drop_data(project: Path) -> None:
    (project / "data" / f"{NAME}.csv").unlink()


def empty_data(project: Path) -> None:
    (project / "data" / f"{NAME}.csv").write_text("")


def unreachable(project: Path) -> None:
    (project / ".env").write_text(f"ZEBRA_MLFLOW_TRACKING_URI=http://127.0.0.1:{free_port()}\n")


def nothing(project: Path) -> None: ...


TABLE: list[tuple[str, Prepare, tuple[str, ...], int, str]] = [
    ("unknown profile", nothing, ("--profile", "locla", "list", "models"), 2, "Unknown profile 'locla'"),
    ("unknown folder", nothing, ("--project", "/nowhere/at/all", "list", "models"), 2, "no such folder"),
    ("no project", nothing, ("--project", "/", "list", "models"), 4, "is no project"),
    ("unknown model", nothing, ("train", "nuclie"), 4, "Did you mean 'nuclei'?"),
    ("unknown dataset", nothing, ("ingest", "nuclie"), 4, "Did you mean 'nuclei'?"),
    ("nothing ingested", nothing, ("train", NAME), 4, "no manifest"),
    ("unknown manifest", nothing, ("train", NAME, "--manifest", "nuclei-0123456789abcdef"), 4, "nuclei-0123456789abcdef"),
    ("no run yet", nothing, ("eval", NAME), 4, "no finished run"),
    ("unknown run", nothing, ("eval", NAME, "--run", "nuclei-0123456789abcdef"), 4, "No run"),
    ("nothing in prod", nothing, ("monitor", NAME), 4, "no prod version"),
    ("nothing to roll back", nothing, ("rollback", NAME), 4, NAME),
    ("unknown alias", nothing, ("rollback", NAME, "--alias", "live"), 2, "live"),
    ("no parameter", nothing, ("train", NAME, "--params", "c"), 2, "'c' is not a hyper-parameter"),
    ("misspelled model.yaml", misspell, ("train", NAME), 3, "Did you mean 'entrypoint'?"),
    ("misspelled dataset", misname, ("train", NAME), 4, "Did you mean 'nuclei'?"),
    ("malformed model.yaml", malform, ("train", NAME), 3, "model.yaml:"),
    ("missing data", drop_data, ("ingest", NAME), 4, "csv"),
    ("empty data", empty_data, ("ingest", NAME), 5, "csv"),
    *(
        (f"../ in {' '.join(words)}", nothing, words, 2, "../x")
        for words in (
            ("ingest", "../x"),
            ("train", "../x"),
            ("train", NAME, "--manifest", "../x"),
            ("eval", "../x"),
            ("eval", NAME, "--run", "../x"),
            ("promote", "../x"),
            ("promote", NAME, "--run", "../x"),
            ("promote", NAME, "--to", "../x"),
            ("rollback", "../x"),
            ("rollback", NAME, "--to", "../x"),
            ("rollback", NAME, "--alias", "../x"),
            ("history", "../x"),
            ("monitor", "../x"),
            ("serve", "../x"),
            ("serve", NAME, "--alias", "../x"),
            ("show", "../x"),
            ("list", "runs", "--model", "../x"),
            ("up", "--lite", "--model", "../x"),
            ("init", "../x"),
        )
    ),
    ("../ in profile", nothing, ("--profile", "../x", "list", "models"), 2, "../x"),
]


@pytest.mark.parametrize(("prepare", "words", "code", "says"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_bad_input(mlops: Mlops, fresh: Path, prepare: Prepare, words: tuple[str, ...], code: int, says: str) -> None:
    prepare(fresh)
    before = visible(fresh)
    own = "--project" in words
    said = mlops(*words, project=None if own else fresh)
    expect_help(said, code, says)
    as_json = mlops(*words, "--json", project=None if own else fresh)
    assert as_json.code == code and as_json.err == ""
    assert as_json.json["error"]["exit_code"] == code and as_json.json["error"]["fix"]
    assert visible(fresh) == before


def test_a_fix_fits_what_was_asked(mlops: Mlops, fresh: Path) -> None:
    for words, fix in (
        (("eval", NAME, "--run", "../x"), "mlops list runs"),
        (("show", "../x"), "mlops list datasets"),
        (("promote", NAME, "--to", "../x"), "prod or staging"),
        (("--profile", "lcoal", "list", "models"), "--profile local"),
    ):
        assert f"  fix: {fix}" in mlops(*words, project=fresh).err
    malform(fresh)
    assert "  fix: ${EDITOR:-vi} +" in mlops("train", NAME, project=fresh).err


def visible(project: Path) -> dict[str, bytes]:
    """All files but the state database, which any command may create empty, and lock files."""
    return {path: data for path, data in tree(project).items() if "state.db" not in path and "/locks/" not in path}


def expect_help(said: Said, code: int, says: str) -> None:
    assert said.code == code, said.err + said.out
    assert says in said.err and "  fix: " in said.err
    assert "Traceback" not in said.err and said.out == ""


def test_training_with_mlflow_unreachable_says_so_within_seconds_and_registers_nothing(mlops: Mlops, fresh: Path) -> None:
    assert mlops("ingest", NAME, project=fresh).code == 0
    unreachable(fresh)
    said = mlops("train", NAME, project=fresh)
    assert said.code == 9 and "cannot be reached" in said.err and "fix:" in said.err
    assert mlops("list", "runs", "--json", project=fresh).json["runs"] == []


@pytest.mark.parametrize("words", [("up", "--lite", "--serving-port"), ("serve", NAME, "--port")])
def test_a_taken_port_is_named_with_its_holder_and_nothing_starts(mlops: Mlops, walked: Path, words: tuple[str, ...]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
        ports = ("--dagster-port", str(free_port()), "--mlflow-port", str(free_port())) if words[0] == "up" else ()
        said = mlops(*words, str(port), *ports, project=walked)
    assert said.code == 8
    assert f"Port {port}" in said.err and "by process" in said.err and str(port + 1) in said.err
    assert list((walked / ".zebraops" / "run").glob("*.json")) == []


def test_up_without_an_engine_offers_lite(mlops: Mlops, fresh: Path) -> None:
    said = mlops("up", project=fresh)
    assert said.code == 9 and said.err.rstrip().endswith("fix: mlops up --lite")


def test_down_with_nothing_running_is_fine(mlops: Mlops, fresh: Path) -> None:
    said = mlops("down", "--json", project=fresh)
    assert said.code == 0 and said.json == {"stopped": []}


def test_a_broken_model_does_not_keep_the_others_from_being_listed(mlops: Mlops, fresh: Path) -> None:
    (fresh / "models" / "broken").mkdir()
    (fresh / "models" / "broken" / "model.yaml").write_text("nmae: broken\n")
    said = mlops("list", "models", "--json", project=fresh)
    assert said.code == 0
    rows = {m["name"]: m for m in said.json["models"]}
    assert rows["nuclei"]["problem"] is None and "nmae" in rows["broken"]["problem"]


def test_parameters_are_json_where_they_read_as_json_and_text_otherwise() -> None:
    pairs = ["c=0.5", "n=3", "solver=lbfgs", "on=true", "grid=[1,2]", "empty=", "eq=a=b"]
    assert parse_params(pairs) == {"c": 0.5, "n": 3, "solver": "lbfgs", "on": True, "grid": [1, 2], "empty": "", "eq": "a=b"}
    for wrong in (["c"], ["=1"], ["a b=1"], ["c=1", "c=2"]):
        with pytest.raises(UsageError):
            parse_params(wrong)
