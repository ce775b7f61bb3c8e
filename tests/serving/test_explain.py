"""`/predict?explain=true`: shares that add up, from a helper that a prediction does not wait for."""

import asyncio
import itertools
import json
import math
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.serving.conftest import COLUMNS, MODEL, REPO, ROW, Bench, Shelf, in_the_loop, make_bench, rows, until
from zebra_assets.adapters.model_files import LoadedModel, load_model
from zebra_assets.training.package import write_model
from zebra_serving.compile.forms import Plain
from zebra_serving.doors import explaining
from zebra_serving.doors.explaining import MAX_ROWS
from zebra_serving.examples import request_of
from zebra_serving.explain.helper import Helper, Refusal
from zebra_serving.explain.shares import Shares
from zebra_serving.problems import TooSlow
from zebra_serving.rows import Rows
from zebra_serving.schema import RowSchema

WHY = "/predict?explain=true"


def exact(model: LoadedModel, row: dict[str, Any], background: list[dict[str, Any]]) -> tuple[float, dict[str, float]]:
    """(base, shares) by the definition: every column into every coalition of the others."""
    names, n = list(row), len(row)

    def worth(coalition: frozenset[str]) -> float:
        asked = [{name: row[name] if name in coalition else other[name] for name in names} for other in background]
        found = model.predict(pa.Table.from_pylist(asked)).scores
        assert found is not None
        return float(found.mean())

    worths = {c: worth(c) for k in range(n + 1) for c in map(frozenset, itertools.combinations(names, k))}
    weight = [math.factorial(k) * math.factorial(n - 1 - k) / math.factorial(n) for k in range(n)]
    shares = {j: sum(weight[len(c)] * (worths[c | {j}] - w) for c, w in worths.items() if j not in c) for j in names}
    return worths[frozenset()], shares


def background_of(folder: Path) -> list[dict[str, Any]]:
    example = json.loads((folder / "input_example.json").read_text())
    return [dict(zip(example["columns"], values, strict=True)) for values in example["data"]]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, shelf: Shelf) -> Bench:
    """One project for the module: its helper starts once."""
    bench = make_bench(tmp_path_factory.mktemp("explain"), shelf)
    bench.promote("1")
    return bench


@pytest.fixture(scope="module")
def client(project: Bench) -> Any:
    with project.client("1") as client:
        client.timeout = httpx.Timeout(120)
        yield client


def test_shares_are_the_exact_ones_and_add_up_to_the_score(client: httpx.Client, shelf: Shelf) -> None:
    customers = [ROW, *rows(3)]
    answer = client.post(WHY, json={"rows": customers})
    assert answer.status_code == 200, answer.text
    said, plain = answer.json(), client.post("/predict", json={"rows": customers}).json()
    model, background = load_model(shelf.folders["1"], shelf.digests["1"]), background_of(shelf.folders["1"])
    assert said["explained"] | {"seconds": 0} == {
        "output": "the score", "method": "exact Shapley values", "background_rows": len(background), "seconds": 0, "complete": True,
    }  # fmt: skip
    assert 20 <= len(background) <= 50
    for row, one, known in zip(customers, said["predictions"], plain["predictions"], strict=True):
        why = one["explanation"]
        base, shares = exact(model, row, background)
        assert (one["prediction"], one["score"]) == (known["prediction"], pytest.approx(known["score"], abs=1e-6))
        assert why["value"] == one["score"] == pytest.approx(why["base_value"] + sum(why["contributions"].values()), abs=1e-6)
        assert why["base_value"] == pytest.approx(base, abs=1e-5)
        assert why["contributions"] == {name: pytest.approx(share, abs=1e-5) for name, share in shares.items()}
        assert why["complete"] and why["standard_error"] == 0


def test_an_explanation_is_counted_and_not_captured(client: httpx.Client, project: Bench) -> None:
    one = client.post(f"/models/{MODEL}{WHY}", json=ROW)
    assert one.json()["predictions"][0]["event_id"] is None
    client.post("/predict", json=ROW, headers={"x-request-id": "captured"})
    until(lambda: [e for e in project.events.predictions(MODEL) if e.request_id == "captured"])
    assert one.headers["x-request-id"] not in {e.request_id for e in project.events.predictions(MODEL)}
    page = client.get("/metrics").text
    assert 'zebra_explanations_total{status="200"}' in page and "zebra_explanation_seconds_bucket" in page
    assert f'zebra_requests_total{{route="/models/{MODEL}/predict?explain",status="200"}} 1.0' in page


