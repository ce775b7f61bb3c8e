"""`python -m zebra_serving` as people start and stop it."""

import os
import signal
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.serving.conftest import MODEL, ROW, Bench, Shelf, make_bench, note_of, until
from zebra_assets import telemetry
from zebra_serving.launch import main


@dataclass
class Life:
    """What was seen of one server from start to SIGTERM."""

    line: str
    pid: int
    notes: list[dict[str, Any] | None]
    answers: list[httpx.Response]
    code: int
    imported: set[str]
    events: int
    collected: str


# At its end a server says whether it looked for garbage, and whether it spared what its imports made.
LAST_WORDS = """
import atexit, gc, os, sys
if "zebra_serving" in sys.orig_argv:
    said = lambda: open(os.environ["LAST_WORDS"], "w").write(f"{gc.isenabled()} {gc.get_freeze_count() > 10_000}")
    atexit.register(said)
"""


def with_last_words(bench: Bench) -> dict[str, str]:
    """The environment of a server that leaves `LAST_WORDS` behind."""
    folder = bench.settings.home / "site"
    folder.mkdir(parents=True)
    (folder / "sitecustomize.py").write_text(LAST_WORDS)
    return {"PYTHONPATH": os.pathsep.join((str(folder), os.environ.get("PYTHONPATH", ""))), "LAST_WORDS": str(folder / "said")}


@pytest.fixture(scope="module")
def life(tmp_path_factory: pytest.TempPathFactory, shelf: Shelf) -> Life:
    bench = make_bench(tmp_path_factory.mktemp("project"), shelf)
    bench.promote("1")
    log, words = bench.settings.home / "serving.log", with_last_words(bench)
    with log.open("w") as file, bench.start("--port", "0", stderr=file.fileno(), PYTHONPROFILEIMPORTTIME="1", **words) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        notes = [note_of(bench)]
        answers = [httpx.post(f"{line.split()[-1]}/predict", json=ROW)]
        bench.promote("2")
        until(lambda: (note_of(bench) or {})["version"] == "2")
        notes.append(note_of(bench))
        process.send_signal(signal.SIGTERM)
        code = process.wait(60)
    rows = [row for row in log.read_text().splitlines() if row.startswith("import time:")]
    imported = {row.rpartition("|")[2].strip().partition(".")[0] for row in rows}
    said = Path(words["LAST_WORDS"]).read_text()
    return Life(line, process.pid, [*notes, note_of(bench)], answers, code, imported, bench.events.count(MODEL), said)


def test_a_server_says_what_it_serves_and_where(life: Life) -> None:
    assert life.line.startswith(f"serving {MODEL} v1 on http://127.0.0.1:")
    assert life.answers[0].json()["version"] == "1"


def test_its_note_follows_the_version_and_is_gone_when_it_is(life: Life) -> None:
    url = life.line.split()[-1]
    assert life.notes == [{"pid": life.pid, "url": url, "version": "1"}, {"pid": life.pid, "url": url, "version": "2"}, None]


def test_told_to_stop_it_writes_its_events_and_exits_with_zero(life: Life) -> None:
    assert (life.code, life.events) == (0, 1)


def test_garbage_is_looked_for_once_the_imports_are_done_with_a_version_and_without(life: Life, bench: Bench) -> None:
    words = with_last_words(bench)
    with bench.start("--port", "0", **words) as process:
        assert process.stdout is not None and "nothing to serve yet" in process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    assert life.collected == Path(words["LAST_WORDS"]).read_text() == "True True"


def test_a_server_of_a_compiled_model_imports_neither_the_platform_nor_what_trained_it(life: Life) -> None:
    assert {"zebra_serving", "onnxruntime", "uvloop", "httptools"} <= life.imported
    assert not life.imported & {"dagster", "dagster_mlflow", "evidently", "papermill", "matplotlib"}
    assert not life.imported & {"mlflow", "sklearn", "skops", "pandas", "scipy", "onnx", "skl2onnx", "pyarrow"}
    assert not life.imported & {"jwt", "cryptography"}  # for servers with an issuer


