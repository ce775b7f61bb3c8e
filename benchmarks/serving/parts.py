"""What a request or a start consists of, each part timed alone, within one process and one thread.

`hot_spots` samples a server under load and sees where a request's microseconds go; this says what its parts would cost with nothing
else going on, so their sum is what no server around them can beat: 1,000 rows in each form, the uncompiled model's steps, and what a
start imports. Called by `run.py --profile`.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from benchmarks.serving import bodies
from benchmarks.serving.stage import Staged
from benchmarks.serving.venvs import ROOT

if TYPE_CHECKING:
    from zebra_assets.adapters.model_files import LoadedModel
    from zebra_serving.compile.workshop import Made

# In the order of a server's start; what an earlier one brought along is not counted again.
IMPORTS = (
    "asyncio", "numpy", "msgspec", "uvicorn", "uvloop", "pydantic", "zebra_assets.settings", "sqlalchemy", "datasketches",
    "prometheus_client", "onnxruntime", "zebra_serving.app", "zebra_serving.routes", "zebra_serving.bulk",
)  # fmt: skip
SAID = {
    "zebra_serving.app": "the rest of the server",
    "zebra_serving.routes": "FastAPI and the control routes, when the first is asked for",
    "zebra_serving.bulk": "pyarrow and what reads Arrow, with the first such body",
}
_GROWTH = """
import importlib, json, sys, time
def rss(): return int(next(l for l in open("/proc/self/status") if l.startswith("VmRSS")).split()[1]) / 1000
found, before = [["Python itself", None, rss()]], rss()
for name in sys.argv[1:]:
    began = time.perf_counter()
    importlib.import_module(name)
    took, now = time.perf_counter() - began, rss()
    found.append([name, took * 1e3, now - before])
    before = now
print(json.dumps(found))
"""


def page(project: Path, models: dict[str, Staged]) -> str:
    """The tables, as Markdown."""
    from zebra_assets.adapters.model_files import load_model
    from zebra_serving.compile.workshop import Workshop

    lines = ["# What the parts cost", "", "Each alone, in one thread of one process: the least of nine means.", ""]
    for model in models.values():
        made = Workshop(project / ".zebraops" / "serving" / "compiled").open(model.folder, model.digest)
        lines += _table(f"{model.name}: 1,000 rows, compiled", ("part", "us"), bulk(made, model.records(1000)))
        parts = uncompiled(load_model(model.folder, model.digest), model.rows)
        lines += _table(f"{model.name}: not compiled", ("part", "1 row, us", "16 rows, us", "64 rows, us"), parts)
    lines += _table("A server's start", ("import", "ms", "MB"), growth())
    return "\n".join(lines)


def bulk(made: "Made", records: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """(part, microseconds) of these rows through the compiled form."""
    from zebra_serving.compile.runtime import answers, arrays
    from zebra_serving.doors import arrow

    form: Any = made.model
    served: Any = SimpleNamespace(schema=made.schema)
    said, sent = bodies.native(records), bodies.arrow(records)
    rows, columns = made.schema.decode(said), arrow.read(served, sent, arrow.STREAM)
    matrix = form._encode(rows)
    found, classes, positive = form._run(matrix), form.classes, form._positive
    return [
        ("JSON: decode and check", _us(lambda: made.schema.decode(said))),
        ("JSON: encode", _us(lambda: form._encode(rows))),
        ("Arrow: read and check", _us(lambda: arrow.read(served, sent, arrow.STREAM))),
        ("Arrow: encode", _us(lambda: form._encode(columns))),
        ("graph", _us(lambda: form._run(matrix))),
        ("labels and scores as lists", _us(lambda: answers(found, classes, positive))),
        ("labels and scores as arrays", _us(lambda: arrays(found, bool(classes), positive))),
    ]


def uncompiled(loaded: "LoadedModel", records: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """(part, microseconds for 1, 16 and 64 of these rows) of the estimator on a DataFrame."""
    from zebra_serving.schema import RowSchema

    schema, estimator = RowSchema(loaded.features), loaded.estimator
    found: dict[str, list[float]] = {}
    for count in (1, 16, 64):
        rows = schema.convert(records[:count])
        frame = loaded.rows(rows.table())
        ready = estimator[:-1].transform(frame)
        parts = {
            "rows to DataFrame": lambda rows=rows: loaded.rows(rows.table()),
            "steps before the last": lambda frame=frame: estimator[:-1].transform(frame),
            "labels": lambda ready=ready: estimator[-1].predict(ready),
            "probabilities": lambda ready=ready: estimator[-1].predict_proba(ready),
            "all of it": lambda rows=rows: loaded.predict(rows.table()),
        }
        for name, part in parts.items():
            found.setdefault(name, []).append(_us(part))
    return [(name, *cells) for name, cells in found.items()]


def growth() -> list[tuple[Any, ...]]:
    """(import, milliseconds, megabytes) in a new process, with everything compiled and in the system's cache."""
    command = [sys.executable, "-c", _GROWTH, *IMPORTS]
    for _ in range(2):
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT, env={"PYTHONPATH": str(ROOT)})
    return [(SAID.get(name, name), took, size) for name, took, size in json.loads(done.stdout)]


def _us(part: Callable[[], Any]) -> float:
    """Microseconds of a warm call."""
    began = time.perf_counter()
    part()
    times = max(1, int(0.02 / (time.perf_counter() - began + 1e-9)))
    least = float("inf")
    for _ in range(9):
        began = time.perf_counter()
        for _ in range(times):
            part()
        least = min(least, (time.perf_counter() - began) / times)
    return least * 1e6


def _table(title: str, head: tuple[str, ...], rows: list[tuple[Any, ...]]) -> list[str]:
    lines = [f"## {title}", "", f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for name, *cells in rows:
        lines.append(f"| {name} | {' | '.join('' if cell is None else f'{cell:,.0f}' for cell in cells)} |")
    return [*lines, ""]
