"""What `--help` costs: `mlops`, `dvc`, `mlflow`, against an interpreter that does nothing.

    python benchmarks/cli_help/run.py [--rounds 15]

Rounds are interleaved (the machine's own speed drifts within minutes), every command runs once before it counts, and the
medians of each command are compared. Writes benchmarks/results/cli_help.json and .md; exits 1 when a claim does not hold.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "results"
DVC_VERSION = "3.67.1"
BOUND = 8.0  # `mlops --help` in units of `python -c pass`
QUIET = {"DVC_NO_ANALYTICS": "1", "MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}


def dvc() -> list[str] | None:
    """dvc in an environment of its own (its pins differ from ours), or None where it cannot be installed."""
    home = ROOT / ".zebraops" / "bench-venvs" / "dvc"
    python = home / "bin" / "python"
    if not (home / "bin" / "dvc").exists():
        venv.create(home, with_pip=True)
        done = subprocess.run([python, "-m", "pip", "install", "-qq", f"dvc=={DVC_VERSION}"], check=False)
        if done.returncode:
            return None
        subprocess.run([python, "-m", "compileall", "-q", home / "lib"], check=False)
    return [str(home / "bin" / "dvc"), "--help"]


def commands() -> dict[str, list[str]]:
    """Name to argv."""
    here = Path(sys.executable).parent
    found = {
        "python -c pass": [sys.executable, "-c", "pass"],
        "mlops --help": [str(here / "mlops"), "--help"],
        "mlops train --help": [str(here / "mlops"), "train", "--help"],
        "mlflow --help": [str(here / "mlflow"), "--help"],
    }
    if (peer := dvc()) is not None:
        found["dvc --help"] = peer
    return found


def seconds(argv: list[str]) -> float:
    """Wall time of one run of ``argv``; its output goes nowhere."""
    began = time.perf_counter()
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ, **QUIET}, cwd=ROOT)
    return time.perf_counter() - began


def measure(rounds: int) -> dict[str, list[float]]:
    """Name to the seconds of each round."""
    wanted = commands()
    for argv in wanted.values():
        seconds(argv)
    times: dict[str, list[float]] = {name: [] for name in wanted}
    for _ in range(rounds):
        for name, argv in wanted.items():
            times[name].append(seconds(argv))
    return times


def claims(medians: dict[str, float]) -> list[dict[str, object]]:
    """Each claim with its figure and bound."""
    unit, ours = medians["python -c pass"], medians["mlops --help"]
    rows = [("mlops --help costs at most 8x python -c pass", ours / unit, BOUND)]
    rows += [("mlops train --help costs at most 8x python -c pass", medians["mlops train --help"] / unit, BOUND)]
    for peer, bound in (("dvc --help", 1.0), ("mlflow --help", 0.1)):
        if peer in medians:
            rows.append((f"mlops --help costs at most {bound:g}x {peer}", ours / medians[peer], bound))
    return [{"claim": claim, "value": round(value, 3), "bound": bound, "holds": value <= bound} for claim, value, bound in rows]


def page(times: dict[str, list[float]], found: list[dict[str, object]], rounds: int) -> str:
    """The same as Markdown."""
    unit = statistics.median(times["python -c pass"])
    lines = ["# What `--help` costs", "", f"{rounds} interleaved rounds, medians, wall time. `python benchmarks/cli_help/run.py`", ""]
    lines += ["| command | ms | x `python -c pass` | fastest | slowest |", "|---|---|---|---|---|"]
    for name, values in times.items():
        middle = statistics.median(values)
        lines.append(f"| `{name}` | {middle * 1e3:.0f} | {middle / unit:.1f} | {min(values) * 1e3:.0f} | {max(values) * 1e3:.0f} |")
    lines += ["", "| claim | value | bound | holds |", "|---|---|---|---|"]
    lines += [f"| {c['claim']} | {c['value']} | {c['bound']} | {'yes' if c['holds'] else 'NO'} |" for c in found]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Measure, write, judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    times = measure(rounds)
    found = claims({name: statistics.median(values) for name, values in times.items()})
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "cli_help.json").write_text(json.dumps(found, indent=2) + "\n")
    (RESULTS / "cli_help.md").write_text(text := page(times, found, rounds))
    print(text)
    return 0 if all(c["holds"] for c in found) else 1


if __name__ == "__main__":
    sys.exit(main())
