"""Many processes at once, and processes that die: forked from a server that has imported everything and opened nothing."""

import multiprocessing
import os
import random
import signal
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

_CONTEXT = multiprocessing.get_context("forkserver")
# Imported once by the server, not 8 times by its children: mlflow alone costs each 2 s.
_CONTEXT.set_forkserver_preload(
    ["zebra_assets.adapters.mlflow", "zebra_assets.promotion.promote", "mlflow", "mlflow.store.tracking.sqlalchemy_store"]
)


def crowd(n: int, work: Callable[..., Any], *args: Any, timeout_s: float = 60) -> list[Any]:
    """``work(i, barrier, *args)`` in n processes at once; what each returned, or the exception it raised."""
    barrier = _CONTEXT.Barrier(n)
    running = []
    for i in range(n):
        ours, theirs = _CONTEXT.Pipe(duplex=False)
        process = _CONTEXT.Process(target=_send, args=(theirs, work, i, barrier, *args))
        process.start()
        theirs.close()
        running.append((process, ours))
    answers = []
    for process, ours in running:
        assert ours.poll(timeout_s), f"process {process.pid} did not answer within {timeout_s} s"
        answers.append(ours.recv())
        process.join(10)
    return answers


def _send(into: Connection, work: Callable[..., Any], *args: Any) -> None:
    try:
        answer = work(*args)
    except Exception as error:
        answer = error
    into.send(answer)


def die_in(work: Callable[..., Any], *args: Any, after_s: float | None = None) -> int:
    """Run ``work`` in a process and return its exit code; with ``after_s``, kill it that long after it says it is ready.

    ``work`` gets a callable as its first argument, to say so.
    """
    ours, theirs = _CONTEXT.Pipe(duplex=False)
    process = _CONTEXT.Process(target=_ready, args=(theirs, work, *args))
    process.start()
    theirs.close()
    if after_s is not None:
        assert ours.poll(30), "the process never became ready"
        time.sleep(after_s)
        process.kill()
    process.join(60)
    assert process.exitcode is not None
    return process.exitcode


def _ready(into: Connection, work: Callable[..., Any], *args: Any) -> None:
    work(lambda: into.send("ready"), *args)


def die(*_: Any) -> None:
    """As if the machine lost power, as far as this process is concerned."""
    os.kill(os.getpid(), signal.SIGKILL)


def moments(n: int, up_to_s: float, seed: int) -> list[float]:
    """n random moments; the seed is in the test's name, so a failure can be had again."""
    return [random.Random(seed + i).uniform(0, up_to_s) for i in range(n)]
