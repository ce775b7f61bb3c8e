"""`python -m zebra_assets.adapters.own_code.child`: opens one approved model with MLflow and answers for it until its parent is gone.

Verifies the bytes itself, right before it opens them and behind the fence. What the model prints goes nowhere: it could be anybody's row.
"""

import json
import os
import socket
import sys
import warnings
from pathlib import Path
from typing import Any

import zebra_assets
from zebra_assets.adapters.own_code import wire
from zebra_assets.adapters.own_code.fence import ends_with, put_up
from zebra_assets.contracts.own_code import verify_own_code


def main(parent: str, channel: str, folder: str, digest: str, scratch: str) -> None:
    """Serve the model in ``folder`` over the socket that is file descriptor ``channel``."""
    ends_with(int(parent))
    pipe = socket.socket(fileno=int(channel))
    try:
        model, fence = _opened(Path(folder), digest, Path(scratch))
    except BaseException as error:  # a stranger's code may raise anything, SystemExit too
        wire.send(pipe, wire.UNOPENED, _words(error))
        return
    wire.send(pipe, wire.READY, fence.encode())
    while True:
        try:
            _, question = wire.receive(pipe)
        except EOFError:
            return
        wire.send(pipe, *_answer(model, question))


def _opened(folder: Path, digest: str, scratch: Path) -> tuple[Any, str]:
    # First of all: a fence holds the thread that puts it up and what comes of it, not the threads that libraries have begun.
    fence = put_up([folder, Path(zebra_assets.__file__).parent], scratch)
    verify_own_code(folder, digest)
    warnings.simplefilter("ignore")
    import mlflow.pyfunc

    return mlflow.pyfunc.load_model(os.fspath(folder), suppress_warnings=True), fence


def _answer(model: Any, question: bytes) -> tuple[bytes, bytes]:
    import pyarrow as pa

    try:
        rows = pa.ipc.open_stream(question).read_all().to_pandas()
        labels, scores = _columns(model.predict(rows))
        return wire.ANSWER, json.dumps({"labels": labels, "scores": scores}).encode()
    except BaseException as error:
        # MLflow's word for rows that do not fit the signature it enforces.
        theirs = isinstance(error, ValueError) or getattr(error, "error_code", "") == "INVALID_PARAMETER_VALUE"
        return (wire.REFUSED if theirs else wire.FAILED), _words(error)


def _columns(answer: Any) -> tuple[list[Any], list[Any] | None]:
    """A pyfunc's answer as (prediction, score) columns: a table with these columns, or the predictions alone."""
    import numpy as np
    import pandas as pd

    if isinstance(answer, dict):
        answer = pd.DataFrame(answer)
    if isinstance(answer, pd.DataFrame):
        if "prediction" in answer.columns:
            scores = np.asarray(answer["score"], dtype=float).tolist() if "score" in answer.columns else None
            return np.asarray(answer["prediction"]).tolist(), scores
        if answer.shape[1] != 1:
            raise TypeError(f"it answers with the columns {list(answer.columns)}, not with 'prediction' and 'score'")
    found = np.asarray(answer)
    if found.ndim == 2 and found.shape[1] == 1:
        found = found[:, 0]
    if found.ndim != 1:
        raise TypeError(f"it answers with an array of shape {found.shape}, not with one value a row")
    return found.tolist(), None


def _words(error: BaseException) -> bytes:
    first = (str(error).strip().splitlines() or [""])[0]
    return f"{type(error).__name__}: {first}"[:500].encode(errors="replace")


if __name__ == "__main__":
    main(*sys.argv[1:])
