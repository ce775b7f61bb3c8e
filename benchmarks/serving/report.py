"""From measured windows to claims, a page and two plots. Measures nothing."""

import json
import statistics
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.serving.contestants import BASE, BATCHING, FLOOR, LIMIT, OURS, PEER_SERVERS, UNCOMPILED

LONE, SIXTEEN, MANY, BULK, ARROW = (
    "1 row, 1 connection",
    "1 row, 16 connections",
    "1 row, 64 connections",
    "1,000 rows",
    "1,000 rows, Arrow",
)
ROWS = {LONE: 1, SIXTEEN: 1, MANY: 1, BULK: 1000, ARROW: 1000}
# Times `mlflow models serve` at 16 connections.
GOALS = {"logistic": 50.0, "tabular-churn": 60.0}


@dataclass
class Measured:
    """One run of the benchmark.

    Attributes:
        windows: model, server, round, case and what `window.ask` found.
        starts: model, server, start_s.
        memory: model, server, rss_mb and pss_mb after all windows.
        swap: what `swap.swapped` found.
        settings: server to how it was run.
        wrong: who gave other labels than mlflow, or none at all.
    """

    windows: list[dict[str, Any]] = field(default_factory=list)
    starts: list[dict[str, Any]] = field(default_factory=list)
    memory: list[dict[str, Any]] = field(default_factory=list)
    swap: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, str] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    machine: str = ""

    @classmethod
    def load(cls, file: Path) -> "Measured":
        return cls(**json.loads(file.read_text()))

    def save(self, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(asdict(self), indent=1) + "\n")

    def models(self) -> list[str]:
        return list(dict.fromkeys(w["model"] for w in self.windows))

    def by_round(self, model: str, server: str, case: str, what: str = "per_core_s") -> dict[int, float]:
        """A figure of each round."""
        return {w["round"]: w[what] for w in self.windows if (w["model"], w["server"], w["case"]) == (model, server, case)}

    def middle(self, model: str, server: str, case: str, what: str = "per_core_s") -> float | None:
        return _median(self.by_round(model, server, case, what).values())

    def times(
        self, model: str, case: str, other: str = BASE, *, server: str = OURS, base_case: str | None = None, what: str = "per_core_s"
    ):  # type: ignore[no-untyped-def]
        """Median over the rounds of server / other, each ratio within its own round: the machine drifts."""
        mine, theirs = self.by_round(model, server, case, what), self.by_round(model, other, base_case or case, what)
        return _median(mine[r] / theirs[r] for r in mine.keys() & theirs.keys())

    def times_best(self, model: str, case: str, others: Iterable[str]) -> float | None:
        """Median over the rounds of ours / the best of ``others`` in that round."""
        mine = self.by_round(model, OURS, case)
        rivals = [self.by_round(model, other, case) for other in others]
        best = {r: max((found[r] for found in rivals if r in found), default=None) for r in mine}
        return _median(mine[r] / b for r, b in best.items() if b)

    def start(self, model: str, server: str) -> float | None:
        """The fastest start: the first one after an installation reads its files from the disk."""
        return min((s["start_s"] for s in self.starts if (s["model"], s["server"]) == (model, server)), default=None)

    def memory_of(self, model: str, server: str, what: str = "rss_mb") -> float | None:
        return next((m[what] for m in self.memory if (m["model"], m["server"]) == (model, server)), None)

    def events(self) -> dict[str, float]:
        """What became of our servers' predictions within all windows."""
        found: dict[str, float] = {}
        for one in [*self.windows, self.swap]:
            for name, value in one.get("events", {}).items():
                found[name] = found.get(name, 0.0) + value
        return found


def _median(values: Iterable[float]) -> float | None:
    listed = list(values)
    return statistics.median(listed) if listed else None


def _over(mine: float | None, theirs: float | None) -> float | None:
    return None if mine is None or not theirs else mine / theirs


