"""The same answers as `mlflow models serve`: generated inputs go to both, and where only one of them answers a named rule says why.

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
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.serving.conftest import COLUMNS, Shelf, make_bench

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
def inputs(draw: st.DrawFn) -> dict[str, Any]:
    """One row: half of them fit, the others have a strange cell or two, or a column too many."""
    row = {name: draw(_cell(column)) for name, column in COLUMNS.items()}
    for name in draw(st.sampled_from([[], [], [], *[[name] for name in COLUMNS], ["tenure", "gender"]])):
        row[name] = draw(_STRANGE)
    if draw(st.integers(0, 9)) == 0:
        row[draw(st.sampled_from(["extra", "Tenure", "índice", ""]))] = draw(_STRANGE)
    return {name: value for name, value in row.items() if value is not ABSENT}


@dataclass(frozen=True)
class Rule:
    """A difference that is meant: who refuses alone, when, and why that is right."""

    name: str
    refuses: str
    holds: Callable[[dict[str, Any]], bool]
    because: str


_TYPES: dict[str, tuple[type, ...]] = {"int64": (int,), "float64": (int, float), "string": (str,), "bool": (bool,)}


def _misfits(name: str, value: Any) -> bool:
    """Whether a JSON value is not of the column's type, or no value where one must be."""
    column = COLUMNS[name]
    if value is None:
        return not column["nullable"]
    right = isinstance(value, _TYPES[column["dtype"]]) and (isinstance(value, bool) == (column["dtype"] == "bool"))
    return not right or (column["dtype"] == "int64" and not -(2**63) <= value < 2**63)


def _of_another_type(row: dict[str, Any]) -> bool:
    return any(name in COLUMNS and _misfits(name, value) for name, value in row.items())


def _no_text(row: dict[str, Any]) -> bool:
    return "\\ud" in json.dumps(row) and any("\ud800" <= c <= "\udfff" for c in "".join(str(v) for v in [*row, *row.values()]))


RULES = [
    Rule(
        "a value of another type",
        "ours",
        _of_another_type,
        "MLflow lets pandas cast it: 5 becomes the text '5', true the number 1, null the text 'None', and the model answers anyway",
    ),
    Rule("half a character", "ours", _no_text, "a lone surrogate is no Unicode text; Python's json reads it, stricter parsers do not"),
    Rule(
        "an optional column left out",
        "mlflow",
        lambda row: any(name not in row and column["nullable"] for name, column in COLUMNS.items()),
        "the signature calls it optional, and the model as MLflow calls it needs the column; ours reads its absence as null",
    ),
]


def explained(row: dict[str, Any], refuses: str) -> str | None:
    """The rule by which this side alone refuses this row."""
    return next((rule.name for rule in RULES if rule.refuses == refuses and rule.holds(row)), None)


def body(row: dict[str, Any]) -> bytes:
    return json.dumps({"dataframe_split": {"columns": list(row), "data": [list(row.values())]}}).encode()


@dataclass
class Pair:
    """Both servers, and what was seen of them."""

    ours: httpx.Client
    mlflow: Callable[[bytes], tuple[int, str]]
    pool: ThreadPoolExecutor
    seen: Counter[str]

    def compare(self, rows: list[dict[str, Any]]) -> None:
        """Ask both about each row. Fails on another answer, a fault of ours, or a difference that no rule explains."""
        bodies = [body(row) for row in rows]
        said = zip(rows, self.pool.map(self._ours, bodies), self.pool.map(self.mlflow, bodies), strict=True)
        for row, (status, answer), (other, expected) in said:
            assert status < 500, (row, answer)
            if status == other == 200:
                assert json.loads(answer) == json.loads(expected), row
                self.seen["the same answer"] += 1
            elif status != 200 != other:
                self.seen["both refuse"] += 1
            else:
                rule = explained(row, "ours" if status != 200 else "mlflow")
                assert rule is not None, f"ours {status} {answer}\nmlflow {other} {expected[:600]}\n{row}"
                self.seen[rule] += 1

    def _ours(self, raw: bytes) -> tuple[int, str]:
        answer = self.ours.post("/invocations", content=raw, headers={"content-type": "application/json"})
        return answer.status_code, answer.text


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory, shelf: Shelf) -> Iterator[httpx.Client]:
    bench = make_bench(tmp_path_factory.mktemp("project"), shelf)
    bench.promote("1")
    with bench.client("1") as client:
        yield client


def compared(pair: Pair, examples: int) -> None:
    """Generate batches and compare them."""

    @settings(max_examples=examples, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(inputs(), min_size=TOGETHER, max_size=TOGETHER))
    def ask(rows: list[dict[str, Any]]) -> None:
        pair.compare(rows)

    ask()


@pytest.mark.filterwarnings("ignore")  # MLflow's about the rows, httpx's about its successor
def test_generated_inputs_get_mlflows_answer_or_a_refusal_that_a_rule_explains(ours: httpx.Client, shelf: Shelf) -> None:
    from fastapi.testclient import TestClient
    from mlflow.pyfunc import load_model, scoring_server

    mlflow = TestClient(scoring_server.init(load_model(str(shelf.folders["1"]))), raise_server_exceptions=False)

    def ask(raw: bytes) -> tuple[int, str]:
        answer = mlflow.post("/invocations", content=raw, headers={"content-type": "application/json"})
        return answer.status_code, answer.text

    with ThreadPoolExecutor(1) as pool:
        pair = Pair(ours, ask, pool, Counter())
        compared(pair, 6)
    assert pair.seen["the same answer"] > 40 and pair.seen["both refuse"] > 5, pair.seen


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_ten_thousand_inputs_get_the_answer_of_mlflow_models_serve(ours: httpx.Client, shelf: Shelf, tmp_path: Path) -> None:
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

            pair = Pair(ours, ask, pool, Counter())
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
