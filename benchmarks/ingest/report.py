"""From measured rounds to claims, a page and two plots. Measures nothing."""

import json
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Round = dict[str, dict[str, dict[str, Any]]]  # contestant to step to `Measured.plain`
GOAL, FLOOR, PANDAS, RSS_MB, AGAIN, GROWN = 1.1, 1.3, 0.4, 600, 0.1, 0.03
MAIN_SIZE = 1e9  # claims about time are judged at the measured size nearest to this one
BUSY = 0.1  # a run with more foreign load than this share of the machine is marked


@dataclass
class Size:
    """The rounds of one size."""

    name: str
    bytes: int
    rows: int
    rounds: list[Round]
    versions: dict[str, str]
    settings: dict[str, str]
    when: str

    @classmethod
    def load(cls, file: Path) -> "Size":
        return cls(**json.loads(file.read_text()))

    def save(self, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(vars(self), indent=1) + "\n")

    def contestants(self) -> list[str]:
        return list(dict.fromkeys(name for one in self.rounds for name in one))

    def runs(self, name: str, step: str = "first") -> list[dict[str, Any]]:
        """Every round's figures that were completed."""
        return [run for one in self.rounds if (run := one.get(name, {}).get(step)) and not run["failed"]]

    def failure(self, name: str) -> str | None:
        """Why a contestant has no figures, where it has none."""
        said = [run["failed"] for one in self.rounds if (run := one.get(name, {}).get("first")) and run["failed"]]
        return said[0] if said and not self.runs(name) else None

    def ratio(self, ours: tuple[str, str], theirs: tuple[str, str]) -> float | None:
        """Median over the rounds of ours / theirs in wall time, each taken within its own round: the machine drifts."""
        pairs = [(one.get(ours[0], {}).get(ours[1]), one.get(theirs[0], {}).get(theirs[1])) for one in self.rounds]
        found = [a["wall"] / b["wall"] for a, b in pairs if a and b and not a["failed"] and not b["failed"]]
        return statistics.median(found) if found else None

    def added(self, name: str, step: str = "grown") -> float | None:
        """Bytes that a later step added to the store, as a share of what the first one put there; the worst round."""
        firsts, laters = self.runs(name), self.runs(name, step)
        found = [later["added"] / first["kept"] for first, later in zip(firsts, laters, strict=False) if first["kept"]]
        return max(found) if found else None


def claims(sizes: list[Size], ours: str = "zebra") -> list[dict[str, Any]]:
    """Each claim with its figure and its bound, where there are figures; a claim holds when the figure is at most the bound."""
    at, largest = min(sizes, key=lambda s: abs(s.bytes - MAIN_SIZE)), max(sizes, key=lambda s: s.bytes)
    first, again = (ours, "first"), (ours, "again")
    duckdb = at.ratio(first, ("duckdb", "first"))
    peak = [run["rss"] / 1e6 for run in largest.runs(ours)]
    rows: list[tuple[str, float | None, float]] = [
        (f"{at.name}: the full pipeline takes at most {GOAL}x the duckdb recipe's time (goal)", duckdb, GOAL),
        (f"{at.name}: the full pipeline takes at most {FLOOR}x the duckdb recipe's time (floor)", duckdb, FLOOR),
        (f"{at.name}: the full pipeline takes at most {PANDAS}x pandas' time", at.ratio(first, ("pandas", "first")), PANDAS),
        (
            f"{at.name}: the full pipeline takes at most {PANDAS}x the time of pandas with its pyarrow engine",
            at.ratio(first, ("pandas (pyarrow engine)", "first")),
            PANDAS,
        ),
        (f"{at.name}: adding an unchanged source takes at most the time of dvc add of it", at.ratio(again, ("dvc add", "again")), 1.0),
        (f"{at.name}: adding an unchanged source takes at most {AGAIN}x the first time", at.ratio(again, first), AGAIN),
        (f"{largest.name}: peak memory in MB is at most {RSS_MB}", max(peak) if peak else None, RSS_MB),
    ]
    rows += [
        (f"{at.name}, grown by 1 %: new bytes as a share of the first version's, {where}", at.added(name), GROWN)
        for name, where in ((ours, "file store"), (f"{ours}, S3", "S3"))
    ]
    found = [(claim, value, bound) for claim, value, bound in rows if value is not None]
    return [{"claim": claim, "value": round(value, 4), "bound": bound, "holds": value <= bound} for claim, value, bound in found]


