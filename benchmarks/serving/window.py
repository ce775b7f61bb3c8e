"""One window of load on one server: N keep-alive connections that ask one request over and over for some seconds.

`wrk` makes the load where it is installed (Debian: wrk), else `load.py` does, which takes more of the client's core. What is in
flight when a window of wrk's ends is answered all the same and paid for, so it counts as answered, for everybody.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx

from benchmarks.serving.process import CLIENT_CORE, Running

HERE = Path(__file__).resolve().parent
WRK = shutil.which("wrk")
_EVENTS = re.compile(r'^zebra_events_total\{outcome="(\w+)"\} (\S+)$', re.M)
_ROWS = re.compile(r"^zebra_rows_total (\S+)$", re.M)


def generator() -> str:
    """What makes the load."""
    return "wrk" if WRK else "load.py (asyncio); wrk is not installed"


def ask(at: Running, body: Path, kind: str, connections: int, seconds: float) -> dict[str, Any]:
    """Requests, failures, latencies and the server's CPU seconds of one window.

    The CPU is read when all that was asked for is done, the recording of predictions included.
    """
    events = settled(at) if at.server.counts else {}
    before = at.cpu_s()
    found = (_wrk if WRK else _load)(at.url, body, kind, connections, seconds)
    if at.server.counts:
        found["events"] = {name: value - events[name] for name, value in settled(at).items()}
    at.at_rest()
    found["cpu_s"] = at.cpu_s() - before
    found["per_core_s"] = found["requests"] / found["cpu_s"]
    return found


def _wrk(url: str, body: Path, kind: str, connections: int, seconds: float) -> dict[str, Any]:
    whole = max(1, round(seconds))  # wrk knows no others
    command = ["taskset", "-c", CLIENT_CORE, str(WRK), "-t1", f"-c{connections}", f"-d{whole}s", "--timeout", "60s"]
    env = {**os.environ, "BODY": str(body), "KIND": kind}
    said = subprocess.run([*command, "--latency", "-s", str(HERE / "wrk.lua"), url], env=env, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(said.stdout.strip().splitlines()[-1])
    found["requests"] += connections
    return found


def _load(url: str, body: Path, kind: str, connections: int, seconds: float) -> dict[str, Any]:
    command = ["taskset", "-c", CLIENT_CORE, sys.executable, str(HERE / "load.py"), url, str(body), kind, str(connections), str(seconds)]
    found: dict[str, Any] = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return found


def settled(at: Running) -> dict[str, float]:
    """What became of all predictions so far, once it is known of each; after 30 s what is known then."""
    deadline = time.monotonic() + 30
    while True:
        page = httpx.get(f"{at.base}/metrics", timeout=60).text
        found = {name: float(value) for name, value in _EVENTS.findall(page)}
        rows = _ROWS.search(page)
        if rows is None or sum(found.values()) >= float(rows.group(1)) or time.monotonic() > deadline:
            return found
        time.sleep(0.2)
