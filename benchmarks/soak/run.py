"""A server asked without pause while versions come and go: does it keep its memory, its files, its threads and its books?

    python benchmarks/soak/run.py [MINUTES=45] [--connections 16] [--swaps-per-minute 60]

One worker, validation, metrics and capture on, three versions in turn, so that each is verified, opened and tested anew; /metrics
is read every ten seconds, as Prometheus does. It is warmed up for two thirds of the time asked for, under the same load: in the first 15
to 20 minutes the heap takes its shape, by half a MB, and some of it later (0.06 MB in the 39th, once); the slope of that says nothing
of the hours to come. Then it is measured for all of the time; a Theil-Sen slope with its 95 % interval says whether it grows.
Neighbouring samples resemble each other (their autocorrelation is 0.4 to 0.6) and the interval is for independent ones, so each 45th of
the time counts once, files and threads by their median. These resemble each other too (0.8, nothing after five), which makes the
interval narrower than it should be, and the claim harder to keep. Memory is read four times a second, and counts by its least and by its
most: pages that requests have freed go back to the system at each change of version, up to 0.6 MB of them, so that a single reading says
above all how long ago that was.

A change of version each second, five times what 500 in 45 minutes ask for: each leaves something if it leaves anything, and the heap's
shape changes with them. At 11.2 a minute memory stood on three levels, 0.04 and 0.2 MB apart, for 15 to 20 minutes each, which a slope
over 45 minutes cannot tell from a leak.

Writes benchmarks/results/soak.{json,md,png} and soak-samples.json when it runs 45 minutes or more, below .zebraops/bench-soak/
otherwise, where the server's log is too; exits 1 when a claim does not hold.
"""

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from itertools import groupby
from pathlib import Path
from statistics import median
from typing import Any

import httpx
import psutil

from benchmarks.serving.stage import Staged, stage
from zebra_assets.adapters.event_store import SqlEvents
from zebra_assets.adapters.ledger import SqlLedger
from zebra_assets.contracts.noun import now
from zebra_assets.control import server
from zebra_assets.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
FULL_MINUTES = 45.0
WARM_UP = 2 / 3  # of the minutes that are measured, before them
MODEL = "logistic"
# What is measured: its unit, and what stands for all readings of a 45th of the time.
MEASURED: dict[str, tuple[str, Callable[[Sequence[float]], float]]] = {
    "rss_mb": ("MB", min), "peak_rss_mb": ("MB", max), "fds": ("files", median), "threads": ("threads", median),
}  # fmt: skip
LOTS = 45
READ_EVERY_S = 0.25
# What may come and go with requests under way and a version being opened.
WOBBLE = 2


@dataclass
class Soak:
    """What was seen. ``minutes``, ``requests`` and ``swaps`` are those after the warm-up; failures, samples and books are of all."""

    minutes: float
    warm_up: float
    requests: int = 0
    failed: int = 0
    swaps: int = 0
    samples: list[dict[str, float]] = field(default_factory=list)
    books: dict[str, float] = field(default_factory=dict)
    stored: int = 0
    slopes: dict[str, list[float]] = field(default_factory=dict)
    claims: list[dict[str, Any]] = field(default_factory=list)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("minutes", type=float, nargs="?", default=FULL_MINUTES)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--swaps-per-minute", type=float, default=60.0, help="60 make 2,700 in 45 minutes")
    return parser.parse_args()


