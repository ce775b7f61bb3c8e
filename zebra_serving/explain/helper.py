"""The server's side of explanations: one helper process, started with the first request for one, and the queue in front of it.

One at a time, few may wait, and each step has its seconds: a helper that exceeds them is killed, and the next request starts
another. The first request waits for the helper's start as well.
"""

import contextlib
import importlib.util
import subprocess
import sys
import threading
from pathlib import Path

import msgspec

from zebra_serving.apart import Apart
from zebra_serving.explain.words import Declined, Job, Opened, Said, Told
from zebra_serving.problems import NotExplainable, Problem, TooSlow

# With the helper, and waiting for it.
MAX_WAITING = 3
START_S, OPEN_S = 60.0, 60.0
# The helper keeps to its time by itself, unless a single call of the model takes longer.
GRACE_S = 1.0
PACKAGE = "lightshap"


class Refusal(Problem):
    """What the helper said no to."""

    def __init__(self, said: Declined) -> None:
        super().__init__(said.message, fix=said.fix)
        self.http_status = said.status  # type: ignore[misc]


class Broken(Problem):
    """The helper ended while it worked."""

    http_status = 500


class Helper:
    """Explains rows of whatever version it is asked about.

    Args:
        store: of the compiled forms.
        seconds: for the rows of one request, once their version is open.
        memory_bytes: what the process may allocate.
    """

    def __init__(self, store: Path, seconds: float, memory_bytes: int) -> None:
        self._store, self.seconds, self._memory_bytes = store, seconds, memory_bytes
        self._apart = Apart(1, MAX_WAITING)
        self._process: subprocess.Popen[bytes] | None = None

    async def explain(self, folder: Path, digest: str, rows: list[dict[str, object]], patience_s: float) -> Told:
        """Each row's shares.

        Args:
            folder: of the version's files.
            digest: which they must have.
            patience_s: how long the request may take altogether.

        Raises:
            NotExplainable: the extra is not installed, or the version cannot be explained.
            Overloaded: too many wait already, or it took longer than ``patience_s``.
            TooSlow: nothing was found in time.
            Broken: the helper ended.
            Refusal: the model will not have the rows.
        """
        if importlib.util.find_spec(PACKAGE) is None:
            raise NotExplainable("Explanations are not installed.", fix="pip install 'zebraops[explain]', and start the server again")
        job = Job(str(folder), digest, str(self._store), rows, min(self.seconds, patience_s))
        raw = msgspec.json.encode(job)
        told = await self._apart.answer(lambda: self._ask(raw, job.seconds), patience_s)
        return msgspec.json.decode(told, type=Told)

    def close(self) -> None:
        """End the process; the next request starts another."""
        self._end()
        self._apart.close()

    def _ask(self, job: bytes, seconds: float) -> bytes:
        """The helper's last word on a job, as it came."""
        process = self._process
        if process is None or process.poll() is not None:
            process = self._start()
        assert process.stdin is not None
        try:
            process.stdin.write(job + b"\n")
            process.stdin.flush()
        except OSError as error:
            raise self._broken(process) from error
        said, raw = self._hear(process, OPEN_S, "The version could not be opened in time.")
        if isinstance(said, Opened):
            said, raw = self._hear(process, seconds + GRACE_S, f"A single call of the model takes longer than {seconds:g} s.")
        if isinstance(said, Declined):
            raise Refusal(said)
        return raw

    def _start(self) -> "subprocess.Popen[bytes]":
        self._end()
        command = [sys.executable, "-m", "zebra_serving.explain", str(self._memory_bytes)]
        process = self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        said, _ = self._hear(process, START_S, "The process that explains did not start in time.")
        if isinstance(said, Declined):
            self._end()
            raise Refusal(said)
        return process

    def _hear(self, process: "subprocess.Popen[bytes]", seconds: float, late: str) -> tuple[Said, bytes]:
        """The next thing it says, parsed and raw.

        Raises:
            TooSlow: not within so many seconds; in the words of ``late``.
            Broken: it ended without a word.
        """
        assert process.stdout is not None
        killed = threading.Event()

        def kill() -> None:
            killed.set()
            process.kill()

        timer = threading.Timer(seconds, kill)
        timer.start()
        try:
            line = process.stdout.readline()
        finally:
            timer.cancel()
        if line.endswith(b"\n"):
            return msgspec.json.decode(line, type=Said), line
        if killed.is_set():
            self._end()
            raise TooSlow(late, fix="raise ZEBRA_SERVING_EXPLAIN_S, or promote a quicker model")
        raise self._broken(process)

    def _broken(self, process: "subprocess.Popen[bytes]") -> Broken:
        with contextlib.suppress(subprocess.TimeoutExpired):  # it closed its end, and is about to say with what it ended
            process.wait(1.0)
        self._end()
        return Broken(f"The process that explains ended with {process.returncode}.", fix="ask again; the server's log may say why")

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None and process.stdout is not None
        process.kill()
        with contextlib.suppress(OSError):  # of what it was never told
            process.stdin.close()
        process.wait()
        process.stdout.close()
