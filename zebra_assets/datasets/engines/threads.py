"""Row blocks worked on by the threads of this process: Arrow, hashing and compression release the GIL."""

import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zebra_assets.datasets.stream import Block
    from zebra_assets.datasets.work import Done, Job

AHEAD = 2  # blocks that wait beyond those in work; each is some 10 MB


class Threads:
    """As many threads as this machine has cores."""

    shares_memory = shares_disk = True

    def run(self, job: "Job", blocks: "Iterable[Block]") -> "Iterator[Done]":
        """See `Engine.run`."""
        cores = os.cpu_count() or 1
        waiting: deque[Future[Done]] = deque()
        with ThreadPoolExecutor(cores, thread_name_prefix="block") as pool:
            try:
                for block in blocks:
                    waiting.append(pool.submit(job, block))
                    if len(waiting) >= cores + AHEAD:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                for future in waiting:
                    future.cancel()


KIND = Threads
