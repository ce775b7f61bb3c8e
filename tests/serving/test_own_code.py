"""Models that bring code run on an approver's proven word only: these bytes, this version, in a fenced process of their own."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pytest
from sqlalchemy import create_engine, text

from tests.serving.conftest import MODEL, ROW, Bench, served, until
from tests.serving.own_code import HONEST, Authors, approve, own_code
from zebra_assets.adapters.own_code import process
from zebra_assets.adapters.own_code.process import OwnCodeFailed, OwnCodeModel
from zebra_assets.contracts.own_code import verify_own_code
from zebra_assets.errors import Refused

OLD = {**ROW, "tenure": 50}


@contextmanager
def serving(bench: Bench, registry: Authors, version: str = "1") -> Iterator[tuple[Any, httpx.Client]]:
    """A server that serves ``version`` already."""
    bench.promote(version, digest=None if version in bench.shelf.digests else registry.digest(version, bench.settings.home))
    app = bench.app(registry=registry)
    with bench.running(app) as client:
        until(lambda: served(app) == version)
        yield app, client


def refusal(client: httpx.Client, version: str) -> dict[str, Any]:
    return until(lambda: (f := client.get("/model").json()["last_reload_failure"]) and f["version"] == version and f)


def test_an_approved_version_answers_from_a_process_of_its_own_and_is_gone_with_it(bench: Bench, tmp_path: Path) -> None:
    registry = Authors(bench.shelf, own_code())
    word = approve(bench.settings.state, "100", registry.digest("100", tmp_path))
    with serving(bench, registry, "100") as (app, client):
        answers = client.post("/predict", json={"rows": [ROW, OLD]}).json()
        assert [p["prediction"] for p in answers["predictions"]] == ["Yes", "No"]
        assert [p["score"] for p in answers["predictions"]] == pytest.approx([0.9, 0.1])
        about = client.get("/model").json()
        assert about["form"] == "its own code" and about["own_code"]["approved_by"] == "ann" and about["own_code"]["entry"] == word.seq
        assert "process of its own" in about["form_checked"] and about["memory_bytes"] > 20e6
        folder = next((bench.settings.home / "serving" / "cache" / MODEL).glob("100-*"))
        assert all(p.stat().st_mode & 0o222 == 0 for p in (folder, *folder.rglob("*")))
        pid = app.loader.current.model._model._running[0].process.pid
        assert pid != os.getpid() and Path(f"/proc/{pid}").exists()
        bench.promote("1")
        until(lambda: served(app) == "1")
        app.loader.cool()
        until(lambda: not Path(f"/proc/{pid}").exists())


def test_no_word_another_word_and_a_word_taken_back_leave_the_old_version_serving(bench: Bench, tmp_path: Path) -> None:
    registry = Authors(bench.shelf, own_code(), own_code(HONEST + "#"), own_code(HONEST + "##"), own_code(HONEST + "###"))
    digests = {v: registry.digest(v, tmp_path) for v in ("100", "101", "102", "103")}
    url = bench.settings.state
    approve(url, "101", digests["100"])  # these bytes are another version's
    approve(url, "102", digests["102"])
    approve(url, "102", digests["102"], granted=False)
    with serving(bench, registry) as (app, client):
        for version, why in {"100": "Nobody has approved", "101": "is for the bytes", "102": "revoked the approval"}.items():
            bench.promote(version, digest=digests[version])
            said = refusal(client, version)
            assert (
                said["reason"] == "refused" and why in said["message"] and said["fix"].startswith(f"mlops code approve {MODEL} {version}")
            )
            assert client.post("/predict", json=ROW).json()["version"] == "1"
        approve(url, "103", digests["103"])
        bench.promote("103", digest=digests["103"])
        until(lambda: served(app) == "103")


def test_a_revoked_version_is_not_taken_back_from_memory(bench: Bench, tmp_path: Path) -> None:
    registry = Authors(bench.shelf, own_code())
    digest = registry.digest("100", tmp_path)
    approve(bench.settings.state, "100", digest)
    with serving(bench, registry, "100") as (app, client):
        bench.promote("1")
        until(lambda: served(app) == "1")
        assert app.loader.previous is not None
        approve(bench.settings.state, "100", digest, granted=False)
        bench.promote("100", digest=digest)
        assert "revoked" in refusal(client, "100")["message"] and served(app) == "1"


@pytest.mark.parametrize("how", ["forged", "changed", "cut off"])
def test_a_word_in_a_log_that_does_not_hold_is_not_believed(bench: Bench, tmp_path: Path, how: str) -> None:
    registry = Authors(bench.shelf, own_code(), own_code(HONEST + "#"))
    first, second = (registry.digest(v, tmp_path) for v in ("100", "101"))
    url = bench.settings.state
    approve(url, "100", first)
    with serving(bench, registry, "100") as (app, client):
        if how == "cut off":
            approve(url, "100", first, granted=False)
            approve(url, "101", second)
            approve(url, "101", second, granted=False)
            bench.promote("101", digest=second)
            assert "revoked" in refusal(client, "101")["message"]
        with create_engine(url).begin() as database:
            if how == "forged":
                copied = "SELECT seq + 1, actor, action, 'code/churn/101', body, hash, hash FROM audit ORDER BY seq DESC LIMIT 1"
                database.execute(text(f"INSERT INTO audit (seq, actor, action, subject, body, prev, hash) {copied}"))
            elif how == "changed":
                database.execute(
                    text("UPDATE audit SET body = CAST(replace(CAST(body AS TEXT), :a, :b) AS BLOB) WHERE seq = 1"),
                    {"a": first, "b": second},
                )
            else:
                database.execute(text("DELETE FROM audit WHERE seq = (SELECT max(seq) FROM audit)"))
        if how == "cut off":
            said = until(lambda: (f := client.get("/model").json()["last_reload_failure"]) and "lost entry" in f["message"] and f)
        else:
            with create_engine(url).begin() as database:  # straight to the ledger: appending there would chain after the break
                row = "SELECT model, alias, seq + 1, kind, '101', version, run_id, manifest_id, :d, decision_id, actor, reason, state, created_at FROM ledger"
                database.execute(text(f"INSERT INTO ledger {row}"), {"d": second})
            said = refusal(client, "101")
            assert "does not hold" in said["message"]
        assert said["reason"] == "refused" and served(app) == "100"


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d["flavors"]["python_function"].update(code="../code"),
        lambda d: d["flavors"]["python_function"].update(data="/etc"),
        lambda d: d["flavors"]["python_function"].update(artifacts={"a": {"path": "s3://elsewhere/a", "uri": "x"}}),
        lambda d: d["flavors"]["python_function"].pop("loader_module"),
        lambda d: d.pop("signature"),
    ],
)
def test_what_the_digest_does_not_cover_nobody_can_approve(bench: Bench, tmp_path: Path, change: Any) -> None:
    registry = Authors(bench.shelf, own_code(change=change))
    digest = registry.digest("100", tmp_path)
    approve(bench.settings.state, "100", digest)
    with serving(bench, registry) as (_, client):
        bench.promote("100", digest=digest)
        assert "mlops code" not in refusal(client, "100")["fix"]


def opened(bench: Bench, tmp_path: Path, code: str) -> tuple[OwnCodeModel, Path]:
    folder = Authors(bench.shelf, own_code(code)).download(MODEL, "100", tmp_path)
    from zebra_assets.adapters.model_files import model_digest

    digest = model_digest(folder)
    return OwnCodeModel(folder, digest, verify_own_code(folder, digest)), folder


def ask(model: OwnCodeModel) -> Any:
    return model.predict(pa.Table.from_pylist([ROW])).labels[0]


def test_the_fence_holds(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZEBRA_SERVING_TOKEN", "a-secret")
    secret = tmp_path / "tokens.json"
    secret.write_text("{}")
    tries = f"""
