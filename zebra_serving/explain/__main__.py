"""`python -m zebra_serving.explain MEMORY_BYTES`: the helper. Reads jobs from stdin, answers on stdout, and ends with its stdin.

A process of its own: it imports 100 MB of libraries that a server does not need, is bounded in memory, gives way to whoever
else wants the processor, and ends by itself when nobody has asked for a while.
"""

import os
import select
import signal
import sys
import warnings
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from zebra_assets.errors import ZebraError
from zebra_serving.explain.words import Declined, Job, Opened, Ready, Said

if TYPE_CHECKING:
    from zebra_serving.explain.shares import Shares

IDLE_S = 300.0
# Versions in memory.
KEEP = 3
_TOO_LITTLE = Declined(409, "This needs more memory than explanations may take.", "raise ZEBRA_SERVING_EXPLAIN_MEMORY_BYTES")


def main(memory_bytes: int) -> int:
    """Until stdin ends, or nobody has asked for `IDLE_S`."""
    os.nice(10)  # beside a server that answers
    os.environ["OMP_NUM_THREADS"] = "1"  # and on one core
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's goes to the server as well, which closes our stdin
    warnings.simplefilter("ignore")
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints is for the log

    def say(what: Said) -> None:
        out.write(msgspec.json.encode(what) + b"\n")
        out.flush()

    _bound(memory_bytes)
    try:
        import lightshap  # noqa: F401  # before the first job, whose seconds are counted

        from zebra_serving.compile import forms  # noqa: F401
    except MemoryError:
        say(_TOO_LITTLE)
        return 1
    say(Ready())
    opened: OrderedDict[str, tuple[Any, Shares]] = OrderedDict()
    while select.select([0], [], [], IDLE_S)[0]:
        line = sys.stdin.buffer.readline()
        if not line:
            break
        say(_answer(msgspec.json.decode(line, type=Job), opened, say))
    return 0


def _answer(job: Job, opened: "OrderedDict[str, tuple[Any, Shares]]", say: Callable[[Said], None]) -> Said:
    try:
        if job.digest not in opened:
            opened[job.digest] = _open(job)
            while len(opened) > KEEP:
                opened.popitem(last=False)
        opened.move_to_end(job.digest)
        schema, shares = opened[job.digest]
        say(Opened())
        told: Said = shares.of(schema.convert(job.rows), job.seconds)
    except ZebraError as error:
        return Declined(error.http_status, error.message, error.fix)
    except MemoryError:
        return _TOO_LITTLE
    except ValueError as error:  # as `answer.predict` has it
        return Declined(422, f"The model refuses these values: {str(error).splitlines()[0]}"[:300], None)
    return told


def _open(job: Job) -> "tuple[Any, Shares]":
    """The version's columns, and its form with the rows that travel with it. Raises `NotExplainable`."""
    from zebra_serving.compile.workshop import Workshop
    from zebra_serving.examples import EXAMPLE, request_of
    from zebra_serving.explain.shares import Shares
    from zebra_serving.problems import NotExplainable

    folder = Path(job.folder)
    if not (folder / EXAMPLE).is_file():
        raise NotExplainable(
            f"The version brings no {EXAMPLE}, so there is nothing to compare a row with.",
            fix="train it again with `run.save_model(model)`, which keeps rows beside the model, and promote that",
        )
    made = Workshop(Path(job.store)).open(folder, job.digest)
    return made.schema, Shares(made.model, made.schema.decode(request_of(folder / EXAMPLE)))  # type: ignore[arg-type]


def _bound(memory_bytes: int) -> None:
    if sys.platform == "linux":  # elsewhere the limit does not count what is mapped, or is not heeded
        import resource

        resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes, memory_bytes))


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
