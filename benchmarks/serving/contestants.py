"""Who takes part, how each is installed and started, and what it is asked.

Peers run in environments of their own below .zebraops/, made from the locked files in peers/; whatever loads the model has the
versions that the model was trained with. `mlflow models serve` and the two ASGI floors run in the platform's own environment.
"""

import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.serving import bodies
from benchmarks.serving.stage import Staged
from benchmarks.serving.venvs import PEERS, ROOT, installed
from zebra_assets.control import server

BASE, OURS, UNCOMPILED = "mlflow models serve", "ours", "ours, not compiled"
MLSERVER, BENTOML, LITSERVE, BATCHING, FASTAPI = "MLServer", "BentoML", "LitServe", "LitServe, batching", "FastAPI + pyfunc"
FLOOR, LIMIT = "limit: raw ASGI + compiled model", "limit: raw ASGI constant"
PEER_SERVERS = (MLSERVER, BENTOML, LITSERVE)
QUIET = {
    "DO_NOT_TRACK": "1", "MLFLOW_DISABLE_TELEMETRY": "true", "BENTOML_DO_NOT_TRACK": "True", "BENTOML_VERBOSITY": "0",
    "NO_ALBUMENTATIONS_UPDATE": "1",
}  # fmt: skip


@dataclass
class Server:
    """How to start one server, and what to ask it.

    Attributes:
        body: rows in its protocol.
        counts: it tells in /metrics what became of every prediction, and its windows end when all are settled.
        answers: it says something about the rows.
    """

    name: str
    argv: list[str]
    port: int
    path: str
    body: Callable[[bodies.Rows], bytes]
    setting: str
    env: dict[str, str] = field(default_factory=dict)
    counts: bool = False
    answers: bool = True


def servers(project: Path, model: Staged, ports: Callable[[], int], only: set[str] | None = None) -> list[Server]:
    """Everybody, each with a port of its own, in the order of a round: rivals next to each other."""
    makers: dict[str, Callable[[], Server]] = {
        BASE: lambda: _mlflow(model, ports()),
        OURS: lambda: _ours(OURS, project, model, ports(), "compiled form"),
        UNCOMPILED: lambda: _ours(UNCOMPILED, project.with_name("plain"), model, ports(), "the estimator on DataFrames, micro-batching"),
        FASTAPI: lambda: _script(FASTAPI, sys.executable, "with_fastapi.py", model, ports(), "async route, JSON to DataFrame to pyfunc"),
        LITSERVE: lambda: _script(LITSERVE, installed("litserve"), "with_litserve.py", model, ports(), "1 worker, no batching"),
        BATCHING: lambda: _script(BATCHING, installed("litserve"), "with_litserve.py", model, ports(), "max_batch_size 16, 5 ms", "16"),
        BENTOML: lambda: _bentoml(model, ports()),
        MLSERVER: lambda: _mlserver(project, model, ports),
        FLOOR: lambda: _floor(project, model, ports()),
        LIMIT: lambda: _constant(ports()),
    }
    return [make() for name, make in makers.items() if only is None or name in only]


def _mlflow(model: Staged, port: int) -> Server:
    argv = [sys.executable, "-m", "mlflow", "models", "serve", "-m", str(model.folder), "--env-manager", "local"]
    argv += ["-h", "127.0.0.1", "-p", str(port), "--workers", "1"]
    return Server(BASE, argv, port, "/invocations", bodies.split, "--env-manager local --workers 1")


def _ours(name: str, project: Path, model: Staged, port: int, setting: str) -> Server:
    argv, env = server.command(project, [model.name], port=port), server.environment({"PYTHONPATH": str(ROOT)})
    return Server(name, argv, port, "/predict", bodies.native, f"{setting}; validation, metrics, capture on", env, True)


def _script(name: str, python: str | Path, script: str, model: Staged, port: int, setting: str, *more: str) -> Server:
    return Server(
        name, [str(python), str(PEERS / script), str(model.folder), str(port), *more], port, "/invocations", bodies.split, setting
    )


def _bentoml(model: Staged, port: int) -> Server:
    python = installed("bentoml")
    argv = [str(python), "-m", "bentoml", "serve", "with_bentoml:Peer", "--working-dir", str(PEERS), "--host", "127.0.0.1"]
    env = {"MODEL_FOLDER": str(model.folder)}
    return Server(BENTOML, [*argv, "--port", str(port)], port, "/invocations", bodies.split, "workers=1, access log off", env)


def _mlserver(project: Path, model: Staged, ports: Callable[[], int]) -> Server:
    python, home = installed("mlserver"), project.parent / f"mlserver-{model.name}"
    home.mkdir(exist_ok=True)
    port = ports()
    # Without a process pool it is quicker and smaller, and its pool does not start with the uvloop of today.
    settings = {
        "parallel_workers": 0,
        "host": "127.0.0.1",
        "http_port": port,
        "grpc_port": ports(),
        "metrics_port": ports(),
        "debug": False,
    }
    (home / "settings.json").write_text(json.dumps(settings))
    about = {"name": model.name, "implementation": "mlserver_mlflow.MLflowRuntime", "parameters": {"uri": str(model.folder)}}
    (home / "model-settings.json").write_text(json.dumps(about))
    argv = [str(python.with_name("mlserver")), "start", str(home)]
    return Server(MLSERVER, argv, port, f"/v2/models/{model.name}/infer", bodies.tensors, "MLflow runtime, V2, parallel_workers 0")


def _floor(project: Path, model: Staged, port: int) -> Server:
    store = project / ".zebraops" / "serving" / "compiled"
    argv = [sys.executable, str(PEERS / "compiled.py"), str(model.folder), model.digest, str(store), str(port)]
    return Server(FLOOR, argv, port, "/predict", bodies.native, "our decoder and compiled form, nothing else", {"PYTHONPATH": str(ROOT)})


def _constant(port: int) -> Server:
    argv = [sys.executable, str(PEERS / "constant.py"), str(port)]
    return Server(LIMIT, argv, port, "/predict", bodies.native, "reads the body, answers a constant", answers=False)


def environment(of: Server) -> dict[str, str]:
    """The server's own environment: no setting of whoever runs the benchmark reaches it."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("ZEBRA_", "MLFLOW_", "PYTHON", "BENTOML_"))}
    return {**kept, **QUIET, "PATH": f"{Path(of.argv[0]).parent}:{kept['PATH']}", **of.env}
