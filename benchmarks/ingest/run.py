"""What it costs to turn a CSV into a checked, hashed, described version of a dataset: zebra beside its peers and the limit.

    python benchmarks/ingest/run.py [--quick] [--sizes 0.1,1,5] [--only zebra,duckdb] [--rounds N]

Full: 0.1, 1 and 5 GB of card transactions (`data`), each contestant (`contestants`, `zebra`) a process of its own (`meter`),
rounds interleaved, versions of all peers pinned and installed in environments of their own below .zebraops/. Writes
benchmarks/results/ingest.{json,md} and two plots (`report`); exits 1 when a claim does not hold. A partial run (--quick,
--rows, --only) writes below .zebraops/bench-ingest/partial-results/ instead. Every round is kept, so that sizes may be measured one by
one: `--sizes 1`, later `--sizes 5`, then `--report` renders them together.
"""

import argparse
import contextlib
import datetime
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from benchmarks.ingest import meter, report
from benchmarks.ingest.contestants import ROOT, Contestant, Data, Wrong, peers
from benchmarks.ingest.peers.columns import COLUMNS
from benchmarks.ingest.zebra import OnS3, Shuffled, Zebra, s3_server

HOME = ROOT / ".zebraops" / "bench-ingest"
ROUNDS = {1.0: 5, 5.0: 2}  # by GB; five below 1 GB
QUIET = 0.15  # of the machine: up to this foreign load a run begins


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="0.1,1,5", help="GB of CSV, comma-separated (default %(default)s)")
    parser.add_argument("--rows", type=int, help="one size of exactly so many rows instead")
    parser.add_argument("--quick", action="store_true", help="one size of 50 MB, one round")
    parser.add_argument("--only", default="", help="names of contestants, comma-separated; 'pandas' is both engines")
    parser.add_argument("--rounds", type=int, help="rounds at every size (default: 5 up to 1 GB, 2 above)")
    parser.add_argument(
        "--variant",
        action="append",
        default=[],
        metavar="NAME:VARIABLE=VALUE,...",
        help="another zebra with these settings, such as 'zebra, 2 Dask workers:ZEBRA_...=...'; it must give the same manifest id",
    )
    parser.add_argument("--patience", type=float, help="seconds to wait before a turn for a machine at rest (default 60; --quick: 0)")
    parser.add_argument("--no-s3", action="store_true", help="leave out the rows on an S3 server")
    parser.add_argument("--report", action="store_true", help="measure nothing; render what was measured before")
    parser.add_argument("--profile", action="store_true", help="tell where zebra's time goes, on the first size; measures nobody else")
    return parser.parse_args()


def data(name: str, *, rows: int = 0, gigabytes: float = 0.0) -> Data:
    """The files of one size, made on first use: the base, the base grown by 1 %, and the base in no order."""
    folder = HOME / "data"
    folder.mkdir(parents=True, exist_ok=True)
    rows = rows or round(gigabytes * 1e9 / _bytes_per_row(folder))
    more = rows + max(rows // 100, 1)
    base, grown, shuffled = (folder / f"{rows}-{kind}.csv" for kind in ("base", "grown", "shuffled"))
    for file, make in (
        (base, ["--rows", str(rows)]),
        (grown, ["--start", str(rows), "--rows", str(more), "--append"]),
        (shuffled, ["--rows", str(rows), "--shuffled"]),
    ):
        if not file.exists():
            _room_for(rows * 170, folder)
            draft = file.with_suffix(".draft")
            if "--append" in make:
                shutil.copyfile(base, draft)
            _generate(draft, make)
            draft.rename(file)
    return Data(name, rows, base, grown, more, shuffled)


def _generate(out: Path, options: list[str]) -> None:
    print(f"making {out.stem}", flush=True)
    subprocess.run([sys.executable, "-m", "benchmarks.ingest.data", str(out), *options], cwd=ROOT, check=True)


def _bytes_per_row(folder: Path) -> float:
    """Measured on 20,000 rows; keys and references have a fixed width, so it holds at any size to a thousandth."""
    probe = folder / "probe.csv"
    if not probe.exists():
        _generate(probe, ["--rows", "20000"])
    return (probe.stat().st_size - len(",".join(COLUMNS)) - 1) / 20_000


def _room_for(size: int, folder: Path) -> None:
    free = shutil.disk_usage(folder).free
    if free < 4 * size:  # the file, and what the largest contestant writes beside its own input
        sys.exit(f"{folder} has {free / 1e9:.0f} GB free; {size / 1e9:.1f} GB of CSV need {4 * size / 1e9:.0f}. Pass smaller --sizes.")


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """An empty folder on the data's own disk, gone afterwards; also when this process is told to stop."""
    (HOME / "scratch").mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=HOME / "scratch") as folder:
        yield Path(folder)


def settle(patience_s: float) -> None:
    """Wait so long at most for other processes to rest. What they do during a run is measured and told in any case."""
    until = time.monotonic() + patience_s
    while time.monotonic() < until and psutil.cpu_percent(interval=0.5) / 100 > QUIET:
        time.sleep(1)


def one_round(entrants: list[Contestant], files: Data, known: report.Round, patience_s: float) -> report.Round:
    """Everybody's turn, in order. Who was stopped in a round before sits out: want of memory does not pass."""
    figures: report.Round = {}
    for entrant in entrants:
        before = known.get(entrant.name, {}).get("first")
        if before and (before["failed"] or "").startswith(meter.STOPPED):
            figures[entrant.name] = known[entrant.name]
            continue
        settle(patience_s)
        with scratch() as folder:
            steps = entrant.turn(files, folder)
        figures[entrant.name] = {step: done.plain() for step, done in steps.items()}
        told = [f"{step} {done.wall:.2f} s {done.rss / 1e6:,.0f} MB{' FAILED' if done.failed else ''}" for step, done in steps.items()]
        print(f"  {entrant.name}: {', '.join(told)}{_busy(steps.values())}", flush=True)
    return figures


