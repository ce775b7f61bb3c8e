"""Real parts for the server's tests: three versions in a real MLflow registry, a real ledger per test, a real server."""

import asyncio
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import uvicorn

from zebra_assets.adapters.event_store import SqlEvents
from zebra_assets.adapters.ledger import SqlLedger
from zebra_assets.adapters.mlflow import MlflowRegistry, MlflowTracker, prepare
from zebra_assets.adapters.model_files import load_model, model_digest
from zebra_assets.adapters.sketches import SqlSketches
from zebra_assets.contracts.noun import now
from zebra_assets.contracts.promotion import Promotion
from zebra_assets.contracts.run import CodeRevision, Run
from zebra_assets.settings import Settings
from zebra_assets.training.package import write_model
from zebra_serving.app import App, create_app
from zebra_serving.compile.form import TOLERANCE
from zebra_serving.compile.seal import key_at
from zebra_serving.endpoint import bind, url_of

MODEL = "churn"
REPO = Path(__file__).parents[2]
COLUMNS = {
    "tenure": {"dtype": "int64", "nullable": False},
    "monthly": {"dtype": "float64", "nullable": True},
    "contract": {"dtype": "string", "nullable": False},
    "senior": {"dtype": "bool", "nullable": False},
    "gender": {"dtype": "string", "nullable": False},
}
SPEC = """\
schema_version: 1
name: churn
type: python
entrypoint: train.py
datasets: {train: churn, valid: churn}
tracking: {experiment_name: churn}
metrics: [{name: roc_auc, direction: maximize}]
sensitive: {attributes: [gender]}
"""
ROW = {"tenure": 5, "monthly": 70.5, "contract": "monthly", "senior": False, "gender": "F"}


def rows(count: int) -> list[dict[str, Any]]:
    """``count`` different customers."""
    kinds = ("monthly", "yearly")
    return [
        {"tenure": i % 60, "monthly": 20.0 + i % 83, "contract": kinds[i % 2], "senior": i % 5 == 0, "gender": "FM"[i % 3 == 0]}
        for i in range(count)
    ]


def until(seen: Callable[[], Any], seconds: float = 60.0) -> Any:
    """The first true answer of ``seen``, asked every 20 ms."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if answer := seen():
            return answer
        time.sleep(0.02)
    raise AssertionError("waited in vain")


def in_the_loop() -> bool:
    """Whether whoever asks holds up an event loop meanwhile."""
    try:
        return asyncio.get_running_loop() is not None
    except RuntimeError:
        return False


def flip(path: Path) -> None:
    """Change one bit in the middle of a file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(data)


def served(app: App) -> str | None:
    """The version an app serves now."""
    return app.loader.current.promotion.version if app.loader.current else None


@dataclass
class Shelf:
    """Versions of one model in a real MLflow registry: version -> digest, and each version's own scores by row."""

    uri: str
    compiled: Path
    digests: dict[str, str] = field(default_factory=dict)
    folders: dict[str, Path] = field(default_factory=dict)

    @property
    def registry(self) -> MlflowRegistry:
        return MlflowRegistry(self.uri, ui_url=None)

    def score(self, version: str, customers: list[dict[str, Any]]) -> list[tuple[str, Any]]:
        """What the version itself says: labels exactly, scores within what a compiled form may differ."""
        found = load_model(self.folders[version], self.digests[version]).predict(pa.Table.from_pylist(customers))
        assert found.scores is not None
        return [
            (label, pytest.approx(score, abs=TOLERANCE)) for label, score in zip(found.labels.tolist(), found.scores.tolist(), strict=True)
        ]


def fitted(kind: str) -> Any:
    """Three estimators that answer differently to the same row."""
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder
    from sklearn.tree import DecisionTreeClassifier

    table = pa.Table.from_pylist(rows(240))
    labels = ["Yes" if (r["tenure"] < 20) != (kind == "inverted") else "No" for r in table.to_pylist()]
    encode = ColumnTransformer(
        [
            ("words", OneHotEncoder(handle_unknown="ignore"), ["contract", "gender"]),
            ("numbers", SimpleImputer(), ["tenure", "monthly", "senior"]),
        ]
    )
    model = DecisionTreeClassifier(max_depth=3) if kind == "tree" else LogisticRegression(max_iter=500)
    return make_pipeline(encode, model).fit(table.to_pandas(), labels)


