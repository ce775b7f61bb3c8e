"""The stores that a server stands on, as real processes that are killed or frozen under load: nobody who asks for a prediction notices.

A PostgreSQL for ledger, routes and events, an `mlflow server` for versions, and a SeaweedFS that it keeps their files in. The
ledger's outages run for two seconds each with every test; all of them, for ZEBRA_TEST_OUTAGE_S (300) seconds each, with

    ZEBRA_TEST_OUTAGE_S=300 .venv/bin/pytest -m slow tests/serving/test_outages.py

`test_storm` has outages of SQLite files and folders.
"""

import dataclasses
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.adapters.postgres_server import Cluster, cluster
from tests.adapters.s3_servers import CREDENTIALS, Weed, answers, credentials, free_port, weed_in
from tests.serving.conftest import MODEL, Bench, Shelf, make_bench, until
from tests.serving.test_storm import OUTAGE_S, Asked, crowd
from tests.training.bench import template
from zebra_assets.adapters import state
from zebra_assets.adapters.mlflow import MlflowRegistry, MlflowTracker
from zebra_assets.contracts.noun import now
from zebra_assets.contracts.run import CodeRevision, Run
from zebra_serving.capture import MAX_QUEUED

__all__ = ["credentials"]  # fixture

ROWS, PEOPLE, PAUSE_S = 5, 2, 0.2  # 50 rows a second at most: those of 300 s wait in the queue, 15,000 of 20,000
RETURN_S = 240  # the loader's longest pause, a download, and a machine that has other work


class MlflowServer:
    """`mlflow server` on a copy of the empty store, with artifacts in the bucket "lake"."""

    def __init__(self, folder: Path, endpoint: str) -> None:
        (folder / "mlflow.db").write_bytes((template() / "mlflow.db").read_bytes())
        self._folder, self._port = folder, free_port()
        self._environment = {**os.environ, **CREDENTIALS, "MLFLOW_S3_ENDPOINT_URL": endpoint}
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Start, after a `kill` too, and wait until it answers."""
        argv = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self._port), "--workers", "1"]
        argv += ["--backend-store-uri", f"sqlite:///{self._folder / 'mlflow.db'}", "--artifacts-destination", "s3://lake/mlflow"]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(argv, cwd=self._folder, env=self._environment, stdout=log, stderr=log, start_new_session=True)
        until(lambda: answers(f"{self.url}/health"), 180)

    def kill(self) -> None:
        """SIGKILL for it and its workers."""
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


@dataclasses.dataclass
class Life:
    """A server under load, through outages of ``seconds`` each."""

    bench: Bench
    client: httpx.Client
    asked: Asked
    seconds: float

    def ready(self) -> dict[str, str | None]:
        said: dict[str, str | None] = self.client.get("/ready").json()
        return said

    def takes(self, version: str) -> None:
        """Wait until the version serves, nothing is stale, and everybody was answered by it."""
        before = self.asked.versions[version]
        until(lambda: (said := self.ready())["version"] == version and said["stale_since"] is None, RETURN_S)
        until(lambda: self.asked.versions[version] >= before + 3 * PEOPLE)

    def stands(self) -> None:
        """Let the outage's time pass; everybody is answered meanwhile, and by the version that served before it."""
        before, serving = self.asked.versions.copy(), self.ready()["version"]
        time.sleep(self.seconds)
        until(lambda: self.asked.versions.total() - before.total() >= 2 * self.seconds)
        assert set(self.asked.versions.copy() - before) == {serving} and self.asked.wrong == []

    def recorded(self) -> None:
        """Wait until something became of every event so far: with two outages on end, the second would find the queue full."""
        rows = ROWS * self.asked.versions.total()
        until(lambda: outcomes(self.client).total() >= rows, RETURN_S)

    def killed_ledger(self, ledger: Cluster, then: str) -> None:
        ledger.kill()
        until(lambda: self.ready()["stale_since"])
        self.stands()
        assert self.ready()["stale_since"]
        ledger.start()
        self.bench.promote(then)
        self.takes(then)
        self.recorded()

    def frozen_ledger(self, ledger: Cluster, then: str) -> None:
        ledger.freeze()
        self.stands()
        ledger.thaw()
        self.bench.promote(then)
        self.takes(then)

    def killed_source(self, source: MlflowServer | Weed, then: str) -> None:
        """Whoever would give the files of a version that was never fetched is away when it is promoted."""
        source.kill()
        self.bench.promote(then)
        self.stands()
        source.start()
        self.takes(then)


