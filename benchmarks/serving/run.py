"""One model behind several servers, per server-core-second: `python benchmarks/serving/run.py [--quick] [--rounds 3]`.

Servers are pinned to core 0 and the load generator to core 1; every round asks all of them, one after another, because the
machine's own speed drifts within minutes, and a ratio is taken within its round. Ours run with validation, metrics and the capture
of every prediction on, and what is still being captured when the load ends is waited for and paid for. `plain` is our own server
with the compiled form withheld. Writes benchmarks/results/serving.json and .md (--quick: serving-quick.*).
"""

import argparse
import contextlib
import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
from stage import Staged, stage

from zebra_assets.adapters.model_files import load_model
from zebra_serving.compile.form import NUMPY, ONNX, PLAIN, Form, toolchain, write_form
from zebra_serving.compile.seal import key_at, seal

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
RESULTS = ROOT / "benchmarks" / "results"
VENVS = ROOT / ".zebraops" / "bench-venvs"
BASE = "mlflow"
SERVER_CORE, CLIENT_CORE = "0", "1"
EVENTS = re.compile(r'zebra_events_total\{outcome="(\w+)"\} (\S+)')


@dataclass
class Server:
    """How to start one server, and what to ask it."""

    name: str
    argv: list[str]
    path: str
    split: bool
    env: dict[str, str]
    ours: bool = False


def servers(project: Path, model: Staged, port: int) -> list[Server]:
    """The servers that can run here."""
    ours = [sys.executable, "-m", "zebra_serving", "--model", model.name, "--port", str(port), "--project"]
    env = {"PYTHONPATH": str(ROOT)}
    mlflow = ["-m", "mlflow", "models", "serve", "-m", str(model.folder), "--env-manager", "local", "-h", "127.0.0.1", "-p", str(port)]
    found = [
        Server("ours", [*ours, str(project)], "/predict", False, env, True),
        Server("ours, plain form", [*ours, str(project.with_name("plain"))], "/predict", False, env, True),
        Server(BASE, [sys.executable, *mlflow, "--workers", "1"], "/invocations", True, {}),
        Server("limit: constant", [sys.executable, str(HERE / "constant.py"), str(port)], "/predict", False, {}),
    ]
    lit = VENVS / "litserve" / "bin" / "python"
    if lit.exists():
        found.insert(
            3, Server("LitServe", [str(lit), str(HERE / "litserve_peer.py"), str(model.folder), str(port)], "/invocations", True, {})
        )
    return found


def body_of(server: Server, model: Staged, rows: int) -> bytes:
    """The same rows in the server's own protocol."""
    records = model.records(rows)
    if server.split:
        return json.dumps({"dataframe_split": {"columns": list(records[0]), "data": [list(r.values()) for r in records]}}).encode()
    return json.dumps({"rows": records} if rows > 1 else records[0]).encode()


def spent(process: psutil.Process) -> float:
    """CPU seconds of the server and what it started."""
    total = 0.0
    for one in (process, *process.children(recursive=True)):
        with contextlib.suppress(psutil.Error):
            total += sum(one.cpu_times()[:2])
    return total


