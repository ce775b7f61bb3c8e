"""Row blocks worked on by Dask workers, here or on other machines: Dask does the distribution and runs again what a dead worker held.

This process reads and orders the source and keeps each block until its outcome is back, so a worker that dies loses
nothing. Workers write their pieces into the object store themselves unless they share this machine's disk. A scheduler's
address comes from the setting `dask_scheduler`; without one, two worker processes are started on this machine.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from zebra_assets.errors import Unavailable, UsageError

if TYPE_CHECKING:
    from zebra_assets.datasets.stream import Block
    from zebra_assets.datasets.work import Done, Job

WORKERS = 2
AHEAD = 2  # blocks on their way per worker thread; each is some 10 MB
RETRIES = 3  # a block whose workers died so often is taken to be their killer
CONNECT_S = 30


class Dask:
    """The workers of a Dask cluster.

    Args:
        scheduler: its address (``tcp://host:8786``); None starts `WORKERS` processes on this machine.
    """

    def __init__(self, scheduler: str | None = None) -> None:
        self.scheduler = scheduler
        self.shares_memory, self.shares_disk = False, scheduler is None

    def run(self, job: "Job", blocks: "Iterable[Block]") -> "Iterator[Done]":
        """See `Engine.run`."""
        with self._client() as client:
            waiting: deque[Any] = deque()
            for block in blocks:
                # The block travels with its task, by way of the scheduler, so that any other worker can take it over.
                waiting.append(client.submit(job, _packed(block), pure=False, retries=RETRIES))
                if len(waiting) > AHEAD * max(sum(client.nthreads().values()), 1):
                    yield _outcome(waiting.popleft())
            while waiting:
                yield _outcome(waiting.popleft())

    @contextmanager
    def _client(self) -> Iterator[Any]:
        try:
            import dask
            import distributed
        except ImportError as error:
            raise UsageError("The dask engine is not installed.", fix="pip install 'zebraops[dask]'") from error
        library: Any = distributed  # it has no types of its own
        quiet: dict[str, Any] = {"distributed.comm.timeouts.connect": CONNECT_S, "distributed.admin.large-graph-warning-threshold": "1GB"}
        with dask.config.set(quiet):
            try:
                if self.scheduler is not None:
                    client = library.Client(self.scheduler, timeout=CONNECT_S, set_as_default=False)
                else:
                    at = {"host": "127.0.0.1", "dashboard_address": "127.0.0.1:0"}  # its web page, too: 8787 may be another Dask's
                    cluster = library.LocalCluster(n_workers=WORKERS, threads_per_worker=1, **at)
                    client = library.Client(cluster, set_as_default=False)
            except (OSError, TimeoutError) as error:
                raise Unavailable(
                    f"The Dask scheduler {self.scheduler or 'on this machine'} cannot be reached: {error}.",
                    fix="dask scheduler --host 127.0.0.1 & dask worker tcp://127.0.0.1:8786   # and ZEBRA_DASK_SCHEDULER=tcp://127.0.0.1:8786",
                ) from error
            try:
                yield client
            finally:
                client.close()
                if self.scheduler is None:
                    cluster.close()


def _packed(block: "Block") -> "Block":
    """The block as it travels: pickling a slice of a table would send the whole table."""
    return replace(block, rows=block.rows.combine_chunks())


def _outcome(future: Any) -> "Done":
    from distributed import CancelledError, KilledWorker

    try:
        done: Done = future.result()
    except (KilledWorker, CancelledError, OSError) as error:
        raise Unavailable(
            f"The Dask workers died while they worked on a block: {error}.",
            fix="look at the workers' logs and memory, then ingest again",
        ) from error
    finally:
        future.release()
    return done


KIND = Dask