def test_a_server_without_a_version_says_so_and_stops_on_ctrl_c(bench: Bench) -> None:
    bench.events.count(MODEL)
    with bench.start("--port", "0") as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith(f"serving {MODEL} (nothing to serve yet, see /ready) on http://127.0.0.1:")
        assert httpx.get(f"{line.split()[-1]}/health").json() == {"status": "alive"}
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0


def test_a_taken_port_is_named_with_a_way_out(bench: Bench) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with bench.start("--port", str(port)) as process:
            _, said = process.communicate(timeout=60)
    assert process.returncode == 9
    assert said == f"error: Port {port} on 127.0.0.1 is taken by another process.\n  fix: --port 0 picks a free one\n"


@pytest.mark.parametrize(
    ("argv", "code", "says"),
    [
        (["--host", "0.0.0.0"], 10, "ZEBRA_SERVING_TOKEN"),
        (["--host", "::"], 10, "ZEBRA_SERVING_TOKEN"),
        (["--model", "chrun"], 4, "Did you mean 'churn'?"),
        (["--model", "../churn"], 2, "not a legal name"),
        (["--alias", "../prod"], 2, "not a legal name"),
        (["--profile", "nowhere"], 2, "Unknown profile"),
    ],
)
def test_what_cannot_be_served_ends_with_a_sentence_and_a_code(
    bench: Bench, capsys: pytest.CaptureFixture[str], argv: list[str], code: int, says: str
) -> None:
    assert main(["--model", MODEL, "--port", "0", "--project", str(bench.settings.project_dir), *argv]) == code
    said = capsys.readouterr().err
    assert says in said and "fix:" in said


def test_workers_that_would_each_take_another_port_for_grpc_are_not_started(
    bench: Bench, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[int] = []
    monkeypatch.setattr("zebra_serving.launch._supervise", lambda *args: started.append(args[3]) or 0)
    command = ["--model", MODEL, "--port", "0", "--project", str(bench.settings.project_dir), "--workers", "2"]
    monkeypatch.setenv("ZEBRA_SERVING_GRPC_PORT", "0")
    assert main(command) == 2 and not started
    said = capsys.readouterr().err
    assert "2 workers" in said and "fix: set ZEBRA_SERVING_GRPC_PORT" in said
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("ZEBRA_SERVING_GRPC_PORT", str(free.getsockname()[1]))
    assert main(command) == 0 and started == [2]


def test_with_a_token_another_host_is_allowed_if_it_is_ours(
    bench: Bench, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZEBRA_SERVING_TOKEN", os.urandom(8).hex())
    # 203.0.113.0/24 is reserved for documentation, so it is nobody's.
    assert main(["--model", MODEL, "--host", "203.0.113.7", "--port", "0", "--project", str(bench.settings.project_dir)]) == 2
    assert "Cannot bind 203.0.113.7" in capsys.readouterr().err


def test_a_spec_that_cannot_be_read_stops_the_start_because_sensitive_columns_would_be_unknown(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    spec: Path = bench.settings.models_dir / MODEL / "model.yaml"
    spec.write_text(spec.read_text().replace("sensitive:", "sensitiv:"))
    assert main(["--model", MODEL, "--port", "0", "--project", str(bench.settings.project_dir)]) == 3
    assert "Did you mean 'sensitive'?" in capsys.readouterr().err


def test_a_server_keeps_nothing_that_could_report_home(bench: Bench, tmp_path: Path) -> None:
    # ONNX Runtime, left alone, begins with ~/.cache/Microsoft; where it sees a CI's variables it does not.
    home = tmp_path / "home"
    home.mkdir()
    bench.promote("1")
    with bench.server(HOME=str(home), XDG_CACHE_HOME="", **dict.fromkeys(telemetry.OFF, "")) as (_, client):
        assert client.post("/predict", json=ROW).status_code == 200
    assert not list(home.iterdir())
