"""The serving benchmark's verdicts, samples and bodies are what they say; its servers are run by `make bench-serving`."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.serving import bodies, hot_spots, parts, report
from benchmarks.serving.contestants import BASE, BENTOML, FLOOR, LIMIT, LITSERVE, MLSERVER, OURS, UNCOMPILED
from benchmarks.serving.report import ARROW, BULK, LONE, MANY, SIXTEEN, Measured

ROWS = [{"tenure": 5, "monthly": 70.5, "contract": "Zweijährig"}, {"tenure": 7, "monthly": 20.0, "contract": "monthly"}]


def measured(**ours: float) -> Measured:
    """Three rounds in which the machine slows down, mlflow at 100 a core-second in the first."""
    rates = {
        BASE: 100.0,
        OURS: 7000.0,
        UNCOMPILED: 3000.0,
        LITSERVE: 150.0,
        BENTOML: 120.0,
        MLSERVER: 110.0,
        FLOOR: 10000.0,
        LIMIT: 20000.0,
    }
    found = Measured(
        settings=dict.fromkeys(rates, "as told"), machine="here", swap={"swaps": 3, "failed": 0, "seconds": 3.0, "requests": 9}
    )
    found.swap |= {"p99_ms": 4.0, "swap_s": 0.1, "events": {"captured": 9.0}}
    for number, speed in enumerate((1.0, 0.5, 0.7)):
        for server, rate in (rates | {OURS: ours.get("rate", 7000.0)}).items():
            for case in (LONE, SIXTEEN, MANY, BULK, *([ARROW] if server == OURS else [])):
                figures = {
                    "per_core_s": rate * speed,
                    "p50_ms": 1000 / rate / speed,
                    "p99_ms": 9.0,
                    "failed": int(ours.get("failed", 0)),
                    "requests": 5,
                }
                found.windows.append({"model": "logistic", "server": server, "round": number, "case": case, **figures})
    found.starts = [{"model": "logistic", "server": s, "start_s": t} for s, t in ((BASE, 6.0), (BASE, 5.0), (OURS, 9.0), (OURS, 0.4))]
    found.memory = [{"model": "logistic", "server": s, "rss_mb": m, "pss_mb": m} for s, m in ((BASE, 560.0), (OURS, 90.0))]
    return found


def verdicts(found: Measured) -> dict[str, Any]:
    return {c["claim"]: c for c in report.claims(found)}


def test_a_claim_is_judged_by_the_median_of_the_rounds_own_ratios() -> None:
    found = verdicts(measured())
    first = found[f"logistic, {SIXTEEN}: at least 50x {BASE}"]
    assert (first["value"], first["bound"], first["holds"]) == (70.0, 50.0, True)
    assert found[f"logistic, {SIXTEEN}: at least 40x the best of MLServer, BentoML and LitServe"]["value"] == round(7000 / 150, 4)
    assert found[f"logistic, {LONE}: p50 at most 1/40 of {BASE}'s"]["holds"]
    assert found[f"logistic: cold start to first prediction at most 1/10 of {BASE}'s"]["value"] == round(0.4 / 5.0, 4)
    assert found[f"logistic, {SIXTEEN}: share of '{LIMIT}'"] == {
        "claim": f"logistic, {SIXTEEN}: share of '{LIMIT}'", "value": 0.35, "bound": None, "holds": True,
    }  # fmt: skip


def test_what_is_missed_or_was_not_measured_does_not_hold() -> None:
    slow = measured(rate=4000.0, failed=1)
    slow.windows = [w for w in slow.windows if w["case"] != ARROW]
    slow.wrong.append("somebody")
    failing = {c for c, judged in verdicts(slow).items() if not judged["holds"]}
    assert f"logistic, {SIXTEEN}: at least 50x {BASE}" in failing
    assert f"logistic, 1,000 rows as Arrow: at least 50x {BASE} (JSON, which is all it takes)" in failing
    assert {"requests to our servers that failed, in all windows", "servers that gave other labels than mlflow, or none"} <= failing


def test_a_run_is_kept_rendered_and_drawn(tmp_path: Path) -> None:
    found = measured()
    found.save(tmp_path / "windows.json")
    assert Measured.load(tmp_path / "windows.json") == found
    page = report.page(found, report.claims(found))
    assert "| ours | 4,900 (70.0x) |" in page and "3 versions took over" in page and "NO" not in page.split("## logistic")[1]
    report.draw(found, tmp_path)
    assert all((tmp_path / name).read_text().startswith("<?xml") for name in ("serving-throughput.svg", "serving-start.svg"))


@pytest.mark.parametrize("write", [bodies.native, bodies.split, bodies.tensors])
def test_every_protocol_carries_the_same_rows(write: Any) -> None:
    said = json.loads(write(ROWS))
    values = {v for row in ROWS for v in row.values()}
    found: set[Any] = set()

    def walk(node: Any) -> None:
        for one in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
            walk(one) if isinstance(one, dict | list) else found.add(one)

    walk(said)
    assert values <= found


def test_labels_are_read_out_of_every_protocol() -> None:
    for answer in (
        {"predictions": ["No", "Yes"]},
        {"predictions": [{"prediction": "No"}, {"prediction": "Yes"}]},
        {"outputs": [{"name": "predict", "data": ["No", "Yes"]}]},
    ):
        assert bodies.labels(json.dumps(answer).encode()) == ["No", "Yes"]


def test_a_sample_belongs_to_the_innermost_frame_that_is_ours_or_a_librarys() -> None:
    stacks = (
        "<module> (zebra_serving/__main__.py:1);run (uvicorn/server.py:5);__call__ (zebra_serving/app.py:80);decode (zebra_serving/schema.py:9) 6\n"
        "<module> (zebra_serving/__main__.py:1);main (zebra_serving/launch.py:3);run (uvicorn/server.py:5) 3\n"
        "_run (zebra_serving/capture.py:9);append (zebra_assets/adapters/event_store.py:4) 1\n"
        "_bootstrap (threading.py:1);_worker (concurrent/futures/thread.py:81) 90\n"
    )
    assert hot_spots.shares(stacks) == [("schema.py: decode", 0.6), ("event loop, receiving, HTTP parser", 0.3), ("capture.py: _run", 0.1)]


def test_the_parts_of_a_start_are_weighed_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "IMPORTS", ("msgspec", "zebra_serving.compile.recipe"))
    found = parts.growth()
    assert [name for name, *_ in found] == ["Python itself", "msgspec", "zebra_serving.compile.recipe"]
    assert found[0][1] is None and all(took > 0 and size >= 0 for _, took, size in found[1:])
