"""Where our server's CPU goes under load: py-spy samples it from outside, and samples become microseconds a request.

A sample belongs to the innermost frame that is our own or a library's; what that calls in C, a socket's write for one, counts as its.
"""

import subprocess
import tempfile
from collections import Counter
from pathlib import Path

from benchmarks.serving.bodies import JSON
from benchmarks.serving.contestants import LIMIT, OURS, servers
from benchmarks.serving.process import free_port, running
from benchmarks.serving.stage import Staged
from benchmarks.serving.venvs import installed
from benchmarks.serving.window import ask

CONNECTIONS, RATE = 16, 400
# Threads that wait for work, which py-spy takes for busy.
IDLE = frozenset({"_worker"})


def page(project: Path, models: dict[str, Staged], seconds: float = 8.0) -> str:
    """A table for each model, as Markdown."""
    lines = ["# Where a request's CPU goes", "", f"`make bench-serving ARGS=--profile`. {CONNECTIONS} connections, one row a request.", ""]
    for model in models.values():
        whole, parts = _sampled(project, model, seconds)
        least = _cost(project, model, LIMIT, seconds / 2)
        lines += [
            f"## {model.name}: {whole:.0f} us a request; a constant answer costs {least:.0f}",
            "",
            "| where | us | share |",
            "|---|---|---|",
        ]
        lines += [f"| {where} | {share * whole:.1f} | {share:.1%} |" for where, share in parts if share >= 0.005]
        lines.append("")
    return "\n".join(lines)


def _cost(project: Path, model: Staged, name: str, seconds: float) -> float:
    """Microseconds of CPU a request, unobserved."""
    [server] = servers(project, model, free_port, {name})
    body = project.parent / "profile.json"
    body.write_bytes(server.body(model.rows[:1]))
    with running(server, body.read_bytes(), project.parent / "profile.log") as at:
        ask(at, body, JSON, CONNECTIONS, 2.0)
        return 1e6 / float(ask(at, body, JSON, CONNECTIONS, seconds)["per_core_s"])


def _sampled(project: Path, model: Staged, seconds: float) -> tuple[float, list[tuple[str, float]]]:
    """Microseconds of CPU a request, and the share of each place, largest first."""
    whole = _cost(project, model, OURS, seconds)
    [server] = servers(project, model, free_port, {OURS})
    body = project.parent / "profile.json"
    body.write_bytes(server.body(model.rows[:1]))
    spy = installed("tools").with_name("py-spy")
    with tempfile.TemporaryDirectory() as folder, running(server, body.read_bytes(), project.parent / "profile.log") as at:
        ask(at, body, JSON, CONNECTIONS, 2.0)
        stacks = Path(folder) / "stacks"
        command = [str(spy), "record", "--pid", str(at.root.pid), "--format", "raw", "--rate", str(RATE), "--duration", str(int(seconds))]
        with subprocess.Popen([*command, "--output", str(stacks)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as spying:
            ask(at, body, JSON, CONNECTIONS, seconds + 1)
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
        if "zebra_serving/" in where and "__main__" not in where:
            return f"{where.partition('zebra_serving/')[2].partition(':')[0]}: {name}"
        for library in ("uvicorn", "onnxruntime", "prometheus_client", "sqlalchemy", "starlette"):
            if f"{library}/" in where:
                return "event loop, receiving, HTTP parser" if (library, name) == ("uvicorn", "run") else f"{library}: {name}"
    return frames[-1].partition(" (")[0]