def _busy(steps: object) -> str:
    worst = max(done.foreign for done in steps)  # type: ignore[attr-defined]
    return f"  (others used {worst:.0%} of the machine)" if worst > report.BUSY else ""


def compete(entrants: list[Contestant], files: Data, rounds: int, patience_s: float, kept: Path) -> report.Size:
    """All rounds of one size, saved as they come."""
    versions, settings = {e.name: e.version() for e in entrants}, {e.name: e.setting for e in entrants}
    when = f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d %H:%M} UTC"
    size = report.Size(files.name, files.base.stat().st_size, files.rows, [], versions, settings, when)
    for number in range(rounds):
        print(f"{files.name}, round {number + 1} of {rounds}", flush=True)
        size.rounds.append(one_round(entrants, files, size.rounds[0] if size.rounds else {}, patience_s))
        size.save(kept / f"{files.rows}.json")
    return size


def compete_on_s3(size: report.Size, files: Data, ids: dict[str, str], patience_s: float, kept: Path) -> None:
    """One turn against an S3 server, added to the first round. Last of all: its client makes this process larger."""
    with scratch() as folder, s3_server(folder / "weed") as endpoint:
        entrant = OnS3(name="zebra, S3", setting="the same, to SeaweedFS on loopback", ids=ids, endpoint=endpoint)
        size.rounds[0] |= one_round([entrant], files, {}, patience_s)
        size.versions[entrant.name], size.settings[entrant.name] = entrant.version(), entrant.setting
    size.save(kept / f"{files.rows}.json")


def entrants_of(given: argparse.Namespace) -> list[Contestant]:
    """Who takes part, zebra first among those that are alike in memory."""
    ids: dict[str, str] = {}
    setting = "the same rows in no order; same manifest id"
    ours: list[Contestant] = [Zebra(ids=ids), Shuffled(name="zebra, shuffled", setting=setting, ids=ids)]
    for variant in given.variant:
        name, _, words = variant.partition(":")
        env = dict(word.partition("=")[::2] for word in words.split(","))
        ours.append(Zebra(name=name, setting=words, env=env, ids=ids))
    limit, *others = peers()
    everybody = [limit, *ours, *others]
    wanted = [name for name in given.only.split(",") if name]
    if unknown := [w for w in wanted if not any(e.name.startswith(w) for e in everybody)]:
        sys.exit(f"--only {unknown[0]}: no such contestant. Known: {', '.join(e.name for e in everybody)}.")
    return [e for e in everybody if not wanted or any(e.name.startswith(w) for w in wanted)]


def machine() -> str:
    """What it ran on, in a line."""
    names = [line.split(":", 1)[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    memory = psutil.virtual_memory().total / 2**30
    return f"{os.cpu_count()} cores ({names[0] if names else platform.machine()}), {memory:.0f} GiB, Python {platform.python_version()}."


def measured(given: argparse.Namespace, kept: Path) -> list[report.Size]:
    """Run what was asked for; every round is also saved in ``kept``."""
    entrants, sizes = entrants_of(given), []
    patience = given.patience if given.patience is not None else 0.0 if given.quick else 60.0
    if given.rows:
        wanted = [(f"{given.rows:,} rows", given.rows, 0.0)]
    else:
        wanted = [(f"{gb:g} GB", 0, gb) for gb in ([0.05] if given.quick else [float(gb) for gb in given.sizes.split(",")])]
    for name, rows, gigabytes in wanted:
        files = data(name, rows=rows, gigabytes=gigabytes)
        near = 5 if gigabytes < 1 else ROUNDS.get(gigabytes, 2)
        rounds = given.rounds or (1 if given.quick or given.rows else near)
        sizes.append((compete(entrants, files, rounds, patience, kept), files))
    zebra = next((e for e in entrants if isinstance(e, Zebra)), None)
    if zebra is not None and not given.no_s3:
        size, files = min(sizes, key=lambda pair: abs(pair[0].bytes - report.MAIN_SIZE))
        compete_on_s3(size, files, zebra.ids, patience, kept)
    return [size for size, _ in sizes]


def main() -> int:
    """Measure, write, judge."""
    given = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))  # an exception, so that what was begun is ended and removed
    if given.profile:
        first = float(given.sizes.split(",")[0])
        files = data("profile", rows=given.rows or 0, gigabytes=0.05 if given.quick else first)
        return subprocess.run([sys.executable, "-m", "benchmarks.ingest.stages", str(files.base)], cwd=ROOT, check=False).returncode
    partial = bool(given.quick or given.rows or given.only)
    kept = HOME / ("partial" if partial else "rounds")
    saved = sorted(kept.glob("*.json"), key=lambda file: int(file.stem))
    try:
        sizes = [report.Size.load(file) for file in saved] if given.report else measured(given, kept)
    except Wrong as error:
        print(error, file=sys.stderr)
        return 1
    if not sizes:
        sys.exit(f"--report: nothing was measured yet; {kept} is empty.")
    found = report.claims(sizes)
    out = HOME / "partial-results" if partial else ROOT / "benchmarks" / "results"
    out.mkdir(parents=True, exist_ok=True)
    (out / "ingest.json").write_text(json.dumps(found, indent=2) + "\n")
    (out / "ingest.md").write_text(text := report.page(sizes, found, machine()))
    report.draw(sizes, out)
    print(text)
    failed = {name: why for size in sizes for name in size.contestants() if name.startswith("zebra") and (why := size.failure(name))}
    return 0 if all(c["holds"] for c in found) and not failed else 1


if __name__ == "__main__":
    sys.exit(main())
