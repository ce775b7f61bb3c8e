"""What recording a prediction costs: the same requests with capture off, as sketches, as events, as every event, with hashes.

    python benchmarks/capture/run.py [--rounds 15] [--requests 3000]

One process, no socket: the ASGI application is called in a loop on uvloop, so that what differs is capture alone. Rounds are
interleaved and each configuration is compared with capture off in the same round, since a machine's speed drifts. CPU of the
event loop's thread is what a request pays; CPU of the rest of the process, until all is written, is what the capture's thread
pays later. Writes benchmarks/results/capture.json and .md.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import uvloop

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from benchmarks.serving.stage import Staged, stage  # noqa: E402
from zebra_assets.settings import Settings  # noqa: E402
from zebra_serving.app import App, create_app  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results"
OFF = "nothing"
ALL = "{events_per_second: null}"
CONFIGURATIONS = {
    OFF: None,
    "sketches": "{sample_rate: 0}",
    "sketches and 100 events a second (default)": "{}",
    "sketches and every event": ALL,
    "sketches and every event, 4 columns of it hashed": ALL[:-1] + ", hashed: [contract, payment_method, tenure, monthly_charges]}",
}


def serve(project: Path, model: Staged, serving: str | None) -> App:
    """A server that has loaded the model and records as `serving` of model.yaml says; nothing without a model.yaml."""
    spec = project / "models" / model.name / "model.yaml"
    said = spec.read_text()
    if serving is None:
        spec.unlink()
    else:
        spec.write_text(said + f"\nserving: {serving}\n")
    app = create_app(Settings(project_dir=project), model.name)
    spec.write_text(said)
    app.loader.poll()
    if app.loader.current is None:
        raise SystemExit(app.loader.standing.waiting[0])
    app.capture.start()
    return app


def ask(app: App, body: bytes, count: int) -> tuple[float, float]:
    """Seconds of CPU in the loop's thread, and in the rest of the process until everything is written."""
    headers = [(b"host", b"127.0.0.1"), (b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    scope = {"type": "http", "method": "POST", "path": "/predict", "query_string": b"", "headers": headers}

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        if message.get("status", 200) != 200:
            raise SystemExit(f"answered {message['status']}")

    async def loop() -> float:
        began = time.thread_time()
        for _ in range(count):
            await app(dict(scope), receive, send)  # type: ignore[arg-type]
        return time.thread_time() - began

    whole = time.process_time()
    asked = uvloop.run(loop())
    time.sleep(0.8)  # the capture's thread writes twice a second
    return asked, time.process_time() - whole - asked


def measure(rounds: int, requests: int, scratch: Path) -> dict[str, Any]:
    """Microseconds a request, by model and configuration."""
    models = stage(scratch / "project")
    found: dict[str, Any] = {}
    for name, model in models.items():
        body = json.dumps(model.rows[0]).encode()
        apps = {label: serve(scratch / "project", model, serving) for label, serving in CONFIGURATIONS.items()}
        for app in apps.values():
            ask(app, body, 6000)  # beyond the 5,000 events that a quiet model's limit lets pass at once
        cells: dict[str, list[tuple[float, float]]] = {label: [] for label in apps}
        for turn in range(rounds):
            labels = list(apps)[turn % len(apps) :] + list(apps)[: turn % len(apps)]
            for label in labels:
                asked, later = ask(apps[label], body, requests)
                cells[label].append((1e6 * asked / requests, 1e6 * later / requests))
        for app in apps.values():
            app.capture.stop()
        found[name] = {label: _summary(cells[label], cells[OFF]) for label in apps}
    return {"rounds": rounds, "requests": requests, "models": found}


def _summary(mine: list[tuple[float, float]], off: list[tuple[float, float]]) -> dict[str, float]:
    more = [a[0] - b[0] for a, b in zip(mine, off, strict=True)]
    low, _, high = statistics.quantiles(more, n=4)
    later = [a[1] - b[1] for a, b in zip(mine, off, strict=True)]
    return {
        "request_us": statistics.median(m[0] for m in mine),
        "added_us": statistics.median(more), "added_low_us": low, "added_high_us": high,
        "later_us": statistics.median(later),
    }  # fmt: skip


def claims(found: dict[str, Any]) -> list[dict[str, Any]]:
    """The medians, stated: no bound was promised."""
    costs = {"added_us": "CPU us added to a request", "later_us": "CPU us of the capture's thread a request"}
    return [
        {"claim": f"{model}, {label}: {words}", "value": round(row[cost], 2), "bound": None, "holds": True}
        for model, rows in found["models"].items()
        for label, row in rows.items()
        for cost, words in costs.items()
        if label != OFF
    ]


def page(found: dict[str, Any]) -> str:
    """The figures as Markdown."""
    lines = [
        "# What recording a prediction costs",
        "",
        f"`make bench-capture`: single rows of 19 features, in process, {found['rounds']} interleaved rounds of {found['requests']:,}.",
        "CPU microseconds a request: of the event loop's thread, what capture added to it (median and quartiles of the rounds'",
        "differences), and what the capture's thread spent later.",
    ]
    for name, rows in found["models"].items():
        lines += ["", f"## {name}", "", "| recorded | request | added | quartiles | later |", "|---|---|---|---|---|"]
        for label, r in rows.items():
            lines.append(
                f"| {label} | {r['request_us']:.1f} | {r['added_us']:+.1f} | {r['added_low_us']:+.1f} to {r['added_high_us']:+.1f} "
                f"| {r['later_us']:+.1f} |"
            )
    return "\n".join([*lines, ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--requests", type=int, default=3000)
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="zebra-") as scratch:
        found = measure(asked.rounds, asked.requests, Path(scratch))
    asked.out.mkdir(parents=True, exist_ok=True)
    (asked.out / "capture.json").write_text(json.dumps(claims(found), indent=1) + "\n")
    (asked.out / "capture.md").write_text(page(found))
    print(page(found))


if __name__ == "__main__":
    main()
