"""`/openapi.json` is a contract: what it says is what the server does, by schemathesis' word and by the server's own counters.

The long form makes 10,000 requests with all of schemathesis' checks, in an environment of its own:
pytest -m slow tests/serving/test_contract.py
"""

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pydantic import SecretStr

from benchmarks.serving.venvs import installed
from tests.serving.conftest import MODEL, ROW, Bench, rows
from zebra_serving.dataplane import PATIENCE_S
from zebra_serving.doors.wire import patience

TOKEN = "a-secret-of-this-test"
HERE = Path(__file__).with_name("contract")
_ANSWERS = re.compile(r'^zebra_requests_total\{route="([^"]*)",status="(\d+)"\} (\S+)$', re.M)


def operations(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {f"{m.upper()} {path}": op for path, methods in document["paths"].items() for m, op in methods.items()}


def test_every_operation_says_whether_it_wants_a_token_and_how_it_refuses(bench: Bench) -> None:
    bench.promote("1")
    with bench.client("1") as client:
        open_to_all = client.get("/openapi.json").json()
    assert not any("security" in op for op in operations(open_to_all).values())
    guarded = bench.settings.model_copy(update={"serving_token": SecretStr("x" * 20)})
    with Bench(guarded, bench.shelf).client("1") as client:
        document = client.get("/openapi.json", headers={"authorization": f"Bearer {'x' * 20}"}).json()
    assert document["components"]["securitySchemes"] == {"bearer": {"type": "http", "scheme": "bearer"}}
    found = operations(document)
    assert [name for name, op in found.items() if "security" not in op] == ["GET /health"]
    assert all({"404", "405", "429"} <= op["responses"].keys() for op in found.values())
    assert all({"401", "403"} <= op["responses"].keys() for name, op in found.items() if name != "GET /health")


def test_the_v2_door_names_its_models_versions_and_a_request_that_fits(bench: Bench) -> None:
    bench.promote("1")
    with bench.client("1") as client:
        found = operations(client.get("/openapi.json").json())["POST /v2/models/{model}/versions/{version}/infer"]
        assert [p["schema"]["enum"] for p in found["parameters"] if p["in"] == "path"] == [[MODEL], ["1"]]
        example = found["requestBody"]["content"]["application/json"]["example"]
        assert client.post(f"/v2/models/{MODEL}/versions/1/infer", json=example).status_code == 200


def test_every_door_that_predicts_takes_the_clients_patience_and_passes_over_what_is_none(bench: Bench) -> None:
    bench.promote("1")
    with bench.client("1") as client:
        found = operations(client.get("/openapi.json").json())
        predicting = {name for name in found if name.startswith("POST") and name.endswith(("predict", "infer", "/invocations"))}
        told = {
            name for name, op in found.items() if any((p["in"], p["name"]) == ("header", "x-timeout-ms") for p in op.get("parameters", ()))
        }
        assert told == predicting and len(told) == 5
        for said in ("2000", "soon", "0", "-1", "1.5", "9" * 400):
            assert client.post("/predict", json=ROW, headers={"x-timeout-ms": said}).status_code == 200
    assert [patience({b"x-timeout-ms": said}) for said in (b"2000", b"99999999", b"soon", b"0", b"9" * 400)] == [2.0, *[PATIENCE_S] * 4]


@pytest.mark.parametrize(
    ("path", "method", "allow"), [("/predict", "GET", "POST"), ("/v2", "POST", "GET, HEAD"), ("/health", "POST", "GET")]
)
def test_a_wrong_method_is_told_the_right_one(bench: Bench, path: str, method: str, allow: str) -> None:
    bench.promote("1")
    with bench.client("1") as client:
        answer = client.request(method, path)
    assert (answer.status_code, answer.headers["allow"]) == (405, allow)


def arrow_bodies(folder: Path) -> str:
    """Files with customers, for the hooks: media type=path;…"""
    table, said = pa.Table.from_pylist(rows(20)), []
    for kind, writer in (("stream", pa.ipc.new_stream), ("file", pa.ipc.new_file)):
        with writer(folder / kind, table.schema) as out:
            out.write_table(table)
        said.append(f"application/vnd.apache.arrow.{kind}={folder / kind}")
    return ";".join(said)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_ten_thousand_generated_requests_break_nothing(bench: Bench, tmp_path: Path) -> None:
    """All checks of schemathesis: no 5xx, no answer outside the schemas, no route without its token, no method let through."""
    fuzzer = installed("contract").with_name("schemathesis")
    bench.promote("1")
    with bench.server(ZEBRA_SERVING_TOKEN=TOKEN) as (_, client):
        known = {"authorization": f"Bearer {TOKEN}"}
        command = [
            str(fuzzer),
            "--config-file",
            str(HERE / "schemathesis.toml"),
            "run",
            f"{client.base_url}/openapi.json",
            "-H",
            f"Authorization: Bearer {TOKEN}",
        ]
        command += ["--checks", "all", "--continue-on-failure", "--max-examples", "720", "--generation-deterministic", "--no-color"]
        # It leaves out Authorization where an operation has headers of its own, and -H puts it back; `ignored_auth` looks at 401.
        command += ["--exclude-checks", "missing_required_header"]
        environment = {**os.environ, "PYTHONPATH": str(HERE), "SCHEMATHESIS_HOOKS": "hooks", "ARROW_BODIES": arrow_bodies(tmp_path)}
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=800, check=False)
        assert done.returncode == 0, "\n".join(line[:600] for line in (done.stdout + done.stderr).splitlines())
        answers = [(int(status), float(count)) for _, status, count in _ANSWERS.findall(client.get("/metrics", headers=known).text)]
    assert sum(count for _, count in answers) >= 10_000
    assert not [status for status, _ in answers if status >= 500]
    assert {200, 401, 405, 422} <= {status for status, _ in answers}