@pytest.mark.parametrize(
    ("path", "body", "status", "says"),
    [
        (WHY, {"rows": rows(MAX_ROWS + 1)}, 413, f"{MAX_ROWS} can be explained"),
        (WHY, {**ROW, "tenure": "x"}, 422, "1 value does not fit"),
        ("/predict?explain=perhaps", ROW, 422, "neither true nor false"),
        ("/predict?explain=false", ROW, 200, "predictions"),
        ("/predict?other=1", ROW, 200, "predictions"),
    ],
)
def test_what_cannot_be_explained_is_told_why(client: httpx.Client, path: str, body: Any, status: int, says: str) -> None:
    answer = client.post(path, json=body)
    assert (answer.status_code, says in answer.text, "explanation" in answer.json().get("predictions", [{}])[0]) == (status, True, False)


def test_a_large_request_for_an_explanation_is_read_beside_the_event_loop(client: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool] = []

    def watched(*given: Any) -> Any:
        seen.append(in_the_loop())
        return read(*given)

    read = explaining._rows
    monkeypatch.setattr(explaining, "_rows", watched)
    for count in (MAX_ROWS + 1, 1000):
        assert client.post(WHY, json={"rows": rows(count)}).status_code == 413
    assert seen == [True, False]


def test_the_interface_describes_an_explanation(client: httpx.Client) -> None:
    operation = client.get("/openapi.json").json()["paths"]["/predict"]["post"]
    assert [p["name"] for p in operation["parameters"]] == ["explain", "x-timeout-ms"] and {"409", "504"} <= operation["responses"].keys()
    said = operation["responses"]["200"]["content"]["application/json"]["schema"]["properties"]
    assert set(said["predictions"]["items"]["properties"]["explanation"]["properties"]["contributions"]["properties"]) == set(COLUMNS)
    assert "explained" in said


def test_the_documented_program_prints_what_the_documentation_shows(client: httpx.Client, capsys: pytest.CaptureFixture[str]) -> None:
    program, shown = re.findall(r"^```(?:python)?\n(.*?)^```", (REPO / "docs/serving-explanations.md").read_text(), re.M | re.S)[:2]
    assert "http://127.0.0.1:8080" in program
    exec(program.replace("http://127.0.0.1:8080", str(client.base_url).rstrip("/")), {})
    assert capsys.readouterr().out == shown


def test_without_the_extra_the_command_that_brings_it_is_told(client: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lightshap", None)
    answer = client.post(WHY, json=ROW)
    assert (answer.status_code, "zebraops[explain]" in answer.json()["fix"]) == (409, True)
    assert client.post("/predict", json=ROW).status_code == 200


def model_of(kind: str, folder: Path) -> tuple[LoadedModel, Rows]:
    """A model of 12 columns, which is too many for exact shares, and the rows beside it."""
    from sklearn.ensemble import HistGradientBoostingRegressor
    from sklearn.linear_model import LogisticRegression

    random = np.random.default_rng(1)
    values = pa.table({f"x{i}": random.normal(size=300) for i in range(12)})
    frame = values.to_pandas()
    signal = frame.x0 + frame.x1 * frame.x2
    if kind == "regression":
        estimator, label, y = HistGradientBoostingRegressor(max_iter=20), {"type": "regression"}, signal
    else:
        estimator, label, y = LogisticRegression(), {"type": "multiclass"}, np.array(["a", "b", "c"])[np.digitize(signal, [-1, 1])]
    pq.write_table(values.append_column("y", pa.array(y)), folder / "train.parquet")
    columns = {name: {"dtype": "float64", "nullable": False} for name in values.column_names}
    about = {
        "columns": columns | {"y": {"dtype": "string", "nullable": False}}, "features": list(columns), "label": {"column": "y", **label},
        "datasets": {"train": {"path": str(folder / "train.parquet")}}, "pip_requirements": [],
    }  # fmt: skip
    made = write_model(estimator.fit(frame, y), folder / "model", about)
    loaded = load_model(made, None)
    return loaded, RowSchema(loaded.features).decode(request_of(made / "input_example.json"))


@pytest.mark.filterwarnings("ignore")  # lightshap's, about draws that the helper judges by itself
@pytest.mark.parametrize(
    ("kind", "output"), [("regression", "the predicted value"), ("multiclass", "the probability of the predicted class")]
)
def test_many_columns_are_sampled_and_add_up_whenever_time_is_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, output: str
) -> None:
    ticks = itertools.count()  # a look at the clock takes a millisecond: time is up at the same moment on every machine
    monkeypatch.setattr("zebra_serving.explain.shares.time", SimpleNamespace(monotonic=lambda: next(ticks) / 1000))
    loaded, background = model_of(kind, tmp_path)
    shares = Shares(Plain(loaded), background)
    asked = background.part(slice(0, 2))
    found = loaded.predict(asked.table())
    wanted = found.labels if found.probabilities is None else found.probabilities.max(axis=1)
    told = {seconds: shares.of(asked, seconds) for seconds in (20.0, 0.06, 0.03)}
    assert [[share.complete for share in one.rows] for one in told.values()] == [[True, True], [True, False], [False, False]]
    for rows_ in (one.rows for one in told.values()):
        for share, value in zip(rows_, wanted, strict=True):
            assert share.value == pytest.approx(float(value)) == pytest.approx(share.base + sum(share.contributions))
            assert share.standard_error <= (0.02 if share.complete else 1) * np.ptp(share.contributions)
    assert told[20.0].output == output and "sampled" in told[20.0].method
    for seconds, explained in ((0.0, 0), (0.02, 1)):
        with pytest.raises(TooSlow, match=f"Of 2 rows {explained} were explained"):
            shares.of(asked, seconds)


