"""The same answers as `mlflow models serve`: generated bodies go to both, which give the same answer or both refuse.

The short form asks MLflow's own scoring application in this process; the long one asks `mlflow models serve` about 10,000 inputs:
pytest -m slow tests/serving/test_differential.py -s
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.serving.conftest import COLUMNS, Shelf

TOGETHER = 25
ABSENT = "a column that is not there"

# What a column may be given: mostly what fits it, sometimes what some client once sent.
_TEXT = st.one_of(st.sampled_from(["monthly", "yearly", "F", "M", ""]), st.text(max_size=8))
_FITS: dict[str, st.SearchStrategy[Any]] = {
    "int64": st.one_of(st.integers(0, 80), st.integers(-(2**63), 2**63 - 1), st.sampled_from([-(2**63), 2**63 - 1, 2**53 + 1])),
    "float64": st.one_of(
        st.floats(0, 200),
        st.floats(allow_nan=False, allow_infinity=False),
        st.integers(-1000, 1000),
        st.sampled_from([1e308, 5e-324, -0.0]),
    ),
    "string": _TEXT,
    "bool": st.booleans(),
}
_STRANGE = st.one_of(
    st.none(), st.just(ABSENT), st.booleans(), st.integers(), st.floats(), _TEXT, st.sampled_from(["5", "1.5", "true", "\ud800", 5.0, 2**63]),
    st.lists(st.integers(), max_size=2), st.dictionaries(st.text(max_size=2), st.integers(), max_size=1),
)  # fmt: skip


def _cell(column: dict[str, Any]) -> st.SearchStrategy[Any]:
    fits = _FITS[column["dtype"]]
    return st.one_of(fits, st.none()) if column["nullable"] else fits


@st.composite
def a_row(draw: st.DrawFn) -> dict[str, Any]:
    """One row: half of them fit, the others have a strange cell or two, or a column too many."""
    row = {name: draw(_cell(column)) for name, column in COLUMNS.items()}
    for name in draw(st.sampled_from([[], [], [], *[[name] for name in COLUMNS], ["tenure", "gender"]])):
        row[name] = draw(_STRANGE)
    if draw(st.integers(0, 9)) == 0:
        row[draw(st.sampled_from(["extra", "Tenure", "índice", ""]))] = draw(_STRANGE)
    return {name: value for name, value in row.items() if value is not ABSENT}


@st.composite
def bodies(draw: st.DrawFn) -> dict[str, Any]:
    """A body: mostly one row by split, sometimes up to four rows, by any of the four ways."""
    rows = draw(st.one_of(*[st.lists(a_row(), min_size=1, max_size=1)] * 3, st.lists(a_row(), min_size=2, max_size=4)))
    way = draw(st.sampled_from([*["dataframe_split"] * 4, *["dataframe_records"] * 2, "inputs", "instances"]))
    columns = list(dict.fromkeys(name for row in rows for name in row))
    if way == "dataframe_split":
        split = {"columns": columns, "data": [[row.get(name) for name in columns] for row in rows]}
        return {way: split | draw(st.sampled_from([{}, {}, {"index": list(range(len(rows)))}, {"index": [0]}]))}
    if way == "dataframe_records" or draw(st.booleans()):
        return {way: rows}
    listed = {name: [row[name] for row in rows if name in row] for name in columns}
    if draw(st.booleans()):
        listed |= {name: cells[0] for name, cells in listed.items() if draw(st.booleans())}
    return {way: listed}


@dataclass
class Pair:
    """Both servers, and what was seen of them."""

    ours: httpx.Client
    mlflow: Callable[[bytes], tuple[int, str]]
    pool: ThreadPoolExecutor
    seen: Counter[str]

    def compare(self, asked: list[dict[str, Any]]) -> None:
        """Ask both about each body. Fails on another answer, a fault of ours, or where one of them refuses alone."""
        raw = [json.dumps(body).encode() for body in asked]
        said = zip(asked, self.pool.map(self._ours, raw), self.pool.map(self.mlflow, raw), strict=True)
        for body, (status, answer), (other, expected) in said:
            assert status < 500, (body, answer)
            assert (status == 200) == (other == 200), f"ours {status} {answer}\nmlflow {other} {expected[:600]}\n{body}"
            if status == 200:
                assert json.loads(answer) == json.loads(expected), body
            self.seen["the same answer" if status == 200 else "both refuse"] += 1

    def _ours(self, raw: bytes) -> tuple[int, str]:
        answer = self.ours.post("/invocations", content=raw, headers={"content-type": "application/json"})
        return answer.status_code, answer.text


def compared(pair: Pair, examples: int) -> None:
    """Generate batches and compare them."""

    @settings(max_examples=examples, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(bodies(), min_size=TOGETHER, max_size=TOGETHER))
    def ask(asked: list[dict[str, Any]]) -> None:
        pair.compare(asked)

    ask()


@pytest.mark.filterwarnings("ignore")  # MLflow's about the rows, httpx's about its successor
def test_generated_bodies_get_mlflows_answer_or_are_refused_by_both(client: httpx.Client, shelf: Shelf) -> None:
    from fastapi.testclient import TestClient
    from mlflow.pyfunc import load_model, scoring_server

    mlflow = TestClient(scoring_server.init(load_model(str(shelf.folders["1"]))), raise_server_exceptions=False)

    def ask(raw: bytes) -> tuple[int, str]:
        answer = mlflow.post("/invocations", content=raw, headers={"content-type": "application/json"})
        return answer.status_code, answer.text

    with ThreadPoolExecutor(1) as pool:
        pair = Pair(client, ask, pool, Counter())
        compared(pair, 6)
    assert pair.seen["the same answer"] > 40 and pair.seen["both refuse"] > 5, pair.seen


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_ten_thousand_inputs_get_the_answer_of_mlflow_models_serve(client: httpx.Client, shelf: Shelf, tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = ["models", "serve", "-m", str(shelf.folders["1"]), "-h", "127.0.0.1", "-p", str(port), "--env-manager", "local"]
    with (tmp_path / "log").open("wb") as log:
        env = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}  # it calls uvicorn by its name
        server = subprocess.Popen([sys.executable, "-m", "mlflow", *command], stdout=log, stderr=log, env=env, start_new_session=True)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as theirs, ThreadPoolExecutor(8) as pool:
            wait_for(theirs)

            def ask(raw: bytes) -> tuple[int, str]:
                answer = theirs.post("/invocations", content=raw, headers={"content-type": "application/json"})
                return answer.status_code, answer.text

            pair = Pair(client, ask, pool, Counter())
            compared(pair, 10_000 // TOGETHER)
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()
    print(dict(pair.seen))
    assert sum(pair.seen.values()) >= 10_000


def wait_for(client: httpx.Client) -> None:
    """Until MLflow's server answers its ping, for at most two minutes."""
    until = time.monotonic() + 120
    while True:
        try:
            if client.get("/ping").status_code == 200:
                return
        except httpx.TransportError:
            pass
        assert time.monotonic() < until, "mlflow models serve did not start"
        time.sleep(0.2)