def claims(found: Measured) -> list[dict[str, Any]]:
    """Each claim with its figure, its bound and whether it holds; a bound of None only states a figure."""
    at_least: list[tuple[str, float | None, float | None]] = []
    at_most: list[tuple[str, float | None, float | None]] = []
    for model in found.models():
        goal = GOALS.get(model, 50.0)
        peers = " and ".join((", ".join(PEER_SERVERS[:-1]), PEER_SERVERS[-1]))
        at_least += [
            (f"{model}, {SIXTEEN}: at least {goal:g}x {BASE}", found.times(model, SIXTEEN), goal),
            (f"{model}, {SIXTEEN}: at least 40x the best of {peers}", found.times_best(model, SIXTEEN, PEER_SERVERS), 40.0),
            (f"{model}, {SIXTEEN}: times LitServe with its batching of 16 within 5 ms", found.times(model, SIXTEEN, BATCHING), None),
            (f"{model}, not compiled, {LONE}: no slower than {BASE}", found.times(model, LONE, server=UNCOMPILED), 1.0),
            (f"{model}, not compiled, {SIXTEEN}: at least 12x {BASE}", found.times(model, SIXTEEN, server=UNCOMPILED), 12.0),
            (f"{model}, not compiled, {MANY}: at least 25x {BASE}", found.times(model, MANY, server=UNCOMPILED), 25.0),
            (f"{model}, {BULK} as JSON: at least 12x {BASE}", found.times(model, BULK), 12.0),
            (
                f"{model}, {BULK} as Arrow: at least 50x {BASE} (JSON, which is all it takes)",
                found.times(model, ARROW, base_case=BULK),
                50.0,
            ),
            *[(f"{model}, {SIXTEEN}: share of '{limit}'", found.times(model, SIXTEEN, limit), None) for limit in (FLOOR, LIMIT)],
            *[(f"{model}, {LONE}: share of '{limit}'", found.times(model, LONE, limit), None) for limit in (FLOOR, LIMIT)],
        ]
        lone = found.times(model, LONE, what="p50_ms")
        at_most += [
            (f"{model}, {LONE}: p50 at most 1/40 of {BASE}'s", lone, 1 / 40),
            (f"{model}, {LONE}: p99 as a share of {BASE}'s", found.times(model, LONE, what="p99_ms"), None),
            (
                f"{model}: cold start to first prediction at most 1/10 of {BASE}'s",
                _over(found.start(model, OURS), found.start(model, BASE)),
                0.1,
            ),
            (f"{model}: RSS at most 1/5 of {BASE}'s", _over(found.memory_of(model, OURS), found.memory_of(model, BASE)), 0.2),
        ]
    events, windows = found.events(), [*found.windows, found.swap]
    if found.swap:
        at_least.append(("versions swapped under load at 16 connections", float(found.swap["swaps"]), 1.0))
        at_most.append(("requests that failed while versions were swapped", float(found.swap["failed"]), 0.0))
    ours = [w for w in windows if w.get("server", OURS) in (OURS, UNCOMPILED)]
    at_most += [
        ("requests to our servers that failed, in all windows", float(sum(w.get("failed", 0) for w in ours)), 0.0),
        ("events that were dropped or lost, in all windows", events.get("dropped", 0.0) + events.get("lost", 0.0), None),
        ("servers that gave other labels than mlflow, or none", float(len(found.wrong)), 0.0),
    ]
    judged = [_judged(c, v, b, v is not None and (b is None or v >= b)) for c, v, b in at_least]
    return judged + [_judged(c, v, b, v is not None and (b is None or v <= b)) for c, v, b in at_most]


def _judged(claim: str, value: float | None, bound: float | None, holds: bool) -> dict[str, Any]:
    return {"claim": claim, "value": None if value is None else round(value, 4), "bound": bound, "holds": holds}


def page(found: Measured, judged: list[dict[str, Any]]) -> str:
    """The figures as Markdown."""
    lines = ["# Serving: one model behind many servers", "", f"`make bench-serving`. {found.machine}", ""]
    lines += [
        "Every server has one worker on core 0 and the load comes from core 1. Requests are counted per second of CPU that the server's",
        "whole process tree spent, what it records of them included. All servers are up at once and each round asks them one after",
        "another, because the machine's own speed drifts within minutes; x is the median of the rounds' own ratios to mlflow. Ours run",
        "with validation, metrics and capture on, as the shipped model.yaml asks for it. All answers are compared with mlflow's.",
        "",
        "| claim | value | bound | holds |", "|---|---|---|---|",
    ]  # fmt: skip
    lines += [f"| {c['claim']} | {_figure(c['value'])} | {_figure(c['bound'])} | {_verdict(c)} |" for c in judged]
    lines += ["", "![requests per core-second](serving-throughput.svg) ![start and memory](serving-start.svg)"]
    for model in found.models():
        lines += ["", f"## {model}", *_table(found, model)]
    if found.swap:
        took = f", {found.swap['swap_s'] * 1e3:.0f} ms each (median)" if found.swap.get("swap_s") else ""
        lines += [
            "",
            "## Swapped under load",
            "",
            f"{found.swap['swaps']} versions took over in {found.swap['seconds']:.0f} s at 16 connections",
        ]
        lines[-1] += f"{took}: {found.swap['requests']:,} requests, {found.swap['failed']} failed, p99 {found.swap['p99_ms']:.1f} ms."
    events = found.events()
    lines += ["", "Events of our servers: " + ", ".join(f"{value:,.0f} {name}" for name, value in events.items()) + "."]
    lines += ["", "## Settings", "", "| server | setting |", "|---|---|", *(f"| {n} | {s} |" for n, s in found.settings.items())]
    if found.wrong:
        lines += ["", "## Wrong", "", *(f"- {one}" for one in found.wrong)]
    return "\n".join(lines) + "\n"


