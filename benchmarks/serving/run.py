"""One model behind many servers, per second of the server's CPU: ours, its peers, and the limit.

    python benchmarks/serving/run.py [--quick] [--rounds 5] [--only ours,mlflow] [--profile] [--report]

Servers are pinned to core 0 and the load to core 1. All servers of a model are up at once and every round asks all of them case by
case, so that what is compared ran within the same minute. Ours run with validation, metrics and capture on; `ours, not compiled` is our
server with the compiled form withheld. Writes benchmarks/results/serving.{json,md} and two plots; exits 1 when a claim does not
hold. A partial run (--quick, --only) writes below .zebraops/bench-serving/ instead; --profile measures where our own CPU goes.
"""

import argparse
import contextlib
import datetime
import json
import platform
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import httpx

from benchmarks.serving import bodies, hot_spots, parts, report
from benchmarks.serving.contestants import BASE, OURS, UNCOMPILED, Server, servers
from benchmarks.serving.process import Running, free_port, running
from benchmarks.serving.report import ARROW, BULK, LONE, MANY, ROWS, SIXTEEN, Measured
from benchmarks.serving.stage import Staged, stage
from benchmarks.serving.swap import swapped
from benchmarks.serving.venvs import ROOT
from benchmarks.serving.window import ask, generator

RESULTS = ROOT / "benchmarks" / "results"
HOME = ROOT / ".zebraops" / "bench-serving"
CONNECTIONS = {LONE: 1, SIXTEEN: 16, MANY: 64, BULK: 1, ARROW: 1}
SECONDS = {LONE: 2, SIXTEEN: 2, MANY: 2, BULK: 1, ARROW: 1}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="one round of windows of a second: shows that it runs, not how fast it is")
    parser.add_argument("--only", default="", help="names of servers, comma-separated, each as far as it is unique; mlflow is always in")
    parser.add_argument("--models", default="", help="logistic or tabular-churn; default both")
    parser.add_argument("--profile", action="store_true", help="tell where our server's CPU goes; measures nobody else")
    parser.add_argument("--report", action="store_true", help="measure nothing; render what was measured last")
    return parser.parse_args()