import os, socket
def tried(attempt):
    try:
        attempt()
    except OSError:
        return "-"
    return "+"
class Model:
    def predict(self, rows, params=None):
        listener = socket.socket()
        said = [
            tried(lambda: open({str(secret)!r}).read()),
            tried(lambda: open("/proc/%d/environ" % os.getppid(), "rb").read()),
            tried(lambda: open(__file__, "a")),
            tried(lambda: os.chmod({str(secret)!r}, 0o777) or open({str(secret)!r}, "a")),
            tried(lambda: os.kill(os.getppid(), 0)),
            tried(lambda: socket.create_connection(("127.0.0.1", 9), 1)),
            tried(lambda: listener.bind(("127.0.0.1", 0))),
            tried(lambda: open("scratch", "w").write("x")),
        ]
        return ["".join(said) if "ZEBRA_SERVING_TOKEN" not in os.environ else "environment"] * len(rows)
def _load_pyfunc(path):
    return Model()
"""
    model, _ = opened(bench, tmp_path, tries)
    model.classes = []
    if "Landlock:" not in model.fence:
        pytest.skip(model.fence)
    assert ask(model) == "-------+"


def test_code_that_dies_hangs_or_talks_nonsense_fails_alone_and_is_started_anew(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "ANSWER_S", 4.0)
    moods = """
import os, time
class Model:
    def predict(self, rows, params=None):
        mood = int(rows["tenure"].iloc[0]) - 100
        if mood == 1: os._exit(0)
        if mood == 2: time.sleep(60)
        if mood == 3: return [float("nan")]
        if mood == 4: return ["Maybe"]
        if mood == 5: return ["Yes", "Yes"]
        if mood == 6: raise SystemExit
        print("not for the channel")
        return ["Yes"] * len(rows)
def _load_pyfunc(path):
    return Model()
"""
    model, folder = opened(bench, tmp_path, moods)
    for mood in range(1, 7):
        began = time.monotonic()
        with pytest.raises(OwnCodeFailed):
            model.predict(pa.Table.from_pylist([{**ROW, "tenure": 100 + mood}]))
        assert time.monotonic() - began < 30  # one of them sleeps for 60
        assert ask(model) == "Yes"
    model.predict(pa.Table.from_pylist([OLD]))
    with pytest.raises(OwnCodeFailed):
        model.predict(pa.Table.from_pylist([{**ROW, "tenure": 101}]))
    (folder / "code" / "own_model.py").write_text(HONEST)
    with pytest.raises(Refused, match="its bytes were changed"):
        ask(model)