@contextmanager
def serving(project: Path, log: Path) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """The server and its address."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("ZEBRA_", "MLFLOW_"))}
    env = server.environment({**kept, "ZEBRA_RELOAD_INTERVAL_S": "0.2"})
    with (
        log.open("w") as errors,
        subprocess.Popen(server.command(project, [MODEL], port=0), env=env, stdout=subprocess.PIPE, stderr=errors, text=True) as process,
    ):
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            if not line.startswith("serving"):
                raise SystemExit(f"the server did not start, see {log}")
            yield process, line.split()[-1]
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


def soak(project: Path, model: Staged, options: argparse.Namespace, log: Path) -> Soak:
    """Ask, swap and measure for as long as asked for, then do the books."""
    found = Soak(options.minutes, options.minutes * WARM_UP)
    body = project / "soak.json"
    body.write_text(json.dumps(model.rows[0]))
    with serving(project, log) as (process, base):
        stop = threading.Event()
        threads = [
            threading.Thread(target=_sample, args=(process.pid, base, found, stop, min(10.0, options.minutes * 2))),
            threading.Thread(target=_swap, args=(project, model, base, found, stop, 60 / options.swaps_per_minute)),
        ]
        for thread in threads:
            thread.start()
        try:
            _load(found, base, body, options.connections, found.warm_up)
            found.requests = found.swaps = 0
            _load(found, base, body, options.connections, found.minutes)
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        found.books = _settled_books(base)
    found.stored = SqlEvents(Settings(project_dir=project).state).count(MODEL)
    return found


def _load(found: Soak, base: str, body: Path, connections: int, minutes: float) -> None:
    over = time.monotonic() + minutes * 60
    while (left := over - time.monotonic()) > 0:
        said = _ask(base, body, connections, min(60.0, left))
        found.requests += said["requests"]
        found.failed += said["failed"]


def _ask(base: str, body: Path, connections: int, seconds: float) -> dict[str, Any]:
    argv = [sys.executable, str(ROOT / "benchmarks" / "serving" / "load.py"), f"{base}/predict", str(body), "application/json"]
    done = subprocess.run([*argv, str(connections), str(seconds)], capture_output=True, text=True, check=True, timeout=seconds + 120)
    said: dict[str, Any] = json.loads(done.stdout)
    return said


def _sample(pid: int, base: str, found: Soak, stop: threading.Event, every_s: float) -> None:
    process, began = psutil.Process(pid), time.monotonic()
    read: list[float] = []
    while not stop.wait(READ_EVERY_S):
        read.append(process.memory_info().rss / 2**20)
        if len(read) * READ_EVERY_S < every_s:
            continue
        httpx.get(f"{base}/metrics", timeout=30).raise_for_status()
        minute, files, threads = (time.monotonic() - began) / 60, process.num_fds(), process.num_threads()
        found.samples.append({"minute": minute, "rss_mb": min(read), "peak_rss_mb": max(read), "fds": files, "threads": threads})
        read.clear()


def _swap(project: Path, model: Staged, base: str, found: Soak, stop: threading.Event, every_s: float) -> None:
    ledger = SqlLedger(Settings(project_dir=project).state)
    number, began = 0, time.monotonic()
    while not stop.wait(max(0.0, began + (number + 1) * every_s - time.monotonic())):
        number += 1
        head, wanted = ledger.head(MODEL, "prod"), model.versions[number % len(model.versions)]
        assert head is not None
        ledger.append(wanted.model_copy(update={"seq": head.seq + 1, "from_version": head.version, "created_at": now()}))
        until = time.monotonic() + 60
        while httpx.get(f"{base}/model", timeout=30).json()["version"] != wanted.version:
            if time.monotonic() > until:
                return  # one swap too few: the claim fails
            time.sleep(0.02)
        found.swaps += 1


def _settled_books(base: str) -> dict[str, float]:
    """What became of each predicted row, once nothing waits to be written."""
    for _ in range(100):
        page = httpx.get(f"{base}/metrics", timeout=30).text
        books = {m[1]: float(m[2]) for m in re.finditer(r'^zebra_events_total\{outcome="(\w+)"\} (\S+)$', page, re.M)}
        rows = re.search(r"^zebra_rows_total (\S+)$", page, re.M)
        books["rows"] = float(rows[1]) if rows else 0.0
        if sum(v for k, v in books.items() if k != "rows") == books["rows"]:
            break
        time.sleep(0.1)
    return books


def judge(found: Soak) -> None:
    """Fit the slopes (per hour, with their 95 % interval) and hold the claims against what was seen."""
    from scipy.stats import theilslopes

    steady = [one for one in found.samples if one["minute"] > found.warm_up]
    lots = [list(lot) for _, lot in groupby(steady, lambda one: int(one["minute"] / found.minutes * LOTS))]
    hours = [median(one["minute"] for one in lot) / 60 for lot in lots]
    for name, (_, of_all) in MEASURED.items():
        slope = theilslopes([of_all([one[name] for one in lot]) for lot in lots], hours, 0.95)
        found.slopes[name] = [float(slope.slope), float(slope.low_slope), float(slope.high_slope)]
    books, share = found.books, found.minutes / FULL_MINUTES
    found.claims = [
        _claim(f"at least {round(5e6 * share):,} requests", found.requests, 5e6 * share, found.requests >= 5e6 * share),
        _claim(f"at least {round(500 * share)} swaps", found.swaps, int(500 * share), found.swaps >= int(500 * share)),
        _claim("no request failed", found.failed, 0, found.failed == 0),
    ]
    for name, kind in (("rss_mb", "least"), ("peak_rss_mb", "most")):
        low = found.slopes[name][1]
        found.claims.append(_claim(f"memory does not grow, by its {kind}: MB/h at the low end of the slope's interval", low, 0, low <= 0))
    told, captured = books["captured"] + books["sampled_out"], books["captured"]
    found.claims += [
        _claim("captured + sampled out = served, nothing dropped or lost", told, books["rows"], told == books["rows"]),
        _claim("every captured event is in the store", found.stored, captured, found.stored == captured),
    ]
    for name in ("fds", "threads"):
        values = [one[name] for one in steady]
        third = len(values) // 3
        moved = abs(sorted(values[-third:])[third // 2] - sorted(values[:third])[third // 2]) if third else 0
        found.claims.append(_claim(f"{name}: medians of the last third and the first", moved, WOBBLE, moved <= WOBBLE))


def _short(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) else f"{value:+.2f}"


def _claim(claim: str, value: float, bound: float, holds: bool) -> dict[str, Any]:
    return {"claim": claim, "value": value, "bound": bound, "holds": holds}


def report(found: Soak, folder: Path) -> str:
    """Write soak.json (the claims), soak-samples.json (what they were judged by), soak.md and soak.png; the text of soak.md."""
    folder.mkdir(parents=True, exist_ok=True)
    seen = asdict(found)
    for name, said in (("soak", seen.pop("claims")), ("soak-samples", seen)):
        (folder / f"{name}.json").write_text(json.dumps(said, indent=1) + "\n")
    lasted = f"{found.minutes:g} minutes after {found.warm_up:g} of warm-up"
    lines = ["# Soak", "", f"{lasted}: {found.requests:,} requests, {found.swaps} swaps, {found.failed} failed.", ""]
    lines += ["| claim | value | bound | holds |", "|---|---|---|---|"]
    lines += [f"| {c['claim']} | {_short(c['value'])} | {_short(c['bound'])} | {'yes' if c['holds'] else '**no**'} |" for c in found.claims]
    lines += ["", "| after warm-up | first | last | slope per hour | 95 % interval |", "|---|---|---|---|---|"]
    for name, (unit, _) in MEASURED.items():
        slope, low, high = found.slopes[name]
        first, last = next(one for one in found.samples if one["minute"] > found.warm_up)[name], found.samples[-1][name]
        lines.append(f"| {name} | {first:.1f} | {last:.1f} | {slope:+.2f} {unit} | {low:+.2f} to {high:+.2f} |")
    said = ", ".join(f"{name} {int(value):,}" for name, value in found.books.items())
    lines += ["", f"Rows by what became of their event: {said}; in the store {found.stored:,}.", "", "![soak](soak.png)", ""]
    (folder / "soak.md").write_text("\n".join(lines))
    _plot(found, folder / "soak.png")
    return "\n".join(lines)


def _plot(found: Soak, path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    shown = {"RSS, least and most (MB)": ("rss_mb", "peak_rss_mb"), "fds": ("fds",), "threads": ("threads",)}
    figure, axes = plt.subplots(len(shown), 1, sharex=True, figsize=(9, 6))
    for axis, (label, names) in zip(axes, shown.items(), strict=True):
        for name in names:
            axis.plot([one["minute"] for one in found.samples], [one[name] for one in found.samples], lw=1.2)
        axis.axvspan(0, found.warm_up, color="0.93")
        axis.set_ylabel(label)
        # From 0 a step of 0.1 MB in 120 would not show.
        steady = [one[name] for one in found.samples if one["minute"] > found.warm_up for name in names]
        axis.set_ylim(*((min(steady) - 0.5, max(steady) + 0.5) if "rss_mb" in names else (0, None)))
    axes[-1].set_xlabel(f"minutes; {found.requests:,} requests, {found.swaps} swaps, warm-up in grey")
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def main() -> int:
    options = arguments()
    home = ROOT / ".zebraops" / "bench-soak"
    home.mkdir(parents=True, exist_ok=True)
    folder = ROOT / "benchmarks" / "results" if options.minutes >= FULL_MINUTES else home
    with tempfile.TemporaryDirectory(prefix="zebra-soak-") as scratch:
        project = Path(scratch) / "project"
        found = soak(project, stage(project)[MODEL], options, home / "soak.log")
    judge(found)
    print(report(found, folder))
    return 0 if all(c["holds"] for c in found.claims) else 1


if __name__ == "__main__":
    sys.exit(main())
