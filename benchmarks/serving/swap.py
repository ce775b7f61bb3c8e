"""Versions swapped under load: the ledger names another one as soon as the last has taken over, while 16 connections go on asking."""

import threading
import time
from itertools import count
from pathlib import Path
from typing import Any

import httpx

from benchmarks.serving.bodies import JSON
from benchmarks.serving.contestants import OURS, servers
from benchmarks.serving.process import free_port, running
from benchmarks.serving.stage import Staged
from benchmarks.serving.window import ask
from zebra_assets.adapters.ledger import SqlLedger
from zebra_assets.contracts.noun import now
from zebra_assets.settings import Settings


def swapped(project: Path, model: Staged, seconds: float) -> dict[str, Any]:
    """The window's figures, how many versions took over in it, and how long one took from the ledger's row to its first answer.

    Three versions take turns, so that each is opened and tested anew: only one back is kept warm.
    """
    [server] = servers(project, model, free_port, {OURS})
    server.env["ZEBRA_RELOAD_INTERVAL_S"] = "0.05"
    body = project.parent / "swap.json"
    body.write_bytes(server.body(model.rows[:1]))
    with running(server, body.read_bytes(), project.parent / "swap.log") as at:
        stop, took = threading.Event(), list[float]()
        thread = threading.Thread(target=_promote, args=(project, model, at.base, stop, took))
        thread.start()
        try:
            found = ask(at, body, JSON, 16, seconds)
        finally:
            stop.set()
            thread.join(60)
    return {**found, "swaps": len(took), "swap_s": sorted(took)[len(took) // 2] if took else None}


def _promote(project: Path, model: Staged, base: str, stop: threading.Event, took: list[float]) -> None:
    ledger = SqlLedger(Settings(project_dir=project).state)
    for number in count(1):
        head = ledger.head(model.name, "prod")
        assert head is not None
        wanted = model.versions[number % len(model.versions)]
        if wanted.version == head.version:
            continue
        ledger.append(wanted.model_copy(update={"seq": head.seq + 1, "from_version": head.version, "created_at": now()}))
        began = time.perf_counter()
        while httpx.get(f"{base}/model", timeout=30).json()["version"] != wanted.version:
            if stop.is_set():
                return
            time.sleep(0.01)
        took.append(time.perf_counter() - began)
        if stop.is_set():
            return