@contextmanager
def life(bench: Bench, seconds: float) -> Iterator[Life]:
    """A server of version 1 that is asked all along; in the end every answer was right, and every event is accounted for."""
    spec = bench.settings.models_dir / MODEL / "model.yaml"
    spec.write_text(spec.read_text() + "serving: {events_per_second: null}\n")
    bench.promote("1")
    settings, log = bench.settings, bench.settings.project_dir / "server.log"
    stores = {"ZEBRA_STATE_URL": settings.state, "ZEBRA_MLFLOW_TRACKING_URI": settings.tracking, "ZEBRA_RELOAD_INTERVAL_S": "0.2"}
    # A file, because nobody reads while the server complains for minutes.
    with log.open("w") as file, bench.start("--port", "0", stderr=file.fileno(), **stores) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith(f"serving {MODEL} v1"), line + log.read_text()
        with httpx.Client(base_url=line.split()[-1], timeout=30) as client:
            with crowd(bench, str(client.base_url), PEOPLE, PAUSE_S) as asked:
                until(lambda: asked.versions.total() > 4)
                it = Life(bench, client, asked, seconds)
                yield it
            it.recorded()
            said = outcomes(client)
    assert asked.wrong == []
    assert said["lost"] == 0 and (said["dropped"] == 0 or seconds * PEOPLE * ROWS / PAUSE_S > MAX_QUEUED), said
    assert said.total() == ROWS * asked.versions.total()
    assert said["captured"] == len(asked.events) == bench.events.count(MODEL)


def outcomes(client: httpx.Client) -> Counter[str]:
    """What became of the rows' events so far."""
    found = re.findall(r'^zebra_events_total\{outcome="(\w+)"\} (\S+)$', client.get("/metrics").text, re.MULTILINE)
    return Counter({outcome: int(float(count)) for outcome, count in found})


@pytest.fixture
def ledger() -> Iterator[Cluster]:
    """A PostgreSQL of the test's own: what it kills must be nobody else's."""
    with cluster() as made:
        yield made


@pytest.fixture(scope="module")
def objects(credentials: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Weed]:
    with weed_in(tmp_path_factory.mktemp("weed")) as server:
        yield server


@pytest.fixture(scope="module")
def mlflow(objects: Weed, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    server = MlflowServer(tmp_path_factory.mktemp("server"), objects.endpoint)
    try:
        server.start()
        yield server
    finally:
        server.kill()


@pytest.fixture(scope="module")
def remote_shelf(shelf: Shelf, mlflow: MlflowServer) -> Shelf:
    """The shelf's first three versions in the MLflow server."""
    tracker, registry = MlflowTracker(mlflow.url, ""), MlflowRegistry(mlflow.url, ui_url=None)
    for version in "123":
        run = Run(
            id=f"{MODEL}-run-000{version}", model=MODEL, manifest_id=f"{MODEL}-00000000000000a{version}", roles={},
            spec_digest="0" * 64, code=CodeRevision(digest="1" * 64), created_at=now(), model_digest=shelf.digests[version],
        )  # fmt: skip
        run = run.model_copy(update={"mlflow_run_id": tracker.start(MODEL, run, {})})
        assert registry.register(run, shelf.folders[version], shelf.digests[version]) == version
    return dataclasses.replace(shelf, uri=mlflow.url)


@pytest.fixture
def on_postgres(ledger: Cluster) -> Iterator[Callable[[Path, Shelf], Bench]]:
    """Makes a project whose state is in the PostgreSQL."""
    url = f"{ledger.url}/postgres"
    state.migrate(url)
    yield lambda folder, shelf: Bench(make_bench(folder, shelf).settings.model_copy(update={"state_url": url}), shelf)
    state._engines.pop(url).dispose()


def test_a_postgres_that_is_killed_or_frozen_fails_no_prediction_and_loses_no_event(
    ledger: Cluster, on_postgres: Callable[[Path, Shelf], Bench], shelf: Shelf, tmp_path: Path
) -> None:
    with life(on_postgres(tmp_path, shelf), 2.0) as it:
        it.killed_ledger(ledger, then="2")
        it.frozen_ledger(ledger, then="1")


@pytest.mark.slow  # MLflow's server alone takes half a minute to start on a busy machine
@pytest.mark.timeout(4 * int(OUTAGE_S) + 1800)
def test_ledger_mlflow_and_object_store_killed_one_after_the_other_fail_no_prediction_and_lose_no_event(
    ledger: Cluster, mlflow: MlflowServer, objects: Weed, on_postgres: Callable[[Path, Shelf], Bench], remote_shelf: Shelf, tmp_path: Path
) -> None:
    with life(on_postgres(tmp_path, remote_shelf), OUTAGE_S) as it:
        it.killed_source(mlflow, then="2")
        it.killed_source(objects, then="3")
        it.killed_ledger(ledger, then="1")
        it.frozen_ledger(ledger, then="2")