@pytest.fixture(scope="session")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Shelf:
    root = tmp_path_factory.mktemp("mlflow")
    shelf = Shelf(f"sqlite:///{root}/mlflow.db", root / "compiled")
    shelf.compiled.mkdir()
    prepare(shelf.uri, (root / "artifacts").as_uri())
    tracker = MlflowTracker(shelf.uri, (root / "artifacts").as_uri())
    train = pa.Table.from_pylist([{**r, "churn": "Yes" if r["tenure"] < 20 else "No"} for r in rows(240)])
    pq.write_table(train, root / "train.parquet")
    values = {
        "columns": {**COLUMNS, "churn": {"dtype": "string", "nullable": False}},
        "features": list(COLUMNS),
        "label": {"column": "churn", "type": "binary", "positive": "Yes"},
        "datasets": {"train": {"path": str(root / "train.parquet")}},
        "pip_requirements": [],
    }
    # 4 will have a byte flipped in the artifact store; 5 refuses its own input example.
    for number, kind in enumerate(("plain", "inverted", "tree", "plain", "inverted"), start=1):
        folder = write_model(fitted(kind), root / f"model-{number}", values)
        if number == 5:
            example = folder / "input_example.json"
            example.write_text(example.read_text().replace('monthly", false', 'monthly", 0'))
        digest = model_digest(folder)
        run = Run(
            id=f"{MODEL}-run-000{number}", model=MODEL, manifest_id=f"{MODEL}-00000000000000a{number}", roles={},
            spec_digest="0" * 64, code=CodeRevision(digest="1" * 64), created_at=now(), model_digest=digest,
        )  # fmt: skip
        run = run.model_copy(update={"mlflow_run_id": tracker.start(MODEL, run, {})})
        assert shelf.registry.register(run, folder, digest) == str(number)
        shelf.digests[str(number)], shelf.folders[str(number)] = digest, folder
    stored = next(p.parent for p in (root / "artifacts").rglob("MLmodel") if model_digest(p.parent) == shelf.digests["4"])
    flip(stored / "model.skops")
    return shelf


class OneShelf(MlflowRegistry):
    """The registry, where every model has the shelf's versions."""

    def download(self, model: str, version: str, into: Path) -> Path:
        return super().download(MODEL, version, into)