def _table(found: Measured, model: str) -> list[str]:
    cases = [c for c in ROWS if any(w["case"] == c and w["model"] == model for w in found.windows)]
    lines = ["", "Requests per core-second (for batches: thousand rows per core-second), and times mlflow; p50 / p99 in ms.", ""]
    lines += [
        "| server | " + " | ".join(cases) + f" | ms, {LONE} | ms, {SIXTEEN} | start s | RSS (PSS) MB |",
        "|---|" + "---|" * (len(cases) + 4),
    ]
    for server in found.settings:
        cells = [_cell(found, model, server, case) for case in cases]
        cells += [_latency(found, model, server, case) for case in (LONE, SIXTEEN)]
        start, memory = found.start(model, server), found.memory_of(model, server)
        cells += ["" if start is None else f"{start:.2f}"]
        cells += ["" if memory is None else f"{memory:.0f} ({found.memory_of(model, server, 'pss_mb'):.0f})"]
        lines.append(f"| {server} | " + " | ".join(cells) + " |")
    return lines


def _cell(found: Measured, model: str, server: str, case: str) -> str:
    figure = found.middle(model, server, case)
    if figure is None:
        return ""
    times = found.times(model, case, server=server, base_case=BULK if case == ARROW else None)
    failed = sum(found.by_round(model, server, case, "failed").values())
    shown = f"{figure:,.0f}" if ROWS[case] == 1 else f"{figure * ROWS[case] / 1e3:,.1f}"
    return f"{shown} ({times:.1f}x)" + (f" {failed:.0f} FAILED" if failed else "") if times is not None else shown


def _latency(found: Measured, model: str, server: str, case: str) -> str:
    p50, p99 = found.middle(model, server, case, "p50_ms"), found.middle(model, server, case, "p99_ms")
    return "" if p50 is None or p99 is None else f"{p50:.2f} / {p99:.1f}"


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:,.4g}"


def _verdict(claim: dict[str, Any]) -> str:
    if claim["bound"] is None:
        return "stated" if claim["value"] is not None else "not measured"
    return "yes" if claim["holds"] else "NO"


def draw(found: Measured, folder: Path) -> None:
    """Throughput by server, and start and memory by server, both models beside each other."""
    _bars(found, folder / "serving-throughput.svg", [(SIXTEEN, lambda m, s: found.middle(m, s, SIXTEEN), "requests per core-second")])
    start = ("start", found.start, "seconds to the first prediction")
    _bars(found, folder / "serving-start.svg", [start, ("memory", found.memory_of, "MB RSS under load")])


def _bars(found: Measured, file: Path, panels: list[tuple[str, Any, str]]) -> None:
    import matplotlib as mpl

    mpl.use("svg")
    import matplotlib.pyplot as plt

    mpl.rcParams["svg.hashsalt"] = "zebra"  # the same figures are the same file
    fig, axes = plt.subplots(1, len(panels), figsize=(6.4 * len(panels), 4.2), layout="constrained", squeeze=False)
    names, models = list(found.settings)[::-1], found.models()
    for ax, (_, figure, label) in zip(axes[0], panels, strict=True):
        for i, model in enumerate(models):
            values = [figure(model, name) or 0.0 for name in names]
            places = [n + (0.5 - i) * 0.38 for n in range(len(names))]
            bars = ax.barh(places, values, height=0.36, label=model)
            ax.bar_label(bars, [f"{v:,.3g}" if v else "" for v in values], fontsize=6, padding=2)
        ax.set_yticks(range(len(names)), names, fontsize=8)
        ax.set(xscale="log", xlabel=label)
        ax.margins(x=0.15)
        ax.grid(axis="x", alpha=0.3)
        ax.legend(fontsize=7)
    fig.savefig(file, metadata={"Date": None})
    plt.close(fig)
