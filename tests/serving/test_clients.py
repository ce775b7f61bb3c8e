"""Clients that others wrote talk to the server unmodified, and are told what the native door predicts.

MLflow's is part of our environment; Triton's and KServe's have one of their own, made on first use:
pytest -m slow tests/serving/test_clients.py
"""

import json
import subprocess
from pathlib import Path
from typing import Any

import httpx
import pandas as pd
import pytest

from benchmarks.serving.venvs import installed
from tests.serving.conftest import MODEL, rows

CLIENTS = Path(__file__).with_name("clients")
CUSTOMERS = rows(40)


def predicted(client: httpx.Client) -> tuple[list[Any], list[Any]]:
    said = client.post("/predict", json={"rows": CUSTOMERS}).json()["predictions"]
    return [one["prediction"] for one in said], [one["score"] for one in said]


@pytest.mark.filterwarnings("ignore:.*Any type hint is inferred:UserWarning")  # of MLflow about itself, as it is imported
def test_mlflows_own_scoring_client_is_answered(client: httpx.Client) -> None:
    import mlflow
    from mlflow.pyfunc.scoring_server.client import ScoringServerClient

    theirs = ScoringServerClient("127.0.0.1", client.base_url.port)
    theirs.wait_server_ready(timeout=10)
    theirs.ping()
    assert theirs.get_version() == mlflow.__version__
    labels, _ = predicted(client)
    assert theirs.invoke(pd.DataFrame(CUSTOMERS)).get_predictions()[0].tolist() == labels


@pytest.mark.slow
@pytest.mark.parametrize("data", ["json", "binary"])
@pytest.mark.parametrize("library", ["triton", "kserve"])
def test_a_v2_client_of_another_house_is_answered(client: httpx.Client, library: str, data: str) -> None:
    command = [str(installed("clients")), str(CLIENTS / f"with_{library}.py"), str(client.base_url).rstrip("/"), MODEL, data]
    done = subprocess.run(command, input=json.dumps(CUSTOMERS), capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    said = json.loads(done.stdout.splitlines()[-1])
    labels, scores = predicted(client)
    assert said["id"] == f"{library}-1" and said["labels"] == labels
    assert said["scores"] == pytest.approx(scores, abs=1e-12)
