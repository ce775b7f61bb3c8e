"""What `mlops train` costs as a whole process, against the same training written by hand with MLflow.

    python benchmarks/train_overhead/run.py [--rounds 5]

Both register a model version in a prepared SQLite store each time. Rounds are interleaved (the machine's own speed drifts
within minutes), both run once before it counts, and the median of the rounds' own ratios is the figure. Writes
benchmarks/results/train_overhead.json and .md; exits 1 when the claim does not hold.
"""

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
RESULTS = ROOT / "benchmarks" / "results"
MODEL = "tabular-churn"
BOUND = 1.5
BIN = Path(sys.executable).parent


def spent() -> float:
    """CPU seconds of every process this one has waited for, and of theirs."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


class Place:
    """A project of its own with one manifest, and a second prepared MLflow store for the script by hand."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.env = {**os.environ, "ZEBRA_PROJECT_DIR": str(folder), "MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
        for kind in ("models", "manifests"):
            shutil.copytree(ROOT / kind / MODEL, folder / kind / MODEL, ignore=shutil.ignore_patterns("*-*.json", "__pycache__"))
        self.run(sys.executable, str(folder / "models" / MODEL / "source.py"), "--fibre", "--project", str(folder))
        self.run(str(BIN / "mlops"), "init")
        self.run(str(BIN / "mlops"), "ingest", MODEL)
        shutil.copyfile(folder / ".zebraops" / "mlflow.db", folder / "by-hand.db")
        [manifest] = (folder / "manifests" / MODEL).glob(f"{MODEL}-*.json")
        self.splits = {a["split"]: a["uri"] for a in json.loads(manifest.read_text())["artifacts"]}

    def run(self, *argv: str) -> tuple[float, float]:
        """Wall and CPU seconds of one run of ``argv``, its own children included."""
        began, before = time.perf_counter(), spent()
        done = subprocess.run(argv, env=self.env, cwd=self.folder, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"{' '.join(argv)} exited with {done.returncode}:\n{done.stdout}{done.stderr}")
        return time.perf_counter() - began, spent() - before

    def ours(self) -> tuple[float, float]:
        return self.run(str(BIN / "mlops"), "train", MODEL, "--again")

    def by_hand(self) -> tuple[float, float]:
        data = ["--train", self.splits["train"], "--valid", self.splits["valid"]]
        return self.run(sys.executable, str(HERE / "by_hand.py"), *data, "--tracking", f"sqlite:///{self.folder / 'by-hand.db'}")


Pair = tuple[tuple[float, float], tuple[float, float]]


def middle(pairs: list[Pair], kind: int) -> float:
    """Median over the rounds of ours / by hand; kind 0 is wall, 1 is CPU."""
    return statistics.median(ours[kind] / hand[kind] for ours, hand in pairs)


def page(pairs: list[Pair], claim: dict[str, object]) -> str:
    """The figures as Markdown."""
    lines = ["# What `mlops train` costs", ""]
    lines += [f"{len(pairs)} interleaved rounds, whole processes, seconds. `python benchmarks/train_overhead/run.py`", ""]
    lines += [
        "| round | `mlops train --again` wall (CPU) | by hand with mlflow wall (CPU) | wall ratio | CPU ratio |",
        "|---|---|---|---|---|",
    ]
    for n, (a, b) in enumerate(pairs, 1):
        lines.append(f"| {n} | {a[0]:.2f} ({a[1]:.2f}) | {b[0]:.2f} ({b[1]:.2f}) | {a[0] / b[0]:.2f} | {a[1] / b[1]:.2f} |")
    lines.append(f"| median | | | {middle(pairs, 0):.2f} | {middle(pairs, 1):.2f} |")
    lines += ["", "| claim | value | bound | holds |", "|---|---|---|---|"]
    lines += [f"| {claim['claim']} | {claim['value']} | {claim['bound']} | {'yes' if claim['holds'] else 'NO'} |"]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Measure, write, judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory(prefix="zebra-bench-") as folder:
        place = Place(Path(folder))
        place.ours()
        place.by_hand()
        pairs = [(place.ours(), place.by_hand()) for _ in range(rounds)]
    ratio = middle(pairs, 0)
    claim = {
        "claim": "mlops train costs at most 1.5x the same training by hand with mlflow",
        "value": round(ratio, 3),
        "bound": BOUND,
        "holds": ratio <= BOUND,
    }
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "train_overhead.json").write_text(json.dumps([claim], indent=2) + "\n")
    (RESULTS / "train_overhead.md").write_text(text := page(pairs, claim))
    print(text)
    return 0 if claim["holds"] else 1


if __name__ == "__main__":
    sys.exit(main())