@contextlib.contextmanager
def running(server: Server, port: int, body: bytes, log: Path) -> Iterator[tuple[psutil.Process, str, float, str]]:
    """The server once it has answered, with the seconds that took and the answer."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("ZEBRA_", "MLFLOW_", "PYTHONPATH"))}
    env = {**kept, "PATH": f"{Path(server.argv[0]).parent}:{kept['PATH']}", **server.env}
    url = f"http://127.0.0.1:{port}{server.path}"
    began = time.perf_counter()
    with log.open("w") as out:
        # In the log's folder: `python -m` puts the working directory before everything else.
        child = subprocess.Popen(
            ["taskset", "-c", SERVER_CORE, *server.argv], env=env, stdout=out, stderr=out, cwd=log.parent, start_new_session=True
        )
    try:
        while True:
            with contextlib.suppress(httpx.HTTPError):
                answer = httpx.post(url, content=body, headers={"content-type": "application/json"}, timeout=60)
                if answer.is_success:
                    break
            if child.poll() is not None or time.perf_counter() - began > 180:
                raise SystemExit(f"{server.name} did not start:\n{log.read_text()[-3000:]}")
            time.sleep(0.02)
        yield psutil.Process(child.pid), url, time.perf_counter() - began, answer.text
    finally:
        os.killpg(child.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(20)
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait(20)


def drained(url: str) -> dict[str, float]:
    """What became of the events, once their number stands still."""
    before: dict[str, float] = {}
    while True:
        page = httpx.get(url.replace("/predict", "/metrics"), timeout=60).text
        found = {name: float(value) for name, value in EVENTS.findall(page)}
        if found == before:
            return found
        before = found
        time.sleep(1.2)


def ask(server: Server, process: psutil.Process, url: str, body: Path, connections: int, seconds: float) -> dict[str, Any]:
    """One window of load."""
    events = drained(url) if server.ours else {}
    before = spent(process)
    command = ["taskset", "-c", CLIENT_CORE, sys.executable, str(HERE / "load.py"), url, str(body), str(connections), str(seconds)]
    found: dict[str, Any] = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    if server.ours:
        found["events"] = {name: value - events.get(name, 0.0) for name, value in drained(url).items()}
    found["cpu_s"] = spent(process) - before
    found["per_core_s"] = found["requests"] / found["cpu_s"]
    return found


def withheld(project: Path, models: dict[str, Staged]) -> None:
    """A twin of the project whose server believes that no model could be compiled."""
    twin = project.with_name("plain")
    shutil.copytree(project, twin)
    for model in models.values():
        digest = json.loads((project / "digests.json").read_text())[model.name]
        loaded = load_model(model.folder, digest)
        reason = dict.fromkeys((ONNX, NUMPY), "withheld for the benchmark")
        positive = loaded.classes.index(loaded.positive)
        form = Form(
            model_digest=digest, form=PLAIN, refused=reason, checked="", task=loaded.task, classes=loaded.classes,
            positive=positive, made_with=toolchain(),
        )  # fmt: skip
        (twin / ".zebraops" / "serving" / "compiled").mkdir(parents=True, exist_ok=True)
        write_form(twin / ".zebraops" / "serving" / "compiled" / digest, form, None)
        seal(twin / ".zebraops" / "serving" / "compiled" / digest, digest, key_at(twin / ".zebraops" / "serving" / "compiled.key"))


def measure(project: Path, models: dict[str, Staged], rounds: int, seconds: float, cases: list[tuple[int, int]]) -> list[dict[str, Any]]:
    """Every case of every server in every round."""
    found = []
    port = 18400
    for number in range(rounds):
        for model in models.values():
            for server in servers(project, model, 0):
                port += 1
                server = next(s for s in servers(project, model, port) if s.name == server.name)
                with running(server, port, body_of(server, model, 1), project.parent / "server.log") as (process, url, cold, answer):
                    one = {"round": number, "model": model.name, "server": server.name, "cold_s": cold, "answer": answer[:300]}
                    one["rss_mb"] = sum(p.memory_info().rss for p in (process, *process.children(recursive=True))) / 1e6
                    if server.ours:
                        one["form"] = httpx.get(url.replace("/predict", "/model")).json()["form"]
                    for rows, connections in cases:
                        path = project.parent / "body.json"
                        path.write_bytes(body_of(server, model, rows))
                        one[f"{rows} rows, {connections} connections"] = ask(server, process, url, path, connections, seconds)
                found.append(one)
                print(server.name, model.name, {k: round(v["per_core_s"], 1) for k, v in one.items() if isinstance(v, dict)}, flush=True)
    return found


def page(found: list[dict[str, Any]], cases: list[str]) -> str:
    """The figures as Markdown; x is the median of the rounds' own ratios to mlflow."""
    lines = ["# One model behind several servers", "", (__doc__ or "").partition("\n\n")[2], ""]
    lines += ["Requests per server-core-second, and x = times `mlflow models serve` in the same round (median of rounds).", ""]
    for model in dict.fromkeys(f["model"] for f in found):
        lines += [f"## {model}", "", "| server | " + " | ".join(cases) + " | p50 / p99 ms, first case | start s | RSS MB |"]
        lines.append("|---|" + "---|" * (len(cases) + 3))
        for server in dict.fromkeys(f["server"] for f in found):
            mine = [f for f in found if (f["model"], f["server"]) == (model, server)]
            base = {f["round"]: f for f in found if (f["model"], f["server"]) == (model, BASE)}
            cells = []
            for case in cases:
                ratio = statistics.median(f[case]["per_core_s"] / base[f["round"]][case]["per_core_s"] for f in mine)
                failed = sum(f[case]["failed"] for f in mine)
                cells.append(
                    f"{statistics.median(f[case]['per_core_s'] for f in mine):,.1f} ({ratio:.1f}x){f' {failed} FAILED' if failed else ''}"
                )
            lone = [f[cases[0]] for f in mine]
            cells.append(f"{statistics.median(f['p50_ms'] for f in lone):.2f} / {statistics.median(f['p99_ms'] for f in lone):.1f}")
            cells += [f"{statistics.median(f['cold_s'] for f in mine):.2f}", f"{statistics.median(f['rss_mb'] for f in mine):.0f}"]
            lines.append(f"| {server} | " + " | ".join(cells) + " |")
        lines.append("")
    kept: dict[str, float] = {}
    for one in found:
        for case in cases:
            for name, value in one[case].get("events", {}).items():
                kept[name] = kept.get(name, 0.0) + value
    lines += ["Events of our servers: " + ", ".join(f"{value:,.0f} {name}" for name, value in kept.items()) + ".", ""]
    return "\n".join(lines)


def main() -> int:
    """Stage, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="one round of short windows: shows that it runs, not how fast it is")
    given = parser.parse_args()
    rounds, seconds = (1, 2.0) if given.quick else (given.rounds, 6.0)
    cases = [(1, 1), (1, 16), (1000, 1)] if given.quick else [(1, 1), (1, 16), (1, 64), (1000, 1)]
    with tempfile.TemporaryDirectory(prefix="zebra-serving-") as folder:
        project = Path(folder) / "project"
        models = stage(project)
        withheld(project, models)
        found = measure(project, models, rounds, seconds, cases)
    names = [f"{rows} rows, {connections} connections" for rows, connections in cases]
    name = "serving-quick" if given.quick else "serving"
    (RESULTS / f"{name}.json").write_text(json.dumps(found, indent=1) + "\n")
    (RESULTS / f"{name}.md").write_text(page(found, names))
    print(page(found, names))
    return int(any(one[case]["failed"] for one in found for case in names))


if __name__ == "__main__":
    sys.exit(main())
