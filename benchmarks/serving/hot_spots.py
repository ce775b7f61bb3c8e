"""Where our server's CPU goes under load: py-spy samples it from outside, and samples become microseconds a request.

A sample belongs to the innermost frame that is our own or a library's; what that calls in C, a socket's write for one, counts as its.
"""

import re
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.serving.bodies import ARROW, JSON, arrow, native
from benchmarks.serving.contestants import LIMIT, OURS, servers
from benchmarks.serving.process import Running, free_port, running
from benchmarks.serving.stage import Staged
from benchmarks.serving.venvs import installed
from benchmarks.serving.window import ask

RATE = 400
# Threads that wait for work, which py-spy takes for busy.
IDLE = frozenset({"_worker", "preparing.py: _run"})
# Around everything, the event loop included.
START = re.compile(r"zebra_serving/(__main__|launch)\.py")


@dataclass(frozen=True)
class Asked:
    """What is asked over and over."""

    said: str
    body: bytes
    kind: str
    connections: int


def page(project: Path, models: dict[str, Staged], seconds: float = 8.0) -> str:
    """A table for each model and kind of request, as Markdown."""
    lines = ["# Where a request's CPU goes", "", "`make bench-serving ARGS=--profile`.", ""]
    for model in models.values():
        for asked in _asked(model):
            whole, parts = _sampled(project, model, asked, seconds)
            least = _cost(project, model, LIMIT, asked, seconds / 2)
            lines += [
                f"## {model.name}, {asked.said}: {whole:.0f} us a request; a constant answer costs {least:.0f}",
                "",
                "| where | us | share |",
                "|---|---|---|",
            ]
            lines += [f"| {where} | {share * whole:.1f} | {share:.1%} |" for where, share in parts if share >= 0.005]
            lines.append("")
    return "\n".join(lines)


def _asked(model: Staged) -> list[Asked]:
    return [
        Asked("one row, 16 connections", native(model.rows[:1]), JSON, 16),
        Asked("1,000 rows as JSON, 1 connection", native(model.records(1000)), JSON, 1),
        Asked("1,000 rows as Arrow, 1 connection", arrow(model.records(1000)), ARROW, 1),
    ]


@contextmanager
def _running(project: Path, model: Staged, name: str, asked: Asked) -> Iterator[tuple[Running, Path]]:
    """The server, warm, and the file with what it is asked."""
    [server] = servers(project, model, free_port, {name})
    body = project.parent / "profile.body"
    body.write_bytes(asked.body)
    with running(server, native(model.rows[:1]), project.parent / "profile.log") as at:
        ask(at, body, asked.kind, asked.connections, 2.0)
        yield at, body


def _cost(project: Path, model: Staged, name: str, asked: Asked, seconds: float) -> float:
    """Microseconds of CPU a request, unobserved."""
    with _running(project, model, name, asked) as (at, body):
        return 1e6 / float(ask(at, body, asked.kind, asked.connections, seconds)["per_core_s"])


def _sampled(project: Path, model: Staged, asked: Asked, seconds: float) -> tuple[float, list[tuple[str, float]]]:
    """Microseconds of CPU a request, and the share of each place, largest first."""
    whole = _cost(project, model, OURS, asked, seconds)
    spy = installed("tools").with_name("py-spy")
    with tempfile.TemporaryDirectory() as folder, _running(project, model, OURS, asked) as (at, body):
        stacks = Path(folder) / "stacks"
        command = [str(spy), "record", "--pid", str(at.root.pid), "--format", "raw", "--rate", str(RATE), "--duration", str(int(seconds))]
        with subprocess.Popen([*command, "--output", str(stacks)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as spying:
            ask(at, body, asked.kind, asked.connections, seconds + 1)
            _, said = spying.communicate(timeout=60)
        if not stacks.exists():
            raise SystemExit(f"py-spy gave nothing:\n{said}")
        return whole, shares(stacks.read_text())


def shares(stacks: str) -> list[tuple[str, float]]:
    """The share of each place, largest first, from lines of ``frame;frame;frame count``, the innermost last."""
    found: Counter[str] = Counter()
    for line in stacks.splitlines():
        frames, _, number = line.rpartition(" ")
        if (place := _place(frames.split(";"))) not in IDLE:
            found[place] += int(number)
    total = sum(found.values()) or 1
    return [(where, number / total) for where, number in found.most_common()]


def _place(frames: list[str]) -> str:
    for frame in reversed(frames):
        name, _, where = frame.rpartition(" (")
        if "zebra_serving/" in where and not START.search(where):
            return f"{where.partition('zebra_serving/')[2].partition(':')[0]}: {name}"
        for library in ("uvicorn", "onnxruntime", "prometheus_client", "sqlalchemy", "starlette"):
            if f"{library}/" in where:
                return "event loop, receiving, HTTP parser" if (library, name) == ("uvicorn", "run") else f"{library}: {name}"
    return frames[-1].partition(" (")[0]