def test_a_helper_that_died_is_started_again_and_few_may_wait_for_it(project: Bench, client: httpx.Client) -> None:
    client.post(WHY, json=ROW)
    [helper] = [child for child in psutil.Process().children() if "zebra_serving.explain" in child.cmdline()]
    helper.suspend()
    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(client.post, WHY, json=ROW) for _ in range(4)]
        refused = next(as_completed(asked)).result()
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert client.post("/predict", json=ROW).status_code == 200  # which nobody holds up
        helper.kill()
        assert sorted(one.result().status_code for one in asked) == [200, 200, 500, 503]
    assert not helper.is_running()


def test_the_servers_own_process_imports_nothing_that_explains(bench: Bench) -> None:
    code = "import sys, zebra_serving.app; sys.exit(any(name in sys.modules for name in ('lightshap', 'matplotlib', 'sklearn', 'pandas')))"
    assert subprocess.run([sys.executable, "-c", code], cwd=REPO, timeout=60, check=False).returncode == 0


def test_other_bytes_than_the_ledgers_are_not_opened_and_nothing_stays_behind(shelf: Shelf) -> None:
    before = psutil.Process().children()
    helper = Helper(shelf.compiled, 2.0, 2 << 30)
    try:
        with pytest.raises(Refusal, match="not the promised"):
            asyncio.run(helper.explain(shelf.folders["1"], "0" * 64, [ROW], 60))
    finally:
        helper.close()
    assert psutil.Process().children() == before


def test_a_helper_that_hangs_is_killed_when_its_seconds_are_over(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    before = psutil.Process().children()
    helper = Helper(shelf.compiled, 5.0, 2 << 30)
    try:
        told = asyncio.run(helper.explain(shelf.folders["1"], shelf.digests["1"], [ROW], 60))
        [process] = set(psutil.Process().children()) - set(before)
        process.suspend()
        monkeypatch.setattr("zebra_serving.explain.helper.OPEN_S", 0.2)
        with pytest.raises(TooSlow, match="could not be opened in time"):
            asyncio.run(helper.explain(shelf.folders["1"], shelf.digests["1"], [ROW], 60))
        assert not process.is_running()
        monkeypatch.undo()
        assert asyncio.run(helper.explain(shelf.folders["1"], shelf.digests["1"], [ROW], 60)) == told
    finally:
        helper.close()


def test_a_helper_gets_no_more_memory_than_it_may_have(shelf: Shelf) -> None:
    before = psutil.Process().children()
    helper = Helper(shelf.compiled, 2.0, 100 << 20)
    try:
        with pytest.raises(Refusal, match="more memory than explanations may take") as refused:
            asyncio.run(helper.explain(shelf.folders["1"], shelf.digests["1"], [ROW], 60))
    finally:
        helper.close()
    assert refused.value.http_status == 409 and psutil.Process().children() == before