def page(sizes: list[Size], judged: list[dict[str, Any]], machine: str) -> str:
    """The figures as Markdown."""
    lines = ["# Data: from CSV to a version", "", "`make bench-ingest`. " + machine, ""]
    lines += [
        "Each contestant is a whole process with a fresh target, the source in the disk cache, dirty pages written back before it starts.",
        "Rounds are interleaved; a ratio is the median of the rounds' own ratios. Memory is the highest of the process tree; `written` is",
        "what went to the disk; `kept` is what the result takes. `others` is the share of the machine that other processes used meanwhile,",
        f"at worst; above {BUSY:.0%} it is marked with !. zebra checks every cell, orders, splits, hashes rows and files and describes",
        "every column; the recipes convert, hash the output and describe the columns; `dvc add` hashes the file and links it.",
        "",
    ]
    lines += ["| claim | value | bound | holds |", "|---|---|---|---|"]
    lines += [f"| {c['claim']} | {c['value']} | {c['bound']} | {'yes' if c['holds'] else 'NO'} |" for c in judged]
    lines += ["", "![time by size](ingest-time.svg) ![memory by size](ingest-memory.svg)"]
    for size in sizes:
        lines += ["", f"## {size.name}: {size.bytes / 1e6:,.0f} MB, {size.rows:,} rows, {len(size.rounds)} rounds ({size.when})", ""]
        lines += [
            "| contestant | s, fastest | s, median | x duckdb | CPU s | peak MB | written MB | kept MB | others |",
            "|---|" + "---|" * 8,
        ]
        lines += [_row(size, name) for name in size.contestants()]
        lines += [*_later(size)]
    lines += ["", "## Versions and settings", "", "| contestant | version | setting |", "|---|---|---|"]
    last = {name: size for size in sizes for name in size.contestants()}
    lines += [f"| {name} | {size.versions[name]} | {size.settings[name]} |" for name, size in last.items()]
    return "\n".join(lines) + "\n"


def _row(size: Size, name: str) -> str:
    runs = size.runs(name)
    if not runs:
        return f"| {name} | {_cell(size.failure(name) or 'not run')} | | | | | | | |"
    ratio = size.ratio((name, "first"), ("duckdb", "first"))
    cells = [f"{min(_all(runs, 'wall')):.2f}", f"{_mid(runs, 'wall'):.2f}", "" if ratio is None else f"{ratio:.2f}"]
    cells += [f"{_mid(runs, 'cpu'):.2f}", f"{max(_all(runs, 'rss')) / 1e6:,.0f}", f"{_mid(runs, 'written') / 1e6:,.0f}"]
    cells += [f"{_mid(runs, 'kept') / 1e6:,.0f}", _others(runs)]
    return f"| {name} | {' | '.join(cells)} |"


def _later(size: Size) -> list[str]:
    """What comes after the first time: the same file again, the grown one."""
    rows = []
    for name in size.contestants():
        for step, what in (("again", "the same file again"), ("grown", "the file grown by 1 %")):
            runs = size.runs(name, step)
            if not runs:
                continue
            ratio = size.ratio((name, step), (name, "first"))
            new = f"{_mid(runs, 'added') / 1e6:,.1f} ({size.added(name, step) or 0:.1%})"
            times = f"{min(_all(runs, 'wall')):.2f} | {_mid(runs, 'wall'):.2f} | {ratio:.2f}"
            rows.append(f"| {name}: {what} | {times} | {max(_all(runs, 'rss')) / 1e6:,.0f} | {new} | {_others(runs)} |")
    head = ["", "| then | s, fastest | s, median | x first | peak MB | new MB (share of the first) | others |", "|---|" + "---|" * 6]
    return [*head, *rows] if rows else []


def _others(runs: list[dict[str, Any]]) -> str:
    worst = max(_all(runs, "foreign"))
    return f"{worst:.0%}{' !' if worst > BUSY else ''}"


def _all(runs: list[dict[str, Any]], what: str) -> list[float]:
    return [run[what] or 0 for run in runs]


def _mid(runs: list[dict[str, Any]], what: str) -> float:
    return statistics.median(_all(runs, what))


def _cell(text: str) -> str:
    return text.replace("\n", " ").replace("|", "/")[-160:]


def draw(sizes: list[Size], folder: Path) -> None:
    """Time and memory by size, a line for each contestant that ran the whole of it."""
    _plot(sizes, "seconds", lambda runs: min(_all(runs, "wall")), folder / "ingest-time.svg", None)
    _plot(sizes, "peak MB", lambda runs: max(_all(runs, "rss")) / 1e6, folder / "ingest-memory.svg", RSS_MB)


def _plot(sizes: list[Size], label: str, figure: Callable[[list[dict[str, Any]]], float], file: Path, bound: float | None) -> None:
    import matplotlib as mpl

    mpl.use("svg")
    import matplotlib.pyplot as plt

    mpl.rcParams["svg.hashsalt"] = "zebra"  # the same figures are the same file
    fig, ax = plt.subplots(figsize=(6.4, 4.2), layout="constrained")
    for name in dict.fromkeys(n for size in sizes for n in size.contestants()):
        points = [(size.bytes / 1e9, figure(runs)) for size in sizes if (runs := size.runs(name))]
        ours = name.startswith("zebra")
        style = {"color": "black", "linewidth": 2.4, "zorder": 3} if name == "zebra" else {"linestyle": "--" if ours else "-"}
        ax.plot(*zip(*points, strict=True), marker="o", markersize=4, label=name, **style) if points else None
    if bound is not None:
        ax.axhline(bound, color="grey", linewidth=0.8, linestyle=":", label=f"{bound:g} MB")
    ax.set(xscale="log", yscale="log", xlabel="GB of CSV", ylabel=label)
    ax.set_xticks([size.bytes / 1e9 for size in sizes], [f"{size.bytes / 1e9:.2g}" for size in sizes])
    ax.set_xticks([], minor=True)
    ax.grid(alpha=0.3)
    ax.legend(fontsize=7)
    fig.savefig(file, metadata={"Date": None})
    plt.close(fig)
