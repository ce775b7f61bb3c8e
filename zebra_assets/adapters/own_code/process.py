"""An approved model's process, seen from outside: start it, ask it, check what it says, end it.

Its answers are a stranger's bytes: JSON, of the right number and kinds, or nothing. A process that hangs or dies is ended and
started anew for the next question, its folder's digest checked again. It ends with the last reference to its model.
"""

import json
import math
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from zebra_assets import telemetry
from zebra_assets.adapters.model_files import Predictions, columns_of
from zebra_assets.adapters.own_code import wire
from zebra_assets.contracts.model_folder import ModelFeature, ModelFolder
from zebra_assets.contracts.own_code import verify_own_code
from zebra_assets.errors import DataInvalid, Refused, Unavailable, ZebraError

OPEN_S, ANSWER_S = 120.0, 30.0
# Of this process's environment; tokens, passwords and addresses are not for a stranger's code.
_KEPT = ("PATH", "LANG", "LC_ALL", "TZ", "PYTHONPATH", "LD_LIBRARY_PATH", "OMP_NUM_THREADS")
_SAID = {
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "true",
    **telemetry.OFF,
    "PYTHONDONTWRITEBYTECODE": "1",  # into the verified folder
}
# Linux kills a child with the thread that started it, so all are started by one that stays.
_starter = ThreadPoolExecutor(1, thread_name_prefix="own-code")


class OwnCodeFailed(ZebraError):
    """The model's own code broke, hung, or answered what is no answer."""


@dataclass
class _Running:
    process: "subprocess.Popen[bytes]"
    channel: socket.socket
    scratch: Path
    fence: str = ""

    def end(self) -> None:
        self.channel.close()
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)  # and what it has started
        self.process.wait()
        shutil.rmtree(self.scratch, ignore_errors=True)


class OwnCodeModel:
    """A model that answers with its own code; `ports.Model`, and as thread-safe. One question at a time.

    Attributes:
        fence: what holds its process, for people.
    """

    def __init__(self, folder: Path, digest: str, card: ModelFolder) -> None:
        self.features: list[ModelFeature] = card.features
        self.classes: list[Any] = list(card.classes)
        self.positive = card.positive
        self._folder, self._digest, self._lock = folder, digest, threading.Lock()
        self._running: list[_Running] = []
        weakref.finalize(self, _end, self._running)
        self.fence = self._started().fence

    @property
    def weight(self) -> int:
        """Bytes that its process has in memory; 0 where the system does not tell, or there is none."""
        try:
            pages = Path(f"/proc/{self._running[0].process.pid}/statm").read_text().split()[1]
        except (OSError, IndexError):
            return 0
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    def predict(self, table: pa.Table) -> Predictions:
        """Predict each row of ``table``; other columns than the features are ignored.

        Raises:
            DataInvalid: a feature is missing, or the model refuses the values.
            OwnCodeFailed: it broke, or did not answer within 30 s.
        """
        rows = columns_of(self.features, table)
        with self._lock:
            running = self._started()
            try:
                wire.send(running.channel, wire.ROWS, _stream(rows))
                kind, payload = wire.receive(running.channel)
            except (OSError, EOFError) as error:
                _end(self._running)
                why = f"did not answer within {ANSWER_S:g} s" if isinstance(error, TimeoutError) else "ended while it was asked"
                raise OwnCodeFailed(f"The model's process {why}; it is started anew.", fix="mlops rollback MODEL") from error
        if kind == wire.REFUSED:
            raise DataInvalid(f"The model refuses these values: {_text(payload)}", fix="mend the values")
        if kind != wire.ANSWER:
            raise OwnCodeFailed(f"The model's code failed: {_text(payload)}", fix="mlops rollback MODEL")
        return self._checked(payload, rows.num_rows)

    def _checked(self, payload: bytes, count: int) -> Predictions:
        try:
            said = json.loads(payload)
            labels, scores = said["labels"], said["scores"]
            kinds = {type(label) for label in labels}
            right = len(labels) == count and kinds <= {str, int, float, bool} and (len(kinds) < 2 or kinds == {int, float})
            finite = all(math.isfinite(label) for label in labels if isinstance(label, float))
            likely = scores is None or (len(scores) == count and all(isinstance(s, float) and 0 <= s <= 1 for s in scores))
            known = not self.classes or set(labels) <= set(self.classes)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise OwnCodeFailed("The model's process gave no answer that can be read.", fix="mlops rollback MODEL") from error
        if not (right and finite and likely and known):
            raise OwnCodeFailed(
                "The model's answer is not one label a row, of its own classes, with scores from 0 to 1.", fix="mlops rollback MODEL"
            )
        values = np.array(labels, dtype=object if str in kinds else None)
        return Predictions(values, None if scores is None else np.array(scores, dtype=float))

    def _started(self) -> _Running:
        """The process, started if there is none. Raises `Refused` for other bytes and for code that does not open."""
        if not self._running:
            verify_own_code(self._folder, self._digest)
            self._running.append(_starter.submit(_start, self._folder, self._digest).result())
        return self._running[0]


def _start(folder: Path, digest: str) -> _Running:
    ours, theirs = socket.socketpair()
    scratch = Path(tempfile.mkdtemp(prefix="zebra-own-code-")).resolve()
    environment = {name: os.environ[name] for name in _KEPT if name in os.environ} | _SAID | {"HOME": str(scratch), "TMPDIR": str(scratch)}
    words = [str(os.getpid()), str(theirs.fileno()), str(folder.resolve()), digest, str(scratch)]
    command = [sys.executable, "-P", "-m", "zebra_assets.adapters.own_code.child", *words]
    quiet = subprocess.DEVNULL
    try:
        process = subprocess.Popen(
            command,
            env=environment,
            cwd=scratch,
            pass_fds=(theirs.fileno(),),
            stdin=quiet,
            stdout=quiet,
            stderr=quiet,
            start_new_session=True,
        )
    except OSError as error:
        ours.close()
        shutil.rmtree(scratch, ignore_errors=True)
        raise Unavailable(f"No process could be started for the model's code: {error.strerror}.") from error
    finally:
        theirs.close()
    running = _Running(process, ours, scratch)
    ours.settimeout(OPEN_S)
    try:
        kind, payload = wire.receive(ours)
    except (OSError, EOFError) as error:
        running.end()
        why = f"did not open within {OPEN_S:g} s" if isinstance(error, TimeoutError) else "ended its process while it was opened"
        raise Refused(f"The model's own code {why}.", fix="run it by hand: mlflow.pyfunc.load_model(FOLDER)") from error
    if kind != wire.READY:
        running.end()
        raise Refused(f"The model's own code does not open: {_text(payload)}", fix="run it by hand: mlflow.pyfunc.load_model(FOLDER)")
    ours.settimeout(ANSWER_S)
    running.fence = _text(payload)
    return running


def _end(running: list[_Running]) -> None:
    while running:
        running.pop().end()


def _stream(rows: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as stream:
        stream.write_table(rows)
    written: bytes = sink.getvalue().to_pybytes()
    return written


def _text(payload: bytes) -> str:
    """A stranger's words, fit for a log: one line of printable characters."""
    return "".join(c if c.isprintable() else " " for c in payload.decode(errors="replace")[:500])
