"""A real MLflow server behind a wire that loses replies: minutes to start on a busy machine, so it is marked slow."""

import http.client
import http.server
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.training.bench import template
from zebra_assets.adapters.mlflow import MlflowRegistry, MlflowTracker
from zebra_assets.contracts.model_folder import model_digest
from zebra_assets.contracts.noun import now
from zebra_assets.contracts.run import CodeRevision, Run
from zebra_assets.errors import Unavailable

pytestmark = pytest.mark.slow


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    folder = tmp_path_factory.mktemp("server")
    (folder / "mlflow.db").write_bytes((template() / "mlflow.db").read_bytes())
    port = free_port()
    argv = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    argv += ["--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}", "--artifacts-destination", str(folder / "artifacts")]
    process = subprocess.Popen(argv, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(900):
            try:
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
                connection.request("GET", "/health")
                if connection.getresponse().status == 200:
                    break
            except OSError:
                time.sleep(0.2)
        yield port
    finally:
        process.terminate()
        process.wait(20)


class Lossy(http.server.ThreadingHTTPServer):
    """Forwards everything; of each kind of creation it drops the first ``lose`` replies after the server has acted."""

    daemon_threads = True

    def __init__(self, upstream: int) -> None:
        super().__init__(("127.0.0.1", 0), Forward)
        self.upstream = upstream
        self.lose = 0
        self.seen: Counter[str] = Counter()


class Forward(http.server.BaseHTTPRequestHandler):
    server: Lossy

    def forward(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        upstream = http.client.HTTPConnection("127.0.0.1", self.server.upstream, timeout=30)
        headers = {k: v for k, v in self.headers.items() if k.lower() not in {"host", "connection"}}
        upstream.request(self.command, self.path, body, headers)
        answer = upstream.getresponse()
        data = answer.read()
        if self.command == "POST" and "create" in self.path:
            self.server.seen[self.path] += 1
            if self.server.seen[self.path] <= self.server.lose:
                self.connection.close()
                return
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.getheader("Content-Type") or "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = forward

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def wire(server: int) -> Iterator[Lossy]:
    proxy = Lossy(server)
    thread = threading.Thread(target=proxy.serve_forever, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.shutdown()
        proxy.server_close()


@pytest.mark.parametrize("lose", [0, 1, 2])
def test_replies_lost_on_the_wire_make_no_second_run_and_no_second_version(wire: Lossy, tmp_path: Path, lose: int) -> None:
    uri = f"http://127.0.0.1:{wire.server_port}"
    tracker, registry = MlflowTracker(uri, ""), MlflowRegistry(uri, ui_url=uri)
    name = f"churn{lose}"
    run = Run(
        id=f"{name}-0123456789abcdef",
        model=name,
        manifest_id="customers-0123456789abcdef",
        roles={},
        spec_digest="a" * 64,
        code=CodeRevision(digest="b" * 64),
        created_at=now(),
    )
    model = tmp_path / "model"
    model.mkdir()
    (model / "MLmodel").write_text("flavors: {}")
    digest = model_digest(model)
    wire.lose = lose

    def attempt() -> str:
        started = run.model_copy(update={"mlflow_run_id": tracker.start(name, run, {})})
        tracker.log(started.mlflow_run_id or "", params={"C": 1}, metrics={"auc": 0.5})
        version = registry.register(started, model, digest)
        tracker.finish(started.mlflow_run_id or "", "finished")
        return version

    for _ in range(4):  # a rerun is what follows an unknown outcome
        try:
            assert attempt() == "1"
            break
        except Unavailable:
            continue
    client = tracker._client
    experiment = client.get_experiment_by_name(name).experiment_id
    assert len(client.search_runs([experiment])) == len(client.search_model_versions(f"name = '{name}'")) == 1
    assert tracker.metrics(client.search_runs([experiment])[0].info.run_id) == {"auc": 0.5}
    registry.set_alias(name, "prod", "1")
    assert registry.alias(name, "prod") == "1" and registry.alias(name, "staging") is None
    assert model_digest(registry.download(name, "1", tmp_path / "down")) == digest
    assert sum(wire.seen.values()) == 4  # each creation was sent exactly once, whatever was lost