class Bench:
    """One run: the staged project, what to ask, and what was found.

    Args:
        only: parts of names of the servers that take part; none for all.
    """

    def __init__(self, project: Path, rounds: int, quick: bool, only: list[str]) -> None:
        self.project, self.rounds, self.quick, self.only = project, rounds, quick, only
        self.found = Measured(machine=_machine())

    def measure(self, model: Staged) -> None:
        """Everybody's starts and windows with one model."""
        chosen = [
            s for s in servers(self.project, model, free_port) if s.name == BASE or not self.only or any(o in s.name for o in self.only)
        ]
        self.found.settings |= {s.name: s.setting for s in chosen}
        # A first start also fetches the model from the registry (ours) or reads the libraries from the disk (mlflow).
        for server in (s for s in chosen if s.name in (OURS, UNCOMPILED, BASE)):
            with self._started(server, model):
                pass
        with contextlib.ExitStack() as stack:
            up = [stack.enter_context(self._started(server, model)) for server in chosen]
            self._compare(model, up)
            self._windows(model, up)
            for at in up:
                rss, pss = at.memory_mb()
                self.found.memory.append({"model": model.name, "server": at.server.name, "rss_mb": rss, "pss_mb": pss})

    @contextlib.contextmanager
    def _started(self, server: Server, model: Staged):  # type: ignore[no-untyped-def]
        log = self.project.parent / f"{server.name.replace(' ', '-').replace(':', '').replace(',', '')}.log"
        with running(server, server.body(model.rows[:1]), log) as at:
            self.found.starts.append({"model": model.name, "server": server.name, "start_s": at.start_s})
            print(f"{model.name}: {server.name} answered after {at.start_s:.2f} s", flush=True)
            yield at

    def _compare(self, model: Staged, up: list[Running]) -> None:
        """Everybody's labels with mlflow's, one row and many."""
        for count in (1, 100):
            said = {at.server.name: self._labels(at, model, count) for at in up if at.server.answers}
            for name, labels in said.items():
                if labels != said[BASE]:
                    self.found.wrong.append(f"{model.name}, {count} rows: {name} says {str(labels)[:200]}, mlflow {str(said[BASE])[:200]}")
                    print(self.found.wrong[-1], flush=True)

    def _labels(self, at: Running, model: Staged, count: int) -> object:
        answer = httpx.post(at.url, content=at.server.body(model.rows[:count]), headers={"content-type": bodies.JSON}, timeout=60)
        try:
            return bodies.labels(answer.content)
        except (ValueError, LookupError) as error:
            return f"{answer.status_code} {error} {answer.text[:200]}"

    def _windows(self, model: Staged, up: list[Running]) -> None:
        body = self.project.parent / "body"
        for number in range(self.rounds):
            for case in CONNECTIONS:
                for at in up:
                    if case == ARROW and not self._takes_arrow(at, model):
                        continue
                    rows = [model.rows[i % len(model.rows)] for i in range(ROWS[case])]
                    body.write_bytes(bodies.arrow(rows) if case == ARROW else at.server.body(rows))
                    kind = bodies.ARROW if case == ARROW else bodies.JSON
                    one = ask(at, body, kind, CONNECTIONS[case], 1 if self.quick else SECONDS[case])
                    self.found.windows.append({"model": model.name, "server": at.server.name, "round": number, "case": case, **one})
                    print(
                        f"{number} {model.name} {at.server.name}, {case}: {one['per_core_s']:,.0f}/core-s, p50 {one['p50_ms']:.2f} ms",
                        flush=True,
                    )

    def _takes_arrow(self, at: Running, model: Staged) -> bool:
        if at.server.name not in (OURS, UNCOMPILED):
            return False
        headers = {"content-type": bodies.ARROW}
        return httpx.post(at.url, content=bodies.arrow(model.rows[:3]), headers=headers, timeout=60).is_success


def _machine() -> str:
    day = datetime.datetime.now(datetime.UTC).date().isoformat()
    versions = ", ".join(f"{name} {version(name)}" for name in ("mlflow", "scikit-learn", "pandas", "onnxruntime", "uvicorn"))
    return f"{day}, {platform.machine()}, Python {platform.python_version()}, {versions}; load from {generator()}."


def publish(found: Measured, folder: Path) -> int:
    """Write claims, page and plots; 1 when a claim does not hold."""
    judged = report.claims(found)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "serving.json").write_text(json.dumps(judged, indent=2) + "\n")
    (folder / "serving.md").write_text(report.page(found, judged))
    report.draw(found, folder)
    print(report.page(found, judged))
    print(f"written to {folder}")
    return int(not all(c["holds"] for c in judged))


def main() -> int:
    """Stage, measure, write."""
    given = arguments()
    partial = given.quick or given.only or given.models
    target = HOME / "partial" if partial else RESULTS
    if given.report:
        return publish(Measured.load(HOME / "windows.json"), RESULTS)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="zebra-serving-") as folder:
        project = Path(folder) / "project"
        models = {name: one for name, one in stage(project).items() if given.models in ("", name)}
        if given.profile:
            target.mkdir(parents=True, exist_ok=True)
            (target / "serving-profile.md").write_text("\n".join((hot_spots.page(project, models), parts.page(project, models))))
            print((target / "serving-profile.md").read_text())
            return 0
        bench = Bench(project, 1 if given.quick else given.rounds, given.quick, [o.strip() for o in given.only.split(",") if o.strip()])
        for model in models.values():
            bench.measure(model)
        if "logistic" in models:
            bench.found.swap = swapped(project, models["logistic"], 3 if given.quick else 10)
    bench.found.save(HOME / ("partial/windows.json" if partial else "windows.json"))
    done = publish(bench.found, target)
    print(f"took {time.monotonic() - began:.0f} s")
    return done


if __name__ == "__main__":
    sys.exit(main())