@dataclass
class Bench:
    """One project with its own ledger and events, and the shared shelf of versions."""

    settings: Settings
    shelf: Shelf

    @property
    def ledger(self) -> SqlLedger:
        return SqlLedger(self.settings.state)

    @property
    def events(self) -> SqlEvents:
        return SqlEvents(self.settings.state)

    @property
    def sketches(self) -> SqlSketches:
        return SqlSketches(self.settings.state)

    def promote(self, version: str, *, model: str = MODEL, digest: str | None = None, alias: str = "prod") -> Promotion:
        """Append to the ledger what `promote` would have appended; the versions of all models are those of the shelf."""
        head = self.ledger.head(model, alias)
        promotion = Promotion(
            model=model, alias=alias, seq=head.seq + 1 if head else 1, kind="promote", version=version,
            from_version=head.version if head else None, run_id=f"{MODEL}-run-000{version}", manifest_id=f"{MODEL}-00000000000000a{version}",
            model_digest=digest or self.shelf.digests[version], decision_id="d" * 16, actor="test", reason="", created_at=now(),
        )  # fmt: skip
        self.ledger.append(promotion)
        return promotion

    def move_state(self, there: Path, back: bool = False) -> None:
        """Take the state database away, or bring it back."""
        there.mkdir(exist_ok=True)
        source, target = (there, self.settings.home) if back else (self.settings.home, there)
        for file in source.glob("state.db*"):
            file.rename(target / file.name)

    def app(self, *others: str, **parts: Any) -> App:
        """A server in this process for the shelf's model and ``others``, which have the same versions."""
        # One of its own (`server`) sends a child, which imports MLflow anew each time.
        return create_app(self.settings, [MODEL, *others], **{"registry": OneShelf(self.settings.tracking, ui_url=None), **parts})

    @contextmanager
    def client(self, version: str | None = None, **parts: Any) -> Iterator[httpx.Client]:
        """A server in a thread of this process, once it serves ``version`` (None: once it knows that it cannot)."""
        app = self.app(**parts)
        with self.running(app) as client:
            until(lambda: app.loader.current if version else app.loader.standing.waiting[1] or app.loader.standing.stale_since)
            assert version is None or served(app) == version
            yield client

    @contextmanager
    def running(self, app: App) -> Iterator[httpx.Client]:
        """``app`` behind a real socket, and a client for it."""
        with bind("127.0.0.1", 0) as sock:
            server = uvicorn.Server(uvicorn.Config(app, log_config=None, timeout_graceful_shutdown=5))
            thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]})
            thread.start()
            try:
                with httpx.Client(base_url=url_of(sock), timeout=30) as client:
                    until(lambda: server.started)
                    yield client
            finally:
                server.should_exit = True
                thread.join(30)
                assert not thread.is_alive()

    def environment(self, **more: str) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("ZEBRA_", "MLFLOW_"))}
        return {**kept, "PYTHONPATH": str(REPO), "ZEBRA_MLFLOW_TRACKING_URI": self.shelf.uri, "ZEBRA_RELOAD_INTERVAL_S": "0.05", **more}

    @contextmanager
    def start(self, *argv: str, stderr: int = subprocess.PIPE, **more: str) -> Iterator["subprocess.Popen[str]"]:
        """`python -m zebra_serving` as a process of its own, gone when the block ends."""
        command = [sys.executable, "-m", "zebra_serving", "--model", MODEL, "--project", str(self.settings.project_dir), *argv]
        with subprocess.Popen(command, env=self.environment(**more), stdout=subprocess.PIPE, stderr=stderr, text=True) as process:
            try:
                yield process
            finally:
                process.kill()

    @contextmanager
    def server(self, *argv: str, **more: str) -> Iterator[tuple["subprocess.Popen[str]", httpx.Client]]:
        """A server process that has said it serves, and a client for it."""
        with self.start("--port", "0", *argv, **more) as process:
            assert process.stdout is not None and process.stderr is not None
            line = process.stdout.readline()
            assert line.startswith(f"serving {MODEL}"), line + process.stderr.read()
            with httpx.Client(base_url=line.split()[-1], timeout=30) as client:
                yield process, client


def make_bench(tmp_path: Path, shelf: Shelf) -> Bench:
    """An empty project that knows the shelf."""
    (tmp_path / "models" / MODEL).mkdir(parents=True)
    (tmp_path / "manifests").mkdir()
    # Compiled forms are kept by the model's digest, so all projects of a session may share them.
    (tmp_path / ".zebraops" / "serving").mkdir(parents=True)
    (tmp_path / ".zebraops" / "serving" / "compiled").symlink_to(shelf.compiled)
    key_at(tmp_path / ".zebraops" / "serving" / "compiled.key")
    (tmp_path / ".zebraops" / "serving" / "compiled.key").write_bytes(key_at(shelf.compiled.with_name("compiled.key")))
    (tmp_path / "models" / MODEL / "model.yaml").write_text(SPEC)
    return Bench(Settings(project_dir=tmp_path, mlflow_tracking_uri=shelf.uri, reload_interval_s=0.05), shelf)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory, shelf: Shelf) -> Iterator[httpx.Client]:
    """A server of version 1 for the tests of one file; those that need another have a fixture of their own."""
    bench = make_bench(tmp_path_factory.mktemp("project"), shelf)
    bench.promote("1")
    with bench.client("1") as client:
        yield client


@pytest.fixture
def bench(tmp_path: Path, shelf: Shelf) -> Bench:
    return make_bench(tmp_path, shelf)


def note_of(bench: Bench) -> dict[str, Any] | None:
    """The endpoint file, if there is one."""
    path = bench.settings.home / "serving" / f"{MODEL}-prod.json"
    return json.loads(path.read_text()) if path.exists() else None
